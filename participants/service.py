"""`baton.participant.v1.ParticipantService`: the stream of calls, where an action stands, and what may be forgotten."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from participants.barrier import Barrier
from participants.call import EPOCH, KIND, SAGA_ID, SHARD, STEP, Kind, identity_from_fields
from participants.dispatch import Dispatcher, plain
from participants.exchange import Exchange, Methods
from participants.pb.baton.participant.v1 import participant_pb2 as pb
from participants.purge import purge
from participants.standing import State, standing
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    State.DONE: pb.ACTION_STATE_DONE,
    State.NOT_DONE: pb.ACTION_STATE_NOT_DONE,
    State.ACCEPTED: pb.ACTION_STATE_ACCEPTED,
    State.COMPENSATED: pb.ACTION_STATE_COMPENSATED,
}


class ParticipantServicer(Exchange):
    """Without a barrier (`barrier` None), it offers the stream alone."""

    def __init__(self, methods: Methods, dispatcher: Dispatcher, calls_max: int, barrier: Barrier | None) -> None:
        super().__init__(methods, dispatcher, calls_max)
        self._barrier = barrier

    @plain
    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        """Where an action stands; see `standing`."""
        fields = {SAGA_ID: request.saga_id, STEP: request.step, KIND: Kind.ACTION.value}
        call = identity_from_fields({**fields, EPOCH: str(request.epoch), SHARD: str(request.shard)})
        found = await standing(self._offered(), call, for_good=True)
        return pb.StatusResponse(
            state=_STATES[found.state],
            code=found.answer.code,
            message=found.answer.message,
            response=found.answer.response,
        )

    @plain
    async def Purge(self, request: pb.PurgeRequest, context: Context) -> pb.PurgeResponse:
        """Forget sagas that are over; see `purge`."""
        removed, done = await purge(self._offered(), request.before_saga_id, request.shard, request.epoch)
        return pb.PurgeResponse(removed=removed, done=done)

    def _offered(self) -> Barrier:
        if self._barrier is None:
            raise Refusal(grpc.StatusCode.UNIMPLEMENTED, "this participant has no barrier")
        return self._barrier
