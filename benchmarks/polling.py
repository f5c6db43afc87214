"""What a leader looks for again and again, explained by Postgres: by which index, and how many blocks it touches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.numeric import Int4, Int8

from orchestrator.sagalog.pool import PLANS
from orchestrator.sagalog.postgres import READER_PLANS
from orchestrator.sagalog.queries import load

_SCOPE = {"shard": Int4(0), "epoch": Int8(2**62)}
_ALL = UUID(int=0)
# What is read on connections of the pool: the statements of these files, or these alone.
_POOLED = ("reader.sql", "signals.sql", "holds.sql", "finished", "lately_ended")
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_PARAMETER = re.compile(r"%\((\w+)\)[sb]")

# Every statement that is repeated while nothing happens, with the parameters that its first page has.
POLLED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("term.sql", "prove", {}),
    ("term.sql", "cancellations", {}),
    ("term.sql", "signals", {"after": Int8(0), "page": 500}),
    ("term.sql", "next_due", {}),
    ("term.sql", "due", {"after_s": 0.0, "after": _ALL, "page": 500}),
    ("term.sql", "pending", {"limit": 500, "exclude": []}),
    # These three once, at the beginning of a term.
    ("term.sql", "unfinished_compensating", {"after": _ALL, "page": 500}),
    ("term.sql", "unfinished_running", {"after": _ALL, "page": 500}),
    ("term.sql", "unfinished_unknown", {"after": _ALL, "page": 500}),
    ("upkeep.sql", "fold_tally", {"rows": 1000}),
    (
        "upkeep.sql",
        "finished",
        {
            "after_s": 3600.0,
            "behind_at": _LONG_AGO,
            "behind": _ALL,
            "until_at": datetime(9999, 1, 1, tzinfo=UTC),
            "until": _ALL,
            "rows": 200,
        },
    ),
    ("upkeep.sql", "lately_ended", {"definition": "benchmark", "rows": 20}),
    ("strain.sql", "backlog", {"most": 100_001}),
    ("reader.sql", "counts", {"definition": None, "states": None}),
    ("reader.sql", "oldest", {}),
    ("holds.sql", "start_holds", {}),
    # Whenever somebody looks at what waits for an approval: the first page.
    ("signals.sql", "asked", {"definitions": ["benchmark"], "after_at": _LONG_AGO, "after": _ALL, "page": 100}),
)


@dataclass(frozen=True)
class Plan:
    """How a statement was executed: its nodes, and the blocks that it read, cached or not."""

    name: str
    nodes: tuple[dict[str, Any], ...]
    blocks: int

    @property
    def scans(self) -> str:
        """What is read of the sagas and signals, and how."""
        read = [node for node in self.nodes if node.get("Relation Name") in ("saga", "signal")]
        return ", ".join(f"{node['Node Type']} {node.get('Index Name', node['Relation Name'])}" for node in read)


def explained(connection: psycopg.Connection, *, generic: bool) -> Iterator[Plan]:
    """Execute every polled statement and say how, with the plans that each has where it runs.

    The reads of a term are on a connection of their own; for the others `generic` asks for the plan that a prepared
    statement may keep.
    """
    for file, name, parameters in POLLED:
        yield plan_of(connection, file, name, parameters, generic=generic)


def plan_of(connection: psycopg.Connection, file: str, name: str, parameters: dict[str, Any], *, generic: bool) -> Plan:
    """Execute one statement and say how."""
    rows = _explain(connection, file, name, parameters, "FORMAT JSON", generic=generic)
    root = rows[0][0][0]["Plan"]
    blocks = int(root["Shared Hit Blocks"]) + int(root["Shared Read Blocks"])
    return Plan(f"{file.removesuffix('.sql')}.{name}", tuple(_walk(root)), blocks)


def text_of(connection: psycopg.Connection, name: str) -> str:
    """The plan of one polled statement, to be read."""
    file, query, parameters = next(one for one in POLLED if one[1] == name)
    rows = _explain(connection, file, query, parameters, "COSTS OFF, TIMING OFF, SUMMARY OFF", generic=True)
    return "\n".join(row[0] for row in rows)


def _explain(
    connection: psycopg.Connection, file: str, name: str, parameters: dict[str, Any], options: str, *, generic: bool
) -> list[tuple[Any, ...]]:
    """Prepared, since that alone has a plan that does not know its parameters; and nothing that it writes stays."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    text = _PARAMETER.sub(numbered, load(file)[name].text.decode()).rstrip("; \n")
    values = [sql.Literal({**_SCOPE, **parameters}[name]) for name in names]
    explain = sql.SQL(f"EXPLAIN (ANALYZE, BUFFERS, {options}) EXECUTE polled({{}})").format(sql.SQL(", ").join(values))
    with connection.transaction(force_rollback=True):
        if file == "term.sql":
            connection.execute(READER_PLANS.encode())
        else:
            connection.execute(
                PLANS.encode() if {file, name} & set(_POOLED) else b"SET plan_cache_mode = force_custom_plan"
            )
            if generic:
                connection.execute(b"SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE polled AS {text}".encode())
        try:
            # Once before, so that what the planner reads of the catalogue is not counted.
            connection.execute(explain)
            return connection.execute(explain).fetchall()
        finally:
            connection.execute(b"DEALLOCATE polled")


def _walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)
