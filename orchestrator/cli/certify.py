"""`baton certify`: tries a participant's action and compensation as faults would, and says whether they are safe.

Exit status: 0 safe, 1 not safe, 2 wrong usage, 3 the participant (or, with --record, no replica) answered.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.text import Text

from orchestrator.certify.certificate import Certificate, certificate_of
from orchestrator.certify.certify import Plan, certify
from orchestrator.certify.findings import ABOUT, CannotCertify, Report, Verdict
from orchestrator.certify.template import Template, parse
from orchestrator.cli import output
from orchestrator.cli.access import chosen
from orchestrator.cli.command import (
    ENDPOINTS_DEFAULT,
    REFUSED,
    UNAVAILABLE,
    AsJson,
    Endpoints,
    call,
)
from orchestrator.errors import BatonError, Retryable
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.security.files import BadFile

_TIMEOUT_S = 30.0

_SHOWN = {
    Verdict.PASSED: Text("passed", style="green"),
    Verdict.WARNED: Text("warning", style="yellow"),
    Verdict.FAILED: Text("FAILED", style="bold red"),
    Verdict.NOT_CHECKED: Text("not checked", style="cyan"),
}


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("certify")(certify_command)
    app.command("certificates")(certificates_command)


def certify_command(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The participant, as definitions name it.")],
    action: Annotated[str, typer.Option(metavar="PKG.SERVICE/METHOD", help="The method that does the step.")],
    compensation: Annotated[str, typer.Option(metavar="PKG.SERVICE/METHOD", help="The method that undoes it.")],
    request: Annotated[
        str,
        typer.Option(metavar="JSON|FILE", help="The action's request; $ID in it becomes an id of each case's own."),
    ],
    compensation_request: Annotated[
        str | None,
        typer.Option(metavar="JSON|FILE", help="The compensation's; $RESULT.field is what the action answered."),
    ] = None,
    status: Annotated[
        str, typer.Option(metavar="PKG.SERVICE/METHOD", help="The method that says what has become of the action.")
    ] = "",
    status_request: Annotated[
        str | None, typer.Option(metavar="JSON|FILE", help="Its request; default: that of the action.")
    ] = None,
    observe: Annotated[
        str, typer.Option(metavar="PKG.SERVICE/METHOD", help="A read, such as totals, that shows effects.")
    ] = "",
    observe_request: Annotated[str, typer.Option(metavar="JSON|FILE", help="Its request.")] = "{}",
    crash_command: Annotated[
        str, typer.Option(metavar="COMMAND", help="Kills the participant and starts it again, for the crash check.")
    ] = "",
    no_effect: Annotated[
        bool, typer.Option("--no-effect", help="The pair changes nothing anywhere: skip what only effects need.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="The longest wait for one call.")] = 5.0,
    patience: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How long a call that says nothing yet is repeated.")
    ] = 15.0,
    record: Annotated[bool, typer.Option("--record", help="Store the certificate in the cluster.")] = False,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the certificate to a file, as JSON.")
    ] = None,
    participant_ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Authority of the participant's certificate, where it is not --ca-file's."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The participant is called in the clear, whatever the API is.")
    ] = False,
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Find out whether a participant's method pair is safe: duplicates, late calls, races, old leaders, crashes.

    It makes real calls under sagas of its own: run it where orders may be made, and see that the request succeeds. With
    `baton --ca-file FILE --cert-file FILE --key-file FILE certify` they go over TLS, by a certificate that may call it.
    """
    if plain and participant_ca_file is not None:
        raise typer.BadParameter("an authority is for TLS", param_hint="--plain, --participant-ca-file")
    plan = Plan(
        address=address,
        action=_path(action, "--action"),
        compensation=_path(compensation, "--compensation"),
        request=_template(request, "--request"),
        compensation_request=None
        if compensation_request is None
        else _template(compensation_request, "--compensation-request"),
        status=_path(status, "--status") if status else "",
        status_request=None if status_request is None else _template(status_request, "--status-request"),
        observe=_path(observe, "--observe") if observe else "",
        observe_request=_template(observe_request, "--observe-request").fill("certify"),
        crash_command=crash_command,
        effect=not no_effect,
        timeout_s=timeout,
        patience_s=patience,
        dialer=PLAIN if plain else _dialer(participant_ca_file),
    )
    report = _certify(plan)
    issued = certificate_of(report, datetime.now(UTC))
    if certificate is not None:
        _write(certificate, issued)
    _say(report, as_json)
    if record:
        call(endpoint, _TIMEOUT_S, lambda client: client.record_certificate(issued.to_json()))
        if not as_json:
            output.console().print("recorded in the cluster: see `baton certificates`")
    if not report.safe:
        raise typer.Exit(REFUSED)


