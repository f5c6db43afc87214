"""Looks at the other replicas, as etcd lists them, and at the participants of the definitions that are applied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from orchestrator.certify.certificate import Certificate
from orchestrator.certify.demand import lacks
from orchestrator.doctor.ask_etcd import EtcdLook
from orchestrator.doctor.finding import Area, Finding, failed, ok, warning
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.errors import LogUnavailable, Overloaded, Rejected, Retryable
from orchestrator.leadership.port import Member
from orchestrator.saga.parse import parse
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.port import StoredDefinition
from orchestrator.security.dialer import Dialer

R, P = Area.REPLICAS, Area.PARTICIPANTS


async def ask_replicas(etcd: EtcdLook, version: str, fence: tuple[int, str] | None, timeout_s: float) -> list[Finding]:
    """Whether the replicas that etcd lists can be reached from here, and whether they fit together."""
    if not etcd.answered:
        return []
    found = list(judge_members(etcd, version, fence))
    targets = [(member, name) for member in etcd.members for name in ("api", "http", "peer")]
    addresses = [getattr(member, f"{name}_address") for member, name in targets]
    async with asyncio.TaskGroup() as group:
        tried = [group.create_task(_connect(address, timeout_s)) for address in addresses]
    troubles = [task.result() for task in tried]
    for (member, name), address, trouble in zip(targets, addresses, troubles, strict=True):
        if trouble:
            text = f"{member.replica_id} cannot be reached at {address} ({name}): {trouble}"
            advice = f"open the port between replicas, or mend BATON_{name.upper()}_ADVERTISE there"
            found.append(failed(R, text, advice))
    if targets and not any(troubles):
        found.append(ok(R, f"all ports of {len(etcd.members)} replicas can be reached from here"))
    return found


def judge_members(etcd: EtcdLook, version: str, fence: tuple[int, str] | None) -> Iterable[Finding]:
    """Whether there are enough replicas, of one version, and one of them leads. Pure."""
    count = len(etcd.members)
    names = ", ".join(member.replica_id for member in etcd.members)
    if not count:
        yield warning(R, "no replica runs", "start replicas: `baton replica`")
        return
    if count == 1:
        yield warning(R, f"one replica runs ({names}): nobody can take over", "run three")
    else:
        yield ok(R, f"{count} replicas run: {names}")
    others = sorted({member.version for member in etcd.members} - {version})
    if others:
        text = f"replicas run Baton {', '.join(others)}, this is {version}"
        yield warning(R, text, "finish the upgrade; two releases may work side by side meanwhile")
    if etcd.leader is None:
        yield failed(R, "nobody leads", "see `baton cluster status`: it says why replicas do not campaign")
    elif not _listed(etcd.leader, etcd.members):
        text = f"{etcd.leader.replica_id} holds the leader's key, and does not run"
        yield warning(R, text, "wait for its lease to end; if it stays, see `baton cluster status`")
    elif fence is not None and fence[1] != etcd.leader.replica_id:
        text = f"etcd says that {etcd.leader.replica_id} leads, the saga log says {fence[1]} (epoch {fence[0]})"
        yield warning(R, text, "ask again: it is so for a moment in each failover")
    else:
        epoch = f" under epoch {fence[0]}" if fence is not None else ""
        yield ok(R, f"{etcd.leader.replica_id} leads{epoch}")


def _listed(leader: Member, members: Sequence[Member]) -> bool:
    return any(member.incarnation == leader.incarnation for member in members)


async def _connect(address: str, timeout_s: float) -> str:
    """Why no connection can be made, empty if one can."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""


async def ask_participants(
    definitions: PostgresDefinitions, certificates: PostgresCertificates, dialer: Dialer
) -> list[Finding]:
    """Whether each newest definition could be applied again now.

    Its participants answer, have its methods, and are certified where it demands that.
    """
    try:
        listed = await definitions.list_definitions()
        known = await certificates.certificates()
    except (LogUnavailable, Overloaded):
        return []
    names = sorted({definition.name for definition in listed})
    if not names:
        return [warning(P, "no definition is applied", "apply one: `baton definition apply FILE`")]
    registry = Registry(definitions, partial(describe, dialer=dialer))
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(_look_at(definitions, registry, name, known)) for name in names]
    return [finding for look in looks for finding in look.result()]


async def _look_at(
    definitions: PostgresDefinitions, registry: Registry, name: str, known: Sequence[Certificate]
) -> list[Finding]:
    stored = await definitions.get_definition(name, 0)
    if stored is None:
        return [warning(P, f"{name}: it has just gone", "ask again")]
    # What a participant has now counts, if it says so; else what it had when the definition was applied.
    descriptors = stored.descriptor_set
    try:
        _, descriptors = await registry.check(stored.yaml)
        found = ok(P, f"{name}: version {stored.version} fits its participants")
    except Rejected as error:
        if "no server reflection" in str(error):
            advice = "sagas run by the descriptors that were stored; nobody checks them against the service"
            found = warning(P, f"{name}: {error}", advice)
        else:
            advice = "deploy the participant that the definition was made for, or apply a definition for this one"
            found = failed(P, f"{name}: its participants do not fit it: {error}", advice)
    except Retryable as error:
        advice = "start the participant, or mend its address in the definition; its sagas wait meanwhile"
        found = failed(P, f"{name}: {error}", advice)
    return [found, *judge_certificates(stored, descriptors, known)]


def judge_certificates(stored: StoredDefinition, descriptors: bytes, known: Iterable[Certificate]) -> Iterable[Finding]:
    """Whether the participants of a definition that demands it are certified for what they offer. Pure."""
    definition = parse(stored.yaml, stored.version)
    if not definition.certified:
        return
    lacking = list(lacks(definition, descriptors, known))
    for index, lack in lacking:
        step = definition.steps[index].name
        yield failed(P, f"{definition.name}: step {step} runs without a certificate: {lack.why}", lack.advice)
    if not lacking:
        yield ok(P, f"{definition.name}: its participants are certified, as it demands")
