"""Any message at any method of the API: an answer or one error that says what is wrong, and a replica that lives on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.embedded.servers import Replica
from orchestrator.pb.baton.v1 import bulk_pb2, cluster_pb2, counting_pb2, saga_pb2
from tests.integration.api_world import definition, descriptors, explained

from .conftest import most_bytes
from .protobufs import broken, messages
from .rounds import rounds
from .values import json_values, texts

# Patience alone: every call is answered long before, but on a machine that has other things to do.
_CALL_S = 30.0
_MEMORY_MAX_BYTES = 800_000_000
_MESSAGE_BYTES_MAX = 4_000_000
_TRAILER_CHARS_MAX = 1_100
_LARGE = 100

_METHODS: list[MethodDescriptor] = [
    method
    for file in (saga_pb2.DESCRIPTOR, cluster_pb2.DESCRIPTOR, counting_pb2.DESCRIPTOR, bulk_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
]
# What a caller who has made a mistake is told. UNKNOWN and INTERNAL are what a fault of ours would be.
_EXPECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
}
# Nobody leads for a moment when the leader was asked to step down; a definition may name services that are away.
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


@dataclass
class Api:
    """A replica's API, and ids of what it has."""

    replica: Replica
    channel: grpc.Channel
    saga_ids: list[str] = field(default_factory=list)
    # A watch of a saga that has not ended goes on until then.
    watch_s: float = 0.3

    def call(self, method: MethodDescriptor, data: bytes, timeout_s: float = _CALL_S) -> list[Message]:
        """The answers to a request that is given as bytes. Raises grpc.RpcError."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        answer = message_factory.GetMessageClass(method.output_type)
        if method.server_streaming:
            timeout_s = min(timeout_s, self.watch_s)
            return list(self.channel.unary_stream(path, None, answer.FromString)(data, timeout=timeout_s))
        return [self.channel.unary_unary(path, None, answer.FromString)(data, timeout=timeout_s)]

    def judged(self, method: MethodDescriptor, data: bytes) -> grpc.StatusCode:
        """The status of a call, whose error must be one that a caller can read."""
        error: Any = None
        try:
            self.call(method, data)
        except grpc.RpcError as raised:
            error = raised
        if error is None:
            return grpc.StatusCode.OK
        code: grpc.StatusCode = error.code()
        if code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            refusal = explained(error)
            assert refusal.info.domain == "baton"
            assert 0 < len(refusal.message) < _TRAILER_CHARS_MAX
        return code


@pytest.fixture(scope="module")
def api(replica: Replica) -> Iterator[Api]:
    """A client, and one saga that is there."""
    with grpc.insecure_channel(replica.api_address) as channel:
        made = Api(replica, channel)
        applied = saga_pb2.ApplyDefinitionRequest(yaml=definition(), descriptor_set=descriptors())
        made.call(_method("ApplyDefinition"), applied.SerializeToString())
        order = {"order_id": "o-1", "lines": [{"stock_code": "85123A", "quantity": 2}], "amount": "17.85"}
        request = saga_pb2.StartSagaRequest(definition="order", input_json=json.dumps(order), request_id="first")
        (answer,) = made.call(_method("StartSaga"), request.SerializeToString())
        assert isinstance(answer, saga_pb2.StartSagaResponse)
        made.saga_ids.append(answer.saga.saga_id)
        yield made
        made.call(_method("GetCluster"), b"")
    assert most_bytes(replica) < _MEMORY_MAX_BYTES


def _method(name: str) -> MethodDescriptor:
    (found,) = (method for method in _METHODS if method.name == name)
    return found


def _known(saga_ids: list[str]) -> dict[str, st.SearchStrategy[Any]]:
    """For some fields, values that come further than chance does."""
    documents = json_values(8).map(lambda value: json.dumps({"order_id": value, "lines": value, "amount": value}))
    return {
        "saga_id": st.sampled_from([*saga_ids, "00000000-0000-0000-0000-000000000000", "ffffffff"]),
        "definition": st.sampled_from(["order", "no-such", "order\x00"]),
        "name": st.sampled_from(["order", "no-such"]),
        "input_json": st.one_of(documents, texts),
        "request_id": st.sampled_from(["first", "", "second", "x" * 300]),
        "input_path": st.one_of(st.sampled_from(["$.a > 1", "$.**", "$ ? (@.a == $.b)", "strict $.a", "$."]), texts),
        "version": st.integers(-1, 3),
        "page_size": st.integers(-1, 1001),
        "yaml": st.one_of(st.just(definition()), texts, texts.map(lambda text: definition(description=text))),
        "descriptor_set": broken(st.just(descriptors())),
        "seconds": st.integers(0, 2**35),
    }


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_every_message_is_answered_or_refused(api: Api, method: MethodDescriptor) -> None:
    @rounds(60)
    @given(messages(method.input_type, _known(api.saga_ids)))
    def every_message(message: Message) -> None:
        # Whether a saga is waited for is not what is tried here.
        if "wait" in message.DESCRIPTOR.fields_by_name:
            message.ClearField("wait")
        code = api.judged(method, message.SerializeToString(deterministic=True))
        assert code is grpc.StatusCode.OK or code in _EXPECTED | _PASSING, (code, message)

    every_message()
    assert api.replica.alive


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_broken_messages_are_refused(api: Api, method: MethodDescriptor) -> None:
    whole = messages(method.input_type, _known(api.saga_ids)).map(
        lambda message: message.SerializeToString(deterministic=True)
    )
    request = message_factory.GetMessageClass(method.input_type)
    patient = replace(api, watch_s=_CALL_S)

    @rounds(30)
    @given(broken(whole))
    def every_piece(data: bytes) -> None:
        try:
            readable = request.FromString(data)
        except Exception:
            readable = None
        if readable is None:
            with pytest.raises(grpc.RpcError) as raised:
                patient.call(method, data)
            # gRPC itself says so, before any method is called.
            error: Any = raised.value
            assert error.code() is grpc.StatusCode.UNKNOWN
            assert "parsing message" in error.details()

    every_piece()
    assert api.replica.alive


@pytest.mark.parametrize("method", _METHODS, ids=lambda method: method.name)
def test_a_message_above_the_limit_is_refused(api: Api, method: MethodDescriptor) -> None:
    # A field that nobody knows: what counts is the size.
    data = b"\xfa\x7f" + b"\x80\x80\x80\x04" + b"\x00" * 8_388_608
    with pytest.raises(grpc.RpcError) as raised:
        replace(api, watch_s=_CALL_S).call(method, data)
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(_MESSAGE_BYTES_MAX) in error.details()


def test_many_large_requests_at_once_do_not_fill_the_memory(api: Api) -> None:
    method = _method("StartSaga")
    document = json.dumps({"order_id": "o", "lines": [[]] * 240_000})
    request = saga_pb2.StartSagaRequest(definition="order", input_json=document).SerializeToString()
    path = f"/{method.containing_service.full_name}/{method.name}"
    before = most_bytes(api.replica)
    call = api.channel.unary_unary(path)
    futures = [call.future(request, timeout=240) for _ in range(_LARGE)]
    codes = {future.exception().code() for future in futures}
    assert codes <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    # gRPC itself holds what it has received a few times over; what is made of it, twenty times as large, is bounded.
    assert most_bytes(api.replica) - before < 6 * _LARGE * len(request)
