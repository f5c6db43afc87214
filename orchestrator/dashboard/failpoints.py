"""Failpoints over HTTP, for drills: armed, looked at and disarmed while the replica runs.

    PUT    /failpoints/term.append.before    with the terms as the body, such as exit or 30*off->1*stop
    GET    /failpoints                       all that are armed, how often each has struck, and all names
    GET    /failpoints/term.append.before
    DELETE /failpoints/term.append.before    or /failpoints, for all

A replica whose BATON_FAILPOINTS is empty answers 404 to all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.failpoints.armed import ARMED, STRUCK, arm, disarm
from orchestrator.failpoints.effects import POINTS
from orchestrator.failpoints.terms import BadTerms
from orchestrator.telemetry import failpoints_armed, failpoints_struck

FOLDER = "/failpoints"

Answer = tuple[HTTPStatus, str, bytes]


def answer(method: str, path: str, body: bytes) -> Answer:
    """What a request below `FOLDER` gets; the terms to arm come in `body`."""
    point = path.removeprefix(FOLDER).strip("/")
    if point and point not in POINTS:
        return _json(HTTPStatus.NOT_FOUND, {"error": f"{point!r} is no failpoint; GET {FOLDER} lists them"})
    match method, point:
        case "GET", "":
            return _json(HTTPStatus.OK, {"armed": _armed(), "struck": dict(STRUCK.copy()), "known": list(POINTS)})
        case "GET", _:
            return _json(HTTPStatus.OK, {"armed": _armed().get(point), "struck": STRUCK[point]})
        case "DELETE", _:
            return _json(HTTPStatus.OK, {"disarmed": disarm(point)})
        case "PUT", _ if point:
            return _put(point, body)
        case _:
            return _json(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} {path} means nothing"})


def _put(point: str, body: bytes) -> Answer:
    try:
        arm(point, body.decode(errors="replace").strip())
    except BadTerms as error:
        return _json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
    return _json(HTTPStatus.OK, {"armed": _armed().get(point), "struck": STRUCK[point]})


def _armed() -> dict[str, str]:
    return {point: terms.text for point, terms in ARMED.copy().items()}


def _json(status: HTTPStatus, body: dict[str, Any]) -> Answer:
    return status, "application/json", json.dumps(body).encode() + b"\n"


class FailpointCounts(Collector):
    """A collector of the failpoints that are armed, and of their strikes."""

    def describe(self) -> Iterable[Metric]:
        """The metrics without values."""
        return [failpoints_armed(0), failpoints_struck({})]

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are."""
        return [failpoints_armed(len(ARMED)), failpoints_struck(STRUCK.copy())]
