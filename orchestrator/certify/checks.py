"""The checks that call one after the other: duplicates, the order of action and compensation, epochs of the past.

Each works on sagas of its own, and undoes what it did where the participant lets it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.certify.findings import CannotCertify, Check, Finding, Verdict
from orchestrator.certify.subject import Case, Gauge, Subject, passing
from orchestrator.driving.port import Answer
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.saga.model import Json, Kind

ACTION, COMPENSATION = Kind.ACTION, Kind.COMPENSATION
_DUPLICATES = 3


@dataclass(frozen=True, slots=True)
class Bench:
    """What a check works with. `effect` is False when the pair is declared to do nothing."""

    subject: Subject
    gauge: Gauge | None
    effect: bool

    def found(self, check: Check, verdict: Verdict, text: str = "") -> Finding:
        """A finding of this bench."""
        return Finding(check, self.subject.form, verdict, text)

    async def measure(self) -> Json | None:
        """What the gauge shows, if there is one."""
        return await self.gauge.read() if self.gauge is not None else None


Run = Callable[[Bench], Awaitable[list[Finding]]]


def spelled(outcome: Answer) -> str:
    """An outcome for people."""
    if isinstance(outcome, Accepted):
        return "accepted"
    if isinstance(outcome, Succeeded):
        return f"OK {outcome.result!r:.200}"
    return f"{outcome.code}: {outcome.message:.200}"


async def acted(bench: Bench, case: Case) -> Succeeded:
    """The first action of a case, which must succeed. Raises CannotCertify."""
    outcome = await bench.subject.settle(case, ACTION)
    if isinstance(outcome, Succeeded):
        case.result = outcome.result
        return outcome
    hint = ""
    if isinstance(outcome, Refused) and not bench.subject.pair.action_request.unique:
        hint = "; the request has no $ID, so every case asks for the same thing"
    raise CannotCertify(
        f"--request: the action must succeed for a saga of its own, but it said {spelled(outcome)}{hint}"
    )


async def duplicates(bench: Bench) -> list[Finding]:
    """Duplicates of an action, of its compensation, and of the action once more."""
    subject, case = bench.subject, bench.subject.case()
    first = await acted(bench, case)
    shown = await bench.measure()
    found = [await _repeated(bench, case, ACTION, first, shown, Check.DUPLICATE_ACTION)]
    undone = await subject.settle(case, COMPENSATION)
    if not isinstance(undone, Succeeded):
        text = f"the compensation of an action that succeeded must succeed, and said {spelled(undone)}"
        return [*found, bench.found(Check.DUPLICATE_COMPENSATION, Verdict.FAILED, text)]
    shown = await bench.measure()
    found.append(await _repeated(bench, case, COMPENSATION, undone, shown, Check.DUPLICATE_COMPENSATION))
    found.append(await _late_duplicate(bench, case, first, undone, shown))
    return found


async def _repeated(
    bench: Bench, case: Case, kind: Kind, first: Succeeded, shown: Json | None, check: Check
) -> Finding:
    for number in range(2, _DUPLICATES + 2):
        again = await bench.subject.settle(case, kind)
        if again != first:
            text = f"call 1 was answered {spelled(first)}, and call {number} of the same key {spelled(again)}"
            return bench.found(check, Verdict.FAILED, text)
    if bench.gauge is not None:
        if (now := await bench.measure()) != shown:
            text = (
                f"the answers agree, but --observe showed {shown!r:.200} before the duplicates and {now!r:.200} after"
            )
            return bench.found(check, Verdict.FAILED, text)
        return bench.found(check, Verdict.PASSED, "the answers agree, and --observe shows one effect")
    return bench.found(check, Verdict.PASSED, "by its answers" if bench.effect else "the answers agree")


async def _late_duplicate(bench: Bench, case: Case, first: Succeeded, undone: Succeeded, shown: Json | None) -> Finding:
    check = Check.LATE_DUPLICATE
    if not bench.effect:
        return bench.found(check, Verdict.NOT_CHECKED, "declared to have no effect")
    again = await bench.subject.settle(case, ACTION)
    if again != first and not isinstance(again, Refused):
        text = f"the action was answered {spelled(first)}; repeated after its compensation, {spelled(again)}"
        return bench.found(check, Verdict.FAILED, text)
    if (undone_again := await bench.subject.settle(case, COMPENSATION)) != undone:
        text = f"the compensation was answered {spelled(undone)}, and after one more action {spelled(undone_again)}"
        return bench.found(check, Verdict.FAILED, text)
    if (now := await bench.measure()) != shown:
        text = f"--observe showed {shown!r:.200} after the compensation, and {now!r:.200} after one more action"
        return bench.found(check, Verdict.FAILED, text)
    return bench.found(check, Verdict.PASSED)


async def other_request(bench: Bench) -> list[Finding]:
    """The same key with another request."""
    check = Check.OTHER_REQUEST
    subject, case = bench.subject, bench.subject.case()
    if not bench.effect:
        return [bench.found(check, Verdict.NOT_CHECKED, "declared to have no effect")]
    if not subject.pair.action_request.unique:
        return [bench.found(check, Verdict.NOT_CHECKED, "--request has no $ID: there is no other request to send")]
    first = await acted(bench, case)
    other = await subject.settle(case, ACTION, other=True)
    again = await subject.settle(case, ACTION)
    await subject.settle(case, COMPENSATION)
    if again != first:
        text = f"the first request was answered {spelled(first)}, and after another one {spelled(again)}"
        return [bench.found(check, Verdict.FAILED, text)]
    match other:
        case Succeeded() if other == first:
            text = "another request was answered like a duplicate: a defect of the caller would stay unseen"
            return [bench.found(check, Verdict.WARNED, text)]
        case Succeeded():
            return [bench.found(check, Verdict.FAILED, f"another request took effect as well: {spelled(other)}")]
        case Refused():
            text = (
                f"turned away with {spelled(other)}; a refusal says that nothing has happened, so DATA_LOSS is better"
            )
            return [bench.found(check, Verdict.WARNED, text)]
        case _ if passing(other):
            text = f"answered {spelled(other)} to the end of patience: a caller takes that for a reason to try again"
            return [bench.found(check, Verdict.WARNED, text)]
        case _:
            return [bench.found(check, Verdict.PASSED, f"turned away with {spelled(other)}")]


async def compensation_first(bench: Bench) -> list[Finding]:
    """A compensation whose action was never seen, and that action afterwards."""
    if not bench.effect:
        checks = (Check.COMPENSATION_FIRST, Check.LATE_ACTION)
        return [bench.found(check, Verdict.NOT_CHECKED, "declared to have no effect") for check in checks]
    subject, case = bench.subject, bench.subject.case()
    shown = await bench.measure()
    undone = await subject.settle(case, COMPENSATION)
    if isinstance(undone, Succeeded):
        first = bench.found(Check.COMPENSATION_FIRST, Verdict.PASSED)
    else:
        text = f"it must succeed, since there is nothing to undo, and said {spelled(undone)}"
        first = bench.found(Check.COMPENSATION_FIRST, Verdict.FAILED, text)
    late = await subject.settle(case, ACTION)
    return [first, await _late_action(bench, case, late, shown)]


async def _late_action(bench: Bench, case: Case, late: Answer, shown: Json | None) -> Finding:
    check = Check.LATE_ACTION
    if isinstance(late, Succeeded):
        await bench.subject.settle(case, COMPENSATION)
        text = f"it took effect although its compensation had come before, and nobody will undo it: {spelled(late)}"
        return bench.found(check, Verdict.FAILED, text)
    if not isinstance(late, Refused):
        text = f"it must be refused for good, and said {spelled(late)}, which is a reason to try again"
        return bench.found(check, Verdict.FAILED, text)
    again = await bench.subject.settle(case, ACTION)
    if not isinstance(again, Refused):
        return bench.found(check, Verdict.FAILED, f"it was refused, and at the next attempt said {spelled(again)}")
    if (now := await bench.measure()) != shown:
        text = f"refused, but --observe showed {shown!r:.200} before and {now!r:.200} after"
        return bench.found(check, Verdict.FAILED, text)
    return bench.found(check, Verdict.PASSED, f"refused with {spelled(late)}")


async def status(bench: Bench) -> list[Finding]:
    """What the status method says of an action that was done, and of one that was never seen; and what that does."""
    check, subject = Check.STATUS, bench.subject
    if not subject.pair.status:
        return [bench.found(check, Verdict.NOT_CHECKED, "no --status method was named")]
    done, never = subject.case(), subject.case()
    first = await acted(bench, done)
    said = await subject.ask(done)
    await subject.settle(done, COMPENSATION)
    if said != first:
        text = f"the action was answered {spelled(first)}, and its status {spelled(said)}"
        return [bench.found(check, Verdict.FAILED, text)]
    said = await subject.ask(never)
    late = await subject.late(never)
    if isinstance(late, Succeeded):
        await subject.settle(never, COMPENSATION)
    if not isinstance(said, Refused) or said.code != "NOT_FOUND":
        text = f"of an action that was never seen it said {spelled(said)}, where NOT_FOUND would end the matter"
        verdict = Verdict.FAILED if isinstance(said, Succeeded) else Verdict.WARNED
        return [bench.found(check, verdict, text)]
    if not isinstance(late, Refused):
        text = f"it said that an action was not done, and afterwards an attempt that came before said {spelled(late)}"
        return [bench.found(check, Verdict.FAILED, text)]
    return [bench.found(check, Verdict.PASSED)]


async def stale_epoch(bench: Bench) -> list[Finding]:
    """Calls of a leader of the past: a new key, a known key, a compensation; and the same epoch in another shard."""
    if not bench.effect:
        checks = (Check.STALE_EPOCH, Check.EPOCH_PER_SHARD)
        return [bench.found(check, Verdict.NOT_CHECKED, "declared to have no effect") for check in checks]
    subject, check = bench.subject, Check.STALE_EPOCH
    subject.epoch += 1
    old = subject.epoch - 1
    seen = subject.case()
    await acted(bench, seen)
    found = []
    fresh = subject.case()
    late = await subject.call(fresh, ACTION, epoch=old)
    undo = await subject.call(seen, COMPENSATION, epoch=old)
    if isinstance(late, Succeeded):
        text = f"epoch {subject.epoch} had been seen, and an action of epoch {old} took effect: {spelled(late)}"
        found.append(bench.found(check, Verdict.FAILED, text))
    elif isinstance(undo, Succeeded):
        text = f"epoch {subject.epoch} had been seen, and a compensation of epoch {old} took effect: {spelled(undo)}"
        found.append(bench.found(check, Verdict.FAILED, text))
    else:
        found.append(await _nothing_left(bench, fresh, late))
    await subject.settle(fresh, COMPENSATION)
    await subject.settle(seen, COMPENSATION)
    elsewhere = subject.case()
    there = await subject.call(elsewhere, ACTION, epoch=old, shard=subject.shard + 1)
    await subject.call(elsewhere, COMPENSATION, epoch=old, shard=subject.shard + 1)
    if isinstance(there, Succeeded):
        found.append(bench.found(Check.EPOCH_PER_SHARD, Verdict.PASSED))
    else:
        text = f"an epoch of shard {subject.shard} was held against shard {subject.shard + 1}: {spelled(there)}"
        found.append(bench.found(Check.EPOCH_PER_SHARD, Verdict.FAILED, text))
    return found


async def _nothing_left(bench: Bench, case: Case, late: Answer) -> Finding:
    """What a stale call was told must not have become the answer of its key: the leader of today may call it."""
    today = await bench.subject.settle(case, ACTION)
    if not isinstance(today, Succeeded):
        text = f"a stale action was told {spelled(late)}, and then so was the leader of today: {spelled(today)}"
        return bench.found(Check.STALE_EPOCH, Verdict.FAILED, text)
    case.result = today.result
    if isinstance(late, Refused):
        text = f"turned away with {spelled(late)}, a refusal of the step; ABORTED says what it is"
        return bench.found(Check.STALE_EPOCH, Verdict.WARNED, text)
    return bench.found(Check.STALE_EPOCH, Verdict.PASSED, f"turned away with {spelled(late)}")
