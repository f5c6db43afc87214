"""What the API needs of the rest of a replica, as protocols: the log, the definitions, and who leads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from orchestrator.driving.registry import Compiled
from orchestrator.leadership.port import Member
from orchestrator.leadership.victory import View
from orchestrator.saga.definition import Definition
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.audit_log import Entry
from orchestrator.sagalog.port import StoredDefinition
from orchestrator.sagalog.records import (
    Fence,
    Found,
    ListedDefinition,
    News,
    NewSaga,
    Retirement,
    SagaFilter,
    SagaRecord,
    Started,
    TransitionRecord,
)
from orchestrator.security.audit import Action


class Intake(Protocol):
    """Stores new sagas."""

    def submit(self, new: NewSaga) -> asyncio.Future[Started]:
        """Queue a saga for the next commit. Raises Overloaded.

        The future has the saga once it is durable, or Conflict, Rejected, LogUnavailable.
        """


class SagaReader(Protocol):
    """Reads sagas, every read bounded. All methods raise LogUnavailable, and Overloaded when too many wait."""

    async def saga(self, saga_id: SagaId) -> SagaRecord | None:
        """One saga; None when there is none of this id."""

    async def history(self, saga: SagaRecord, after: int, rows: int, bytes_max: int) -> list[TransitionRecord]:
        """The transitions behind sequence `after`, at most `rows`, and `bytes_max` of results, but at least one."""

    async def find(self, wanted: SagaFilter, before: SagaId | None, page: int) -> list[SagaRecord]:
        """At most `page` sagas, newest first, behind the saga `before`."""

    async def search(self, wanted: SagaFilter, before: SagaId | None, page: int) -> Found:
        """At most `page` sagas that a filter searches for, and how far the search came. Raises Rejected."""

    async def counts(self, definition: str = "", states: Sequence[str] = ()) -> dict[tuple[str, str], int]:
        """Sagas by definition and state, exactly."""

    async def news(self, known: Mapping[SagaId, int], rows: int) -> list[News]:
        """What has happened to the sagas behind the sequences given, and which of them are terminal."""

    async def ended(self, sagas: Sequence[SagaId]) -> list[SagaId]:
        """Those of the sagas that are terminal."""

    async def parked(self, definition: str, page: int) -> list[SagaRecord]:
        """At most `page` parked sagas, the longest first."""

    async def child(self, parent: SagaId, step: str) -> SagaId | None:
        """The child saga of a step; None when it was never begun."""

    async def started_as(self, request_id: str, request_hash: bytes) -> Started | None:
        """The saga that a start with this request id and body has made."""

    async def request_cancel(self, saga_id: SagaId, reason: str) -> bool:
        """Leave a note for the leader that the saga is to be undone."""

    async def fence(self) -> Fence | None:
        """Who leads the shard by the saga log."""


class Registry(Protocol):
    """Definitions, compiled."""

    async def get(self, name: str, version: int) -> Compiled:
        """One version. Raises NotFound, LogUnavailable."""

    async def newest(self, name: str) -> Compiled:
        """The newest version. Raises NotFound, LogUnavailable."""

    async def apply(self, yaml: str, descriptor_set: bytes = b"") -> tuple[StoredDefinition, bool]:
        """Check a definition and store it. Raises Rejected, Retryable."""

    async def check(self, yaml: str, descriptor_set: bytes = b"") -> tuple[Definition, bytes]:
        """Check a definition as `apply` does, and store nothing. Raises Rejected, Retryable."""


class Definitions(Protocol):
    """The stored versions of definitions. All methods raise LogUnavailable."""

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        """One version; 0 is the newest."""

    async def list_definitions(self) -> list[ListedDefinition]:
        """All versions by name, the newest first."""

    async def retirements(self) -> list[Retirement]:
        """Which definitions and versions are retired."""

    async def retire(self, name: str, version: int, reason: str, by: str) -> tuple[Retirement, bool]:
        """Retire a version, or with 0 every version; returns what is in force and whether it was so before."""

    async def started(self, request_id: str) -> bool:
        """Whether a request id has started a saga already."""

    async def reinstate(self, name: str, version: int) -> bool:
        """Take a retirement back; False when there is none."""


class Audits(Protocol):
    """What operators have done."""

    def record(self, action: Action) -> None:
        """Note an action, from any thread."""

    async def entries(self, before: UUID | None, rows: int, caller: str = "", action: str = "") -> list[Entry]:
        """The newest entries first, older than `before`. Raises LogUnavailable, Overloaded."""


class Leadership(Protocol):
    """Who leads, as far as this replica knows."""

    @property
    def view(self) -> View:
        """The holder of the leader's key, and this replica's own part."""

    def members(self) -> tuple[Member, ...]:
        """The replicas whose leases live."""

    async def resign(self, reason: str, cooldown_s: float) -> bool:
        """Give leadership up; False if this replica does not lead. Returns when the term has ended."""
