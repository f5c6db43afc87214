"""Definitions: what is read, and how what is wrong is named."""

from __future__ import annotations

import pytest

from orchestrator.errors import Rejected
from orchestrator.saga.backoff import COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.parse import parse

GOOD = """
name: order
description: an order
steps:
  - name: reserve
    service: inventory:7501
    action: {method: shop.v1.Inventory/Reserve, request: {order_id: input.order_id, lines: input.lines}}
    compensation: {method: /shop.v1.Inventory/Release, request: {reservation: results.reserve.id}}
    timeout: 250ms
    retry: {retries: 7, initial: 2s, multiplier: 3, max: 1m, jitter: 0}
  - name: ship
    service: shipping:7504
    action: {method: shop.v1.Shipping/Ship, request: {reservation: results.reserve.id, note: "input.note || ''"}}
    compensation: none
    barrier: none
"""


def violations(text: str) -> dict[str, str]:
    with pytest.raises(Rejected) as rejected:
        parse(text)
    return {v.field: v.description for v in rejected.value.violations}


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_a_definition_is_read_with_its_defaults() -> None:
    definition = parse(GOOD, 3)
    reserve, ship = definition.steps
    assert (definition.name, definition.version) == ("order", 3)
    assert reserve.action.path == "/shop.v1.Inventory/Reserve"
    assert (reserve.action.service_name, reserve.action.method_name) == ("shop.v1.Inventory", "Reserve")
    assert (reserve.timeout_s, reserve.retry) == (0.25, RetryPolicy(7, 2.0, 3, 60.0, 0))
    assert reserve.compensation is not None
    assert reserve.compensation.retry == COMPENSATION_RETRY
    assert (ship.timeout_s, ship.retry, ship.compensation, ship.barrier) == (5.0, RetryPolicy(), None, False)
    assert RetryPolicy() == RetryPolicy(retries=3, initial_s=1.0, multiplier=2.0, max_s=30.0, jitter=0.2)


@pytest.mark.parametrize(
    ("old", "new", "field", "part"),
    [
        ("name: order\n", "name: Order!\n", "name", "lower-case"),
        ("name: order\n", "", "name", "is missing"),
        ("description: an order", "descripton: x", "descripton", "is not a field here"),
        ("- name: ship", "- name: reserve", "steps[1].name", "earlier step"),
        ("- name: ship", "- name: Ship-It", "steps[1].name", "step name"),
        ("service: inventory:7501", "service: inventory", "steps[0].service", "host:port"),
        ("    compensation: none\n", "", "steps[1].compensation", "is missing"),
        ("    compensation: none\n", "    compensation: nothing\n", "steps[1].compensation", "say `none`"),
        ("shop.v1.Shipping/Ship", "shop.v1.Shipping.Ship", "steps[1].action.method", "is not a gRPC method"),
        ("timeout: 250ms", "timeout: soon", "steps[0].timeout", "is not a time"),
        ("timeout: 250ms", "timeout: 0s", "steps[0].timeout", "is not a time"),
        ("retries: 7", "retries: -1", "steps[0].retry.retries", "is not a number"),
        ("retries: 7", "retries: 1.5", "steps[0].retry.retries", "whole number"),
        ("retries: 7", "retires: 7", "steps[0].retry.retires", "is not a field here"),
        ("jitter: 0}", "jitter: 2}", "steps[0].retry.jitter", "from 0 to 1"),
        ("barrier: none", "barrier: perhaps", "steps[1].barrier", "none"),
        ("input.order_id", "'input.'", "steps[0].action.request.order_id", ""),
        ("input.order_id", "inptu.order_id", "steps[0].action.request.order_id", "starts at 'inptu'"),
        ("input.order_id", "7", "steps[0].action.request.order_id", "must be an expression"),
        ("results.reserve.id, note", "results.ship.id, note", "steps[1].action.request.reservation", "exist by then"),
        ("results.reserve.id}", "results.ship.id}", "steps[0].compensation.request.reservation", "exist by then"),
        ("results.reserve.id, note", "results, note", "steps[1].action.request.reservation", "name the step"),
        ("input.order_id", "saga.secret", "steps[0].action.request.order_id", "unknown field of saga"),
        ("input.order_id", "'@'", "steps[0].action.request.order_id", ""),
    ],
)
def test_what_is_wrong_is_named_by_its_field(old: str, new: str, field: str, part: str) -> None:
    if not part:
        # A literal is a valid expression; these two check that it is not taken for a path.
        parse(changed(old, f'"{new}"'))
        return
    assert part in violations(changed(old, new))[field]


def test_every_violation_is_reported_at_once() -> None:
    found = violations(changed("timeout: 250ms", "timeout: x").replace("service: shipping:7504", "service: y"))
    assert set(found) == {"steps[0].timeout", "steps[1].service"}


@pytest.mark.parametrize("text", ["", "- a\n- b", "3", "name: [", "steps: {}", "\x00", "name: x\nsteps: []"])
def test_what_is_no_definition_is_refused(text: str) -> None:
    assert violations(text)


def test_yaml_errors_name_the_line() -> None:
    assert "line 2" in violations("name: a\n  steps: [")["yaml"]
