"""A saga definition: what its steps are, in which order they may run, and what may be undone.

Pure: values only. parse.py reads them from YAML; what a definition says about gRPC methods is checked against their
descriptors in driving/registry.py, since that needs the participants.

A step comes after others (`after`). Compensatable steps come before the pivot, retriable ones behind it (Garcia-Molina
and Salem, "Sagas", 1987; the three kinds are Zhang's and others', "Ensuring relaxed atomicity for flexible
transactions", 1994).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from orchestrator.saga.backoff import ACTION_RETRY, COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.mapping import Leaf, Mapping

TIMEOUT_DEFAULT_S = 5.0


@dataclass(frozen=True, slots=True)
class Method:
    """One gRPC method (`/package.Service/Name`) and how its request is made."""

    path: str
    request: Mapping

    @property
    def service_name(self) -> str:
        """The full name of the gRPC service."""
        return self.path[1:].rpartition("/")[0]

    @property
    def method_name(self) -> str:
        """The name of the method in its service."""
        return self.path.rpartition("/")[2]


class Work(StrEnum):
    """What a step does."""

    CALL = "call"  # Calls a participant's action.
    APPROVAL = "approval"  # Waits until a person approves or rejects it.
    DELAY = "delay"  # Waits for a time.
    CHILD = "child"  # Runs another definition as a saga of its own.


class OnUnknown(StrEnum):
    """What follows when nobody knows whether an action took effect."""

    RETRY = "retry"  # Call it again under the same key.
    QUERY = "query"  # Ask the step's status method first.
    COMPENSATE = "compensate"  # Turn back at once, and undo it.


@dataclass(frozen=True, slots=True)
class Compensation:
    """The method that undoes an action, and how persistently it is tried.

    `within_s` bounds all attempts together, in seconds; None leaves that to the retry policy.
    """

    method: Method
    retry: RetryPolicy = COMPENSATION_RETRY
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Delay:
    """How long a step waits: `seconds`, or until the time that the expression `until` gives (RFC 3339)."""

    seconds: float | None = None
    until: Leaf | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person is asked. `roles` are those who may answer; nobody is left out when there are none."""

    question: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Child:
    """The definition that a step runs, and how the child's input is made. Version 0 is the newest at its start.

    `undone` says whether the child is undone when its parent turns back; else it is left alone.
    """

    definition: str
    version: int
    input: Mapping
    undone: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `after` are the positions of the steps that it waits for.

    `timeout_s` bounds one attempt and `within_s` the whole step with all its attempts, in seconds. `barrier` is False
    for participants that keep no idempotency barrier of their own. `answers_later` says that the participant may
    accept a call and answer by token; it must then be heard of every `heartbeat_s` seconds, if that is set.
    `secrets` are paths into the step's result that nobody is shown.
    """

    name: str
    after: tuple[int, ...] = ()
    work: Work = Work.CALL
    when: Leaf | None = None
    pivot: bool = False
    within_s: float | None = None
    service: str = ""
    action: Method | None = None
    compensation: Compensation | None = None
    timeout_s: float = TIMEOUT_DEFAULT_S
    retry: RetryPolicy = ACTION_RETRY
    barrier: bool = True
    status: Method | None = None
    on_unknown: OnUnknown = OnUnknown.RETRY
    answers_later: bool = False
    heartbeat_s: float | None = None
    delay: Delay | None = None
    approval: Approval | None = None
    child: Child | None = None
    secrets: tuple[str, ...] = ()
    # Why a step before the pivot has no compensation, in the author's words.
    no_compensation_reason: str = ""

    @property
    def undoable(self) -> bool:
        """Whether there is something to do when the step must be undone."""
        return self.compensation is not None or (self.child is not None and self.child.undone)


@dataclass(frozen=True, slots=True)
class HoldStarts:
    """New starts are held when more than `share` of the last `of_last` ended sagas were compensated.

    They are let through again after `for_s` seconds, or when an operator says so.
    """

    share: float
    of_last: int
    for_s: float


@dataclass(frozen=True)
class Definition:
    """An immutable version of a saga definition. Steps are counted from 1, each behind all that it comes after.

    `within_s` is the saga's deadline, in seconds from its start: past it the saga turns back, unless it is past its
    pivot. `parallel_compensation` lets independent compensations run at the same time. `secrets` are paths into the
    input that nobody is shown. `certified` demands participants with a certificate.
    """

    name: str
    version: int
    steps: tuple[Step, ...]
    description: str = ""
    within_s: float | None = None
    parallel_compensation: bool = False
    secrets: tuple[str, ...] = ()
    hold_starts: HoldStarts | None = None
    certified: bool = False

    def step(self, position: int) -> Step:
        """The step at `position`, counted from 1."""
        return self.steps[position - 1]

    @cached_property
    def pivot(self) -> int:
        """The position of the pivot; 0 when there is none."""
        return next((number for number, step in enumerate(self.steps, start=1) if step.pivot), 0)

    @cached_property
    def has_secrets(self) -> bool:
        """Whether anything in a saga of this definition is a secret."""
        return bool(self.secrets) or any(step.secrets for step in self.steps)

    @cached_property
    def descendants(self) -> tuple[frozenset[int], ...]:
        """For each step, by index, the positions of all steps that come after it, however far."""
        found: list[set[int]] = [set() for _ in self.steps]
        for position in range(len(self.steps), 0, -1):
            for before in self.step(position).after:
                found[before - 1] |= {position, *found[position - 1]}
        return tuple(frozenset(positions) for positions in found)
