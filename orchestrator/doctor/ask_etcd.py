"""Asks etcd what judge_etcd.py judges, each member by itself; and which replicas stand in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from orchestrator.config import Settings
from orchestrator.doctor.finding import Area, Finding, failed
from orchestrator.doctor.judge_etcd import EtcdState, MemberStatus, judge_etcd
from orchestrator.leadership.errors import CoordinatorError
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess, Metadata, Transport, describe
from orchestrator.leadership.keys import Keys, decode
from orchestrator.leadership.port import Member
from orchestrator.pb.baton.etcd.v1 import maintenance_pb2 as pb
from orchestrator.security.files import BadFile

Response = TypeVar("Response", bound=Message)

_ALARMS = {pb.NOSPACE: "NOSPACE", pb.CORRUPT: "CORRUPT"}


@dataclass(frozen=True, slots=True)
class EtcdLook:
    """What was found; the replicas whose leases live, and the one that holds the leader's key."""

    findings: list[Finding]
    members: tuple[Member, ...] = ()
    leader: Member | None = None
    answered: bool = False


async def ask_etcd(settings: Settings, timeout_s: float) -> EtcdLook:
    """Look at etcd. Each question takes `timeout_s` at the most."""
    try:
        access = EtcdAccess.from_files(
            settings.etcd_addresses,
            settings.etcd_user,
            settings.etcd_password,
            settings.etcd_ca_file,
            settings.etcd_cert_file,
            settings.etcd_key_file,
        )
    except BadFile as error:
        text = f"a certificate cannot be read: {error}"
        return EtcdLook([failed(Area.ETCD, text, "mend BATON_ETCD_CA_FILE, BATON_ETCD_CERT_FILE, BATON_ETCD_KEY_FILE")])
    # A replica waits less for one endpoint: it has to act meanwhile. What is slow here is not away.
    coordinator = EtcdCoordinator(replace(access, call_timeout_s=timeout_s, connect_timeout_s=timeout_s))
    try:
        return await _look(coordinator, Keys(settings.cluster, settings.shard), timeout_s)
    finally:
        await coordinator.close()


async def _look(coordinator: EtcdCoordinator, keys: Keys, timeout_s: float) -> EtcdLook:
    transport = coordinator.transport
    cluster_trouble, replicas, leader = "", [], None
    try:
        async with asyncio.timeout(timeout_s):
            # A linearizable read: it needs a quorum, and the right to read what a replica reads.
            snapshot = await coordinator.range(keys.all)
        for entry in snapshot.entries:
            if entry.key.startswith(keys.replicas):
                replicas.append(decode(entry))
            elif entry.key == keys.leader:
                leader = decode(entry)
    except (CoordinatorError, TimeoutError) as error:
        cluster_trouble = str(error) or f"no answer within {timeout_s:g} s"
    try:
        async with asyncio.timeout(timeout_s):
            metadata = await transport.metadata()
    except (CoordinatorError, TimeoutError):
        # Whether the members are there can be said without a token.
        metadata = ()
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(_status(transport, endpoint, metadata, timeout_s)) for endpoint in transport.endpoints
        ]
    statuses = tuple(sorted((task.result() for task in asked), key=lambda status: status.endpoint))
    names, alarms, maintenance_trouble = await _cluster(transport, statuses, metadata, timeout_s)
    state = EtcdState(statuses, names, alarms, cluster_trouble, maintenance_trouble)
    return EtcdLook(list(judge_etcd(state)), tuple(replicas), leader, not cluster_trouble)


async def _status(transport: Transport, endpoint: str, metadata: Metadata, timeout_s: float) -> MemberStatus:
    try:
        answer = await _call(
            transport.channel(endpoint),
            "Maintenance/Status",
            pb.StatusRequest(),
            pb.StatusResponse,
            metadata,
            timeout_s,
        )
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT):
            # It answers, but tells that only to others.
            return MemberStatus(endpoint)
        return MemberStatus(endpoint, trouble=describe(error))
    return MemberStatus(
        endpoint=endpoint,
        version=answer.version,
        db_bytes=answer.db_size,
        leader=answer.leader,
        cluster=answer.header.cluster_id,
        applied=answer.raft_applied_index,
        errors=tuple(error for error in answer.errors if "alarm:" not in error.lower()),
    )


async def _cluster(
    transport: Transport, statuses: tuple[MemberStatus, ...], metadata: Metadata, timeout_s: float
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """The names of the members, the alarms, and why they are not known; of an endpoint that answers."""
    endpoint = next((status.endpoint for status in statuses if not status.trouble), None)
    if endpoint is None:
        return (), (), ""
    channel = transport.channel(endpoint)
    try:
        listed = await _call(
            channel, "Cluster/MemberList", pb.MemberListRequest(), pb.MemberListResponse, metadata, timeout_s
        )
        raised = await _call(channel, "Maintenance/Alarm", pb.AlarmRequest(), pb.AlarmResponse, metadata, timeout_s)
    except grpc.aio.AioRpcError as error:
        return (), (), describe(error)
    names = {member.id: member.name or "(not started)" for member in listed.members}
    alarms = tuple(
        f"{_ALARMS.get(alarm.alarm, alarm.alarm)} on {names.get(alarm.member_id, alarm.member_id)}"
        for alarm in raised.alarms
    )
    return tuple(names.values()), alarms, ""


async def _call(
    channel: grpc.aio.Channel,
    method: str,
    request: Message,
    response: type[Response],
    metadata: Metadata,
    timeout_s: float,
) -> Response:
    call = channel.unary_unary(
        f"/etcdserverpb.{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=response.FromString,
    )
    # Not `hasleader`: a member without a leader is to say so.
    token = tuple(pair for pair in metadata if pair[0] == "token")
    answer: Response = await call(request, timeout=timeout_s, metadata=token)
    return answer
