"""The stories of this folder, executed on one real cluster that they share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .stage import Stage, set_up
from .story import KEPT_S, Command, Sentence, Story, stories
from .telling import AUDIT, KILL, tell
from .world import World

STORIES = stories()
_LIST = Path(__file__).parents[2] / "docs" / "proof.md"


def name_of(story: Story) -> str:
    """What a story is called among the tests."""
    return story.path.stem


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
    if story.needs_broker and stage.broker is None:
        pytest.skip("there is no nats-server: install the package nats-server, or put it on PATH")
    monkeypatch.chdir(tmp_path)
    await tell(story, World(stage))


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
        "BATON_RETENTION_MARGIN_S": "1",
        "BATON_RETENTION_DIR": str(archive),
    }
    async with set_up(tmp_path, settings, archive) as stage:
        await tell(story, World(stage))


@pytest.mark.parametrize("story", STORIES, ids=name_of)
def test_in_every_story_the_leader_is_killed_and_it_ends_with_the_audit(story: Story) -> None:
    sentences = [part.text for part in story.parts if isinstance(part, Sentence)]
    assert KILL in sentences
    assert story.parts[-1] == Sentence(story.parts[-1].line, AUDIT)


def test_no_two_stories_of_one_cluster_start_sagas_under_the_same_request_id() -> None:
    """Whoever tells a story before would have started the other one's saga."""
    told_by: dict[str, set[str]] = defaultdict(set)
    for story in STORIES:
        for part in story.parts:
            if story.keeps_for_ever and isinstance(part, Command) and part.request_id is not None:
                told_by[part.request_id].add(name_of(story))
    assert {name: stories for name, stories in told_by.items() if len(stories) > 1} == {}


def test_every_story_is_in_the_list_of_the_documentation() -> None:
    listed = re.findall(r"\(\.\./tests/scenarios/([\w-]+)\.md\)", _LIST.read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(map(name_of, STORIES))
