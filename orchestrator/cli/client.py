"""A client of Baton's API with several endpoints: what fails on one replica is asked of the next one.

Every call may be repeated without harm: StartSaga carries a request id, which the client makes if the caller gives
none. A call that is answered UNAVAILABLE or RESOURCE_EXHAUSTED, or not in time, goes to the next endpoint, until the
caller's deadline. So no call fails through a failover, nor through one frozen replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.message import Message

from orchestrator.cli.access import OPEN_ACCESS, ClientAccess
from orchestrator.cli.bulk_calls import BulkRequest, bulk_orders
from orchestrator.cli.calls import Answer, Calls, Method, retried
from orchestrator.cli.errors import ApiUnavailable, refused
from orchestrator.cli.event_calls import EventCalls
from orchestrator.cli.route import Backoff, Route
from orchestrator.pb.baton.v1 import (
    audit_pb2,
    audit_pb2_grpc,
    bulk_pb2,
    certification_pb2,
    certification_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    counting_pb2,
    counting_pb2_grpc,
    saga_pb2,
    saga_pb2_grpc,
    versions_pb2,
    versions_pb2_grpc,
)

DEADLINE_S = 30.0
ATTEMPT_MAX_S = 2.0
# How long one replica may be silent when it has been asked to wait for something.
WAIT_MAX_S = 10.0
_PAGE = 500
_HISTORY_MAX = 10_000

TERMINAL = frozenset({saga_pb2.SAGA_STATE_COMPLETED, saga_pb2.SAGA_STATE_COMPENSATED, saga_pb2.SAGA_STATE_FAILED})

_Sagas = saga_pb2_grpc.SagaServiceStub
_Definitions = saga_pb2_grpc.DefinitionServiceStub
_Versions = versions_pb2_grpc.VersionServiceStub
_Cluster = cluster_pb2_grpc.ClusterServiceStub
_Certificates = certification_pb2_grpc.CertificationServiceStub

_START = Method(_Sagas, "StartSaga", saga_pb2.StartSagaResponse)
_RUN = Method(_Sagas, "StartSaga", saga_pb2.StartSagaResponse, attempt_max_s=WAIT_MAX_S)
_START_MANY = Method(_Sagas, "StartSagas", saga_pb2.StartSagasResponse, attempt_max_s=WAIT_MAX_S)
_GET = Method(_Sagas, "GetSaga", saga_pb2.GetSagaResponse)
_LIST = Method(_Sagas, "ListSagas", saga_pb2.ListSagasResponse)
_CANCEL = Method(_Sagas, "CancelSaga", saga_pb2.CancelSagaResponse)
_COUNT = Method(counting_pb2_grpc.CountingServiceStub, "CountSagas", counting_pb2.CountSagasResponse)
# The replica asks every participant for its descriptors, which may take a while.
_APPLY = Method(_Definitions, "ApplyDefinition", saga_pb2.ApplyDefinitionResponse, attempt_max_s=WAIT_MAX_S)
_GET_DEFINITION = Method(_Definitions, "GetDefinition", saga_pb2.Definition)
_LIST_DEFINITIONS = Method(_Definitions, "ListDefinitions", saga_pb2.ListDefinitionsResponse)
_CHECK = Method(_Versions, "CheckDefinition", versions_pb2.CheckDefinitionResponse, attempt_max_s=WAIT_MAX_S)
_DIFF = Method(_Versions, "DiffDefinitions", versions_pb2.DiffDefinitionsResponse)
_RETIRE = Method(_Versions, "RetireDefinition", versions_pb2.RetireDefinitionResponse)
_REINSTATE = Method(_Versions, "ReinstateDefinition", versions_pb2.ReinstateDefinitionResponse)
_RETIREMENTS = Method(_Versions, "ListRetirements", versions_pb2.ListRetirementsResponse)
_GET_CLUSTER = Method(_Cluster, "GetCluster", cluster_pb2.GetClusterResponse)
_RECORD = Method(_Certificates, "RecordCertificate", certification_pb2.RecordCertificateResponse)
_LIST_CERTIFICATES = Method(_Certificates, "ListCertificates", certification_pb2.ListCertificatesResponse)
# After a timeout somebody else may lead, who was not meant.
_STEP_DOWN = Method(_Cluster, "StepDown", cluster_pb2.StepDownResponse, attempt_max_s=WAIT_MAX_S, repeatable=False)

_LIST_AUDIT = Method(
    audit_pb2_grpc.AuditServiceStub, "ListAuditEntries", audit_pb2.ListAuditEntriesResponse, attempt_max_s=WAIT_MAX_S
)


class Client:
    """Calls the API at `endpoints`, each host:port; an async context manager. Safe for many tasks of one event loop.

    `deadline_s` bounds each call with all its attempts, `attempt_max_s` one attempt, in seconds. With `spread` calls
    go around the endpoints; without, they stay with one as long as it answers. `on_retry` hears of every attempt that
    failed and is repeated: the endpoint and why. `access` says by which certificate or token the client is known.

    Every method raises ApiUnavailable when the deadline passes without an answer, and CallRefused, with the code, the
    stable reason and the offending fields, when the answer is no.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        deadline_s: float = DEADLINE_S,
        attempt_max_s: float = ATTEMPT_MAX_S,
        spread: bool = False,
        on_retry: Callable[[str, str], None] | None = None,
        access: ClientAccess = OPEN_ACCESS,
    ) -> None:
        self.deadline_s = deadline_s
        self._calls = Calls(Route(tuple(endpoints), spread=spread), attempt_max_s, on_retry, access)
        self.events = EventCalls(self._calls, deadline_s)

    async def start_saga(
        self,
        definition: str,
        input_json: str,
        *,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        start_at: datetime | None = None,
        deadline_s: float | None = None,
    ) -> saga_pb2.StartSagaResponse:
        """Start a saga; it is durable when this returns. One `request_id` starts one saga, however often it is sent."""
        request = _start_request(definition, input_json, version, labels, request_id)
        if start_at is not None:
            request.start_at.FromDatetime(start_at.astimezone(UTC))
        answer = await self._calls.unary(_START, request, deadline_s or self.deadline_s)
        # Under an id that was made here, nobody but an earlier attempt can have started it.
        answer.existing = answer.existing and bool(request_id)
        return answer

    async def run_saga(
        self,
        definition: str,
        input_json: str,
        *,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        deadline_s: float | None = None,
    ) -> saga_pb2.StartSagaResponse:
        """Like `start_saga`, but returns when the saga is terminal, or with the state it has at the deadline."""
        give_up_at_s = time.monotonic() + (deadline_s or self.deadline_s)
        request = _start_request(definition, input_json, version, labels, request_id)
        request.wait = True
        answer = await self._calls.unary(_RUN, request, deadline_s or self.deadline_s)
        # Whether somebody else had started it, the first answer knows; the later ones find our own.
        existing = answer.existing and bool(request_id)
        while answer.saga.state not in TERMINAL and (left_s := give_up_at_s - time.monotonic()) > 0:
            try:
                answer = await self._calls.unary(_RUN, request, left_s)
            except ApiUnavailable:
                break
        answer.existing = existing
        return answer

    async def start_sagas(
        self, requests: Iterable[saga_pb2.StartSagaRequest], *, deadline_s: float | None = None
    ) -> list[saga_pb2.StartSagaResult]:
        """Start many sagas in one call; each is answered on its own, in order. Requests without an id get one."""
        batch = saga_pb2.StartSagasRequest(requests=list(requests))
        for request in batch.requests:
            request.request_id = request.request_id or str(uuid4())
        return list((await self._calls.unary(_START_MANY, batch, deadline_s or self.deadline_s)).results)

    async def get_saga(self, saga_id: str) -> saga_pb2.GetSagaResponse:
        """One saga with its history; a very long one to its first ten thousand transitions or so."""
        answer = await self._calls.unary(_GET, saga_pb2.GetSagaRequest(saga_id=saga_id), self.deadline_s)
        while answer.more_history and len(answer.history) < _HISTORY_MAX:
            rest = saga_pb2.GetSagaRequest(saga_id=saga_id, after_sequence=answer.history[-1].sequence)
            page = await self._calls.unary(_GET, rest, self.deadline_s)
            answer.saga.CopyFrom(page.saga)
            answer.history.extend(page.history)
            answer.more_history = page.more_history
        return answer

    async def list_sagas(self, request: saga_pb2.ListSagasRequest, limit: int) -> list[saga_pb2.Saga]:
        """At most `limit` sagas that match `request`, newest first, over as many pages as it takes."""
        found: list[saga_pb2.Saga] = []
        question = saga_pb2.ListSagasRequest()
        question.CopyFrom(request)
        while len(found) < limit:
            question.page_size = min(_PAGE, limit - len(found))
            page = await self._calls.unary(_LIST, question, self.deadline_s)
            found.extend(page.sagas)
            if not page.next_page_token:
                break
            question.page_token = page.next_page_token
        return found

    async def watch_saga(self, saga_id: str, after_sequence: int = 0) -> AsyncGenerator[saga_pb2.Transition]:
        """The saga's transitions behind `after_sequence` until it is terminal, each once, over any number of replicas.

        Raises ApiUnavailable when no replica has answered for the client's deadline.
        """
        last, heard_at_s, backoff = after_sequence, time.monotonic(), Backoff()
        while True:
            endpoint = self._calls.route.next()
            request = saga_pb2.WatchSagaRequest(saga_id=saga_id, after_sequence=last)
            # A frozen replica is silent, and so is a saga that waits: after a while, open the stream anew.
            stream = self._calls.stub(endpoint, _Sagas).WatchSaga(request, timeout=WAIT_MAX_S)
            try:
                async for transition in stream:
                    last, heard_at_s, backoff = transition.sequence, time.monotonic(), Backoff()
                    yield transition
                return
            except grpc.aio.AioRpcError as error:
                if not retried(error):
                    raise refused(error) from None
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and await self._answers(endpoint, saga_id):
                    heard_at_s = time.monotonic()
                    continue
                self._calls.note_failure(endpoint, error)
                if time.monotonic() - heard_at_s > self.deadline_s:
                    raise self._calls.unavailable(error, self.deadline_s) from None
                await asyncio.sleep(backoff.next_s())
            finally:
                stream.cancel()

    async def count_sagas(self, request: counting_pb2.CountSagasRequest) -> counting_pb2.CountSagasResponse:
        """How many sagas there are, by definition and state."""
        return await self._calls.unary(_COUNT, request, self.deadline_s)

    def bulk_order(self, request: BulkRequest) -> AsyncGenerator[bulk_pb2.BulkReport]:
        """Give an order to the sagas of a filter; the reports come as the order goes on, over any number of replicas.

        The last one says `finished`. Raises ApiUnavailable when no replica has answered for the client's deadline:
        what was reported until then stands, and of all other sagas nothing is known.
        """
        return bulk_orders(self._calls, type(request).__name__.removesuffix("Request"), request, self.deadline_s)

    async def cancel_saga(self, saga_id: str, reason: str) -> saga_pb2.Saga:
        """Ask that the saga be compensated; returns it as it is then."""
        request = saga_pb2.CancelSagaRequest(saga_id=saga_id, reason=reason)
        return (await self._calls.unary(_CANCEL, request, self.deadline_s)).saga

    async def apply_definition(
        self, yaml: str, *, file_name: str = "", descriptor_set: bytes = b""
    ) -> saga_pb2.ApplyDefinitionResponse:
        """Check a definition and store it as an immutable version, or find the version with this content."""
        request = saga_pb2.ApplyDefinitionRequest(yaml=yaml, file_name=file_name, descriptor_set=descriptor_set)
        return await self._calls.unary(_APPLY, request, self.deadline_s)

    async def get_definition(self, name: str, version: int = 0) -> saga_pb2.Definition:
        """One version of a definition; 0 is the newest."""
        request = saga_pb2.GetDefinitionRequest(name=name, version=version)
        return await self._calls.unary(_GET_DEFINITION, request, self.deadline_s)

    async def list_definitions(self) -> list[saga_pb2.Definition]:
        """All definitions."""
        answer = await self._calls.unary(_LIST_DEFINITIONS, saga_pb2.ListDefinitionsRequest(), self.deadline_s)
        return list(answer.definitions)

    async def check_definition(
        self, yaml: str, *, file_name: str = "", descriptor_set: bytes = b""
    ) -> versions_pb2.CheckDefinitionResponse:
        """Check a definition as `apply_definition` does, and store nothing."""
        request = versions_pb2.CheckDefinitionRequest(yaml=yaml, file_name=file_name, descriptor_set=descriptor_set)
        return await self._calls.unary(_CHECK, request, self.deadline_s)

    async def diff_definitions(
        self, name: str, from_version: int, to_version: int
    ) -> versions_pb2.DiffDefinitionsResponse:
        """What differs between two versions in meaning; 0 is the newest."""
        request = versions_pb2.DiffDefinitionsRequest(name=name, from_version=from_version, to_version=to_version)
        return await self._calls.unary(_DIFF, request, self.deadline_s)

    async def retire_definition(
        self, name: str, version: int, reason: str, by: str
    ) -> versions_pb2.RetireDefinitionResponse:
        """Have new sagas of a version refused from now on; with 0, of all versions."""
        request = versions_pb2.RetireDefinitionRequest(name=name, version=version, reason=reason, by=by)
        return await self._calls.unary(_RETIRE, request, self.deadline_s)

    async def reinstate_definition(self, name: str, version: int) -> versions_pb2.ReinstateDefinitionResponse:
        """Take a retirement back, as it was made: of a version, or with 0 of all."""
        request = versions_pb2.ReinstateDefinitionRequest(name=name, version=version)
        return await self._calls.unary(_REINSTATE, request, self.deadline_s)

    async def list_retirements(self) -> list[versions_pb2.Retirement]:
        """Everything that is retired."""
        answer = await self._calls.unary(_RETIREMENTS, versions_pb2.ListRetirementsRequest(), self.deadline_s)
        return list(answer.retirements)

    async def record_certificate(self, certificate_json: str) -> None:
        """Store a certificate of a participant; the same one again changes nothing."""
        request = certification_pb2.RecordCertificateRequest(certificate_json=certificate_json)
        await self._calls.unary(_RECORD, request, self.deadline_s)

    async def list_certificates(self, participant: str = "") -> list[str]:
        """The newest certificate of each method pair, as JSON; of one address, or of all."""
        request = certification_pb2.ListCertificatesRequest(participant=participant)
        return list((await self._calls.unary(_LIST_CERTIFICATES, request, self.deadline_s)).certificates_json)

    async def get_cluster(self) -> cluster_pb2.GetClusterResponse:
        """Who leads, and which replicas there are, as one of them sees it."""
        return await self._calls.unary(_GET_CLUSTER, cluster_pb2.GetClusterRequest(), self.deadline_s)

    async def step_down(self, reason: str) -> cluster_pb2.StepDownResponse:
        """Ask the leader, wherever it is, to hand over. Not repeated when it is unknown whether it did."""
        return await self._calls.unary(_STEP_DOWN, cluster_pb2.StepDownRequest(reason=reason), self.deadline_s)

    async def ask(self, method: Method[Answer], request: Message) -> Answer:
        """The answer of any method."""
        return await self._calls.unary(method, request, self.deadline_s)

    async def list_audit(self, limit: int, *, caller: str = "", action: str = "") -> list[audit_pb2.AuditEntry]:
        """At most `limit` actions of operators, newest first."""
        found: list[audit_pb2.AuditEntry] = []
        question = audit_pb2.ListAuditEntriesRequest(caller=caller, action=action)
        while len(found) < limit:
            question.page_size = min(_PAGE, limit - len(found))
            page = await self._calls.unary(_LIST_AUDIT, question, self.deadline_s)
            found.extend(page.entries)
            if not page.next_page_token:
                break
            question.page_token = page.next_page_token
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._calls.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _answers(self, endpoint: str, saga_id: str) -> bool:
        """Whether the replica is alive: it had nothing to say about the saga, and that is no failure."""
        request = saga_pb2.GetSagaRequest(saga_id=saga_id)
        try:
            await self._calls.stub(endpoint, _Sagas).GetSaga(request, timeout=self._calls.attempt_max_s)
        except grpc.aio.AioRpcError:
            return False
        return True


def _start_request(
    definition: str, input_json: str, version: int, labels: Mapping[str, str] | None, request_id: str | None
) -> saga_pb2.StartSagaRequest:
    return saga_pb2.StartSagaRequest(
        definition=definition,
        version=version,
        input_json=input_json,
        labels=dict(labels or {}),
        request_id=request_id or str(uuid4()),
    )
