"""The report of a drill as one HTML file that needs nothing else: the table, and a timeline for each fault. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

from orchestrator.drill.fault import Measure
from orchestrator.drill.figures import COLUMNS, row, seconds
from orchestrator.drill.result import FaultResult
from orchestrator.drill.timeline import drawing

_LEFT_ALIGNED = ("fault", "measure", "invariants", "verdict")

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #fff; --ink: #1d2125; --soft: #68707a; --line: #e3e5e8;
  --good: #1a7f4b; --bad: #c62f2f; --completed: #4c8fd6; --compensated: #e2a33b; --parked: #b04ab8; --gap: #d93a3a;
  --mark: #30363d; --band0: #eef4fb; --band1: #f3f0fa; --band2: #eef7f1; --band3: #faf3ea; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --card: #1b1f24; --ink: #e4e7ea; --soft: #98a1ab;
  --line: #31373e; --good: #4cc38a; --bad: #ff6b6b; --completed: #5b9fe6; --compensated: #d99a35; --parked: #c77bd0;
  --gap: #ff5c5c; --mark: #d5dae0; --band0: #1c2733; --band1: #252233; --band2: #1c2b25; --band3: #2e271d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1340px; padding: 28px 20px 60px; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; margin: 0; } h2 { font-size: 17px; margin: 0; } p { margin: 4px 0; color: var(--soft); }
.good { color: var(--good); } .bad { color: var(--bad); } .soft { color: var(--soft); }
.verdict { font-weight: 600; font-size: 17px; }
.wide { overflow-x: auto; } section, .wide { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; margin-top: 18px; } section { padding: 16px 18px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 7px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } tr:last-child td { border-bottom: 0; } .left { text-align: left; }
td.left:last-child { white-space: normal; min-width: 90px; }
a { color: inherit; text-decoration-color: var(--soft); text-underline-offset: 3px; }
.head { display: flex; justify-content: space-between; gap: 16px; align-items: baseline; flex-wrap: wrap; }
svg { display: block; width: 100%; height: auto; margin-top: 8px; font-size: 11px; }
svg text { fill: var(--soft); } .grid { stroke: var(--line); }
.completed { fill: var(--completed); } .compensated { fill: var(--compensated); } .parked { fill: var(--parked); }
.gap { fill: var(--gap); opacity: .45; } .mark line { stroke: var(--mark); stroke-dasharray: 3 3; opacity: .75; }
.mark path, .mark rect { fill: var(--mark); }
.band0 rect { fill: var(--band0); } .band1 rect { fill: var(--band1); }
.band2 rect { fill: var(--band2); } .band3 rect { fill: var(--band3); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--soft); margin-top: 18px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; }
ul { margin: 8px 0 0; padding-left: 20px; color: var(--bad); } li { white-space: pre-wrap; }
</style></head><body>
<h1>$title</h1><p>$subtitle</p><p class="verdict $tone">$verdict</p>
$body
</body></html>
""")

_BODY = Template("""<div class="wide"><table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table></div>
$legend
$sections""")

LEGEND = """<div class="legend"><span><i style="background:var(--completed)"></i>completed</span>
<span><i style="background:var(--compensated)"></i>compensated</span>
<span><i style="background:var(--parked)"></i>parked</span>
<span><i style="background:var(--gap);opacity:.45"></i>the gap, or the pause, from the strike on</span>
<span><i style="background:var(--mark)"></i>a fault, and the bar below the axis until it is healed</span>
<span><i style="background:var(--band1);border:1px solid var(--line)"></i>an epoch, with its number</span></div>"""


def frame(title: str, subtitle: str, verdict: str, good: bool, body: str) -> str:
    """A whole file around a body of HTML, with the styles that the drawings need."""
    return _PAGE.substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        verdict=escape(verdict),
        tone="good" if good else "bad",
        body=body,
    )


def page(results: Sequence[FaultResult], title: str, subtitle: str) -> str:
    """The whole file."""
    made = [result for result in results if result.skipped is None]
    broken = [result.fault.name for result in made if not result.passed]
    heads = "".join(f"<th{_aligned(name)}>{escape(name)}</th>" for name in COLUMNS)
    body = _BODY.substitute(
        heads=heads,
        rows="".join(_row(result) for result in results),
        legend=LEGEND,
        sections="".join(_section(result) for result in made),
    )
    verdict = f"NOT GOOD: {', '.join(broken)}" if broken else f"every invariant holds in {len(made)} faults"
    return frame(title, subtitle, verdict, not broken, body)


def _row(result: FaultResult) -> str:
    told = row(result)
    name, *cells = told.cells
    link = escape(name) if told.skipped else f'<a href="#{escape(result.fault.name)}">{escape(name)}</a>'
    tone = "soft" if told.skipped else "good" if told.passed else "bad"
    middle = "".join(
        f"<td{_aligned(column)}>{escape(cell)}</td>" for column, cell in zip(COLUMNS[1:-1], cells, strict=True)
    )
    return f'<tr><td class="left">{link}</td>{middle}<td class="left {tone}">{escape(told.verdict)}</td></tr>'


def _section(result: FaultResult) -> str:
    fault, told = result.fault, row(result)
    bound = "" if fault.bound_s is None else f"; {fault.measure} bound {seconds(fault.bound_s)}"
    measured = (
        "" if fault.measure is Measure.NONE or not result.measured else f", worst {seconds(max(result.measured))}"
    )
    complaints = "".join(f"<li>{escape(complaint)}</li>" for complaint in result.complaints())
    return (
        f'<section id="{escape(fault.name)}"><div class="head"><h2>{escape(fault.title)}</h2>'
        f'<span class="{"good" if told.passed else "bad"}">{escape(told.verdict)}</span></div>'
        f"<p>{escape(fault.says)}: {result.repetitions} times{escape(measured)}{escape(bound)}</p>"
        + "".join(f"<p>{escape(remark)}</p>" for remark in result.unchecked)
        + (f"<ul>{complaints}</ul>" if complaints else "")
        + (drawing(result.timeline) if result.timeline is not None else "")
        + "</section>"
    )


def _aligned(column: str) -> str:
    return ' class="left"' if column in _LEFT_ALIGNED else ""
