"""The invariants I1 to I9, each a function from evidence to a finding. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from orchestrator.audit.evidence import Circumstances, EffectRow, Evidence, SagaRow, StepShape
from orchestrator.audit.finding import Finding, Offence

_ENDED = frozenset({"COMPLETED", "COMPENSATED"})
_BY_HAND = frozenset({"skipped", "forced", "resolved"})
_INTENT = {"action": "executing", "compensation": "compensating"}


def all_or_nothing(evidence: Evidence) -> Finding:
    """I1: a completed saga took effect as a whole, a compensated one not at all, and a stranger never."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for effect in evidence.effects:
        counts[effect.saga_id][effect.step, effect.kind] += 1
    by_hand: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in evidence.steps:
        if row.status in _BY_HAND:
            by_hand[row.saga_id].add((row.step, row.status))
    known = {saga.id for saga in evidence.sagas}
    offences = [Offence(saga_id, "has effects, but is not in the log") for saga_id in counts if saga_id not in known]
    checked = 0
    for saga in evidence.sagas:
        if saga.state not in _ENDED:
            continue  # a parked saga is in a person's hands, and one under way is the business of I6
        checked += 1
        shape = evidence.definitions.get((saga.definition, saga.version))
        if shape is None:
            offences.append(Offence(saga.id, f"ended, but {saga.definition} version {saga.version} is not in the log"))
            continue
        offences.extend(Offence(saga.id, what) for what in _partial(saga, shape, counts[saga.id], by_hand[saga.id]))
    return Finding("I1", "each saga is all or nothing in the ledgers", f"{checked} sagas", tuple(offences))


def _partial(
    saga: SagaRow, shape: tuple[StepShape, ...], effects: Counter[tuple[str, str]], by_hand: set[tuple[str, str]]
) -> Iterator[str]:
    names = {step.name for step in shape}
    for (name, kind), _ in effects.items():
        if name not in names:
            yield f"{kind} of {name} took effect, which is no step of {saga.definition}"
    for step in shape:
        done, undone = effects[step.name, "action"], effects[step.name, "compensation"]
        # What was skipped, forced or resolved is in a person's hands: it may have taken effect, at most once.
        passed = done <= 1 and undone == 0 and bool({(step.name, "skipped"), (step.name, "forced")} & by_hand)
        resolved = done <= 1 and undone <= 1 and (step.name, "resolved") in by_hand
        if saga.state == "COMPLETED" and (done, undone) != (int(step.calls), 0) and not passed:
            yield f"completed, but {step.name} took effect {done} times and was undone {undone} times"
        if (
            saga.state == "COMPENSATED"
            and step.compensated
            and (done, undone) not in ((0, 0), (1, 1))
            and not (resolved or passed)
        ):
            yield f"compensated, but {step.name} took effect {done} times and was undone {undone} times"


def one_effect_a_key(evidence: Evidence) -> Finding:
    """I2: no idempotency key has two effects."""
    counts = Counter(effect.key for effect in evidence.effects)
    offences = tuple(
        Offence(saga_id, f"{kind} of {step} took effect {count} times")
        for (saga_id, step, kind), count in counts.items()
        if count > 1
    )
    return Finding("I2", "at most one effect for each key", f"{len(evidence.effects)} effects", offences)


def nothing_after_tombstone(evidence: Evidence) -> Finding:
    """I3: an action whose compensation came first never takes effect, nor does one after its compensation."""
    buried = {(tombstone.saga_id, tombstone.step) for tombstone in evidence.tombstones}
    undone_at: dict[tuple[str, str], datetime] = {}
    for effect in evidence.effects:
        if effect.kind == "compensation":
            undone_at.setdefault((effect.saga_id, effect.step), effect.at)
    offences: list[Offence] = []
    for effect in evidence.effects:
        if effect.kind != "action":
            continue
        step = (effect.saga_id, effect.step)
        if step in buried:
            offences.append(Offence(effect.saga_id, f"{effect.step} took effect although it has a tombstone"))
        elif step in undone_at and effect.at > undone_at[step]:
            offences.append(Offence(effect.saga_id, f"{effect.step} took effect after it was compensated"))
    checked = f"{len(evidence.tombstones)} tombstones, {len(undone_at)} compensations"
    return Finding("I3", "nothing takes effect after its tombstone", checked, tuple(offences))


def intents_first(evidence: Evidence) -> Finding:
    """I4: before every effect stands the intent of the same saga, step, direction and epoch."""
    intents: dict[tuple[str, str, str, int], datetime] = {}
    for row in evidence.steps:
        if row.status in _INTENT.values():
            intents.setdefault((row.saga_id, row.step, row.status, row.epoch), row.at)
    offences = tuple(
        Offence(effect.saga_id, what)
        for effect in evidence.effects
        if (what := _unintended(effect, intents.get((*effect.key[:2], _INTENT[effect.kind], effect.epoch))))
    )
    return Finding(
        "I4", "every effect has an intent that was written before", f"{len(evidence.effects)} effects", offences
    )


def _unintended(effect: EffectRow, intended_at: datetime | None) -> str | None:
    if intended_at is None:
        return f"{effect.kind} of {effect.step} took effect under epoch {effect.epoch}, which never intended it"
    if intended_at > effect.at:
        late_s = (intended_at - effect.at).total_seconds()
        return f"{effect.kind} of {effect.step} took effect {late_s:.6f} s before its intent was written"
    return None


