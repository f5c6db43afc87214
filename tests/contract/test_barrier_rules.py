"""What the barrier of a participant promises, held against the kit's, the recipe in SQL, and the model in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.simulation.participants import Outcome
from participants.server import Participant
from tests.contract.barrier_subject import (
    ACTION,
    BROKEN,
    COMPENSATION,
    DONE,
    REFUSED,
    Subject,
    business,
    model,
    on_postgres,
    real,
    service,
)
from tests.contract.sql_participant import sql_participant
from tests.integration.shop import connected, running


@pytest.fixture(params=["memory", "postgres", "recipe"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield model()
        return
    dsn: str = request.getfixturevalue("database")
    if request.param == "recipe":
        async with sql_participant(dsn, business) as participant:
            yield on_postgres(participant.send, dsn, "recipe", "effect")
        return
    async with patient(tmp_path, dsn) as participant, connected(participant.port) as client:
        yield real(client, dsn)


def patient(folder: Path, dsn: str) -> AbstractAsyncContextManager[Participant]:
    """A participant that waits for others at work on a key, also while the machine stands still for a moment."""
    return running(service(folder), dsn, lock_wait_max_s=9.0, pool_wait_max_s=9.0)


def stale(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.code == "ABORTED" and outcome.message.startswith("STALE_EPOCH: ")


def tombstoned(outcome: Outcome) -> bool:
    is_refused = isinstance(outcome, Refused) and outcome.code == "FAILED_PRECONDITION"
    return is_refused and outcome.message.startswith("TOMBSTONE: ")


async def test_a_duplicate_gets_the_stored_response(subject: Subject) -> None:
    first = await subject.call(ACTION)
    assert first == Succeeded({"text": "done"})
    # Whatever the service would say now.
    assert await subject.call(ACTION, REFUSED, epoch=2) == first
    assert subject.ledger() == [(1, "pay", "action", 1)]


def mismatched(outcome: Outcome) -> bool:
    loud = isinstance(outcome, Unknown) and outcome.code == "DATA_LOSS"
    return loud and outcome.message.startswith(f"REQUEST_MISMATCH: {UUID(int=1)}/pay/")


@pytest.mark.parametrize("says", [DONE, REFUSED])
async def test_the_same_key_with_another_request_fails_loudly_and_does_nothing(subject: Subject, says: str) -> None:
    first = await subject.call(ACTION, says)
    ledger = subject.ledger()
    assert mismatched(await subject.call(ACTION, request="another"))
    assert mismatched(await subject.call(ACTION, request="another", epoch=2))
    assert await subject.call(ACTION, epoch=2) == first
    assert subject.ledger() == ledger


async def test_a_compensation_with_another_request_fails_loudly_as_well(subject: Subject) -> None:
    await subject.call(ACTION)
    assert await subject.call(COMPENSATION, request="of its own") == Succeeded({"text": "done"})
    assert mismatched(await subject.call(COMPENSATION, request="another"))
    # One without anything to undo has claimed its key, too.
    assert await subject.call(COMPENSATION, step="ship") == Succeeded({})
    assert isinstance(await subject.call(COMPENSATION, step="ship", request="another"), Unknown)
    assert tombstoned(await subject.call(ACTION, step="ship", request="whatever"))


async def test_what_breaks_leaves_the_request_open(subject: Subject) -> None:
    await subject.call(ACTION, BROKEN)
    assert await subject.call(ACTION, request="another") == Succeeded({"text": "done"})
    assert mismatched(await subject.call(ACTION))


async def test_two_requests_at_once_for_one_key_are_one_effect_and_loud(subject: Subject) -> None:
    outcomes = await asyncio.gather(*(subject.call(ACTION, request=request) for request in ["one", "other"] * 5))
    assert len(subject.ledger()) == 1
    winner = [isinstance(outcome, Succeeded) for outcome in outcomes]
    assert winner in ([True, False] * 5, [False, True] * 5)
    assert all(mismatched(outcome) for outcome, won in zip(outcomes, winner, strict=True) if not won)


async def test_the_refusal_of_an_action_is_stored(subject: Subject) -> None:
    first = await subject.call(ACTION, REFUSED)
    assert first == Refused("FAILED_PRECONDITION", "no")
    assert await subject.call(ACTION, DONE) == first
    assert subject.ledger() == []


async def test_what_breaks_is_not_stored(subject: Subject) -> None:
    assert await subject.call(ACTION, BROKEN) == Unknown("RESOURCE_EXHAUSTED", "busy")
    assert subject.ledger() == []
    assert await subject.call(ACTION) == Succeeded({"text": "done"})
    assert subject.ledger() == [(1, "pay", "action", 1)]


@pytest.mark.parametrize("trouble", [REFUSED, BROKEN])
async def test_a_compensation_that_fails_may_succeed_later(subject: Subject, trouble: str) -> None:
    await subject.call(ACTION)
    assert not isinstance(await subject.call(COMPENSATION, trouble), Succeeded)
    assert await subject.call(COMPENSATION) == Succeeded({"text": "done"})
    assert await subject.call(COMPENSATION, REFUSED) == Succeeded({"text": "done"})
    assert subject.ledger() == [(1, "pay", "action", 1), (1, "pay", "compensation", 1)]
    assert subject.tombstones() == set()


async def test_a_compensation_of_an_action_never_seen_leaves_a_tombstone(subject: Subject) -> None:
    assert await subject.call(COMPENSATION) == Succeeded({})
    assert subject.tombstones() == {(1, "pay")}
    assert tombstoned(await subject.call(ACTION))
    assert tombstoned(await subject.call(ACTION, epoch=2))
    assert await subject.call(COMPENSATION, epoch=2) == Succeeded({})
    assert subject.ledger() == []


async def test_a_refused_action_leaves_nothing_to_undo(subject: Subject) -> None:
    await subject.call(ACTION, REFUSED)
    assert await subject.call(COMPENSATION, REFUSED) == Succeeded({})
    assert subject.ledger() == []
    assert subject.tombstones() == set()
    assert await subject.call(ACTION) == Refused("FAILED_PRECONDITION", "no")


async def test_an_action_that_broke_was_never_seen(subject: Subject) -> None:
    await subject.call(ACTION, BROKEN)
    assert await subject.call(COMPENSATION) == Succeeded({})
    assert subject.tombstones() == {(1, "pay")}


async def test_a_late_duplicate_of_a_compensated_action_does_nothing(subject: Subject) -> None:
    await subject.call(ACTION)
    await subject.call(COMPENSATION)
    assert await subject.call(ACTION) == Succeeded({"text": "done"})
    assert subject.ledger() == [(1, "pay", "action", 1), (1, "pay", "compensation", 1)]


async def test_an_old_epoch_gets_no_answer_not_even_a_stored_one(subject: Subject) -> None:
    await subject.call(ACTION, epoch=1)
    await subject.call(ACTION, step="ship", epoch=2)
    assert stale(await subject.call(ACTION, epoch=1))
    assert stale(await subject.call(COMPENSATION, epoch=1))
    assert stale(await subject.call(ACTION, step="other", epoch=1))
    assert subject.ledger() == [(1, "pay", "action", 1), (1, "ship", "action", 2)]
    assert subject.tombstones() == set()
    assert await subject.call(ACTION, epoch=2) == Succeeded({"text": "done"})


async def test_a_call_that_is_refused_has_raised_the_epoch_all_the_same(subject: Subject) -> None:
    await subject.call(ACTION, REFUSED, epoch=5)
    assert stale(await subject.call(ACTION, step="ship", epoch=4))
    await subject.call(ACTION, BROKEN, step="ship", epoch=6)
    assert stale(await subject.call(ACTION, step="ship", epoch=5))


async def test_each_shard_has_an_epoch_of_its_own(subject: Subject) -> None:
    await subject.call(ACTION, epoch=9, shard=1)
    assert await subject.call(ACTION, saga=2, epoch=1, shard=0) == Succeeded({"text": "done"})


async def test_duplicates_at_once_take_effect_once(subject: Subject) -> None:
    outcomes = await asyncio.gather(*(subject.call(ACTION, epoch=epoch) for epoch in [1] * 10))
    assert outcomes == [Succeeded({"text": "done"})] * 10
    assert subject.ledger() == [(1, "pay", "action", 1)]


async def test_refusals_at_once_are_one_refusal(subject: Subject) -> None:
    outcomes = await asyncio.gather(*(subject.call(ACTION, says) for says in [REFUSED, DONE] * 5))
    assert len({type(outcome) for outcome in outcomes}) == 1
    assert len(subject.ledger()) == (1 if isinstance(outcomes[0], Succeeded) else 0)


@pytest.mark.parametrize("seed", range(3))
async def test_an_action_and_its_compensation_at_once_are_both_or_neither(subject: Subject, seed: int) -> None:
    chance = random.Random(seed)
    calls = [(saga, kind) for saga in range(20) for kind in [ACTION, COMPENSATION] * 2]
    chance.shuffle(calls)
    outcomes = await asyncio.gather(*(subject.call(kind, saga=saga) for saga, kind in calls))
    ledger, tombstones = subject.ledger(), subject.tombstones()
    for saga in range(20):
        kinds = [kind for number, _, kind, _ in ledger if number == saga]
        assert kinds == ([] if (saga, "pay") in tombstones else ["action", "compensation"])
    for (saga, kind), outcome in zip(calls, outcomes, strict=True):
        if kind is ACTION and (saga, "pay") in tombstones:
            assert tombstoned(outcome)
        else:
            assert isinstance(outcome, Succeeded)


async def test_a_random_history_is_answered_alike(database: str, tmp_path: Path) -> None:
    """The same calls in the same order to all of them: every answer and the ledgers agree."""
    chance, simulated = random.Random(11), model()
    async with (
        patient(tmp_path, database) as participant,
        connected(participant.port) as client,
        sql_participant(database, business) as recipe,
    ):
        served, by_hand = real(client, database), on_postgres(recipe.send, database, "recipe", "effect")
        for _ in range(400):
            kind, says = chance.choice([ACTION, COMPENSATION]), chance.choice([DONE, DONE, REFUSED, BROKEN])
            place = {
                "saga": chance.randrange(30),
                "step": chance.choice(["pay", "ship"]),
                "epoch": 1 + chance.randrange(2),
                "shard": chance.randrange(12),
            }
            answers = [await one.call(kind, says, **place) for one in (simulated, served, by_hand)]
            assert len({str(_without_words(answer)) for answer in answers}) == 1, (kind, says, place, answers)
        assert simulated.ledger() == served.ledger() == by_hand.ledger()
        assert simulated.tombstones() == served.tombstones() == by_hand.tombstones()


def _without_words(outcome: Outcome) -> Outcome:
    """The kit's own messages say more than the model's; their first word is the reason."""
    if isinstance(outcome, Succeeded):
        return outcome
    return replace(outcome, message=outcome.message.split(":")[0])
