"""Sagas for the tests of the pure core."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import yaml

from orchestrator.saga.commands import Ask, Begin, Call, Outcome, Ready, Wait
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Order
from orchestrator.saga.machine import Moment, decide, fold, next_commands
from orchestrator.saga.model import Epoch, Kind, Saga, SagaId
from orchestrator.saga.moving import Destination
from orchestrator.saga.parse import parse
from orchestrator.saga.signals import Signal, Verb, heed

EPOCH = Epoch(7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def moment(epoch: int = EPOCH, chance: float = 0.0) -> Moment:
    return Moment(Epoch(epoch), NOW, chance)


def definition(*compensations: bool, retries: int = 1) -> Definition:
    """A definition of one step for each of `compensations`, which says whether the step has one."""
    lines = ["name: test", "steps:"]
    for number, compensation in enumerate(compensations, start=1):
        undo = f"{{method: t.S/Undo, retry: {{retries: {retries}}}}}" if compensation else "none"
        lines.append(
            f"  - {{name: s{number}, service: 'h:1', action: {{method: t.S/Do}}, compensation: {undo}, "
            f"retry: {{retries: {retries}}}}}"
        )
    return parse("\n".join(lines), 1)


def new_saga(*compensations: bool, retries: int = 1) -> Saga:
    """A pending saga; three steps that can all be compensated unless told otherwise."""
    steps = compensations or (True, True, True)
    return Saga(SagaId(UUID(int=1)), definition(*steps, retries=retries), {}, {}, NOW)


# What a step of a graph says besides its name.
Says = dict[str, object]


def graph(*steps: Says, **top: object) -> Saga:
    """A pending saga of these steps, named a, b, c, ...; one retry each, after a second."""
    return Saga(SagaId(UUID(int=1)), graph_definition(*steps, **top), {"rush": True}, {}, NOW)


def graph_definition(*steps: Says, **top: object) -> Definition:
    """The definition of `graph`."""
    entries = []
    for number, says in enumerate(steps):
        entry: Says = {"name": "abcdefghij"[number], **says}
        if not entry.keys() & {"delay", "approval", "saga"}:
            entry = {"service": "h:1", "action": {"method": "t.S/Do"}, "retry": {"retries": 1}, **entry}
            if not entry.get("pivot"):
                entry.setdefault("compensation", {"method": "t.S/Undo", "retry": {"retries": 1}})
            if entry.get("compensation", "") is None:
                del entry["compensation"]
        entries.append(entry)
    return parse(yaml.safe_dump({"name": "test", **top, "steps": entries}), 1)


def version(number: int, *steps: Says, **top: object) -> Definition:
    """Another version of the definition of `graph`."""
    return replace(graph_definition(*steps, **top), version=number)


class Walk:
    """A saga that is told one thing after the other, with the time and the epoch that it happens under."""

    def __init__(self, saga: Saga) -> None:
        self.start = self.saga = saga
        self.log: list[Event] = []
        self.now = NOW
        self.epoch = EPOCH
        self.cancel: str | None = None
        self.versions = {saga.definition.version: saga.definition}

    def tell(self, step: str, outcome: Outcome) -> Walk:
        """An outcome of a step; of the saga as a whole when `step` is empty."""
        position = self._position(step)
        if not isinstance(outcome, Ready):
            # Only what was asked for can have an outcome.
            asked = [c for c in next_commands(self.saga, self.epoch) if isinstance(c, Call | Ask | Begin)]
            assert position in [command.position for command in asked], asked
        saga, events = decide(self.saga, outcome, Moment(self.epoch, self.now, 0.0), self.cancel, position)
        return self._went(saga, events)

    def ready(self, step: str = "", after_s: float = 0.0) -> Walk:
        """Go on, `after_s` seconds later."""
        self.now += timedelta(seconds=after_s)
        return self.tell(step, Ready())

    def cancelled(self, reason: str = "stop") -> Walk:
        """Somebody wants the saga undone."""
        self.cancel = reason
        return self.ready()

    def failover(self) -> Walk:
        """A new leader, that goes on at once."""
        self.epoch = Epoch(self.epoch + 1)
        return self.ready()

    def signal(self, verb: Verb, step: str = "", **fields: object) -> str:
        """A signal, by somebody who shows why; the reason for which it was refused."""
        signal = Signal(1, verb, step, order=Order("kim", "because", "a receipt"), **fields)  # type: ignore[arg-type]
        heeded = heed(self.saga, signal, Moment(self.epoch, self.now, 0.0), self.cancel)
        assert heeded is not None, "it has to wait"
        self._went(heeded.saga, heeded.events)
        return heeded.refusal

    def deferred(self, verb: Verb, step: str = "") -> bool:
        """Whether a signal has to wait until a call has ended."""
        signal = Signal(1, verb, step, order=Order("kim", "because", "a receipt"))
        return heed(self.saga, signal, Moment(self.epoch, self.now, 0.0), self.cancel) is None

    def _went(self, saga: Saga, events: tuple[Event, ...]) -> Walk:
        self.saga = saga
        self.log += events
        assert fold(self.start, self.log, self.versions) == saga
        return self

    def move(self, to: Definition, **destination: object) -> str:
        """Move the saga to another version; the reason for which it was refused."""
        self.versions[to.version] = to
        there = Destination(to, **{"from_version": self.saga.definition.version, **destination})  # type: ignore[arg-type]
        return self.signal(Verb.MOVE, destination=there)

    @property
    def calls(self) -> set[str]:
        """What is called now: the step, and `-` before it for its compensation, `?` for its status method."""
        found = set()
        for command in next_commands(self.saga, self.epoch):
            if isinstance(command, Call | Ask):
                name = self.saga.definition.step(command.position).name
                asks = "?" if isinstance(command, Ask) else ""
                undoes = "-" if isinstance(command, Call) and command.kind is Kind.COMPENSATION else ""
                found.add(asks + undoes + name)
        return found

    @property
    def waits(self) -> dict[str, float | None]:
        """What is waited for now, in seconds from the start; the saga as a whole has no name."""
        found: dict[str, float | None] = {}
        for command in next_commands(self.saga, self.epoch):
            if isinstance(command, Wait):
                name = self.saga.definition.step(command.position).name if command.position else ""
                found[name] = None if command.until is None else (command.until - NOW).total_seconds()
        return found

    @property
    def told(self) -> list[str]:
        """The log, as `status step`."""
        steps = {n: s.name for v in self.versions.values() for n, s in enumerate(v.steps, start=1)}
        return [f"{e.status} {steps[e.position] if e.position else ''}".strip() for e in self.log]

    def _position(self, step: str) -> int:
        names = [known.name for known in self.saga.definition.steps]
        return names.index(step) + 1 if step else 0
