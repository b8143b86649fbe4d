"""OpenTelemetry: a span for each turn, with a child for each of its phases.

It needs ``pip install trio-acp[otel]``, which brings OpenTelemetry's API; where
spans go is up to the SDK that the application sets up::

    async with open_session_manager(runtimes, instrument=OpenTelemetryInstrument()) as manager: ...

The span ``trio_acp.turn`` begins when the prompt is admitted, as a child of the
span that is current there, and ends when the turn is settled.  Within it,
without a gap and each ended before the next begins:

===========================  ====================================================
``trio_acp.turn.queued``     the prompt waits for the turns before it
``trio_acp.turn.preparing``  metadata is read, the agent's session opened, its options set
``trio_acp.turn.running``    the prompt is the agent's
``trio_acp.turn.cleaning``   the outcome is decided; an agent that still works is stopped
===========================  ====================================================

A turn that is withdrawn has only the first; one that is retried prepares, and
perhaps runs, twice.  What else happens, the steps of stopping an agent among it,
is an event of the turn's span, named as in `trio_acp.abc.TraceRecord`.

Attributes of the turn's span: ``trio_acp.session``, ``trio_acp.turn`` (its id),
``trio_acp.agent`` (once it is known), ``trio_acp.cause`` (what decided the
outcome), ``trio_acp.outcome`` (completed, failed, timed_out, stopped), and, as
far as there are any, ``trio_acp.detail`` (of the failure) and
``trio_acp.stopped_by``.  Its status is an error if the turn failed or timed out.
No text of prompts or agents is in a span.

Spans begin at the wall clock's time; their lengths are Trio's clock's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import attrs
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode

from .abc import Instrument

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

    from .abc import TraceRecord

__all__ = ["OpenTelemetryInstrument"]

_PHASES: Final = {
    # Record: the phase that it begins.
    "dequeued": "preparing",
    "submitted": "running",
    "retried": "preparing",
    "decided": "cleaning",
}
_OUTCOMES: Final = {"Completed": "completed", "Failed": "failed", "TimedOut": "timed_out", "Stopped": "stopped"}
_TOLD: Final = ("cause", "reason", "retryable", "call", "resume")
"""Of a record's data, what an event tells: no texts of errors, which may be the agent's."""
_SHOWN: Final = {"dequeued", "submitted", "decided", "event"}
"""Records that are no event: phases show them, or there are too many."""


@attrs.define(eq=False)
class _Spans:
    """The open spans of one turn; times are converted from Trio's clock."""

    turn: Span
    began: int
    """Nanoseconds since the epoch."""
    admitted: float
    phase: Span

    def at(self, record: TraceRecord) -> int:
        return self.began + round((record.time - self.admitted) * 1e9)


class OpenTelemetryInstrument(Instrument):
    """Makes spans of turns; give it to `trio_acp.open_session_manager`, or to several.

    It does its work at once and waits for nothing.  Every span that it begins
    ends when its turn is settled, at the manager's exit at the latest.

    Args:
        tracer: Makes the spans; default: that of the global provider.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = trace.get_tracer("trio_acp") if tracer is None else tracer
        self._open: dict[tuple[str, str], _Spans] = {}

    def record(self, record: TraceRecord) -> None:
        """Begin, complete or end spans."""
        turn = record.session, record.turn
        if record.name == "admitted":
            self._open[turn] = self._begin(record)
        elif (spans := self._open.get(turn)) is None:
            pass  # of another request than a turn, or after the outcome
        elif record.name == "settled":
            del self._open[turn]
            self._end(spans, record)
        else:
            if record.name == "decided":
                spans.turn.set_attribute("trio_acp.cause", record.data["cause"])
            if "agent" in record.data:
                spans.turn.set_attribute("trio_acp.agent", record.data["agent"])
            if record.name in _PHASES:
                spans.phase.end(spans.at(record))
                spans.phase = self._phase(_PHASES[record.name], spans.turn, spans.at(record))
            if record.name not in _SHOWN:
                spans.turn.add_event(record.name, _attributes(record), spans.at(record))

    def _begin(self, record: TraceRecord) -> _Spans:
        now = time.time_ns()
        attributes = {"trio_acp.session": record.session, "trio_acp.turn": record.turn}
        # Not made current: the record comes in the task of whoever prompts, and goes on being his.
        turn = self._tracer.start_span("trio_acp.turn", attributes=attributes, start_time=now)
        return _Spans(turn, now, record.time, self._phase("queued", turn, now))

    def _phase(self, name: str, turn: Span, now: int) -> Span:
        return self._tracer.start_span(f"trio_acp.turn.{name}", context=trace.set_span_in_context(turn), start_time=now)

    def _end(self, spans: _Spans, record: TraceRecord) -> None:
        outcome, detail, by = (record.data.get(name) for name in ("outcome", "detail", "by"))
        spans.turn.set_attribute("trio_acp.outcome", _OUTCOMES.get(str(outcome), str(outcome)))
        if detail is not None:
            spans.turn.set_attribute("trio_acp.detail", detail)
        if by is not None:
            spans.turn.set_attribute("trio_acp.stopped_by", by)
        if outcome in {"Failed", "TimedOut"}:
            spans.turn.set_status(Status(StatusCode.ERROR, detail or "the turn timed out"))
        spans.phase.end(spans.at(record))
        spans.turn.end(spans.at(record))


def _attributes(record: TraceRecord) -> dict[str, Any]:
    told = ((name, record.data.get(name)) for name in _TOLD)
    return {f"trio_acp.{name}": value for name, value in told if isinstance(value, str | bool)}
