"""Certifies one method pair of a participant: finds its descriptors, runs every check, and reports."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import grpc.aio

from orchestrator.certify import checks, crashes, races
from orchestrator.certify.checks import Bench
from orchestrator.certify.contract import contract_hash
from orchestrator.certify.findings import CannotCertify, Finding, Report
from orchestrator.certify.subject import SHARDS, STREAM, UNARY, Gauge, Pair, Subject
from orchestrator.certify.template import Template
from orchestrator.driving.codec import Descriptors, MethodCodec
from orchestrator.driving.exchange import ExchangeLost, NotOffered, open_exchange
from orchestrator.driving.reflection import describe
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import Rejected
from orchestrator.saga.model import Json
from orchestrator.security.dialer import PLAIN, Dialer


@dataclass(frozen=True, slots=True)
class Plan:
    """What to certify, and with what. Methods are `/pkg.Service/Name`; times in seconds.

    `timeout_s` bounds one call, `patience_s` the repetitions of a call that said nothing yet, `crash_s` the crash
    command and then the participant's return. `effect` is False for a pair that is declared to do nothing. `dialer` is
    how the participant is reached: over TLS, by a certificate that it lets call, or in the clear.
    """

    address: str
    action: str
    compensation: str
    request: Template
    compensation_request: Template | None = None
    status: str = ""
    status_request: Template | None = None
    observe: str = ""
    observe_request: Json | None = None
    crash_command: str = ""
    effect: bool = True
    timeout_s: float = 5.0
    patience_s: float = 15.0
    crash_s: float = 60.0
    dialer: Dialer = PLAIN


async def certify(plan: Plan) -> Report:
    """Run every check, over every way of calling that the participant offers.

    Raises CannotCertify, Rejected for methods that are not there, and Retryable when the participant is away.
    """
    descriptors = await _describe(plan)
    pair = _pair(plan, descriptors)
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            plan.dialer.channel(plan.address, options=[("grpc.enable_http_proxy", 0)])
        )
        faults, gauge = await _faults(plan, channel), _gauge(plan, channel, descriptors)
        for form in await _forms(channel, plan.timeout_s):
            shard = random.choice(SHARDS)
            patience = timedelta(seconds=plan.patience_s)
            subject = Subject(plan.address, pair, form, shard, plan.timeout_s, patience, plan.dialer)
            stack.push_async_callback(subject.close)
            findings += await _run(plan, Bench(subject, gauge, plan.effect), faults)
    digest = contract_hash(descriptors, plan.action, plan.compensation)
    return Report(
        plan.address, plan.action.lstrip("/"), plan.compensation.lstrip("/"), digest, plan.effect, tuple(findings)
    )


async def _run(plan: Plan, bench: Bench, faults: crashes.Faults | None) -> list[Finding]:
    findings: list[Finding] = []
    for check in (checks.duplicates, checks.other_request, checks.compensation_first, races.same_key, races.opposites):
        findings += await check(bench)
    findings += await checks.status(bench)
    findings += await crashes.lost_answer(bench, faults)
    findings += await crashes.crash(bench, plan.crash_command, plan.crash_s)
    # The last one: it raises the epoch.
    return findings + await checks.stale_epoch(bench)


async def _describe(plan: Plan) -> Descriptors:
    paths = [path for path in (plan.action, plan.compensation, plan.status, plan.observe) if path]
    services = sorted({path[1:].rpartition("/")[0] for path in paths})
    return Descriptors((await describe(plan.address, services, plan.timeout_s, plan.dialer)).SerializeToString())


def _pair(plan: Plan, descriptors: Descriptors) -> Pair:
    codecs = {path: _codec(descriptors, path) for path in (plan.action, plan.compensation)}
    action, compensation = codecs[plan.action], codecs[plan.compensation]
    undo = plan.compensation_request
    if undo is None:
        if action.request.descriptor.full_name != compensation.request.descriptor.full_name:
            name = compensation.request.descriptor.full_name
            raise CannotCertify(
                f"--compensation-request: is needed, since {plan.compensation} takes another message, {name}"
            )
        undo = plan.request
    for option, codec, template in (
        ("--request", action, plan.request),
        ("--compensation-request", compensation, undo),
    ):
        try:
            codec.encode(template.fill("certify"))
        except WrongType as error:
            raise CannotCertify(f"{option}: {error}") from None
    if plan.status:
        codecs[plan.status] = _status_codec(plan, descriptors, action)
    return Pair(plan.action, plan.compensation, codecs, plan.request, undo, plan.status, plan.status_request)


def _status_codec(plan: Plan, descriptors: Descriptors, action: MethodCodec) -> MethodCodec:
    codec = _codec(descriptors, plan.status)
    if codec.reply.descriptor.full_name != action.reply.descriptor.full_name:
        name = action.reply.descriptor.full_name
        raise CannotCertify(f"--status: {plan.status} must answer with the message of the action, {name}")
    try:
        codec.encode((plan.status_request or plan.request).fill("certify"))
    except WrongType as error:
        raise CannotCertify(f"--status-request: {error}") from None
    return codec


def _codec(descriptors: Descriptors, path: str) -> MethodCodec:
    service, _, name = path[1:].rpartition("/")
    try:
        return descriptors.method(service, name)
    except KeyError as error:
        raise CannotCertify(str(error.args[0])) from None


def _gauge(plan: Plan, channel: grpc.aio.Channel, descriptors: Descriptors) -> Gauge | None:
    if not plan.observe:
        return None
    codec = _codec(descriptors, plan.observe)
    return Gauge(channel, plan.observe, codec, plan.observe_request or {}, plan.timeout_s)


async def _faults(plan: Plan, channel: grpc.aio.Channel) -> crashes.Faults | None:
    try:
        described = await describe(plan.address, [crashes.FAULT_SERVICE], plan.timeout_s, plan.dialer)
    except Rejected:
        # It has no such service, as on any system that matters.
        return None
    inject = _codec(Descriptors(described.SerializeToString()), f"/{crashes.FAULT_SERVICE}/Inject")
    return crashes.Faults(channel, inject, plan.timeout_s)


async def _forms(channel: grpc.aio.Channel, timeout_s: float) -> Sequence[str]:
    """The ways of calling that the participant offers: a leader takes the stream where there is one."""
    try:
        exchange = await open_exchange(channel, timeout_s)
    except (NotOffered, ExchangeLost):
        return (UNARY,)
    await exchange.close()
    return (UNARY, STREAM)
