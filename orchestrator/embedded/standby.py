"""Two Postgres servers on this machine: a primary and a standby that follows it and can be promoted in its place.

What a failover tool does for a pair in production, is done here by hand: `promote` makes the standby the primary,
`rejoin` makes the former primary its standby. Clients name both in one URL and look for the one that takes writes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import ProcessFailed, descendants
from orchestrator.embedded.within import Within

_READY_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 30
_ASK_INTERVAL_S = 0.01

# Over the settings of a single server. A standby that was away for long is copied anew: no slot is kept for it.
_SETTINGS = {"wal_keep_size": "256MB"}

_FOLLOWED: LiteralString = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
_FOLLOWED_IN_SYNC: LiteralString = f"{_FOLLOWED} AND sync_state IN ('sync', 'quorum')"


class PostgresPair(Within):
    """A primary and its streaming standby below `data_dir`; a context manager that makes, starts and stops both.

    With `synchronous` a commit is acknowledged when the standby has it on disk as well; without, the standby may lag.
    All methods block, at the most for the half minute after which they raise ProcessFailed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        synchronous: bool = True,
        settings: Mapping[str, str] | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.synchronous = synchronous
        self.servers = tuple(
            Postgres(
                data_dir / name,
                settings={**_SETTINGS, **(settings or {})},
                log_dir=(log_dir or data_dir) / f"postgres-{name}",
            )
            for name in ("a", "b")
        )
        self.primary, self.standby = self.servers
        self._held_back: set[int] = set()

    def dsn(self, database: str = "postgres") -> str:
        """The libpq URL of `database` on whichever of both servers takes writes, for the superuser."""
        first, second = (server.dsn(database) for server in self.servers)
        host = second.rpartition("@")[2].partition("/")[0]
        return first.replace(f":{self.servers[0].port}/", f":{self.servers[0].port},{host}/", 1) + (
            "?target_session_attrs=read-write"
        )

    def start(self) -> None:
        """Start both, the standby as a new copy if there is none, and wait until it follows."""
        if self.servers[0].follows:
            self.primary, self.standby = self.servers[1], self.servers[0]
        self.primary.start()
        self.rejoin()

    def create_database(self, name: str) -> str:
        """Make an empty database unless it is there already; returns its DSN."""
        self.primary.create_database(name)
        return self.dsn(name)

    def promote(self) -> None:
        """Make the standby the primary, and wait until it takes writes.

        It waits for no standby until one has joined it. The former primary is left as it is: end it, or turn it
        read-only, first.
        """
        self._configure(self.standby, "synchronous_standby_names", "")
        if self._ask(self.standby, "SELECT pg_promote(true, 30)") is not True:
            raise self.standby.failed("was not promoted within 30 s")
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """Start the server that is not the primary as its standby, copied anew, and wait until it follows.

        What it had committed and never sent is thrown away with its data: nobody was told of it, if `synchronous`.
        """
        if self.standby.alive:
            self.standby.shut_down("immediate")
        self.standby.become_standby_of(self.primary)
        self.standby.start()
        self._wait(lambda: self._ask(self.primary, _FOLLOWED) == 1, "is not followed by its standby")
        if self.synchronous:
            self._configure(self.primary, "synchronous_standby_names", "*")
            self._wait(lambda: self._ask(self.primary, _FOLLOWED_IN_SYNC) == 1, "has no synchronous standby")

    def turn_read_only(self) -> None:
        """Have the primary take no more writes, with its connections open, as before a planned switch.

        What was being committed is at the standby when this returns.
        """
        self._configure(self.primary, "default_transaction_read_only", "on")
        position = self._ask(self.primary, "SELECT pg_current_wal_flush_lsn()::text")
        reached: LiteralString = "SELECT coalesce(pg_last_wal_receive_lsn() >= %s::pg_lsn, false)"
        self._wait(lambda: self._ask(self.standby, reached, position) is True, "has a standby that does not catch up")

    def hold_back(self) -> None:
        """Freeze what sends the primary's log to the standby: from now on the standby lags, or commits wait for it."""
        for pid in descendants(self.primary.pid):
            # Backends come and go while we look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"walsender" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGSTOP)
                    self._held_back.add(pid)
        if not self._held_back:
            raise self.primary.failed("has no process that sends its log: no standby follows it")

    def let_go(self) -> None:
        """Let the standby catch up again."""
        for pid in self._held_back:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._held_back.clear()

    def stop(self) -> None:
        """End both for good. Does not raise if they have ended already."""
        self.let_go()
        for server in (self.primary, self.standby):
            # The primary first: it sends its standby the last of its log before it ends.
            server.stop()

    def _configure(self, server: Postgres, name: LiteralString, value: LiteralString) -> None:
        with self._connected(server) as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
            # The server's processes take note one after the other.
            shown: LiteralString = "SELECT setting FROM pg_settings WHERE name = %s"
            self._wait(lambda: _first(connection, shown, name) == value, f"does not take {name} = '{value}'")

    def _ask(self, server: Postgres, query: LiteralString, *parameters: object) -> Any:
        with self._connected(server) as connection:
            return _first(connection, query, *parameters)

    def _connected(self, server: Postgres) -> psycopg.Connection:
        return psycopg.connect(server.dsn(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)

    def _wait(self, true: Callable[[], bool], complaint: str) -> None:
        give_up_at_s = time.monotonic() + _READY_TIMEOUT_S
        while not true():
            if time.monotonic() > give_up_at_s:
                raise self.primary.failed(f"{complaint} after {_READY_TIMEOUT_S:g} s")
            time.sleep(_ASK_INTERVAL_S)


def _first(connection: psycopg.Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    if row is None:
        raise ProcessFailed(f"Postgres answers nothing to {query}")
    return row[0]
