"""Files that change while a process runs, and the settings that keep ports from being open by accident."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestrator.addresses import is_loopback
from orchestrator.cli.access import ClientAccess, WouldTell
from orchestrator.config import Settings
from orchestrator.embedded.authority import Authority
from orchestrator.security.assemble import links_in_clear
from orchestrator.security.files import LOOK_INTERVAL_S, BadFile, Reloaded
from orchestrator.security.identity import identity_from
from participants.settings import ParticipantSettings
from participants.tls import BadCertificate, Certificates


class Clock:
    """Time that passes when it is told to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_(self) -> None:
        self.now_s += LOOK_INTERVAL_S


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def number(contents: Sequence[bytes]) -> int:
    return int(contents[0])


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file, clock = tmp_path / "f", Clock()
    file.write_text("1")
    reloaded = Reloaded([file], number, clock)
    file.write_text("22")
    assert (reloaded.current(), reloaded.generation) == (1, 1)
    clock.pass_()
    assert (reloaded.current(), reloaded.generation) == (22, 2)
    clock.pass_()
    assert reloaded.generation == 2


def test_what_was_there_before_stays_when_the_file_is_broken_or_gone(tmp_path: Path) -> None:
    file, clock = tmp_path / "f", Clock()
    file.write_text("1")
    reloaded = Reloaded([file], number, clock)
    for change in (lambda: file.write_text("nonsense"), file.unlink):
        change()
        clock.pass_()
        assert (reloaded.current(), reloaded.generation) == (1, 1)
    file.write_text("3")
    clock.pass_()
    assert (reloaded.current(), reloaded.generation) == (3, 2)


def test_a_link_that_is_turned_to_another_file_is_a_change(tmp_path: Path) -> None:
    # As Kubernetes replaces a mounted secret.
    for name, content in (("old", "1"), ("new", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(content)
    link, clock = tmp_path / "now", Clock()
    link.symlink_to("old")
    reloaded = Reloaded([link / "f"], number, clock)
    link.unlink()
    link.symlink_to("new")
    clock.pass_()
    assert reloaded.current() == 2


def test_an_identity_is_changed_only_as_a_whole(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue("a")
    identity = identity_from(authority.ca_file, issued.cert_file, issued.key_file)
    before = identity.current()
    other = authority.issue("a", file_name="b")
    issued.key_file.write_bytes(other.key_file.read_bytes())
    identity._look_at_s = 0.0
    assert identity.current() == before
    issued.cert_file.write_bytes(other.cert_file.read_bytes())
    identity._look_at_s = 0.0
    assert identity.current() != before
    assert isinstance(identity.current().server_context(ssl.CERT_REQUIRED), ssl.SSLContext)


@pytest.mark.parametrize("broken", ["ca", "cert", "key", "pair"])
def test_a_certificate_that_cannot_be_used_is_refused_and_its_file_named(authority: Authority, broken: str) -> None:
    issued = authority.issue("a")
    files = {"ca": authority.ca_file, "cert": issued.cert_file, "key": issued.key_file}
    if broken == "pair":
        issued.key_file.write_bytes(authority.issue("b").key_file.read_bytes())
    else:
        files[broken].write_text("-----BEGIN NONSENSE-----\n")
    with pytest.raises(BadFile, match=re.escape(str(issued.key_file))):
        identity_from(files["ca"], files["cert"], files["key"])
    with pytest.raises(BadCertificate, match=re.escape(str(issued.key_file))):
        Certificates(files["cert"], files["key"], files["ca"])


def test_a_certificate_that_ends_says_when(authority: Authority) -> None:
    issued = authority.issue("a", valid_for=timedelta(hours=5))
    ends = identity_from(authority.ca_file, issued.cert_file, issued.key_file).current().expires_at
    assert ends is not None
    assert timedelta(hours=4) < ends - datetime.now(UTC) <= timedelta(hours=5)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "unix:/run/x"])
def test_what_only_this_machine_reaches(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "replica-1:1", "localhost.evil.example:1"])
def test_what_others_reach_needs_tls_or_an_explicit_word(address: str) -> None:
    assert not is_loopback(address)
    for setting in ("api_listen", "http_listen", "peer_listen"):
        with pytest.raises(ValidationError, match=f"BATON_{setting.upper()}.*BATON_INSECURE_LISTEN=1"):
            Settings(**{setting: address})
        assert Settings(**{setting: address}, insecure_listen=True)
    with pytest.raises(ValidationError, match="PARTICIPANT_INSECURE_LISTEN=1"):
        ParticipantSettings(listen=address)
    assert ParticipantSettings(listen=address, insecure_listen=True)


FILES = {"tls_cert_file": "c", "tls_key_file": "k", "tls_ca_file": "a"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"tls_cert_file": "c"}, "go together"),
        ({"tls_cert_file": "c", "tls_key_file": "k"}, "go together"),
        (FILES, "nobody could call"),
        ({**FILES, "jwks_file": "j", "jwt_issuer": "i"}, "BATON_ACCESS_FILE must name the replicas"),
        ({"jwks_file": "j"}, "BATON_JWKS_FILE and BATON_JWT_ISSUER"),
        ({"jwt_issuer": "i"}, "BATON_JWKS_FILE and BATON_JWT_ISSUER"),
        ({"api_token_listen": "127.0.0.1:1"}, "needs BATON_TLS_CERT_FILE"),
        ({"participant_tls": True}, "need BATON_TLS_CERT_FILE"),
        ({"participant_ca_file": "a"}, "need BATON_TLS_CERT_FILE"),
    ],
)
def test_settings_that_would_leave_a_door_open_or_locked_for_all(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings(**settings)  # type: ignore[arg-type]


def test_with_tls_ports_may_be_reached_from_elsewhere() -> None:
    assert Settings(**FILES, access_file="x", api_listen="0.0.0.0:1")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="PARTICIPANT_TLS_CALLERS"):
        ParticipantSettings(**FILES)  # type: ignore[arg-type]
    assert ParticipantSettings(**FILES, tls_callers="a, b", listen="0.0.0.0:1").callers == ("a", "b")  # type: ignore[arg-type]


def test_a_client_does_not_send_its_token_in_the_clear() -> None:
    access = ClientAccess.of(token="a-token-that-nobody-guesses")
    with pytest.raises(WouldTell, match="in the clear"):
        access.channel("baton.example:7400", ())


@pytest.mark.parametrize(
    ("dsn", "etcd", "said"),
    [
        ("postgresql://127.0.0.1/b", "127.0.0.1:1", 0),
        ("postgresql://db.example/b?sslmode=verify-full", "127.0.0.1:1", 0),
        ("postgresql://db.example/b", "127.0.0.1:1", 1),
        ("postgresql://db.example/b?sslmode=require", "127.0.0.1:1,etcd.example:1", 2),
    ],
)
def test_a_replica_with_a_certificate_says_which_stores_it_reaches_in_the_clear(
    dsn: str, etcd: str, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(**FILES, access_file="x", dsn=dsn, etcd_endpoints=etcd)  # type: ignore[arg-type]
    assert len(links_in_clear(settings)) == said
    assert links_in_clear(Settings(dsn=dsn, etcd_endpoints=etcd)) == ()
