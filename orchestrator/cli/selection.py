"""The options by which commands say which sagas they mean, and the filters that they make."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.pb.baton.v1 import bulk_pb2, saga_pb2

STATES = tuple(name.removeprefix("SAGA_STATE_") for name in saga_pb2.SagaState.keys()[1:])

Labels = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label; repeat it.")]
LabelKeys = Annotated[
    list[str] | None, typer.Option("--has-label", metavar="KEY", help="There is a label of this name; repeat it.")
]
States = Annotated[list[str] | None, typer.Option("--state", "-s", help=f"One of {', '.join(STATES)}; repeat it.")]
OfDefinition = Annotated[str, typer.Option("--definition", "-d", help="Sagas of this definition alone.")]
Where = Annotated[
    str,
    typer.Option("--where", metavar="JSONPATH", help="What holds in the input, such as '$.amount > 100'."),
]
Since = Annotated[str, typer.Option(metavar="TIME", help="Created at this time (ISO 8601) or later.")]
Until = Annotated[str, typer.Option(metavar="TIME", help="Created before this time.")]


def bulk_filter(
    state: list[str] | None,
    definition: str,
    label: list[str] | None,
    has_label: list[str] | None,
    where: str,
    since: str,
    until: str,
    *,
    every: bool,
) -> bulk_pb2.BulkFilter:
    """The filter of an order for many sagas."""
    chosen = bulk_pb2.BulkFilter(
        states=[state_of(name) for name in state or ()],
        definition=definition,
        labels=labels_of(label),
        label_keys=has_label or (),
        input_path=where,
        all=every,
    )
    if since:
        chosen.created_after.FromDatetime(time_of(since, "--since"))
    if until:
        chosen.created_before.FromDatetime(time_of(until, "--until"))
    return chosen


def labels_of(given: list[str] | None) -> dict[str, str]:
    labels = {}
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--label")
        labels[key] = value
    return labels


def state_of(name: str) -> saga_pb2.SagaState:
    if name.upper() not in STATES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(STATES)}", param_hint="--state")
    state: saga_pb2.SagaState = getattr(saga_pb2, f"SAGA_STATE_{name.upper()}")
    return state


def time_of(text: str, option: str) -> datetime:
    try:
        return output.local_time(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time such as 2026-01-31T14:00", param_hint=option) from None
