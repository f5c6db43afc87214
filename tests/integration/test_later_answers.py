"""Actions that are accepted and answered later, and what has become of an action: on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from participants.answers import Answers, NotReported, NotWanted, Outcome
from participants.barrier import Transaction, transaction
from participants.database import Database
from participants.dispatch import status
from participants.pb.baton.participant.v1 import participant_pb2 as pb
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Service
from participants.settings import ParticipantSettings
from participants.status import Refusal
from tests.integration.shop import PATIENT, TIMEOUT_S, Client, Reply, action, compensation, connected, running

DO, UNDO = "shop.v1.EchoService/Do", "shop.v1.EchoService/Undo"
STATUS = "baton.participant.v1.ParticipantService/Status"
ASKED = echo_pb2.EchoRequest(text="asked")
DONE = echo_pb2.EchoResponse(text="done")


@dataclass
class Orchestrator:
    """A fake of the side that is told: what it heard, in order, and how often it cannot be reached."""

    heard: list[tuple[str, ...]] = field(default_factory=list)
    away: int = 0
    unwanted: set[str] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def complete(self, token: str, response: bytes) -> None:
        await self._hear(token, "complete", echo_pb2.EchoResponse.FromString(response).text)

    async def fail(self, token: str, code: grpc.StatusCode, message: str) -> None:
        await self._hear(token, "fail", f"{code.name}: {message}")

    async def heartbeat(self, token: str) -> None:
        await self._hear(token, "heartbeat", "")

    async def _hear(self, token: str, *what: str) -> None:
        async with self._changed:
            self._changed.notify_all()
            if self.away:
                self.away -= 1
                raise NotReported("gone fishing")
            self.heard.append((token, *what))
            if token in self.unwanted:
                raise NotWanted("too late")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: len(self.heard) >= count)


class Decider(echo_pb2_grpc.EchoServiceServicer):
    """Accepts what says `asked`, and leaves a note; answers everything else at once."""

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        tx = transaction()
        await tx.execute(b"INSERT INTO note (text) VALUES (%(text)s)", {"text": request.text})
        if request.text == "refused":
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "no")
        if request.text == "asked":
            tx.accept()
        else:
            tx.record_effect(text=request.text)
        return echo_pb2.EchoResponse(text=request.text)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        transaction().record_effect(text="undone")
        return echo_pb2.EchoResponse(text="undone")


class StatusServicer(Decider):
    """The compensation's method serves as the status method of the action here."""

    @status
    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        raise AssertionError("the barrier answers for it")


@dataclass
class World:
    """A participant that serves, a client of it, its later answers, and who is told."""

    client: Client
    admin: Client
    answers: Answers
    told: Orchestrator
    dsn: str

    async def act(self, saga: str = "s1", token: str = "t1", request: Any = ASKED, **more: int) -> Reply:
        return await self.client.call(DO, request, action(saga, answer_token=token, **more))

    async def undo(self, saga: str = "s1") -> Reply:
        return await self.client.call(UNDO, echo_pb2.EchoRequest(text="undo"), compensation(saga))

    async def status(self, saga: str = "s1", **more: int) -> Any:
        request = pb.StatusRequest(**{"saga_id": saga, "step": "step", "epoch": 1, **more})
        reply = await self.admin.call(STATUS, request, None)
        return pb.StatusResponse.FromString(reply.response) if reply.code == 0 else reply

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True, options="-c search_path=decider") as connection:
            return connection.execute(query.encode()).fetchall()


def service(folder: Path, servicer: type[Decider] = Decider) -> Service:
    own = folder / "decider"
    own.mkdir(exist_ok=True)
    (own / "0001_note.sql").write_text("CREATE TABLE note (text text);")
    register = echo_pb2_grpc.add_EchoServiceServicer_to_server
    return Service("decider", register, lambda _database, _settings: servicer(), "", own)


