"""A client of the published ports: asks the next replica when one fails, and a load of orders on top of it."""

from __future__ import annotations

import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc, saga_pb2, saga_pb2_grpc
from tests.compose.stack import Failed

DEFINITION = "order-reserve-pay-ship"
TERMINAL = (
    saga_pb2.SAGA_STATE_COMPLETED,
    saga_pb2.SAGA_STATE_COMPENSATED,
    saga_pb2.SAGA_STATE_FAILED,
)
_RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_CALL_TIMEOUT_S = 2.0
_CALL_GIVES_UP_S = 20.0

_Answer = TypeVar("_Answer")


class Client:
    """Calls any of several endpoints; an answer UNAVAILABLE or late is asked again, of the next one."""

    def __init__(self, endpoints: list[str]) -> None:
        self._channels = [grpc.insecure_channel(endpoint, _OPTIONS) for endpoint in endpoints]

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            channel.close()

    def start(self, order: dict[str, Any], request_id: str, *, wait: bool = False) -> saga_pb2.Saga:
        """StartSaga. Raises grpc.RpcError, also when no replica took it for a long time."""
        request = saga_pb2.StartSagaRequest(
            definition=DEFINITION, input_json=json.dumps(order), request_id=request_id, wait=wait
        )
        timeout_s = _CALL_GIVES_UP_S if wait else _CALL_TIMEOUT_S
        return self._call(
            lambda channel: saga_pb2_grpc.SagaServiceStub(channel).StartSaga(request, timeout=timeout_s)
        ).saga

    def has_definition(self) -> bool:
        """Whether the definition of the orders is applied."""
        request = saga_pb2.GetDefinitionRequest(name=DEFINITION)
        try:
            self._call(
                lambda channel: saga_pb2_grpc.DefinitionServiceStub(channel).GetDefinition(
                    request, timeout=_CALL_TIMEOUT_S
                )
            )
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            return False
        return True

    def get(self, saga_id: str) -> saga_pb2.Saga:
        """GetSaga."""
        request = saga_pb2.GetSagaRequest(saga_id=saga_id)
        return self._call(
            lambda channel: saga_pb2_grpc.SagaServiceStub(channel).GetSaga(request, timeout=_CALL_TIMEOUT_S)
        ).saga

    def cluster(self) -> cluster_pb2.GetClusterResponse:
        """GetCluster."""
        request = cluster_pb2.GetClusterRequest()
        return self._call(
            lambda channel: cluster_pb2_grpc.ClusterServiceStub(channel).GetCluster(request, timeout=_CALL_TIMEOUT_S)
        )

    def _call(self, call: Callable[[grpc.Channel], _Answer]) -> _Answer:
        gives_up = time.monotonic() + _CALL_GIVES_UP_S
        for channel in itertools.cycle(self._channels):
            try:
                return call(channel)
            except grpc.RpcError as error:
                if error.code() not in _RETRIED or time.monotonic() > gives_up:
                    raise
                time.sleep(0.02)
        raise Failed("a client without endpoints")


_OPTIONS = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500))


def order(number: int) -> dict[str, Any]:
    """One order; the card of every tenth is declined, so that its saga compensates."""
    return {
        "order_id": f"trial-{number}",
        "customer_id": str(10_000 + number),
        "amount": "9999.00" if number % 10 == 0 else f"{number % 90 + 10}.50",
        "lines": [{"stock_code": f"T{number}", "quantity": 2}],
        "destination": "1 Trial Street",
    }


@dataclass(slots=True)
class Load:
    """Starts orders, some at a time, in threads of its own, from `begin` to `end`."""

    client: Client
    first: int
    threads: int = 2
    started: dict[int, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _workers: list[threading.Thread] = field(default_factory=list)

    def begin(self) -> None:
        """Start the threads."""
        numbers = itertools.count(self.first)
        lock = threading.Lock()

        def work() -> None:
            while not self._over.wait(0.02):
                with lock:
                    number = next(numbers)
                try:
                    self.started[number] = self.client.start(order(number), str(uuid.uuid4())).saga_id
                except grpc.RpcError as error:
                    self.failed.append(f"order {number}: {error}")

        self._workers = [threading.Thread(target=work) for _ in range(self.threads)]
        for worker in self._workers:
            worker.start()

    def end(self) -> None:
        """Stop starting, and wait for the calls under way."""
        self._over.set()
        for worker in self._workers:
            worker.join()

    def unfinished(self) -> list[str]:
        """The sagas that have not ended."""
        return [saga_id for saga_id in self.started.values() if self.client.get(saga_id).state not in TERMINAL]

    def outcomes(self) -> Counter[str]:
        """How many sagas are in which state. Raises Failed when one ended otherwise than its order asks for."""
        states: Counter[str] = Counter()
        for number, saga_id in self.started.items():
            state = self.client.get(saga_id).state
            due = saga_pb2.SAGA_STATE_COMPENSATED if number % 10 == 0 else saga_pb2.SAGA_STATE_COMPLETED
            name = saga_pb2.SagaState.Name(state)
            if state != due:
                raise Failed(f"order {number}, saga {saga_id}: {name}, and not {saga_pb2.SagaState.Name(due)}")
            states[name] += 1
        return states
