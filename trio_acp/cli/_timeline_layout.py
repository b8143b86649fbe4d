"""Where everything of a timeline is on its canvas: a pure function from stories to rectangles and lines.

A lane belongs to a session.  Its first rows have the turns that own the lane,
one at a time, its lower ones those that wait.  All lanes share one scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from ._timeline_scale import LEFT, Scale
from ._turn_words import duration, title, why
from ._turns import ENDS_OF_THE_AGENT, PHASES, PhaseName, Story, count_words, in_seconds, lane_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_T = TypeVar("_T")

_LETTER: Final = 6.4
OWNER_ROW, WAITING_ROW = 84.0, 14.0
_LABEL_Y, _BAR_Y, _BAR_H, _AGENT_Y, _BOUND_Y = 12.0, 20.0, 18.0, 58.0, 74.0
_TICK_EVERY: Final = 3.0


@attrs.frozen(kw_only=True)
class Bar:
    """A phase of a turn."""

    x: float
    y: float
    width: float
    height: float
    phase: PhaseName
    says: str


@attrs.frozen(kw_only=True)
class Line:
    """An arrow or a tick from one point to another; `kind` says which."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    says: str


@attrs.frozen(kw_only=True)
class Label:
    """A text that begins at a point."""

    x: float
    y: float
    text: str
    kind: str


