"""The command `baton`, also as `python -m orchestrator`."""

from __future__ import annotations

import typer

from orchestrator.cli import (
    certify,
    cluster,
    credentials,
    definition,
    demo,
    drill,
    events,
    moves,
    orders,
    pauses,
    replica,
    saga,
    simulate,
    soak,
    token,
)
from orchestrator.cli.audit import audit
from orchestrator.cli.doctor import doctor
from orchestrator.cli.failpoints import failpoints
from orchestrator.cli.leader_label import leader_label
from orchestrator.cli.migrate import migrate

app = typer.Typer(
    name="baton",
    help="A highly available saga orchestrator: etcd elects, Postgres fences, gRPC participants compensate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(saga.app, name="saga")
app.add_typer(definition.app, name="definition")
app.add_typer(cluster.app, name="cluster")
orders.add_to(saga.app)
pauses.add_to(definition.app)
app.add_typer(pauses.participants, name="participant")
moves.add_to(saga.app)
app.command("parked")(orders.parked)
app.command("approvals")(orders.approvals)
app.add_typer(events.app, name="events")
app.add_typer(token.app, name="token")
app.callback()(credentials.credentials)
app.command("audit")(audit)
app.command("migrate")(migrate)
app.command("doctor")(doctor)
app.command("failpoints")(failpoints)
app.command("leader-label")(leader_label)
certify.register(app)
replica.register(app)
demo.register(app)
drill.register(app)
simulate.register(app)
soak.register(app)


def main() -> None:
    """Run the command."""
    app()


if __name__ == "__main__":
    main()
