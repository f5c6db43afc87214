"""`baton leader-label`: labels the replica's own pod in Kubernetes while it leads; runs beside the replica."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.replica import BAD_CONFIGURATION
from orchestrator.leader_label import ACCOUNT, Kubernetes, NotInKubernetes, PodLabel, keep, leads, page_beside
from orchestrator.telemetry import set_up_log

_LABEL = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9./_-]*)=(?P<value>[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)")


def leader_label(
    pod: Annotated[str, typer.Option(envvar="POD_NAME", help="This pod's name.")],
    namespace: Annotated[str, typer.Option(envvar="POD_NAMESPACE", help="This pod's namespace.")],
    label: Annotated[str, typer.Option(metavar="KEY=VALUE", help="The label of a leader.")] = "baton-role=leader",
    replica: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where the replica says whether it leads; default: port 7480 of this machine, by HTTPS where "
            "BATON_TLS_CERT_FILE is set, as the replica speaks then.",
        ),
    ] = "",
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.05, max=60, metavar="SECONDS", help="Time between two looks.")
    ] = 0.5,
    account: Annotated[
        Path, typer.Option("--account", metavar="DIR", help="Folder of the account's token and ca.crt.")
    ] = ACCOUNT,
) -> None:
    """Keep a label on the replica's own pod while the replica leads. For a container beside it, with a token that may
    patch pods; deploy/kubernetes/components/leader-label has all of it. SIGTERM takes the label off and ends it.

    Exit status 78: not in Kubernetes, or a setting is wrong.
    """
    found = _LABEL.fullmatch(label)
    if found is None:
        output.complain(f"--label {label}: give it as KEY=VALUE, as Kubernetes takes labels")
        raise typer.Exit(BAD_CONFIGURATION)
    try:
        kubernetes = Kubernetes.from_environment(os.environ, account)
    except NotInKubernetes as error:
        output.complain(str(error))
        raise typer.Exit(BAD_CONFIGURATION) from None
    url = replica or page_beside(os.environ)
    set_up_log("json", "info")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    keep(PodLabel(namespace, pod, found["key"], found["value"]), kubernetes, lambda: leads(url), stop, interval_s)
