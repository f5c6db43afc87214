"""baton.v1.CountingService: how many sagas there are, on any replica."""

from __future__ import annotations

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, answered
from orchestrator.api.filters import states
from orchestrator.api.port import SagaReader
from orchestrator.pb.baton.v1 import counting_pb2, counting_pb2_grpc
from orchestrator.security.caller import current


class CountingService(counting_pb2_grpc.CountingServiceServicer):
    """Serves the counts that the saga log keeps."""

    def __init__(self, reader: SagaReader) -> None:
        self._reader = reader

    @answered
    async def CountSagas(
        self, request: counting_pb2.CountSagasRequest, context: Context
    ) -> counting_pb2.CountSagasResponse:
        """Sagas by definition and state."""
        name = checks.name("definition", request.definition) if request.definition else ""
        if name:
            current().require(name)
        else:
            current().require_all("a count without `definition`")
        counts = await self._reader.counts(name, states(request.states))
        return counting_pb2.CountSagasResponse(
            counts=[
                counting_pb2.SagaCount(definition=definition, state=conversion.state(state), count=count)
                for (definition, state), count in counts.items()
            ],
            total=sum(counts.values()),
        )
