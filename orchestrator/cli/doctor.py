"""`baton doctor`: what is wrong with everything that a replica needs, and what to do about it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.command import AsJson

if TYPE_CHECKING:
    from orchestrator.doctor.finding import Finding

_TIMEOUT_S = 3.0
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, metavar="SECONDS", help="Longest wait for each answer.")
    ] = _TIMEOUT_S,
) -> None:
    """Check what a replica with this environment (BATON_*) needs: versions, settings, stores, replicas, participants.

    It changes nothing. Run it where a replica runs, with the same variables. Exit status 0: nothing has failed;
    1: something has; 78: the settings are refused.
    """
    import structlog
    from pydantic import ValidationError

    from orchestrator.config import Settings
    from orchestrator.doctor.doctor import examine
    from orchestrator.doctor.finding import Severity

    # What the parts would log is in the findings.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    refused = False
    try:
        settings = Settings()
        findings = asyncio.run(examine(settings, timeout))
    except ValidationError as error:
        refused = True
        findings = [_refused(problem["loc"], problem["msg"]) for problem in error.errors()]
    worst = {finding.severity for finding in findings}
    bad = Severity.FAILED in worst or (strict and Severity.WARNING in worst)
    if as_json:
        output.print_json({"ok": not bad, "findings": [finding.json() for finding in findings]})
    else:
        _show(findings)
    if refused:
        raise typer.Exit(78)
    raise typer.Exit(1 if bad else 0)


def _refused(setting: tuple[int | str, ...], message: str) -> Finding:
    from orchestrator.doctor.finding import Area, failed

    # An error of several settings together names them in its message.
    name = "_".join(("BATON", *map(str, setting))).upper() if setting else "settings"
    return failed(Area.SETTINGS, f"{name}: {message}", "docs/configure.md says what it takes")


def _show(findings: list[Finding]) -> None:
    from rich.text import Text

    terminal = output.console()
    area = None
    for finding in findings:
        if finding.area is not area:
            area = finding.area
            terminal.print(Text(area.value, style="bold"))
        severity = finding.severity.value
        terminal.print(Text.assemble("  ", (f"{severity:<8}", _COLOURS[severity]), " ", finding.text))
        if finding.advice:
            terminal.print(Text.assemble("           -> ", finding.advice))
    counts = Counter(finding.severity.value for finding in findings)
    terminal.print(f"{counts['failed']} failed, {counts['warning']} warnings, {counts['ok']} ok")