def certificates_command(
    participant: Annotated[str, typer.Option(metavar="HOST:PORT", help="Only of this address.")] = "",
    endpoint: Endpoints = ENDPOINTS_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List the newest certificate of each method pair that was certified with --record."""
    texts = call(endpoint, _TIMEOUT_S, lambda client: client.list_certificates(participant))
    listed = [Certificate.from_json(text) for text in texts]
    if as_json:
        output.print_json([orjson.loads(c.to_json()) for c in listed])
        return
    rows = (
        (
            c.participant,
            c.action,
            c.compensation,
            Text("safe", style="green") if c.safe else Text("UNSAFE", style="bold red"),
            c.at.astimezone().isoformat(sep=" ", timespec="seconds"),
            c.contract_hash[:12],
        )
        for c in listed
    )
    output.table(("PARTICIPANT", "ACTION", "COMPENSATION", "VERDICT", "AT", "CONTRACT"), rows)


def _dialer(ca_file: Path | None) -> Dialer:
    try:
        return chosen().to_participants(ca_file)
    except BadFile as error:
        output.complain(str(error))
        raise typer.Exit(REFUSED) from None


def _certify(plan: Plan) -> Report:
    try:
        return asyncio.run(certify(plan))
    except Retryable as error:
        output.complain(str(error))
        raise typer.Exit(UNAVAILABLE) from None
    except BatonError as error:
        output.complain(str(error))
        raise typer.Exit(REFUSED) from None


def _say(report: Report, as_json: bool) -> None:
    if as_json:
        output.print_json(report.as_json())
        return
    rows = ((f.check.value, f.form, _SHOWN[f.verdict], f.text or ABOUT[f.check]) for f in report.findings)
    output.table(("CHECK", "CALLED", "VERDICT", "FOUND"), rows)
    failed = sum(finding.verdict is Verdict.FAILED for finding in report.findings)
    unchecked = sorted({f.check.value for f in report.findings if f.verdict is Verdict.NOT_CHECKED})
    pair = f"{report.action} with {report.compensation} at {report.participant}"
    console = output.console()
    if unchecked:
        console.print(f"not checked: {', '.join(unchecked)}")
    if report.safe:
        console.print(Text.assemble(("SAFE", "bold green"), f": {pair}, as far as it was checked"))
    else:
        console.print(Text.assemble(("NOT SAFE", "bold red"), f": {pair}: {failed} failed"))


def _path(text: str, option: str) -> str:
    service, _, name = text.lstrip("/").rpartition("/")
    if not service or not name:
        raise typer.BadParameter(f"{text!r} is not pkg.Service/Method", param_hint=option)
    return f"/{service}/{name}"


def _template(text: str, option: str) -> Template:
    """The template of an option that is JSON itself, or names a file of JSON."""
    try:
        if not text.lstrip().startswith(("{", "[", '"')):
            text = Path(text).read_text(encoding="utf-8")
        return parse(text, option)
    except OSError as error:
        raise typer.BadParameter(f"{text}: {os.strerror(error.errno or 0)}", param_hint=option) from None
    except (UnicodeDecodeError, CannotCertify) as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _write(file: Path, certificate: Certificate) -> None:
    try:
        file.write_text(certificate.to_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--certificate") from None