@asynccontextmanager
async def answering(dsn: str, told: Orchestrator) -> AsyncIterator[Answers]:
    """Answers on a database of their own, told in the background."""
    database = Database(ParticipantSettings(dsn=dsn, **PATIENT), "decider")
    await database.open([])
    answers = Answers(database, told, again_s=0.02)
    telling = asyncio.create_task(answers.run())
    try:
        yield answers
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        await database.close()


@pytest.fixture(params=["unary", "exchange"])
async def world(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> AsyncIterator[World]:
    told = Orchestrator()
    async with (
        running(service(tmp_path), database) as participant,
        connected(participant.port, request.param) as client,
        connected(participant.port) as admin,
        answering(database, told) as answers,
    ):
        yield World(client, admin, answers, told, database)


async def finished(tx: Transaction) -> echo_pb2.EchoResponse:
    await tx.execute(b"INSERT INTO note (text) VALUES ('effect')")
    tx.record_effect(text="done")
    return DONE


async def until_noted(world: World) -> None:
    """Wait until it is noted that all answers have been told."""
    async with asyncio.timeout(TIMEOUT_S):
        while world.rows("SELECT * FROM answer"):
            await asyncio.sleep(0.01)


async def test_an_action_is_accepted_finished_told_and_then_answered_as_any_other(world: World) -> None:
    accepted = await world.act()
    assert (accepted.code, accepted.accepted, accepted.response) == (0, True, b"")
    assert await world.act(attempt=2, epoch=2) == accepted
    assert [(found.saga_id, found.step, found.token) for found in await world.answers.open()] == [("s1", "step", "t1")]
    assert world.rows("SELECT * FROM ledger") == []
    assert await world.answers.finish("s1", "step", finished) is Outcome.STORED
    await world.told.until(1)
    assert world.told.heard == [("t1", "complete", "done")]
    again = await world.act(attempt=4, epoch=2)
    assert (again.accepted, echo_pb2.EchoResponse.FromString(again.response)) == (False, DONE)
    assert await world.answers.finish("s1", "step", finished) is Outcome.ANSWERED
    assert world.rows("SELECT text FROM note ORDER BY 1") == [("asked",), ("effect",)]
    assert world.rows("SELECT kind, effect->>'text' FROM ledger") == [("action", "done")]
    assert (await world.client.call(UNDO, ASKED, compensation("s1", epoch=2))).code == 0
    assert world.rows("SELECT kind FROM ledger ORDER BY id") == [("action",), ("compensation",)]


async def test_the_newest_token_is_the_one_that_is_told(world: World) -> None:
    await world.act(token="old")
    assert (await world.act(token="new", attempt=2, epoch=2)).accepted
    await world.answers.finish("s1", "step", finished)
    await world.told.until(1)
    assert world.told.heard == [("new", "complete", "done")]


async def test_a_refusal_takes_the_effect_back_and_is_told(world: World) -> None:
    async def refusing(tx: Transaction) -> echo_pb2.EchoResponse:
        await finished(tx)
        raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the boss said no")

    await world.act()
    assert await world.answers.finish("s1", "step", refusing) is Outcome.STORED
    await world.told.until(1)
    assert world.told.heard == [("t1", "fail", "FAILED_PRECONDITION: the boss said no")]
    assert (await world.act(attempt=2)).message == "the boss said no"
    assert world.rows("SELECT text FROM note") == [("asked",)]
    assert (await world.undo()).code == 0
    assert world.rows("SELECT * FROM ledger") == []
    with pytest.raises(ValueError, match="UNAVAILABLE is no refusal"):
        await world.answers.refuse("s1", "step", grpc.StatusCode.UNAVAILABLE, "later")


async def test_work_that_breaks_leaves_the_answer_open(world: World) -> None:
    async def broken(tx: Transaction) -> echo_pb2.EchoResponse:
        await finished(tx)
        raise ZeroDivisionError

    await world.act()
    with pytest.raises(ZeroDivisionError):
        await world.answers.finish("s1", "step", broken)
    assert await world.answers.finish("s1", "step", finished) is Outcome.STORED
    assert world.rows("SELECT text FROM note ORDER BY 1") == [("asked",), ("effect",)]


async def test_a_compensation_withdraws_what_is_not_answered(world: World) -> None:
    await world.act()
    assert (await world.undo()).code == 0
    assert await world.answers.finish("s1", "step", finished) is Outcome.CANCELLED
    assert await world.answers.refuse("s1", "step", grpc.StatusCode.NOT_FOUND, "no") is Outcome.CANCELLED
    assert (await world.act(attempt=2)).message.startswith("TOMBSTONE")
    assert await world.answers.open() == []
    assert world.rows("SELECT * FROM ledger") == []
    assert world.told.heard == []


async def test_an_answer_and_a_compensation_at_once_are_both_or_neither(world: World) -> None:
    sagas = [f"s{number}" for number in range(20)]
    await asyncio.gather(*(world.act(saga, token=saga) for saga in sagas))
    outcomes = await asyncio.gather(
        *(world.answers.finish(saga, "step", finished) for saga in sagas),
        *(world.undo(saga) for saga in reversed(sagas)),
    )
    kinds = world.rows("SELECT saga_id, kind FROM ledger ORDER BY id")
    for saga, outcome in zip(sagas, outcomes, strict=False):
        done = [kind for saga_id, kind in kinds if saga_id == saga]
        assert (outcome, done) in [(Outcome.STORED, ["action", "compensation"]), (Outcome.CANCELLED, [])]


async def test_what_could_not_be_told_is_told_later_also_by_another_process(
    database: str, tmp_path: Path, world: World
) -> None:
    world.told.away = 3
    await world.act()
    await world.answers.finish("s1", "step", finished)
    await world.told.until(1)
    assert world.told.heard == [("t1", "complete", "done")]
    await until_noted(world)
    # A process that ends between the store and the report: nobody tells.
    silent = Orchestrator()
    own = Database(ParticipantSettings(dsn=database), "decider")
    await own.open([])
    await world.act("s2", token="t2")
    await Answers(own, silent).finish("s2", "step", finished)
    await own.close()
    assert world.rows("SELECT token FROM answer") in ([("t2",)], [])
    async with answering(database, world.told):
        await world.told.until(2)
    assert world.told.heard[1] == ("t2", "complete", "done")


async def test_lost_connections_to_postgres_lose_no_answer(world: World) -> None:
    await world.act()
    world.told.away = 1
    await world.answers.finish("s1", "step", finished)
    world.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'participant-decider'")
    await world.told.until(1)
    assert world.told.heard[0] == ("t1", "complete", "done")


async def test_an_answer_that_nobody_wants_is_told_once(world: World) -> None:
    world.told.unwanted.add("t1")
    await world.act()
    await world.answers.finish("s1", "step", finished)
    await world.told.until(1)
    await until_noted(world)
    assert world.told.heard == [("t1", "complete", "done")]


async def test_heartbeats_go_to_open_answers_alone(world: World) -> None:
    await world.act()
    assert await world.answers.heartbeat("s1", "step") is Outcome.STORED
    assert await world.answers.heartbeat("s2", "step") is Outcome.UNKNOWN
    world.told.away = 1
    with pytest.raises(NotReported):
        await world.answers.heartbeat("s1", "step")
    assert world.told.heard == [("t1", "heartbeat", "")]


async def test_a_step_that_may_not_answer_later_is_refused_when_it_wants_to(world: World) -> None:
    refused = await world.act(token="")
    assert refused.name == "INVALID_ARGUMENT"
    assert "baton-answer-token" in refused.message
    assert world.rows("SELECT * FROM note") == []
    assert await world.answers.finish("s1", "step", finished) is Outcome.UNKNOWN


async def test_the_status_of_an_action_says_what_has_become_of_it(world: World) -> None:
    assert (await world.act("done", request=echo_pb2.EchoRequest(text="x"))).code == 0
    found = await world.status("done")
    assert (found.state, echo_pb2.EchoResponse.FromString(found.response).text) == (pb.ACTION_STATE_DONE, "x")
    await world.act("refused", request=echo_pb2.EchoRequest(text="refused"))
    found = await world.status("refused")
    assert (found.state, found.code, found.message) == (pb.ACTION_STATE_NOT_DONE, 9, "no")
    await world.act("open")
    assert (await world.status("open")).state == pb.ACTION_STATE_ACCEPTED
    await world.undo("done")
    assert (await world.status("done")).state == pb.ACTION_STATE_COMPENSATED
    await world.act("open", epoch=3)
    assert (await world.status("done", epoch=2)).name == "ABORTED"
    assert (await world.status("done", epoch=0)).state == pb.ACTION_STATE_COMPENSATED
    assert (await world.status("", epoch=1)).name == "INVALID_ARGUMENT"


async def test_a_status_of_what_was_never_seen_makes_sure_that_it_never_is(world: World) -> None:
    assert (await world.status()).state == pb.ACTION_STATE_NOT_DONE
    assert (await world.act()).message.startswith("TOMBSTONE")
    assert (await world.status(epoch=0)).state == pb.ACTION_STATE_NOT_DONE
    assert (await world.undo()).code == 0
    assert world.rows("SELECT * FROM ledger") == []


async def test_a_status_method_answers_by_the_key_of_the_action(database: str, tmp_path: Path) -> None:
    async with (
        running(service(tmp_path, StatusServicer), database) as participant,
        connected(participant.port) as client,
    ):

        async def ask(saga: str) -> Reply:
            return await client.call(UNDO, echo_pb2.EchoRequest(), action(saga, answer_token="t"))

        done = await client.call(DO, echo_pb2.EchoRequest(text="x"), action("done"))
        assert await ask("done") == done
        never = await ask("never")
        assert (never.name, never.message.partition(":")[0]) == ("NOT_FOUND", "NOT_DONE")
        assert (await client.call(DO, ASKED, action("never"))).message.startswith("TOMBSTONE")
        accepted = await client.call(DO, ASKED, action("open", answer_token="t"))
        assert await ask("open") == accepted
        wrong = await client.call(UNDO, echo_pb2.EchoRequest(), compensation("done"))
        assert wrong.name == "INVALID_ARGUMENT"


class Prompt(echo_pb2_grpc.EchoServiceServicer):
    """Accepts, and finishes in a task of its own a moment later."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._work: list[asyncio.Task[Outcome]] = []

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        tx = transaction()
        tx.accept()
        self._work.append(asyncio.create_task(self._finish(tx.call.saga_id, tx.call.step)))
        return echo_pb2.EchoResponse()

    async def _finish(self, saga_id: str, step: str) -> Outcome:
        # Until the acceptance is committed, nobody knows of it.
        while (outcome := await self._answers.finish(saga_id, step, finished)) is Outcome.UNKNOWN:
            await asyncio.sleep(0.01)
        return outcome


async def test_a_participant_with_a_reporter_tells_by_itself(database: str, tmp_path: Path) -> None:
    told = Orchestrator()
    plain = service(tmp_path)
    later = Service(
        plain.name,
        plain.register,
        lambda _database, _settings, answers: Prompt(answers),
        "",
        plain.migrations,
        reporter=lambda _settings: told,
    )
    async with running(later, database) as participant, connected(participant.port) as client:
        assert (await client.call(DO, ASKED, action("s1", answer_token="t1"))).accepted
        await told.until(1)
    assert told.heard == [("t1", "complete", "done")]


@pytest.mark.parametrize("epoch", [0, 1])
async def test_what_a_question_without_an_attempt_calls_not_done_stays_so(world: World, epoch: int) -> None:
    assert (await world.status("never", epoch=epoch)).state == pb.ACTION_STATE_NOT_DONE
    assert (await world.act("never", attempt=9)).message.startswith("TOMBSTONE")
