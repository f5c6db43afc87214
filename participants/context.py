"""What a servicer gets as its gRPC context: it records what the servicer wants, and sends nothing by itself.

The real context would send a status the moment `abort` is called, before the transaction has ended. This one turns it
into a Refusal, which the barrier stores first. It is the same for unary calls and for calls of the multiplexed stream.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio

from participants.status import Refusal

_NOT_STREAMING = "a step of a saga is a unary call: it has one request and one response"


class CallContext(grpc.aio.ServicerContext[Any, Any]):
    """The context of one call. `deadline` is on the monotonic clock, in seconds; None when the call has none."""

    def __init__(self, metadata: Iterable[tuple[str, str | bytes]], peer: str, deadline: float | None) -> None:
        self._metadata = metadata
        self._peer = peer
        self._deadline = deadline
        self._code: grpc.StatusCode = grpc.StatusCode.OK
        self._details = ""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with this status. Raises Refusal."""
        raise Refusal(code, details)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with this status. Raises Refusal."""
        raise Refusal(status.code, status.details or "")

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status in place of OK once the servicer returns."""
        self._code = code

    def set_details(self, details: str) -> None:
        """The message that goes with `set_code`."""
        self._details = details

    def raise_if_refused(self) -> None:
        """Raise Refusal when the servicer has set a code other than OK."""
        if self._code is not grpc.StatusCode.OK:
            raise Refusal(self._code, self._details)

    def code(self) -> grpc.StatusCode:
        """The status that has been set."""
        return self._code

    def details(self) -> str:
        """The message that has been set."""
        return self._details

    def invocation_metadata(self) -> Any:
        """The call's metadata."""
        return self._metadata

    def time_remaining(self) -> Any:
        """Seconds until the caller stops waiting; None without a deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def peer(self) -> str:
        """The address of the caller."""
        return self._peer

    def peer_identities(self) -> Iterable[bytes] | None:
        """Not known here."""
        return None

    def peer_identity_key(self) -> str | None:
        """Not known here."""
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Not known here."""
        return {}

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Ignored: a stored answer could not repeat it."""

    def set_compression(self, compression: grpc.Compression) -> None:
        """Ignored: a matter of the connection."""

    def disable_next_message_compression(self) -> None:
        """Ignored: a matter of the connection."""

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Ignored: a stored answer could not repeat it."""

    async def read(self) -> Any:
        """Never possible. Raises TypeError."""
        raise TypeError(_NOT_STREAMING)

    async def write(self, message: Any) -> None:
        """Never possible. Raises TypeError."""
        raise TypeError(_NOT_STREAMING)
