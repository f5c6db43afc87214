"""What is done by hand in the stories: a participant is called, the broker is read, what is left paused is resumed."""

from __future__ import annotations

import json

import grpc.aio
import nats

from orchestrator.cli.calls import Method
from orchestrator.cli.client import Client
from orchestrator.embedded.nats import NatsServer
from orchestrator.pb.baton.v1 import pauses_pb2, pauses_pb2_grpc
from participants.pb.shop.v1 import payment_pb2, payment_pb2_grpc
from tests.cluster.house import WITHIN_S, eventually
from tests.integration.shop import action, metadata

_STREAM, _SUBJECTS = "BATON", "baton.events.>"
_PAUSES = Method(pauses_pb2_grpc.PauseServiceStub, "ListPauses", pauses_pb2.ListPausesResponse)
_RESUME_DEFINITION = Method(pauses_pb2_grpc.PauseServiceStub, "ResumeDefinition", pauses_pb2.ResumeAnswer)
_RESUME_PARTICIPANT = Method(pauses_pb2_grpc.PauseServiceStub, "ResumeParticipant", pauses_pb2.ResumeAnswer)


async def charge(channel: grpc.aio.Channel, saga_id: str, epoch: int, order_id: str, amount: str) -> None:
    """Charge for an order under the key of its saga's step `charge`, as any client of gRPC can."""
    request = payment_pb2.ChargeRequest(order_id=order_id, amount=amount)
    identity = metadata(action(saga_id, "charge", epoch=epoch))
    await payment_pb2_grpc.PaymentServiceStub(channel).Charge(request, metadata=identity, timeout=WITHIN_S)


async def published(broker: NatsServer, saga_id: str, sequences: list[int]) -> None:
    """Wait until the broker has so many events of a saga: those, each once, in this order."""
    client = await nats.connect(broker.url)
    try:
        subscription = await client.jetstream().subscribe(_SUBJECTS, ordered_consumer=True)
        found: list[int] = []

        async def all_there() -> bool:
            event = json.loads((await subscription.next_msg(timeout=WITHIN_S)).data)
            if event["subject"] == saga_id:
                found.append(event["data"]["sequence"])
            return len(found) >= len(sequences)

        await eventually(all_there, f"the broker to have {len(sequences)} events of {saga_id}")
        assert found == sequences
    finally:
        await client.close()


async def end_pauses(client: Client) -> None:
    """Resume whatever a story has left paused."""
    for pause in (await client.ask(_PAUSES, pauses_pb2.ListPausesRequest())).pauses:
        if pause.kind == pauses_pb2.PAUSE_KIND_DEFINITION:
            definition = pauses_pb2.ResumeDefinitionRequest(definition=pause.name, reason="the story is over")
            await client.ask(_RESUME_DEFINITION, definition)
        else:
            participant = pauses_pb2.ResumeParticipantRequest(participant=pause.name, reason="the story is over")
            await client.ask(_RESUME_PARTICIPANT, participant)
