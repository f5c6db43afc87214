"""docs/configure.md has every setting, as its class says."""

from __future__ import annotations

from orchestrator.config import Settings
from participants.settings import ParticipantSettings
from scripts import settings_table


def test_the_page_is_what_the_classes_say() -> None:
    before = settings_table.PAGE.read_text(encoding="utf-8")
    assert settings_table.page(before) == before, "run `python scripts/settings_table.py`"


def test_every_setting_is_on_the_page_and_says_what_it_is() -> None:
    page = settings_table.PAGE.read_text(encoding="utf-8")
    for prefix, fields in (("BATON_", Settings.model_fields), ("PARTICIPANT_", ParticipantSettings.model_fields)):
        for name, field in fields.items():
            assert field.description, name
            assert page.count(f"| `{prefix}{name.upper()}` |") == 1
