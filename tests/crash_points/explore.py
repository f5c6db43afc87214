"""Every crash point of a case, and all pairs of them.

A first fault strikes each effect of the golden run:

- before: the process dies before the effect happens
- after: the effect happened, and the process died before it heard
- late: the process died, and the effect happens at every effect of the run that follows, and after its end
- twice: nobody dies, and the effect happens again: at once, at every later effect, and after the end

and in each run that follows a second crash (before, after, and late for a call) strikes each of its effects.

Every first fault is run. What a second one leaves is run once for each state of the saga and of the shop: a run's
history has been judged by then, and a new leader goes on from the state alone (R8). `exact` runs them all. A late or
repeated effect that changes nothing in the world cannot be told from one that never came, so only the others are run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from .cases import Case
from .judging import audit, demands
from .people import Actor
from .run import Run, Stage
from .witness import Deliver, Meanwhile, Point
from .world import World


@dataclass(slots=True)
class Tally:
    """What was tried: effects of golden runs, single faults, gaps, pairs of faults, runs of a leader.

    Gaps are crashes behind which people act, or time passes, before anybody leads again.
    """

    cases: int = 0
    effects: int = 0
    singles: int = 0
    gaps: int = 0
    pairs: int = 0
    runs: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another tally has counted."""
        self.cases += other.cases
        self.effects += other.effects
        self.singles += other.singles
        self.gaps += other.gaps
        self.pairs += other.pairs
        self.runs += other.runs
        self.violations += other.violations


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that begins in `world`, with the faults so far, and what else happens before which of its effects.

    `gap` says that nobody led for a while after the first of them.
    """

    world: World
    faults: tuple[str, ...] = ()
    meanwhile: Meanwhile = ()
    gap: bool = False


class Explorer:
    """Explores one case; `pairs` says whether a second crash follows the first fault."""

    def __init__(self, stage: Stage, case: Case, *, pairs: bool = True, exact: bool = False) -> None:
        self.tally = Tally(cases=1)
        self._stage = stage
        self._case = case
        self._pairs = pairs and case.pairs
        self._exact = exact
        self._after_one: dict[Hashable, Run] = {}
        self._after_two: dict[Hashable, Run] = {}
        self._late: set[Hashable] = set()

    def explore(self, world: World) -> Tally:
        """Strike everywhere, from this world on."""
        begun = Begun(world, meanwhile=meanwhile(self._case))
        golden = self._run(begun)
        self.tally.effects = len(golden.points)
        for number, point in enumerate(golden.points):
            self.tally.singles += 4
            for left, fault in self._crashes(point, number):
                self._first(Begun(left, (fault,)))
                self._in_the_gap(left, fault)
            left, fault = self._left(point.before), f"crash at effect {number}, {point.name}, which happens late"
            heir = self._first(Begun(left, (fault,)))
            for late in self._arrivals(Begun(left), heir, fault, point.again, 0):
                self._first(late)
            fault = f"effect {number}, {point.name}, twice"
            for late in self._arrivals(begun, golden, fault, point.again, number + 1):
                self._first(late)
        return self.tally

    def _first(self, begun: Begun) -> Run:
        """Run on after the first fault, and crash at each effect of that run."""
        known = None if begun.meanwhile else begun.world.key()
        if known in self._after_one:
            return self._after_one[known]
        run = self._run(begun)
        if known is not None:
            self._after_one[known] = run
        if self._pairs:
            for number, point in enumerate(run.points):
                self.tally.pairs += 2
                for left, fault in self._crashes(point, number):
                    self._second(Begun(left, (*begun.faults, fault)))
                if point.is_call:
                    # A write that comes late is fenced, or it comes before the next raise: as if it had been in time.
                    self.tally.pairs += 1
                    self._second_late(begun, point, number)
        return run

    def _in_the_gap(self, left: World, fault: str) -> None:
        """What people do, and what time does, while nobody leads."""
        if (acted := self._acted(left)) is not None:
            self.tally.gaps += 1
            self._first(Begun(acted, (f"{fault}, and all act before the next leader comes",)))
        if self._case.gap_s:
            self.tally.gaps += 1
            later = (acted or left).fork()
            later.now_s += self._case.gap_s
            self._run(Begun(later, (f"{fault}, and nobody leads for {self._case.gap_s:g} s",), gap=True))

    def _acted(self, left: World) -> World | None:
        """The world when all who want to act have acted, one led by the other; None when nobody wants to."""
        world = left
        while wanting := [actor for actor in self._case.actors if actor.wants(world)]:
            if world is left:
                world = left.fork()
                self._stage.clock.set_s(world.now_s)
            for actor in wanting:
                actor.tell(world)
        return None if world is left else world

    def _second(self, begun: Begun) -> Run:
        """Run on after the second fault, unless a world in the same state was run before."""
        known = begun.world.key() if self._exact else begun.world.state()
        run = self._after_two.get(known)
        if run is None:
            run = self._after_two[known] = self._run(begun)
        return run

    def _second_late(self, begun: Begun, point: Point, number: int) -> None:
        left, fault = self._left(point.before), f"crash at effect {number}, {point.name}, which happens late"
        known = (left.key() if self._exact else left.state(), point.name)
        if known in self._late:
            return
        self._late.add(known)
        heir = self._second(Begun(left, (*begun.faults, fault)))
        # That run may have begun in another world of the same state: its effects are the same, their times are not.
        if heir.began is not left:
            heir = self._run(Begun(left, (*begun.faults, fault)))
        for late in self._arrivals(Begun(left, begun.faults), heir, fault, point.again, 0):
            self._run(late)

    def _run(self, begun: Begun) -> Run:
        run = self._stage.perform(begun.world, self._case, begun.meanwhile)
        self.tally.runs += 1
        self._judge(run.world, begun.faults, run.broken, gap=begun.gap)
        return run

    def _crashes(self, point: Point, number: int) -> Iterator[tuple[World, str]]:
        yield self._left(point.before), f"crash before effect {number}, {point.name}"
        yield self._left(point.after), f"crash after effect {number}, {point.name}"

    def _arrivals(self, begun: Begun, run: Run, fault: str, again: Deliver, first: int) -> Iterator[Begun]:
        """Something happens before one of the effects of `run`, which began so, from `first` on, or after its end."""
        for number in range(first, len(run.points)):
            if self._stage.changed(run.points[number].before, again) is not None:
                faults = (*begun.faults, f"{fault}, before effect {number}")
                yield Begun(begun.world, faults, (*begun.meanwhile, (number, again)))
        if (late := self._stage.changed(run.world, again)) is not None:
            faults = (*begun.faults, f"{fault}, after the end")
            if late.still:
                self._judge(late, faults, None)
            else:
                self._run(Begun(late, faults))

    def _left(self, world: World) -> World:
        """What a crash leaves. What somebody was to say later in the golden run comes while nobody leads."""
        missing = [actor for actor in self._case.actors if actor.at is not None and actor.name not in world.told]
        if not missing:
            return world
        world = world.fork()
        self._stage.clock.set_s(world.now_s)
        for actor in missing:
            actor.tell(world)
        return world

    def _judge(self, world: World, faults: tuple[str, ...], broken: str | None, *, gap: bool = False) -> None:
        against = [] if broken is None else [broken]
        ends = self._case.gap_ends if gap else self._case.ends | (self._case.also if faults else frozenset())
        for row in world.started:
            if row.state not in ends:
                against.append(f"ended {row.state}, not {' or '.join(sorted(ends))}")
        for finding in audit(world, len(faults)).findings:
            against += [f"{finding.invariant}: {offence.what}" for offence in finding.offences]
        against += demands(world)
        if not gap:
            against += self._counted(world)
        if against:
            where = f"{world.flow.definition.name}, {self._case.name}"
            self.tally.violations.append("\n    ".join((where, *(f"fault: {fault}" for fault in faults), *against)))

    def _counted(self, world: World) -> Iterator[str]:
        for status, times in self._case.rows:
            found = sum(1 for event in world.row.events if event.status == status)
            if found != times:
                yield f"ROWS: {found} of {status}, not {times}"


def meanwhile(case: Case) -> Meanwhile:
    """What is said in the golden run of a case, before which of its effects."""
    return tuple((actor.at, _says(actor)) for actor in case.actors if actor.at is not None)


def _says(actor: Actor) -> Deliver:
    return actor.tell
