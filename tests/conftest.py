"""What all tests share: a mark for each folder; real etcd and Postgres, started for the first test that asks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.postgres import Postgres
from tests import fixed_examples

_TESTS = Path(__file__).parent
_FAST = ("unit", "crash_points", "simulation", "search")
_LEVELS = (*_FAST, "contract", "integration", "fuzz", "scenarios", "cluster", "compose")

# A killed process loses nothing that the kernel has, and no test pulls the plug: no need to wait for the disk.
_POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off"}

_database_numbers = itertools.count(1)

# CI says the same of the same code; by hand every run looks anew.
if "CI" in os.environ:
    fixed_examples.fix()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with the name of its folder, so that `pytest -m unit` selects tests/unit; the fast ones first."""
    for item in items:
        if (level := _level(item)) in _LEVELS:
            item.add_marker(level)
    items.sort(key=lambda item: _LEVELS.index(_level(item)) if _level(item) in _LEVELS else len(_LEVELS))


def _level(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).parts[0] if item.path.is_relative_to(_TESTS) else ""


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """Three members, shared by the session: a test that kills one brings it back and waits until it is healthy."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd"), members=3, unsafe_no_fsync=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def etcd_single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member, shared by the session, for tests that need etcd and no faults of it."""
    with EtcdCluster(tmp_path_factory.mktemp("etcd-single"), members=1, unsafe_no_fsync=True) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One server, shared by the session: a test that stops it brings it back and waits until it is ready."""
    with Postgres(tmp_path_factory.mktemp("postgres"), settings=_POSTGRES_SETTINGS) as server:
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The DSN of a fresh, empty database of the test's own."""
    name = f"test_{next(_database_numbers)}"
    yield postgres.create_database(name)
    postgres.drop_database(name)
