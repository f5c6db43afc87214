"""The order flows of the sample shop, and what must come of a saga of one when a step of it fails in a given way.

What is expected is worked out here from the definitions' steps alone, in no words of the orchestrator's own code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from orchestrator.pb.baton.v1 import saga_pb2
from participants.pb.shop.v1 import fault_pb2

DEFINITIONS = Path(__file__).resolve().parents[2] / "deploy" / "definitions"

# The order ids that a method refuses, as docs/participants.md lists them.
MAGIC = {
    "Create": "fail-order",
    "Charge": "fail-payment",
    "Refund": "fail-payment",
    "Reserve": "fail-inventory",
    "Restock": "fail-inventory",
    "Ship": "fail-shipping",
    "Confirm": "fail-confirm",
}
_ADDRESS = re.compile(r"\$\{([A-Z]+)_ADDRESS")
_VARIABLE = re.compile(r"\$\{([A-Z_]+):-[^}]*\}")


@dataclass(frozen=True, slots=True)
class FlowStep:
    """A step as its definition has it: the participant by name, and the last part of the action's method."""

    name: str
    service: str
    method: str


@dataclass(frozen=True, slots=True)
class Flow:
    """A definition."""

    name: str
    steps: tuple[FlowStep, ...]


def _flow(name: str) -> Flow:
    document = yaml.safe_load((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"))
    steps = []
    for step in document["steps"]:
        service = _ADDRESS.match(step["service"])
        assert service is not None, step["service"]
        steps.append(FlowStep(step["name"], service[1].lower(), step["action"]["method"].rpartition("/")[2]))
    return Flow(document["name"], tuple(steps))


FLOWS = tuple(
    _flow(name)
    for name in (
        "order-create-charge-reserve-confirm",
        "order-reserve-pay-create",
        "order-reserve-pay-ship",
        "order-pay-reserve-ship",
        "order",
        "return",
    )
)


def patient(flow: Flow, addresses: Mapping[str, str]) -> str:
    """The definition with a budget that outlasts the restart of a participant on a machine that is busy.

    The variables of its `addresses` are filled in.
    """
    text = (DEFINITIONS / f"{flow.name}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(_VARIABLE.sub(lambda variable: addresses[variable[1]], text))
    for step in document["steps"]:
        step["timeout"] = "30s"
        step["retry"] = {"retries": 100, "initial": "300ms", "multiplier": 1}
        step["compensation"]["retry"] = step["retry"]
    return yaml.safe_dump(document, sort_keys=False)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault of the call of one step (from 1) in one direction, and the status that Baton must hear of it."""

    step: int
    fault: fault_pb2.Fault
    heard: str
    kind: str = "action"


@dataclass(frozen=True, slots=True)
class Case:
    """One saga. `fails_at` is the step (from 1) that fails for good, 0 when none does; `error` how it does so.

    `undone_too` says that the failed step may have taken effect, so that it must be compensated as well.
    """

    flow: Flow
    what: str
    order_id: str
    fails_at: int = 0
    error: tuple[str, str] = ("", "")
    undone_too: bool = False
    ends_by: str = "failed"
    troubles: tuple[Trouble, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.flow.name}-{self.what}"

    @property
    def state(self) -> str:
        if not self.fails_at:
            return "COMPLETED"
        # Also where there was nothing to undo.
        return "COMPENSATED"

    @property
    def executed(self) -> list[int]:
        return list(range(1, self.fails_at or len(self.flow.steps) + 1))

    @property
    def compensated(self) -> list[int]:
        if not self.fails_at:
            return []
        return list(range(self.fails_at if self.undone_too else self.fails_at - 1, 0, -1))

    @property
    def history(self) -> list[tuple[int, str]]:
        """Step and status of every transition, repetitions left out."""
        rows = [(position, status) for position in self.executed for status in ("executing", "completed")]
        if self.fails_at:
            rows += [(self.fails_at, "executing"), (self.fails_at, self.ends_by)]
        return rows + [
            (position, status) for position in self.compensated for status in ("compensating", "compensated")
        ]

    @property
    def input_json(self) -> str:
        lines = [{"stock_code": "TEAPOT", "quantity": 2}, {"stock_code": "CUP", "quantity": 6}]
        order = {"order_id": self.order_id, "customer_id": "17850", "amount": "15.30", "destination": "Norway"}
        return json.dumps({**order, "lines": lines})

    def faults(self) -> Iterator[tuple[str, fault_pb2.Fault]]:
        """The faults to inject, each with the participant's name."""
        for trouble in self.troubles:
            step = self.flow.steps[trouble.step - 1]
            fault = fault_pb2.Fault()
            fault.CopyFrom(trouble.fault)
            fault.step, fault.order_id, fault.kind = step.name, self.order_id, trouble.kind
            yield step.service, fault


# What a row of a failed attempt says: a step that is held spends no attempt, and another one follows all the same.
_FAILED_ATTEMPTS = {
    "action": ("retrying", "held"),
    "compensation": ("compensation_retrying", "compensation_held"),
}


def without_repetitions(history: list[saga_pb2.Transition]) -> list[tuple[int, str]]:
    """Step and status of every transition, but for failed attempts and the intents of the attempts after them."""
    rows: list[tuple[int, str]] = []
    for row in history:
        if row.status in _FAILED_ATTEMPTS["action"] + _FAILED_ATTEMPTS["compensation"]:
            continue
        if row.status in ("executing", "compensating") and (row.position, row.status) in rows:
            continue
        rows.append((row.position, row.status))
    return rows


def retries(history: list[saga_pb2.Transition], trouble: Trouble) -> list[str]:
    """The status of each attempt of the step that has the trouble, and failed.

    Other sagas' troubles with the same participant may open its breaker: who then comes is held and not called, which
    is no attempt.
    """
    failed = [row for row in history if row.position == trouble.step and row.status in _FAILED_ATTEMPTS[trouble.kind]]
    return [row.error.code for row in failed if row.error.code != "NOT_CALLED"]


def calls(history: list[saga_pb2.Transition]) -> set[int]:
    """Which calls of its step each row is about: its attempt, less the times that it was held uncalled before."""
    numbers: set[int] = set()
    not_called: Counter[tuple[int, str]] = Counter()
    for row in history:
        step = (row.position, "compensation" if row.status.startswith("compensat") else "action")
        numbers.add(row.attempt - not_called[step])
        not_called[step] += row.error.code == "NOT_CALLED"
    return numbers


def quiet_cases() -> Iterator[Case]:
    """Every saga that troubles no other: they all run at the same time."""
    for flow in FLOWS:
        last = len(flow.steps)
        yield Case(flow, "success", f"ok-{flow.name}")
        for position, step in enumerate(flow.steps, 1):
            refused = _refused(flow, f"{step.name}-refuses", position)
            yield refused
            if step.method == "Create":
                yield replace(
                    refused,
                    what=f"{step.name}-database-error",
                    order_id=f"fail-database-{flow.name}",
                    error=("FAILED_PRECONDITION", "database error"),
                )
            for what, trouble in (
                (
                    "unavailable-once",
                    Trouble(position, fault_pb2.Fault(error_code="UNAVAILABLE", times=1), "UNAVAILABLE"),
                ),
                ("unheard-error-once", Trouble(position, _after_commit(times=1), "INTERNAL")),
            ):
                yield Case(flow, f"{step.name}-{what}", f"{what}-{position}-{flow.name}", troubles=(trouble,))
        silence = Trouble(2, fault_pb2.Fault(drop_reply=True, times=1), "DEADLINE_EXCEEDED")
        yield Case(flow, "reply-never-comes", f"silence-{flow.name}", troubles=(silence,))
        # Refused at last, but nobody knows what the first attempt did.
        doubt = Trouble(last, fault_pb2.Fault(error_code="UNAVAILABLE", times=1), "UNAVAILABLE")
        yield replace(_refused(flow, "refused-in-doubt", last), undone_too=True, troubles=(doubt,))
        unheard = tuple(
            Trouble(position, _after_commit(times=1), "INTERNAL", "compensation") for position in range(1, last)
        )
        yield replace(_refused(flow, "compensations-unheard-once", last), troubles=unheard)
        away = tuple(
            Trouble(position, fault_pb2.Fault(error_code="UNAVAILABLE", times=1), "UNAVAILABLE", "compensation")
            for position in range(1, last)
        )
        yield replace(_refused(flow, "compensations-unavailable-once", last), troubles=away)
        for what, fault, code in (
            ("never-done", fault_pb2.Fault(error_code="ABORTED"), "ABORTED"),
            ("never-heard", _after_commit(times=0), "INTERNAL"),
        ):
            yield Case(
                flow,
                f"{flow.steps[1].name}-{what}",
                f"{what}-{flow.name}",
                fails_at=2,
                error=(code, "injected fault"),
                undone_too=True,
                ends_by="unknown",
                troubles=(Trouble(2, fault, code),),
            )


def killed_cases() -> Iterator[Case]:
    """Sagas of which a participant has committed a step and says nothing until it is killed, all at the same time."""
    silence = fault_pb2.Fault(drop_reply=True, times=1)
    for flow in FLOWS:
        for position, step in enumerate(flow.steps, 1):
            trouble = Trouble(position, silence, "UNAVAILABLE")
            what = f"{step.name}-killed-after-commit"
            yield Case(flow, what, f"killed-{position}-{flow.name}", troubles=(trouble,))
        for position in range(1, len(flow.steps)):
            trouble = Trouble(position, silence, "UNAVAILABLE", "compensation")
            what = f"undo-{flow.steps[position - 1].name}-killed"
            yield replace(_refused(flow, what, len(flow.steps)), troubles=(trouble,))


def crash_cases() -> Iterator[Case]:
    """Sagas of which a participant ends before its commit; no two of one participant may run at the same time."""
    for flow in FLOWS:
        for position, step in enumerate(flow.steps, 1):
            trouble = Trouble(position, _crash("before"), "UNAVAILABLE")
            what = f"{step.name}-crash-before-commit"
            yield Case(flow, what, f"crash-{position}-{flow.name}", troubles=(trouble,))


def crashing_compensations() -> Case:
    """A saga of which every participant ends at its compensation, one after the other."""
    order = next(flow for flow in FLOWS if flow.name == "order")
    troubles = tuple(
        Trouble(position, _crash("before" if position % 2 else "after"), "UNAVAILABLE", "compensation")
        for position in range(1, len(order.steps))
    )
    return replace(_refused(order, "every-compensation-crashes", len(order.steps)), troubles=troubles)


def _refused(flow: Flow, what: str, position: int) -> Case:
    magic = MAGIC[flow.steps[position - 1].method]
    return Case(flow, what, f"{magic}-{what}-{flow.name}", fails_at=position, error=("FAILED_PRECONDITION", magic))


def _after_commit(times: int) -> fault_pb2.Fault:
    return fault_pb2.Fault(error_code="INTERNAL", error_after_commit=True, times=times)


def _crash(when: str) -> fault_pb2.Fault:
    return fault_pb2.Fault(crash_before_commit=when == "before", crash_after_commit=when == "after", times=1)
