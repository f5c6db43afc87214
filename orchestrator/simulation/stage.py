"""The stage of a simulation: replicas, etcd, Postgres and participants, and everything that can befall them.

Each method that harms somebody arranges the end of the harm as well. How a run goes is world.py's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.driving.port import Invocation, Participants
from orchestrator.leadership.port import Member
from orchestrator.leadership.signal import Signal
from orchestrator.sagalog.port import SagaLog
from orchestrator.simulation.clients import Outside
from orchestrator.simulation.definitions import SERVICES, draw_documents
from orchestrator.simulation.editions import Library, draw_editions
from orchestrator.simulation.etcd import EtcdModel, Saved
from orchestrator.simulation.eye import Look, Sight
from orchestrator.simulation.faults import Plan
from orchestrator.simulation.later import LaterRules, with_epochs
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.network import Network, Server
from orchestrator.simulation.operators import Operators, Watched
from orchestrator.simulation.people import People
from orchestrator.simulation.postgres import Fencing, PostgresModel
from orchestrator.simulation.replica import MIDNIGHT, Replica, Surroundings
from orchestrator.simulation.services import Service
from orchestrator.simulation.trace import Trace
from orchestrator.telemetry import Metrics

ALL_RULES = LaterRules()


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is wrong with the world on purpose, so that a test can show that the simulation notices."""

    rules: LaterRules = ALL_RULES
    fencing: Fencing = Fencing.LOCKED
    wrap_log: Callable[[SagaLog], SagaLog] = lambda log: log
    wrap_participants: Callable[[Participants], Participants] = lambda participants: participants
    core: Callable[[], AbstractContextManager[None]] = nullcontext


