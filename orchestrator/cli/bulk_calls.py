"""One order for many sagas, over any number of replicas: a stream that breaks is taken up where it was.

What a replica reported stands. What it did and could not report any more is asked again: an order that stands already
is given once, and is then reported as standing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from copy import deepcopy

import grpc
import grpc.aio

from orchestrator.cli.calls import Calls, retried
from orchestrator.cli.errors import refused
from orchestrator.cli.route import Backoff
from orchestrator.pb.baton.v1 import bulk_pb2, bulk_pb2_grpc

# A stream is opened anew after so long: a replica that is frozen is silent, and one that works is asked to go on.
_STREAM_S = 10.0

# Another order joins its request by `|`: beside what is its own, it has the same fields.
BulkRequest = bulk_pb2.BulkCancelRequest | bulk_pb2.BulkRetryRequest | bulk_pb2.BulkMoveRequest
MAX_DEFAULT = 10_000


async def bulk_orders(
    calls: Calls, method: str, request: BulkRequest, deadline_s: float
) -> AsyncGenerator[bulk_pb2.BulkReport]:
    """The reports of an order, each once; `matched` counts over all streams. See `Client.bulk_order`."""
    question = deepcopy(request)
    question.max = most = request.max or MAX_DEFAULT
    matched, heard_at_s, backoff = 0, time.monotonic(), Backoff()
    while True:
        endpoint = calls.route.next()
        matched_before, heard = matched, False
        stream = getattr(calls.stub(endpoint, bulk_pb2_grpc.BulkServiceStub), method)(question, timeout=_STREAM_S)
        try:
            async for report in stream:
                heard, heard_at_s, backoff = True, time.monotonic(), Backoff()
                matched = report.matched = matched_before + report.matched
                question.as_of.CopyFrom(report.as_of)
                question.after_saga_id = report.reached_saga_id
                question.max = most - matched
                yield report
                if report.finished:
                    return
        except grpc.aio.AioRpcError as error:
            if not retried(error):
                raise refused(error) from None
            if not heard or error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                calls.note_failure(endpoint, error)
            if time.monotonic() - heard_at_s > deadline_s:
                raise calls.unavailable(error, deadline_s) from None
        finally:
            stream.cancel()
        # It broke, or its time was up, before the last report: go on behind the one that came.
        await asyncio.sleep(backoff.next_s())
