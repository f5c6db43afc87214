"""The stories of this folder, executed on one real cluster that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from tests.cluster.house import WITHIN_S, House
from tests.integration.flawed_participant import flawed_participant

from .clerk import Clerk, clerk_at_work
from .postman import Postman
from .story import KEPT_S, Sentence, Story, stories
from .world import AUDIT, KILL, Newcomer, World

STORIES = stories()


def name_of(story: Story) -> str:
    """What a story is called among the tests."""
    return story.path.stem


Stage = tuple[House, Clerk, Postman, Newcomer]


@asynccontextmanager
async def set_up(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Stage]:
    """Three replicas, of which one that was killed comes back, one etcd member, Postgres, the shop, and a few more."""
    up: asyncio.Future[Stage] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def live() -> None:
        async with (
            Cluster(
                folder,
                etcd_members=1,
                settings=settings,
                definitions_dir=None,
                restart_replicas=True,
                unsafe_no_fsync=True,
            ) as cluster,
            Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0) as client,
            clerk_at_work(cluster.shop_dsn, cluster.api_endpoints) as clerk,
            flawed_participant() as newcomer,
        ):
            postman = Postman(cluster.shop_dsn, cluster.api_endpoints)
            up.set_result((House(cluster, client), clerk, postman, newcomer))
            await over.wait()

    # A fixture is set up and torn down in two tasks; a cluster belongs to one.
    life = asyncio.create_task(live())
    begun: set[asyncio.Future[Any]] = {life, up}
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        await life
    yield up.result()
    over.set()
    await life


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Where most stories are told."""
    async with set_up(tmp_path_factory.mktemp("scenarios"), {}) as stage:
        yield stage


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("story", [story for story in STORIES if story.keeps_for_ever], ids=name_of)
async def test_a_story_goes_as_it_is_told(
    story: Story, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await tell(story, World(*stage))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("story", [story for story in STORIES if not story.keeps_for_ever], ids=name_of)
async def test_a_story_of_which_the_sagas_leave_the_log(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "archive"
    settings = {
        "BATON_RETENTION_AFTER_S": str(KEPT_S),
        "BATON_RETENTION_INTERVAL_S": "0.2",
        "BATON_RETENTION_DIR": str(archive),
    }
    async with set_up(tmp_path, settings) as stage:
        await tell(story, World(*stage, archive))


async def tell(story: Story, world: World) -> None:
    """A story from its beginning to its end."""
    try:
        for part in story.parts:
            await world.play(part)
    finally:
        await world.tidy_up()


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_in_every_story_the_leader_is_killed_and_it_ends_with_the_audit(story: Story) -> None:
    sentences = [part.text for part in story.parts if isinstance(part, Sentence)]
    assert KILL in sentences
    assert story.parts[-1] == Sentence(story.parts[-1].line, AUDIT)
