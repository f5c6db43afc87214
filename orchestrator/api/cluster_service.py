"""baton.v1.ClusterService: who leads, which replicas there are, and the wish that the leader step down."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import structlog

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, NoLeader, answered
from orchestrator.api.guard import ON_BEHALF_KEY
from orchestrator.api.port import Leadership, SagaReader
from orchestrator.errors import LogUnavailable, Overloaded, Retryable, WrongState
from orchestrator.leadership.port import Member
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc
from orchestrator.sagalog.records import Fence
from orchestrator.security.caller import current
from orchestrator.security.dialer import PLAIN, Dialer

# Who stepped down leaves the campaign to the others for so long, in seconds.
STEP_DOWN_COOLDOWN_S = 3.0

_FENCE_TIMEOUT_S = 1.0
_FORWARD_TIMEOUT_S = 10.0
# A request that carries this was forwarded once already, and is not forwarded again.
_FORWARDED_KEY = "baton-forwarded-by"

log = structlog.get_logger()


class ClusterService(cluster_pb2_grpc.ClusterServiceServicer):
    """Serves the API from what this replica knows, and asks the leader for what only the leader can do."""

    def __init__(
        self, cluster: str, replica_id: str, leadership: Leadership, reader: SagaReader, replicas: Dialer = PLAIN
    ) -> None:
        self._replicas = replicas
        self._cluster = cluster
        self._replica_id = replica_id
        self._leadership = leadership
        self._reader = reader

    @answered
    async def GetCluster(
        self, request: cluster_pb2.GetClusterRequest, context: Context
    ) -> cluster_pb2.GetClusterResponse:
        """What this replica knows. It is answered with etcd away, and with Postgres away, too."""
        fence = await self._fence()
        view = self._leadership.view
        holder = None if view.holder is None else view.holder.member
        if fence is not None and holder is not None and fence.holder != holder.replica_id:
            # Leadership changes hands, and one of the two is behind: that epoch is not this leader's.
            fence = None
        return cluster_pb2.GetClusterResponse(
            cluster=self._cluster,
            replica_id=self._replica_id,
            leader=None if holder is None else conversion.replica(holder),
            epoch=0 if fence is None else fence.epoch,
            replicas=[conversion.replica(member) for member in self._leadership.members()],
            lease_left_s=view.lease_left_s if view.leading else -1.0,
            leading_since=None if fence is None or holder is None else conversion.timestamp(fence.raised_at),
            trouble=view.trouble or "",
        )

    @answered
    async def StepDown(self, request: cluster_pb2.StepDownRequest, context: Context) -> cluster_pb2.StepDownResponse:
        """Make the leader hand leadership over, wherever it is."""
        reason = checks.reason(request.reason)
        fence = await self._fence()
        if await self._leadership.resign(reason, STEP_DOWN_COOLDOWN_S):
            log.info("stepped_down", reason=reason)
            epoch = 0 if fence is None else fence.epoch
            return cluster_pb2.StepDownResponse(replica_id=self._replica_id, epoch=epoch)
        holder = self._leadership.view.holder
        if holder is None:
            raise NoLeader("nobody leads at the moment, so nobody can step down")
        if _forwarded(context) or holder.member.replica_id == self._replica_id:
            raise NoLeader("leadership is changing hands at the moment; look who leads, then ask again")
        return await self._forward(holder.member, request, context)

    async def _forward(
        self, leader: Member, request: cluster_pb2.StepDownRequest, context: Context
    ) -> cluster_pb2.StepDownResponse:
        left_s = context.time_remaining()
        timeout_s = _FORWARD_TIMEOUT_S if left_s is None else min(left_s, _FORWARD_TIMEOUT_S)
        options = [("grpc.enable_http_proxy", 0)]
        async with self._replicas.channel(leader.api_address, options) as channel:
            stub = cluster_pb2_grpc.ClusterServiceStub(channel)
            metadata = ((_FORWARDED_KEY, self._replica_id), *self._vouched(context))
            try:
                response: cluster_pb2.StepDownResponse = await stub.StepDown(
                    request, timeout=timeout_s, metadata=metadata
                )
            except grpc.aio.AioRpcError as error:
                where = f"the leader {leader.replica_id} at {leader.api_address}"
                text = f"{where} did not step down: {error.code().name}: {error.details()}"
                passing = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
                raise Retryable(text) if passing else WrongState(text) from None
        return response

    def _vouched(self, context: Context) -> tuple[tuple[str, str | bytes], ...]:
        """In whose name the call goes on: this replica's certificate vouches for it, else the caller's own token."""
        if self._replicas.secure:
            return ((ON_BEHALF_KEY, current().name.encode("ascii", "replace").decode()),)
        return tuple((key, value) for key, value in context.invocation_metadata() or () if key == "authorization")

    async def _fence(self) -> Fence | None:
        """The fence row, if Postgres answers soon."""
        try:
            async with asyncio.timeout(_FENCE_TIMEOUT_S):
                return await self._reader.fence()
        except (TimeoutError, LogUnavailable, Overloaded):
            return None


def _forwarded(context: Context) -> bool:
    return any(key == _FORWARDED_KEY for key, _ in context.invocation_metadata() or ())
