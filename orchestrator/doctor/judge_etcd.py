"""What the answers of etcd's members mean for Baton. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.doctor.finding import Area, Finding, failed, ok, warning

_OLDEST = (3, 4, 22)
_CORRUPTING = ((3, 5, 0), (3, 5, 5))
# Before these, an etcd leader that was frozen for longer than a lease takes leases away when it wakes.
_KEEPS_LEASES: dict[tuple[int, ...], tuple[int, ...]] = {(3, 4): (3, 4, 29), (3, 5): (3, 5, 12)}
# etcd's own default; it takes no writes beyond. Members do not tell what theirs is.
_QUOTA_BYTES = 2 << 30
_QUOTA_SHARE = 0.8
_LAG_MAX = 10_000

E = Area.ETCD


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One endpoint as it answers; `trouble` in the place of an answer."""

    endpoint: str
    trouble: str = ""
    version: str = ""
    db_bytes: int = 0
    leader: int = 0
    cluster: int = 0
    applied: int = 0
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EtcdState:
    """All endpoints; the names of the members as the cluster lists them; alarms; why the cluster did not answer."""

    statuses: tuple[MemberStatus, ...]
    members: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    cluster_trouble: str = ""
    maintenance_trouble: str = ""


def judge_etcd(state: EtcdState) -> Iterator[Finding]:
    """Members, quorum, alarms, versions, room."""
    answering = [status for status in state.statuses if not status.trouble]
    for status in state.statuses:
        if status.trouble:
            advice = "start the member, or mend its address in BATON_ETCD_ENDPOINTS, the network, or the certificates"
            problem = warning if answering else failed
            yield problem(E, f"{status.endpoint} does not answer: {status.trouble}", advice)
    if state.cluster_trouble:
        text = f"etcd has no quorum, or lets nobody in: {state.cluster_trouble}"
        yield failed(E, text, "bring a majority of its members back; check BATON_ETCD_USER and its role on /baton/")
    elif answering:
        yield ok(E, f"{len(answering)} of {len(state.statuses)} endpoints answer, and the cluster has a quorum")
    yield from _members(state)
    for alarm in state.alarms:
        advice = (
            "compact and defragment, raise --quota-backend-bytes, then `etcdctl alarm disarm`"
            if "NOSPACE" in alarm
            else "take the member out, wipe its data, and add it anew"
        )
        yield failed(E, f"alarm: {alarm}", advice)
    if state.maintenance_trouble:
        text = f"etcd does not tell of its health: {state.maintenance_trouble}"
        yield warning(E, text, "run the doctor with a user that has the role root, or ask `etcdctl endpoint status`")
    yield from _versions(answering)
    for status in answering:
        yield from _one(status)
    yield from _agreement(answering)


def _members(state: EtcdState) -> Iterator[Finding]:
    count = len(state.members)
    if count and count % 2 == 0:
        text = f"etcd has {count} members: that bears no more failures than {count - 1} would"
        yield warning(E, text, "run an odd number of members, three or five")
    if count > len(state.statuses):
        text = (
            f"etcd has {count} members ({', '.join(state.members)}), BATON_ETCD_ENDPOINTS names {len(state.statuses)}"
        )
        yield warning(E, text, "name them all: a replica asks those that it knows")


def _versions(answering: Sequence[MemberStatus]) -> Iterator[Finding]:
    versions = sorted({status.version for status in answering if status.version})
    for version in versions:
        number = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        first_sound = _KEEPS_LEASES.get(number[:2])
        if number < _OLDEST:
            yield failed(E, f"etcd {version} lacks what Baton uses", "upgrade to 3.5.12 or newer, or 3.4.29 or newer")
        elif _CORRUPTING[0] <= number <= _CORRUPTING[1]:
            text = f"etcd {version} can corrupt its data when it is killed (3.5.0 to 3.5.5)"
            yield failed(E, text, "upgrade to 3.5.12 or newer; check members with `etcdctl endpoint hashkv --cluster`")
        elif first_sound is not None and number < first_sound:
            text = f"etcd {version} takes leases away when its leader wakes from a pause: one needless failover"
            yield warning(E, text, f"upgrade to {'.'.join(map(str, first_sound))} or newer")
        else:
            yield ok(E, f"etcd {version}")
    if len(versions) > 1:
        text = f"the members of etcd are of different versions: {', '.join(versions)}"
        yield warning(E, text, "finish the upgrade")


def _one(status: MemberStatus) -> Iterator[Finding]:
    for error in status.errors:
        yield failed(E, f"{status.endpoint}: {error}", "see `etcdctl endpoint status` and the member's log")
    if status.version and not status.leader:
        yield failed(E, f"{status.endpoint} knows of no leader", "bring a majority of the members back")
    if status.db_bytes > _QUOTA_BYTES * _QUOTA_SHARE:
        text = (
            f"the database of {status.endpoint} takes {status.db_bytes / 1e9:.1f} GB; by default etcd stops at 2.1 GB"
        )
        yield warning(E, text, "compact and defragment it, or raise --quota-backend-bytes")


def _agreement(answering: Sequence[MemberStatus]) -> Iterator[Finding]:
    told = [status for status in answering if status.version]
    if len({status.cluster for status in told}) > 1:
        text = "the endpoints belong to different clusters of etcd"
        yield failed(E, text, "name the members of one cluster in BATON_ETCD_ENDPOINTS")
    if told and max(status.applied for status in told) - min(status.applied for status in told) > _LAG_MAX:
        slow = min(told, key=lambda status: status.applied)
        yield warning(E, f"{slow.endpoint} is far behind the others", "look at its disk and its network")
