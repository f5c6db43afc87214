"""A look at the log that is older than what was written meanwhile never drives a saga a second time."""

from __future__ import annotations

import time

from orchestrator.saga.model import SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import stored_row

from .leader_world import Participants, leader, leading, saga_id, states, stored, succeed, until


async def test_a_stale_look_does_not_drive_a_saga_again() -> None:
    store, participants = MemorySagaLog(time.monotonic), Participants(succeed)
    led = leader(store, participants)
    async with leading(led):
        await until(lambda: led._term is not None)
        term = led._term
        assert term is not None
        with term.looks.open() as look:
            stale = stored_row(stored(1))
            store.insert(stored(1))
            await until(lambda: states(store) == [SagaState.COMPLETED] and term.driven(saga_id(1)) is None)
            called = len(participants.calls)
            assert await term.take_up(look, stale) is None
            assert len(participants.calls) == called
        # The rule, and nothing else, has kept it from being driven: a look that began later is believed.
        with term.looks.open() as later:
            assert await term.take_up(later, stale) is not None
            await until(lambda: term.driven(saga_id(1)) is None)
