"""What a saga is: a value that never changes, copied with every event."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from orchestrator.saga.model import Saga, SagaState, changed

from .sagas import graph


def test_a_changed_saga_is_another_one() -> None:
    saga = graph({}, {})
    after = changed(saga, state=SagaState.RUNNING, sequence=7)
    assert after == replace(saga, state=SagaState.RUNNING, sequence=7)
    assert after != saga
    assert saga == graph({}, {})
    assert {field.name for field in fields(Saga)} == after.__dict__.keys()


def test_a_saga_is_never_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        changed(graph({}), sequence=1).sequence = 2  # type: ignore[misc]


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="a saga has no secuence"):
        changed(graph({}), secuence=1)
