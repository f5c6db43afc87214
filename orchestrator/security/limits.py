"""How much each caller may ask of this replica: calls a second, calls under way, open streams.

Pure: the time comes in, a decision comes out. Belongs to one thread, or to whoever holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from orchestrator.errors import LimitReached
from orchestrator.security.caller import Caller, Limits

# So many callers are remembered; who has nothing under way and was not heard of longest is forgotten first.
CALLERS_MAX = 10_000
# Who is refused for what is under way should ask again when something of it may have ended.
_UNDER_WAY_RETRY_S = 0.5


@dataclass(slots=True)
class Account:
    """What one caller has asked: the bucket of its calls, and what is under way."""

    tokens: float
    counted_at_s: float
    calls: int = 0
    streams: int = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self.calls and not self.streams


@dataclass(slots=True)
class Ledger:
    """The accounts of all callers, under limits that a caller may have other ones than."""

    default: Limits
    accounts: OrderedDict[str, Account] = field(default_factory=OrderedDict)

    def enter(self, caller: Caller, cost: float, size_bytes: int, now_s: float, *, stream: bool) -> Account:
        """Count a call of a caller; `leave` must follow. A bucket holds the calls of one second.

        Raises LimitReached, with the seconds after which it is worth to ask again, and counts nothing then.
        """
        limits = caller.limits or self.default
        account = self._account(caller.name, limits, now_s)
        if limits.message_bytes and size_bytes > limits.message_bytes:
            text = f"a message of {size_bytes} bytes is larger than max for {caller.name}: {limits.message_bytes}"
            raise LimitReached(text, retry_after_s=0.0)
        under_way, most, what = (
            (account.streams, limits.streams, "streams") if stream else (account.calls, limits.calls, "calls")
        )
        if most and under_way >= most:
            raise LimitReached(
                f"{caller.name} has {under_way} {what} under way; {most} are allowed", _UNDER_WAY_RETRY_S
            )
        self._take(account, caller.name, limits, cost, now_s)
        if stream:
            account.streams += 1
        else:
            account.calls += 1
        return account

    @staticmethod
    def leave(account: Account, *, stream: bool) -> None:
        """The call has ended."""
        if stream:
            account.streams -= 1
        else:
            account.calls -= 1

    def _take(self, account: Account, name: str, limits: Limits, cost: float, now_s: float) -> None:
        rate = limits.calls_per_s
        if not rate:
            return
        burst = max(1.0, rate)
        account.tokens = min(burst, account.tokens + max(0.0, now_s - account.counted_at_s) * rate)
        account.counted_at_s = now_s
        # A batch that is larger than the bucket is let in when the bucket is full, and paid off afterwards.
        needed = min(cost, burst)
        if account.tokens < needed:
            wait_s = (needed - account.tokens) / rate
            raise LimitReached(f"{name} may make {rate:g} calls a second", wait_s)
        account.tokens -= cost

    def _account(self, name: str, limits: Limits, now_s: float) -> Account:
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(max(1.0, limits.calls_per_s), now_s)
            if len(self.accounts) > CALLERS_MAX:
                oldest, kept = next(iter(self.accounts.items()))
                if kept.idle:
                    del self.accounts[oldest]
        self.accounts.move_to_end(name)
        return account
