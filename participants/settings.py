"""All settings of a participant, with their defaults and the reasons for them."""

from __future__ import annotations

import ipaddress
from decimal import Decimal
from pathlib import Path
from typing import Literal, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ParticipantSettings(BaseSettings):
    """Settings of one participant process, read from the environment with the prefix `PARTICIPANT_`.

    Raises pydantic's ValidationError, which names every setting that is wrong.
    """

    model_config = SettingsConfigDict(env_prefix="PARTICIPANT_", extra="ignore")

    listen: str = Field(default="", description="host:port of the gRPC server; empty: the service's own default.")
    tls_cert_file: Path | None = Field(
        default=None, description="PEM file of this participant's certificate, with its chain; read again on change."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file of its key, not encrypted.")
    tls_ca_file: Path | None = Field(
        default=None, description="PEM file of the authority whose certificates callers must show."
    )
    tls_callers: str = Field(
        default="", description="Comma list of names of which a caller's certificate must bear one; * is any text."
    )
    insecure_listen: bool = Field(
        default=False, description="Listen beyond this machine without TLS: on a network where everybody may call."
    )

    dsn: str = Field(default="postgresql://127.0.0.1:5432/shop", repr=False, description="Postgres, as a libpq URL.")
    pool_max: int = Field(default=16, ge=1, description="Connections to Postgres: as many calls take effect at once.")
    pool_wait_max_s: float = Field(default=5.0, gt=0, description="Longest wait of a call for a connection.")
    lock_wait_max_s: float = Field(
        default=2.0,
        gt=0,
        description="Longest wait for a row that another transaction holds; shorter than a call's timeout.",
    )
    call_max_s: float = Field(
        default=30.0, gt=0, description="Longest time for one call, whatever its own deadline says."
    )
    calls_max: int = Field(default=256, ge=1, description="Calls in work at once on one multiplexed stream.")
    message_bytes_max: int = Field(
        default=4_000_000, ge=1, description="Largest gRPC message that is sent or accepted."
    )
    shutdown_grace_s: float = Field(default=5.0, gt=0, description="Time for calls in work after SIGTERM.")

    allow_faults: bool = Field(default=False, description="Offer shop.v1.FaultService. Never on a system that matters.")
    faults: str = Field(default="", description="JSON list of faults that hold from the start; needs allow_faults.")

    initial_stock: int = Field(
        default=1000, ge=0, description="inventory: stock of a stock code that is seen the first time."
    )
    charge_limit: Decimal = Field(default=Decimal("5000.00"), ge=0, description="payment: larger charges are declined.")
    declined_customers: str = Field(
        default="", description="payment: comma list of customers whose cards are declined."
    )

    baton: str = Field(
        default="127.0.0.1:7400", description="notifications: comma list of host:port, the API of Baton's replicas."
    )
    broker: str = Field(
        default="nats://127.0.0.1:4222", repr=False, description="NATS with JetStream, for the services by events."
    )
    processed_keep_s: float = Field(
        default=30 * 86_400.0,
        gt=0,
        description="Ids of handled events are kept so long; none may come again later.",
    )

    log_format: Literal["console", "json"] = Field(default="console", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )

    @field_validator("dsn")
    @classmethod
    def _libpq_understands(cls, dsn: str) -> str:
        try:
            conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"not a libpq URL: {error}") from None
        return dsn

    @field_validator("baton")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f"{address!r} is not host:port")
        return value

    @property
    def baton_addresses(self) -> tuple[str, ...]:
        """The replicas of Baton, each as host:port."""
        return tuple(address.strip() for address in self.baton.split(","))

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.faults and not self.allow_faults:
            raise ValueError("PARTICIPANT_FAULTS is set but PARTICIPANT_ALLOW_FAULTS is not: set it to 1, or drop both")
        files = (self.tls_cert_file, self.tls_key_file, self.tls_ca_file)
        if any(files) and not all((*files, self.callers)):
            raise ValueError(
                "PARTICIPANT_TLS_CERT_FILE, PARTICIPANT_TLS_KEY_FILE, PARTICIPANT_TLS_CA_FILE and "
                "PARTICIPANT_TLS_CALLERS go together"
            )
        if self.listen and not any(files) and not self.insecure_listen and not is_loopback(self.listen):
            raise ValueError(
                f"PARTICIPANT_LISTEN={self.listen} can be reached from other machines, and there is no TLS: set "
                "PARTICIPANT_TLS_CERT_FILE, PARTICIPANT_TLS_KEY_FILE, PARTICIPANT_TLS_CA_FILE and "
                "PARTICIPANT_TLS_CALLERS; or, on a network where everybody may call, PARTICIPANT_INSECURE_LISTEN=1"
            )
        if self.lock_wait_max_s >= self.call_max_s:
            raise ValueError("PARTICIPANT_LOCK_WAIT_MAX_S must be shorter than PARTICIPANT_CALL_MAX_S")
        return self

    @property
    def callers(self) -> tuple[str, ...]:
        """The names of those who may call."""
        return tuple(name.strip() for name in self.tls_callers.split(",") if name.strip())


def is_loopback(address: str) -> bool:
    """Whether only processes of this machine reach a port at this host:port."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
