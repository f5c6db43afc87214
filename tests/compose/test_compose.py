"""docker-compose.yml on a real engine: up, sagas from outside, leaders ended under load, Prometheus, down and up again.

    BATON_COMPOSE_TRIAL=1 python3 run.py test tests/compose -s

It takes some minutes, so it runs only when it is asked for. Where no engine answers it starts a dockerd of its own (as
root; engine.py), and where the images are not there it makes stand-ins (base_images.py). It needs the ports 7401-7403,
7481-7483 and 9090 of 127.0.0.1 and leaves nothing behind. The tests share one stack, in this order.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
import yaml

from orchestrator.pb.baton.v1 import saga_pb2
from tests.compose.base_images import Unable, make_missing
from tests.compose.builder_image import make_builder
from tests.compose.client import Client, Load, order
from tests.compose.engine import engine
from tests.compose.stack import ENDPOINTS, PROMETHEUS, REPLICAS, ROOT, Failed, Stack, ask, prometheus, wait_until

pytestmark = pytest.mark.timeout(2400)

WANTED = os.environ.get("BATON_COMPOSE_TRIAL") == "1"
HEALTHY_S = 60.0
# A busy machine is slow, but what takes longer than this hangs.
WITHIN_S = 240.0
LOAD_S = 3.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The stack, built and not yet started."""
    if not WANTED:
        pytest.skip("set BATON_COMPOSE_TRIAL=1 to try docker-compose.yml on a container engine")
    try:
        with engine() as kind:
            _say(f"on {kind}")
            made = make_missing()
            stack = Stack(make_builder())
            if made:
                _say(f"stand-ins of Debian's packages for {', '.join(made)}")
            if "grafana" not in stack.services:
                _say("grafana is left out: there is no image of it here, and nothing to make one of")
            try:
                stack.forget()  # what a run that was killed has left
                _timed("image built", stack.build)
                yield stack
            finally:
                _forget(stack)
    except Unable as reason:
        pytest.skip(f"docker-compose.yml cannot be tried here: {reason}")


def _forget(stack: Stack) -> None:
    try:
        _timed("down", stack.forget)
    except (Failed, OSError, subprocess.SubprocessError) as error:
        # What went wrong before it is what matters.
        print(f"the stack could not be taken down: {error}", file=sys.stderr)


@pytest.fixture(autouse=True)
def logs_of_a_failure(request: pytest.FixtureRequest, stack: Stack) -> Iterator[None]:
    """Print what the containers logged when a test has failed."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(stack.logs(), file=sys.stderr)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A client of all replicas."""
    client = Client(list(ENDPOINTS.values()))
    yield client
    client.close()


@pytest.fixture(scope="module")
def load(client: Client) -> Load:
    """The sagas of the module: begun under the leaders' ends, asked after by the tests behind."""
    return Load(client, first=1)


def test_all_are_healthy_within_a_minute(stack: Stack) -> None:
    # What else keeps the processors busy takes its share of the minute.
    share = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    begun_s = time.monotonic()
    stack.up()
    _wait_healthy(stack)
    took_s = time.monotonic() - begun_s
    _say("up and all healthy", took_s)
    assert took_s < HEALTHY_S * share


@pytest.mark.parametrize("replica", REPLICAS)
def test_a_saga_can_be_started_through_any_replica(client: Client, replica: str) -> None:
    _leader_other_than(client, "", 0)
    wait_until("definitions applied from the folder", client.has_definition, WITHIN_S)
    _start_through(replica, 1_000_001 + REPLICAS.index(replica))


def test_no_password_stands_in_a_container_s_settings(stack: Stack) -> None:
    password = stack.run("exec", "-T", "postgres", "cat", "/var/lib/baton/password").strip()
    assert len(password) > 32
    for service in stack.services:
        inspected = subprocess.run(["docker", "inspect", stack.container(service)], capture_output=True, text=True)
        assert json.loads(inspected.stdout)
        assert password not in inspected.stdout, service


def test_our_containers_are_not_root_and_cannot_write(stack: Stack) -> None:
    for service in (*REPLICAS, "orders"):
        assert stack.run("exec", "-T", service, "id", "-u").strip() == "10001"
        with pytest.raises(Failed, match="Read-only file system"):
            stack.run("exec", "-T", service, "touch", "/opt/baton/x")


def test_migrations_ran_once(stack: Stack) -> None:
    folder = ROOT / "orchestrator" / "sagalog" / "migrations"
    rows = stack.sql("baton", "SELECT count(*), count(DISTINCT number) FROM baton.migration")
    count = len(list(folder.glob("*.sql")))
    assert rows == [f"{count}|{count}"]


