"""`baton definition`: apply, list and get definitions; the other commands stand in their own modules."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import definition_check, definition_versions, holds, output
from orchestrator.cli.client import Client
from orchestrator.cli.command import ENDPOINTS_DEFAULT, REFUSED, AsJson, Endpoints, call
from orchestrator.cli.errors import CallRefused
from orchestrator.errors import FieldViolation, Rejected
from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.saga.variables import expand

_TIMEOUT_S = 30.0

app = typer.Typer(help="Apply definitions of sagas, and look at them.", no_args_is_help=True)
app.command()(definition_check.validate)
app.command()(definition_check.schema)
app.command()(definition_versions.diff)
app.command()(definition_versions.retire)
app.command()(definition_versions.reinstate)
app.command()(holds.release)
app.command()(holds.held)


@app.command()
def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML files, one definition each.")],
    descriptors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What protoc --include_imports -o FILE writes; default: reflection."),
    ] = None,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Check definitions and store each as an immutable version; ${NAME:-default} is filled in from the environment.

    Every file is tried; the exit status is 1 if any was refused.
    """
    descriptor_set = b"" if descriptors is None else _read(descriptors, "--descriptors")
    texts = [(file, _read(file, "FILE")) for file in files]
    refused = call(endpoint, _TIMEOUT_S, lambda client: _apply_all(client, texts, descriptor_set, as_json))
    if refused:
        raise typer.Exit(REFUSED)


async def _apply_all(client: Client, texts: list[tuple[Path, bytes]], descriptor_set: bytes, as_json: bool) -> int:
    """How many of the files were refused; what came of each is printed."""
    refused = 0
    for file, text in texts:
        try:
            yaml = expand(text.decode("utf-8"), os.environ)
            answer = await client.apply_definition(yaml, file_name=file.name, descriptor_set=descriptor_set)
        except UnicodeDecodeError as error:
            refused += 1
            output.complain(f"{file}: is not UTF-8 text: {error}")
        except Rejected as error:
            refused += 1
            output.complain(*definition_check.complaints(file, error))
        except CallRefused as error:
            refused += 1
            lines = [definition_check.said(file, violation) for violation in error.violations]
            output.complain(*lines or [f"{file}: {error.message}"])
        else:
            _say_applied(file, answer, as_json)
    return refused


def _say_applied(file: Path, answer: saga_pb2.ApplyDefinitionResponse, as_json: bool) -> None:
    definition = answer.definition
    if as_json:
        found = {"existing": answer.existing, "warnings": list(answer.warnings)}
        output.print_json({"file": str(file), **_json(definition), **found})
    else:
        output.warn(*(definition_check.said(file, FieldViolation.of_told(warning)) for warning in answer.warnings))
        what = "is there already as" if answer.existing else "is now"
        output.console().print(f"{file} {what} {definition.name} version {definition.version}")


@app.command("list")
def list_(endpoint: Endpoints = ENDPOINTS_DEFAULT, as_json: AsJson = False) -> None:
    """List all versions of all definitions."""
    listed, retired = call(endpoint, _TIMEOUT_S, _list)
    if as_json:
        output.print_json([{**_json(d), "retired": _reason(d, retired) or None} for d in listed])
        return
    rows = (
        (d.name, str(d.version), output.when(d.created_at), d.content_hash[:12], _reason(d, retired)) for d in listed
    )
    output.table(("NAME", "VERSION", "APPLIED", "CONTENT", "RETIRED"), rows)


async def _list(client: Client) -> tuple[list[saga_pb2.Definition], dict[tuple[str, int], str]]:
    """All versions, and why which of them are retired; version 0 stands for all of a name."""
    retired = {(entry.name, entry.version): entry.reason for entry in await client.list_retirements()}
    return await client.list_definitions(), retired


def _reason(definition: saga_pb2.Definition, retired: dict[tuple[str, int], str]) -> str:
    name = definition.name
    return retired.get((name, definition.version)) or retired.get((name, 0)) or ""


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="The definition's name.")],
    version: Annotated[int, typer.Option(min=0, help="0 is the newest.")] = 0,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Print a definition as it was stored."""
    definition = call(endpoint, _TIMEOUT_S, lambda client: client.get_definition(name, version))
    if as_json:
        output.print_json({**_json(definition), "yaml": definition.yaml})
    else:
        typer.echo(f"# {definition.name} version {definition.version}, {output.when(definition.created_at)}")
        typer.echo(definition.yaml.rstrip("\n"))


def _json(definition: saga_pb2.Definition) -> dict[str, object]:
    return {
        "name": definition.name,
        "version": definition.version,
        "content_hash": definition.content_hash,
        "created_at": output.iso(definition.created_at),
    }


def _read(file: Path, option: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint=option) from None
