"""Applies the definitions of a folder when a replica starts, waiting for participants that are not up yet."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import structlog

from orchestrator.driving.registry import Registry
from orchestrator.errors import Rejected, Retryable
from orchestrator.saga.variables import expand

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0

log = structlog.get_logger()


async def apply_folder(folder: Path, registry: Registry) -> None:
    """Apply every *.yaml file of `folder` in the order of their names; returns when each is applied or refused.

    A file that cannot be right is logged with its file, step and field, and passed over. One that runs a child which
    is not there yet comes once more behind the others. Participants, or a saga log, that do not answer are waited for.
    """
    texts = await asyncio.to_thread(_read, folder)
    if not texts:
        log.warning("no_definitions", folder=str(folder), reason="it has no *.yaml file that can be read")
    while texts:
        early = {name: error for name, text in texts if (error := await _apply(name, text, registry)) is not None}
        if len(early) == len(texts):
            for name, error in early.items():
                log.error("definition_refused", file=name, error=str(error))
            return
        texts = [(name, text) for name, text in texts if name in early]


def _read(folder: Path) -> list[tuple[str, str]]:
    """The names and texts of the files, variables filled in; one that cannot be read is logged."""
    texts = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            texts.append((file.name, expand(file.read_text(encoding="utf-8"), os.environ)))
        except (OSError, UnicodeDecodeError, Rejected) as error:
            log.error("definition_refused", file=file.name, error=str(error))
    return texts


async def _apply(file: str, text: str, registry: Registry) -> Rejected | None:
    """Apply one file, or log why not; the error is returned if it may be right once the other files are applied."""
    retry_s, said = RETRY_FIRST_S, ""
    while True:
        try:
            stored, existing = await registry.apply(text)
        except Rejected as error:
            if all(v.field.endswith(".saga.definition") for v in error.violations) and error.violations:
                return error
            # An address that does not resolve yet may do so once its container is there.
            if not any(v.field.endswith(".service") for v in error.violations):
                log.error("definition_refused", file=file, error=str(error))
                return None
            reason = str(error)
        except Retryable as error:
            reason = str(error)
        else:
            log.info("definition_applied", file=file, name=stored.name, version=stored.version, existing=existing)
            return None
        if reason != said:
            log.warning("definition_waits", file=file, reason=reason)
            said = reason
        await asyncio.sleep(retry_s)
        retry_s = min(retry_s * 2, RETRY_MAX_S)
