"""A small cluster that stays up for the tests of a module, and what they do in it: sagas, definitions, absences."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2
from participants.pb.shop.v1 import fault_pb2, fault_pb2_grpc

# A busy machine is slow, but what takes longer than this hangs.
WITHIN_S = 60.0
_CALL_S = 15.0
_ASK_INTERVAL_S = 0.05

_LINES = '"input.lines[].{stock_code: stock_code, quantity: quantity}"'
_STEPS = {
    "reserve": (
        "inventory",
        "shop.v1.InventoryService/Reserve",
        "shop.v1.InventoryService/Release",
        f"{{order_id: input.order_id, lines: {_LINES}}}",
    ),
    "pay": (
        "payment",
        "shop.v1.PaymentService/Charge",
        "shop.v1.PaymentService/Refund",
        "{order_id: input.order_id, customer_id: input.customer_id, amount: input.amount}",
    ),
    "ship": (
        "shipping",
        "shop.v1.ShippingService/Ship",
        "shop.v1.ShippingService/CancelShipment",
        "{order_id: input.order_id, destination: input.destination}",
    ),
}


async def eventually(true: Callable[[], Awaitable[bool]], what: str, within_s: float = WITHIN_S) -> None:
    """Ask until the answer is yes. Fails with `what` it waited for after `within_s`."""
    try:
        async with asyncio.timeout(within_s):
            while not await true():
                await asyncio.sleep(_ASK_INTERVAL_S)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


async def inject(cluster: Cluster, faults: Iterable[tuple[str, fault_pb2.Fault]]) -> None:
    """Inject faults, each into the participant of that name."""
    for service, fault in faults:
        await _faults(cluster, service).Inject(fault, timeout=_CALL_S, wait_for_ready=True)


async def struck(cluster: Cluster, order_ids: Sequence[str]) -> None:
    """Wait until faults have struck all these orders."""

    async def have_struck() -> bool:
        found: set[str] = set()
        for service in cluster.participants:
            answer = await _faults(cluster, service).List(fault_pb2.ListRequest(), timeout=_CALL_S, wait_for_ready=True)
            found |= {fault.order_id for fault in answer.faults if fault.struck > 0}
        return found >= set(order_ids)

    await eventually(have_struck, f"faults to strike {', '.join(order_ids)}")


async def clear_faults(cluster: Cluster, service: str) -> None:
    """Drop all faults of a participant."""
    await _faults(cluster, service).Clear(fault_pb2.ClearRequest(), timeout=_CALL_S, wait_for_ready=True)


def _faults(cluster: Cluster, service: str) -> fault_pb2_grpc.FaultServiceStub:
    return fault_pb2_grpc.FaultServiceStub(cluster.participants[service].channel())


async def definitions_applied(client: Client, count: int) -> None:
    """Wait until the replicas have applied so many definitions of their folder."""

    async def applied() -> bool:
        return len({definition.name for definition in await client.list_definitions()}) >= count

    await eventually(applied, f"{count} definitions")


@dataclass(frozen=True, slots=True)
class House:
    """A cluster of two replicas and a client of both."""

    cluster: Cluster
    client: Client

    async def start(self, definition: str, order_id: str, version: int = 0) -> str:
        """Start a saga of an order; returns its id."""
        order = {"order_id": order_id, "customer_id": "17850", "amount": "15.30", "destination": "Norway"}
        lines = [{"stock_code": "TEAPOT", "quantity": 1}]
        answer = await self.client.start_saga(
            definition, json.dumps({**order, "lines": lines}), version=version, request_id=order_id
        )
        return answer.saga.saga_id

    async def at(self, saga_id: str, step: str, status: str, times: int = 1) -> None:
        """Wait until the saga's history has such a row."""

        async def there() -> bool:
            history = (await self.client.get_saga(saga_id)).history
            return [(row.step, row.status) for row in history].count((step, status)) >= times

        await eventually(there, f"{status} of {step or 'the saga'} in saga {saga_id}")

    async def end(self, saga_id: str) -> saga_pb2.GetSagaResponse:
        """Wait for the end of the saga; returns it with its history."""

        async def ended() -> bool:
            return (await self.client.get_saga(saga_id)).saga.HasField("finished_at")

        await eventually(ended, f"the end of saga {saga_id}")
        return await self.client.get_saga(saga_id)

    async def apply(self, name: str, steps: str = "reserve pay ship", more: str = "", compensation: str = "") -> int:
        """Apply a definition of some steps of the shop, `more` at each of them; returns its version."""
        text = f"name: {name}\nsteps:\n"
        for step in steps.split():
            service, action, undo, request = _STEPS[step]
            address = self.cluster.participants[service].address
            text += f"  - name: {step}\n    service: {address}\n"
            text += f"    action: {{method: {action}, request: {request}}}\n"
            text += f"    compensation: {{method: {undo}, request: {{order_id: input.order_id}}{compensation}}}\n"
            text += f"    {more}\n" if more else ""
        return (await self.client.apply_definition(text)).definition.version

    async def take_away(self, service: str) -> None:
        """End a participant for as long as it is not watched."""
        participant = self.cluster.participants[service]
        participant.watched = False
        participant.kill()
        await participant.wait_exit()

    async def bring_back(self, service: str) -> None:
        """Have a participant started again, and wait until it serves."""
        self.cluster.participants[service].watched = True
        await self.cluster.participants[service].wait_ready(WITHIN_S)


@asynccontextmanager
async def open_house(folder: Path, definitions: int) -> AsyncGenerator[House]:
    """A house on a new cluster, which has applied its `definitions` when the body begins."""
    async with (
        Cluster(folder, replicas=2, etcd_members=1, unsafe_no_fsync=True) as cluster,
        Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0, spread=True) as client,
    ):
        await definitions_applied(client, definitions)
        yield House(cluster, client)
