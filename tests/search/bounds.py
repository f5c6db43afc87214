"""How far the search goes. Every bound is a number that the command takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """The size of the world.

    `leaders` replicas run at once; `generations` victories are won in etcd, each perhaps while all earlier winners
    still act. `faults` counts what the world may do to one saga: a crash, a connection lost, an answer lost, a call
    overtaken by its timeout, a duplicate, a compensation refused. `states_max` stops a search that grows too large.
    """

    steps: int = 2
    leaders: int = 3
    generations: int = 3
    faults: int = 3
    retries: int = 1
    cancel: bool = True
    states_max: int = 5_000_000
