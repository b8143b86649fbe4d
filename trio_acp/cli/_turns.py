"""From the records of a trace to what happened in each turn: phases, causes, deadlines.

Nothing is assumed of the records but their order in time: what a trace lacks
is left out of the story, and names that are not known become ticks.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from .._trace import MEANING
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ._trace_read import Entry, Trace

PhaseName: TypeAlias = Literal["queued", "preparing", "running", "cleaning", "after"]
PHASES: Final[dict[PhaseName, str]] = {
    "queued": "waits for the turns before it",
    "preparing": "the agent's session is opened, resumed or told its options",
    "running": "the agent works on the prompt",
    "cleaning": "the outcome is decided; the agent is stopped, the end is written down",
    "after": "the caller has gone on; the lane is tidied up for the next turn",
}
_BEGINS: Final[dict[str, PhaseName]] = {
    "admitted": "queued",
    "dequeued": "preparing",
    "submitted": "running",
    "retried": "preparing",
    "decided": "cleaning",
    "settled": "after",
}
_NO_TICK: Final = {
    *("admitted", "withdrawn", "dequeued", "ready", "submitted", "first_event", "event"),
    *("cause", "decided", "ladder.join", "settled", "released"),
}
"""What is told otherwise, or goes without saying."""
_MEANING: Final[Mapping[str, str]] = {str(name): meaning for name, meaning in MEANING.items()}
ENDS_OF_THE_AGENT: Final = ("response", "failure")
_SHIELDED: Final = {"caller", "left", "shutdown"}
"""Causes after which somebody waits for the end of the turn out of the reach of cancellation."""

StepName: TypeAlias = Literal["cause", "cancel", "answer", "stop", "settled"]


@attrs.frozen
class Span:
    """A stretch of time, seconds since the file was begun."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@attrs.frozen
class Moment:
    """Something at an instant, in words."""

    time: float
    words: str


@attrs.frozen(kw_only=True)
class Story:
    """One turn, or an operation on a session that is none, such as opening it.

    Attributes:
        session: As the trace has it; to be shown by `lane_name`.
        number: Counts the turns of a session, from 1; 0 if it is none.
        phases: One after the other, without gaps.
        events: When each came, and its kind.
        ticks: What else happened.
        steps: From the first cause to the outcome.
        bounds: The deadlines that it came near.
        shields: Where somebody waited for it out of the reach of cancellation.
        causes: The log, the first of which decided.
        outcome: A word or two; empty if the trace ends before.
        is_open: Whether the trace ends before it was over.
    """

    session: str
    number: int
    span: Span
    phases: tuple[tuple[PhaseName, Span], ...]
    events: tuple[tuple[float, str], ...] = ()
    ticks: tuple[Moment, ...] = ()
    steps: tuple[tuple[StepName, float], ...] = ()
    bounds: tuple[Moment, ...] = ()
    shields: tuple[Span, ...] = ()
    causes: tuple[Mapping[str, Any], ...] = ()
    limits: Mapping[str, float] = attrs.field(factory=dict)
    submitted: float | None = None
    names: frozenset[str] = frozenset()
    outcome: str = ""
    by: str = ""
    detail: str = ""
    is_open: bool = False

    @property
    def owned(self) -> Span | None:
        """When it had its session's lane to itself, if ever."""
        own = [span for phase, span in self.phases if phase != "queued"]
        return Span(own[0].start, own[-1].end) if own else None

    def at(self, step: StepName) -> float | None:
        """When a step was made, if it was."""
        return next((time for name, time in self.steps if name == step), None)

    def seconds(self, phase: PhaseName) -> float:
        """How long all phases of a name took together."""
        return sum(span.seconds for name, span in self.phases if name == phase)

    def event_words(self) -> str:
        """How many events of which kind."""
        return count_words(kind for _, kind in self.events)


def count_words(kinds: Iterable[str]) -> str:
    """Return ``12 events: 10 TextDelta, 2 ToolCall``."""
    counts = Counter(kinds)
    total = counts.total()
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.most_common(6))
    return f"{total} {'event' if total == 1 else 'events'}: {listed}" if total else "no events"


def lane_name(session: str) -> str:
    """Return a session's key as it can be shown: anybody may have named it."""
    return one_line(session, 120) or "(no name)"


def tell(trace: Trace) -> list[Story]:
    """Return what happened, ordered by when it began."""
    by_turn: dict[tuple[str, str], list[Entry]] = {}
    for entry in trace.entries:
        by_turn.setdefault((entry.session, entry.turn), []).append(entry)
    end = trace.entries[-1].time if trace.entries else 0.0
    numbers: Counter[str] = Counter()
    stories = []
    for (session, _), entries in by_turn.items():
        is_turn = any(entry.name in _BEGINS for entry in entries)
        numbers[session] += is_turn
        if is_turn or len(entries) > 1:  # the others only say that the lane was used
            stories.append(_story(entries, numbers[session] if is_turn else 0, end))
    return sorted(stories, key=lambda story: story.span.start)


