"""Drills a deployed cluster: load through its API, the operator's own commands as faults, and what can be judged then.

The cluster may have other sagas. Those of this run are known by their request ids, and in the API by a label.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import psycopg
from google.protobuf.timestamp_pb2 import Timestamp

from orchestrator.audit.checks import acknowledged_once, terminal_or_parked
from orchestrator.audit.evidence import Circumstances, Evidence, SagaRow
from orchestrator.audit.excerpt import excerpt
from orchestrator.audit.finding import Finding
from orchestrator.audit.gauge import Gauge, now
from orchestrator.audit.judge import judge
from orchestrator.audit.ledgers import load_evidence
from orchestrator.drill.fault import REPETITIONS, FaultProfile, Measure, Stage
from orchestrator.drill.live import LivePicture, of_deployed
from orchestrator.drill.load import DEFINITION, RATE, Load
from orchestrator.drill.operator_command import OperatorCommand
from orchestrator.drill.progress import Progress
from orchestrator.drill.result import BUCKET_S, FaultResult, Mark, Term, Timeline
from orchestrator.drill.rounds import Found, rounds, troubles_within
from orchestrator.drill.watchtower import LeaderSeen, Unhealed, Watchtower, state_name
from orchestrator.errors import LogUnavailable
from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.starter import ConnectReader

LABEL = "drill"
_GAP_TIMEOUT_S = 60.0
_READY_TIMEOUT_S = 120.0
# Without a command that heals, somebody may start again what was killed, or nobody.
_COMES_BACK_S = 10.0
_CALM_S = 0.5
_BY_LOG_ALONE = ("I5", "I6", "I9")
_BY_LEDGERS = "I1 to I4 and the balances"


@dataclass(frozen=True, slots=True)
class DeployedOptions:
    """How a deployed cluster is reached and loaded. `keep_s` is how long a fault lasts that is no kill, in seconds."""

    endpoints: Sequence[str]
    connect: ConnectReader
    tell: Callable[[str], None]
    heal: OperatorCommand | None = None
    dsn_log: str | None = None
    dsn_shop: str | None = None
    definition: str = DEFINITION
    rate: float = RATE
    keep_s: float = 5.0
    live: LivePicture | None = None


def killing(text: str, repetitions: int, bound_s: float | None) -> FaultProfile:
    """What is said of a command that ends the leader."""
    return _profile("kill-command", text, repetitions, Measure.GAP, bound_s)


def disturbing(name: str, text: str, repetitions: int, *, log: bool) -> FaultProfile:
    """What is said of any other command of the operator's. A pause can be seen in the log alone."""
    return _profile(name, text, repetitions, Measure.PAUSE if log else Measure.NONE, None)


def _profile(name: str, text: str, repetitions: int, measure: Measure, bound_s: float | None) -> FaultProfile:
    reason = "" if repetitions >= REPETITIONS else "as often as the operator said"
    return FaultProfile(0, name, text, stage=Stage.DEPLOYED, measure=measure, bound_s=bound_s, repetitions=repetitions,
                        reason=reason)  # fmt: skip


async def run_command(profile: FaultProfile, command: OperatorCommand, options: DeployedOptions) -> FaultResult:
    """Run the command as often as the profile says, and judge what came of it. Raises nothing that it met."""
    result = FaultResult(profile, repetitions=profile.repetitions)
    with troubles_within() as troubles:
        async with _ground(profile, command, options) as ground:
            result = await rounds(ground, result)
    return replace(result, error=troubles[0]) if troubles else result


@asynccontextmanager
async def _ground(
    profile: FaultProfile, command: OperatorCommand, options: DeployedOptions
) -> AsyncGenerator[_DeployedGround]:
    """A deployed cluster that leads, and is looked at all the time. Raises Unhealed, LogUnavailable."""
    run_id = f"{uuid.uuid4().hex[:10]}-"
    tower = Watchtower(options.endpoints, options.connect, {LABEL: run_id})
    gauge = None if options.dsn_log is None else Gauge(options.dsn_log)
    async with tower, asyncio.TaskGroup() as group:
        await tower.leader(_READY_TIMEOUT_S)
        load = Load(tower.reader, options.rate, options.definition, run_id, tower.labels)
        ground = _DeployedGround(profile, command, options, tower, gauge, load, tower.answering)
        following = group.create_task(tower.follow())
        async with AsyncExitStack() as stack:
            if gauge is not None:
                await stack.enter_async_context(gauge)
                # The clocks of two machines differ, and times in the log are by the database's.
                ground.ahead = await gauge.clock() - now()
            if options.live is not None:
                look = of_deployed(tower, load)
                await stack.enter_async_context(options.live.following(look, ground.progress, load))
            yield ground
        following.cancel()


