"""What the doctor makes of answers: each thing that can be wrong is found, named, and comes with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.config import Settings
from orchestrator.doctor.ask_etcd import EtcdLook
from orchestrator.doctor.ask_others import judge_members
from orchestrator.doctor.doctor import judge_versions
from orchestrator.doctor.finding import Finding, Severity
from orchestrator.doctor.judge_etcd import EtcdState, MemberStatus, judge_etcd
from orchestrator.doctor.judge_postgres import (
    Room,
    Schema,
    Server,
    judge_room,
    judge_schema,
    judge_server,
    judge_standbys,
)
from orchestrator.doctor.judge_settings import judge_settings
from orchestrator.leadership.port import Member

SERVER = Server(180_000, False, False, "baton", "baton", 0.01, 0.001, True, True, "on", "")
ROOM = Room(90, 100, 1_000_000, 1000, 0, False, 1.0)
SCHEMA = Schema((1, 2), (1, 2), True, True, (), True)
STATUS = MemberStatus("a:1", "", "3.5.21", 1_000_000, 7, 1, 500)
ETCD = EtcdState((STATUS, replace(STATUS, endpoint="b:1"), replace(STATUS, endpoint="c:1")), ("a", "b", "c"))


def worst(findings: list[Finding]) -> Severity:
    order = list(Severity)
    return max((finding.severity for finding in findings), key=order.index)


def said(findings: list[Finding], severity: Severity) -> str:
    bad = [finding for finding in findings if finding.severity is severity]
    assert all(finding.advice for finding in findings if finding.severity is not Severity.OK)
    return "\n".join(finding.text for finding in bad)


def test_a_sound_postgres_gives_nothing_to_do() -> None:
    findings = [*judge_server(SERVER), *judge_room(ROOM, 3, 8), *judge_schema(SCHEMA), *judge_standbys(SERVER, 0, 0)]
    assert worst(findings) is Severity.OK


@pytest.mark.parametrize(
    ("server", "severity", "text"),
    [
        (replace(SERVER, version=140_009), Severity.FAILED, "too old"),
        (replace(SERVER, version=160_002), Severity.WARNING, "transaction_timeout"),
        (replace(SERVER, in_recovery=True), Severity.FAILED, "standby"),
        (replace(SERVER, read_only=True), Severity.FAILED, "default_transaction_read_only"),
        (replace(SERVER, fsync=False), Severity.FAILED, "fsync"),
        (replace(SERVER, full_page_writes=False), Severity.FAILED, "full_page_writes"),
        (replace(SERVER, synchronous_commit="off"), Severity.FAILED, "synchronous_commit"),
        (replace(SERVER, skew_s=-5.0), Severity.WARNING, "differ by 5.0 s"),
        (replace(SERVER, skew_s=3600.0), Severity.FAILED, "differ by 3600.0 s"),
    ],
)
def test_what_is_wrong_with_a_server_is_named(server: Server, severity: Severity, text: str) -> None:
    assert text in said(list(judge_server(server)), severity)


def test_a_clock_is_not_blamed_for_a_slow_answer() -> None:
    assert worst(list(judge_server(replace(SERVER, skew_s=1.5, round_trip_s=3.0)))) is Severity.OK


def test_standbys_that_would_lose_or_hang_commits_are_named() -> None:
    assert "commits hang" in said(
        list(judge_standbys(replace(SERVER, synchronous_standbys="s1"), 0, 0)), Severity.FAILED
    )
    assert "loses the last commits" in said(list(judge_standbys(SERVER, 2, 0)), Severity.WARNING)
    assert worst(list(judge_standbys(SERVER, 1, 1))) is Severity.OK


@pytest.mark.parametrize(
    ("room", "severity", "text"),
    [
        (replace(ROOM, connections_left=0), Severity.FAILED, "all 100 connections"),
        (replace(ROOM, connections_left=10), Severity.WARNING, "10 of 100"),
        (replace(ROOM, wal_kept_bytes=50_000_000_000), Severity.FAILED, "50 GB of WAL"),
        (replace(ROOM, archiver_fails=True), Severity.FAILED, "archived"),
        (replace(ROOM, freeze_age=1_900_000_000), Severity.FAILED, "1,900,000,000"),
        (replace(ROOM, oldest_transaction_s=7300.0), Severity.WARNING, "2 h"),
    ],
)
def test_what_runs_out_is_named(room: Room, severity: Severity, text: str) -> None:
    assert text in said(list(judge_room(room, 3, 8)), severity)


@pytest.mark.parametrize(
    ("schema", "severity", "text"),
    [
        (replace(SCHEMA, applied=(1,)), Severity.FAILED, "1 of 2 migrations"),
        (replace(SCHEMA, applied=(1, 2, 9)), Severity.FAILED, "migration 9"),
        (replace(SCHEMA, may_use=False), Severity.FAILED, "may not use the schema"),
        (replace(SCHEMA, missing_rights=("saga: INSERT",)), Severity.FAILED, "saga: INSERT"),
        (replace(SCHEMA, may_emit=False), Severity.FAILED, "pg_logical_emit_message"),
        (replace(SCHEMA, may_create=False), Severity.WARNING, "later migrations"),
    ],
)
def test_what_is_wrong_with_the_schema_is_named(schema: Schema, severity: Severity, text: str) -> None:
    assert text in said(list(judge_schema(schema)), severity)


def test_a_sound_etcd_gives_nothing_to_do() -> None:
    assert worst(list(judge_etcd(ETCD))) is Severity.OK


def of(**changes: object) -> EtcdState:
    """The sound cluster with one member that differs."""
    return replace(ETCD, statuses=(replace(STATUS, **changes), *ETCD.statuses[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "severity", "text"),
    [
        (of(trouble="refused"), Severity.WARNING, "a:1 does not answer: refused"),
        (replace(ETCD, cluster_trouble="no leader"), Severity.FAILED, "no quorum"),
        (replace(ETCD, alarms=("NOSPACE on a",)), Severity.FAILED, "NOSPACE on a"),
        (replace(ETCD, members=("a", "b", "c", "d")), Severity.WARNING, "4 members"),
        (replace(ETCD, statuses=ETCD.statuses[:1]), Severity.WARNING, "names 1"),
        (replace(ETCD, maintenance_trouble="permission denied"), Severity.WARNING, "permission denied"),
        (of(version="3.4.3"), Severity.FAILED, "3.4.3"),
        (of(version="3.5.1"), Severity.FAILED, "corrupt"),
        (of(version="3.5.9"), Severity.WARNING, "takes leases away"),
        (of(version="3.6.1"), Severity.WARNING, "different versions"),
        (of(leader=0), Severity.FAILED, "no leader"),
        (of(cluster=2), Severity.FAILED, "different clusters"),
        (of(db_bytes=2_000_000_000), Severity.WARNING, "2.0 GB"),
        (of(applied=90_000), Severity.WARNING, "far behind"),
        (of(errors=("disk",)), Severity.FAILED, "a:1: disk"),
    ],
)
def test_what_is_wrong_with_etcd_is_named(state: EtcdState, severity: Severity, text: str) -> None:
    assert text in said(list(judge_etcd(state)), severity)


def member(name: str, version: str = "1") -> Member:
    return Member(name, f"incarnation of {name}", "h:1", "h:2", "h:3", 1, version)


def test_replicas_that_are_missing_differ_or_do_not_lead_are_named() -> None:
    three = tuple(member(name) for name in "abc")
    look = EtcdLook([], three, three[0], answered=True)
    assert worst(list(judge_members(look, "1", (5, "a")))) is Severity.OK
    assert "nobody leads" in said(list(judge_members(replace(look, leader=None), "1", None)), Severity.FAILED)
    assert "the saga log says b" in said(list(judge_members(look, "1", (6, "b"))), Severity.WARNING)
    gone = replace(look, leader=member("z"))
    assert "does not run" in said(list(judge_members(gone, "1", None)), Severity.WARNING)
    assert "nobody can take over" in said(
        list(judge_members(replace(look, members=three[:1]), "1", None)), Severity.WARNING
    )
    assert "no replica runs" in said(list(judge_members(EtcdLook([]), "1", None)), Severity.WARNING)
    mixed = replace(look, members=(*three[:2], member("c", "0")))
    assert "Baton 0" in said(list(judge_members(mixed, "1", None)), Severity.WARNING)


@pytest.mark.parametrize(
    ("changes", "severity", "text"),
    [
        ({"etcd_endpoints": "h:1"}, Severity.WARNING, "one member"),
        (
            {"api_listen": "0.0.0.0:7400", "insecure_listen": True},
            Severity.FAILED,
            "BATON_API_ADVERTISE is 0.0.0.0",
        ),
        ({"peer_advertise": "host:7490"}, Severity.FAILED, "nobody else can connect"),
        ({"input_bytes_max": 5_000_000}, Severity.FAILED, "BATON_INPUT_BYTES_MAX"),
        ({"log_absence_max_s": 4.0}, Severity.WARNING, "BATON_LOG_ABSENCE_MAX_S"),
        ({"beat_timeout_s": 3.0}, Severity.WARNING, "BATON_BEAT_TIMEOUT_S"),
        ({"log_payloads": True}, Severity.WARNING, "BATON_LOG_PAYLOADS"),
        ({"failpoints": "on"}, Severity.FAILED, "BATON_FAILPOINTS"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, object], severity: Severity, text: str) -> None:
    sound = {"etcd_endpoints": "h:1,h:2,h:3", "api_advertise": "", "peer_advertise": ""}
    assert worst(judge_settings(Settings(**sound))) is Severity.OK
    assert text in said(judge_settings(Settings(**{**sound, **changes})), severity)


def test_this_installation_has_what_it_needs() -> None:
    assert worst(judge_versions()) is Severity.OK
