"""The stack of docker-compose.yml on a real engine: up, watch, kill, ask, down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compose.base_images import Unable, exists

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "baton-trial"
REPLICAS = ("replica-1", "replica-2", "replica-3")
# Where each replica's API is published on this machine.
ENDPOINTS = {name: f"127.0.0.1:{7400 + number}" for number, name in enumerate(REPLICAS, start=1)}
GRAFANA = "http://127.0.0.1:3000"
# On a machine that is busy an answer of the engine may take minutes: compose's own limit is one.
_HTTP_TIMEOUT_S = 600
_COMMAND_TIMEOUT_S = _HTTP_TIMEOUT_S + 60.0
# How long containers that are taken down get to end.
_STOP_S = 20
# Begins the command of a crash; the engine's event of it holds this.
CRASH = "kill -9"
GRAFANA_IMAGE = "grafana/grafana:12.2.0"
PROMETHEUS = "http://127.0.0.1:9090"


class Failed(Exception):
    """The stack does not do what it should; says what, and what was seen instead."""


class Stack:
    """One run of the stack, under a project name of its own. `services` are all but what there is no image of."""

    def __init__(self, builder_image: str) -> None:
        """Raises Unable where no container engine or no compose answers."""
        self._compose = _compose_command()
        self._environment = os.environ | {
            "BUILDER_IMAGE": builder_image,
            "BATON_IMAGE": "baton-trial/baton:0.1.0",
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_DOCKER_CLI_BUILD": "0",
            "COMPOSE_HTTP_TIMEOUT": str(_HTTP_TIMEOUT_S),
            "DOCKER_CLIENT_TIMEOUT": str(_HTTP_TIMEOUT_S),
        }
        left_out = [] if exists(GRAFANA_IMAGE) else ["grafana"]
        self.services = tuple(name for name in self.run("config", "--services").split() if name not in left_out)

    def run(self, *arguments: str, timeout_s: float = _COMMAND_TIMEOUT_S) -> str:
        """Run compose and return its output. Raises Failed."""
        command = [*self._compose, "--project-name", PROJECT, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=timeout_s
        )
        if done.returncode != 0:
            raise Failed(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def build(self) -> None:
        """Make Baton's image."""
        self.run("build", "password", timeout_s=1800)

    def up(self) -> None:
        """Start everything."""
        self.run("up", "--detach", *self.services)

    def remove(self) -> None:
        """End everything; its volumes stay."""
        self.run("down", "--timeout", str(_STOP_S))

    def forget(self) -> None:
        """End everything and forget its data."""
        self.run("down", "--timeout", str(_STOP_S), "--volumes", "--remove-orphans")

    def state(self, service: str) -> dict[str, Any]:
        """What the engine knows of the state of a service's container."""
        container = self.container(service)
        if not container:
            return {"Status": "missing"}
        inspected = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        document = json.loads(inspected.stdout)[0]
        state: dict[str, Any] = document["State"] | {"RestartCount": document["RestartCount"]}
        return state

    def is_healthy(self, service: str) -> bool:
        """Whether its health check passes; for a job, whether it is done."""
        state = self.state(service)
        if "Health" in state:
            return bool(state["Health"]["Status"] == "healthy")
        return bool(state["Status"] == "exited" and state["ExitCode"] == 0)

    def crash(self, service: str) -> None:
        """Kill the process of a service from within its container, as a crash or the kernel's OOM killer would."""
        # Process 1 is the container's init; it ends when its only child does, and the restart policy takes over.
        self.run("exec", "-T", service, "sh", "-c", f"{CRASH} $(cat /proc/1/task/1/children)")

    def container(self, service: str) -> str:
        """The id of a service's container; empty if there is none."""
        return self.run("ps", "--all", "--quiet", service).strip()

    def event_at_s(self, service: str, text: str, since_s: float) -> float:
        """When the engine first saw an event of a container that holds this text, in Unix time. Raises Failed."""
        command = ["docker", "events", f"--since={since_s:.3f}", f"--until={time.time():.3f}"]
        command += [f"--filter=container={self.container(service)}", "--format={{.TimeNano}} {{.Action}}"]
        seen = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        for event in seen:
            nanoseconds, _, action = event.partition(" ")
            if text in action:
                return int(nanoseconds) / 1e9
        raise Failed(f"the engine saw no `{text}` of {service}: {seen}")

    def sql(self, database: str, statement: str) -> list[str]:
        """The rows that Postgres answers, as psql writes them."""
        psql = ["psql", "--username=baton", f"--dbname={database}", "-At", "-c", statement]
        return self.run("exec", "-T", "postgres", *psql).splitlines()

    def logs(self) -> str:
        """The last lines that every service logged; what stood in the way of reading them, if something did."""
        try:
            return self.run("logs", "--no-color", "--tail=40")
        except (Failed, OSError, subprocess.SubprocessError) as error:
            return f"(the logs cannot be read: {error})"


def prometheus(query: str) -> list[tuple[dict[str, str], float]]:
    """What Prometheus answers to an instant query: labels and value. Raises Failed, OSError."""
    result = ask(f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': query})}")["data"]["result"]
    return [(item["metric"], float(item["value"][1])) for item in result]


def ask(url: str) -> dict[str, Any]:
    """The JSON document that a URL answers. Raises OSError."""
    with urllib.request.urlopen(url, timeout=15) as response:
        document: dict[str, Any] = json.load(response)
    return document


def wait_until(what: str, ask: Callable[[], object], within_s: float, every_s: float = 0.25) -> float:
    """Ask until the answer is true; return the seconds that it took. Raises Failed after `within_s`."""
    begun = time.monotonic()
    answer: object = None
    while time.monotonic() - begun < within_s:
        try:
            answer = ask()
        except OSError as error:
            answer = error
        if answer and not isinstance(answer, OSError):
            return time.monotonic() - begun
        time.sleep(every_s)
    raise Failed(f"{what}: not within {within_s:.0f} s (last answer: {answer!r})")


def _compose_command() -> list[str]:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    raise Unable("neither `docker compose` nor `docker-compose` is here")
