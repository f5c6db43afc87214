"""One call to the API, repeated on the next endpoint until a replica answers or the deadline passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from orchestrator.cli.access import OPEN_ACCESS, ClientAccess
from orchestrator.cli.errors import ApiUnavailable, refused, retry_delay_s
from orchestrator.cli.route import Backoff, Route

_MESSAGE_BYTES_MAX = 16_000_000

# The codes that say nothing about the request. Every call may be repeated, since it carries a request id or changes
# nothing that it has changed already.
_RETRIED = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
)

# The reasons of a refusal on every replica that lasts for minutes, whatever its code: a person has to look into it.
_HELD = frozenset({"STARTS_HELD"})

_OPTIONS: Sequence[tuple[str, int]] = (
    # A replica that was killed is back in a moment: do not wait a second, then two, before the next connection.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    # The API is a neighbour, and the proxy of a user's environment knows nothing of it.
    ("grpc.enable_http_proxy", 0),
)

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Answer]):
    """One method of the API: its stub's class, its name, and what it answers.

    `attempt_max_s` is the longest wait for one replica, in seconds; None leaves it to the client. `repeatable` is False
    for a call whose repetition could mean something else than the call did.
    """

    stub: type[Any]
    name: str
    answer: type[Answer]
    attempt_max_s: float | None = None
    repeatable: bool = True


class Calls:
    """The connections to the endpoints of `route`, and the repetition of calls over them.

    `attempt_max_s` is the longest wait for one replica, in seconds: so long a frozen one can hold up a call.
    """

    def __init__(
        self,
        route: Route,
        attempt_max_s: float,
        on_retry: Callable[[str, str], None] | None,
        access: ClientAccess = OPEN_ACCESS,
    ) -> None:
        self.route = route
        self._access = access
        self._generation = access.dialer.generation
        # Of certificates that were replaced: a stream may be open on one.
        self._retired: list[grpc.aio.Channel] = []
        self.attempt_max_s = attempt_max_s
        self._on_retry = on_retry
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[tuple[str, type[Any]], Any] = {}

    async def unary(self, method: Method[Answer], request: Message, deadline_s: float) -> Answer:
        """The answer to `request`. Raises ApiUnavailable after `deadline_s`, and CallRefused when the answer is no."""
        attempt_max_s = method.attempt_max_s or self.attempt_max_s
        give_up_at_s = time.monotonic() + deadline_s
        backoff = Backoff()
        tried: set[str] = set()
        said: grpc.aio.AioRpcError | None = None
        while True:
            endpoint = self.route.next()
            left_s = give_up_at_s - time.monotonic()
            timeout_s = max(0.001, min(attempt_max_s, left_s))
            try:
                answer = await getattr(self.stub(endpoint, method.stub), method.name)(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if not retried(error):
                    raise refused(error) from None
                self.note_failure(endpoint, error)
                tried.add(endpoint)
                # The next endpoint at once, if there is one that has not been asked; then slower and slower.
                fresh = len(tried) < len(self.route.endpoints)
                pause_s = 0.0 if fresh and error.code() is grpc.StatusCode.UNAVAILABLE else backoff.next_s()
                if not fresh:
                    pause_s = max(pause_s, retry_delay_s(error))
                unknown = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                # That an attempt had no time left says less than what was wrong before it.
                said = said if said is not None and unknown and left_s < attempt_max_s else error
                if time.monotonic() + pause_s >= give_up_at_s or (unknown and not method.repeatable):
                    raise self.unavailable(said, deadline_s) from None
                await asyncio.sleep(pause_s)
            else:
                self.route.succeeded(endpoint)
                return cast(Answer, answer)

    def note_failure(self, endpoint: str, error: grpc.aio.AioRpcError) -> None:
        """The endpoint has not answered as it should: prefer others for a while, and tell whoever listens."""
        self.route.failed(endpoint)
        if self._on_retry is not None:
            self._on_retry(endpoint, f"{error.code().name}: {error.details()}")

    def unavailable(self, error: grpc.aio.AioRpcError, deadline_s: float) -> ApiUnavailable:
        """The error for a call that nobody has answered."""
        asked = ", ".join(self.route.endpoints)
        said = error.details() or ""
        # What a handshake that one side refuses looks like to the other.
        hung_up = any(words in said.lower() for words in ("socket closed", "handshake", "certificate"))
        hint = "; is there TLS, and the right certificate, at both ends? See docs/security.md" if hung_up else ""
        return ApiUnavailable(
            f"no answer from {asked} within {deadline_s:.1f} s; the last one said {error.code().name}: {said}{hint}"
        )

    def stub(self, endpoint: str, stub: type[Any]) -> Any:
        """The stub of a service at an endpoint; connections are made once."""
        if self._generation != (generation := self._access.dialer.generation):
            self._generation = generation
            self._retired += self._channels.values()
            self._channels.clear()
            self._stubs.clear()
        found = self._stubs.get((endpoint, stub))
        if found is None:
            channel = self._channels.get(endpoint)
            if channel is None:
                channel = self._channels[endpoint] = self._access.channel(endpoint, _OPTIONS)
            found = self._stubs[endpoint, stub] = stub(channel)
        return found

    async def close(self) -> None:
        """Close the connections."""
        channels, self._channels = self._channels, {}
        self._stubs.clear()
        for channel in (*channels.values(), *self._retired):
            await channel.close()


def retried(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call may succeed when it is repeated as it is."""
    # gRPC itself refuses a message that is too large by the code that also means "busy".
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and refused(error).reason in _HELD:
        return False
    return error.code() in _RETRIED and "larger than max" not in (error.details() or "")
