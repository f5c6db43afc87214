"""The mark of tests that need a NATS server; where there is none they are skipped, and say so."""

from __future__ import annotations

import pytest

from orchestrator.embedded.nats import NatsServer, nats_program

__all__ = ["NatsServer", "needs_nats"]

needs_nats = pytest.mark.skipif(
    nats_program() is None, reason="there is no nats-server: install the package nats-server, or put it on PATH"
)
