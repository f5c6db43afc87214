"""`baton definition validate` and `schema`: what can be known of a definition before it is applied."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import output
from orchestrator.cli.client import Client
from orchestrator.cli.command import ENDPOINTS_DEFAULT, REFUSED, AsJson, Endpoints, Timeout, call
from orchestrator.cli.errors import CallRefused
from orchestrator.driving.family import Family, Member
from orchestrator.driving.registry import check_offline, member
from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.lint import lint
from orchestrator.saga.parse import locate, parse
from orchestrator.saga.variables import expand

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found in one file."""

    file: Path
    errors: tuple[FieldViolation, ...] = ()
    warnings: tuple[FieldViolation, ...] = ()


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files, one definition each.")],
    descriptors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check requests against what protoc --include_imports -o FILE writes."),
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Let a replica ask the participants as well.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings for errors.")] = False,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    timeout: Timeout = _TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Check definitions and store nothing; without --descriptors or --online, by their text alone.

    Every file is checked, also against those that it runs as children; the exit status is 1 if anything is wrong in one
    of them.
    """
    descriptor_set = b"" if descriptors is None else _read(descriptors, "--descriptors")
    texts = [(file, _read(file, "FILE")) for file in files]
    family = _family([data for _, data in texts], descriptor_set)
    verdicts = [_judged(file, data, descriptor_set, family) for file, data in texts]
    if online:
        verdicts = call(endpoint, timeout, lambda client: _online(client, verdicts, descriptor_set))
    for verdict in verdicts:
        _say(verdict, as_json)
    if any(verdict.errors or (strict and verdict.warnings) for verdict in verdicts):
        raise typer.Exit(REFUSED)


def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    typer.echo((package_files("orchestrator.saga") / "definition.schema.json").read_text(encoding="utf-8").rstrip("\n"))


def said(file: Path, violation: FieldViolation) -> str:
    """One line about a file as compilers write it: `order.yaml:7: step ship: steps[1].service: is missing`."""
    line = f":{violation.line}" if violation.line else ""
    step = f"step {violation.step}: " if violation.step else ""
    field = f"{violation.field}: " if violation.field else ""
    return f"{file}{line}: {step}{field}{violation.description}"


def complaints(file: Path, error: Rejected) -> list[str]:
    """The lines about everything that is wrong with a file."""
    return [said(file, violation) for violation in error.violations] or [f"{file}: {error}"]


def _family(texts: Sequence[bytes], descriptor_set: bytes) -> Family:
    """The definitions of all files, as the newest of their names; not those that two files define."""
    found: dict[str, list[Member]] = {}
    for data in texts:
        with suppress(Rejected, UnicodeDecodeError):
            definition = parse(expand(data.decode("utf-8"), os.environ))
            found.setdefault(definition.name, []).append(member(definition, descriptor_set))
    return {(name, 0): members[0] for name, members in found.items() if len(members) == 1}


def _judged(file: Path, data: bytes, descriptor_set: bytes, family: Family) -> _Verdict:
    try:
        text = expand(data.decode("utf-8"), os.environ)
        definition = parse(text)
        found = lint(definition)
        errors, warnings = locate(text, found.errors), locate(text, found.warnings)
        try:
            check_offline(definition, descriptor_set, family)
        except Rejected as error:
            errors += locate(text, error.violations)
        return _Verdict(file, errors, warnings)
    except UnicodeDecodeError as error:
        return _Verdict(file, (FieldViolation("", f"is not UTF-8 text: {error}"),))
    except Rejected as error:
        return _Verdict(file, error.violations)


async def _online(client: Client, verdicts: list[_Verdict], descriptor_set: bytes) -> list[_Verdict]:
    """What a replica says of the files in which nothing is wrong so far."""
    judged = []
    for verdict in verdicts:
        if verdict.errors:
            judged.append(verdict)
            continue
        text = expand(verdict.file.read_text(encoding="utf-8"), os.environ)
        try:
            await client.check_definition(text, file_name=verdict.file.name, descriptor_set=descriptor_set)
        except CallRefused as error:
            found = error.violations or (FieldViolation("", error.message),)
            judged.append(_Verdict(verdict.file, found, verdict.warnings))
        else:
            judged.append(verdict)
    return judged


def _say(verdict: _Verdict, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "file": str(verdict.file),
                "valid": not verdict.errors,
                "errors": [_json(violation) for violation in verdict.errors],
                "warnings": [_json(violation) for violation in verdict.warnings],
            }
        )
        return
    output.complain(*(said(verdict.file, violation) for violation in verdict.errors))
    output.warn(*(said(verdict.file, violation) for violation in verdict.warnings))
    if not verdict.errors:
        output.console().print(f"{verdict.file} is valid")


def _json(violation: FieldViolation) -> dict[str, object]:
    return {
        "line": violation.line,
        "step": violation.step,
        "field": violation.field,
        "description": violation.description,
    }


def _read(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint=option) from None
