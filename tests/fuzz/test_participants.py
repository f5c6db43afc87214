"""Participants whose answers are huge, malformed, late or without end: each saga ends, and the replica goes on."""

from __future__ import annotations

import json

import pytest

from orchestrator.cli.client import Client
from orchestrator.embedded.servers import Replica
from orchestrator.pb.baton.v1 import saga_pb2

from .conftest import most_bytes
from .evil_service import MISDEEDS, REPLIES, STREAM_MISDEEDS, definition, evil_participant

# A step's two attempts take a second; a busy machine takes longer.
_WITHIN_S = 60.0
# What a replica with many sagas may take; a reply that is held a few times over is far beyond it after all tests.
_MEMORY_MAX_BYTES = 350_000_000
_ERROR_CHARS_MAX = 4_000

# What a step came to, and why, by what the participant does. "": it is done.
_OUTCOMES = {
    "honest": {""},
    "unknown-fields": {""},
    "huge": {"REPLY_TOO_LARGE"},
    # gRPC's own limit is met before ours; on the stream it ends the stream.
    "beyond-grpc": {"RESOURCE_EXHAUSTED", "UNAVAILABLE"},
    "garbage": {"REPLY_UNREADABLE"},
    "cut": {"REPLY_UNREADABLE"},
    "no-utf8": {"REPLY_UNREADABLE"},
    "nul": {"", "REPLY_UNREADABLE"},
    "never": {"DEADLINE_EXCEEDED"},
    "endless": {"DEADLINE_EXCEEDED", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "INTERNAL"},
    "huge-error": {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNKNOWN"},
    "odd-error": {"UNKNOWN", "UNAVAILABLE"},
    "hangs-up": {"CANCELLED", "UNKNOWN", "UNAVAILABLE"},
    "answers-others": {""},
    "answers-twice": {""},
    "floods": {"", "DEADLINE_EXCEEDED"},
    "huge-batch": {"UNAVAILABLE", "DEADLINE_EXCEEDED"},
    "no-batch": {"UNAVAILABLE", "DEADLINE_EXCEEDED"},
}
_UNARY = [*REPLIES, *MISDEEDS]
# A call's timeout, and the step's limit, of those who answer.
_PATIENT = ("20s", "50s")
# What a step comes to when its time is over.
_LATE = {"DEADLINE_EXCEEDED", "UNAVAILABLE"}


async def run(client: Client, name: str, manner: str) -> saga_pb2.GetSagaResponse:
    """The saga of a participant of these manners, at its end."""
    answer = await client.run_saga(name, json.dumps({"text": manner}))
    return await client.get_saga(answer.saga.saga_id)


@pytest.mark.parametrize(
    ("multiplexed", "manner"),
    [(False, manner) for manner in _UNARY] + [(True, manner) for manner in [*_UNARY, *STREAM_MISDEEDS]],
    ids=lambda value: {True: "stream", False: "unary"}.get(value, value),
)
async def test_a_participant_that_misbehaves_harms_its_own_saga_alone(
    replica: Replica, multiplexed: bool, manner: str
) -> None:
    # Names of their own: a port may be one that an earlier participant had, and an equal definition is no new version.
    name = f"{'stream' if multiplexed else 'unary'}-{manner}"
    good_name = f"good-beside-{name}"
    async with (
        evil_participant(multiplexed=multiplexed) as evil,
        evil_participant(multiplexed=True) as good,
        Client([replica.api_address], deadline_s=_WITHIN_S) as client,
    ):
        # Where nobody is waited for in vain, a step is given all the time that a busy machine may want.
        hurried = bool(_OUTCOMES[manner] & _LATE)
        for yaml, descriptors in (
            definition(name, evil) if hurried else definition(name, evil, *_PATIENT),
            definition(good_name, good, *_PATIENT),
        ):
            await client.apply_definition(yaml, descriptor_set=descriptors)
        ended = await run(client, name, manner)
        failed = [row for row in ended.history if row.HasField("error")]
        codes = {row.error.code for row in failed} or {""}
        # A participant that hangs up every time is taken for one that is away: held until the time of its step is over.
        away = {"NOT_CALLED", "DEADLINE_EXCEEDED"} if "UNAVAILABLE" in _OUTCOMES[manner] else set()
        assert codes <= _OUTCOMES[manner] | away, failed
        completed = ended.saga.state == saga_pb2.SAGA_STATE_COMPLETED
        # A flood may be over before the last attempt.
        assert completed == (codes == {""}) or (completed and "" in _OUTCOMES[manner])
        assert ended.saga.HasField("finished_at")
        # One error each, of a length that a person reads, and nothing of the reply in it.
        assert all(0 < len(row.error.message) <= _ERROR_CHARS_MAX for row in failed)
        assert (await run(client, good_name, "honest")).saga.state == saga_pb2.SAGA_STATE_COMPLETED
    assert most_bytes(replica) < _MEMORY_MAX_BYTES
