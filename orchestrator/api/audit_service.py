"""baton.v1.AuditService: what operators have done."""

from __future__ import annotations

from uuid import UUID

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, answered
from orchestrator.api.port import Audits
from orchestrator.pb.baton.v1 import audit_pb2, audit_pb2_grpc
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.audit_log import Entry
from orchestrator.security.audit import Action

_FILTER_CHARS_MAX = 300


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Serves the API."""

    def __init__(self, audits: Audits) -> None:
        self._audits = audits

    @answered
    async def ListAuditEntries(
        self, request: audit_pb2.ListAuditEntriesRequest, context: Context
    ) -> audit_pb2.ListAuditEntriesResponse:
        """A page, newest first."""
        for field in ("caller", "action"):
            if len(text := getattr(request, field)) > _FILTER_CHARS_MAX or "\x00" in text:
                raise checks.rejected(field, f"has at most {_FILTER_CHARS_MAX} characters, and none of them NUL")
        size = checks.page_size(request.page_size)
        filters = f"{request.caller}\x00{request.action}".encode()
        before = checks.page_start(request.page_token, filters)
        found = await self._audits.entries(before, size + 1, request.caller, request.action)
        page = found[:size]
        more = len(page) < len(found)
        return audit_pb2.ListAuditEntriesResponse(
            entries=[_entry(entry) for entry in page],
            next_page_token=checks.page_token(filters, SagaId(page[-1].id)) if more else "",
        )


class NoAudits:
    """Keeps nothing: for an API without a log."""

    def record(self, action: Action) -> None:
        """Forget it."""

    async def entries(self, before: UUID | None, rows: int, caller: str = "", action: str = "") -> list[Entry]:
        """There are none."""
        return []


def _entry(entry: Entry) -> audit_pb2.AuditEntry:
    done = entry.action
    return audit_pb2.AuditEntry(
        at=conversion.timestamp(done.at),
        replica_id=entry.replica,
        caller=done.caller,
        recognized_by=done.recognized_by,
        peer=done.peer,
        action=done.action,
        target=done.target,
        outcome=done.outcome,
        message=done.message,
    )
