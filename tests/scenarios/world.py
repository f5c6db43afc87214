"""What the sentences of a story do: faults of participants, the leader's death, waiting for a saga, the audit.

The sentences themselves stand in telling.py.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import groupby

import grpc
import psycopg

from orchestrator.audit.judge import audit
from orchestrator.cli.calls import Method
from orchestrator.cli.errors import CallRefused
from orchestrator.embedded.loopback import http_get
from orchestrator.pb.baton.v1 import holds_pb2, holds_pb2_grpc, saga_pb2
from participants.answers import Outcome
from participants.pb.shop.v1 import fault_pb2
from tests.cluster.house import House, clear_faults, eventually, inject

from . import by_hand
from .shop_by_events import ShopByEvents
from .stage import Stage

# What must hold after each story, whatever it was about; and where sagas have left the log, their effects have not.
_INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I9", "balances")
_INVARIANTS_OF_EFFECTS = ("I2", "I3", "I5", "balances")
_TIMES = {"once": 1, "twice": 2}
_LIST_HOLDS = Method(holds_pb2_grpc.HoldServiceStub, "ListStartHolds", holds_pb2.ListStartHoldsResponse)


@dataclass(slots=True)
class World:
    """What a story happens in; `sagas` are those of the story, by their request ids."""

    stage: Stage
    sagas: dict[str, str] = field(default_factory=dict)
    shop: ShopByEvents | None = None

    @property
    def house(self) -> House:
        """The cluster."""
        return self.stage.house

    async def tidy_up(self) -> None:
        """Leave no trouble to the next story."""
        await self.stage.postman.go()
        if self.shop is not None:
            await self.shop.close()
        if self.stage.broker is not None and not self.stage.broker.process.alive:
            await asyncio.to_thread(self.stage.broker.start)
        for service, participant in self.house.cluster.participants.items():
            if not participant.watched:
                await self.house.bring_back(service)
            await clear_faults(self.house.cluster, service)
        await by_hand.end_pauses(self.house.client)

    async def kill_leader(self) -> None:
        """kill -9; the story goes on under the next leader. The one that was killed is started again."""
        before = await self.house.cluster.wait_leader()
        before.replica.kill()
        await self.house.cluster.wait_leader(above_epoch=before.epoch)

    async def answer(self, service: str, method: str, order_id: str, code: str, late: str, times: str) -> None:
        """A participant answers a method with an error, perhaps after it has done what was asked."""
        fault = fault_pb2.Fault(
            method=method, order_id=order_id, error_code=code, error_message=code.replace("_", " ").lower()
        )
        fault.error_after_commit, fault.times = bool(late), _count(times)
        await inject(self.house.cluster, [(service.lower(), fault)])

    async def take(self, service: str, seconds: str, method: str, order_id: str, times: str) -> None:
        """A participant takes its time."""
        delay_ms = int(float(seconds) * 1000)
        fault = fault_pb2.Fault(method=method, order_id=order_id, delay_ms=delay_ms, times=_count(times))
        await inject(self.house.cluster, [(service.lower(), fault)])

    async def mend(self, service: str) -> None:
        """A participant does what it is asked again."""
        await clear_faults(self.house.cluster, service.lower())

    async def away(self, service: str) -> None:
        """A participant ends, and stays away."""
        await self.house.take_away(service.lower())

    async def back(self, service: str) -> None:
        """A participant is started again."""
        await self.house.bring_back(service.lower())

    async def comes_to(self, name: str, step: str, status: str, times: str) -> None:
        """Wait until the history of a saga has such a row."""
        await self.house.at(self.sagas[name], "" if step == "it" else step, status, _count(times) or 1)

    async def child(self, name: str, child: str, definition: str) -> None:
        """Wait until a saga has a child, and call it by a name."""
        found: set[str] = set()

        async def begun() -> bool:
            listed = await self.house.client.list_sagas(saga_pb2.ListSagasRequest(definition=definition), 100)
            found.update(saga.saga_id for saga in listed if self.sagas[name] in str(saga))
            return bool(found)

        await eventually(begun, f"a child of {name}")
        (self.sagas[child],) = found

    async def ends(self, name: str) -> None:
        """Wait for the end of a saga."""
        await self.house.end(self.sagas[name])

    async def accepted(self, step: str, name: str) -> None:
        """Wait until the clerk has been asked."""
        await eventually(lambda: self.stage.clerk.accepted(self.sagas[name], step), f"{step} of {name} to be accepted")

    async def stamp(self, step: str, name: str) -> None:
        """The clerk does what he was asked, and Baton is told."""
        assert await self.stage.clerk.stamp(self.sagas[name], step) is Outcome.STORED

    async def decline(self, step: str, name: str) -> None:
        """The clerk refuses what he was asked, and Baton is told."""
        assert await self.stage.clerk.decline(self.sagas[name], step) is Outcome.STORED

    async def heartbeat(self, step: str, name: str) -> None:
        """The clerk tells Baton that he is at it."""
        assert await self.stage.clerk.answers.heartbeat(self.sagas[name], step) is Outcome.STORED

    async def too_late(self, step: str, name: str) -> None:
        """The clerk would do what he was asked, and learns that it is not wanted any more."""
        assert await self.stage.clerk.stamp(self.sagas[name], step) is Outcome.CANCELLED

    async def breaker(self, service: str, state: str) -> None:
        """Wait until the leader holds, or lets through, the calls to a participant."""
        address = self.house.cluster.participants[service.lower()].address
        wanted = f'baton_breaker_open{{participant="{address}"}} {float(state == "open")}'

        async def so() -> bool:
            leader = await self.house.cluster.leader()
            url = None if leader is None else f"http://{leader.replica.http_address}/metrics"
            metrics = None if url is None else await asyncio.to_thread(http_get, url, 10.0)
            return metrics is not None and wanted in metrics.decode()

        await eventually(so, wanted)

    async def held(self, definition: str) -> None:
        """Wait until the leader holds the starts of a definition."""

        async def so() -> bool:
            held = await self.house.client.ask(_LIST_HOLDS, holds_pb2.ListStartHoldsRequest())
            return definition in [hold.definition for hold in held.holds]

        await eventually(so, f"the starts of {definition} to be held")

    async def told(self, name: str, state: str) -> None:
        """The customer of a saga has a notice of its end, and no second one."""

        async def so() -> bool:
            return bool(await self.stage.postman.told(self.sagas[name]))

        await eventually(so, f"the customer of {name} to be told")
        assert await self.stage.postman.told(self.sagas[name]) == [state]

    async def at_work(self) -> None:
        """The notifications listen."""
        await self.stage.postman.come()

    async def at_home(self) -> None:
        """The notifications do not listen any more."""
        await self.stage.postman.go()

    async def tombstones(self, none: str) -> None:
        """The newcomer remembers what was taken back before it came, or does not."""
        _, newcomer = self.stage.newcomer
        newcomer.flaws = frozenset({"no tombstone"}) if none else frozenset()

    async def kept(self) -> None:
        """Sagas leave the log here; see `Story.keeps_for_ever`."""
        assert self.stage.archive is not None

    async def leaves(self, name: str) -> None:
        """Wait until a saga is in the log no more."""

        async def so() -> bool:
            try:
                await self.house.client.get_saga(self.sagas[name])
            except CallRefused as error:
                if error.code is not grpc.StatusCode.NOT_FOUND:
                    raise
                return True
            return False

        await eventually(so, f"{name} to leave the log")

    async def forgotten(self, service: str, name: str) -> None:
        """Wait until the barrier of a participant has nothing of a saga."""
        query = f"SELECT count(*) FROM {service.lower()}.barrier WHERE saga_id = %s".encode()

        async def so() -> bool:
            async with await psycopg.AsyncConnection.connect(self.house.cluster.shop_dsn) as connection:
                return await (await connection.execute(query, [self.sagas[name]])).fetchone() == (0,)

        await eventually(so, f"{service} to forget {name}")

    async def archived(self, name: str, state: str) -> None:
        """The archive has a saga, as it ended."""
        assert self.stage.archive is not None
        texts = [path.read_text(encoding="utf-8") for path in self.stage.archive.glob("*.jsonl")]
        lines = [json.loads(line) for text in texts for line in text.splitlines()]
        assert {line["state"] for line in lines if line["saga_id"] == self.sagas[name]} == {state}

    async def open_shop(self) -> None:
        """The services by events come to work."""
        assert self.stage.broker is not None
        self.shop = ShopByEvents(self.house.cluster, self.stage.broker)
        await self.shop.open()

    async def order_there(self, order_id: str, pieces: str) -> None:
        """An order is placed with the services by events."""
        await self.there.place(order_id, int(pieces or 1))

    async def went_there(self, order_id: str, way: str) -> None:
        """Wait for the end of such an order, and see all that has happened to it."""
        happened = await self.there.end(order_id)
        assert ", ".join(event.type for event in happened) == way

    async def killed_there(self, service: str, order_id: str) -> None:
        """Such an order is placed, and one of the services dies at work on it."""
        await self.there.kill_at_work(service.lower(), order_id, 1)

    async def back_there(self, service: str) -> None:
        """One of the services by events is started again."""
        self.there.back(service.lower())

    async def again_there(self) -> None:
        """The broker repeats itself."""
        await self.there.all_again()

    @property
    def there(self) -> ShopByEvents:
        """The shop by events."""
        assert self.shop is not None, "the shop by events is not open"
        return self.shop

    async def broker(self, how: str) -> None:
        """The broker ends, or is started again with all that it had."""
        assert self.stage.broker is not None
        await asyncio.to_thread(self.stage.broker.stop if how == "goes away" else self.stage.broker.start)

    async def published(self, name: str) -> None:
        """The broker has each event of a saga, once, and in the order of the log."""
        assert self.stage.broker is not None
        saga = await self.house.client.get_saga(self.sagas[name])
        await by_hand.published(self.stage.broker, self.sagas[name], [row.sequence for row in saga.history])

    async def charge_by_hand(self, amount: str, name: str) -> None:
        """Somebody calls payment as the leader has called it, but for the amount."""
        payment = self.house.cluster.participants["payment"]
        history = (await self.house.client.get_saga(self.sagas[name])).history
        await by_hand.charge(payment.channel(), self.sagas[name], history[-1].epoch, name, amount)

    async def held_up(self, text: str) -> None:
        """Calls to the scribe do not arrive."""
        self.stage.scribe.late[text] = []

    async def on_its_way(self, text: str) -> None:
        """Wait until a leader has called the scribe."""

        async def called() -> bool:
            return bool(self.stage.scribe.late[text])

        await eventually(called, f"a call to the scribe about {text}")

    async def arrives(self, text: str, wanted: str) -> None:
        """They do arrive, after their compensation; what each hears."""
        answers = await self.stage.scribe.arrive(text)
        # A machine that stands still for a while may have had one leader more, whose call is as late as the others'.
        heard = ", ".join(said for said, _ in groupby(said.partition(":")[0] for _, said in answers))
        assert heard == wanted, answers

    async def audited(self) -> None:
        """No effect twice, none without its intent, none after its tombstone; stock and money add up."""
        if self.shop is not None:
            await self.shop.assert_books()
        verdict = await asyncio.to_thread(audit, self.house.cluster.baton_dsn, self.house.cluster.shop_dsn)
        invariants = _INVARIANTS if self.stage.archive is None else _INVARIANTS_OF_EFFECTS
        bad = [finding for finding in verdict.findings if finding.invariant in invariants and not finding.holds]
        assert not bad, "\n".join(line for finding in bad for line in finding.lines())


def _count(times: str | None) -> int:
    """How often; 0 when the story does not say."""
    return 0 if not times else _TIMES.get(times) or int(times.split()[0])
