"""A fault of the catalogue: what it does to a cluster, what is measured, and what is expected of that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum

from orchestrator.drill.arena import Arena
from orchestrator.errors import InvariantError

REPETITIONS = 20


class Stage(StrEnum):
    """What kind of cluster a fault needs."""

    PLAIN = "plain"
    LINKS = "links"  # every link goes through a TCP proxy of ours
    STANDBY = "standby"  # the saga log has a synchronous standby
    NAMESPACES = "namespaces"  # replicas live in network namespaces of their own
    DEPLOYED = "deployed"  # somebody else's cluster, which an operator's own commands disturb


class Measure(StrEnum):
    """What is held against the bound."""

    GAP = "gap"  # from the strike to the first step that is driven under a later epoch
    PAUSE = "pause"  # the longest silence of the saga log from the strike until all is healed
    NONE = "none"


def anywhere() -> str | None:
    """Nothing keeps a fault from being made on this host."""
    return None


@dataclass(frozen=True, slots=True)
class FaultProfile:
    """What a fault is called, and by what its results are judged.

    `number` is that of the catalogue; a number may have variants, each with a `name` of its own; 0 is a fault that no
    catalogue has. `bound_s` limits the measure (None: it is told, not judged), beyond what a strike itself declares as
    its own outage. One strike is a reason for `changes_max` changes of leadership. Fewer repetitions than usual want a
    `reason`.
    """

    number: int
    name: str
    says: str
    _: KW_ONLY
    stage: Stage = Stage.PLAIN
    measure: Measure = Measure.GAP
    bound_s: float | None = None
    changes_max: int = 1
    repetitions: int = REPETITIONS
    reason: str = ""

    @property
    def title(self) -> str:
        """The number and the name."""
        return f"{self.number} {self.name}" if self.number else self.name

    def __post_init__(self) -> None:
        if self.repetitions < REPETITIONS and not self.reason:
            raise InvariantError(f"{self.name}: {self.repetitions} repetitions need a reason")


@dataclass(frozen=True, slots=True)
class Fault(FaultProfile):
    """A fault of the catalogue, which is made on a cluster of our own.

    `strike` makes the fault, keeps it, and returns when it is healed. `needs` says why this host cannot make the fault,
    None if it can. `prepare` is done once, before the load begins, and its changes of leadership do not count. A strike
    that takes longer than `strike_max_s` seconds, its healing included, will never end.
    """

    strike: Callable[[Arena], Awaitable[None]]
    _: KW_ONLY
    needs: Callable[[], str | None] = anywhere
    prepare: Callable[[Arena], Awaitable[None]] | None = None
    strike_max_s: float = 300.0
