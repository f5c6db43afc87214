"""The vital signs of processes: memory, open files, sockets, threads and tasks, read from /proc and from /metrics.

What grows without an end shows in them long before anything breaks. A process that was killed and started again is
another incarnation: a sample names the pid, so that nobody mistakes a fresh process for one that gave memory back.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.loopback import http_get
from orchestrator.embedded.processes import descendants

_SCRAPE_DEADLINE_S = 1.0
_TASKS = re.compile(r"^baton_tasks (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample of one process. `tasks` is None where the process does not say.

    `at_s` counts from the beginning of the run. `private_bytes` is the memory that the process shares with nobody:
    the backends of Postgres share most of theirs. `processes` counts the process and its descendants, which all
    other numbers include.
    """

    name: str
    pid: int
    at_s: float
    private_bytes: int
    files: int
    sockets: int
    threads: int
    processes: int
    tasks: int | None = None

    def measured(self) -> Mapping[str, int]:
        """Every number that should stay flat, by its name."""
        numbers = {
            "private_bytes": self.private_bytes,
            "files": self.files,
            "sockets": self.sockets,
            "threads": self.threads,
            "processes": self.processes,
        }
        return numbers if self.tasks is None else {**numbers, "tasks": self.tasks}


def subjects(cluster: Cluster) -> dict[str, tuple[int, str | None]]:
    """The pid of every server of the cluster that runs, and the address of its /metrics if it has one; by name."""
    found: dict[str, tuple[int, str | None]] = {}
    for replica in cluster.replicas:
        if replica.alive and not replica.suspended:
            found[replica.name] = (replica.pid, replica.http_address)
    for participant in cluster.participants.values():
        if participant.alive:
            found[participant.name] = (participant.pid, None)
    for member in cluster.etcd.members:
        if member.alive and not member.suspended:
            found[member.name] = (member.pid, None)
    if cluster.postgres.alive and not cluster.postgres.suspended:
        found["postgres"] = (cluster.postgres.pid, None)
    return found


async def examine(servers: Mapping[str, tuple[int, str | None]], at_s: float) -> list[Vitals]:
    """One sample of each of these servers, at this second of the run; those that have just ended are left out."""
    return await asyncio.to_thread(_examine, servers, at_s)


def _examine(servers: Mapping[str, tuple[int, str | None]], at_s: float) -> list[Vitals]:
    samples = []
    for name, (pid, http_address) in servers.items():
        tasks = None if http_address is None else _tasks(http_address)
        try:
            samples.append(_sample(name, pid, [pid, *descendants(pid)], at_s, tasks))
        except OSError:
            # It has ended between the listing and the look.
            continue
    return samples


def _sample(name: str, pid: int, family: list[int], at_s: float, tasks: int | None) -> Vitals:
    sockets = files = threads = private = 0
    for member in family:
        links = _links(member)
        files += len(links)
        sockets += sum(link.startswith("socket:") for link in links)
        threads += len(os.listdir(f"/proc/{member}/task"))
        private += _private_bytes(member)
    return Vitals(name, pid, at_s, private, files, sockets, threads, len(family), tasks)


def _links(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    links = []
    for entry in os.listdir(folder):
        try:
            links.append(os.readlink(f"{folder}/{entry}"))
        except FileNotFoundError:
            continue  # closed since it was listed
    return links


def _private_bytes(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Private_"))


def _tasks(http_address: str) -> int | None:
    answer = http_get(f"http://{http_address}/metrics", _SCRAPE_DEADLINE_S)
    found = None if answer is None else _TASKS.search(answer.decode())
    return None if found is None else int(float(found.group(1)))
