"""Holds new starts of definitions whose latest sagas had to be undone too often, and tells an operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from orchestrator.errors import NotFound, Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.holding import starts_held, turned_back
from orchestrator.sagalog.port import TermLog
from orchestrator.sagalog.upkeep_port import HoldLog

log = structlog.get_logger()


class Named(Protocol):
    """A version of a definition, by its name."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...


# All versions by name, the newest first; and what a version says. Both raise LogUnavailable.
ListDefinitions = Callable[[], Awaitable[Sequence[Named]]]
ReadDefinition = Callable[[str, int], Awaitable[Definition]]


class Holding:
    """Looks at what has ended, by the newest version of each definition."""

    def __init__(self, hold_log: HoldLog, listed: ListDefinitions, read: ReadDefinition) -> None:
        self._log = hold_log
        self._listed = listed
        self._read = read

    async def look(self, term: TermLog) -> None:
        """Hold the starts of every definition that deserves it. Raises Fenced, LogUnavailable."""
        newest: dict[str, int] = {}
        for listed in await self._listed():
            newest[listed.name] = max(listed.version, newest.get(listed.name, 0))
        for name, version in newest.items():
            try:
                definition = await self._read(name, version)
            except (NotFound, Rejected):
                continue  # It cannot be used, which the replica has said; nor can it be started.
            await self._judge(definition, term)

    async def _judge(self, definition: Definition, term: TermLog) -> None:
        policy = definition.hold_starts
        if policy is None:
            return
        ended = await self._log.lately_ended(definition.name, policy.of_last)
        if ended.held or not starts_held(policy, ended.states):
            return
        undone = turned_back(ended.states)
        until = await self._log.hold_starts(definition.name, policy, ended, undone, term.epoch)
        if until is not None:
            log.error(
                "starts_held",
                definition=definition.name,
                turned_back=undone,
                of_last=policy.of_last,
                until=until.isoformat(),
                release=f"baton definition release {definition.name} --reason ...",
                epoch=term.epoch,
            )