@dataclass(slots=True)
class _DeployedGround:
    """A deployed cluster with a load. `ahead` is by how much the database's clock is ahead of this machine's."""

    profile: FaultProfile
    command: OperatorCommand
    options: DeployedOptions
    tower: Watchtower
    gauge: Gauge | None
    load: Load
    answering: int
    ahead: timedelta = timedelta()
    progress: Progress = field(default_factory=Progress)

    @property
    def tell(self) -> Callable[[str], None]:
        return self.options.tell

    async def make(self, began_at: datetime) -> Mark:
        leader = await self.tower.leader(_READY_TIMEOUT_S)
        struck_at = now()
        self.tell(f"{self.profile.name}: {leader.replica_id} leads epoch {leader.epoch}")
        measured_s: float | None = None
        try:
            if self.profile.measure is Measure.GAP:
                measured_s = await self._kill(leader, struck_at)
            else:
                await self.command.run(leader.placeholders)
                await asyncio.sleep(self.options.keep_s)
        finally:
            if self.options.heal is not None:
                await self.options.heal.run(leader.placeholders)
        healed_at = now()
        await self._healed(leader)
        if self.profile.measure is Measure.PAUSE and self.gauge is not None:
            await asyncio.sleep(_CALM_S)
            measured_s = await self.gauge.silence_s(struck_at + self.ahead, now() + self.ahead)
        return Mark((struck_at - began_at).total_seconds(), (healed_at - began_at).total_seconds(), measured_s)

    async def _kill(self, leader: LeaderSeen, struck_at: datetime) -> float | None:
        """The gap in seconds, from the beginning of the command: what the command itself takes is within."""
        if self.gauge is not None:
            await self.command.run(leader.placeholders)
            return await self.gauge.gap_s(struck_at + self.ahead, leader.epoch, _GAP_TIMEOUT_S)
        struck_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            gap = group.create_task(self.tower.gap_s(self.load, struck_s, leader.epoch, _GAP_TIMEOUT_S))
            await self.command.run(leader.placeholders)
        return gap.result()

    async def _healed(self, leader: LeaderSeen) -> None:
        """Wait until somebody leads, and until as many endpoints answer as at first, if that was to be healed."""
        above_epoch = leader.epoch if self.profile.measure is Measure.GAP else 0
        if self.options.heal is not None:
            await self.tower.leader(_READY_TIMEOUT_S, above_epoch, self.answering)
            return
        await self.tower.leader(_READY_TIMEOUT_S, above_epoch)
        try:
            await self.tower.leader(_COMES_BACK_S, above_epoch, self.answering)
        except Unhealed as error:
            self.tell(f"{error}: is a command missing that heals?")

    async def all_ended(self, timeout_s: float) -> bool:
        return await self.tower.all_ended(timeout_s)

    async def found(self, marks: Sequence[Mark], began_at: datetime) -> Found:
        sagas = await self.tower.sagas()
        origin = began_at + self.ahead
        if self.gauge is None:
            # By the cluster's clock: the load began with its first saga.
            origin = min((_when(saga.created_at) for saga in sagas), default=began_at)
            terms = list(self.tower.terms)
            findings, unchecked = self._by_api(sagas)
        else:
            rows = await self.gauge.epochs(origin)
            terms = [Term(epoch, who, why, (at - origin).total_seconds()) for epoch, who, why, at in rows]
            findings, unchecked = await self._by_log()
        duration_s = (now() - began_at).total_seconds()
        return Found(
            states=dict(Counter(state_name(saga) for saga in sagas)),
            # The first one led before anything was done.
            changes=max(0, len(terms) - 1),
            findings=findings,
            timeline=Timeline(duration_s, tuple(marks), tuple(terms), _ended(sagas, origin, duration_s)),
            unchecked=unchecked,
        )

    def _by_api(self, sagas: Sequence[saga_pb2.Saga]) -> tuple[Sequence[Finding], list[str]]:
        evidence = Evidence([_row(saga) for saga in sagas], (), (), {}, (), ())
        findings = (terminal_or_parked(evidence), acknowledged_once(evidence, Circumstances(self.load.acknowledged)))
        return findings, [
            f"{_BY_LEDGERS} were not checked: that needs --dsn-log and --dsn-shop",
            "I5 was not checked: that needs --dsn-log",
            "I7 by what a watch of a new saga brought, I8 by who was seen to lead, every half a second; both through "
            "the API",
        ]

    async def _by_log(self) -> tuple[Sequence[Finding], list[str]]:
        """Raises LogUnavailable."""
        dsn_log, dsn_shop = self.options.dsn_log or "", self.options.dsn_shop
        try:
            everything = await asyncio.to_thread(load_evidence, dsn_log, dsn_shop)
        except psycopg.Error as error:
            raise LogUnavailable(f"the databases cannot be audited: {error}") from error
        ids = {acknowledgement.saga_id for acknowledgement in self.load.acknowledged}
        evidence = excerpt(everything, self.load.request_prefix, ids)
        findings = judge(evidence, Circumstances(self.load.acknowledged)).findings
        if dsn_shop is None:
            unchecked = [f"{_BY_LEDGERS} were not checked: that needs --dsn-shop"]
            return [finding for finding in findings if finding.invariant in _BY_LOG_ALONE], unchecked
        if evidence.stock is None and evidence.money is None:
            unchecked = ["the balances were not checked: others have sagas on the same accounts, or there are none"]
            return [finding for finding in findings if finding.invariant != "balances"], unchecked
        return findings, []


def _row(saga: saga_pb2.Saga) -> SagaRow:
    error = {"message": saga.error.message} if saga.HasField("error") else None
    return SagaRow(saga.saga_id, saga.request_id, 0, saga.definition, saga.version, state_name(saga), error, {})


def _when(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)


def _ended(sagas: Sequence[saga_pb2.Saga], origin: datetime, duration_s: float) -> dict[str, list[int]]:
    """How many sagas ended in each bucket of the timeline, by state."""
    count = int(duration_s / BUCKET_S) + 1
    ended: dict[str, list[int]] = {}
    for saga in sagas:
        if saga.HasField("finished_at"):
            bucket = int((_when(saga.finished_at) - origin).total_seconds() / BUCKET_S)
            ended.setdefault(state_name(saga), [0] * count)[min(max(bucket, 0), count - 1)] += 1
    return ended
