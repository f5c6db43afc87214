"""The checks that break something between the effect and its answer.

A participant that offers `shop.v1.FaultService` loses an answer when asked. A command that kills the participant and
starts it again makes it crash with calls under way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from orchestrator.certify.checks import ACTION, COMPENSATION, Bench, spelled
from orchestrator.certify.findings import CannotCertify, Check, Finding, Verdict
from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.port import Answer
from orchestrator.saga.commands import Succeeded, Unknown
from orchestrator.saga.model import Json, Kind

FAULT_SERVICE = "shop.v1.FaultService"
_STEP = "certify-lost-answer"
_CALLS = 40
_HEAD_START_S = 0.02


@dataclass(frozen=True, slots=True)
class Faults:
    """The participant's fault service. `inject` is the codec of its method Inject."""

    channel: grpc.aio.Channel
    inject: MethodCodec
    timeout_s: float

    async def lose_an_answer(self, kind: Kind) -> bool:
        """Let the next call of this kind commit its effect, and answer UNAVAILABLE. Raises CannotCertify.

        False: the service is described and not offered, as by a participant that was not told to allow faults.
        """
        fault: Json = {
            "step": _STEP,
            "kind": kind.value,
            "times": 1,
            "error_code": "UNAVAILABLE",
            "error_after_commit": True,
            "error_message": "lost on demand",
        }
        call: Any = self.channel.unary_unary(f"/{FAULT_SERVICE}/Inject")
        try:
            await call(self.inject.encode(fault), timeout=self.timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise CannotCertify(f"{FAULT_SERVICE}/Inject: {error.code().name}: {error.details()}") from None
        return True


async def lost_answer(bench: Bench, faults: Faults | None) -> list[Finding]:
    """The effect is there, and nobody has heard of it."""
    check, subject = Check.LOST_ANSWER, bench.subject
    case = subject.case(_STEP)
    shown = await bench.measure()
    for kind in (ACTION, COMPENSATION):
        if faults is None or not await faults.lose_an_answer(kind):
            text = f"the participant offers no {FAULT_SERVICE} to lose an answer with"
            return [bench.found(check, Verdict.NOT_CHECKED, text)]
        lost = await subject.call(case, kind)
        if not isinstance(lost, Unknown):
            text = f"{FAULT_SERVICE} was asked to lose an answer, and the {kind} said {spelled(lost)}"
            return [bench.found(check, Verdict.NOT_CHECKED, text)]
        after_effect = await bench.measure()
        first = await subject.settle(case, kind)
        again = await subject.settle(case, kind)
        if not isinstance(first, Succeeded) or again != first:
            text = f"its answer lost, the {kind} said {spelled(first)}, and then {spelled(again)}"
            return [bench.found(check, Verdict.FAILED, text)]
        if await bench.measure() != after_effect:
            text = f"--observe shows that the {kind} took effect again when it was repeated; at first {shown!r:.200}"
            return [bench.found(check, Verdict.FAILED, text)]
        case.result = first.result if kind is ACTION else case.result
    return [bench.found(check, Verdict.PASSED)]


async def crash(bench: Bench, command: str, within_s: float) -> list[Finding]:
    """Run `command` while many calls are under way, and repeat them all once the participant is back."""
    check, subject = Check.CRASH, bench.subject
    if not command:
        return [bench.found(check, Verdict.NOT_CHECKED, "no --crash-command to kill and restart the participant with")]
    lost = 0
    for kind in (ACTION, COMPENSATION):
        cases = [subject.case() for _ in range(_CALLS)]
        if kind is COMPENSATION:
            await subject.settle_all((case, ACTION) for case in cases)
        calls = [asyncio.create_task(subject.call(case, kind)) for case in cases]
        # Some of them should have begun; how many were answered before is part of the race.
        await asyncio.sleep(_HEAD_START_S)
        await _run(command, within_s)
        before = await asyncio.gather(*calls)
        lost += sum(isinstance(outcome, Unknown) for outcome in before)
        after = await asyncio.gather(*(subject.settle(case, kind, patience_s=within_s) for case in cases))
        again = await subject.settle_all((case, kind) for case in cases)
        for outcomes in zip(before, after, again, strict=True):
            if (text := _inconsistent(*outcomes)) is not None:
                return [bench.found(check, Verdict.FAILED, f"the {kind} of one key: {text}")]
        if kind is ACTION:
            await subject.settle_all((case, COMPENSATION) for case in cases)
    text = f"{2 * _CALLS} calls, of which {lost} lost their answers"
    if lost == 0:
        text += ": the command came between calls, run it again"
    return [bench.found(check, Verdict.PASSED if lost else Verdict.WARNED, text)]


def _inconsistent(before: Answer, after: Answer, again: Answer) -> str | None:
    if not isinstance(after, Succeeded):
        return f"{spelled(before)} around the crash, and {spelled(after)} after it, where it must succeed"
    if again != after or (not isinstance(before, Unknown) and before != after):
        return f"{spelled(before)} around the crash, then {spelled(after)}, then {spelled(again)}"
    return None


async def _run(command: str, within_s: float) -> None:
    """Run a shell command to its end. Raises CannotCertify when it fails or takes too long."""
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(within_s):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CannotCertify(f"--crash-command has not ended within {within_s:g} s: {command}") from None
    if process.returncode != 0:
        words = output.decode("utf-8", "replace").strip()[-500:]
        raise CannotCertify(f"--crash-command ended with {process.returncode}: {words or command}")
