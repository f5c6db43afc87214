"""The gRPC server of a replica's API: its services, health, reflection, limits, and a stop that fails no call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from orchestrator.api.audit_service import AuditService, NoAudits
from orchestrator.api.bulk_service import BulkService
from orchestrator.api.certification_service import Certificates, CertificationService
from orchestrator.api.cluster_service import ClusterService
from orchestrator.api.counting_service import CountingService
from orchestrator.api.definition_service import DefinitionService
from orchestrator.api.doorway import Doorway
from orchestrator.api.event_service import EventService
from orchestrator.api.guard import Guard
from orchestrator.api.hold_service import HoldService
from orchestrator.api.moves import Moves
from orchestrator.api.operation_service import OperationService
from orchestrator.api.pause_service import PauseLog, PauseService
from orchestrator.api.port import Audits, Definitions, Intake, Leadership, Registry, SagaReader
from orchestrator.api.saga_service import SagaService
from orchestrator.api.signalling import SignalBox, Signalling
from orchestrator.api.start_holds import Gate, StartHolds
from orchestrator.api.starts import Starts
from orchestrator.api.step_service import StepService
from orchestrator.api.version_service import VersionService
from orchestrator.api.watcher import Watcher
from orchestrator.driving.veil import Veils
from orchestrator.errors import BatonError
from orchestrator.events.port import EventLog
from orchestrator.events.streams import EventStreams
from orchestrator.pb.baton.v1 import (
    audit_pb2_grpc,
    bulk_pb2_grpc,
    certification_pb2_grpc,
    cluster_pb2_grpc,
    counting_pb2_grpc,
    events_pb2_grpc,
    holds_pb2_grpc,
    operations_pb2_grpc,
    pauses_pb2_grpc,
    saga_pb2_grpc,
    steps_pb2_grpc,
    versions_pb2_grpc,
)
from orchestrator.security.assemble import Doors, open_doors
from orchestrator.security.dialer import PLAIN, Dialer

_SERVICES = (
    "baton.v1.SagaService",
    "baton.v1.DefinitionService",
    "baton.v1.VersionService",
    "baton.v1.StepService",
    "baton.v1.OperationService",
    "baton.v1.ClusterService",
    "baton.v1.CertificationService",
    "baton.v1.CountingService",
    "baton.v1.BulkService",
    "baton.v1.EventService",
    "baton.v1.AuditService",
    "baton.v1.HoldService",
    "baton.v1.PauseService",
)
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

# More calls at once are refused with RESOURCE_EXHAUSTED: most of them wait for sagas, and cost memory alone.
CALLS_MAX = 30_000
# Longer than anybody waits for an answer.
UNTAKEN_MAX_S = 86_400


class CannotListen(BatonError):
    """The API's port could not be opened: choose another one with BATON_API_LISTEN."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where to listen (host:port; port 0 takes a free one), as which replica, and the sizes that are accepted.

    `token_listen` is a second address, if not empty: for callers with a token and no certificate.
    """

    cluster: str
    replica: str
    listen: str
    input_bytes_max: int
    message_bytes_max: int
    token_listen: str = ""


@dataclass(frozen=True, slots=True)
class ApiSecurity:
    """Who is let in, where operators' actions are noted, and how other replicas are reached."""

    doors: Doors = field(default_factory=open_doors)
    audits: Audits = field(default_factory=NoAudits)
    replicas: Dialer = PLAIN
    # Whatever else sees each call, behind the guard.
    within: Sequence[grpc.aio.ServerInterceptor] = ()


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The rest of the replica, as far as the API needs it. Its maker runs `watcher`, `streams` and the intake.

    `admit` raises Overloaded while no new sagas are taken.
    """

    registry: Registry
    intake: Intake
    reader: SagaReader
    signal_box: SignalBox
    definitions: Definitions
    leadership: Leadership
    watcher: Watcher
    certificates: Certificates
    events: EventLog
    streams: EventStreams
    start_holds: StartHolds
    pauses: PauseLog
    admit: Callable[[], None] = lambda: None


class ApiServer:
    """Serves the API from `start` to `stop`. Make it on the event loop that it is to run on."""

    def __init__(self, settings: ApiSettings, parts: ApiParts, security: ApiSecurity | None = None) -> None:
        security = security or ApiSecurity()
        self._listen = settings.listen
        self._token_listen = settings.token_listen
        self._doors = security.doors
        self.token_port = 0
        self._watcher = parts.watcher
        self._streams = parts.streams
        self._health = health.HealthServicer()
        options = _options(settings.message_bytes_max)
        self._doorway = Doorway()
        # The doorway is the outer one: a replica that ends sends everybody on, whoever it is.
        interceptors = (self._doorway, Guard(security.doors.gate, security.audits.record), *security.within)
        self._server = grpc.aio.server(interceptors=interceptors, options=options, maximum_concurrent_rpcs=CALLS_MAX)
        starts = Starts(
            parts.registry,
            parts.intake,
            settings.input_bytes_max,
            parts.definitions,
            parts.reader,
            parts.admit,
            Gate(parts.start_holds),
        )
        signalling = Signalling(parts.signal_box, parts.reader, parts.registry)
        veils = Veils(parts.registry)
        sagas = SagaService(starts, parts.reader, parts.watcher, signalling, veils, settings.message_bytes_max)
        definitions = DefinitionService(parts.registry, parts.definitions)
        moves = Moves(signalling, parts.registry, parts.definitions, veils)
        versions = VersionService(parts.registry, parts.definitions, moves)
        cluster = ClusterService(settings.cluster, settings.replica, parts.leadership, parts.reader, security.replicas)
        saga_pb2_grpc.add_SagaServiceServicer_to_server(sagas, self._server)
        saga_pb2_grpc.add_DefinitionServiceServicer_to_server(definitions, self._server)
        versions_pb2_grpc.add_VersionServiceServicer_to_server(versions, self._server)
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(cluster, self._server)
        steps = StepService(signalling, parts.signal_box, parts.registry, parts.definitions)
        steps_pb2_grpc.add_StepServiceServicer_to_server(steps, self._server)
        operations = OperationService(signalling, parts.signal_box, parts.reader, veils)
        operations_pb2_grpc.add_OperationServiceServicer_to_server(operations, self._server)
        certification = CertificationService(parts.certificates)
        certification_pb2_grpc.add_CertificationServiceServicer_to_server(certification, self._server)
        counting_pb2_grpc.add_CountingServiceServicer_to_server(CountingService(parts.reader), self._server)
        bulk_pb2_grpc.add_BulkServiceServicer_to_server(BulkService(parts.reader, signalling, moves), self._server)
        events = EventService(parts.events, parts.streams, settings.cluster)
        events_pb2_grpc.add_EventServiceServicer_to_server(events, self._server)
        audit_pb2_grpc.add_AuditServiceServicer_to_server(AuditService(security.audits), self._server)
        holds = HoldService(parts.start_holds, parts.definitions)
        holds_pb2_grpc.add_HoldServiceServicer_to_server(holds, self._server)
        pauses = PauseService(parts.pauses, parts.definitions, parts.registry)
        pauses_pb2_grpc.add_PauseServiceServicer_to_server(pauses, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        _add_reflection(self._server)
        self.serving = False

    async def start(self) -> int:
        """Open the port and serve; returns the port. Raises CannotListen."""
        port = self._open("BATON_API_LISTEN", self._listen, certificates=True)
        if self._token_listen:
            self.token_port = self._open("BATON_API_TOKEN_LISTEN", self._token_listen, certificates=False)
        await self._server.start()
        self.serving = True
        await self._report(serving=True)
        return port

    def refuse(self) -> None:
        """Send new calls to other replicas from now on."""
        self.serving = False
        self._doorway.shut()

    def _open(self, setting: str, listen: str, *, certificates: bool) -> int:
        credentials = self._doors.credentials(certificates=certificates)
        try:
            port = (
                self._server.add_insecure_port(listen)
                if credentials is None
                else self._server.add_secure_port(listen, credentials)
            )
        except RuntimeError as error:
            raise CannotListen(f"{setting}: cannot listen on {listen}: {error}") from error
        if port == 0:
            raise CannotListen(f"{setting}: cannot listen on {listen}")
        return port

    async def drain(self, grace_s: float) -> None:
        """Send new calls to other replicas, and let those under way end for at most `grace_s` seconds.

        Callers that wait for sagas are answered at once with the state there is. The port stays open until the process
        ends, so that no call meets a server that is half stopped.
        """
        self.refuse()
        await self._report(serving=False)
        self._watcher.close()
        self._streams.close()
        await self._doorway.close(grace_s)

    async def stop(self, grace_s: float) -> None:
        """Drain, and close the port."""
        await self.drain(grace_s)
        await self._server.stop(None)

    async def _report(self, *, serving: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        status = answer.SERVING if serving else answer.NOT_SERVING
        for service in ("", *_SERVICES):
            await self._health.set(service, status)


def _options(message_bytes_max: int) -> list[tuple[str, int]]:
    return [
        # A second server on the port must fail, not share it.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # Bursts beyond 1,000 calls that are not yet taken up would be answered CANCELLED by default.
        ("grpc.server.max_pending_requests", CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * CALLS_MAX),
        # So would be those that are not taken up within 30 s, which is for the deadline of the caller to say.
        ("grpc.server_max_unrequested_time_in_server", UNTAKEN_MAX_S),
        # A client that has vanished is noticed within seconds: the ping's own timeout overrules the keep-alive's.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.http2.ping_timeout_ms", 5_000),
        # Clients may ask whether this replica is alive, also between calls, every second.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 900),
    ]


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection in both versions: newer clients ask for v1 first, and v1alpha is the same on the wire."""
    names = (*_SERVICES, HEALTH_SERVICE, reflection.SERVICE_NAME)
    servicer = ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, methods)
            for service in (_REFLECTION_V1, reflection.SERVICE_NAME)
        )
    )
