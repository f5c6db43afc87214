"""The order flows on a real cluster: success, and every way in which a step can fail, at every step.

All sagas run in one evening on one cluster: those that trouble no other side by side; then those of which the
participants are killed at once; then those of which one crashes before its commit, one crash of each at a time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.audit.judge import Verdict, audit
from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2

from .flows import (
    FLOWS,
    Case,
    calls,
    crash_cases,
    crashing_compensations,
    killed_cases,
    patient,
    quiet_cases,
    retries,
    without_repetitions,
)
from .house import WITHIN_S, definitions_applied, inject, struck

QUIET = tuple(quiet_cases())
KILLED = tuple(killed_cases())
CRASHES = tuple(crash_cases())
CRASHING = crashing_compensations()

_END_S = 60.0
# A participant that a hundred call at the same moment keeps some of them waiting, on a busy machine for seconds: a call
# of the samples may take five, and one that took longer would be another failure than the one that is looked at.
_AT_ONCE = 30


@dataclass(slots=True)
class Evening:
    """What came of all sagas, by the ids of their cases."""

    ends: dict[str, saga_pb2.GetSagaResponse] = field(default_factory=dict)
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    verdict: Verdict | None = None


def waves(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases in waves in which each participant has trouble at most once."""
    found: list[list[Case]] = []
    for case in cases:
        service = case.flow.steps[case.troubles[0].step - 1].service
        for wave in found:
            if all(other.flow.steps[other.troubles[0].step - 1].service != service for other in wave):
                wave.append(case)
                break
        else:
            found.append([case])
    return found


async def play(cluster: Cluster) -> Evening:
    evening = Evening()
    async with Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=15.0, spread=True) as client:
        await definitions_applied(client, len(FLOWS))
        await run_all(cluster, client, QUIET, evening, _AT_ONCE)
        for flow in FLOWS:
            await client.apply_definition(patient(flow, cluster.addresses))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_all(cluster, client, KILLED, evening))
            group.create_task(kill_all(cluster, [case.order_id for case in KILLED]))
        for wave in (*waves(CRASHES), [CRASHING]):
            await run_all(cluster, client, wave, evening)
    evening.verdict = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, evening.acknowledged)
    return evening


async def run_all(
    cluster: Cluster, client: Client, cases: Sequence[Case], evening: Evening, at_once: int | None = None
) -> None:
    for case in cases:
        await inject(cluster, case.faults())
    room = asyncio.Semaphore(at_once or len(cases))

    async def run_one(case: Case) -> None:
        async with room:
            await run(client, case, evening)

    await asyncio.gather(*map(run_one, cases))


async def kill_all(cluster: Cluster, order_ids: Sequence[str]) -> None:
    """Kill every participant once their faults have struck all these orders."""
    await struck(cluster, order_ids)
    for participant in cluster.participants.values():
        participant.kill()


async def run(client: Client, case: Case, evening: Evening) -> None:
    answer = await client.run_saga(case.flow.name, case.input_json, request_id=case.id, deadline_s=_END_S)
    evening.acknowledged.append(Acknowledgement(case.id, answer.saga.saga_id))
    evening.ends[case.id] = await client.get_saga(answer.saga.saga_id)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Evening:
    async def go() -> Evening:
        folder = tmp_path_factory.mktemp("flows")
        settings = {"PARTICIPANT_INITIAL_STOCK": "100000"}
        async with Cluster(
            folder, replicas=2, etcd_members=1, participant_settings=settings, unsafe_no_fsync=True
        ) as cluster:
            return await play(cluster)

    return asyncio.run(go())


def assert_ended_as_it_must(evening: Evening, case: Case) -> list[saga_pb2.Transition]:
    end = evening.ends[case.id]
    saga, history = end.saga, list(end.history)
    assert saga_pb2.SagaState.Name(saga.state) == f"SAGA_STATE_{case.state}", history
    assert without_repetitions(history) == case.history
    assert [row.sequence for row in history] == list(range(1, len(history) + 1))
    assert [row.step for row in history] == [case.flow.steps[row.position - 1].name for row in history]
    result = json.loads(saga.result_json)
    assert (result["steps_executed"], result["steps_compensated"]) == (case.executed, case.compensated)
    assert (list(saga.steps_executed), list(saga.steps_compensated)) == (case.executed, case.compensated)
    assert (result["result"] is None) == (case.fails_at != 0)
    if case.fails_at:
        code, message = case.error
        assert (saga.error.step, saga.error.code) == (case.flow.steps[case.fails_at - 1].name, code)
        assert message in saga.error.message
    else:
        assert not saga.HasField("error")
    assert saga.HasField("finished_at")
    return history


@pytest.mark.parametrize("case", QUIET, ids=lambda case: case.id)
def test_a_flow_ends_as_its_definition_says(evening: Evening, case: Case) -> None:
    history = assert_ended_as_it_must(evening, case)
    for trouble in case.troubles:
        # As often as the fault struck, but for the last attempt of a budget that is spent.
        assert retries(history, trouble) == [trouble.heard] * (trouble.fault.times or 3)
    if not case.troubles:
        assert calls(history) == {1}


@pytest.mark.parametrize("case", [*KILLED, *CRASHES, CRASHING], ids=lambda case: case.id)
def test_a_participant_that_crashes_costs_a_retry_and_nothing_else(evening: Evening, case: Case) -> None:
    history = assert_ended_as_it_must(evening, case)
    for trouble in case.troubles:
        heard = retries(history, trouble)
        assert heard
        assert set(heard) == {trouble.heard}


def test_a_database_error_of_the_third_step_refunds_and_then_releases(evening: Evening) -> None:
    saga = evening.ends["order-reserve-pay-create-create_order-database-error"].saga
    assert saga.state == saga_pb2.SAGA_STATE_COMPENSATED
    result = json.loads(saga.result_json)
    assert result["steps_executed"] == [1, 2]
    assert result["steps_compensated"] == [2, 1]
    assert saga.error.step == "create_order"
    assert "database error" in saga.error.message


def test_a_declined_payment_releases_the_inventory(evening: Evening) -> None:
    end = evening.ends["order-reserve-pay-ship-process_payment-refuses"]
    assert "card declined" in end.saga.error.message
    assert [(row.step, row.status) for row in end.history][-1] == ("reserve_inventory", "compensated")


def test_inventory_that_cannot_be_reserved_gives_the_payment_back(evening: Evening) -> None:
    end = evening.ends["order-pay-reserve-ship-reserve_inventory-refuses"]
    assert end.saga.error.step == "reserve_inventory"
    assert [(row.step, row.status) for row in end.history][-1] == ("reserve_payment", "compensated")


@pytest.mark.parametrize("invariant", ["I1", "I2", "I3", "I4", "I5", "I6", "I9", "balances"])
def test_the_audit_of_the_whole_evening_holds(evening: Evening, invariant: str) -> None:
    assert evening.verdict is not None
    finding = evening.verdict.finding(invariant)
    assert finding.holds, "\n".join(finding.lines())
