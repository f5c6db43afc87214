"""The way of a StartSaga call to the intake: which version is meant, whether it can run at all, then the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import orjson

from orchestrator.api import checks
from orchestrator.api.errors import UnknownName
from orchestrator.api.inputs import LARGE_BYTES, saga_input
from orchestrator.api.port import Definitions, Intake, Registry, SagaReader
from orchestrator.api.retirements import NEWEST_FRESH_S, Retirements
from orchestrator.api.start_holds import Gate
from orchestrator.driving.registry import Compiled
from orchestrator.errors import BatonError, NotFound, Overloaded, Rejected, StartsHeld, WrongState
from orchestrator.saga.model import Json
from orchestrator.sagalog.records import NewSaga, Started, request_hash

# So many bytes of large inputs are checked at once: thousands of them at the same time must not fill the memory.
LARGE_BYTES_MAX = 16_000_000


@dataclass(frozen=True, slots=True)
class AskedStart:
    """What a caller wants to start."""

    definition: str
    version: int
    input_json: str
    labels: dict[str, str]
    request_id: str
    start_at: datetime | None = None


class Starts:
    """Checks starts and hands them to the intake."""

    def __init__(
        self,
        registry: Registry,
        intake: Intake,
        input_bytes_max: int,
        definitions: Definitions | None = None,
        reader: SagaReader | None = None,
        admit: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
    ) -> None:
        """`admit` raises Overloaded while no new sagas are taken; ask it before a call's starts are looked at."""
        self.admit = admit
        self._registry = registry
        self._newest = Newest(registry)
        self._retirements = Retirements(definitions) if definitions is not None else None
        self._intake = intake
        self._reader = reader
        self._gate = gate
        self._input_bytes_max = input_bytes_max
        self._large_bytes = 0

    async def submit(self, asked: AskedStart) -> tuple[NewSaga, asyncio.Future[Started]]:
        """Check a start and queue it; the future is the intake's.

        Raises Rejected and UnknownName, naming the fields, WrongState when the definition is retired, StartsHeld when
        its new starts are held, Overloaded, and LogUnavailable.
        """
        try:
            new = await self._checked(asked)
        except (Rejected, NotFound, WrongState, StartsHeld):
            # What would be refused now may have been accepted once, under an older version: a start that comes again
            # gets the answer that it got then, for as long as its saga is kept.
            if (earlier := await self._earlier(asked)) is None:
                raise
            return earlier
        return new, self._intake.submit(new)

    async def _earlier(self, asked: AskedStart) -> tuple[NewSaga, asyncio.Future[Started]] | None:
        """The same start of an earlier time, if there was one. Raises LogUnavailable."""
        if self._reader is None or not asked.request_id or "\x00" in asked.request_id:
            return None
        try:
            large_bytes = len(asked.input_json) if len(asked.input_json) > LARGE_BYTES else 0
            with self._room(large_bytes):
                new = _new(asked, asked.version, await saga_input(asked.input_json, self._input_bytes_max))
        except Rejected:
            return None
        started = await self._reader.started_as(asked.request_id, new.request_hash)
        if started is None:
            return None
        done: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        done.set_result(started)
        return new, done

    async def _checked(self, asked: AskedStart) -> NewSaga:
        name = checks.name("definition", asked.definition)
        version = checks.version(asked.version)
        violations = tuple(checks.start_violations(asked.request_id, asked.labels))
        if violations:
            raise Rejected("the request is not valid", violations)
        if len(asked.input_json) <= LARGE_BYTES:
            return await self._fitting(asked, name, version)
        with self._room(len(asked.input_json)):
            return await self._fitting(asked, name, version)

    async def _fitting(self, asked: AskedStart, name: str, version: int) -> NewSaga:
        value = await saga_input(asked.input_json, self._input_bytes_max)
        compiled = await self._compiled(name, version)
        if self._retirements is not None:
            await self._retirements.check(name, compiled.definition.version, asked.request_id)
        if self._gate is not None:
            await self._gate.check(name)
        if len(asked.input_json) <= LARGE_BYTES:
            complaints = compiled.check_input(value, asked.labels)
        else:
            complaints = await asyncio.to_thread(compiled.check_input, value, asked.labels)
        if complaints:
            raise Rejected(f"definition {name!r} cannot run with this input", complaints)
        return _new(asked, compiled.definition.version, value)

    @contextmanager
    def _room(self, size_bytes: int) -> Iterator[None]:
        """Room for a large input while it is checked, when it is several times as large. Raises Overloaded."""
        if self._large_bytes + size_bytes > LARGE_BYTES_MAX:
            raise Overloaded(f"large inputs of {self._large_bytes} bytes are checked on this replica already")
        self._large_bytes += size_bytes
        try:
            yield
        finally:
            self._large_bytes -= size_bytes

    async def _compiled(self, name: str, version: int) -> Compiled:
        try:
            return await self._registry.get(name, version) if version else await self._newest.get(name)
        except NotFound as error:
            raise UnknownName("version" if version and await self._known(name) else "definition", str(error)) from None

    async def _known(self, name: str) -> bool:
        try:
            await self._newest.get(name)
        except NotFound:
            return False
        return True


def _new(asked: AskedStart, version: int, value: Json) -> NewSaga:
    return NewSaga(
        definition=asked.definition,
        version=version,
        input_json=orjson.dumps(value).decode(),
        labels_json=orjson.dumps(asked.labels).decode() if asked.labels else "{}",
        request_id=asked.request_id,
        # By the version that was asked for: repeated after a newer version was applied, it is the same request.
        request_hash=request_hash(asked.definition, asked.version, value, asked.labels, asked.start_at),
        start_at=asked.start_at,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    compiled: Compiled
    fresh_until_s: float


class Newest:
    """The newest versions of definitions, read from the log at most once in a while, however many ask."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Future[BatonError | None]] = {}

    async def get(self, name: str) -> Compiled:
        """The newest version. Raises NotFound, LogUnavailable."""
        while True:
            known = self._known.get(name)
            if known is not None and time.monotonic() < known.fresh_until_s:
                return known.compiled
            asking = self._asking.get(name)
            if asking is None:
                return await self._ask(name)
            # Somebody is asking already; whatever comes of it is the answer for all who wait.
            await asyncio.wait((asking,))
            if not asking.cancelled() and (error := asking.result()) is not None:
                raise error

    async def _ask(self, name: str) -> Compiled:
        asking = self._asking[name] = asyncio.get_running_loop().create_future()
        asked_at_s = time.monotonic()
        try:
            compiled = await self._registry.newest(name)
            self._known[name] = _Known(compiled, asked_at_s + NEWEST_FRESH_S)
            asking.set_result(None)
            return compiled
        except BatonError as error:
            self._known.pop(name, None)
            asking.set_result(error)
            raise
        finally:
            # When this caller has gone away, the next one asks.
            asking.cancel()
            del self._asking[name]
