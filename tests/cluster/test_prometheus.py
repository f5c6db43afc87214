"""A real Prometheus scrapes a real cluster under load and failovers: every panel shows data, every rule evaluates."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster, in_thread
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.processes import Process
from tests.prometheus import program
from tests.unit.test_alerts import DASHBOARDS, RULES, RULES_FILE

from .flows import FLOWS
from .house import WITHIN_S, definitions_applied, eventually

DEFINITION = "order-reserve-pay-ship"
_TOLD_S = 0.05


class Prometheus:
    """The program on a free port of 127.0.0.1, scraping the replicas, with the rules that are deployed."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"},
            "rule_files": [str(RULES_FILE)],
            "scrape_configs": [
                {"job_name": "baton", "static_configs": [{"targets": targets, "labels": {"cluster": "baton"}}]}
            ],
        }
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        options.append(f"--web.listen-address=127.0.0.1:{self._port}")
        self._process = Process("prometheus", [program("prometheus"), *options], os.environ, folder / "log")

    async def __aenter__(self) -> Prometheus:
        self._process.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await in_thread(lambda: self._process.wait(WITHIN_S))
        release_ports((self._port,))

    async def query(self, query: str) -> list[float]:
        """The values of an instant query that are numbers; none where nobody answers yet."""
        answer = await self.ask(f"query?{urllib.parse.urlencode({'query': query})}")
        values = [float(item["value"][1]) for item in answer.get("result", [])]
        return [value for value in values if not math.isnan(value)]

    async def ask(self, path: str) -> dict[str, Any]:
        """What the API answers; nothing where nobody answers yet. Fails when a query is refused."""

        def get() -> dict[str, Any]:
            try:
                with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=10) as answer:
                    return dict(json.load(answer)["data"])
            except urllib.error.HTTPError as error:
                if error.code == 503:  # it starts
                    return {}
                raise AssertionError(f"{path}: {error.read().decode()}") from None
            except OSError:
                return {}

        return await asyncio.to_thread(get)


@asynccontextmanager
async def load(client: Client) -> AsyncIterator[None]:
    """Sagas, one after the other; the card of every other one is declined."""

    async def run() -> None:
        for number in itertools.count():
            order = {
                "order_id": f"prometheus-{number}",
                "customer_id": "17850",
                "amount": "9999.00" if number % 2 else "15.30",
                "lines": [{"stock_code": "TEAPOT", "quantity": 1}],
                "destination": "Norway",
            }
            await client.start_saga(DEFINITION, json.dumps(order), request_id=f"prometheus-{number}")
            await asyncio.sleep(_TOLD_S)

    running = asyncio.create_task(run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()):
            raise error


def panels() -> list[tuple[str, str]]:
    """Every query of every panel, as Grafana would send it, with where it stands."""
    found = []
    for name, path in DASHBOARDS.items():
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$cluster", ".*").replace("$__rate_interval", "20s")
                found.append((f"{name}: {panel['title']} {target['refId']}", query))
    return found


async def test_every_panel_shows_data_and_every_rule_evaluates(tmp_path: Path) -> None:
    program("prometheus")  # before a cluster is started for nothing
    async with (
        Cluster(tmp_path / "cluster", replicas=3, etcd_members=1, unsafe_no_fsync=True) as cluster,
        Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0, spread=True) as client,
        Prometheus(tmp_path / "prometheus", [replica.http_address for replica in cluster.replicas]) as prometheus,
    ):
        await definitions_applied(client, len(FLOWS))

        async def three_answer() -> bool:
            return await prometheus.query("count(baton_is_leader)") == [3]

        await eventually(three_answer, "three replicas to be scraped")
        async with load(client):
            await every_kind_of_failover(cluster, client)
            await every_query_gives_data(prometheus)
        await every_rule_evaluates(prometheus)


async def every_kind_of_failover(cluster: Cluster, client: Client) -> None:
    """A leader that is killed and comes back, and one that hands over."""
    leader = await cluster.wait_leader()
    leader.replica.kill()
    await cluster.wait_leader(above_epoch=leader.epoch)
    await in_thread(lambda: leader.replica.wait(WITHIN_S))
    await cluster.start_replica(cluster.replicas.index(leader.replica), WITHIN_S)
    leader = await cluster.wait_leader()
    await client.step_down("a test of the dashboards")
    await cluster.wait_leader(above_epoch=leader.epoch)


async def every_query_gives_data(prometheus: Prometheus) -> None:
    missing = dict(panels())
    assert len(missing) > 40

    async def all_have_data() -> bool:
        for where, query in list(missing.items()):
            if await prometheus.query(query):
                del missing[where]
        return not missing

    try:
        await eventually(all_have_data, "data in every panel")
    except AssertionError:
        raise AssertionError(f"no data in {missing}") from None


async def every_rule_evaluates(prometheus: Prometheus) -> None:
    async def evaluated() -> bool:
        groups = (await prometheus.ask("rules")).get("groups", [])
        rules = [rule for group in groups for rule in group["rules"]]
        assert [rule for rule in rules if rule["health"] == "err"] == []
        return len(rules) == len(RULES) and all(rule["health"] == "ok" for rule in rules)

    await eventually(evaluated, "every rule to be evaluated")
    assert await prometheus.query("baton:sagas_unfinished:sum")
    undone = await prometheus.query('sum(baton_sagas_finished_total{state="COMPENSATED"})')
    assert undone[0] > 0
