"""Tries docker-compose.yml on a real engine: up, sagas from outside, leaders killed under load, Prometheus, down.

    python3 run.py setup && .venv/bin/python -m tests.compose.try_compose [--keep]

Where the base images are not here it makes stand-ins (see base_images.py; that needs root and debootstrap). It needs
the ports 7401-7403, 7481-7483 and 9090 of 127.0.0.1, leaves nothing running unless told to (--keep), and prints SKIPPED
where there is no container engine. Exit status 0: everything held, or skipped; 1: something did not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from functools import partial

from orchestrator.pb.baton.v1 import saga_pb2
from tests.compose.base_images import Unable, make_missing
from tests.compose.builder_image import make_builder
from tests.compose.client import Client, Load, order
from tests.compose.stack import ENDPOINTS, REPLICAS, Failed, Stack, prometheus, wait_until

SHOP = ("inventory", "payment", "orders", "shipping")
SERVICES = ("etcd-1", "etcd-2", "etcd-3", "postgres", "migrate", *SHOP, *REPLICAS, "prometheus")
_LOAD_S = 3.0


def main() -> int:
    """Run the trial; returns the exit status."""
    parser = argparse.ArgumentParser(description="Try docker-compose.yml on a real engine.")
    parser.add_argument("--keep", action="store_true", help="leave the stack running")
    keep = parser.parse_args().keep
    try:
        Stack("")
        make_missing()
        stack = Stack(make_builder())
    except Unable as reason:
        print(f"SKIPPED: {reason}")
        return 0
    client = Client(list(ENDPOINTS.values()))
    try:
        _trial(stack, client)
    except (Failed, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        print(stack.logs(), file=sys.stderr)
        return 1
    finally:
        client.close()
        if not keep:
            _timed("down", stack.down)
    print("PASSED")
    return 0


def _trial(stack: Stack, client: Client) -> None:
    stack.down()  # what a trial that was killed left
    _timed("image built", stack.build)
    _timed("up", stack.up)
    _wait_healthy(stack)
    _say("all healthy")
    _leader_other_than(client, "", 0)
    took_s = wait_until("definitions applied from the folder", client.has_definition, within_s=30)
    _say("definitions applied from the folder", took_s)
    for number, (name, endpoint) in enumerate(ENDPOINTS.items(), start=1_000_001):
        _start_through(name, endpoint, number)
    _one_leader_by_prometheus()

    load = Load(client, first=1)
    load.begin()
    try:
        _take_over(stack, client, "kill", lambda leader: stack.run("kill", leader))
        _take_over(stack, client, "crash", stack.crash)
        _take_over(stack, client, "stop", lambda leader: stack.run("stop", leader))
    finally:
        load.end()
    if load.failed:
        raise Failed(f"{len(load.failed)} of {len(load.started)} starts failed, the first: {load.failed[0]}")
    took_s = wait_until("sagas finished", lambda: not load.unfinished(), within_s=120, every_s=1.0)
    _say(f"{len(load.started)} sagas started under load, 0 failed starts; all finished", took_s)
    _say(f"as their orders ask for: {dict(load.outcomes())}")
    _no_effect_twice(stack)
    _one_leader_by_prometheus()
    _comes_back_whole(stack, client, load)


def _wait_healthy(stack: Stack) -> None:
    for service in SERVICES:
        wait_until(f"{service} healthy", partial(stack.is_healthy, service), within_s=120)


def _comes_back_whole(stack: Stack, client: Client, load: Load) -> None:
    """Remove every container, keep the volumes, and start again: nothing is forgotten."""
    stack.run("down")
    _timed("down, and up again on the same volumes", stack.up)
    _wait_healthy(stack)
    if load.unfinished():
        raise Failed(f"sagas are not finished that were: {load.unfinished()[:5]}")
    _start_through("replica-1", ENDPOINTS["replica-1"], number=2_000_001)
    _one_leader_by_prometheus()


def _start_through(name: str, endpoint: str, number: int) -> None:
    client = Client([endpoint])
    try:
        begun = time.monotonic()
        saga = client.start(order(number), str(uuid.uuid4()), wait=True)
        if saga.state != saga_pb2.SAGA_STATE_COMPLETED:
            raise Failed(f"a saga through {name} is {saga_pb2.SagaState.Name(saga.state)}: {saga.error}")
        _say(f"StartSaga through {name} ({endpoint}): COMPLETED", time.monotonic() - begun)
    finally:
        client.close()


def _take_over(stack: Stack, client: Client, how: str, end: Callable[[str], object]) -> None:
    """End the leader's container under load, see another leader drive, and have three replicas again."""
    before = client.cluster()
    leader = before.leader.replica_id
    restarts = stack.state(leader)["RestartCount"]
    time.sleep(_LOAD_S)  # the load that the leader ends under
    begun_s = time.time()
    end(leader)
    _leader_other_than(client, leader, before.epoch)
    after = client.cluster()

    def first_step() -> list[str]:
        query = f"SELECT extract(epoch FROM min(at)) FROM baton.step_log WHERE epoch > {before.epoch}"
        return [row for row in stack.sql("baton", query) if row]

    wait_until("the new leader drives", first_step, within_s=30)
    # From the signal, as the engine saw it, to the first step that the log has of the next epoch.
    gap_s = float(first_step()[0]) - stack.event_at_s(leader, "kill", begun_s)
    _say(f"{how} of {leader}, which led epoch {before.epoch}: {after.leader.replica_id} leads {after.epoch}", gap_s)
    back_by_itself = how == "crash"
    if back_by_itself:
        wait_until(f"{leader} restarted", lambda: stack.state(leader)["RestartCount"] > restarts, within_s=30)
    else:
        stack.run("start", leader)
    took_s = wait_until(f"{leader} healthy again", lambda: stack.is_healthy(leader), within_s=60)
    _say(f"{leader} is back" + (", by itself" if back_by_itself else ""), took_s)


def _leader_other_than(client: Client, replica: str, epoch: int) -> None:
    def changed() -> bool:
        cluster = client.cluster()
        return cluster.leader.replica_id not in ("", replica) and cluster.epoch > epoch

    wait_until("another leader", changed, within_s=30, every_s=0.05)


def _no_effect_twice(stack: Stack) -> None:
    for schema in ("inventory", "payment", "shipping"):
        twice = stack.sql(
            "shop",
            "SELECT saga_id, step, kind, count(*) "
            f"FROM {schema}.ledger GROUP BY saga_id, step, kind HAVING count(*) > 1 LIMIT 5",
        )
        if twice:
            raise Failed(f"{schema} took an effect twice: {twice}")
    _say("no effect twice in the participants' ledgers")


def _one_leader_by_prometheus() -> None:
    def one_of_three() -> bool:
        values = [value for _, value in prometheus("baton_is_leader")]
        return len(values) == len(REPLICAS) and sum(values) == 1

    took_s = wait_until("one leader of three replicas, by Prometheus", one_of_three, within_s=30)
    _say("Prometheus: sum(baton_is_leader) = 1 of 3", took_s)


def _timed(what: str, do: Callable[[], object]) -> None:
    begun = time.monotonic()
    do()
    _say(what, time.monotonic() - begun)


def _say(what: str, seconds: float | None = None) -> None:
    print(what if seconds is None else f"{what}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
