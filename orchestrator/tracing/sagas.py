"""The spans of sagas and steps, made of what has been logged.

A leader shows what it has done itself. What it took over begins, in its spans, when it took over: the log has the rest.
A step under way at the end of a leader is ended by the successor, in the same trace and under the same id.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Kind, Phase, Saga, SagaId, SagaState
from orchestrator.tracing import ids
from orchestrator.tracing.span import Attributes, Link, Side, Sink, Span

# Sagas whose open steps are remembered; of more, the ones that were written longest ago are forgotten.
SAGAS_MAX = 20_000

# No intent of a leader has this epoch: the attempt before it has ended.
_NO_EPOCH = Epoch(0)

_ENDS = {
    Status.COMPLETED: Kind.ACTION,
    Status.FAILED: Kind.ACTION,
    Status.UNKNOWN: Kind.ACTION,
    Status.SKIPPED: Kind.ACTION,
    Status.FORCED: Kind.ACTION,
    Status.COMPENSATED: Kind.COMPENSATION,
    Status.COMPENSATION_FAILED: Kind.COMPENSATION,
    Status.RESOLVED: Kind.COMPENSATION,
}
_FAILURES = frozenset({Status.FAILED, Status.UNKNOWN, Status.COMPENSATION_FAILED})


@dataclass(frozen=True, slots=True)
class BrokenOff:
    """An attempt whose leader ended before its outcome was logged."""

    kind: Kind
    attempt: int
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class _Open:
    """A step under way. `taken_over` says that it was begun before `start_ns`, by another leader."""

    kind: Kind
    start_ns: int
    taken_over: bool = False


@dataclass(slots=True)
class _Known:
    """What is known of a saga beside its fold. `again_ns` is when it went on after an end, else 0."""

    steps: dict[int, _Open] = field(default_factory=dict)
    broken_off: dict[str, BrokenOff] = field(default_factory=dict)
    ended: bool = False
    again_ns: int = 0


class SagaSpans:
    """Call `written` with every saga that has new rows, `restored` with every one read from the log to be driven."""

    def __init__(self, sink: Sink, share: float, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._sink = sink
        self._share = share
        self._now_ns = now_ns
        self._known: OrderedDict[SagaId, _Known] = OrderedDict()

    def traced(self, saga: SagaId) -> bool:
        """Whether this saga is traced."""
        return ids.sampled(saga, self._share)

    def broken_off(self, saga: SagaId, step: str) -> BrokenOff | None:
        """The attempt of this step that a former leader could not end; told once."""
        known = self._known.get(saga)
        return known.broken_off.pop(step, None) if known is not None else None

    def restored(self, saga: Saga) -> None:
        """The saga as it was read from the log: what is under way in it was begun before."""
        if not saga.sequence or not self.traced(saga.id):
            return
        known, now_ns = self._of(saga.id), self._now_ns()
        known.ended = saga.state.terminal
        open_now = {cursor.position: cursor for cursor in saga.open}
        # What this replica has open from a term before, and another leader has ended since, that one has shown.
        known.steps = {
            position: step
            for position, step in known.steps.items()
            if position in open_now and open_now[position].kind is step.kind
        }
        known.broken_off.clear()
        for cursor in saga.open:
            known.steps.setdefault(cursor.position, _Open(cursor.kind, now_ns, taken_over=True))
            if cursor.phase is Phase.INTENDED and cursor.intent_epoch != _NO_EPOCH:
                step = saga.definition.step(cursor.position).name
                known.broken_off[step] = BrokenOff(cursor.kind, cursor.attempt, cursor.intent_epoch)

    def written(self, saga: Saga, events: Sequence[Event]) -> None:
        """The saga as it is after `events`, which have just become durable."""
        if not events or not self.traced(saga.id):
            return
        known, now_ns = self._of(saga.id), self._now_ns()
        if known.ended and not saga.state.terminal and not known.again_ns:
            known.again_ns = now_ns
        self._end_steps(saga, events, known, now_ns)
        for cursor in saga.open:
            known.steps.setdefault(cursor.position, _Open(cursor.kind, now_ns))
        if saga.state.terminal:
            self._end_saga(saga, events[-1], known, now_ns)

    def _end_steps(self, saga: Saga, events: Sequence[Event], known: _Known, now_ns: int) -> None:
        """End every step that the events ended, and every one that is not under way any more for another reason."""
        for event in events:
            kind = _ENDS.get(event.status)
            if kind is None or not event.position:
                continue
            here = known.steps.get(event.position)
            if here is None or here.kind is not kind:
                # Begun and ended in one write: skipped, say, or a request that could not be made.
                here = _Open(kind, now_ns)
            else:
                del known.steps[event.position]
            self._end_step(saga, event.position, here, now_ns, event)
        under_way = {cursor.position: cursor.kind for cursor in saga.open}
        for position, step in list(known.steps.items()):
            if under_way.get(position) is not step.kind:
                del known.steps[position]
                self._end_step(saga, position, step, now_ns, None)

    def _end_step(self, saga: Saga, position: int, step: _Open, now_ns: int, event: Event | None) -> None:
        name = saga.definition.step(position).name
        attributes = _attributes(saga)
        attributes |= {"baton.step": name, "baton.kind": step.kind.value}
        attributes["baton.outcome"] = "given_up" if event is None else event.status.value
        failed = None
        if event is not None:
            attributes |= {"baton.attempts": event.attempt, "baton.epoch": event.epoch}
            if event.code:
                attributes["baton.code"] = event.code
            if event.status in _FAILURES:
                failed = event.code or event.status.value
        if step.taken_over:
            attributes["baton.taken_over"] = True
        self._sink(
            Span(
                saga.id,
                ids.step_id(saga.id, name, step.kind),
                ids.root_id(saga.id),
                name if step.kind is Kind.ACTION else f"undo {name}",
                Side.INTERNAL,
                step.start_ns,
                now_ns,
                attributes,
                failed,
            )
        )

    def _end_saga(self, saga: Saga, last: Event, known: _Known, now_ns: int) -> None:
        attributes = _attributes(saga) | {"baton.state": saga.state.value, "baton.epoch": last.epoch}
        failed = None
        if saga.failure is not None:
            attributes |= {"baton.failure.step": saga.failure.step, "baton.failure.code": saga.failure.code}
        if saga.state is not SagaState.COMPLETED:
            failed = saga.failure.code if saga.failure is not None else saga.state.value
        root = ids.root_id(saga.id)
        span_id, parent, name, start_ns = root, 0, saga.definition.name, _nanoseconds(saga.starts_at or saga.created_at)
        links: tuple[Link, ...] = ()
        if saga.parent is not None:
            # A trace of its own, as every saga has: its parent may have ended, or have been sampled otherwise.
            step = ids.step_id(saga.parent.id, saga.parent.step, Kind.ACTION)
            attributes |= {"baton.parent": str(saga.parent.id), "baton.parent.step": saga.parent.step}
            links = (Link(saga.parent.id.int, step, "parent"),)
        if known.ended:
            # Its span was sent when it had ended the first time, and a span is sent once.
            span_id, parent, name = ids.again_id(saga.id, saga.sequence), root, f"{name} again"
            start_ns = known.again_ns or now_ns
            links += (Link(saga.id.int, root, "goes_on"),)
        # By two clocks, the store's and this machine's: never an end before its begin.
        start_ns = min(start_ns, now_ns)
        self._sink(Span(saga.id, span_id, parent, name, Side.INTERNAL, start_ns, now_ns, attributes, failed, links))
        known.ended, known.again_ns = True, 0
        if saga.state is not SagaState.FAILED:
            del self._known[saga.id]

    def _of(self, saga: SagaId) -> _Known:
        known = self._known.get(saga)
        if known is None:
            known = self._known[saga] = _Known()
            if len(self._known) > SAGAS_MAX:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(saga)
        return known


def _attributes(saga: Saga) -> Attributes:
    return {
        "baton.saga": str(saga.id),
        "baton.definition": saga.definition.name,
        "baton.version": saga.definition.version,
    }


def _nanoseconds(at: datetime) -> int:
    # By whole numbers: a float of seconds since 1970 is off by some hundred nanoseconds.
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
