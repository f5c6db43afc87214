"""`baton cluster`: who leads, and the wish that the leader step down."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.command import ENDPOINTS_DEFAULT, AsJson, Endpoints, call
from orchestrator.pb.baton.v1 import cluster_pb2

_TIMEOUT_S = 15.0

app = typer.Typer(help="See who leads, and hand leadership over.", no_args_is_help=True)


@app.command()
def status(endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """Show the leader, the epoch and the replicas, as the replica that answers sees them."""
    cluster = call(endpoint, _TIMEOUT_S, lambda client: client.get_cluster())
    leader = cluster.leader if cluster.HasField("leader") else None
    if as_json:
        output.print_json(_json(cluster))
        return
    since = output.when(cluster.leading_since)
    output.fields(
        (
            ("cluster", cluster.cluster),
            ("leader", leader.replica_id + (f" since {since}" if since else "") if leader else "nobody"),
            ("epoch", str(cluster.epoch) if cluster.epoch else "unknown"),
            ("lease left", f"{cluster.lease_left_s:.2f} s" if cluster.lease_left_s >= 0 else ""),
            ("answered by", cluster.replica_id),
            ("trouble", cluster.trouble),
        )
    )
    output.console().print()
    leads = leader.replica_id if leader else None
    rows = (
        (
            replica.replica_id,
            "leader" if replica.replica_id == leads else "standby",
            replica.api_address,
            replica.http_address,
            str(replica.pid),
            replica.version,
        )
        for replica in cluster.replicas
    )
    output.table(("REPLICA", "ROLE", "API", "HTTP", "PID", "VERSION"), rows)


@app.command("step-down")
def step_down(
    reason: Annotated[str, typer.Option("--reason", "-r", help="For the log.")] = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Make the leader hand leadership over at once, whichever replica it is."""
    answer = call(endpoint, _TIMEOUT_S, lambda client: client.step_down(reason))
    if as_json:
        output.print_json({"replica_id": answer.replica_id, "epoch": answer.epoch})
    else:
        output.console().print(f"{answer.replica_id} has stepped down; its epoch was {answer.epoch or 'unknown'}")


def _json(cluster: cluster_pb2.GetClusterResponse) -> dict[str, object]:
    return {
        "cluster": cluster.cluster,
        "replica_id": cluster.replica_id,
        "leader": output.replica_json(cluster.leader) if cluster.HasField("leader") else None,
        "epoch": cluster.epoch or None,
        "leading_since": output.iso(cluster.leading_since),
        "lease_left_s": cluster.lease_left_s if cluster.lease_left_s >= 0 else None,
        "trouble": cluster.trouble or None,
        "replicas": [output.replica_json(replica) for replica in cluster.replicas],
    }
