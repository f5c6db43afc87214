"""A participant of the kit that answers later, when the story says so: a clerk who thinks about what he is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import grpc.aio

from participants.answers import Answers, Outcome
from participants.barrier import transaction
from participants.database import Database
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.reporting import StepReporter
from participants.server import Participant, Service
from participants.settings import ParticipantSettings
from participants.transaction import Transaction

from .story import FOLDER


class ClerkServicer(echo_pb2_grpc.EchoServiceServicer):
    """Accepts every action, and takes back at once what he has done."""

    def __init__(self, database: Database, settings: ParticipantSettings, answers: Answers) -> None:
        self.answers = answers

    async def Do(self, request: echo_pb2.EchoRequest, context: object) -> echo_pb2.EchoResponse:
        """The action."""
        transaction().accept()
        return echo_pb2.EchoResponse()

    async def Undo(self, request: echo_pb2.EchoRequest, context: object) -> echo_pb2.EchoResponse:
        """The compensation."""
        transaction().record_effect(effect="unstamp", order_id=request.text)
        return echo_pb2.EchoResponse()


@dataclass(frozen=True, slots=True)
class Clerk:
    """The clerk at work, at `address`."""

    address: str
    answers: Answers

    async def stamp(self, saga_id: str, step: str) -> Outcome:
        """Do what was asked."""

        async def work(tx: Transaction) -> echo_pb2.EchoResponse:
            tx.record_effect(effect="stamp")
            return echo_pb2.EchoResponse(text="stamped")

        return await self.answers.finish(saga_id, step, work)

    async def decline(self, saga_id: str, step: str) -> Outcome:
        """Refuse what was asked."""
        return await self.answers.refuse(saga_id, step, grpc.StatusCode.FAILED_PRECONDITION, "a form is missing")

    async def accepted(self, saga_id: str, step: str) -> bool:
        """Whether that was asked and is not answered yet."""
        return (saga_id, step) in [(answer.saga_id, answer.step) for answer in await self.answers.open()]


@asynccontextmanager
async def clerk_at_work(dsn: str, replicas: Sequence[str]) -> AsyncGenerator[Clerk]:
    """Serves in this process, with a schema of its own in the shop's database."""
    made: list[ClerkServicer] = []

    def servicer(database: Database, settings: ParticipantSettings, answers: Answers) -> ClerkServicer:
        made.append(ClerkServicer(database, settings, answers))
        return made[0]

    service = Service(
        name="clerk",
        register=echo_pb2_grpc.add_EchoServiceServicer_to_server,
        servicer=servicer,
        listen="127.0.0.1:0",
        migrations=FOLDER,  # none of its own: the barrier's tables are all it has
        reporter=lambda settings: StepReporter(replicas),
    )
    participant = Participant(service, ParticipantSettings(dsn=dsn))
    await participant.start()
    try:
        await participant.ready()
        yield Clerk(f"127.0.0.1:{participant.port}", made[0].answers)
    finally:
        await participant.stop()