def epochs_in_order(evidence: Evidence) -> Finding:
    """I5: no row of an epoch is later than the raise of the next one; no saga goes back to an older epoch."""
    ended_at: dict[tuple[int, int], datetime | None] = {(row.shard, row.epoch): None for row in evidence.epochs}
    for this, following in pairwise(evidence.epochs):
        if this.shard == following.shard:
            ended_at[this.shard, this.epoch] = following.raised_at
    shards = {saga.id: saga.shard for saga in evidence.sagas}
    offences: list[Offence] = []
    last: dict[str, tuple[int, int]] = {}
    for row in evidence.steps:
        epoch = (shards.get(row.saga_id, -1), row.epoch)
        if epoch not in ended_at:
            offences.append(Offence(row.saga_id, f"row {row.sequence} is of epoch {row.epoch}, which nobody raised"))
        elif (end := ended_at[epoch]) is not None and row.at > end:
            late_s = (row.at - end).total_seconds()
            offences.append(
                Offence(row.saga_id, f"row {row.sequence} of epoch {row.epoch} came {late_s:.6f} s after its end")
            )
        sequence, highest = last.get(row.saga_id, (0, 0))
        if row.sequence != sequence + 1:
            offences.append(Offence(row.saga_id, f"row {row.sequence} follows row {sequence}"))
        if row.epoch < highest:
            offences.append(Offence(row.saga_id, f"row {row.sequence} goes back from epoch {highest} to {row.epoch}"))
        last[row.saga_id] = (row.sequence, max(highest, row.epoch))
    checked = f"{len(evidence.steps)} rows, {len(evidence.epochs)} epochs"
    return Finding("I5", "nothing is written under an epoch after its end", checked, tuple(offences))


def terminal_or_parked(evidence: Evidence) -> Finding:
    """I6: every saga has ended, or waits for a person who is told why."""
    offences: list[Offence] = []
    states = Counter(saga.state for saga in evidence.sagas)
    for saga in evidence.sagas:
        if saga.state == "FAILED":
            if not (saga.error and saga.error.get("message")):
                offences.append(Offence(saga.id, "is parked without a reason"))
        elif saga.state not in _ENDED:
            offences.append(Offence(saga.id, f"is still {saga.state}"))
    checked = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no sagas"
    return Finding("I6", "every saga is terminal, or parked with a reason", checked, tuple(offences))


def gaps_bounded(circumstances: Circumstances) -> Finding:
    """I7: after each fault somebody drove again in time."""
    offences: list[Offence] = []
    for gap in circumstances.gaps:
        if gap.seconds is None:
            offences.append(Offence("", f"{gap.fault}: nobody drove a step afterwards"))
        elif gap.seconds > gap.bound_s:
            offences.append(Offence("", f"{gap.fault}: {gap.seconds:.3f} s, more than {gap.bound_s:g} s"))
    measured = [
        f"{gap.fault} {gap.seconds * 1000:.0f} ms of {gap.bound_s * 1000:.0f}"
        for gap in circumstances.gaps
        if gap.seconds is not None
    ]
    return Finding(
        "I7", "the gap without a leader is bounded", ", ".join(measured) or "no faults measured", tuple(offences)
    )


def changes_have_causes(evidence: Evidence, circumstances: Circumstances) -> Finding:
    """I8: leadership changed at most once for each fault, and once to begin with, in each shard."""
    since = circumstances.since
    raises = [row for row in evidence.epochs if since is None or row.raised_at >= since]
    allowed = circumstances.faults + 1
    offences: list[Offence] = []
    for shard, count in sorted(Counter(row.shard for row in raises).items()):
        if count > allowed:
            terms = ", ".join(f"{row.epoch} {row.holder} ({row.cause})" for row in raises if row.shard == shard)
            offences.append(
                Offence("", f"shard {shard}: {count} terms for {circumstances.faults} faults and a beginning: {terms}")
            )
    checked = f"{len(raises)} terms, {circumstances.faults} faults"
    return Finding("I8", "leadership changes only for a cause", checked, tuple(offences))


def acknowledged_once(evidence: Evidence, circumstances: Circumstances) -> Finding:
    """I9: every StartSaga that was answered is in the log, as the saga that the client was told, and once."""
    found: dict[str, list[str]] = defaultdict(list)
    for saga in evidence.sagas:
        found[saga.request_id].append(saga.id)
    told: dict[str, set[str]] = defaultdict(set)
    for acknowledgement in circumstances.acknowledged:
        told[acknowledgement.request_id].add(acknowledgement.saga_id)
    offences: list[Offence] = []
    for request_id, saga_ids in told.items():
        stored = found.get(request_id, [])
        if len(stored) != 1 or saga_ids != set(stored):
            offences.extend(
                Offence(saga_id, f"request {request_id} was acknowledged, the log has {stored or 'nothing'}")
                for saga_id in sorted(saga_ids)
            )
    checked = f"{len(told)} acknowledged"
    return Finding("I9", "an acknowledged StartSaga is never lost and never run twice", checked, tuple(offences))
