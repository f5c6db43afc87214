"""`baton dev`: the same cluster as the demo's, kept up for a person to play with."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from rich.console import Console

from orchestrator.demo.demo import data_folder
from orchestrator.embedded.cluster import Cluster, Leader

_ASK_INTERVAL_S = 0.2

_INPUT = (
    '{"order_id": "hello-1", "customer_id": "17850", "amount": "17.85", "destination": "France", '
    '"lines": [{"stock_code": "41000", "quantity": 3}]}'
)


async def run_dev(data: Path | None, console: Console, *, secure: bool = False) -> None:
    """Start the cluster, say how to use it, and tell who leads until cancelled. A killed replica is started again.

    With `secure` everything but Postgres speaks TLS, and asks callers who they are. Raises ProcessFailed when the
    cluster does not come up. Leaves no process behind.
    """
    data_dir = data_folder(data, "dev")
    # Whoever plays may look at the traces as well (docs/tracing.md).
    traced = {name: value for name, value in os.environ.items() if name.startswith("BATON_TRACING_")}
    async with Cluster(data_dir, settings=traced, restart_replicas=True, secure=secure) as cluster:
        leader = await cluster.wait_leader()
        for line in _guide(cluster, leader):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        await _tell_leaders(cluster, leader, console)


async def _tell_leaders(cluster: Cluster, leader: Leader, console: Console) -> None:
    known: tuple[int, int] | None = None
    while True:
        current = await cluster.leader()
        if current is not None and (current.epoch, current.replica.pid) != known:
            known = (current.epoch, current.replica.pid)
            line = f"{current.replica.name} (pid {current.replica.pid}) leads epoch {current.epoch}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif current is None and known is not None:
            known = None
            console.print("nobody leads", highlight=False, markup=False, soft_wrap=True)
        await asyncio.sleep(_ASK_INTERVAL_S)


def _identity(cluster: Cluster) -> list[str]:
    """What makes a terminal an operator's, where callers are asked who they are."""
    if cluster.tls is None:
        return []
    operator, files = cluster.tls.operator, cluster.tls.authority.folder
    metrics = f"https://{cluster.replicas[0].http_address}/metrics"
    return [
        f"  export BATON_CA_FILE={cluster.tls.authority.ca_file}",
        f"  export BATON_CERT_FILE={operator.cert_file} BATON_KEY_FILE={operator.key_file}",
        f"  # callers and their rights: {files / 'access.yaml'}; a change is in force within a second",
        f"  curl --cacert $BATON_CA_FILE --cert $BATON_CERT_FILE --key $BATON_KEY_FILE {metrics}",
    ]


def _guide(cluster: Cluster, leader: Leader) -> list[str]:
    baton = f"{sys.executable} -m orchestrator"
    endpoints = ",".join(cluster.api_endpoints)
    scheme = "http" if cluster.tls is None else "https"
    lines = ["", "The cluster runs; Ctrl-C ends it.", ""]
    for replica in cluster.replicas:
        lines.append(
            f"  {replica.name}  pid {replica.pid}  API {replica.api_address}  metrics {scheme}://{replica.http_address}/metrics"
        )
    for name, participant in cluster.participants.items():
        lines.append(f"  {name}  pid {participant.pid}  gRPC {participant.address}")
    lines += [
        f"  saga log    {cluster.baton_dsn}",
        f"  shop        {cluster.shop_dsn}",
        f"  etcd        {','.join(cluster.etcd.endpoints)}",
        f"  data        {cluster.data_dir}",
        f"  logs        {cluster.log_dir}",
        "",
        "In another terminal:",
        "",
        f"  export BATON_ENDPOINTS={endpoints}",
        *_identity(cluster),
        "  # start a saga, and wait for its end",
        f"  {baton} saga start order --input '{_INPUT}' --wait",
        "  # all sagas; one of them, step by step",
        f"  {baton} saga list",
        f"  {baton} saga watch SAGA_ID",
        "  # who leads",
        f"  {baton} cluster status",
        "  # kill the leader; another replica carries on, and the killed one is started again",
        f"  kill -9 {leader.replica.pid}",
        "  # hand leadership over in order",
        f"  {baton} cluster step-down",
        "",
    ]
    return lines
