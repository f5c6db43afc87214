"""What differs between two versions of a definition."""

from __future__ import annotations

import pytest

from orchestrator.saga.difference import Change, Kind, changes
from orchestrator.saga.parse import parse

OLD = """
name: order
steps:
  - name: reserve
    service: h:1
    action: {method: t.S/Reserve, request: {id: input.id, who: {name: input.name}}}
    compensation: {method: t.S/Release}
  - name: pay
    service: h:1
    action: {method: t.S/Pay}
    compensation: none
"""


def changed(old: str, new: str) -> list[Change]:
    assert old in OLD
    return changes(parse(OLD, 1), parse(OLD.replace(old, new), 2))


def test_another_spelling_of_the_same_is_no_difference() -> None:
    spelled = OLD.replace(
        "    action: {method: t.S/Pay}\n", "    action:\n      method: /t.S/Pay\n    timeout: 5000ms\n"
    )
    spelled = spelled.replace("  - name: pay\n", "  - name: pay\n    after: [reserve]\n")
    assert changes(parse(OLD), parse(spelled)) == []


@pytest.mark.parametrize(
    ("old", "new", "kind", "path", "before", "after"),
    [
        ("name: order\n", "name: order\nwithin: 90s\n", Kind.ADDED, "within", "", "1.5m"),
        ("name: order\n", "name: order\ncompensate: parallel\n", Kind.CHANGED, "compensate", "sequential", "parallel"),
        ("t.S/Pay}", "t.S/Pay}\n    timeout: 9s", Kind.CHANGED, "steps.pay.timeout", "5s", "9s"),
        ("t.S/Pay}", "t.S/Pay}\n    when: input.x", Kind.ADDED, "steps.pay.when", "", "input.x"),
        ("t.S/Pay}", "t.S/Pay}\n    after: []", Kind.CHANGED, "steps.pay.after", "reserve", "nothing"),
        ("t.S/Pay}", "t.S/Pay}\n    retry: {retries: 7}", Kind.CHANGED, "steps.pay.retry.retries", "3", "7"),
        ("input.name", "input.n", Kind.CHANGED, "steps.reserve.action.request.who.name", "input.name", "input.n"),
        ("id: input.id, ", "", Kind.REMOVED, "steps.reserve.action.request.id", "input.id", ""),
        ("none\n", "none\n    reason: lapses\n", Kind.ADDED, "steps.pay.reason", "", "lapses"),
    ],
)
def test_a_changed_field_is_named(old: str, new: str, kind: Kind, path: str, before: str, after: str) -> None:
    assert changed(old, new) == [Change(kind, path, before, after)]


def test_steps_that_came_and_went_are_named_as_a_whole() -> None:
    other = OLD.replace("name: pay", "name: charge")
    assert changes(parse(OLD), parse(other)) == [
        Change(Kind.REMOVED, "steps.pay", before="t.S/Pay"),
        Change(Kind.ADDED, "steps.charge", after="t.S/Pay"),
    ]


def test_another_kind_of_work_is_told_with_all_that_comes_with_it() -> None:
    found = {change.path: change for change in changed("    service: h:1\n    action: {method: t.S/Pay}\n    compensation: none\n", "    delay: 1h\n")}  # fmt: skip  # noqa: E501
    assert found["steps.pay.work"] == Change(Kind.CHANGED, "steps.pay.work", "call", "delay")
    assert found["steps.pay.delay"] == Change(Kind.ADDED, "steps.pay.delay", "", "1h")
    assert found["steps.pay.action.method"].kind is Kind.REMOVED
