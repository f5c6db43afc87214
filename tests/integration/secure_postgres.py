"""A Postgres that speaks TLS and asks for certificates: the host's, since the embedded one is built without TLS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from orchestrator.embedded.authority import Authority, Certificate
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process, inherited_environment

SOON_S = 60.0
_NOBODY = 65534
# By certificate, whose common name is that of the user; nothing else comes in.
_HBA = "hostssl all all 127.0.0.1/32 cert\n"


def binaries() -> Path | None:
    """The host's Postgres; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextmanager
def secure_postgres(folder: Path, authority: Authority, server: Certificate, user: str) -> Iterator[int]:
    """The port of a server on which `user` owns the database of that name."""
    programs, ports = binaries(), free_ports(1)
    assert programs is not None
    data = folder / "data"
    folder.mkdir(mode=0o711)
    become: tuple[str, ...] = ()
    if os.geteuid() == 0:
        become = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
        os.chown(folder, _NOBODY, _NOBODY)
        # Folders above belong to root alone.
        for parent in folder.parents[:3]:
            if parent.stat().st_uid == 0 and parent != Path("/tmp"):
                parent.chmod(0o711)
    environment = inherited_environment("PG")

    def run(name: str, *arguments: str) -> Process:
        return Process(name, [*become, str(programs / name), *arguments], environment, folder.parent / f"{name}.log")

    run("initdb", f"--pgdata={data}", f"--username={user}", "--auth=trust", "--no-sync").run(SOON_S)
    for source, name in ((server.cert_file, "server.crt"), (server.key_file, "server.key"), (authority.ca_file, "ca")):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        if become:
            os.chown(data / name, _NOBODY, _NOBODY)
    (data / "pg_hba.conf").write_text(_HBA)
    options = ["ssl=on", "ssl_ca_file=ca", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
    process = run(
        "postgres", "-D", str(data), "-p", str(ports[0]), *(part for each in options for part in ("-c", each))
    )
    process.start()
    try:
        process.wait_until(lambda: _listens(ports[0]), "does not listen", SOON_S)
        yield ports[0]
    finally:
        process.kill()
        process.wait(SOON_S)
        release_ports(ports)


def _listens(port: int) -> bool:
    try:
        psycopg.connect(
            f"host=127.0.0.1 port={port} sslmode=disable connect_timeout=2 user=nobody dbname=nobody"
        ).close()
    except psycopg.OperationalError as error:
        # Refused by name, not by a port that nobody listens on.
        return "pg_hba.conf" in str(error)
    return True
