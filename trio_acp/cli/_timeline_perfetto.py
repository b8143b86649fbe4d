"""A timeline as Chrome's trace events, which Perfetto (ui.perfetto.dev) and chrome://tracing show.

A session is a process, its rows are threads: slices of one thread are nested
or apart, as the format wants it.  Times are whole microseconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ._timeline_layout import stack
from ._turn_words import sentences, title, why
from ._turns import lane_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._turns import Story


def perfetto(stories: Sequence[Story], *, wall: str) -> str:
    """Return the JSON of a trace in the object form of the format."""
    events: list[dict[str, Any]] = []
    keys = list(dict.fromkeys(story.session for story in stories))
    for pid, key in enumerate(keys, 1):
        events.append(_metadata("process_name", pid, 0, lane_name(key)))
        tid = 0
        mine = [story for story in stories if story.session == key]
        owners = [story for story in mine if story.owned is not None]
        for row in stack(owners, lambda story: (_owned(story)[0], _owned(story)[1])):
            tid += 1
            events.append(_metadata("thread_name", pid, tid, "turns"))
            for story in row:
                events += _slices(story, pid, tid)
                events += _arrows(story, pid, tid, f"{pid}.{story.number}.{story.span.start}")
        waiting = [(story, span) for story in mine for phase, span in story.phases if phase == "queued"]
        for waiters in stack(waiting, lambda it: (it[1].start, it[1].end)):
            tid += 1
            events.append(_metadata("thread_name", pid, tid, "waiting"))
            for story, span in waiters:
                events.append(_slice(f"{title(story)} waits", "queued", span.start, span.end, pid, tid))
    told = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"begun": wall, "producer": "trio-acp"}}
    return json.dumps(told, ensure_ascii=True, allow_nan=False) + "\n"


def _owned(story: Story) -> tuple[float, float]:
    assert story.owned is not None
    return story.owned.start, story.owned.end


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


def _metadata(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _slice(name: str, cat: str, start: float, end: float, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    # Both ends are rounded, not the length: so slices that touch do not overlap.
    where = {"ts": _us(start), "dur": _us(end) - _us(start), "pid": pid, "tid": tid}
    return {"ph": "X", "name": name, "cat": cat, **where, "args": args}


def _slices(story: Story, pid: int, tid: int) -> Iterator[dict[str, Any]]:
    start, end = _owned(story)
    told = {"why": why(story), "then": " ".join(sentences(story)), "outcome": story.outcome}
    yield _slice(title(story), "turn", start, end, pid, tid, **told)
    for phase, span in story.phases:
        if phase != "queued":
            yield _slice(phase, "phase", span.start, span.end, pid, tid)
    moments = [(time, kind, "event") for time, kind in story.events]
    moments += [(moment.time, moment.words, "other") for moment in story.ticks]
    moments += [(moment.time, moment.words, "deadline") for moment in story.bounds]
    for time, name, cat in moments:
        yield {"ph": "i", "name": name, "cat": cat, "ts": _us(time), "pid": pid, "tid": tid, "s": "t"}


def _arrows(story: Story, pid: int, tid: int, ident: str) -> Iterator[dict[str, Any]]:
    """A flow: it starts at the cause, goes by cancel and answer, and finishes at the outcome."""
    steps = list(story.steps)
    if len(steps) < 2:
        return
    for n, (step, time) in enumerate(steps):
        where = {"ts": _us(time), "pid": pid, "tid": tid}
        yield {"ph": "i", "name": step, "cat": "step", "s": "t", **where}
        ph = "s" if n == 0 else "f" if n == len(steps) - 1 else "t"
        ends = {"bp": "e"} if ph == "f" else {}
        yield {"ph": ph, "name": "why it ended", "cat": "ladder", "id": ident, **where, **ends}
