"""A timeline as one page: HTML with SVG, without scripts, and with nothing from elsewhere.

The page is well-formed XML too.  Its policy (CSP) permits its own style sheet
and nothing else, so text that found its way into the trace can do no harm even
if it were not escaped, which it is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING, Final

from ._timeline_layout import WAITING_ROW, Bar, Chart, Lane, Line
from ._timeline_style import STYLE
from ._turn_words import counted, duration, sentences, spent, title, why
from ._turns import PHASES, Story, in_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_AXIS_HEIGHT: Final = 34
_MARKS: Final = {"Completed": "●", "Stopped": "■", "TimedOut": "◆", "Failed": "✖"}
_NEITHER_XML_NOR_HTML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_DEFS: Final = """\
<svg class="defs" width="0" height="0" aria-hidden="true"><defs>
<pattern id="shield" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect class="hatch" width="2" height="6"/></pattern>
<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">\
<path class="tip" d="M0 0L8 4L0 8z"/></marker>
</defs></svg>
"""


def page(chart: Chart, *, name: str, wall: str, notes: Sequence[str]) -> str:
    """Return the page.

    Args:
        name: What the trace is called.
        wall: When it was begun.
        notes: What one has to know about it.
    """
    return "\n".join(_page(chart, name, wall, notes)) + "\n"


def _escape(text: str) -> str:
    return html.escape(_NEITHER_XML_NOR_HTML.sub("\ufffd", text))


def _page(chart: Chart, name: str, wall: str, notes: Sequence[str]) -> Iterator[str]:
    heading = _escape(f"Turns of {name}")
    yield "<!DOCTYPE html>"
    yield '<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>'
    yield f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{_HASH}'\"/>"
    yield '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    yield '<meta name="referrer" content="no-referrer"/>'
    yield f"<title>{heading}</title><style>{STYLE}</style></head><body>{_DEFS}<main>"
    yield f"<h1>{heading}</h1><p>{_escape(_summary(chart, wall))}</p>"
    for note in notes:
        yield f'<p class="note">{_escape(note)}</p>'
    if chart.lanes:
        yield '<h2>Timeline</h2><div class="scroll" tabindex="0" role="region" aria-label="Timeline, scrolls sideways">'
        yield from _axis(chart)
        for lane in chart.lanes:
            yield from _lane(chart, lane)
        yield "</div>"
        yield from _legend()
        yield "<h2>Why each turn ended</h2>"
        for lane in chart.lanes:
            yield f"<h3>{_escape(lane.name)}</h3><ol>"
            for story in lane.stories:
                if story.number:
                    yield from _item(story)
            yield "</ol>"
    yield "</main></body></html>"


def _summary(chart: Chart, wall: str) -> str:
    stories = [story for lane in chart.lanes for story in lane.stories]
    turns = sum(1 for story in stories if story.number)
    seconds = max((story.span.end for story in stories), default=0.0)
    return f"{counted(len(chart.lanes), 'session')}, {counted(turns, 'turn')}, {duration(seconds)}; begun {wall}."


def _legend() -> Iterator[str]:
    yield '<ul class="legend" aria-label="Legend">'
    for phase, meaning in PHASES.items():
        swatch = f'<rect class="bar {phase}" width="24" height="12"/>'
        yield f"<li>{_swatch(swatch)}<b>{phase}</b> {_escape(meaning)}</li>"
    hatched = '<rect class="bar cleaning" width="24" height="12"/>' + _hatched(0, 0, 24, 12)
    yield f"<li>{_swatch(hatched)}<b>shielded</b> somebody waits for the end, out of the reach of cancellation</li>"
    yield f"<li>{_swatch(_path('event', 8, 3, 8, 12) + _path('event', 14, 3, 14, 12))}<b>event</b> of the agent</li>"
    yield f"<li>{_swatch(_path('bound', 12, 0, 12, 12))}<b>deadline</b> of the turn, its grace, its cleanup</li>"
    arrows = _path("cancel", 2, 1, 8, 11) + _path("settled", 16, 11, 22, 1)
    yield f"<li>{_swatch(arrows)}<b>cause → cancel → answer → settled</b>: ● it answered, ○ it did not</li></ul>"


def _swatch(inner: str) -> str:
    return f'<svg width="24" height="12" aria-hidden="true">{inner}</svg>'


def _axis(chart: Chart) -> Iterator[str]:
    width = f"{chart.scale.width:.0f}"
    yield f'<svg class="axis" width="{width}" height="{_AXIS_HEIGHT}" role="img" aria-label="Seconds">'
    for x, text in chart.scale.labels():
        yield f'<text x="{x:.1f}" y="14">{text}</text><path class="grid" d="M{x:.1f} 18V34"/>'
    free = 0.0
    for x, text in chart.scale.cuts():
        said = f'<text x="{x + 8:.1f}" y="32">{text}</text>' if x >= free else ""
        free = x + 80 if said else free
        yield f'<g class="cut"><title>{text} in which nothing began or ended, not to scale</title>'
        yield f'<path d="M{x - 5:.1f} 34l4 -9M{x + 1:.1f} 34l4 -9"/>{said}</g>'
    yield "</svg>"


def _lane(chart: Chart, lane: Lane) -> Iterator[str]:
    said = "; ".join(title(story) for story in lane.stories[:20] if story.number)
    label = _escape(f"Session {lane.name}. {said}")
    width, height = f"{chart.scale.width:.0f}", f"{lane.height:.0f}"
    yield f'<h3 class="lane">{_escape(lane.name)}</h3>'
    yield f'<svg class="chart" width="{width}" height="{height}" role="img"'
    yield f' aria-label="{label}">'
    grid = "".join(f"M{x:.1f} 0V{height}" for x, _ in chart.scale.labels())
    yield f'<path class="grid" d="{grid}"/>'
    yield from (_bar(bar) for bar in lane.bars)
    for bar in lane.shields:
        yield f"<g>{_title(bar.says)}{_hatched(bar.x, bar.y, bar.width, bar.height)}</g>"
    for x, text in chart.scale.cuts():
        yield f'<path class="cut" d="M{x - 3:.1f} 0V{height}M{x + 3:.1f} 0V{height}"/>' if text else ""
    yield from (_line(line) for line in lane.lines)
    for text_label in lane.labels:
        mark = _MARKS.get(text_label.kind, "")
        css = "bound" if text_label.kind == "bound" else f"outcome {text_label.kind}" if mark else "outcome"
        text = _escape(f"{mark} {text_label.text}".strip())
        yield f'<text class="{css}" x="{text_label.x:.1f}" y="{text_label.y:.1f}">{text}</text>'
    yield "</svg>"


def _title(text: str) -> str:
    return f"<title>{_escape(text)}</title>"


def _bar(bar: Bar) -> str:
    waits = " waits" if bar.height < WAITING_ROW else ""
    return (
        f'<rect class="bar {bar.phase}{waits}" x="{bar.x:.2f}" y="{bar.y:.0f}" width="{bar.width:.2f}"'
        f' height="{bar.height:.0f}">{_title(bar.says)}</rect>'
    )


def _hatched(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="shield" fill="url(#shield)" x="{x:.2f}" y="{y:.0f}" width="{width:.2f}" height="{height:.0f}"/>'
    )


def _line(line: Line) -> str:
    inner = _path(line.kind, line.x1, line.y1, line.x2, line.y2)
    if line.kind in {"to-answer", "to-stop"}:  # where it ends, so that it is seen even if it took no time
        radius = 4
        inner += f'<circle class="{line.kind}" cx="{line.x2:.1f}" cy="{line.y2:.1f}" r="{radius}"/>'
    return f"<g>{_title(line.says)}{inner}</g>"


def _path(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    has_tip = kind in {"cancel", "settled", "submitted"}
    tip = ' marker-end="url(#tip)"' if has_tip else ""
    return f'<path class="line {kind}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"{tip}/>'


def _item(story: Story) -> Iterator[str]:
    mark = _MARKS.get(story.outcome, "○")
    css = story.outcome if story.outcome in _MARKS else "open"
    reason = why(story)
    yield f'<li value="{story.number}"><b class="{css}">{mark} {_escape(title(story).partition(": ")[2])}</b>:'
    yield f"{_escape(reason)}. {_escape(' '.join(sentences(story)))}"
    times = f"from {in_seconds(story.span.start)}: {spent(story)}"
    yield f"<br/><small>{times}; {_escape(story.event_words())}</small></li>"