class Stage:
    """One run. What faults do to it is done through its methods, each of which arranges its own end."""

    def __init__(self, loop: SimulationLoop, seed: str, plan: Plan, mutation: Mutation, metrics: Metrics) -> None:
        self.loop = loop
        self.trace = Trace(loop.time)
        self.seed = seed
        self.chance = random.Random(f"{seed}/world")
        self.plan = plan
        self.network = Network(loop, random.Random(f"{seed}/network"), self.trace)
        self.etcd = EtcdModel(loop)
        self.postgres = PostgresModel(loop, random.Random(f"{seed}/postgres"), self.trace, self.now)
        self.postgres.fencing = mutation.fencing
        documents = draw_documents(random.Random(f"{seed}/definitions"))
        self.library = Library(documents, draw_editions(documents, random.Random(f"{seed}/editions")))
        self.outside = Outside(loop, self.network, random.Random(f"{seed}/outside"), self.running)
        rules, chance = with_epochs(mutation.rules, self.plan.epochs), random.Random(f"{seed}/services")
        self.services = {
            name: Service(name, rules, loop, chance, self.trace, self.play, self.outside.tell) for name in SERVICES
        }
        self.people = People(
            self.postgres, self.library, self.outside, random.Random(f"{seed}/people"), self.trace, self.play
        )
        self.names = ("r1", "r2", "r3")
        self.replicas: dict[str, Replica] = {}
        self.past: list[Replica] = []
        self.healed_at_s: float | None = None
        # How many changes of leadership the faults account for.
        self.causes = 0
        self.changed = Signal()
        self.slandered: dict[str, None] = {}
        self._saved: Saved | None = None
        self.raise_watchers: list[Callable[[], None]] = []
        self.group = asyncio.TaskGroup()
        self._playing: dict[asyncio.Task[None], None] = {}
        self.operators = Operators(
            self.postgres, list(self.library.first), random.Random(f"{seed}/operators"), self.trace
        )
        poison = {f"o{n}" for n in range(100) if self.chance.random() < self.plan.poison}
        self._poison = poison
        self.surroundings = Surroundings(
            loop,
            self.network,
            self.etcd,
            self.postgres,
            self.services,
            self.plan.weathers,
            self.library,
            self.changed,
            self.poisoned,
            self.trace,
            metrics,
            mutation.wrap_log,
            lambda participants: Watched(mutation.wrap_participants(participants), self.operators),
        )
        self.postgres.raised = self._raised
        self.heal_postgres_speed()

    def now(self) -> datetime:
        """The true time of day."""
        return MIDNIGHT + timedelta(seconds=self.loop.time())

    def poisoned(self, invocation: Invocation) -> bool:
        """Whether this call breaks whoever makes it."""
        return self.poisons(str(invocation.request.get("order")))

    @property
    def has_poison(self) -> bool:
        """Whether there is any such order."""
        return bool(self._poison)

    def poisons(self, order: str) -> bool:
        """Whether an order is one that breaks whoever drives it."""
        return order in self._poison

    # Whom there is.

    def running(self) -> list[Replica]:
        """The replicas that have not ended."""
        return [replica for replica in self.replicas.values() if not replica.ended]

    def leader(self) -> Replica | None:
        """The replica that serves the newest epoch."""
        for replica in self.running():
            if replica.leader.epoch is not None and replica.leader.epoch == self.postgres.log.epoch:
                return replica
        return None

    def start(self, name: str) -> None:
        """Start a replica, unless it runs."""
        if name in self.replicas and not self.replicas[name].ended:
            return
        start = sum(replica.name == name for replica in self.past) + 1
        replica = Replica(name, start, self.seed, self.surroundings, self._look(name))
        self.replicas[name] = replica
        self.past.append(replica)

    def _look(self, viewer: str) -> Look:
        def look(member: Member) -> Sight:
            seen = next((replica for replica in self.past if replica.incarnation == member.incarnation), None)
            if seen is None or (viewer, seen.name) in self.network.cut or (seen.name, viewer) in self.network.cut:
                return Sight.CUT
            if seen.incarnation in self.slandered:
                return Sight.GONE
            present = self.replicas[seen.name]
            if present.ended:
                return Sight.GONE
            if present.threads.frozen:
                return Sight.FROZEN
            return Sight.ALIVE if present is seen else Sight.RESTARTED

        return look

    # What befalls them. Times are in seconds.

    def after(self, delay_s: float, act: Callable[[], object]) -> None:
        """Do something later, unless the world was healed before."""
        self.loop.schedule(self.loop.world, delay_s, lambda: act() if self.healed_at_s is None else None)

    def at_next_raise(self, act: Callable[[], None]) -> None:
        """Do something when the epoch is raised next."""
        if self.healed_at_s is None:
            self.raise_watchers.append(act)

    def _raised(self) -> None:
        watchers, self.raise_watchers = self.raise_watchers, []
        for act in watchers:
            act()

    def _spawn(self, coro: Coroutine[Any, Any, None]) -> None:
        self.group.create_task(coro)

    def play(self, coro: Coroutine[Any, Any, None]) -> None:
        """Let somebody outside of the cluster do something; what is still at it when the run ends is left undone."""
        task = self.group.create_task(coro)
        self._playing[task] = None
        task.add_done_callback(lambda done: self._playing.pop(done, None))

    def stop_playing(self) -> None:
        """Nobody outside does anything any more."""
        for task in self._playing:
            task.cancel()

    def kill(self, replica: Replica, restart_after_s: float) -> None:
        """kill -9."""
        if not replica.ended:
            replica.kill()
            self.after(restart_after_s, lambda: self.start(replica.name))

    def terminate(self, replica: Replica, restart_after_s: float) -> None:
        """SIGTERM."""

        async def terminate() -> None:
            await replica.terminate()
            self.after(restart_after_s, lambda: self.start(replica.name))

        self._spawn(terminate())

    def freeze(self, replica: Replica, lasting_s: float | None, *, threads: bool) -> None:
        """SIGSTOP, or a main loop that hangs; for ever if `lasting_s` is None."""
        if replica.frozen or replica.ended:
            return
        self.causes += int((lasting_s or 0.0) / 4)
        replica.freeze(threads=threads)
        if lasting_s is not None:
            self.after(lasting_s, lambda: self.wake(replica))

    def wake(self, *replicas: Replica) -> None:
        """SIGCONT, to all of these at once."""
        for replica in replicas:
            if replica.frozen and not replica.ended:
                replica.wake()

    def step_down(self, replica: Replica, cooldown_s: float) -> None:
        """An operator's `baton cluster step-down`."""

        async def step_down() -> None:
            await replica.campaign.resign("an operator asked for it", cooldown_s)

        replica.handle(step_down())

    def slander(self, replica: Replica, lasting_s: float) -> None:
        """Whoever looks at this process is told that it is gone."""
        self.slandered[replica.incarnation] = None
        self.changed.notify()
        self.after(lasting_s, lambda: self._rehabilitate(replica))

    def _rehabilitate(self, replica: Replica) -> None:
        self.slandered.pop(replica.incarnation, None)
        self.changed.notify()

    def cut(self, ways: Sequence[tuple[str, str]], lasting_s: float) -> None:
        """Let nothing pass in these directions."""
        self.causes += int(lasting_s / 3)
        self.trace.note("cut", *(f"{source}>{target}" for source, target in ways))
        self.network.cut.update(dict.fromkeys(ways))
        self.changed.notify()
        self.after(lasting_s, lambda: self._mend(ways))

    def _mend(self, ways: Sequence[tuple[str, str]]) -> None:
        for way in ways:
            self.network.cut.pop(way, None)
        self.trace.note("mended", *(f"{source}>{target}" for source, target in ways))
        self.changed.notify()

    def _away(self, server: Server, lasting_s: float) -> None:
        self.trace.note("stopped", server.name)
        server.up = False
        server.generation += 1
        self.after(lasting_s, lambda: setattr(server, "up", True))

    def stop_postgres(self, lasting_s: float) -> None:
        """Postgres ends, and comes back."""
        self.causes += int(lasting_s / 3)
        self.trace.note("stopped", "postgres")
        self.postgres.stop()
        self.after(lasting_s, self.postgres.start)

    def heal_postgres_speed(self) -> None:
        """Statements are as fast again as they were, and faster once the world is healed."""
        self.postgres.slow = self.plan.slow if self.healed_at_s is None else 0.0
        self.postgres.slow_max_s = 1.0

    def stop_etcd(self, lasting_s: float) -> None:
        """No member of etcd can be reached; their clocks go on."""
        self.causes += int(lasting_s / 4)
        self._away(self.etcd.server, lasting_s)

    def lose_quorum(self, lasting_s: float) -> None:
        """etcd has no leader."""
        self.etcd.quorum = False
        self.after(lasting_s, self._regain_quorum)

    def _regain_quorum(self) -> None:
        if not self.etcd.quorum:
            self.etcd.regain_quorum()

    def save_etcd(self) -> None:
        """Take a backup of etcd."""
        self._saved = self.etcd.save()

    def restore_etcd(self, *, another_id: bool) -> None:
        """etcd goes back to its backup, if there is one yet."""
        if self._saved is not None:
            self.trace.note("etcd_restored", self._saved.revision, "of", self.etcd.revision)
            self.etcd.restore(self._saved, self._etcd_id(another_id))

    def wipe_etcd(self, *, another_id: bool) -> None:
        """etcd begins anew."""
        self.etcd.wipe(self._etcd_id(another_id))

    def _etcd_id(self, another: bool) -> str:
        return f"etcd-{self.etcd.history_number + 2}" if another else self.etcd.cluster

    def stop_service(self, name: str, lasting_s: float) -> None:
        """A participant ends, in the middle of its calls, and comes back."""
        self._away(self.services[name].server, lasting_s)
