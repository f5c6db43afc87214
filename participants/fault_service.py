"""The gRPC edge of fault injection; offered only where the settings allow it."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from participants.dispatch import plain
from participants.faults import BadFault, Fault, Faults
from participants.pb.shop.v1 import fault_pb2, fault_pb2_grpc
from participants.status import Refusal

Context = grpc.aio.ServicerContext[Any, Any]

_FIELDS = tuple(Fault.__dataclass_fields__)


class FaultServicer(fault_pb2_grpc.FaultServiceServicer):
    """Injects, clears and lists the faults of one participant."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    @plain
    async def Inject(self, request: fault_pb2.Fault, context: Context) -> fault_pb2.InjectResponse:
        """Add a fault; INVALID_ARGUMENT names the field that makes no sense."""
        try:
            fault = Fault(**{name: getattr(request, name) for name in _FIELDS})
        except BadFault as error:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        return fault_pb2.InjectResponse(id=self._faults.inject(fault))

    @plain
    async def Clear(self, request: fault_pb2.ClearRequest, context: Context) -> fault_pb2.ClearResponse:
        """Drop one fault, or all of them."""
        return fault_pb2.ClearResponse(cleared=self._faults.clear(request.id))

    @plain
    async def List(self, request: fault_pb2.ListRequest, context: Context) -> fault_pb2.ListResponse:
        """All faults with how often each has struck."""
        faults = [fault_pb2.Fault(**{name: getattr(f, name) for name in _FIELDS}) for f in self._faults.list()]
        return fault_pb2.ListResponse(faults=faults)
