"""Draws the timeline of a fault as SVG: sagas that ended, epochs as bands, faults as marks, gaps shaded. Pure.

Colours are CSS variables of the page, so that the drawing follows its light or dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from orchestrator.drill.figures import seconds
from orchestrator.drill.result import BUCKET_S, Mark, Timeline

_WIDTH, _HEIGHT = 1000, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 26, 24
_BANDS = 4
# More columns than this cannot be told apart: buckets are put together.
_COLUMNS_MAX = 400
# A gap of 30 ms in a run of minutes would be thinner than a line.
_GAP_WIDTH_MIN = 1.6
_LABEL_WIDTH_MIN = 26

# Drawn from the bottom up. Other states than these are sagas that have not ended.
_STATES = (("COMPLETED", "completed"), ("COMPENSATED", "compensated"), ("FAILED", "parked"))


def drawing(timeline: Timeline) -> str:
    """The SVG element."""
    buckets = _buckets(timeline)
    scale = _Scale(timeline.duration_s, _rate_max(buckets))
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="sagas ended a second, over time">',
        *_bands(timeline, scale),
        *_grid(scale),
        *_areas(buckets, scale),
        *(piece for mark in timeline.marks for piece in _mark(mark, scale)),
        *_axis(scale),
        "</svg>",
    ]
    return "".join(parts)


class _Scale:
    """From seconds and sagas a second to the drawing's units."""

    def __init__(self, duration_s: float, rate: float) -> None:
        self.duration_s = max(duration_s, BUCKET_S)
        self.rate_step = nice_step(rate, 3)
        self.rate = self.rate_step * max(1, math.ceil(rate / self.rate_step))

    def x(self, at_s: float) -> float:
        at_s = min(max(at_s, 0.0), self.duration_s)
        return _LEFT + at_s / self.duration_s * (_WIDTH - _LEFT - _RIGHT)

    def y(self, rate: float) -> float:
        return _HEIGHT - _BOTTOM - rate / self.rate * (_HEIGHT - _TOP - _BOTTOM)


def nice_step(largest: float, steps: int) -> float:
    """The smallest of 1, 2, 5, 10, ... that reaches `largest` within so many steps."""
    rough = max(largest, 1e-9) / steps
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)


def _buckets(timeline: Timeline) -> tuple[float, Mapping[str, Sequence[float]]]:
    """The width of a column in seconds, and by state how many sagas ended a second in each."""
    count = max((len(counts) for counts in timeline.ended.values()), default=0)
    together = max(1, math.ceil(count / _COLUMNS_MAX))
    width_s = together * BUCKET_S
    rates = {}
    for state, _ in _STATES:
        counts = timeline.ended.get(state, [0] * count)
        rates[state] = [sum(counts[at : at + together]) / width_s for at in range(0, count, together)]
    return width_s, rates


def _rate_max(buckets: tuple[float, Mapping[str, Sequence[float]]]) -> float:
    return max((sum(column) for column in zip(*buckets[1].values(), strict=True)), default=1.0) or 1.0


def _bands(timeline: Timeline, scale: _Scale) -> Iterator[str]:
    ends = [*(term.began_s for term in timeline.terms[1:]), timeline.duration_s]
    for number, (term, end_s) in enumerate(zip(timeline.terms, ends, strict=True)):
        left, right = scale.x(term.began_s), scale.x(max(term.began_s, end_s))
        title = escape(f"epoch {term.epoch}, {term.holder}, {term.cause}")
        yield (
            f'<g class="band band{number % _BANDS}"><title>{title}</title>'
            f'<rect x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{_HEIGHT - _TOP - _BOTTOM}"/>'
        )
        if right - left >= _LABEL_WIDTH_MIN:
            yield f'<text x="{left + 4:.1f}" y="{_TOP + 11}">{term.epoch}</text>'
        yield "</g>"


def _grid(scale: _Scale) -> Iterator[str]:
    for number in range(round(scale.rate / scale.rate_step) + 1):
        rate = number * scale.rate_step
        y = scale.y(rate)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{rate:g}</text>'


def _areas(buckets: tuple[float, Mapping[str, Sequence[float]]], scale: _Scale) -> Iterator[str]:
    width_s, rates = buckets
    floor = [0.0] * len(next(iter(rates.values())))
    for state, name in _STATES:
        if any(rates[state]):
            ceiling = [below + rate for below, rate in zip(floor, rates[state], strict=True)]
            there = [point for at, rate in enumerate(ceiling) for point in _step(at, rate, width_s, scale)]
            back = [point for at, rate in enumerate(floor) for point in _step(at, rate, width_s, scale)]
            yield f'<path class="{name}" d="M{" L".join([*there, *reversed(back)])} Z"><title>{name}</title></path>'
            floor = ceiling


def _step(at: int, rate: float, width_s: float, scale: _Scale) -> tuple[str, str]:
    y = scale.y(rate)
    return f"{scale.x(at * width_s):.1f} {y:.1f}", f"{scale.x((at + 1) * width_s):.1f} {y:.1f}"


def _mark(mark: Mark, scale: _Scale) -> Iterator[str]:
    struck, healed = scale.x(mark.struck_s), scale.x(mark.healed_s)
    base = _HEIGHT - _BOTTOM
    told = f"struck at {mark.struck_s:.2f} s, healed at {mark.healed_s:.2f} s"
    if mark.measured_s is not None:
        told += f", measured {seconds(mark.measured_s)}"
        width = max(_GAP_WIDTH_MIN, scale.x(mark.struck_s + mark.measured_s) - struck)
        yield f'<rect class="gap" x="{struck:.1f}" y="{_TOP}" width="{width:.1f}" height="{base - _TOP}"/>'
    yield f'<g class="mark"><title>{escape(told)}</title>'
    yield f'<line x1="{struck:.1f}" x2="{struck:.1f}" y1="{_TOP - 6}" y2="{base}"/>'
    yield f'<path d="M{struck - 5:.1f} {_TOP - 15} h10 l-5 9 Z"/>'
    yield f'<rect x="{struck:.1f}" y="{base}" width="{max(1.0, healed - struck):.1f}" height="4"/></g>'


def _axis(scale: _Scale) -> Iterator[str]:
    step = nice_step(scale.duration_s, 10)
    for number in range(int(scale.duration_s / step) + 1):
        x = scale.x(number * step)
        yield f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{number * step:g} s</text>'
    yield '<text class="tick" x="2" y="12">sagas/s</text>'
