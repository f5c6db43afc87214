"""The report of a soak as one HTML file: the timeline, the faults, the audits, and every vital sign as a line. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from orchestrator.drill.fault import Measure
from orchestrator.drill.figures import seconds
from orchestrator.drill.page import LEGEND, frame
from orchestrator.drill.result import FaultResult, quantile
from orchestrator.drill.soak import SoakResult
from orchestrator.drill.timeline import drawing, nice_step
from orchestrator.drill.vitals import Vitals

_WIDTH, _HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 12, 24
# A line for each server; the colours repeat only beyond so many.
_COLOURS = (
    *("#4c8fd6", "#e2a33b", "#3aa374", "#b04ab8", "#d9534f", "#5bc0be", "#8d6e63", "#7986cb", "#c0ca33", "#ff8a65"),
    *("#26a69a", "#ec407a"),
)
_MEASURES = {
    "private_bytes": ("private memory, MB", 1 / (1 << 20)),
    "files": ("open files", 1.0),
    "sockets": ("connections", 1.0),
    "threads": ("threads", 1.0),
    "tasks": ("tasks of the main loop", 1.0),
    "processes": ("processes", 1.0),
}
# It has so many processes, files and threads that nobody would see the others beside it.
_POSTGRES = "postgres"
_STYLE = """<style>.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 0 18px; }
polyline { fill: none; stroke-width: 1.3; } h3 { font-size: 14px; margin: 14px 0 0; font-weight: 600; }</style>"""


def soak_page(result: SoakResult, title: str, subtitle: str) -> str:
    """The whole file."""
    complaints = result.complaints()
    listed = "".join(f"<li>{escape(line)}</li>" for line in complaints)
    parts = [
        _STYLE,
        f"<p>{escape(_summary(result))}</p>",
        f"<ul>{listed}</ul>" if listed else "",
        LEGEND,
        f"<section><h2>Sagas, faults and epochs</h2>{drawing(result.timeline)}</section>" if result.timeline else "",
        _vitals(result),
        _trends(result),
        _faults(result.faults),
        _audits(result),
    ]
    verdict = f"NOT GOOD: {len(complaints)} complaints" if complaints else "every invariant held, and all stayed flat"
    return frame(title, subtitle, verdict, not complaints, "\n".join(parts))


def _summary(result: SoakResult) -> str:
    ends = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    strikes = sum(fault.repetitions for fault in result.faults)
    return (
        f"{result.duration_s / 60:.0f} minutes, {strikes} faults of {len(result.faults)} kinds; sagas: {ends}; "
        f"{len(result.failed_starts)} StartSaga failed; leadership changed {result.changes} times, "
        f"for {result.changes_max} reasons"
    )


def _vitals(result: SoakResult) -> str:
    names = sorted({sample.name for sample in result.samples})
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    others = [name for name in names if name != _POSTGRES]
    legend = "".join(f'<span><i style="background:{colours[name]}"></i>{escape(name)}</span>' for name in others)
    charts = "".join(_chart(measure, result, others, colours) for measure in _MEASURES if measure != "processes")
    postgres = "".join(_chart(measure, result, [_POSTGRES], colours) for measure in _MEASURES if measure != "tasks")
    return (
        f"<section><h2>Vital signs</h2><p>A line ends where a process ended, and begins again with the next one.</p>"
        f'<div class="legend">{legend}</div><div class="pair">{charts}</div></section>'
        f"<section><h2>Vital signs of Postgres</h2><p>Of the server and all its backends together.</p>"
        f'<div class="pair">{postgres}</div></section>'
    )


def _chart(measure: str, result: SoakResult, names: Sequence[str], colours: dict[str, str]) -> str:
    label, factor = _MEASURES[measure]
    lines = _lines(measure, [sample for sample in result.samples if sample.name in names])
    largest = max((value for points in lines.values() for _, value in points), default=1) * factor
    step = nice_step(largest, 4)
    top = step * max(1, -(-largest // step))
    body = [*_grid(step, top), *_hours(result.duration_s)]
    for (name, _), points in lines.items():
        drawn = " ".join(
            f"{_x(at_s, result.duration_s):.1f},{_y(value * factor, top):.1f}" for at_s, value in _thin(points)
        )
        body.append(
            f'<polyline points="{drawn}" style="stroke:{colours[name]}"><title>{escape(name)}</title></polyline>'
        )
    svg = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)} over time">{"".join(body)}</svg>'
    )
    return f"<div><h3>{escape(label)}</h3>{svg}</div>"


def _lines(measure: str, samples: Sequence[Vitals]) -> dict[tuple[str, int], list[tuple[float, int]]]:
    """One line for each process that ever ran."""
    lines: dict[tuple[str, int], list[tuple[float, int]]] = {}
    for sample in samples:
        if (value := sample.measured().get(measure)) is not None:
            lines.setdefault((sample.name, sample.pid), []).append((sample.at_s, value))
    return lines


def _thin(points: Sequence[tuple[float, int]]) -> Sequence[tuple[float, int]]:
    """No more points than the drawing can show; the last one always."""
    every = max(1, len(points) // _WIDTH)
    return [*points[::every], points[-1]]


def _grid(step: float, top: float) -> Iterator[str]:
    for number in range(round(top / step) + 1):
        y = _y(number * step, top)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number * step:g}</text>'


def _hours(duration_s: float) -> Iterator[str]:
    step = nice_step(duration_s / 60, 8)
    for number in range(int(duration_s / 60 / step) + 1):
        x = _x(number * step * 60, duration_s)
        yield f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{number * step:g} min</text>'


def _x(at_s: float, duration_s: float) -> float:
    return _LEFT + at_s / max(duration_s, 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)


def _trends(result: SoakResult) -> str:
    rows = []
    for trend in result.trends:
        _, factor = _MEASURES[trend.measure]
        numbers = "".join(f"<td>{value * factor:,.0f}</td>" for value in (trend.early, trend.late, trend.limit))
        unit = "private memory, MB" if trend.measure == "private_bytes" else trend.measure
        verdict = '<td class="left good">flat</td>' if trend.flat else '<td class="left bad">GROWS</td>'
        rows.append(
            f'<tr><td class="left">{escape(trend.name)}</td><td class="left">{unit}</td>{numbers}{verdict}</tr>'
        )
    return _table(
        "Does anything grow? Medians of an early and of the last part of the run",
        ("process", "what", "early", "late", "limit", "verdict"),
        rows,
    )


def _faults(results: Sequence[FaultResult]) -> str:
    rows = []
    for result in results:
        fault, measured = result.fault, result.measured
        told = fault.measure is not Measure.NONE
        quantiles = [seconds(quantile(measured, share)) if told else "" for share in (0.5, 0.99, 1.0)]
        bound = "" if fault.bound_s is None else seconds(fault.bound_s)
        cells = "".join(f"<td>{cell}</td>" for cell in (result.repetitions, *quantiles, bound))
        measure = fault.measure if told else ""
        rows.append(
            f'<tr><td class="left">{fault.number} {escape(fault.name)}</td><td class="left">{measure}</td>{cells}</tr>'
        )
    return _table("Faults", ("fault", "measure", "times", "p50", "p99", "max", "bound"), rows)


def _audits(result: SoakResult) -> str:
    rows = [
        f'<tr><td>{audit.at_s / 60:.0f} min</td><td>{audit.sagas}</td><td class="left">'
        f"{escape(', '.join(finding.invariant for finding in audit.findings if finding.holds))}</td>"
        f'<td class="left {"good" if audit.holds else "bad"}">{"all hold" if audit.holds else "VIOLATED"}</td></tr>'
        for audit in result.audits
    ]
    return _table("Audits of everything so far", ("after", "sagas", "invariants that hold", "verdict"), rows)


def _table(title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    numeric = ("early", "late", "limit", "times", "p50", "p99", "max", "bound", "after", "sagas")
    head = "".join(f"<th{'' if name in numeric else ' class=left'}>{escape(name)}</th>" for name in heads)
    body = "".join(rows)
    return (
        f'<section><h2>{escape(title)}</h2></section><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
