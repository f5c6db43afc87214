"""The thread that keeps a replica's lease alive, whatever the main loop is busy with.

It has gRPC channels of its own (the synchronous kind) and sends each keep-alive to every endpoint of etcd at once;
the first good answer counts, so a frozen or dead member costs nothing. LeaseKeepAlive is a stream in etcd's API, but
on the wire one request and one answer are a stream too, and etcd serves it as a unary call.

It vouches for the main loop, so it renews only while the main loop beats (pulse.py): a replica that hangs loses its
lease, as one that has died does.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import structlog

from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike_in_thread
from orchestrator.leadership.closable import ClosableThread
from orchestrator.leadership.etcd_transport import (
    AUTHENTICATE,
    CHANNEL_OPTIONS,
    REQUIRES_LEADER,
    EtcdAccess,
    Metadata,
    Method,
    describe,
    token_refused,
)
from orchestrator.leadership.lease import Lease
from orchestrator.leadership.pulse import Clock, Pulse, boottime_s
from orchestrator.pb.baton.etcd.v1 import etcd_pb2 as pb

KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse, effects.KEEP_ALIVE)

log = structlog.get_logger()

# Seconds granted, 0 or less if the lease is gone; or why there was no answer.
_Answer = int | str


@dataclass(frozen=True, slots=True)
class RenewalPace:
    """How a lease is renewed: every `interval_s`, `margin_s` off its deadline, not if the loop stalls longer."""

    interval_s: float = 0.4
    margin_s: float = 0.2
    stall_max_s: float = 1.5
    # One round of keep-alives ends after so long, so that a second one fits into the lease.
    timeout_s: float = 0.8


class RenewalThread(ClosableThread):
    """Renews one lease at a time. Its methods may be called from any thread."""

    def __init__(self, access: EtcdAccess, pulse: Pulse, pace: RenewalPace, clock: Clock = boottime_s) -> None:
        super().__init__("lease-renewal")
        self._pulse = pulse
        self._pace = pace
        self._clock = clock
        self._access = access
        self._generation = access.dialer.generation
        self._lines = self._open()
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._lateness_s = 0.0
        self._metadata: Metadata = REQUIRES_LEADER
        self._token_refused = bool(access.user)

    def close(self) -> None:
        """End the thread, within one round of keep-alives, and its connections."""
        super().close()
        for line in self._lines:
            line.close()

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on, in place of any other."""
        with self._lock:
            self._lease = lease

    def release(self) -> None:
        """Renew nothing any more."""
        with self._lock:
            self._lease = None

    def lease(self) -> Lease | None:
        """What is known of the lease held now."""
        with self._lock:
            return self._lease

    @property
    def lateness_s(self) -> float:
        """How much later than planned the last round began: what the GIL and the machine's load cost."""
        return self._lateness_s

    def _open(self) -> list[_Line]:
        return [_Line(self._access, endpoint, self._pace.timeout_s) for endpoint in self._access.endpoints]

    def _keep_up(self) -> None:
        """Connect anew when there are new certificates. Between two rounds nothing is under way."""
        if self._generation != (generation := self._access.dialer.generation):
            self._generation = generation
            old, self._lines = self._lines, self._open()
            for line in old:
                line.close()

    def _run(self) -> None:
        due_s = self._clock() + self._pace.interval_s
        while not self._closing.wait(max(0.0, due_s - self._clock())):
            begun_s = self._clock()
            self._lateness_s = max(0.0, begun_s - due_s)
            due_s = begun_s + self._pace.interval_s
            lease = self.lease()
            if lease is None or lease.lost:
                continue
            self._keep_up()
            if (age_s := self._pulse.age_s()) > self._pace.stall_max_s:
                log.warning("lease not renewed: the main loop stalls", loop_age_s=round(age_s, 3))
                continue
            if self._token_refused:
                self._fetch_token()
            ttl_s = self._round(lease.id)
            if ttl_s is not None:
                self._note(lease.id, begun_s, ttl_s)

    def _note(self, lease_id: int, sent_at_s: float, ttl_s: int) -> None:
        with self._lock:
            if self._lease is not None and self._lease.id == lease_id:
                self._lease = self._lease.renewed(sent_at_s, ttl_s, self._pace.margin_s)

    def _round(self, lease_id: int) -> int | None:
        """One round of keep-alives; see `_renew`."""
        if not ARMED:
            return self._renew(lease_id)
        try:
            strike_in_thread(effects.KEEP_ALIVE.before)
            answer = self._renew(lease_id)
            strike_in_thread(effects.KEEP_ALIVE.after)
        except grpc.RpcError:
            return None
        return answer

    def _renew(self, lease_id: int) -> int | None:
        """Seconds granted by the first endpoint that renewed; 0 if etcd says that the lease is gone; None: no answer.

        A member that has just become etcd's leader may not yet know a lease, so "gone" counts only if no other
        endpoint says otherwise in this round.
        """
        answers: queue.Queue[_Answer] = queue.Queue(maxsize=len(self._lines))
        calls = [line.send(lease_id, self._metadata, answers.put) for line in self._lines]
        gone = False
        ends_at_s = self._clock() + self._pace.timeout_s
        try:
            for _ in calls:
                answer = answers.get(timeout=max(0.0, ends_at_s - self._clock()))
                if isinstance(answer, int) and answer > 0:
                    return answer
                if isinstance(answer, int):
                    gone = True
                else:
                    self._token_refused = self._token_refused or token_refused(answer)
        except queue.Empty:
            pass
        finally:
            for call in calls:
                call.cancel()
        return 0 if gone else None

    def _fetch_token(self) -> None:
        for line in self._lines:
            token = line.authenticate()
            if token is not None:
                self._metadata = (*REQUIRES_LEADER, ("token", token))
                self._token_refused = False
                return


