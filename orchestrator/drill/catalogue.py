"""Every fault that a drill can make, by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.drill.clock_faults import FAULTS as CLOCK_FAULTS
from orchestrator.drill.crash_faults import FAULTS as CRASH_FAULTS
from orchestrator.drill.crowd_faults import FAULTS as CROWD_FAULTS
from orchestrator.drill.fault import REPETITIONS, Fault
from orchestrator.drill.link_faults import FAULTS as LINK_FAULTS
from orchestrator.drill.namespace_faults import FAULTS as NAMESPACE_FAULTS
from orchestrator.drill.process_faults import FAULTS as PROCESS_FAULTS
from orchestrator.drill.saga_faults import FAULTS as SAGA_FAULTS
from orchestrator.drill.server_faults import FAULTS as SERVER_FAULTS
from orchestrator.drill.store_faults import FAULTS as STORE_FAULTS
from orchestrator.errors import Rejected

_ALL: tuple[Fault, ...] = (
    *CLOCK_FAULTS,
    *CRASH_FAULTS,
    *CROWD_FAULTS,
    *LINK_FAULTS,
    *NAMESPACE_FAULTS,
    *PROCESS_FAULTS,
    *SAGA_FAULTS,
    *SERVER_FAULTS,
    *STORE_FAULTS,
)


def _shared(fault: Fault) -> Fault:
    """The fault with its share of the repetitions, where it is one of several variants of its number."""
    variants = sum(other.number == fault.number and other.repetitions == REPETITIONS for other in _ALL)
    if fault.repetitions != REPETITIONS or variants == 1:
        return fault
    share = math.ceil(REPETITIONS / variants)
    return replace(fault, repetitions=share, reason=f"one of {variants} variants, made {share} times each")


FAULTS: tuple[Fault, ...] = tuple(sorted(map(_shared, _ALL), key=lambda fault: (fault.number, fault.name)))


def named(names: Sequence[str]) -> list[Fault]:
    """The faults of these names, or numbers, in the order of the catalogue. Raises Rejected."""
    known = {fault.name for fault in FAULTS} | {str(fault.number) for fault in FAULTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Rejected(f"there is no fault {', '.join(unknown)}; `baton drill --list` names them all")
    return [fault for fault in FAULTS if fault.name in names or str(fault.number) in names]
