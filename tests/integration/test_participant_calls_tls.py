"""What a participant tells and asks a replica over mutual TLS: answers that come later, and events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.embedded.authority import Authority
from participants import reporting
from participants.answers import NotReported
from participants.pb.baton.v1 import events_pb2, events_pb2_grpc, steps_pb2, steps_pb2_grpc
from participants.reporting import StepReporter
from participants.subscription import Subscription
from participants.tls import Certificates

WITHIN_S = 30.0


@dataclass
class Replica(steps_pb2_grpc.StepServiceServicer, events_pb2_grpc.EventServiceServicer):
    """Lets whoever shows a certificate of the authority answer steps and read events; knows who that was."""

    authority: Authority
    address: str = ""
    callers: list[tuple[str, ...]] = field(default_factory=list)

    def _note(self, context: Any) -> None:
        shown = context.auth_context().get("x509_subject_alternative_name", ())
        self.callers.append(tuple(name.decode() for name in shown))

    async def CompleteStep(self, request: Any, context: Any) -> steps_pb2.StepAnswer:
        self._note(context)
        return steps_pb2.StepAnswer()

    async def StreamEvents(self, request: Any, context: Any) -> AsyncIterator[events_pb2.StreamEventsResponse]:
        self._note(context)
        yield events_pb2.StreamEventsResponse(event=events_pb2.Event(id="e"), cursor="1")
        await asyncio.Event().wait()

    async def CommitPosition(self, request: Any, context: Any) -> events_pb2.CommitPositionResponse:
        self._note(context)
        return events_pb2.CommitPositionResponse()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt is given up for the time it takes."""
    monkeypatch.setattr(reporting, "_ATTEMPT_S", WITHIN_S)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    found = Replica(Authority(tmp_path))
    own = found.authority.issue("replica")
    credentials = grpc.ssl_server_credentials(
        [(own.key_file.read_bytes(), own.cert_file.read_bytes())],
        found.authority.ca_file.read_bytes(),
        require_client_auth=True,
    )
    server = grpc.aio.server()
    steps_pb2_grpc.add_StepServiceServicer_to_server(found, server)
    events_pb2_grpc.add_EventServiceServicer_to_server(found, server)
    found.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
    await server.start()
    yield found
    await server.stop(None)


def certificates(authority: Authority, name: str, ca_file: Path) -> Certificates:
    issued = authority.issue(name)
    return Certificates(issued.cert_file, issued.key_file, ca_file)


async def test_a_later_answer_is_told_under_the_participants_own_name(replica: Replica) -> None:
    reporter = StepReporter([replica.address], certificates(replica.authority, "payment", replica.authority.ca_file))
    await reporter.complete("t", b"")
    assert [names[0] for names in replica.callers] == ["payment"]


async def test_without_a_certificate_or_with_anothers_nobody_is_told(replica: Replica, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other")
    for reporter in (
        StepReporter([replica.address]),
        # The replica does not believe whom it has signed ...
        StepReporter([replica.address], certificates(other, "payment", replica.authority.ca_file)),
        # ... and the participant does not believe the replica.
        StepReporter([replica.address], certificates(replica.authority, "payment", other.ca_file)),
    ):
        with pytest.raises(NotReported, match="UNAVAILABLE"):
            await reporter.complete("t", b"")
    assert replica.callers == []


async def test_a_new_certificate_is_shown_without_a_new_reporter(replica: Replica, tmp_path: Path) -> None:
    issued = replica.authority.issue("payment", file_name="own")
    own = Certificates(issued.cert_file, issued.key_file, replica.authority.ca_file)
    reporter = StepReporter([replica.address], own)
    await reporter.complete("t", b"")
    replica.authority.issue("payment-2", file_name="own")
    async with asyncio.timeout(WITHIN_S):
        while replica.callers[-1][0] != "payment-2":
            await reporter.complete("t", b"")
            await asyncio.sleep(0.02)
    assert {names[0] for names in replica.callers} == {"payment", "payment-2"}


async def test_events_are_read_under_the_participants_own_name(replica: Replica) -> None:
    handled = asyncio.Event()

    async def handle(event: events_pb2.Event) -> None:
        assert event.id == "e"
        handled.set()

    own = certificates(replica.authority, "notifications", replica.authority.ca_file)
    wanted = events_pb2.StreamEventsRequest(consumer="c")
    # In the clear it comes to nothing; the one with a certificate is heard.
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(Subscription([replica.address], wanted, handle, each).run()) for each in (None, own)]
        async with asyncio.timeout(WITHIN_S):
            await handled.wait()
        for task in tasks:
            task.cancel()
    assert {names[0] for names in replica.callers} == {"notifications"}
