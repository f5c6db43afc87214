"""What traces cost a leader: sagas driven with tracing off, on for one saga in a hundred, and on for all.

    python -m benchmarks.tracing [--sagas N] [--rounds N] [--at-once N]

As benchmarks.driving, in one run, one variant after the other in every round. No collector listens where the spans go:
what is measured is the leader's part, up to the thread that would send them.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import structlog
import uvloop

from benchmarks.definitions import echo_definition
from benchmarks.driving import insert_pending
from benchmarks.rig import Rig, servers
from orchestrator.config import Settings
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.embedded.loopback import free_ports
from orchestrator.telemetry import Metrics
from orchestrator.tracing.assemble import Tracing

SHARES = {"off": None, "one in a hundred": 0.01, "all": 1.0}


async def driven(dsn: str, address: str, share: float | None, endpoint: str, arguments: argparse.Namespace) -> float:
    """Sagas a second."""
    traced = {} if share is None else {"tracing_endpoint": endpoint, "tracing_sample": share}
    tracing = Tracing(Settings(**traced), Metrics("benchmark", "benchmark"))
    rig = Rig(dsn, CallSettings(128, 4_000_000, 1_000_000, True), 4000, arguments.at_once, tracing.written, tracing)
    await rig.registry.apply(echo_definition(address))
    insert_pending(dsn, arguments.sagas)
    began_s = time.perf_counter()
    await rig.lead_until_finished(arguments.sagas)
    rate = arguments.sagas / (time.perf_counter() - began_s)
    await asyncio.to_thread(tracing.close, 0.1)
    return rate


async def measure(dsn: str, address: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    (port,) = free_ports(1)
    rates: dict[str, list[float]] = {name: [] for name in SHARES}
    for round_ in range(arguments.rounds + 1):
        for name, share in SHARES.items():
            rate = await driven(dsn, address, share, f"http://127.0.0.1:{port}", arguments)
            # The first round warms caches and files up.
            if round_ > 0:
                rates[name].append(rate)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=4000, help="sagas of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=100)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with servers() as (dsn, address):
        rates = uvloop.run(measure(dsn, address, arguments))
    off = rates["off"]
    for name, values in rates.items():
        ratio = statistics.median(one / other for one, other in zip(values, off, strict=True))
        print(f"{name:18} {statistics.median(values):8,.0f} sagas/s   {ratio:.0%} of off in the same round")


if __name__ == "__main__":
    main()
