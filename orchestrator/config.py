"""All settings of a replica, with their defaults, the reasons for them, and the relations between them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestrator.addresses import is_loopback, require_address, require_collector
from orchestrator.failpoints.terms import BadTerms, parse_all


class Settings(BaseSettings):
    """Settings of one replica, read from the environment with the prefix `BATON_`.

    Raises pydantic's ValidationError, which names every setting that is wrong, when the values do not fit together.
    """

    model_config = SettingsConfigDict(env_prefix="BATON_", extra="ignore")

    cluster: str = Field("baton", pattern=r"^[A-Za-z0-9._-]+$", description="Replicas of one name form one cluster.")
    replica: str = Field(
        default_factory=socket.gethostname,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="The id of this replica, unique in its cluster. Default: the host's name.",
    )
    shard: int = Field(0, ge=0, description="The shard of sagas that this replica campaigns for.")

    etcd_endpoints: str = Field("127.0.0.1:2379", description="Comma list of host:port, all members of etcd.")
    etcd_user: str = Field("", description="User for etcd's own authentication; empty: none.")
    etcd_password: str = Field("", repr=False, description="Password of that user.")
    etcd_ca_file: Path | None = Field(
        None, description="PEM file of the authority of etcd's certificates: turns TLS on."
    )
    etcd_cert_file: Path | None = Field(None, description="PEM file of this replica's certificate towards etcd.")
    etcd_key_file: Path | None = Field(None, description="PEM file of the key of that certificate.")

    dsn: str = Field(
        "postgresql://127.0.0.1:5432/baton", repr=False, description="Postgres of the saga log, as a libpq URL."
    )
    log_pool_max: int = Field(8, ge=1, description="Connections for reads and starts, beside the leader's own writer.")

    api_listen: str = Field("127.0.0.1:7400", description="host:port of the gRPC API.")
    api_advertise: str = Field(
        "", description="host:port under which clients and replicas reach the API; default: listen."
    )
    http_listen: str = Field("127.0.0.1:7480", description="host:port of /metrics, /healthz, /readyz and /leaderz.")
    http_advertise: str = Field("", description="host:port under which others reach the HTTP port; default: listen.")
    peer_listen: str = Field("127.0.0.1:7490", description="host:port where standbys watch this replica's heartbeat.")
    peer_advertise: str = Field("", description="host:port under which the other replicas reach the peer port.")

    tls_cert_file: Path | None = Field(
        None,
        description="PEM file of this replica's certificate, with its chain, for the API, HTTP and peer ports, towards "
        "other replicas and participants. Read again when it changes, like all files below.",
    )
    tls_key_file: Path | None = Field(None, description="PEM file of the key of that certificate, not encrypted.")
    tls_ca_file: Path | None = Field(
        None, description="PEM file of the authority whose certificates callers and other replicas must show."
    )
    tls_replica_name: str = Field(
        "",
        description="The name that the certificates of other replicas must be for, where they are reached by addresses "
        "that stand in no certificate, such as those of pods; default: the host of their address.",
    )
    insecure_listen: bool = Field(
        False,
        description="Listen beyond this machine without TLS: only on a network where everybody may do everything.",
    )
    access_file: Path | None = Field(
        None, description="YAML file of callers and their rights. Without it and a key set nobody is asked who he is."
    )
    jwks_file: Path | None = Field(None, description="JWKS file of the keys that sign bearer tokens (JWT).")
    jwt_issuer: str = Field("", description="The `iss` that those tokens must have.")
    jwt_audience: str = Field("baton", min_length=1, description="The `aud` that those tokens must have.")
    api_token_listen: str = Field(
        "",
        description="host:port of a second API port, for callers with a bearer token and no certificate; empty: none.",
    )
    caller_calls_per_s: float = Field(
        20_000, ge=0, description="Calls a second of one caller, on each replica; 0: no limit."
    )
    caller_calls: int = Field(
        10_000, ge=0, description="Calls of one caller under way at once, on each replica; 0: no limit."
    )
    caller_streams: int = Field(
        1_000, ge=0, description="Streams of one caller open at once, on each replica; 0: no limit."
    )
    participant_tls: bool | None = Field(
        None, description="Whether participants are called over TLS; default: if this replica has a certificate."
    )
    participant_ca_file: Path | None = Field(
        None, description="PEM file of the authority of participants' certificates; default: BATON_TLS_CA_FILE."
    )
    participant_plain: str = Field(
        "", description="Comma list of host:port of participants that are called in the clear nevertheless."
    )

    definitions_dir: Path | None = Field(None, description="Folder of *.yaml definitions that are applied at start.")

    lease_ttl_s: int = Field(
        2, ge=1, description="Lease in etcd, whole seconds; etcd grants no less than 1.5 elections."
    )
    lease_margin_s: float = Field(0.2, gt=0, description="Taken off the lease for the clocks' different speeds.")
    renew_interval_s: float = Field(0.4, gt=0, description="Time between two renewals of the lease.")
    beat_interval_s: float = Field(
        0.1, gt=0, description="Time between two beats that the leader sends to the standbys."
    )
    beat_timeout_s: float = Field(
        0.5, gt=0, description="Silence after which a standby looks whether the leader is frozen."
    )
    loop_stall_max_s: float = Field(
        1.5, gt=0, description="A main loop that stalls longer is not vouched for: no renewal."
    )

    log_timeout_s: float = Field(5.0, gt=0, description="Longest wait for one statement on Postgres.")
    log_absence_max_s: float = Field(
        8.0,
        gt=0,
        description="A leader that could write nothing for so long resigns; longer than a restart of Postgres.",
    )
    fence_wait_max_s: float = Field(
        0.2, gt=0, description="Wait for the fence row before the writer of an older epoch is disconnected."
    )
    log_batch_max: int = Field(
        4000, ge=1, description="Transitions in one commit at the most; 1 turns group commit off."
    )

    sagas_max: int = Field(10_000, ge=1, description="Sagas driven at once; the rest wait in Postgres.")
    calls_max: int = Field(128, ge=1, le=1000, description="Calls in flight for each participant address.")
    multiplexed: bool = Field(
        True, description="Use the stream that carries many calls, where a participant offers it."
    )
    recovery_page: int = Field(
        500, ge=1, description="Sagas read at a time at takeover: bounds the memory of the scan."
    )
    stop_grace_s: float = Field(
        5.0, ge=0, description="On SIGTERM, so long calls of clients that are under way may take to be answered."
    )
    poll_interval_s: float = Field(
        1.0, gt=0, description="Look for pending sagas at least so often, if no NOTIFY came."
    )

    pending_max: int = Field(
        100_000, ge=0, description="No new sagas are taken while more wait to be begun; 0: however many."
    )
    pending_age_max_s: float = Field(
        300.0, ge=0, description="No new sagas are taken while the oldest has waited longer to be begun; 0: no limit."
    )
    intake_queue_max: int = Field(
        5_000, ge=0, le=20_000, description="No new sagas are taken while more starts wait for a commit; 0: 20,000."
    )
    commit_max_s: float = Field(
        1.0, ge=0, description="No new sagas are taken while three commits in a row take longer; 0: no limit."
    )
    write_absence_max_s: float = Field(
        5.0, ge=0, description="No new sagas are taken when Postgres has taken no write for longer; 0: no limit."
    )
    memory_bytes_max: int = Field(
        0, ge=0, description="No new sagas are taken while this process holds more; 0: 85 % of its container's limit."
    )
    reopen_share: float = Field(
        0.8,
        gt=0,
        le=1,
        description="New sagas are taken again when what was too much is this share of its limit.",
    )

    input_bytes_max: int = Field(1_000_000, ge=1, description="Largest input of a saga, in bytes of JSON.")
    message_bytes_max: int = Field(4_000_000, ge=1, description="Largest gRPC message that is sent or accepted.")
    reply_bytes_max: int = Field(1_000_000, ge=1, description="Largest reply of a participant, in bytes of JSON.")

    retention_after_s: float = Field(
        0.0, ge=0, description="Finished sagas leave the log so long after their end; 0 keeps them for ever."
    )
    retention_mode: Literal["archive", "delete"] = Field(
        "archive", description="Whether what leaves the log is archived first, or gone."
    )
    retention_dir: Path | None = Field(
        None, description="Folder of this replica for the archive's JSON lines; the leader of the day writes them."
    )
    retention_batch: int = Field(
        200, ge=1, le=5000, description="Sagas removed by one statement: the fence is held so long."
    )
    retention_interval_s: float = Field(60.0, gt=0, description="Pause between two looks for sagas that are due.")
    retention_margin_s: float = Field(
        3600.0,
        gt=0,
        description="How far replicas' clocks may be apart, and how late a call may still reach a participant: the "
        "watermark up to which participants forget trails by it.",
    )
    events_broker: str = Field(
        "",
        repr=False,
        description="Comma list of nats:// or tls:// URLs of a NATS server with JetStream, with user and password or "
        "token if need be: the leader publishes every event there. Empty: no relay.",
    )
    events_stream: str = Field(
        "BATON", pattern=r"^[A-Za-z0-9_-]+$", description="The JetStream stream; made if there is none of this name."
    )
    events_subject: str = Field(
        "baton.events",
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        description="What the subjects of events begin with; definition and type follow.",
    )
    events_ca_file: Path | None = Field(None, description="PEM file of the authority of the broker's certificate.")
    events_payloads: bool = Field(
        False, description="Publish participants' replies and error messages, too. They may hold secrets."
    )
    events_page: int = Field(500, ge=1, le=5000, description="Events that are on their way to the broker at once.")
    events_timeout_s: float = Field(5.0, gt=0, description="Longest wait for the broker before events are repeated.")

    log_format: Literal["console", "json"] = Field("console", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")

    log_transitions: bool = Field(
        True, description="Log one event for each transition of a saga that this leader has written."
    )
    log_payloads: bool = Field(
        False, description="Log the inputs of sagas and the replies of participants with them; they may be private."
    )

    tracing_endpoint: str = Field(
        "",
        description="Collector that traces are sent to by OTLP over gRPC, such as http://127.0.0.1:4317, or https:// "
        "with TLS; empty: nothing is traced. Needs `pip install 'baton[tracing]'`.",
    )
    tracing_sample: float = Field(
        1.0, ge=0, le=1, description="Share of the sagas that are traced, chosen by their id."
    )

    failpoints: str = Field(
        "",
        description="For drills alone: failpoints to arm, as `name=terms; name=terms`; `on` arms none. When set, the "
        "HTTP port, which asks nobody who he is, lets everybody arm more.",
    )

    @field_validator("etcd_endpoints")
    @classmethod
    def _endpoints(cls, value: str) -> str:
        for endpoint in value.split(","):
            require_address(endpoint.strip(), allow_empty=False)
        return value

    @field_validator(
        *("api_listen", "http_listen", "peer_listen", "api_advertise", "http_advertise", "peer_advertise"),
        "api_token_listen",
    )
    @classmethod
    def _address(cls, value: str) -> str:
        require_address(value, allow_empty=True)
        return value

    @field_validator("events_broker")
    @classmethod
    def _broker(cls, value: str) -> str:
        for url in filter(None, value.split(",")):
            if not url.strip().startswith(("nats://", "tls://")):
                raise ValueError("each broker is a nats:// or tls:// URL, such as nats://127.0.0.1:4222")
        return value

    @field_validator("tracing_endpoint")
    @classmethod
    def _collector(cls, value: str) -> str:
        if value:
            require_collector(value)
        return value

    @field_validator("failpoints")
    @classmethod
    def _failpoints(cls, value: str) -> str:
        try:
            parse_all(value)
        except BadTerms as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _advertise_defaults(self) -> Self:
        self.api_advertise = self.api_advertise or self.api_listen
        self.http_advertise = self.http_advertise or self.http_listen
        self.peer_advertise = self.peer_advertise or self.peer_listen
        return self

    @model_validator(mode="after")
    def _relations(self) -> Self:
        deadline_s = self.lease_ttl_s - self.lease_margin_s
        if self.renew_interval_s * 2 > deadline_s:
            raise ValueError(
                f"BATON_RENEW_INTERVAL_S={self.renew_interval_s} leaves no room for a second try within the lease "
                f"(BATON_LEASE_TTL_S - BATON_LEASE_MARGIN_S = {deadline_s} s): at most {deadline_s / 2}"
            )
        if self.beat_interval_s * 2 > self.beat_timeout_s:
            raise ValueError("BATON_BEAT_TIMEOUT_S must be at least twice BATON_BEAT_INTERVAL_S")
        if self.retention_after_s and self.retention_mode == "archive" and self.retention_dir is None:
            raise ValueError(
                "BATON_RETENTION_AFTER_S removes sagas, and BATON_RETENTION_MODE=archive wants a folder for them: set "
                "BATON_RETENTION_DIR, or BATON_RETENTION_MODE=delete"
            )
        if bool(self.etcd_cert_file) != bool(self.etcd_key_file):
            raise ValueError("BATON_ETCD_CERT_FILE and BATON_ETCD_KEY_FILE go together")
        if bool(self.etcd_user) != bool(self.etcd_password):
            raise ValueError("BATON_ETCD_USER and BATON_ETCD_PASSWORD go together")
        return self

    @model_validator(mode="after")
    def _secure_unless_told_otherwise(self) -> Self:
        files = (self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
        if any(files) and not all(files):
            raise ValueError("BATON_TLS_CERT_FILE, BATON_TLS_KEY_FILE and BATON_TLS_CA_FILE go together")
        asks = self.access_file is not None or self.jwks_file is not None
        if any(files) and not asks:
            raise ValueError(
                "BATON_TLS_CERT_FILE is set, and nobody could call: say who may in BATON_ACCESS_FILE or BATON_JWKS_FILE"
            )
        if any(files) and self.access_file is None:
            raise ValueError("BATON_ACCESS_FILE must name the replicas' own certificates, with the role replica")
        if (self.jwks_file is None) != (not self.jwt_issuer):
            raise ValueError("BATON_JWKS_FILE and BATON_JWT_ISSUER go together")
        if self.api_token_listen and not any(files):
            raise ValueError("BATON_API_TOKEN_LISTEN is a port with TLS: it needs BATON_TLS_CERT_FILE")
        if (self.participant_tls or self.participant_ca_file) and not any(files):
            raise ValueError("BATON_PARTICIPANT_TLS and BATON_PARTICIPANT_CA_FILE need BATON_TLS_CERT_FILE")
        open_ports = {
            name: address
            for name in ("api_listen", "http_listen", "peer_listen")
            if not is_loopback(address := str(getattr(self, name)))
        }
        if open_ports and not any(files) and not self.insecure_listen:
            names = ", ".join(f"BATON_{name.upper()}={address}" for name, address in open_ports.items())
            raise ValueError(
                f"{names} can be reached from other machines, and there is no TLS: set BATON_TLS_CERT_FILE, "
                "BATON_TLS_KEY_FILE, BATON_TLS_CA_FILE and BATON_ACCESS_FILE; or, on a network where everybody may do "
                "everything, BATON_INSECURE_LISTEN=1"
            )
        return self

    @property
    def etcd_addresses(self) -> tuple[str, ...]:
        """The members of etcd, each as host:port."""
        return tuple(endpoint.strip() for endpoint in self.etcd_endpoints.split(","))


def process_id() -> int:
    """The pid that a replica publishes, so that a person can find (and kill) it."""
    return os.getpid()
