"""baton.v1.BulkService: one order for every saga of a filter, on any replica, with an answer for each saga."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, streamed
from orchestrator.api.filters import moment, page_of, saga_filter
from orchestrator.api.moves import Moves
from orchestrator.api.orders import CancelOrder, Order, Outcome, RetryOrder, Verdict
from orchestrator.api.port import SagaReader
from orchestrator.api.signalling import Signalling, order
from orchestrator.errors import LogUnavailable, NotFound, Overloaded, WrongState
from orchestrator.pb.baton.v1 import bulk_pb2, bulk_pb2_grpc
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.records import SagaFilter, SagaRecord
from orchestrator.security.caller import ANONYMOUS, current

MAX_DEFAULT = 10_000

_PAGE = 100
# Orders that are given at once: a part of the connections of the pool.
_AT_ONCE = 4

_OUTCOMES: dict[Outcome, bulk_pb2.BulkOutcome] = {
    outcome: getattr(bulk_pb2, f"BULK_OUTCOME_{outcome}") for outcome in Outcome
}


class Given(Protocol):
    """What the request of every order for many has: to whom it goes, whether in earnest, and where it goes on."""

    @property
    def filter(self) -> bulk_pb2.BulkFilter: ...
    @property
    def dry_run(self) -> bool: ...
    @property
    def max(self) -> int: ...
    @property
    def after_saga_id(self) -> str: ...
    @property
    def as_of(self) -> Timestamp: ...
    def HasField(self, field_name: Literal["as_of"], /) -> bool: ...


class BulkService(bulk_pb2_grpc.BulkServiceServicer):
    """Gives orders page by page. Another order is another method: it makes its `Order` and calls `carry_out`."""

    def __init__(self, reader: SagaReader, signalling: Signalling, moves: Moves) -> None:
        self._moves = moves
        self._reader = reader
        self._signalling = signalling

    @streamed
    async def BulkCancel(
        self, request: bulk_pb2.BulkCancelRequest, context: Context
    ) -> AsyncGenerator[bulk_pb2.BulkReport]:
        """Ask that all sagas of a filter be compensated."""
        given = CancelOrder(self._reader, checks.reason(request.reason), self._signalling)
        async for report in carry_out(given, self._reader, request):
            yield report

    @streamed
    async def BulkRetry(
        self, request: bulk_pb2.BulkRetryRequest, context: Context
    ) -> AsyncGenerator[bulk_pb2.BulkReport]:
        """Take all parked sagas of a filter up again."""
        by = request.by if current() is ANONYMOUS else current().name
        given = RetryOrder(self._signalling, order(by, request.reason, Verb.RETRY))
        async for report in carry_out(given, self._reader, request):
            yield report

    @streamed
    async def BulkMove(
        self, request: bulk_pb2.BulkMoveRequest, context: Context
    ) -> AsyncGenerator[bulk_pb2.BulkReport]:
        """Move all sagas of a filter to another version of their definition."""
        name = checks.name("filter.definition", request.filter.definition)
        current().require(name)
        given = await self._moves.order_for_many(name, request.to_version, request.by, request.reason)
        async for report in carry_out(given, self._reader, request):
            yield report


async def carry_out(order: Order, reader: SagaReader, request: Given) -> AsyncGenerator[bulk_pb2.BulkReport]:
    """Give `order` to the sagas that `request` means, or judge what it would come to; the last report says `finished`.

    Raises Rejected, and LogUnavailable or Overloaded while looking for sagas: what was reported until then stands.
    """
    as_of = moment("as_of", request.as_of) if request.HasField("as_of") else datetime.now(UTC)
    wanted = _wanted(request.filter, order, as_of)
    reached = checks.saga_id(request.after_saga_id) if request.after_saga_id else None
    left = _most(request.max)
    matched = 0
    while True:
        page = await page_of(reader, wanted, reached, min(_PAGE, left))
        verdicts = await _verdicts(order, page.sagas, dry_run=request.dry_run)
        matched += len(page.sagas)
        left -= len(page.sagas)
        over = page.reached is None or left == 0
        reached = page.reached
        yield bulk_pb2.BulkReport(
            items=[_item(saga, verdict) for saga, verdict in zip(page.sagas, verdicts, strict=True)],
            matched=matched,
            reached_saga_id=str(reached or ""),
            as_of=conversion.timestamp(as_of),
            finished=over,
            more=over and reached is not None,
        )
        if over:
            return


async def _verdicts(order: Order, sagas: Sequence[SagaRecord], *, dry_run: bool) -> list[Verdict]:
    permits = asyncio.Semaphore(_AT_ONCE)

    async def give(saga: SagaRecord) -> Verdict:
        async with permits:
            try:
                return await (order.judge(saga) if dry_run else order.give(saga))
            except (LogUnavailable, Overloaded) as error:
                return Verdict(Outcome.UNKNOWN, saga.state, str(error))
            except (WrongState, NotFound) as error:
                return Verdict(Outcome.REFUSED, saga.state, str(error))

    async with asyncio.TaskGroup() as group:
        given = [group.create_task(give(saga)) for saga in sagas]
    return [task.result() for task in given]


def _wanted(asked: bulk_pb2.BulkFilter, order: Order, as_of: datetime) -> SagaFilter:
    """The filter of an order. Raises Rejected."""
    if asked.all == any(field.name != "all" for field, _ in asked.ListFields()):
        raise checks.rejected("filter", "says which sagas are meant; for every saga set `all`, and nothing else")
    wanted = saga_filter(asked)
    before = as_of if wanted.created_before is None else min(as_of, wanted.created_before)
    return replace(wanted, states=wanted.states or order.states, created_before=before)


def _most(asked: int) -> int:
    if asked < 0:
        raise checks.rejected("max", f"{asked} is negative; 0 means {MAX_DEFAULT}")
    return asked or MAX_DEFAULT


def _item(saga: SagaRecord, verdict: Verdict) -> bulk_pb2.BulkItem:
    return bulk_pb2.BulkItem(
        saga_id=str(saga.id),
        outcome=_OUTCOMES[verdict.outcome],
        message=verdict.message,
        state=conversion.state(verdict.state),
    )
