"""Variables in the text of a definition."""

from __future__ import annotations

import pytest

from orchestrator.errors import Rejected
from orchestrator.saga.variables import expand


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("service: ${HOST}:1", "service: a:1"),
        ("${HOST:-b}", "a"),
        ("${OTHER:-b:7501}", "b:7501"),
        ("${EMPTY:-b}", "b"),
        ("$${HOST} $HOST {HOST}", "${HOST} $HOST {HOST}"),
        ("no variables", "no variables"),
    ],
)
def test_variables_are_filled_in(text: str, expanded: str) -> None:
    assert expand(text, {"HOST": "a", "EMPTY": ""}) == expanded


def test_every_variable_without_a_value_is_named() -> None:
    with pytest.raises(Rejected) as rejected:
        expand("${A} ${B} ${A} ${C:-c}", {})
    assert [violation.field for violation in rejected.value.violations] == ["A", "B"]
