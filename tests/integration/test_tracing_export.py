"""Spans on their way: to a real receiver over gRPC, and past one that is away or slow."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import grpc
import grpc.aio
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from orchestrator.config import Settings
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from orchestrator.saga.model import SagaId
from orchestrator.telemetry import Metrics
from orchestrator.tracing import ids
from orchestrator.tracing.assemble import NoOpenTelemetry, Tracing
from orchestrator.tracing.export import Export, otlp, resource
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.span import Link, Side, Span
from orchestrator.tracing.starts import TracedStarts
from tests.collector import WITHIN_S, Collector, collecting

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tracing.md"
SAGA = SagaId(UUID("01980000-0000-7000-8000-000000000001"))


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as opened:
        yield opened


def span(number: int = 1, parent: int = 0, failed: str | None = None, links: tuple[Link, ...] = ()) -> Span:
    return Span(SAGA, number, parent, "s1", Side.CLIENT, 1_000, 2_000, {"baton.attempt": 1}, failed, links)


class Counts(dict[str, int]):
    def __call__(self, outcome: str, count: int) -> None:
        self[outcome] = self.get(outcome, 0) + count


def exporting(endpoint: str, counts: Counts, queue_max: int = 10_000) -> Export:
    return Export(otlp(endpoint), resource("shop", "r1"), counts, queue_max)


def test_a_collector_receives_the_spans_with_their_ids_parents_and_links(collector: Collector) -> None:
    counts = Counts()
    export = exporting(collector.endpoint, counts)
    export.add(span(7))
    export.add(span(8, parent=7, failed="UNAVAILABLE", links=(Link(9, 10, "repeats"),)))
    # The end sends what is left, at once.
    export.close(WITHIN_S)
    assert counts == {"sent": 2}
    root, child = (received.span for received in collector.received)
    assert root.trace_id == child.trace_id == SAGA.bytes
    assert (root.span_id, root.parent_span_id) == ((7).to_bytes(8), b"")
    assert (child.span_id, child.parent_span_id) == ((8).to_bytes(8), (7).to_bytes(8))
    assert (child.start_time_unix_nano, child.end_time_unix_nano) == (1_000, 2_000)
    assert (child.status.code, child.status.message) == (trace_pb2.Status.STATUS_CODE_ERROR, "UNAVAILABLE")
    assert [(link.trace_id, link.span_id) for link in child.links] == [((9).to_bytes(16), (10).to_bytes(8))]
    assert collector.received[0].resource["service.name"] == "baton"
    assert collector.received[0].resource["service.instance.id"] == "r1"


def test_spans_arrive_without_waiting_for_the_end(collector: Collector) -> None:
    counts = Counts()
    export = exporting(collector.endpoint, counts)
    export.add(span())
    limit_s = time.monotonic() + WITHIN_S
    while not counts and time.monotonic() < limit_s:
        time.sleep(0.01)
    assert len(collector.received) == counts["sent"] == 1
    export.close(WITHIN_S)


def test_a_collector_that_is_away_or_stuck_slows_nothing_and_fills_no_memory(collector: Collector) -> None:
    stuck = collector.endpoint
    collector.open.clear()
    for endpoint in (stuck, f"http://127.0.0.1:{free_ports(1)[0]}"):
        counts = Counts()
        export = exporting(endpoint, counts, queue_max=1_000)
        began_s = time.monotonic()
        for number in range(1, 5_001):
            export.add(span(number))
        # Not a span was waited for: one export alone may take five seconds.
        assert time.monotonic() - began_s < 4
        assert counts["dropped"] >= 5_000 - 1_000 - 512
        export.close(0.2)
        assert time.monotonic() - began_s < 15
        limit_s = time.monotonic() + WITHIN_S
        collector.open.set()
        # Every span was counted, one way or another.
        while sum(counts.values()) < 5_000 and time.monotonic() < limit_s:
            time.sleep(0.01)
        assert sum(counts.values()) == 5_000


class Sagas(saga_pb2_grpc.SagaServiceServicer):
    """Starts the same saga for whoever asks; the second time it is there already."""

    existing = False

    async def StartSaga(self, request, context):  # type: ignore[no-untyped-def]
        existing, self.existing = self.existing, True
        saga = saga_pb2.Saga(saga_id=str(SAGA), definition="order", version=1)
        return saga_pb2.StartSagaResponse(saga=saga, existing=existing)

    async def StartSagas(self, request, context):  # type: ignore[no-untyped-def]
        results = [(str(SAGA), False, 0), (str(SAGA), True, 0), ("", False, 3)]
        made = [saga_pb2.StartSagaResult(saga_id=saga, existing=there, code=code) for saga, there, code in results]
        return saga_pb2.StartSagasResponse(results=made)


async def test_a_start_is_a_span_of_the_sagas_trace_that_links_to_its_caller() -> None:
    spans: list[Span] = []
    server = grpc.aio.server(interceptors=(TracedStarts(SagaSpans(spans.append, 1.0), spans.append),))
    saga_pb2_grpc.add_SagaServiceServicer_to_server(Sagas(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = saga_pb2_grpc.SagaServiceStub(channel)
            caller = (("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),)
            for _ in range(2):
                await stub.StartSaga(saga_pb2.StartSagaRequest(), metadata=caller, timeout=WITHIN_S)
            await stub.StartSagas(saga_pb2.StartSagasRequest(), timeout=WITHIN_S)
    finally:
        await server.stop(None)
    started, of_a_batch = spans
    assert (started.saga, started.id, started.parent) == (SAGA, ids.start_id(SAGA), ids.root_id(SAGA))
    assert [(link.trace, link.span, link.relation) for link in started.links] == [
        (int("a" * 32, 16), int("b" * 16, 16), "caller")
    ]
    assert (of_a_batch.name, of_a_batch.id, of_a_batch.links) == ("StartSagas", started.id, ())


def test_without_a_collector_nothing_is_made() -> None:
    threads = set(threading.enumerate())
    tracing = Tracing(Settings(), Metrics("test", "r1"))
    participants = object()
    assert tracing.around(participants) is participants  # type: ignore[arg-type, comparison-overlap]
    assert tracing.interceptors == ()
    # Those of others may end meanwhile.
    assert set(threading.enumerate()) <= threads
    tracing.close(0.0)


def test_without_opentelemetry_a_replica_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("orchestrator.tracing.export")
    monkeypatch.setitem(sys.modules, "orchestrator.tracing.export", None)
    with pytest.raises(NoOpenTelemetry, match=r"BATON_TRACING_ENDPOINT.*pip install 'baton\[tracing\]'"):
        Tracing(Settings(tracing_endpoint="http://127.0.0.1:4317"), Metrics("test", "r1"))


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "grpc://h:1", "http://h", "http://h:x"])
def test_an_endpoint_that_is_no_collectors_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(ValueError, match="tracing_endpoint"):
        Settings(tracing_endpoint=endpoint)


def test_the_collector_of_the_page_prints_the_spans_that_it_gets(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (port,) = free_ports(1)
    assert "127.0.0.1:4317" in blocks[0]
    script = tmp_path / "collector.py"
    script.write_text(blocks[0].replace(":4317", f":{port}"), encoding="utf-8")
    counts = Counts()
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                grpc.channel_ready_future(channel).result(timeout=WITHIN_S)
            export = exporting(f"http://127.0.0.1:{port}", counts)
            export.add(span(7, parent=8, failed="UNAVAILABLE"))
            export.close(WITHIN_S)
            assert counts == {"sent": 1}
            assert process.stdout is not None
            line = process.stdout.readline()
        finally:
            process.kill()
            release_ports([port])
    for told in (SAGA.hex, "0000000000000008 > 0000000000000007", "s1", "UNAVAILABLE"):
        assert told in line


def test_the_participant_of_the_page_sends_its_spans(collector: Collector, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    script = blocks[1].replace("http://127.0.0.1:4317", collector.endpoint)
    script += "\nwith trace.get_tracer('t').start_as_current_span('s'):\n    pass\nprovider.shutdown()\n"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=WITHIN_S * 2, cwd=tmp_path)
    assert [(got.span.name, got.resource["service.name"]) for got in collector.received] == [("s", "payment")]
