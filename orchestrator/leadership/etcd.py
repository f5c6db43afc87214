"""etcd as a campaign's coordinator: ranges, transactions, leases and watches over its own v3 gRPC API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import groupby

import grpc
from google.protobuf.message import Message

from orchestrator.errors import InvariantError
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.leadership.errors import CoordinatorAway, CoordinatorRefused, HistoryGone, LeaseGone
from orchestrator.leadership.etcd_transport import EtcdAccess, Method, Transport, describe, token_refused
from orchestrator.leadership.port import (
    Change,
    Delete,
    Entry,
    Equal,
    Field,
    Get,
    LeaseId,
    Operation,
    Put,
    Snapshot,
    Txn,
    TxnResult,
)
from orchestrator.pb.baton.etcd.v1 import etcd_pb2 as pb

RANGE = Method("/etcdserverpb.KV/Range", pb.RangeResponse, effects.RANGE)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnResponse, effects.TXN)
COMPACT = Method("/etcdserverpb.KV/Compact", pb.CompactionResponse, effects.COMPACT)
GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse, effects.GRANT)
REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse, effects.REVOKE)
TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveResponse, effects.TIME_TO_LIVE)
WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse, effects.WATCH)

# A watch that was silent for so long is asked for a sign of life, and given up after as long again: a frozen member
# of etcd would otherwise keep it open, and silent, until TCP gives up.
_WATCH_SILENCE_S = 1.0

WatchCall = grpc.aio.StreamStreamCall[Message, pb.WatchResponse]


class EtcdCoordinator:
    """An etcd cluster of one or more endpoints. Belongs to one event loop; close it when done."""

    def __init__(self, access: EtcdAccess) -> None:
        self.transport = Transport(access)

    @property
    def address(self) -> str:
        """All endpoints, for people."""
        return self.transport.address

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    async def range(self, prefix: str, *, serializable: bool = False) -> Snapshot:
        """Every key below `prefix`. A serializable read is answered from one member's own state and may be old."""
        request = pb.RangeRequest(key=prefix.encode(), range_end=_end_of(prefix), serializable=serializable)
        response = await self.transport.ask(RANGE, request)
        return Snapshot(
            tuple(_entry(kv) for kv in response.kvs), response.header.revision, str(response.header.cluster_id)
        )

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction once. One that only reads is asked of the next endpoint too, when the first is slow."""
        request = pb.TxnRequest(
            compare=[_compare(condition) for condition in txn.when],
            success=[_operation(operation) for operation in txn.then],
            failure=[_operation(operation) for operation in txn.otherwise],
        )
        reads_only = all(isinstance(operation, Get) for operation in txn.then + txn.otherwise)
        send = self.transport.ask if reads_only else self.transport.ask_once
        response = await send(TXN, request)
        found = tuple(_entry(kv) for reply in response.responses for kv in reply.response_range.kvs)
        return TxnResult(response.succeeded, found, response.header.revision, str(response.header.cluster_id))

    async def grant(self, ttl_s: int) -> tuple[LeaseId, int]:
        """A new lease, and the seconds granted: etcd gives no less than 1.5 times its election timeout."""
        response = await self.transport.ask(GRANT, pb.LeaseGrantRequest(TTL=ttl_s))
        if response.error:
            raise CoordinatorRefused(f"etcd grants no lease of {ttl_s} s: {response.error}")
        return LeaseId(response.ID), response.TTL

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease and delete its keys."""
        try:
            await self.transport.ask(REVOKE, pb.LeaseRevokeRequest(ID=lease))
        except LeaseGone:
            return

    async def time_to_live(self, lease: LeaseId) -> int:
        """Seconds left of a lease by etcd's clock. Raises LeaseGone."""
        response = await self.transport.ask(TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=lease))
        if response.TTL < 0:
            raise LeaseGone(f"etcd does not know the lease {lease:x}")
        return response.TTL

    async def compact(self, revision: int) -> None:
        """Forget all history before a revision."""
        await self.transport.ask(COMPACT, pb.CompactionRequest(revision=revision))

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[tuple[Change, ...]]:
        """Every change below `prefix`, resumed on another endpoint after the last change seen when one fails.

        Resumed, it says so by an empty batch.
        """
        history = _History(from_revision)
        failures = 0
        while True:
            endpoint = self.transport.endpoints[0]
            try:
                async with aclosing(self._watch_at(endpoint, prefix, history)) as answers:
                    async for changes in answers:
                        if changes is None:
                            failures = 0
                            continue
                        if changes:
                            failures = 0
                            history.next_revision = changes[-1].revision + 1
                        yield changes
            except grpc.aio.AioRpcError as error:
                reason = describe(error)
            except _WatchEnded as ended:
                reason = str(ended)
            self.transport.distrust(endpoint)
            history.interrupted = True
            failures += 1
            if failures >= len(self.transport.endpoints):
                raise CoordinatorAway(f"etcd at {self.address} keeps no watch: {reason}")

    async def _watch_at(
        self, endpoint: str, prefix: str, history: _History
    ) -> AsyncGenerator[tuple[Change, ...] | None]:
        """The changes that one endpoint reports; None is a sign of life, an empty tuple says that it took over."""
        metadata = await self.transport.metadata()
        call: WatchCall = self.transport.channel(endpoint).stream_stream(
            WATCH.path,
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )(metadata=metadata)
        create = pb.WatchCreateRequest(
            key=prefix.encode(), range_end=_end_of(prefix), start_revision=history.next_revision
        )
        try:
            if ARMED:
                await strike(effects.WATCH.before)
            await call.write(pb.WatchRequest(create_request=create))
            if ARMED:
                await strike(effects.WATCH.after)
            while True:
                response = await _read(call)
                if response.canceled:
                    if token_refused(response.cancel_reason) or "permission denied" in response.cancel_reason:
                        await self.transport.metadata(refused=metadata)
                    _raise_cancelled(response, history)
                if response.created:
                    history.check(response.header)
                    if history.interrupted:
                        history.interrupted = False
                        yield ()
                elif response.events:
                    # etcd sends several revisions at once when it has them.
                    changes = (_change(event) for event in response.events)
                    for _, batch in groupby(changes, key=lambda change: change.revision):
                        yield tuple(batch)
                else:
                    yield None
        finally:
            call.cancel()