def test_prometheus_scrapes_all_and_evaluates_every_rule() -> None:
    _one_leader_by_prometheus()
    targets = ask(f"{PROMETHEUS}/api/v1/targets?state=active")["data"]["activeTargets"]
    jobs = [target["labels"]["job"] for target in targets]
    assert (jobs.count("baton"), jobs.count("etcd")) == (3, 3)

    def evaluated() -> bool:
        groups = ask(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
        return all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    wait_until("every rule evaluated", evaluated, WITHIN_S)
    document = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    written = sum(len(group["rules"]) for group in document["groups"])
    groups = ask(f"{PROMETHEUS}/api/v1/rules")["data"]["groups"]
    assert sum(len(group["rules"]) for group in groups) == written > 0


def test_leaders_end_under_load_and_no_start_fails(stack: Stack, client: Client, load: Load) -> None:
    load.begin()
    try:
        _take_over(stack, client, "kill", lambda leader: stack.run("kill", leader))
        _take_over(stack, client, "crash", stack.crash)
        _take_over(stack, client, "stop", lambda leader: stack.run("stop", leader))
    finally:
        load.end()
    assert load.failed == []
    took_s = wait_until("sagas finished", lambda: not load.unfinished(), WITHIN_S, every_s=1.0)
    _say(f"{len(load.started)} sagas started under load, 0 failed starts; all finished", took_s)


def test_every_saga_ended_as_its_order_asks_for_and_no_effect_was_taken_twice(
    stack: Stack, client: Client, load: Load
) -> None:
    assert load.started
    _say(f"as their orders ask for: {dict(load.outcomes())}")
    for schema in ("inventory", "payment", "shipping"):
        twice = f"SELECT saga_id, step, kind FROM {schema}.ledger GROUP BY saga_id, step, kind HAVING count(*) > 1"
        assert stack.sql("shop", twice) == []
        assert int(stack.sql("shop", f"SELECT count(*) FROM {schema}.ledger")[0]) > 0
    _one_leader_by_prometheus()


def test_nothing_is_forgotten_when_the_containers_are_removed(stack: Stack, client: Client, load: Load) -> None:
    stack.remove()
    begun_s = time.monotonic()
    stack.up()
    _wait_healthy(stack)
    _say("down, and up again on the same volumes", time.monotonic() - begun_s)
    assert load.unfinished() == []
    _start_through("replica-1", 2_000_001)
    _one_leader_by_prometheus()


def _wait_healthy(stack: Stack) -> None:
    def unhealthy() -> list[str]:
        return [service for service in stack.services if not stack.is_healthy(service)]

    wait_until("all healthy", lambda: not unhealthy(), WITHIN_S)


def _start_through(name: str, number: int) -> None:
    client = Client([ENDPOINTS[name]])
    try:
        begun_s = time.monotonic()
        saga = client.start(order(number), str(uuid.uuid4()), wait=True)
        assert saga.state == saga_pb2.SAGA_STATE_COMPLETED, saga
        _say(f"StartSaga through {name} ({ENDPOINTS[name]}): COMPLETED", time.monotonic() - begun_s)
    finally:
        client.close()


def _take_over(stack: Stack, client: Client, how: str, end: Callable[[str], object]) -> None:
    """End the leader's container under load, see another leader drive, and have three replicas again."""
    before = client.cluster()
    leader = before.leader.replica_id
    restarts = stack.state(leader)["RestartCount"]
    time.sleep(LOAD_S)  # the load that the leader ends under
    begun_s = time.time()
    end(leader)
    _leader_other_than(client, leader, before.epoch)
    after = client.cluster()

    def first_step() -> list[str]:
        query = f"SELECT extract(epoch FROM min(at)) FROM baton.step_log WHERE epoch > {before.epoch}"
        return [row for row in stack.sql("baton", query) if row]

    wait_until("the new leader drives", first_step, WITHIN_S)
    # From the signal, as the engine saw it, to the first step that the log has of the next epoch.
    gap_s = float(first_step()[0]) - stack.event_at_s(leader, "kill", begun_s)
    _say(f"{how} of {leader}, which led epoch {before.epoch}: {after.leader.replica_id} leads {after.epoch}", gap_s)
    back_by_itself = how == "crash"
    if back_by_itself:
        wait_until(f"{leader} restarted", lambda: stack.state(leader)["RestartCount"] > restarts, WITHIN_S)
    else:
        stack.run("start", leader)
    took_s = wait_until(f"{leader} healthy again", lambda: stack.is_healthy(leader), WITHIN_S)
    _say(f"{leader} is back" + (", by itself" if back_by_itself else ""), took_s)


def _leader_other_than(client: Client, replica: str, epoch: int) -> None:
    def changed() -> bool:
        cluster = client.cluster()
        return cluster.leader.replica_id not in ("", replica) and cluster.epoch > epoch

    wait_until("another leader", changed, WITHIN_S, every_s=0.05)


def _one_leader_by_prometheus() -> None:
    def one_of_three() -> bool:
        values = [value for _, value in prometheus("baton_is_leader")]
        return len(values) == len(REPLICAS) and sum(values) == 1

    took_s = wait_until("one leader of three replicas, by Prometheus", one_of_three, WITHIN_S)
    _say("Prometheus: sum(baton_is_leader) = 1 of 3", took_s)


def _timed(what: str, do: Callable[[], object]) -> None:
    begun_s = time.monotonic()
    do()
    _say(what, time.monotonic() - begun_s)


def _say(what: str, seconds: float | None = None) -> None:
    print(what if seconds is None else f"{what}: {seconds:.2f} s", flush=True)
