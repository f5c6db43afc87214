"""What this release can read of the saga log, as a number that the database keeps and compares."""

from __future__ import annotations

# Every connection of this release says it, as the setting `baton.level`; a release that says nothing is of level 1.
# Once a leader of a level has led, or a replica of it has stored something that leaders must understand, no leader of a
# lower one is let in (migration 0060). Raise it by one in the first release whose leader writes rows, or whose API
# accepts definitions or starts, that the release before would misread: a new status or state, a new part of a
# definition, a new column that changes when or how a saga is driven. Rows that are only shown need no new level.
#
# 1: executing to parked; steps one after the other.
# 2: steps that wait, are asked about, held, skipped; branches, children, signals, delayed starts, moves.
READING_LEVEL = 2

# Passed at connect: it holds for the whole session.
LEVEL_OPTION = f"-c baton.level={READING_LEVEL}"
