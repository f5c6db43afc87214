"""The definition that the benchmarks run: three steps at a participant that answers at once."""

from __future__ import annotations

STEPS = 3


def echo_definition(address: str) -> str:
    """The YAML of the definition `benchmark`, its participant at `address`."""
    service = "shop.v1.EchoService"
    steps = "\n".join(
        f"  - name: step_{number}\n"
        f"    service: {address}\n"
        f"    action: {{method: {service}/Do, request: {{text: input.order_id}}}}\n"
        f"    compensation: {{method: {service}/Undo, request: {{text: input.order_id}}}}"
        for number in range(1, STEPS + 1)
    )
    return f"name: benchmark\nsteps:\n{steps}\n"
