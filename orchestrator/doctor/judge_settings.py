"""What can be said of a replica's settings without asking anybody, beyond what makes it refuse to start.

Pure: no I/O.
"""

from __future__ import annotations

from ipaddress import ip_address

from orchestrator.config import Settings
from orchestrator.doctor.finding import Area, Finding, failed, ok, warning

_NOWHERE = ("0.0.0.0", "::")


def judge_settings(settings: Settings) -> list[Finding]:
    """Findings on the settings of one replica."""
    found = [*_etcd(settings), *_addresses(settings), *_bounds(settings), *_drills(settings)]
    return found or [
        ok(Area.SETTINGS, f"replica {settings.replica!r} of cluster {settings.cluster!r}, in themselves sound")
    ]


def _etcd(settings: Settings) -> list[Finding]:
    members = len(settings.etcd_addresses)
    if members == 1:
        text = "BATON_ETCD_ENDPOINTS names one member of etcd: without it nobody can take over"
        return [warning(Area.SETTINGS, text, "run three members, and name them all")]
    return []


def _addresses(settings: Settings) -> list[Finding]:
    found = []
    for name in ("api", "http", "peer"):
        listen, advertised = getattr(settings, f"{name}_listen"), getattr(settings, f"{name}_advertise")
        variable = f"BATON_{name.upper()}_ADVERTISE"
        if _host(advertised) in _NOWHERE:
            text = f"{variable} is {advertised}: that is no address under which anybody can reach this replica"
            found.append(failed(Area.SETTINGS, text, f"set {variable} to this machine's name or address"))
        elif _is_loopback(_host(listen)) and not _is_loopback(_host(advertised)):
            text = f"BATON_{name.upper()}_LISTEN is {listen}, but {variable} is {advertised}: nobody else can connect"
            found.append(failed(Area.SETTINGS, text, f"set BATON_{name.upper()}_LISTEN to 0.0.0.0:PORT"))
    return found


def _bounds(settings: Settings) -> list[Finding]:
    found = []
    if settings.input_bytes_max > settings.message_bytes_max:
        text = (
            f"BATON_INPUT_BYTES_MAX ({settings.input_bytes_max:,}) is larger than a message may be "
            f"(BATON_MESSAGE_BYTES_MAX, {settings.message_bytes_max:,})"
        )
        found.append(failed(Area.SETTINGS, text, "raise BATON_MESSAGE_BYTES_MAX, or lower the other"))
    if settings.log_absence_max_s <= settings.log_timeout_s:
        text = (
            f"BATON_LOG_ABSENCE_MAX_S ({settings.log_absence_max_s:g}) is not longer than one statement may take "
            f"(BATON_LOG_TIMEOUT_S, {settings.log_timeout_s:g}): a leader resigns at its first slow statement"
        )
        found.append(warning(Area.SETTINGS, text, "raise BATON_LOG_ABSENCE_MAX_S above BATON_LOG_TIMEOUT_S"))
    if settings.beat_timeout_s >= settings.lease_ttl_s:
        text = "BATON_BEAT_TIMEOUT_S is not shorter than BATON_LEASE_TTL_S: a frozen leader is found by its lease alone"
        found.append(warning(Area.SETTINGS, text, "lower BATON_BEAT_TIMEOUT_S; 0.5 is the default"))
    if settings.log_payloads:
        text = "BATON_LOG_PAYLOADS is on: what sagas carry stands in the logs"
        found.append(warning(Area.SETTINGS, text, "turn it off where logs are read by others than the data's owners"))
    return found


def _drills(settings: Settings) -> list[Finding]:
    if not settings.failpoints:
        return []
    text = "BATON_FAILPOINTS is set: whoever reaches the HTTP port can make this replica crash"
    return [failed(Area.SETTINGS, text, "unset it; it is for drills alone")]


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