class _WatchEnded(Exception):
    """A watch ended for no fault of its request: go on elsewhere."""


class _History:
    """Which revision a watch needs next, of which cluster's history, and whether it was out of sight since the last."""

    def __init__(self, from_revision: int) -> None:
        self.next_revision = from_revision
        self.interrupted = False
        self._cluster: int | None = None

    def check(self, header: pb.ResponseHeader) -> None:
        """Raises HistoryGone when the store is younger than what was already seen, or another one.

        etcd restored from a snapshot, or wiped, would let us wait in silence for revisions that have been before. One
        that was restored and has passed what we saw looks as if nothing had been: hence `interrupted`.
        """
        if self._cluster not in (None, header.cluster_id) or header.revision < self.next_revision - 1:
            raise HistoryGone(f"etcd is at revision {header.revision}, before {self.next_revision}: read again")
        self._cluster = header.cluster_id


async def _read(call: WatchCall) -> pb.WatchResponse:
    """The next response. Raises _WatchEnded on the stream's end, and when the member shows no sign of life."""
    if ARMED:
        await strike(effects.WATCH_READ.before)
    reading = asyncio.ensure_future(call.read())
    try:
        done, _ = await asyncio.wait({reading}, timeout=_WATCH_SILENCE_S)
        if not done:
            await call.write(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
            done, _ = await asyncio.wait({reading}, timeout=_WATCH_SILENCE_S)
    finally:
        reading.cancel()
    if not done:
        raise _WatchEnded("no sign of life on the watch")
    response = reading.result()
    if ARMED:
        await strike(effects.WATCH_READ.after)
    if not isinstance(response, pb.WatchResponse):
        raise _WatchEnded("the member ended the watch")
    return response


def _raise_cancelled(response: pb.WatchResponse, history: _History) -> None:
    if response.compact_revision:
        raise HistoryGone(f"revision {history.next_revision} is compacted: read again")
    raise _WatchEnded(f"cancelled: {response.cancel_reason}")


def _end_of(prefix: str) -> bytes:
    """The first key after all keys that begin with `prefix`. Keys are ASCII here, so its last byte can grow."""
    raw = prefix.encode()
    return raw[:-1] + bytes([raw[-1] + 1])


def _entry(kv: pb.KeyValue) -> Entry:
    return Entry(kv.key.decode(), kv.value, kv.mod_revision, kv.create_revision, LeaseId(kv.lease))


def _change(event: pb.Event) -> Change:
    entry = None if event.type == pb.Event.DELETE else _entry(event.kv)
    return Change(event.kv.key.decode(), entry, event.kv.mod_revision)


def _compare(condition: Equal) -> pb.Compare:
    key = condition.key.encode()
    match condition.field, condition.value:
        case Field.CREATED, int(value):
            return pb.Compare(key=key, target=pb.Compare.CREATE, create_revision=value)
        case Field.MOD_REVISION, int(value):
            return pb.Compare(key=key, target=pb.Compare.MOD, mod_revision=value)
        case Field.LEASE, int(value):
            return pb.Compare(key=key, target=pb.Compare.LEASE, lease=value)
        case Field.VALUE, bytes(value):
            return pb.Compare(key=key, target=pb.Compare.VALUE, value=value)
        case _:
            raise InvariantError(f"{condition.field} of {condition.key} cannot equal {condition.value!r}")


def _operation(operation: Operation) -> pb.RequestOp:
    match operation:
        case Get(key):
            return pb.RequestOp(request_range=pb.RangeRequest(key=key.encode()))
        case Put(key, value, lease):
            return pb.RequestOp(request_put=pb.PutRequest(key=key.encode(), value=value, lease=lease))
        case Delete(key):
            return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key.encode()))
