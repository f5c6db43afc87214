"""What the client commands print: tables and lines for people, JSON for programs, complaints on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.text import Text

from orchestrator.pb.baton.v1 import cluster_pb2, saga_pb2

_COLOURS = {
    "PENDING": "cyan",
    "RUNNING": "blue",
    "COMPENSATING": "yellow",
    "COMPLETED": "green",
    "COMPENSATED": "magenta",
    "FAILED": "bold red",
}


def console() -> Console:
    """Standard output. Lines are never broken or cut: the terminal wraps them, and a pipe gets them whole."""
    return Console(highlight=False, soft_wrap=True)


def complain(*lines: str) -> None:
    """Print an error to standard error, its first line marked as one."""
    terminal = Console(stderr=True, highlight=False, soft_wrap=True)
    for number, line in enumerate(lines):
        terminal.print(Text.assemble(("error: ", "bold red"), line) if number == 0 else Text(f"  {line}"))


def warn(*lines: str) -> None:
    """Print warnings to standard error, each marked as one."""
    terminal = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in lines:
        terminal.print(Text.assemble(("warning: ", "bold yellow"), line))


def print_json(value: Any) -> None:
    """One JSON document; of a stream, one a line."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def state_name(state: int) -> str:
    """A saga's state without the prefix that protobuf wants."""
    try:
        return saga_pb2.SagaState.Name(state).removeprefix("SAGA_STATE_")
    except ValueError:
        return str(state)


def coloured(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=_COLOURS.get(name, ""))


def when(at: Timestamp) -> str:
    """A time of the log in local time, to the millisecond; nothing when it is not set."""
    if not at.seconds:
        return ""
    return at.ToDatetime(tzinfo=UTC).astimezone().isoformat(sep=" ", timespec="milliseconds")


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A plain table, as wide as its cells."""
    _print_aligned(
        [[Text(column, style="bold") for column in columns], *([_text(cell) for cell in row] for row in rows)]
    )


def fields(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Names and values, one pair a line; empty values are left out."""
    _print_aligned([[Text(name, style="bold"), _text(value)] for name, value in pairs if value])


def _print_aligned(rows: Sequence[Sequence[Text]]) -> None:
    """Columns of one width, without blanks at the ends of lines, which would wrap in a narrow terminal."""
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    terminal = console()
    for row in rows:
        line = Text("  ").join(
            [*(_padded(cell, width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]
        )
        line.rstrip()
        terminal.print(line)


def _padded(cell: Text, width: int) -> Text:
    return Text.assemble(cell, " " * (width - cell.cell_len))


def _text(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(cell)


def saga_json(saga: saga_pb2.Saga) -> dict[str, Any]:
    """A saga for programs."""
    return {
        "saga_id": saga.saga_id,
        "definition": saga.definition,
        "version": saga.version,
        "state": state_name(saga.state),
        "current_step": saga.current_step or None,
        "input": _parsed(saga.input_json),
        "result": _parsed(saga.result_json),
        "error": _error(saga.error) if saga.HasField("error") else None,
        "labels": dict(saga.labels),
        "request_id": saga.request_id,
        "cancel_reason": saga.cancel_reason or None,
        "steps_executed": list(saga.steps_executed),
        "steps_compensated": list(saga.steps_compensated),
        "next_run_at": iso(saga.next_run_at),
        "created_at": iso(saga.created_at),
        "updated_at": iso(saga.updated_at),
        "finished_at": iso(saga.finished_at),
    }


def transition_json(transition: saga_pb2.Transition) -> dict[str, Any]:
    """A transition for programs."""
    return {
        "sequence": transition.sequence,
        "at": iso(transition.at),
        "step": transition.step or None,
        "position": transition.position,
        "status": transition.status,
        "attempt": transition.attempt,
        "state": state_name(transition.state),
        "epoch": transition.epoch,
        "result": _parsed(transition.result_json),
        "error": _error(transition.error) if transition.HasField("error") else None,
        "ordered": _ordered(transition.ordered) if transition.HasField("ordered") else None,
    }


def replica_json(replica: cluster_pb2.Replica) -> dict[str, Any]:
    """A replica for programs."""
    return {field.name: getattr(replica, field.name) for field in replica.DESCRIPTOR.fields}


def error_text(error: saga_pb2.SagaError) -> str:
    """An error in one line."""
    where = f"{error.step}: " if error.step else ""
    return where + (f"{error.code} {error.message}".strip())


def order_text(order: saga_pb2.OrderedBy) -> str:
    """Who ordered something and why, in one line."""
    evidence = f" ({order.evidence})" if order.evidence else ""
    return f"by {order.by}{': ' if order.reason else ''}{order.reason}{evidence}"


def _ordered(order: saga_pb2.OrderedBy) -> dict[str, str]:
    return {"by": order.by, "reason": order.reason, "evidence": order.evidence}


def _error(error: saga_pb2.SagaError) -> dict[str, str]:
    return {"step": error.step, "code": error.code, "message": error.message}


def _parsed(text: str) -> Any:
    return orjson.loads(text) if text else None


def iso(at: Timestamp) -> str | None:
    """A time for programs, in UTC; None when it is not set."""
    return at.ToDatetime(tzinfo=UTC).isoformat() if at.seconds else None


def local_time(text: str) -> datetime:
    """A time that a person gave: ISO 8601, local unless it says otherwise. Raises ValueError."""
    return datetime.fromisoformat(text).astimezone()
