"""Runs a participant: Postgres, the barrier, the services, health and reflection, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from participants.answers import Answers, Reporter
from participants.barrier import Barrier
from participants.database import Database
from participants.dispatch import Dispatcher
from participants.exchange import Methods
from participants.fault_service import FaultServicer
from participants.faults import BadFault, Faults, faults_from_json
from participants.interceptor import BarrierInterceptor
from participants.pb.baton.participant.v1 import participant_pb2_grpc
from participants.pb.shop.v1 import fault_pb2_grpc
from participants.service import ParticipantServicer
from participants.settings import ParticipantSettings
from participants.tls import Doorkeeper, certificates_of

log = structlog.get_logger()

# A generated `add_..._to_server` function.
Register = Callable[[Any, Any], None]

MIGRATIONS = files("participants") / "migrations"

# As far as gRPC counts: calls are bounded by the pool and by the caller, and a burst must not be answered CANCELLED.
_UNBOUNDED = 2**31 - 1
# Longer than anybody waits: a call that is not taken up at once must not be answered CANCELLED either.
_UNTAKEN_MAX_S = 86_400


class BadAddress(Exception):
    """The address to listen on is malformed, or somebody else listens there."""


@dataclass(frozen=True, slots=True)
class Service:
    """A participant: its name (also its schema), and its servicer, made from its database and settings.

    Without a database (`migrations` None) there is no barrier, and the servicer gets None. With a `reporter` actions
    may be answered later, and the servicer is made with the `Answers` as a third argument.
    """

    name: str
    register: Register
    servicer: Callable[..., object]
    listen: str
    migrations: Traversable | None = None
    prepare: Callable[[Database, ParticipantSettings], Any] | None = field(default=None)
    reporter: Callable[[ParticipantSettings], Reporter] | None = field(default=None)
    # What the service does beside answering calls, from when its database is open; cancelled when it stops.
    background: Callable[[Database, ParticipantSettings], Awaitable[None]] | None = None
    # Further parts of the kit that it keeps in its schema.
    shared_migrations: tuple[Traversable, ...] = ()


class Participant:
    """One running participant. `start`, then `stop`; or `run_until_signal` for both."""

    def __init__(self, service: Service, settings: ParticipantSettings) -> None:
        """Raises BadFault when the settings hold a fault that makes no sense, BadCertificate for TLS that cannot be."""
        self._certificates = certificates_of(settings)
        self.port = 0
        self._service = service
        self._settings = settings
        self._listen = settings.listen or service.listen
        self._database = Database(settings, service.name) if service.migrations is not None else None
        barrier = Barrier(self._database) if self._database is not None else None
        reporter = service.reporter(settings) if service.reporter is not None else None
        self._answers = Answers(self._database, reporter) if self._database is not None and reporter else None
        self._telling: asyncio.Task[None] | None = None
        self._faults = Faults()
        for fault in faults_from_json(settings.faults) if settings.faults else ():
            self._faults.inject(fault)
        dispatcher = Dispatcher(barrier, self._faults, settings.call_max_s)
        self._methods = Methods()
        self._exchange = ParticipantServicer(self._methods, dispatcher, settings.calls_max, barrier)
        self._interceptor = BarrierInterceptor(dispatcher)
        self._health = health.aio.HealthServicer()
        self._server = self._make_server()
        self._opening: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen at once; serve as soon as Postgres is there. Raises BadAddress."""
        try:
            if self._certificates is None:
                self.port = self._server.add_insecure_port(self._listen)
            else:
                self.port = self._server.add_secure_port(self._listen, self._certificates.credentials())
        except RuntimeError as error:
            raise BadAddress(f"cannot listen on {self._listen}: {error}") from None
        await self._set_health(False)
        await self._server.start()
        log.info("participant listens", service=self._service.name, listen=self._listen, port=self.port)
        self._opening = asyncio.create_task(self._open())

    async def ready(self) -> None:
        """Return once the participant serves."""
        if self._opening is not None:
            await asyncio.shield(self._opening)

    async def stop(self) -> None:
        """Take no more calls, answer those in work within the grace, and close."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        if self._telling is not None:
            # What it has not told is stored, and told after the next start.
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait((self._background,), timeout=self._settings.shutdown_grace_s)
        await self._health.enter_graceful_shutdown()
        self._exchange.close()
        await self._server.stop(self._settings.shutdown_grace_s)
        if self._database is not None:
            await self._database.close()
        log.info("participant stopped", service=self._service.name)

    async def run_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises BadAddress, and what opening the database raises."""
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await self.start()
        try:
            async with asyncio.TaskGroup() as group:
                opened = group.create_task(self.ready())
                await ended.wait()
                opened.cancel()
        finally:
            await self.stop()

    async def _open(self) -> None:
        if self._database is not None and self._service.migrations is not None:
            shared = [MIGRATIONS / "barrier", *self._service.shared_migrations]
            await self._database.open([*shared, self._service.migrations])
            if self._service.prepare is not None:
                await self._service.prepare(self._database, self._settings)
            if self._answers is not None:
                self._telling = asyncio.create_task(self._answers.run())
            if self._service.background is not None:
                self._background = asyncio.create_task(self._run_background(self._service.background, self._database))
        await self._set_health(True)
        log.info("participant serves", service=self._service.name, port=self.port)

    async def _run_background(
        self, background: Callable[[Database, ParticipantSettings], Awaitable[None]], database: Database
    ) -> None:
        try:
            await background(database, self._settings)
        except Exception:
            # Without it the service does half of its work: whoever watches its health must hear of that.
            log.exception("the background of the participant has ended", service=self._service.name)
            await self._set_health(False)

    def _make_server(self) -> grpc.aio.Server:
        doorkeepers = [] if self._certificates is None else [Doorkeeper(self._settings.callers)]
        server = grpc.aio.server(interceptors=[*doorkeepers, self._interceptor], options=_options(self._settings))
        extra = () if self._answers is None else (self._answers,)
        servicer = self._service.servicer(self._database, self._settings, *extra)
        for target in (self._methods, server):
            self._service.register(servicer, target)
        participant_pb2_grpc.add_ParticipantServiceServicer_to_server(self._exchange, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*self._methods.services, "baton.participant.v1.ParticipantService", health.SERVICE_NAME]
        if self._settings.allow_faults:
            log.warning("FAULT INJECTION IS ALLOWED: anybody who reaches this port can make calls fail")
            fault_pb2_grpc.add_FaultServiceServicer_to_server(FaultServicer(self._faults), server)
            names.append("shop.v1.FaultService")
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        return server

    async def _set_health(self, serving: bool) -> None:
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if serving else response.NOT_SERVING
        for name in ("", *self._methods.services):
            await self._health.set(name, status)


def _options(settings: ParticipantSettings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.server.max_pending_requests", _UNBOUNDED),
        ("grpc.server.max_pending_requests_hard_limit", _UNBOUNDED),
        ("grpc.server_max_unrequested_time_in_server", _UNTAKEN_MAX_S),
        ("grpc.max_concurrent_streams", _UNBOUNDED),
        ("grpc.max_receive_message_length", settings.message_bytes_max),
        ("grpc.max_send_message_length", settings.message_bytes_max),
        # The orchestrator pings an idle connection to notice a frozen peer; let it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    )


__all__ = ["BadAddress", "BadFault", "Participant", "Service"]
