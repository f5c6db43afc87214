"""Traces of sagas: ids that every leader derives alike, and spans of what was logged and called."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.leader import Leader
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.model import Epoch, Kind, SagaId, SagaState
from orchestrator.saga.parse import parse
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.telemetry import Metrics
from orchestrator.tracing import ids
from orchestrator.tracing.calls import TracedParticipants
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.span import Span

from .leader_world import Outcome, Participants, leading, saga_id, stored, succeed, until

SAGAS = st.uuids(allow_nil=False).map(SagaId)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
ATTEMPTS = st.tuples(NAMES, st.sampled_from(Kind), st.integers(1, 10_000), st.integers(1, 2**62).map(Epoch))


@given(SAGAS, st.lists(ATTEMPTS, unique=True, min_size=2, max_size=20))
def test_every_attempt_has_an_id_of_its_own_and_always_the_same(saga: SagaId, attempts: list[tuple]) -> None:
    spans = [ids.attempt_id(saga, *attempt) for attempt in attempts]
    spans += [ids.root_id(saga), ids.start_id(saga)]
    spans += {ids.step_id(saga, step, kind) for step, kind, _, _ in attempts}
    assert len(set(spans)) == len(spans)
    assert all(0 < span < 1 << 64 for span in spans)
    again = SagaId(UUID(str(saga)))
    assert [ids.attempt_id(again, *attempt) for attempt in attempts] == spans[: len(attempts)]


@given(SAGAS, st.floats(0, 1), st.floats(0, 1))
def test_what_a_smaller_share_samples_a_larger_one_samples_too(saga: SagaId, one: float, other: float) -> None:
    assert ids.sampled(saga, min(one, other)) <= ids.sampled(saga, max(one, other))
    assert ids.sampled(saga, 1.0)
    assert not ids.sampled(saga, 0.0)


def test_a_share_is_met_although_ids_are_times_and_counters() -> None:
    # One process that makes ids within one millisecond: they differ in their low bits alone.
    made = [SagaId(UUID(int=(0x0198 << 112) | (7 << 76) | (2 << 62) | number)) for number in range(10_000)]
    assert 2_250 < sum(ids.sampled(saga, 0.25) for saga in made) < 2_750


@given(SAGAS, st.integers(1, 2**64 - 1), st.booleans())
def test_what_a_call_carries_names_its_trace_and_span(saga: SagaId, span: int, traced: bool) -> None:
    text = ids.traceparent(saga, span, traced=traced)
    assert ids.carried(text) == (saga.int, span)
    assert text.endswith("-01" if traced else "-00")


@given(st.text(max_size=80))
def test_a_malformed_caller_is_nobody(text: str) -> None:
    assert ids.carried(text) is None


def test_callers_that_the_standard_does_not_allow_are_nobody() -> None:
    trace, span = "a" * 32, "b" * 16
    assert ids.carried(f"00-{trace}-{span}-01") == (int(trace, 16), int(span, 16))
    assert ids.carried(f"01-{trace}-{span}-01-more") == (int(trace, 16), int(span, 16))
    for wrong in (f"ff-{trace}-{span}-01", f"00-{'0' * 32}-{span}-01", f"00-{trace}-{'0' * 16}-01"):
        assert ids.carried(wrong) is None
    for wrong in (f"00-{trace}-{span}-01-more", f"00-{trace.upper()}-{span}-01", f"00-{trace}{span}---01"):
        assert ids.carried(wrong) is None


LINEAR = """
name: test
steps:
  - {name: s1, service: 'h:1', action: {method: t.S/Do}, compensation: {method: t.S/Undo}, \
retry: {retries: 2, initial: 10ms}}
  - {name: s2, service: 'h:1', action: {method: t.S/Do}, compensation: none, retry: {retries: 2, initial: 10ms}}
"""
PARALLEL = """
name: test
steps:
  - {name: left, service: 'h:1', after: [], action: {method: t.S/Do}, compensation: {method: t.S/Undo}}
  - {name: right, service: 'h:1', after: [], action: {method: t.S/Do}, compensation: {method: t.S/Undo}}
  - {name: last, service: 'h:1', after: [left, right], action: {method: t.S/Do}, compensation: none}
