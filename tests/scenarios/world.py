"""What the sentences of a story do: faults of participants, the leader's death, waiting for a saga, the audit."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.audit.judge import audit
from orchestrator.cli.calls import Method
from orchestrator.cli.errors import CallRefused
from orchestrator.embedded.loopback import http_get
from orchestrator.pb.baton.v1 import holds_pb2, holds_pb2_grpc, pauses_pb2, pauses_pb2_grpc, saga_pb2
from participants.answers import Outcome
from participants.pb.shop.v1 import fault_pb2
from tests.cluster.house import House, clear_faults, eventually, inject
from tests.integration.flawed_participant import Flawed

from .clerk import Clerk
from .postman import Postman
from .story import KEEPS, Command, File, Part, Sentence

# Somebody who is to be certified: his address, and himself.
Newcomer = tuple[str, Flawed]

# What must hold after each story, whatever it was about; and where sagas have left the log, their effects have not.
_INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I9", "balances")
_INVARIANTS_OF_EFFECTS = ("I2", "I3", "I5", "balances")
_TIMES = {"once": 1, "twice": 2}
_PAUSES = Method(pauses_pb2_grpc.PauseServiceStub, "ListPauses", pauses_pb2.ListPausesResponse)
_RESUME_DEFINITION = Method(pauses_pb2_grpc.PauseServiceStub, "ResumeDefinition", pauses_pb2.ResumeAnswer)
_RESUME_PARTICIPANT = Method(pauses_pb2_grpc.PauseServiceStub, "ResumeParticipant", pauses_pb2.ResumeAnswer)
_STARTED = re.compile(r'^saga +([0-9a-f-]{36})$|"saga_id":"([0-9a-f-]{36})"', re.MULTILINE)


@dataclass(slots=True)
class World:
    """The cluster that stories share; `sagas` are those of the present story, by their request ids.

    `archive` is where sagas go that have ended, or None where they stay in the log.
    """

    house: House
    clerk: Clerk
    postman: Postman
    newcomer: Newcomer
    archive: Path | None = None
    sagas: dict[str, str] = field(default_factory=dict)

    async def play(self, part: Part) -> None:
        """Execute one part of a story. Raises AssertionError with its line."""
        match part:
            case File():
                await asyncio.to_thread(Path(part.name).write_text, part.text, encoding="utf-8")
            case Command():
                await self._run(part)
            case Sentence():
                await self._live(part)

    async def _run(self, command: Command) -> None:
        env = {**self.house.cluster.addresses, "BATON_ENDPOINTS": ",".join(self.house.cluster.api_endpoints)}
        env["CLERK_ADDRESS"] = self.clerk.address
        env["NEWCOMER_ADDRESS"], _ = self.newcomer
        env |= {"USER": "ann", "LOGNAME": "ann", "TZ": "UTC"}
        arguments = command.arguments(self.sagas, env)
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=env)
        output = result.output + (f"(exit status {result.exit_code})\n" if result.exit_code else "")
        wanted = "\n".join(command.output)
        assert command.prints(output), (
            f"line {command.line}: $ {command.text}\n--- is to print\n{wanted}\n--- printed\n{output}"
        )
        if arguments[:2] == ["saga", "start"] and "--request-id" in arguments:
            found = _STARTED.search(result.output)
            if found is not None:
                self.sagas[arguments[arguments.index("--request-id") + 1]] = found[1] or found[2]

    async def _live(self, sentence: Sentence) -> None:
        for pattern, act in _SENTENCES:
            if (words := re.fullmatch(pattern, sentence.text)) is not None:
                try:
                    await act(self, *words.groups())
                except (AssertionError, grpc.aio.AioRpcError) as error:
                    raise AssertionError(f"line {sentence.line}: {sentence.text}\n{error}") from error
                return
        raise AssertionError(f"line {sentence.line}: nobody knows how: {sentence.text}")

    async def tidy_up(self) -> None:
        """Leave no trouble to the next story."""
        await self.postman.go()
        for service, participant in self.house.cluster.participants.items():
            if not participant.watched:
                await self.house.bring_back(service)
            await clear_faults(self.house.cluster, service)
        for pause in (await self.house.client.ask(_PAUSES, pauses_pb2.ListPausesRequest())).pauses:
            if pause.kind == pauses_pb2.PAUSE_KIND_DEFINITION:
                definition = pauses_pb2.ResumeDefinitionRequest(definition=pause.name, reason="the story is over")
                await self.house.client.ask(_RESUME_DEFINITION, definition)
            else:
                participant = pauses_pb2.ResumeParticipantRequest(participant=pause.name, reason="the story is over")
                await self.house.client.ask(_RESUME_PARTICIPANT, participant)

    # The sentences.

    async def kill_leader(self) -> None:
        """kill -9; the story goes on under the next leader. The one that was killed is started again."""
        before = await self.house.cluster.wait_leader()
        before.replica.kill()
        await self.house.cluster.wait_leader(above_epoch=before.epoch)

    async def answer(self, service: str, method: str, order_id: str, code: str, late: str, times: str) -> None:
        """A participant answers a method with an error, perhaps after it has done what was asked."""
        fault = fault_pb2.Fault(method=method, order_id=order_id, error_code=code, error_message=_words(code))
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
        await eventually(lambda: self.clerk.accepted(self.sagas[name], step), f"{step} of {name} to be accepted")

    async def stamp(self, step: str, name: str) -> None:
        """The clerk does what he was asked, and Baton is told."""
        assert await self.clerk.stamp(self.sagas[name], step) is Outcome.STORED

    async def decline(self, step: str, name: str) -> None:
        """The clerk refuses what he was asked, and Baton is told."""
        assert await self.clerk.decline(self.sagas[name], step) is Outcome.STORED

    async def heartbeat(self, step: str, name: str) -> None:
        """The clerk tells Baton that he is at it."""
        assert await self.clerk.answers.heartbeat(self.sagas[name], step) is Outcome.STORED

    async def too_late(self, step: str, name: str) -> None:
        """The clerk would do what he was asked, and learns that it is not wanted any more."""
        assert await self.clerk.stamp(self.sagas[name], step) is Outcome.CANCELLED

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
            return bool(await self.postman.told(self.sagas[name]))

        await eventually(so, f"the customer of {name} to be told")
        assert await self.postman.told(self.sagas[name]) == [state]

    async def at_work(self) -> None:
        """The notifications listen."""
        await self.postman.come()

    async def at_home(self) -> None:
        """The notifications do not listen any more."""
        await self.postman.go()

    async def tombstones(self, none: str) -> None:
        """The newcomer remembers what was taken back before it came, or does not."""
        _, newcomer = self.newcomer
        newcomer.flaws = frozenset({"no tombstone"}) if none else frozenset()

    async def kept(self) -> None:
        """Sagas leave the log here; see `Story.keeps_for_ever`."""
        assert self.archive is not None

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

    async def archived(self, name: str, state: str) -> None:
        """The archive has a saga, as it ended."""
        assert self.archive is not None
        lines = [json.loads(line) for path in self.archive.glob("*.jsonl") for line in path.open(encoding="utf-8")]
        assert {line["state"] for line in lines if line["saga_id"] == self.sagas[name]} == {state}

    async def audited(self) -> None:
        """No effect twice, none without its intent, none after its tombstone; stock and money add up."""
        verdict = await asyncio.to_thread(audit, self.house.cluster.baton_dsn, self.house.cluster.shop_dsn)
        invariants = _INVARIANTS if self.archive is None else _INVARIANTS_OF_EFFECTS
        bad = [finding for finding in verdict.findings if finding.invariant in invariants and not finding.holds]
        assert not bad, "\n".join(line for finding in bad for line in finding.lines())


def _count(times: str | None) -> int:
    """How often; 0 when the story does not say."""
    return 0 if not times else _TIMES.get(times) or int(times.split()[0])


def _words(code: str) -> str:
    return code.replace("_", " ").lower()


_OFTEN = r"(?:, (once|twice|\d+ times))?"
_LIST_HOLDS = Method(holds_pb2_grpc.HoldServiceStub, "ListStartHolds", holds_pb2.ListStartHoldsResponse)
KILL = "The leader is killed."
AUDIT = "The audit finds no effect twice."
_SENTENCES: tuple[tuple[str, Callable[..., Awaitable[None]]], ...] = (
    (re.escape(KILL), World.kill_leader),
    (re.escape(AUDIT), World.audited),
    (rf"(\w+) answers (\w+) of ([\w-]+) with ([A-Z_]+)( although it was done)?{_OFTEN}\.", World.answer),
    (rf"(\w+) takes ([\d.]+) s for (\w+) of ([\w-]+){_OFTEN}\.", World.take),
    (r"(\w+) works as ever again\.", World.mend),
    (r"(\w+) goes away\.", World.away),
    (r"(\w+) comes back\.", World.back),
    (rf"In ([\w-]+), (\w+) is (\w+){_OFTEN}\.", World.comes_to),
    (r"([\w-]+) has the child ([\w-]+) in ([\w-]+)\.", World.child),
    (r"([\w-]+) ends\.", World.ends),
    (r"The clerk has accepted (\w+) of ([\w-]+)\.", World.accepted),
    (r"The clerk does (\w+) of ([\w-]+)\.", World.stamp),
    (r"The clerk declines (\w+) of ([\w-]+)\.", World.decline),
    (r"The clerk says that he is at (\w+) of ([\w-]+)\.", World.heartbeat),
    (r"The clerk is too late for (\w+) of ([\w-]+)\.", World.too_late),
    (r"The starts of ([\w-]+) are held\.", World.held),
    (r"The notifications are at work\.", World.at_work),
    (r"The notifications go home\.", World.at_home),
    (r"The customer of ([\w-]+) is told once: ([A-Z]+)\.", World.told),
    (re.escape(KEEPS), World.kept),
    (r"([\w-]+) leaves the log\.", World.leaves),
    (r"The archive has ([\w-]+), ([A-Z]+)\.", World.archived),
    (r"The newcomer leaves (no )?tombstones\.", World.tombstones),
    (r"The leader's breaker for (\w+) is (open|closed)\.", World.breaker),
)
