"""A participant that answers as no participant should, as the text of the request tells it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb
from participants.pb.shop.v1 import echo_pb2

_DO = "/shop.v1.EchoService/Do"
_EXCHANGE = "/baton.participant.v1.ParticipantService/Exchange"
_CHUNK = b"\x0a\xff\xff\x03" + b"x" * 65_535

# What comes back where a reply is expected. "honest" is the one that is as it should be.
REPLIES: dict[str, Callable[[], bytes]] = {
    "honest": lambda: echo_pb2.EchoResponse(text="done").SerializeToString(),
    "huge": lambda: echo_pb2.EchoResponse(text="x" * 3_500_000).SerializeToString(),
    "beyond-grpc": lambda: echo_pb2.EchoResponse(text="x" * 9_000_000).SerializeToString(),
    "garbage": lambda: b"\xff" * 1000,
    "cut": lambda: echo_pb2.EchoResponse(text="done").SerializeToString()[:-1],
    "no-utf8": lambda: b"\x0a\x02\xff\xfe",
    "nul": lambda: echo_pb2.EchoResponse(text="a\x00b").SerializeToString(),
    "unknown-fields": lambda: b"\xfa\x01\x80\x80\x04" + b"\x00" * 65_536,
}
# What comes back instead of a reply.
MISDEEDS = ("never", "endless", "huge-error", "odd-error", "hangs-up")
# What the multiplexed stream does instead of, or besides, answering.
STREAM_MISDEEDS = ("answers-others", "answers-twice", "floods", "huge-batch", "no-batch")

_YAML = """
name: {name}
steps:
  - name: act
    service: {address}
    action: {{method: shop.v1.EchoService/Do, request: {{text: input.text}}}}
    compensation: none
    timeout: {timeout}
    # An outage spends no attempt: this ends it.
    within: {within}
    retry: {{retries: 1, initial: 20ms}}
"""


def definition(name: str, address: str, timeout: str = "500ms", within: str = "4s") -> tuple[str, bytes]:
    """A saga of one step, whose input says how the participant answers; with its descriptors."""
    file = FileDescriptorProto()
    echo_pb2.DESCRIPTOR.CopyToProto(file)
    yaml = _YAML.format(name=name, address=address, timeout=timeout, within=within)
    return yaml, FileDescriptorSet(file=[file]).SerializeToString()


class EvilService(grpc.GenericRpcHandler):
    """Serves Do, as a stream even where it is none; with `multiplexed` also the stream of calls."""

    def __init__(self, multiplexed: bool) -> None:
        self._multiplexed = multiplexed

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """The handlers."""
        if details.method == _DO:
            return grpc.unary_stream_rpc_method_handler(self._do)
        if details.method == _EXCHANGE and self._multiplexed:
            return grpc.stream_stream_rpc_method_handler(self._exchange, pb.CallBatch.FromString)
        return None

    async def _do(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        manner = echo_pb2.EchoRequest.FromString(request).text
        match manner:
            case "never":
                await asyncio.Event().wait()
            case "endless":
                while True:
                    yield _CHUNK
            case "huge-error":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "é" * 100_000)
            case "odd-error":
                await context.abort(grpc.StatusCode.UNKNOWN, "\x00\x1b[31m\u2028\uffff{}%s" * 20)
            case "hangs-up":
                context.cancel()  # type: ignore[attr-defined]
            # A stream that a busy machine has not opened in time is not waited for: what is told of it comes here.
            case "huge-batch" | "no-batch":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
            case "answers-others" | "answers-twice" | "floods":
                yield REPLIES["honest"]()
            case _:
                yield REPLIES[manner]()

    async def _exchange(
        self, batches: AsyncIterator[pb.CallBatch], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        await context.send_initial_metadata(())
        async for batch in batches:
            for call in batch.calls:
                for answer in self._answers(call):
                    yield answer
                    # An endless answer must let this process go on.
                    await asyncio.sleep(0)

    def _answers(self, call: pb.Call) -> Any:
        manner = echo_pb2.EchoRequest.FromString(call.request).text
        good = pb.ReplyBatch(replies=[pb.Reply(id=call.id, response=REPLIES["honest"]())]).SerializeToString()
        match manner:
            case "never" | "endless":
                return
            case "huge-error" | "odd-error":
                message = "é" * 500_000 if manner == "huge-error" else "\x00\x1b[31m\u2028\uffff{}%s" * 20
                yield pb.ReplyBatch(replies=[pb.Reply(id=call.id, code=14, message=message)]).SerializeToString()
            case "hangs-up":
                raise ConnectionError("as told")
            case "answers-others":
                yield pb.ReplyBatch(
                    replies=[pb.Reply(id=n, code=99) for n in range(10_000, 12_000)]
                ).SerializeToString()
                yield good
            case "answers-twice":
                yield from (good, good, good)
            case "floods":
                yield from itertools.repeat(pb.ReplyBatch(replies=[pb.Reply(id=0)] * 500).SerializeToString(), 2_000)
                yield good
            case "huge-batch":
                yield pb.ReplyBatch(replies=[pb.Reply(response=b"x" * 9_000_000)]).SerializeToString()
            case "no-batch":
                yield b"\xff" * 100
            case _:
                reply = pb.Reply(id=call.id, response=REPLIES[manner]())
                yield pb.ReplyBatch(replies=[reply]).SerializeToString()


@asynccontextmanager
async def evil_participant(*, multiplexed: bool) -> AsyncIterator[str]:
    """Serves it; yields its address."""
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((EvilService(multiplexed),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
