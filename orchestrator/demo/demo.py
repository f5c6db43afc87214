"""`baton demo`: a whole cluster, real orders, a leader that is killed and one that is frozen, and the audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from orchestrator.audit.evidence import Circumstances, Gap
from orchestrator.audit.gauge import Gauge, now
from orchestrator.audit.judge import judge
from orchestrator.audit.ledgers import load_evidence
from orchestrator.demo.faults import strike
from orchestrator.demo.feed import Feed
from orchestrator.demo.live import DemoScreen
from orchestrator.demo.orders import OrderBook, OrdersUnreadable, read_orders
from orchestrator.demo.report import print_book, print_result
from orchestrator.demo.shop import declined_customers, initial_stock
from orchestrator.embedded.cluster import Cluster, data_dir_for
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.errors import BatonError
from orchestrator.security.dialer import Dialer
from orchestrator.starter import Connect, SagaStarter

# Orders a second, unless the file is long: it is fed within a time that a person waits.
_RATE_MIN = 20.0
_FEED_MAX_S = 25.0
# A participant that is away is asked again after 1, 2 and 4 seconds; this is well beyond.
_END_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the user chose; None is the demo's own choice. `rate` is orders a second, `stock` pieces of each article.

    With `secure` every link but that to Postgres is TLS, and callers are asked who they are.
    """

    orders: Path | None = None
    data: Path | None = None
    rate: float | None = None
    stock: int | None = None
    secure: bool = False


async def run_demo(options: DemoOptions, connect_by: Callable[[Dialer], Connect], console: Console) -> bool:
    """Run the demo; whether every invariant holds and every start succeeded.

    `connect_by` makes clients that reach the demo's own cluster as its dialer does.

    Raises OrdersUnreadable, ProcessFailed and LogUnavailable, each with what is to be done. Leaves no process behind.
    """
    book = _read(options.orders)
    data_dir = data_folder(options.data, "demo")
    stock = initial_stock(book.invoices) if options.stock is None else options.stock
    declined = declined_customers(book.invoices)
    print_book(console, book, stock, declined)

    screen = DemoScreen(console)
    began_at = now()
    settings = {"PARTICIPANT_INITIAL_STOCK": str(stock), "PARTICIPANT_DECLINED_CUSTOMERS": ",".join(declined)}
    async with Cluster(data_dir, participant_settings=settings, secure=options.secure) as cluster:
        connect = connect_by(cluster.dialer)
        leader = await cluster.wait_leader()
        screen.tell(
            f"three etcd members, Postgres, {len(cluster.participants)} participants and {len(cluster.replicas)} "
            f"replicas are ready; {leader.replica.name} leads epoch {leader.epoch}"
        )
        async with Gauge(cluster.baton_dsn) as gauge, connect(cluster.api_endpoints, screen.asked_again) as starter:
            feed = await _feed(book, options.rate, gauge, starter)
            try:
                gaps = await _perform(cluster, feed, gauge, screen)
            except* BatonError as failures:
                raise _first(failures) from None
        screen.tell("audit of the participants' ledgers against the saga log")
        evidence = await asyncio.to_thread(load_evidence, cluster.baton_dsn, cluster.shop_dsn)
    verdict = judge(evidence, Circumstances(feed.acknowledged, len(gaps), gaps, began_at))
    print_result(console, verdict, evidence, feed, screen.retries)
    console.print(f"data: {data_dir}\nlogs: {data_dir / 'logs'}", highlight=False, markup=False, soft_wrap=True)
    return verdict.holds and not feed.failed


def data_folder(chosen: Path | None, command: str) -> Path:
    """The folder that the user chose, made if it is not there, or a new one. Raises ProcessFailed."""
    if chosen is None:
        return data_dir_for(command)
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProcessFailed(f"cannot make {chosen}: {error.strerror}. Name another folder with --data") from None
    return chosen


def _read(orders: Path | None) -> OrderBook:
    if orders is not None:
        book = read_orders(orders)
    else:
        with as_file(files(__package__) / "sample.csv") as sample:
            book = read_orders(sample)
    if not book.invoices:
        raise OrdersUnreadable(f"{orders}: there is no order in it; {len(book.malformed)} lines are malformed")
    return book


async def _feed(book: OrderBook, rate: float | None, gauge: Gauge, starter: SagaStarter) -> Feed:
    _, earlier = await gauge.beginning()
    # On the data of an earlier run the numbers of the invoices are taken.
    run_id = f"run{earlier}" if earlier else ""
    return Feed(starter, book.invoices, rate or max(_RATE_MIN, len(book.invoices) / _FEED_MAX_S), run_id)


async def _perform(cluster: Cluster, feed: Feed, gauge: Gauge, screen: DemoScreen) -> list[Gap]:
    """Feed, strike, and wait for the end of every saga."""
    with screen.showing():
        async with asyncio.TaskGroup() as tasks:
            follow = tasks.create_task(screen.follow(cluster, feed, gauge))
            feeding = tasks.create_task(feed.run())
            gaps = await strike(cluster, feed, gauge, screen.tell)
            await feeding
            waited_s = time.monotonic()
            ended = await gauge.all_ended(_END_TIMEOUT_S)
            follow.cancel()
    waited_s = time.monotonic() - waited_s
    screen.tell(
        f"all sagas are terminal, {waited_s:.1f} s after the last order"
        if ended
        else f"some sagas are not terminal {waited_s:.0f} s after the last order"
    )
    return gaps


def _first(failures: BaseExceptionGroup[BatonError]) -> BatonError:
    """What went wrong first: the rest of a group is what was cancelled because of it."""
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
