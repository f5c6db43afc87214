"""Sagas are found by label and by what is in their input; no search looks at all sagas, and none runs for ever."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import psycopg
import pytest

from orchestrator.errors import Rejected
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.reader import Reader
from orchestrator.sagalog.records import SagaFilter
from orchestrator.sagalog.search import Search, id_range
from orchestrator.telemetry import Metrics

SAGAS = 20_000
RARE = 7_000


@dataclass(frozen=True)
class Crowd:
    """Twenty thousand sagas: `n` in the input is their number; all are in `region` x, every 100th is `tier` gold."""

    dsn: str
    reader: Reader
    search: Search

    async def find(self, **wanted: object) -> list[int]:
        """The numbers of what is found, newest first."""
        return [number(saga.input) for saga in await self.reader.find(SagaFilter(**wanted), None, SAGAS)]  # type: ignore[arg-type]


def number(input_: str | None) -> int:
    return int(orjson.loads(input_ or "")["n"])


@pytest.fixture(scope="module")
def crowded(postgres: object) -> str:
    dsn: str = postgres.create_database("crowd")  # type: ignore[attr-defined]
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, labels)"
            " SELECT lpad(to_hex(n), 32, '0')::uuid, 0, n::text, '', 'order', 1,"
            " CASE WHEN n % 10 = 0 THEN 'RUNNING' ELSE 'COMPLETED' END,"
            " jsonb_build_object('n', n, 'lines', jsonb_build_array(n % 7), 'paid', n % 2 = 0, 'note', 'x' || n % 3,"
            " 'money', n || '.50'),"
            " jsonb_build_object('region', 'x')"
            " || CASE WHEN n % 100 = 0 THEN '{\"tier\": \"gold\"}' ELSE '{}' END::jsonb"
            f" || CASE WHEN n = {RARE} THEN '{{\"rare\": \"one\"}}' ELSE '{{}}' END::jsonb"
            f" FROM generate_series(1, {SAGAS}) AS n"
        )
        connection.execute("ANALYZE")
    return dsn


@pytest.fixture
async def crowd(crowded: str) -> AsyncIterator[Crowd]:
    pool = Pool(crowded, "test", 2, 20.0, Metrics("test", "r1"))
    searches = Pool(crowded, "test", 2, 20.0, Metrics("test", "r1"), 10.0)
    yield Crowd(crowded, Reader(pool, 0, searches), Search(searches))
    await pool.close()
    await searches.close()


async def test_labels_are_equal_or_there_or_both(crowd: Crowd) -> None:
    gold = list(range(SAGAS, 0, -100))
    assert await crowd.find(labels={"tier": "gold"}) == gold
    assert await crowd.find(label_keys=("tier",)) == gold
    assert await crowd.find(labels={"region": "x"}, label_keys=("rare",)) == [RARE]
    assert await crowd.find(labels={"rare": "one", "tier": "gold"}) == [RARE]
    assert await crowd.find(labels={"rare": "one", "tier": "silver"}) == []
    assert await crowd.find(label_keys=("none",)) == []
    assert await crowd.find(labels={"tier": "gold"}, states=("RUNNING",), definition="order") == gold
    assert await crowd.find(labels={"tier": "gold"}, definition="other") == []
    assert await crowd.find(labels={"tier": "gold"}, input_path=f"$.n < {RARE} && $.n > {RARE - 300}") == [6900, 6800]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("$.n < 4", [3, 2, 1]),
        ("$.n < 5 && $.paid == true", [4, 2]),
        ("$ ? (@.n < 5 && @.paid == true)", [4, 2]),
        ("$.lines[*] ? (@ == 3)", [n for n in range(SAGAS, 0, -1) if n % 7 == 3]),
        ('$.n < 7 && $.note starts with "x1"', [4, 1]),
        ("$.money.double() < 3", [2, 1]),
        ("exists($.nothing)", []),
        ("$.nothing", []),
        ("$.note > 5", []),
        ("$.n < 5 && $.paid", None),
    ],
)
async def test_a_path_holds_or_finds_something(crowd: Crowd, path: str, wanted: list[int] | None) -> None:
    if wanted is None:
        with pytest.raises(Rejected, match="input_path"):
            await crowd.find(input_path=path)
    else:
        assert await crowd.find(input_path=path) == wanted


async def test_a_path_that_finds_false_or_null_does_not_hold(crowd: Crowd) -> None:
    assert await crowd.find(input_path="$.paid", label_keys=("rare",)) == [RARE]
    assert await crowd.find(input_path="$.paid == false", label_keys=("rare",)) == []


async def all_pages(search: Search, wanted: SagaFilter, size: int = 10) -> tuple[list[int], int]:
    """The numbers on all pages, and how many pages there were; each must have come further than the one before."""
    found: list[int] = []
    before: SagaId | None = None
    for pages in itertools.count(1):
        page = await search.find(wanted, before, size)
        assert len(page.sagas) <= size
        found += [number(saga.input) for saga in page.sagas]
        if page.reached is None:
            return found, pages
        assert before is None or page.reached < before
        before = page.reached
    raise AssertionError("counting has come to an end")


async def test_pages_follow_each_other_without_gap_or_overlap(crowd: Crowd) -> None:
    patient = Search(crowd.search._pool, page_s=60.0)
    found, pages = await all_pages(patient, SagaFilter(labels={"tier": "gold"}), size=7)
    assert found == list(range(SAGAS, 0, -100))
    assert pages == math.ceil(len(found) / 7)


async def test_a_search_without_time_gives_an_empty_page_and_says_how_far_it_came(crowd: Crowd) -> None:
    hurried = Search(crowd.search._pool, page_s=0.0)
    found, pages = await all_pages(hurried, SagaFilter(input_path="$.n == 1"))
    assert found == [1]
    assert pages > 10


# For each value in a list of thousands all of that list is looked at: seconds, on one saga.
SLOW = "$.many[*] ? (@ == $.many[*])"


async def test_an_expression_that_is_too_much_for_one_saga_is_refused_in_time(database: str) -> None:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
            " SELECT lpad(to_hex(n), 32, '0')::uuid, 0, n::text, '', 'order', 1, 'RUNNING', jsonb_build_object('n', n,"
            " 'many', (SELECT jsonb_agg(m || '-' || n)"
            " FROM generate_series(1, CASE n WHEN 5 THEN 20000 ELSE 1 END) AS m))"
            " FROM generate_series(1, 9) AS n"
        )
    pool = Pool(database, "test", 2, 20.0, Metrics("test", "r1"), 0.3)
    try:
        search = Search(pool)
        assert (await all_pages(search, SagaFilter(input_path='$.many[*] ? (@ == "1-8")')))[0] == [8]
        began_s = time.monotonic()
        with pytest.raises(Rejected, match=r"on one saga, the one behind .*06$"):
            await all_pages(search, SagaFilter(input_path=f"{SLOW} ? (@ == 0)"))
        assert time.monotonic() - began_s < 60
    finally:
        await pool.close()


NO_PATHS = ["$.", "n > 5", "$.n >", "$ ? (@.a == )", "'", r'$."\u0000"', '$.note like_regex "("']
NO_PATHS += ['$.note like_regex "a" flag "x"', "$.n > $unknown", "(" * 499 + "$" + ")" * 400]


@pytest.mark.parametrize("path", NO_PATHS)
async def test_what_is_no_path_is_refused_by_the_name_of_the_field(crowd: Crowd, path: str) -> None:
    with pytest.raises(Rejected, match="input_path"):
        await crowd.find(input_path=path)


def plan(dsn: str, query: str, **parameters: object) -> str:
    given = {"states": None, "definition": None, "created_after": None, "created_before": None, "path": None}
    given |= {"rows": 1000, "budget_s": 1.0, "labels": None, "label_keys": None, **id_range(SagaFilter(), None)}
    with psycopg.connect(dsn) as connection:
        text = b"EXPLAIN (ANALYZE, BUFFERS OFF, TIMING OFF, SUMMARY OFF) " + load("reader.sql")[query].text
        return "\n".join(row[0] for row in connection.execute(text, {**given, **parameters}))


def test_no_search_reads_the_table_of_sagas_as_a_whole(crowded: str) -> None:
    rare = plan(crowded, "examine_labelled", key="rare", value="one", labels='{"rare": "one"}')
    assert "saga_label_pkey" in rare
    assert "rows=1 " in rare.splitlines()[0] or "rows=1.00 " in rare.splitlines()[0]
    common = plan(crowded, "examine_labelled", key="region", value="x", labels='{"region": "x"}', rows=100)
    named = plan(crowded, "examine_named", key="rare", label_keys=["rare"])
    assert "saga_label_by_key" in named
    path = plan(crowded, "examine", path="$.n == 1")
    for text in (rare, common, named, path):
        assert "Seq Scan on saga" not in text, text
        # Never more than a window of rows, in whatever node.
        actual = [int(float(part.split(" ")[0])) for part in text.split("actual rows=")[1:]]
        assert max(actual) <= 1000, text
    counts = plan(crowded, "counts")
    assert "tally" in counts
    assert " on saga " not in counts, counts
