"""Log lines of a participant: events with fields, for a person or as JSON."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_log(form: str, level: str, **fields: str) -> None:
    """Write events of `level` and above to stderr, as `console` or `json`, each with `fields`."""
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if form == "json" else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**fields)
    # psycopg's pool reports lost connections here; the kit says the same in its own events.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _unchanged(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return event
