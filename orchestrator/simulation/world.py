"""One run of the simulation: load and faults, then healing and calm, then everybody leaves."""

from __future__ import annotations

import asyncio
import random

from orchestrator.saga.events import Event
from orchestrator.saga.model import Saga
from orchestrator.simulation.clients import Clients
from orchestrator.simulation.clients import Plan as ClientPlan
from orchestrator.simulation.faults import draw
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.movers import Movers
from orchestrator.simulation.orders import order
from orchestrator.simulation.stage import Mutation, Stage
from orchestrator.telemetry import Metrics

LOAD_S = 24.0
# Within so long after the faults have ended every saga is terminal: the budget of a compensation is some 30 s, and
# several may be spent one after the other, by children as well.
SETTLE_MAX_S = 150.0
# Leadership has settled so long after the faults have ended, and does not change any more.
CALM_AFTER_S = 15.0
QUIET_S = 3.0


class SimulatedWorld(Stage):
    """The course of one seed's run."""

    def __init__(self, loop: SimulationLoop, seed: str, mutation: Mutation, metrics: Metrics) -> None:
        super().__init__(loop, seed, draw(random.Random(f"{seed}/plan"), LOAD_S), mutation, metrics)
        self.clients = Clients(self.outside, self.trace)
        self.movers = Movers(self, random.Random(f"{seed}/movers"))
        self.postgres.written = self._written

    async def run(self) -> None:
        """Load and faults, then healing and calm, then everybody leaves."""
        async with self.group as group:
            for name in self.names:
                self.start(name)
            load = group.create_task(self.clients.run(self._client_plans()))
            orders = group.create_task(self.people.order(LOAD_S))
            self.after(self.chance.uniform(1, 10), self.save_etcd)
            self.operators.plan(LOAD_S, self.after)
            self.movers.plan(LOAD_S)
            await self._torment()
            self.heal()
            clearing = group.create_task(self.people.clear_up())
            await self._settle(load)
            orders.cancel()
            clearing.cancel()
            self.stop_playing()
            for replica in self.running():
                group.create_task(replica.terminate())

    def _written(self, saga: Saga, event: Event) -> None:
        """A row of the step log: whoever is outside hears of it."""
        self.people.written(saga, event)
        self.movers.written(saga, event)

    def _client_plans(self) -> list[ClientPlan]:
        chance = random.Random(f"{self.seed}/orders")
        unknown_versions = chance.random() < 0.1
        plans = []
        for number in range(chance.randint(20, 45)):
            cancel_after_s = chance.choice((0.0, 0.05, 1.0)) * chance.random() if chance.random() < 0.12 else None
            start_s = chance.uniform(0.2, LOAD_S)
            self.trace.count("clients")
            new = order(number, chance, self.library.first, start_s, unknown_versions)
            plans.append(ClientPlan(new, start_s, cancel_after_s))
        return plans

    async def _torment(self) -> None:
        began_s = self.loop.time()
        for at_s, fault in self.plan.strikes:
            await asyncio.sleep(max(0.0, began_s + at_s - self.loop.time()))
            self.causes += fault.cause
            self.trace.note("fault", fault.name)
            self.trace.count(f"fault {fault.name}")
            fault.strike(self, self.chance)
        await asyncio.sleep(max(0.0, began_s + LOAD_S + 1.0 - self.loop.time()))

    def heal(self) -> None:
        """End every fault that still holds on."""
        self.trace.note("healed")
        self.healed_at_s = self.loop.time()
        self.network.calm = True
        self.network.cut.clear()
        self.slandered.clear()
        self.raise_watchers.clear()
        self.operators.resume_all()
        self.etcd.server.up = True
        if not self.etcd.quorum:
            self.etcd.regain_quorum()
        self.postgres.start()
        self.heal_postgres_speed()
        for service in self.services.values():
            service.heal()
        for replica in self.past:
            replica.skew_s = 0.0
            if replica.frozen and not replica.ended:
                replica.wake()
        for name in self.names:
            if self.replicas[name].ended:
                self.start(name)
        self.changed.notify()

    async def _settle(self, load: asyncio.Task[None]) -> None:
        """Wait until nothing can happen any more, or until the bound: who has not ended by then never will."""
        healed_s = self.loop.time()
        while self.loop.time() - healed_s < SETTLE_MAX_S:
            await asyncio.sleep(0.5)
            if load.done() and self.all_ended():
                break
        self.trace.note("settled", f"after {self.loop.time() - healed_s:.1f} s")
        load.cancel()
        quiet_at_s = max(healed_s + CALM_AFTER_S, self.network.last_arrival_s, self.loop.time()) + QUIET_S
        await asyncio.sleep(quiet_at_s - self.loop.time())

    def all_ended(self) -> bool:
        """Whether every saga is terminal."""
        return all(row.state.terminal for row in self.postgres.log.rows.values())


def tasks_left(loop: SimulationLoop) -> list[str]:
    """Tasks that should have ended and have not, by what they run."""
    return sorted(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks(loop))