class _Line:
    """One endpoint, over a connection of its own: it must not share its fate with those of the main loop."""

    def __init__(self, access: EtcdAccess, endpoint: str, timeout_s: float) -> None:
        self._access = access
        self._timeout_s = timeout_s
        options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        self._channel = access.dialer.blocking_channel(endpoint, options)
        self._keep_alive = self._channel.unary_unary(
            KEEP_ALIVE.path, pb.LeaseKeepAliveRequest.SerializeToString, KEEP_ALIVE.response.FromString
        )
        self._authenticate = self._channel.unary_unary(
            AUTHENTICATE.path, pb.AuthenticateRequest.SerializeToString, AUTHENTICATE.response.FromString
        )

    def send(
        self, lease_id: int, metadata: Metadata, answer: Callable[[_Answer], None]
    ) -> grpc.Future[pb.LeaseKeepAliveResponse]:
        """Send one keep-alive; `answer` is called with its outcome in a thread of gRPC's."""
        request = pb.LeaseKeepAliveRequest(ID=lease_id)
        call = self._keep_alive.future(request, timeout=self._timeout_s, metadata=metadata)
        call.add_done_callback(lambda done: answer(_answer(done)))
        return call

    def authenticate(self) -> str | None:
        """A fresh token, or None when this endpoint gives none."""
        request = pb.AuthenticateRequest(name=self._access.user, password=self._access.password)
        try:
            if ARMED:
                strike_in_thread(effects.AUTHENTICATE.before)
            token: str = self._authenticate(request, timeout=self._timeout_s).token
            if ARMED:
                strike_in_thread(effects.AUTHENTICATE.after)
            return token
        except grpc.RpcError as error:
            log.warning("etcd lets the lease renewal not in", reason=describe(error))
            return None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def _answer(done: grpc.Future[pb.LeaseKeepAliveResponse]) -> _Answer:
    try:
        return done.result().TTL
    except grpc.FutureCancelledError:
        return "cancelled"
    except grpc.RpcError as error:
        return error.details() or ""