@attrs.frozen(kw_only=True)
class Lane:
    """A session: what is drawn in it."""

    name: str
    height: float
    bars: tuple[Bar, ...]
    shields: tuple[Bar, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    stories: tuple[Story, ...]


@attrs.frozen(kw_only=True)
class Chart:
    """A whole timeline."""

    scale: Scale
    lanes: tuple[Lane, ...]


def lay_out(stories: Sequence[Story]) -> Chart:
    """Place the stories of a trace."""
    scale = Scale(
        (instant for story in stories for instant in _instants(story)),
        (span.seconds for story in stories for _, span in story.phases),
    )
    keys = list(dict.fromkeys(story.session for story in stories))
    lanes = (_lane(scale, [story for story in stories if story.session == key]) for key in keys)
    return Chart(scale=scale, lanes=tuple(lanes))


def _instants(story: Story) -> Iterable[float]:
    yield from (story.span.start, story.span.end)
    for _, span in story.phases:
        yield from (span.start, span.end)
    yield from (time for _, time in story.steps)
    yield from (moment.time for moment in (*story.bounds, *story.ticks))
    yield from (time for time, _ in story.events[:1])


def stack(items: Iterable[_T], span_of: Callable[[_T], tuple[float, float]]) -> list[list[_T]]:
    """Put things on as few rows as they need not to overlap, earlier ones first."""
    rows: list[list[_T]] = []
    for item in sorted(items, key=span_of):
        start, _ = span_of(item)
        for row in rows:
            if span_of(row[-1])[1] <= start:
                row.append(item)
                break
        else:
            rows.append([item])
    return rows


def _lane(scale: Scale, stories: Sequence[Story]) -> Lane:
    bars: list[Bar] = []
    shields: list[Bar] = []
    lines: list[Line] = []
    labels: list[Label] = []
    y = 0.0
    owners = [(story.owned, story) for story in stories]
    for row in stack([(s, o) for o, s in owners if o is not None], lambda it: (it[1].start, it[1].end)):
        is_tall = False
        ends = [scale.x(span.start) - 12 for _, span in row[1:]] + [scale.width]
        for (story, span), end in zip(row, ends, strict=True):
            x = scale.x(span.start)
            text = _fit(f"{title(story)}: {why(story)}" if story.number else "opened", (end - x) / _LETTER - 2)
            labels.append(Label(x=x, y=y + _LABEL_Y, text=text, kind=story.outcome or "open"))
            bars += _bars(scale, story, y + _BAR_Y, _BAR_H, waiting=False)
            shields += _shields(scale, story, y + _BAR_Y)
            lines += [*_event_ticks(scale, story, y + _BAR_Y), *_arrows(scale, story, y)]
            bound_lines, bound_labels = _bounds(scale, story, y, end)
            lines += bound_lines
            labels += bound_labels
            is_tall |= bool(bound_labels)
        y += OWNER_ROW if is_tall else OWNER_ROW - 16
    waiting = [bar for story in stories for bar in _bars(scale, story, 0, WAITING_ROW - 4, waiting=True)]
    for waiters in stack(waiting, lambda bar: (bar.x, bar.x + bar.width)):
        bars += [attrs.evolve(bar, y=y + 2) for bar in waiters]
        y += WAITING_ROW
    for story in stories:
        if story.owned is None:  # withdrawn, or still waiting: there is no bar to stand above
            y += 16
            x = scale.x(story.span.start)
            text = _fit(f"{title(story)}: {why(story)}", (scale.width - x) / _LETTER)
            labels.append(Label(x=x, y=y - 4, text=text, kind=story.outcome or "open"))
    return Lane(
        name=lane_name(stories[0].session),
        height=y + 4,
        bars=tuple(bars),
        shields=tuple(shields),
        lines=tuple(lines),
        labels=tuple(label for label in labels if label.text),
        stories=tuple(stories),
    )


def _fit(text: str, letters: float) -> str:
    if len(text) <= letters:
        return text
    return text[: int(letters) - 1] + "…" if letters >= 8 else ""


def _bars(scale: Scale, story: Story, y: float, height: float, *, waiting: bool) -> Iterable[Bar]:
    for phase, span in story.phases:
        x, end = scale.x(span.start), scale.x(span.end)
        if (phase == "queued") == waiting and end - x > 0.01:
            says = f"{title(story)}: {phase} {duration(span.seconds)} ({PHASES[phase]})"
            yield Bar(x=x, y=y, width=end - x, height=height, phase=phase, says=says)


def _shields(scale: Scale, story: Story, y: float) -> Iterable[Bar]:
    for span in story.shields:
        x, end = scale.x(max(span.start, story.owned.start if story.owned else 0)), scale.x(span.end)
        if end - x > 0.01:
            says = f"shielded for {duration(span.seconds)}: whoever was cancelled or left waits here for the end"
            yield Bar(x=x, y=y, width=end - x, height=_BAR_H, phase="cleaning", says=says)


def _event_ticks(scale: Scale, story: Story, y: float) -> Iterable[Line]:
    """One tick for all events that would stand closer than a tick is wide."""
    groups: dict[int, list[tuple[float, str]]] = {}
    for time, kind in story.events:
        groups.setdefault(int(scale.x(time) / _TICK_EVERY), []).append((time, kind))
    for group in groups.values():
        x = scale.x(group[0][0])
        says = f"{count_words(kind for _, kind in group)} at {in_seconds(group[0][0])}"
        yield Line(x1=x, y1=y + _BAR_H - 6, x2=x, y2=y + _BAR_H, kind="event", says=says)
    for moment in story.ticks:
        x = scale.x(moment.time)
        yield Line(x1=x, y1=y, x2=x, y2=y + 6, kind="other", says=f"{moment.words} at {in_seconds(moment.time)}")


def _arrows(scale: Scale, story: Story, y: float) -> Iterable[Line]:
    """The way from the cause to the outcome: down to the agent, along its line, and up again."""
    top, bottom, agent = y + _BAR_Y, y + _BAR_Y + _BAR_H, y + _AGENT_Y
    ends: dict[str, float] = {step: scale.x(time) for step, time in story.steps}
    last = max(ends.values(), default=scale.x(story.span.end))
    if story.submitted is not None:
        x = scale.x(story.submitted)
        yield Line(
            x1=x, y1=bottom, x2=x, y2=agent, kind="submitted", says=f"prompt sent at {in_seconds(story.submitted)}"
        )
        own_end = ends.get("cause", last) if story.causes and _by_agent(story) else last
        done = next((ends[step] for step in ("answer", "stop") if step in ends), own_end)
        yield Line(x1=x, y1=agent, x2=max(done, x), y2=agent, kind="agent", says="the agent is at work")
    if "settled" not in ends or "cause" not in ends:
        return
    time: dict[str, str] = {step: f"{step} at {in_seconds(at)}" for step, at in story.steps}
    settled = f"{title(story)}, {time['settled']}"
    cause = f"{why(story)}; {time['cause']}"
    if "cancel" in ends:
        yield Line(
            x1=ends["cause"], y1=top, x2=ends["cancel"], y2=agent, kind="cancel", says=f"{cause}; {time['cancel']}"
        )
        end = next((step for step in ("answer", "stop") if step in ends), "cancel")
        yield Line(x1=ends["cancel"], y1=agent, x2=ends[end], y2=agent, kind=f"to-{end}", says=time[end])
        yield Line(x1=ends[end], y1=agent, x2=ends["settled"], y2=bottom, kind="settled", says=settled)
    elif _by_agent(story) and story.submitted is not None:
        yield Line(
            x1=ends["cause"], y1=agent, x2=ends["settled"], y2=bottom, kind="settled", says=f"{cause}; {settled}"
        )
    elif story.owned is not None:
        yield Line(x1=ends["cause"], y1=top - 6, x2=ends["settled"], y2=top, kind="settled", says=f"{cause}; {settled}")


def _by_agent(story: Story) -> bool:
    return bool(story.causes) and story.causes[0].get("cause") in ENDS_OF_THE_AGENT


def _bounds(scale: Scale, story: Story, y: float, end: float) -> tuple[list[Line], list[Label]]:
    """The deadlines, as far as they are before the next turn; labelled where there is room."""
    lines: list[Line] = []
    labels: list[Label] = []
    free = -math.inf
    for moment in sorted(story.bounds, key=lambda moment: moment.time):
        x = scale.x(moment.time)
        length = (len(moment.words) + 1) * _LETTER
        if x > max(end, scale.x(story.span.end) + 1):
            break
        says = f"{moment.words}: {in_seconds(moment.time)}"
        lines.append(Line(x1=x, y1=y + _BAR_Y - 4, x2=x, y2=y + _BOUND_Y - 10, kind="bound", says=says))
        if x >= free:
            x = max(LEFT, min(x, scale.width - length))
            labels.append(Label(x=x, y=y + _BOUND_Y, text=moment.words, kind="bound"))
            free = x + length
    return lines, labels
