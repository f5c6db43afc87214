"""The dashboard of sagas: how many sagas there are, how old they are, and how they end."""

from __future__ import annotations

from queries import LIVE, UNDONE, C, Panel, age, quantiles, rate

SAGAS = (
    Panel(
        "Not finished",
        "Pending, running and compensating sagas.",
        (
            (
                "sum(max by (definition, state) (baton_sagas"
                f'{{{C}, state=~"PENDING|RUNNING|COMPENSATING"}})) or vector(0)',
                "",
            ),
        ),
        kind="stat",
        width=6,
    ),
    Panel(
        "Parked",
        "They wait for a person.",
        ((f'sum(max by (definition, state) (baton_sagas{{{C}, state="FAILED"}})) or vector(0)', ""),),
        kind="stat",
        width=6,
        more={"red_from": 1},
    ),
    Panel(
        "Age of the oldest",
        "Of the sagas that are not finished, and that no person has paused.",
        ((f"max({age('baton_oldest_saga_timestamp_seconds', 'state', LIVE)})", ""),),
        "s",
        "stat",
        6,
    ),
    Panel(
        "Finished",
        "Sagas a second that reached an end.",
        ((rate("baton_sagas_finished_total", ""), ""),),
        "ops",
        "stat",
        6,
    ),
    Panel(
        "Started",
        "Sagas a second stored by StartSaga.",
        ((rate("baton_sagas_started_total", "definition"), "{{definition}}"),),
        "ops",
    ),
    Panel(
        "Ended",
        "Sagas a second, by how they ended.",
        ((rate("baton_sagas_finished_total", "definition, state"), "{{definition}} {{state}}"),),
        "ops",
    ),
    Panel(
        "States",
        "Sagas in the log; of very many finished ones the number is an estimate.",
        ((f"sum by (state) (max by (definition, state) (baton_sagas{{{C}}}))", "{{state}}"),),
    ),
    Panel(
        "Share that is undone",
        "Of the sagas that ended: compensated or parked.",
        (
            (
                f"{rate('baton_sagas_finished_total', 'definition', UNDONE)}"
                f" / {rate('baton_sagas_finished_total', 'definition')}",
                "{{definition}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Duration",
        "From StartSaga to the end.",
        quantiles("baton_saga_duration_seconds", "definition", "{{definition}}"),
        "s",
    ),
    Panel(
        "Age of the oldest, by state",
        "Since its start. PAUSED are those that a person has paused one by one; no other state counts what is paused.",
        ((age("baton_oldest_saga_timestamp_seconds", "state"), "{{state}}"),),
        "s",
    ),
    Panel(
        "From intent to done",
        "A step in the log: its calls, waits, retries and commits.",
        quantiles("baton_intent_to_done_seconds", "definition, step, kind", "{{definition}} {{step}} {{kind}}"),
        "s",
    ),
    Panel(
        "Oldest intent that is not done",
        "Of the leader; 0 when nothing is under way.",
        ((age("baton_oldest_intent_timestamp_seconds", ""), "age"),),
        "s",
    ),
    Panel(
        "Driven now",
        "Sagas in the leader's hands; starts that wait for a commit.",
        (
            (f"max(baton_sagas_in_flight{{{C}}})", "in flight"),
            (f"sum(baton_intake_queue_depth{{{C}}})", "starts that wait"),
        ),
    ),
    Panel(
        "Parked, by definition",
        "They wait for a person.",
        ((f'max by (definition) (baton_sagas{{{C}, state="FAILED"}}) or vector(0)', "{{definition}}"),),
    ),
)
