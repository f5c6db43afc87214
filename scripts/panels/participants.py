"""The dashboard of participants: how long calls take, and what participants say to them."""

from __future__ import annotations

from queries import TROUBLE, C, Panel, quantiles, rate

PARTICIPANTS = (
    Panel(
        "Latency",
        "Of one call, with the wait for a place among the calls under way.",
        quantiles("baton_call_duration_seconds", "participant", "{{participant}}"),
        "s",
    ),
    Panel(
        "Calls",
        "A second, by gRPC status.",
        ((rate("baton_calls_total", "participant, code"), "{{participant}} {{code}}"),),
        "ops",
    ),
    Panel(
        "Errors",
        "Share of calls that a participant could not do, or of which nobody knows; a refusal is no error.",
        (
            (
                f"({rate('baton_calls_total', 'participant', TROUBLE)}"
                f" or {rate('baton_calls_total', 'participant')} * 0)"
                f" / {rate('baton_calls_total', 'participant')}",
                "{{participant}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Breaker",
        "1 while no calls go to a participant because it is away.",
        ((f"max by (participant) (baton_breaker_open{{{C}}})", "{{participant}}"),),
        kind="state-timeline",
        more={"words": (("closed", "green"), ("open", "red"))},
    ),
    Panel(
        "Paused",
        "Definitions and participants that operators have paused: their sagas wait.",
        ((f"max by (kind) (baton_pauses{{{C}}})", "{{kind}}"),),
    ),
    Panel(
        "Calls under way",
        "BATON_CALLS_MAX is the most for each participant.",
        ((f"sum by (participant) (baton_calls_in_flight{{{C}}})", "{{participant}}"),),
    ),
    Panel(
        "Attempts",
        "A second, by step and outcome.",
        ((rate("baton_steps_total", "step, kind, outcome"), "{{step}} {{kind}} {{outcome}}"),),
        "ops",
    ),
    Panel(
        "Latency by step",
        "Of one attempt.",
        quantiles("baton_step_duration_seconds", "definition, step, kind", "{{definition}} {{step}} {{kind}}"),
        "s",
        width=24,
    ),
)