def _story(entries: Sequence[Entry], number: int, end_of_trace: float) -> Story:
    names = [entry.name for entry in entries]
    ended = "released" in names or ("withdrawn" in names and "settled" in names)
    span = Span(entries[0].time, entries[-1].time if ended or not number else end_of_trace)
    at = {entry.name: entry.time for entry in reversed(entries)}  # the first of each name
    attempt = entries[len(names) - names[::-1].index("retried") :] if "retried" in names else entries
    causes = [entry for entry in attempt if entry.name == "cause"]
    limits = next((_limits(entry.data) for entry in reversed(entries) if "limits" in entry.data), {})
    settled = next((entry for entry in entries if entry.name == "settled"), None)
    said = {} if settled is None else settled.data
    submitted = [entry.time for entry in attempt if entry.name == "submitted"]
    steps = tuple(_steps(attempt, causes, at.get("withdrawn"), None if settled is None else settled.time))
    return Story(
        session=entries[0].session,
        number=number,
        span=span,
        phases=tuple(_phases(entries, span)) if number else (("preparing", span),),
        events=tuple((entry.time, _word(entry.data, "kind") or "?") for entry in entries if entry.name == "event"),
        ticks=tuple(Moment(entry.time, _tick(entry)) for entry in entries if entry.name not in _NO_TICK),
        steps=steps,
        bounds=tuple(_bounds(at, causes, limits, span)),
        shields=tuple(_shields(entries, span.end if settled is None else settled.time)),
        causes=tuple(entry.data for entry in causes),
        limits=limits,
        submitted=submitted[-1] if submitted else None,
        names=frozenset(names),
        outcome=_word(said, "outcome"),
        by=_word(said, "by"),
        detail=_word(said, "detail"),
        is_open=bool(number) and not ended,
    )


def _phases(entries: Sequence[Entry], span: Span) -> Iterable[tuple[PhaseName, Span]]:
    begun = [(_BEGINS[entry.name], entry.time) for entry in entries if entry.name in _BEGINS]
    if any(entry.name == "withdrawn" for entry in entries):
        begun = begun[:1]
    ends = [time for _, time in begun[1:]] + [span.end]
    for (phase, start), end in zip(begun, ends, strict=True):
        yield phase, Span(start, end)


def _steps(
    attempt: Sequence[Entry], causes: Sequence[Entry], withdrawn: float | None, settled: float | None
) -> Iterable[tuple[StepName, float]]:
    if causes:
        yield "cause", causes[0].time
    elif withdrawn is not None:
        yield "cause", withdrawn
    cancel = next((entry.time for entry in attempt if entry.name == "ladder.cancel"), None)
    if cancel is not None:
        yield "cancel", cancel
        answers = [entry.time for entry in causes[1:] if entry.data.get("cause") in ENDS_OF_THE_AGENT]
        stop = next((entry.time for entry in attempt if entry.name == "ladder.stop"), None)
        if answers:
            yield "answer", max(answers[0], cancel)
        elif stop is not None:
            yield "stop", stop
    if settled is not None:
        yield "settled", settled


def in_seconds(seconds: float) -> str:
    """Return a time or a limit to the millisecond: ``0.5 s``, ``172800 s``."""
    digits = f"{seconds:.3f}".rstrip("0").rstrip(".")
    return "0 s" if digits == "-0" else f"{digits} s"


def _bounds(
    at: Mapping[str, float], causes: Sequence[Entry], limits: Mapping[str, float], span: Span
) -> Iterable[Moment]:
    turn, grace, cleanup = (limits.get(name, math.inf) for name in ("turn", "grace", "cleanup"))
    found = []
    if "dequeued" in at:
        deadline = at["dequeued"] + turn
        if deadline <= at.get("settled", span.end):
            found += [
                Moment(deadline, f"T = {in_seconds(turn)}"),
                Moment(deadline + grace, f"+{in_seconds(grace)} grace"),
            ]
    if "ladder.cancel" in at and causes:
        found.append(Moment(causes[0].time + cleanup, f"+{in_seconds(cleanup)} cleanup"))
    # Closing is told about only if it took a while: every oneshot is closed.
    if "ladder.close" in at and at.get("settled", span.end) - at["ladder.close"] > cleanup / 10:
        found.append(Moment(at["ladder.close"] + cleanup, f"+{in_seconds(cleanup)} close"))
    return (bound for bound in found if math.isfinite(bound.time))


def _shields(entries: Sequence[Entry], end: float) -> Iterable[Span]:
    waits = [entry.time for entry in entries if entry.name == "cause" and entry.data.get("cause") in _SHIELDED]
    if waits and waits[0] < end:
        yield Span(waits[0], end)


def _limits(data: Mapping[str, Any]) -> Mapping[str, float]:
    found = data["limits"]
    if not isinstance(found, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and 0 < value <= 1e11  # others are off, or nonsense
    }


def _tick(entry: Entry) -> str:
    meaning = _MEANING.get(entry.name, "unknown record")
    told = ", ".join(f"{key}: {value}" for key, value in entry.data.items() if value)
    return one_line(f"{entry.name}: {meaning.partition(' (data')[0]}" + (f" ({told})" if told else ""))


def _word(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None else one_line(str(value), 200)
