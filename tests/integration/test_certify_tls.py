"""`baton certify` against a participant that speaks TLS, by the options that every command takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.embedded.authority import Authority, Certificate
from tests.integration.test_participants_processes import START_MAX_S, Launcher

_PAIR = ("--action", "shop.v1.EchoService/Do", "--compensation", "shop.v1.EchoService/Undo")
_CALLS = (*_PAIR, "--request", '{"text": "$ID"}', "--no-effect", "--patience", "1", "--timeout", "30")


class Secured:
    """An echo that lets one name call, with two authorities: callers', and its own."""

    def __init__(self, folder: Path, launcher: Launcher) -> None:
        self.callers, self.servers = Authority(folder / "callers"), Authority(folder / "servers")
        own = self.servers.issue("echo")
        process, port = launcher.start(
            "echo",
            tls_cert_file=str(own.cert_file),
            tls_key_file=str(own.key_file),
            tls_ca_file=str(self.callers.ca_file),
            tls_callers="certifier",
        )
        self.address = f"127.0.0.1:{port}"
        process.wait_until(lambda: "participant serves" in process.log_path.read_text(), "does not serve", START_MAX_S)

    def certify(self, *before: object, after: tuple[object, ...] = ()) -> tuple[int, str]:
        """The exit status of the command, and what it says."""
        result = CliRunner().invoke(app, [*map(str, before), "certify", self.address, *_CALLS, *map(str, after)])
        return result.exit_code, result.output


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    launcher = Launcher(folder)
    yield Secured(folder, launcher)
    launcher.close()


def shown(certificate: Certificate) -> tuple[object, ...]:
    return ("--cert-file", certificate.cert_file, "--key-file", certificate.key_file)


def test_a_certificate_that_may_call_certifies_over_every_way_of_calling(secured: Secured) -> None:
    own = shown(secured.callers.issue("certifier"))
    # As where one authority is for all: the participant's.
    status, said = secured.certify("--ca-file", secured.servers.ca_file, *own)
    assert status == 0, said
    assert "SAFE" in said
    assert {"unary", "stream"} <= set(said.split())
    # And where the API's is another one.
    after = ("--participant-ca-file", secured.servers.ca_file)
    status, said = secured.certify("--ca-file", secured.callers.ca_file, *own, after=after)
    assert status == 0, said


def test_whoever_may_not_call_is_told_so(secured: Secured) -> None:
    status, said = secured.certify("--ca-file", secured.servers.ca_file, *shown(secured.callers.issue("somebody")))
    assert status == 1
    assert "a certificate for somebody" in said
    own = shown(secured.callers.issue("certifier"))
    for before, after in (
        (("--ca-file", secured.servers.ca_file), ()),
        (("--ca-file", secured.callers.ca_file, *own), ()),
        (("--ca-file", secured.servers.ca_file, *own), ("--plain",)),
        ((), ()),
    ):
        status, said = secured.certify(*before, after=after)
        assert status == 3, said
        assert secured.address in said


def test_options_that_do_not_go_together_are_refused(secured: Secured, tmp_path: Path) -> None:
    status, said = secured.certify(after=("--plain", "--participant-ca-file", secured.servers.ca_file))
    assert status == 2
    assert "an authority is for TLS" in said
    status, said = secured.certify(after=("--participant-ca-file", tmp_path / "none.pem"))
    assert status == 1
    assert "none.pem" in said
