"""Gives one order to many sagas from the command line: a line for each saga, progress, and a truthful end."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import typer

from orchestrator.cli import output
from orchestrator.cli.client import Client
from orchestrator.cli.command import PARTLY, call
from orchestrator.cli.errors import ApiUnavailable
from orchestrator.pb.baton.v1 import bulk_pb2

_TIMEOUT_S = 30.0

# What an outcome is called, in an order and in a dry run. All but the first two are sagas that the order did not reach.
_WORDS = {
    bulk_pb2.BULK_OUTCOME_ORDERED: ("ordered", "would be ordered"),
    bulk_pb2.BULK_OUTCOME_ALREADY_ORDERED: ("ordered before", "ordered before"),
    bulk_pb2.BULK_OUTCOME_ENDED: ("had ended", "has ended"),
    bulk_pb2.BULK_OUTCOME_REFUSED: ("refused", "would be refused"),
    bulk_pb2.BULK_OUTCOME_UNKNOWN: ("unknown", "unknown"),
}
_REACHED = (bulk_pb2.BULK_OUTCOME_ORDERED, bulk_pb2.BULK_OUTCOME_ALREADY_ORDERED)

Orders = Callable[[Client], AsyncGenerator[bulk_pb2.BulkReport]]


def give(endpoints: list[str], orders: Orders, *, dry_run: bool, as_json: bool) -> None:
    """Follow an order to its end. Exits with PARTLY when it did not reach all that matched."""
    outcomes: Counter[int] = Counter()

    async def follow(client: Client) -> bool:
        async with aclosing(orders(client)) as reports:
            try:
                async for report in reports:
                    for item in report.items:
                        outcomes[item.outcome] += 1
                        _print_item(item, dry_run=dry_run, as_json=as_json)
                    if report.finished:
                        return report.more
                    _progress(report.matched, as_json=as_json)
            except ApiUnavailable:
                # What was reported stands, and so it is summed up; of the others nobody knows.
                _sum_up(outcomes, dry_run=dry_run, as_json=as_json, finished=False, more=True)
                raise
        raise ApiUnavailable("the order broke off")

    more = call(endpoints, _TIMEOUT_S, follow)
    _sum_up(outcomes, dry_run=dry_run, as_json=as_json, finished=True, more=more)
    if more or sum(outcomes[outcome] for outcome in _REACHED) < outcomes.total():
        raise typer.Exit(PARTLY)


def _print_item(item: bulk_pb2.BulkItem, *, dry_run: bool, as_json: bool) -> None:
    state = output.state_name(item.state)
    if as_json:
        outcome = bulk_pb2.BulkOutcome.Name(item.outcome).removeprefix("BULK_OUTCOME_")
        output.print_json({"saga_id": item.saga_id, "outcome": outcome, "state": state, "message": item.message})
    else:
        words = [item.saga_id, state, _word(item.outcome, dry_run=dry_run), item.message]
        output.console().print("  ".join(word for word in words if word), markup=False)


def _progress(matched: int, *, as_json: bool) -> None:
    """How far it has come, for a person who waits: where few sagas match, the search may take a while."""
    if sys.stderr.isatty() and not as_json:
        print(f"{matched} sagas so far", file=sys.stderr)


def _sum_up(outcomes: Counter[int], *, dry_run: bool, as_json: bool, finished: bool, more: bool) -> None:
    if as_json:
        named = {bulk_pb2.BulkOutcome.Name(key).removeprefix("BULK_OUTCOME_"): n for key, n in outcomes.items()}
        output.print_json({"finished": finished, "more": more, "dry_run": dry_run, "outcomes": named})
        return
    parts = [f"{outcomes[key]} {_word(key, dry_run=dry_run)}" for key in _WORDS if outcomes[key]]
    terminal = output.console()
    terminal.print(", ".join(parts) or "no saga matches", markup=False)
    if not finished:
        terminal.print("broken off: of other sagas nothing is known; give the order again", markup=False)
    elif more:
        terminal.print("more sagas may match than --max allows: give the order again", markup=False)


def _word(outcome: int, *, dry_run: bool) -> str:
    order, dry = next((words for key, words in _WORDS.items() if key == outcome), ("unknown", "unknown"))
    return dry if dry_run else order