"""


class AnyMessage:
    """A codec that takes every request."""

    def encode(self, value: object) -> bytes:
        return b""


class OneDefinition(Registry):
    """One, and a child that it may run, where there is one."""

    def __init__(self, definition: Definition, child: Definition | None = None) -> None:
        self._definition = definition
        self._child = child or definition

    async def get(self, name: str, version: int) -> Compiled:
        taking: Any = defaultdict(AnyMessage)
        return Compiled(self._child if name == self._child.name else self._definition, taking)

    async def newest(self, name: str) -> Compiled:
        return await self.get(name, 0)

    def services(self) -> set[str]:
        return {"h:1"}


class Traced:
    """A replica that may lead over a log that others lead over, too; its spans are in `spans`."""

    def __init__(
        self,
        store: MemorySagaLog,
        text: str,
        answer: Callable[[Invocation], object],
        share: float = 1.0,
        child: str = "",
    ) -> None:
        self.spans: list[Span] = []
        self.participants = Participants(answer)  # type: ignore[arg-type]
        self.sagas = SagaSpans(self.spans.append, share)
        means = Means(
            OneDefinition(parse(text, 1), parse(child, 1) if child else None),
            TracedParticipants(self.participants, self.sagas, self.spans.append),
            LeaderSettings(shard=0, sagas_max=100, recovery_page=10, poll_interval_s=0.05),
            Clocks(time.monotonic, lambda: 0.5),
            Metrics("test", "r1"),
            self.sagas.written,
            restored=self.sagas.restored,
        )
        self.leader = Leader(store, means)

    def span(self, name: str) -> Span:
        (found,) = (span for span in self.spans if span.name == name)
        return found

    def steps(self) -> list[Span]:
        root = ids.root_id(saga_id(1))
        return [span for span in self.spans if span.parent == root]

    def attempts(self) -> list[Span]:
        return [span for span in self.spans if span.attributes.get("rpc.system")]


def check_tree(spans: list[Span]) -> None:
    """Every span once, its parent among them, and within its parent's time."""
    by_id = {span.id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert span.start_ns <= span.end_ns
        if span.parent:
            parent = by_id[span.parent]
            assert parent.start_ns <= span.start_ns
            assert span.end_ns <= parent.end_ns


async def run(text: str, answer: Callable[[Invocation], object], end: SagaState) -> Traced:
    store = MemorySagaLog(time.monotonic)
    store.insert(stored(1))
    traced = Traced(store, text, answer)
    async with leading(traced.leader):
        await until(lambda: [row.state for row in store.rows.values()] == [end])
    return traced


async def test_a_saga_is_one_trace_of_its_steps_and_their_attempts() -> None:
    traced = await run(LINEAR, succeed, SagaState.COMPLETED)
    check_tree(traced.spans)
    assert [span.name for span in traced.steps()] == ["s1", "s2"]
    root = traced.span("test")
    assert (root.id, root.parent, root.failed) == (ids.root_id(saga_id(1)), 0, None)
    for step, attempt, call in zip(traced.steps(), traced.attempts(), traced.participants.calls, strict=True):
        assert attempt.parent == step.id
        assert call.traceparent == f"00-{saga_id(1).int:032x}-{attempt.id:016x}-01"
        assert attempt.attributes["baton.epoch"] == call.epoch
        assert attempt.attributes["baton.outcome"] == "succeeded"


async def test_retries_and_compensation_are_spans_that_say_what_failed_and_nothing_else() -> None:
    async def answer(call: Invocation) -> Outcome:
        if call.step == "s1" and call.kind is Kind.ACTION and call.attempt == 1:
            return Unknown("UNAVAILABLE", "card 4111")
        if call.step == "s2":
            return Refused("FAILED_PRECONDITION", "card 4111")
        return Succeeded({"card": "4111"})

    traced = await run(LINEAR, answer, SagaState.COMPENSATED)
    check_tree(traced.spans)
    assert [span.name for span in traced.steps()] == ["s1", "s2", "undo s1"]
    told = [(span.attributes["baton.outcome"], span.failed) for span in traced.attempts()]
    assert told == [
        ("unknown", "UNAVAILABLE"),
        ("succeeded", None),
        ("refused", "FAILED_PRECONDITION"),
        ("succeeded", None),
    ]
    assert [span.failed for span in traced.steps()] == [None, "FAILED_PRECONDITION", None]
    assert traced.steps()[0].attributes["baton.attempts"] == 2
    root = traced.span("test")
    assert (root.failed, root.attributes["baton.state"]) == ("FAILED_PRECONDITION", "COMPENSATED")
    assert "4111" not in repr(traced.spans)


async def test_steps_side_by_side_overlap_in_the_trace() -> None:
    both = asyncio.Barrier(2)

    async def answer(call: Invocation) -> Outcome:
        if call.step != "last":
            await both.wait()
        return Succeeded({})

    traced = await run(PARALLEL, answer, SagaState.COMPLETED)
    check_tree(traced.spans)
    left, right, last = (traced.span(name) for name in ("left", "right", "last"))
    assert max(left.start_ns, right.start_ns) <= min(left.end_ns, right.end_ns)
    assert last.start_ns >= max(left.end_ns, right.end_ns)


async def test_a_successor_goes_on_in_the_trace_with_a_link_to_what_was_broken_off() -> None:
    async def hang(call: Invocation) -> Outcome:
        if call.step == "s2":
            await asyncio.Event().wait()
        return Succeeded({})

    store = MemorySagaLog(time.monotonic)
    store.insert(stored(1))
    former, successor = Traced(store, LINEAR, hang), Traced(store, LINEAR, succeed)
    async with leading(former.leader):
        await until(lambda: len(former.participants.calls) == 2)
    async with leading(successor.leader, revision=2):
        await until(lambda: [row.state for row in store.rows.values()] == [SagaState.COMPLETED])
    (broken,) = (span for span in former.attempts() if span.failed == "BROKEN_OFF")
    (repeated,) = successor.attempts()
    check_tree([span for span in former.spans if span is not broken] + [s for s in successor.spans if s.parent == 0])
    assert broken.parent == repeated.parent == successor.span("s2").id
    assert [(link.trace, link.span, link.relation) for link in repeated.links] == [
        (saga_id(1).int, broken.id, "repeats")
    ]
    assert repeated.attributes["baton.epoch"] > broken.attributes["baton.epoch"]
    assert successor.span("s2").attributes["baton.taken_over"] is True
    assert "taken_over" not in repr(former.spans)
    assert len({span.id for span in (*former.spans, *successor.spans)}) == len(former.spans) + len(successor.spans)


async def test_a_saga_that_is_not_sampled_makes_no_span_and_tells_the_participants_so() -> None:
    store = MemorySagaLog(time.monotonic)
    store.insert(stored(1))
    traced = Traced(store, LINEAR, succeed, share=0.0)
    async with leading(traced.leader):
        await until(lambda: [row.state for row in store.rows.values()] == [SagaState.COMPLETED])
    assert traced.spans == []
    assert [call.traceparent[-3:] for call in traced.participants.calls] == ["-00", "-00"]


CHILD = """
name: part
steps:
  - {name: c1, service: 'h:1', action: {method: t.S/Do}, compensation: {method: t.S/Undo}}
"""
PARENT = """
name: test
steps:
  - {name: run, saga: {definition: part, input: {}}}
  - {name: s2, service: 'h:1', action: {method: t.S/Do}, compensation: none}
"""


async def test_a_child_has_a_trace_of_its_own_with_a_link_to_the_step_that_runs_it_and_after_its_undoing_too() -> None:
    async def hang(call: Invocation) -> Outcome:
        if call.step == "s2":
            await asyncio.Event().wait()
        return Succeeded({})

    async def refuse(call: Invocation) -> Outcome:
        return Refused("NOT_FOUND", "no") if call.step == "s2" else Succeeded({})

    store = MemorySagaLog(time.monotonic)
    store.insert(stored(1))
    # Whoever leads next derives the same link: it is in the row.
    former, successor = (Traced(store, PARENT, answer, child=CHILD) for answer in (hang, refuse))
    async with leading(former.leader):
        await until(lambda: any(row.state is SagaState.COMPLETED for row in store.rows.values()))
    async with leading(successor.leader, revision=2):
        await until(lambda: {row.state for row in store.rows.values()} == {SagaState.COMPENSATED})
    spans = [*former.spans, *successor.spans]
    step = next(span for span in spans if span.name == "run")
    (child,) = (row.id for row in store.rows.values() if row.parent is not None)
    first, again = (next(span for span in spans if span.name == name) for name in ("part", "part again"))
    assert (first.saga, again.saga, step.saga) == (child, child, saga_id(1))
    to_parent = (saga_id(1).int, step.id, "parent")
    assert [(link.trace, link.span, link.relation) for link in first.links] == [to_parent]
    assert [(link.trace, link.span, link.relation) for link in again.links] == [
        to_parent,
        (child.int, first.id, "goes_on"),
    ]
    assert first.attributes["baton.parent"] == str(saga_id(1))
    assert first.attributes["baton.parent.step"] == "run"
    own = next(span for span in spans if span.name == "test")
    assert own.links == ()
    assert "baton.parent" not in own.attributes
