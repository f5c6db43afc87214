"""Faults on demand: which calls they strike and what they do, for tests and demonstrations.

A fault is decided once for a call, when it arrives; the barrier then passes the points where it may strike.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import NoReturn

import grpc
import orjson
import structlog

from participants.call import CallIdentity, Kind
from participants.status import Refusal

log = structlog.get_logger()

# What a shell reports for a process killed by SIGKILL.
_KILLED = 137


class BadFault(Exception):
    """A fault that makes no sense. The message names the field."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule: empty fields of the match (step, method, order_id, kind) fit everything; `times` 0 is every call."""

    id: int = 0
    step: str = ""
    method: str = ""
    order_id: str = ""
    kind: str = ""
    delay_ms: int = 0
    error_code: str = ""
    error_message: str = ""
    error_after_commit: bool = False
    crash_before_commit: bool = False
    crash_after_commit: bool = False
    drop_reply: bool = False
    times: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        if self.kind and self.kind not in list(Kind):
            raise BadFault(f"kind: {self.kind!r} is neither 'action' nor 'compensation'")
        if self.error_code and self.error_code not in grpc.StatusCode.__members__:
            raise BadFault(f"error_code: {self.error_code!r} is no gRPC status code, such as UNAVAILABLE")
        if self.error_code == "OK":
            raise BadFault("error_code: OK is no error")
        if self.error_after_commit and not self.error_code:
            raise BadFault("error_after_commit: needs an error_code")
        if self.delay_ms < 0 or self.times < 0:
            raise BadFault("delay_ms and times: may not be negative")
        if not (self.delay_ms or self.error_code or self.crashes or self.drop_reply):
            raise BadFault("a fault must do something: delay_ms, error_code, crash_before_commit, ...")

    @property
    def crashes(self) -> bool:
        """Whether the process ends by it."""
        return self.crash_before_commit or self.crash_after_commit

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it may."""
        return 0 < self.times <= self.struck

    def fits(self, call: CallIdentity, method: str, order_id: str) -> bool:
        """Whether it strikes this call; `method` is the full name, as in `shop.v1.PaymentService/Charge`."""
        return (
            not self.spent
            and self.step in ("", call.step)
            and self.kind in ("", call.kind)
            and self.order_id in ("", order_id)
            and self.method in ("", method, method.rpartition("/")[2])
        )


class Strike:
    """One fault at work in one call. Each point raises, waits for ever, ends the process, or does nothing."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    async def on_arrival(self) -> None:
        """Before the call has touched the database."""
        await asyncio.sleep(self._fault.delay_ms / 1000)
        if self._fault.error_code and not self._fault.error_after_commit:
            self._fail()

    async def before_commit(self) -> None:
        """The effect, the tombstone or the refusal is at hand, and its commit has not been sent."""
        if self._fault.crash_before_commit:
            _end_process()

    async def after_commit(self) -> None:
        """The answer is durable, the caller has not heard of it."""
        if self._fault.crash_after_commit:
            _end_process()
        if self._fault.error_after_commit:
            self._fail()
        if self._fault.drop_reply:
            # Until the caller's deadline, or the participant's own longest time for a call, cancels us.
            await asyncio.Event().wait()

    def _fail(self) -> NoReturn:
        message = self._fault.error_message or f"injected fault {self._fault.id}"
        raise Refusal(grpc.StatusCode[self._fault.error_code], message)


class Faults:
    """The faults of one participant. Without any, a call costs one look at an empty mapping."""

    def __init__(self) -> None:
        self._rules: dict[int, Fault] = {}
        self._last_id = 0

    def inject(self, fault: Fault) -> int:
        """Add a fault and return its id."""
        self._last_id += 1
        self._rules[self._last_id] = replace(fault, id=self._last_id, struck=0)
        log.warning("fault injected", fault=_spelled(self._rules[self._last_id]))
        return self._last_id

    def clear(self, fault_id: int = 0) -> int:
        """Drop one fault, or all with 0; return how many."""
        gone = list(self._rules) if fault_id == 0 else [i for i in self._rules if i == fault_id]
        for i in gone:
            del self._rules[i]
        log.warning("faults cleared", count=len(gone))
        return len(gone)

    def list(self) -> tuple[Fault, ...]:
        """All faults, the spent ones too."""
        return tuple(self._rules.values())

    def strike(self, call: CallIdentity, method: str, order_id: str) -> Strike | None:
        """The first fault that fits the call, counted as struck; None when there is none."""
        for fault in self._rules.values():
            if fault.fits(call, method, order_id):
                self._rules[fault.id] = replace(fault, struck=fault.struck + 1)
                log.warning("fault strikes", fault_id=fault.id, method=method, call=call.key)
                return Strike(fault)
        return None


def faults_from_json(text: str) -> tuple[Fault, ...]:
    """The faults of a JSON list, with the fields of `Fault`. Raises BadFault naming the entry and the field."""
    try:
        entries = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadFault(f"not JSON: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadFault("must be a JSON list of objects")
    known = Fault.__dataclass_fields__.keys() - {"id", "struck"}
    found = []
    for position, entry in enumerate(entries):
        if unknown := entry.keys() - known:
            raise BadFault(f"[{position}]: unknown field {sorted(unknown)[0]}; known are {', '.join(sorted(known))}")
        for field, value in entry.items():
            wanted = type(getattr(_DEFAULTS, field))
            if type(value) is not wanted:
                raise BadFault(f"[{position}].{field}: must be {wanted.__name__}, is {value!r}")
        try:
            found.append(Fault(**entry))
        except BadFault as error:
            raise BadFault(f"[{position}].{error}") from None
    return tuple(found)


_DEFAULTS = Fault(delay_ms=1)


def _spelled(fault: Fault) -> dict[str, object]:
    fields = {name: getattr(fault, name) for name in Fault.__dataclass_fields__}
    return {name: value for name, value in fields.items() if value}


def _end_process() -> NoReturn:
    log.warning("crashing on demand", exit_code=_KILLED)
    os._exit(_KILLED)
