"""`baton audit`: what operators have done."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.pb.baton.v1 import audit_pb2

_TIMEOUT_S = 30.0


def audit(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 50,
    caller: Annotated[str, typer.Option(help="Of this caller alone.")] = "",
    action: Annotated[str, typer.Option(help="This action alone, such as ClusterService/StepDown.")] = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List what operators have done, and what others have tried: who, what, when, and how it ended."""
    entries = call(endpoint, _TIMEOUT_S, lambda client: client.list_audit(limit, caller=caller, action=action))
    if as_json:
        output.print_json([_json(entry) for entry in entries])
        return
    rows = (
        (output.when(e.at), e.caller, e.action, " ".join(f"{k}={v}" for k, v in sorted(e.target.items())), e.outcome)
        for e in entries
    )
    output.table(("WHEN", "WHO", "WHAT", "ON", "OUTCOME"), rows)


def _json(entry: audit_pb2.AuditEntry) -> dict[str, object]:
    return {
        "at": output.iso(entry.at),
        "replica_id": entry.replica_id,
        "caller": entry.caller,
        "recognized_by": entry.recognized_by,
        "peer": entry.peer,
        "action": entry.action,
        "target": dict(entry.target),
        "outcome": entry.outcome,
        "message": entry.message,
    }
