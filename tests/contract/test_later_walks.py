"""The simulation's model of actions that are answered later, and of questions, held to the kit's barrier on a Postgres.

Walks at random: the same calls, questions, later answers and compensations go to both, and both must say the same.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import grpc
import psycopg

from orchestrator.driving.port import Answer, Invocation
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Mapping
from orchestrator.saga.model import Epoch, Kind, SagaId
from orchestrator.simulation.later import LaterShop, Stored
from participants.answers import Answers, Outcome
from participants.pb.shop.v1 import echo_pb2
from tests.integration.shop import Client, Reply, action, compensation, connected, running
from tests.integration.test_later_answers import (
    DO,
    UNDO,
    Orchestrator,
    StatusServicer,
    answering,
    finished,
    service,
)

WALKS, LENGTH = 60, 9
# Questions left no tombstone for good: a later attempt takes the key over.
TOMBSTONES = "SELECT saga_id FROM barrier WHERE tombstone AND asked_attempt IS NULL ORDER BY saga_id"
LEDGER = "SELECT saga_id, kind FROM ledger ORDER BY id"


@dataclass
class Both:
    """One participant twice: on Postgres, with a door of its own for questions, and as the model."""

    door: Client
    questions: Client
    answers: Answers
    shop: LaterShop

    async def act(self, saga: SagaId, text: str, attempt: int) -> tuple[str, str]:
        request = echo_pb2.EchoRequest(text=text)
        real = await self.door.call(DO, request, action(str(saga), answer_token="t", attempt=attempt))
        return _of_reply(real), self._model(saga, text, attempt, Kind.ACTION)

    async def undo(self, saga: SagaId, attempt: int) -> tuple[str, str]:
        request = echo_pb2.EchoRequest(text="undo")
        real = await self.door.call(UNDO, request, compensation(str(saga), attempt=attempt))
        return _of_reply(real), self._model(saga, "undo", attempt, Kind.COMPENSATION)

    async def ask(self, saga: SagaId, attempt: int) -> tuple[str, str]:
        real = await self.questions.call(UNDO, echo_pb2.EchoRequest(), action(str(saga), attempt=attempt))
        return _of_reply(real), self._model(saga, "", attempt, Kind.ACTION, asks=True)

    async def finish(self, saga: SagaId, *, well: bool) -> tuple[str, str]:
        if well:
            real = await self.answers.finish(str(saga), "step", finished)
        else:
            real = await self.answers.refuse(str(saga), "step", grpc.StatusCode.FAILED_PRECONDITION, "no")
        verdict = Succeeded({}) if well else Refused("FAILED_PRECONDITION", "no")
        stored = self.shop.finish(saga, "step", verdict, 0.0) is Stored.STORED
        return str(real is Outcome.STORED), str(stored)

    def _model(self, saga: SagaId, text: str, attempt: int, kind: Kind, *, asks: bool = False) -> str:
        method = Method(f"/{DO}", Mapping({}))
        request = {"text": text}
        call = Invocation(saga, "d", 1, "step", "s", method, kind, attempt, 0, Epoch(1), request, 1.0, asks, not asks)
        verdict: Answer = Succeeded({})
        if kind is Kind.ACTION and text == "refused":
            verdict = Refused("FAILED_PRECONDITION", "no")
        elif kind is Kind.ACTION and text == "asked":
            verdict = Accepted()
        return _of_answer(self.shop.call(call, verdict, 0.0))


def _of_reply(reply: Reply) -> str:
    if reply.code == 0:
        return "accepted" if reply.accepted else "done"
    return f"{reply.name} {reply.message.partition(':')[0]}"


def _of_answer(answer: Answer) -> str:
    match answer:
        case Accepted():
            return "accepted"
        case Succeeded():
            return "done"
        case _:
            return f"{answer.code} {answer.message.partition(':')[0]}"


@asynccontextmanager
async def both(dsn: str, folder: Path) -> AsyncIterator[Both]:
    async with (
        running(service(folder), dsn) as participant,
        running(service(folder, StatusServicer), dsn) as asked,
        connected(participant.port) as door,
        connected(asked.port) as questions,
        answering(dsn, Orchestrator()) as answers,
    ):
        yield Both(door, questions, answers, LaterShop())


async def test_the_model_says_what_the_barrier_says(database: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    said: set[str] = set()
    async with both(database, tmp_path) as participants:
        for number in range(1, WALKS + 1):
            saga, way = SagaId(UUID(int=number)), []
            text = chance.choice(("asked", "asked", "asked", "done", "refused"))
            for _ in range(chance.randint(2, LENGTH)):
                step, attempt = chance.choice(("act", "act", "ask", "undo", "finish", "refuse")), chance.randint(1, 3)
                match step:
                    case "act":
                        real, model = await participants.act(saga, text, attempt)
                    case "ask":
                        real, model = await participants.ask(saga, attempt)
                    case "undo":
                        real, model = await participants.undo(saga, attempt)
                    case _:
                        real, model = await participants.finish(saga, well=step == "finish")
                way.append(f"{step} {attempt}: {real}")
                said.add(f"{step} {real}")
                assert model == real, (text, way)
    with psycopg.connect(database, autocommit=True, options="-c search_path=decider") as connection:
        ledger, tombstones = connection.execute(LEDGER).fetchall(), connection.execute(TOMBSTONES).fetchall()
    assert [(str(one.saga_id), one.kind.value) for one in participants.shop.effects] == ledger
    assert sorted(str(saga) for saga, _ in participants.shop.tombstones) == [saga for (saga,) in tombstones]
    assert said >= {
        "act accepted",
        "act done",
        "act FAILED_PRECONDITION TOMBSTONE",
        "act FAILED_PRECONDITION no",
        "ask accepted",
        "ask done",
        "ask NOT_FOUND NOT_DONE",
        "ask FAILED_PRECONDITION COMPENSATED",
        "finish True",
        "finish False",
        "refuse True",
        "undo done",
    }
