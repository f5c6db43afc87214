"""CI tries the same examples of a property, whatever else is loaded; by hand they go by our own code as well."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

from tests.fixed_examples import OUR_CONSTANTS, fix, take_constants_from


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = providers._get_local_constants
    yield
    take_constants_from(before)


@pytest.fixture
def rare_constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with constants that nothing else has."""
    constants = [f"RARE_{number} = ('rare {number}', {10**9 + number})" for number in range(500)]
    (tmp_path / "rare_constants.py").write_text("\n".join(constants))
    monkeypatch.syspath_prepend(tmp_path)
    yield "rare_constants"
    sys.modules.pop("rare_constants", None)


def examples() -> list[tuple[str, int]]:
    """What a property is tried with, where CI runs it."""
    tried: list[tuple[str, int]] = []

    @settings(max_examples=200, derandomize=True, database=None, deadline=None)
    @given(st.text(), st.integers())
    def any_property(text: str, number: int) -> None:
        tried.append((text, number))

    any_property()
    return tried


def test_fixed_examples_do_not_go_by_what_is_loaded(rare_constants: str) -> None:
    fix()
    before = examples()
    importlib.import_module(rare_constants)
    assert examples() == before
    assert len(set(before)) > 100


def test_others_do(rare_constants: str) -> None:
    take_constants_from(OUR_CONSTANTS)
    importlib.import_module(rare_constants)
    assert any("rare" in text for text, _ in examples())
