"""Spans of turns, as the real SDK exports them: each ends exactly once, whatever becomes of its turn."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import trio_acp
from tests.test_turn_machine import TurnMachine
from tests.turn_kit import LIMITS, SETTINGS, Watched, one_session
from trio_acp import TextDelta
from trio_acp._trace import TraceRecord
from trio_acp.otel import OpenTelemetryInstrument
from trio_acp.testing import FakeRuntime, Hang, Raise, Swallow
from trio_acp.testing.turn_model import EDGES, SLACK, Broken, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from trio_acp.abc import Mode
    from trio_acp.testing.fake import Step

OUTCOMES = {"Completed": "completed", "Failed": "failed", "TimedOut": "timed_out", "Stopped": "stopped"}


class Complaints(logging.Handler):
    """Keeps what the SDK complains about: a span that is ended twice, or changed after its end."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class Begun(SpanProcessor):
    """Counts the spans that were begun."""

    def __init__(self) -> None:
        self.count = 0

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.count += 1


class Telemetry:
    """An instrument whose spans go into memory, and the laws that they obey."""

    def __init__(self) -> None:
        self.exporter, self.begun, self.complaints = InMemorySpanExporter(), Begun(), Complaints()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.begun)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")
        self.instrument = OpenTelemetryInstrument(self.tracer)
        self.records: list[TraceRecord] = []
        logging.getLogger("opentelemetry").addHandler(self.complaints)

    def tell(self, record: TraceRecord) -> None:
        self.records.append(record)
        self.instrument.record(record)

    def turns(self) -> list[ReadableSpan]:
        """Return the spans of turns that have ended, in order of their ends."""
        return [span for span in self.exporter.get_finished_spans() if span.name == "trio_acp.turn"]

    def phases(self, turn: ReadableSpan) -> list[ReadableSpan]:
        """Return the spans of a turn's phases, in order of their ends."""
        id_ = turn.context.span_id if turn.context is not None else None
        return [s for s in self.exporter.get_finished_spans() if s.parent is not None and s.parent.span_id == id_]

    def names(self, turn: ReadableSpan) -> list[str]:
        return [span.name.removeprefix("trio_acp.turn.") for span in self.phases(turn)]

    def finish(self) -> None:
        """Assert that every span has ended once, and that each turn has its phases, without a gap."""
        logging.getLogger("opentelemetry").removeHandler(self.complaints)
        ended = self.exporter.get_finished_spans()
        ids = [span.context.span_id for span in ended if span.context is not None]
        assert [] == self.complaints.texts
        assert self.begun.count == len(ended) == len(set(ids))
        told = {record.turn for record in self.records if record.name == "admitted"}
        spans = {str(span.attributes["trio_acp.turn"]): span for span in self.turns() if span.attributes is not None}
        assert told == spans.keys()
        for turn, span in spans.items():
            self.check(span, [record for record in self.records if record.turn == turn])

    def check(self, span: ReadableSpan, records: list[TraceRecord]) -> None:
        """Assert that a span says what the records of its turn say."""
        phases, attributes = self.phases(span), dict(span.attributes or {})
        assert re.fullmatch(r"queued( preparing( running)?){0,2}( cleaning)?", " ".join(self.names(span)))
        edges = [time for phase in phases for time in (phase.start_time, phase.end_time)]
        assert [span.start_time, span.end_time] == [edges[0], edges[-1]]
        assert edges[1:-1:2] == edges[2:-1:2]
        at = {record.name: record for record in reversed(records)}
        assert span.start_time is not None
        assert span.end_time is not None
        assert round((at["settled"].time - at["admitted"].time) * 1e9) == span.end_time - span.start_time
        assert OUTCOMES[at["settled"].data["outcome"]] == attributes["trio_acp.outcome"]
        assert at["settled"].data.get("by") == attributes.get("trio_acp.stopped_by")
        assert at["settled"].data.get("detail") == attributes.get("trio_acp.detail")
        bad = at["settled"].data["outcome"] in {"Failed", "TimedOut"}
        assert (StatusCode.ERROR if bad else StatusCode.UNSET) == span.status.status_code
        if "decided" in at:
            assert at["decided"].data["cause"] == attributes["trio_acp.cause"]
        seen = [record for record in records if record.time <= at["settled"].time]
        seen = seen[: [record.name for record in seen].index("settled")]
        events = [r.name for r in seen if r.name not in {"admitted", "dequeued", "submitted", "decided"}]
        assert events == [event.name for event in span.events]


# -- whatever happens ------------------------------------------------------------------

DATA: dict[str, list[dict[str, Any]]] = {
    "cause": [
        {"cause": cause, "retryable": retryable, "reason": None, "error": "secret" if cause == "failure" else None}
        for cause in ("response", "failure", "user", "caller", "left", "closed", "shutdown", "deadline")
        for retryable in (False, True)
    ],
    "setup": [{"agent": "fake", "resume": None}],
    "ready": [{"agent": "fake"}],
    "straggler": [{"call": "run_turn"}],
    "decided": [
        {"cause": cause, "limits": LIMITS, "oneshot": oneshot}
        for cause in ("response", "failure", "user", "caller", "left", "closed", "shutdown", "deadline")
        for oneshot in (False, True)
    ],
    "settled": [
        {"outcome": "Completed", "by": None, "detail": None},
        {"outcome": "TimedOut", "by": None, "detail": None},
        {"outcome": "Failed", "by": None, "detail": "internal-error"},
        {"outcome": "Failed", "by": None, "detail": "disconnected"},
        *({"outcome": "Stopped", "by": by, "detail": None} for by in ("user", "caller", "left", "closed", "shutdown")),
    ],
}


def permitted(turn: Turn, session: str, name: str) -> Iterator[tuple[TraceRecord, Turn]]:
    """Yield what the model permits next, at the soonest and at the latest instant."""
    for edge in {edge.record for edge in EDGES if edge.source == turn.state}:
        for time in {turn.now, turn.now + 0.05, turn.now + 6.0 + SLACK}:
            for data in DATA.get(edge, [{}]):
                known: Any = edge
                record = TraceRecord(name=known, time=time, session=session, turn=name, data=data)
                with contextlib.suppress(Broken):
                    yield record, turn.step(record)


@settings(max_examples=50)  # many more take minutes
@given(st.data(), st.integers(1, 3))
def test_every_run_of_the_model_ends_all_its_spans_once(data: st.DataObject, count: int) -> None:
    """Several turns, whose records come in any order that the model permits, at any time: the laws hold."""
    telemetry = Telemetry()
    turns = {f"t{number}": Turn(limits=LIMITS) for number in range(count)}
    steps = 0
    while turns:
        name = data.draw(st.sampled_from(sorted(turns)))
        coming = sorted(permitted(turns[name], "k", name), key=lambda each: repr(each[0]))
        if steps > 30:  # then only what leads on
            coming = [each for each in coming if each[1].state != turns[name].state] or coming
        record, turns[name] = data.draw(st.sampled_from(coming))
        telemetry.tell(record)
        steps += 1
        if turns[name].state == "over":
            del turns[name]
    telemetry.finish()


class Both(Watched):
    """Does what the machine's recorder does, and makes spans."""

    def __init__(self) -> None:
        super().__init__()
        self.telemetry = Telemetry()

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        self.telemetry.tell(record)


class SpanMachine(TurnMachine):
    """The machine of a real turn, of which each thing that can happen to it is a rule, with spans made of it."""

    async def _begin(self, mode: Mode, idle_ttl: float) -> None:
        self.watched = self.both = Both()
        await super()._begin(mode, idle_ttl)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "both"):
            self.both.telemetry.finish()


TestSpans = SpanMachine.TestCase
TestSpans.settings = settings(max_examples=25, stateful_step_count=10)


# -- what a span says ------------------------------------------------------------------


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Make an instrument; at the end, check everything that it has made."""
    made = Telemetry()
    yield made
    made.finish()


class Forwarding(trio_acp.abc.Instrument):
    """Tells the telemetry of a test."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def record(self, record: TraceRecord) -> None:
        self.telemetry.tell(record)


async def test_a_turn_and_its_phases(telemetry: Telemetry, autojump_clock: MockClock) -> None:
    """Each phase takes as long as it took on Trio's clock; the turn's span names session, agent and outcome."""
    runtime = FakeRuntime([TextDelta("x"), Hang()], cancel=[Hang()])
    async with one_session(runtime, instrument=Forwarding(telemetry)) as (_manager, session):
        second = session.turn("secret words")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(times_out, session.turn("x"))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(times_out, second)
    span = telemetry.turns()[-1]
    assert ["queued", "preparing", "running", "cleaning"] == telemetry.names(span)
    assert [8.0, 0.0, 6.0, 2.0] == pytest.approx([seconds(phase) for phase in telemetry.phases(span)], abs=0.3)
    assert {
        "trio_acp.session": session.key,
        "trio_acp.turn": second.request_id,
        "trio_acp.agent": "fake",
        "trio_acp.cause": "deadline",
        "trio_acp.outcome": "timed_out",
    } == dict(span.attributes or {})
    assert "secret" not in span.to_json()
    assert ["ladder.cancel", "ladder.stop", "suspect"] == [e.name for e in span.events if e.name[:2] in {"la", "su"}]
    [cause] = [event for event in span.events if event.name == "cause"]
    assert {"trio_acp.cause": "deadline", "trio_acp.reason": "turn-timeout", "trio_acp.retryable": False} == dict(
        cause.attributes or {}
    )


async def times_out(turn: trio_acp.Turn) -> None:
    with pytest.raises(trio_acp.TurnTimedOut):
        async with turn:
            async for _ in turn:
                pass


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


async def test_the_parent_is_current_where_the_turn_was_admitted(
    telemetry: Telemetry, autojump_clock: MockClock
) -> None:
    """Each of two turns that one actor serves is a child of its own caller's span, which stays current for him."""
    async with one_session(FakeRuntime([TextDelta("x")]), instrument=Forwarding(telemetry)) as (_manager, session):

        async def caller(name: str) -> None:
            with telemetry.tracer.start_as_current_span(name) as mine:
                await session.prompt(name)
                with telemetry.tracer.start_as_current_span(f"after {name}") as after:
                    assert mine.get_span_context().span_id == getattr(after, "parent").span_id  # noqa: B009 - SDK's

        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller, "one")
            nursery.start_soon(caller, "two")
        await session.prompt("alone")
    finished = telemetry.exporter.get_finished_spans()
    callers = {span.context.span_id: span.name for span in finished if span.context is not None}
    parents = [callers[turn.parent.span_id] if turn.parent is not None else None for turn in telemetry.turns()]
    assert {"one", "two", None} == set(parents)
    assert parents[-1] is None


async def test_withdrawn_and_stopped_at_the_exit(telemetry: Telemetry, autojump_clock: MockClock) -> None:
    """A turn withdrawn in the queue has that phase only; the manager's exit ends the spans of all the others."""
    runtime = FakeRuntime([Swallow(9)])
    async with (
        trio.open_nursery() as nursery,
        one_session(runtime, instrument=Forwarding(telemetry)) as (_manager, session),
    ):
        for prompt in ("runs", "waits"):
            nursery.start_soon(session.prompt, prompt)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await session.prompt("withdrawn")
        assert [["queued"]] == [telemetry.names(span) for span in telemetry.turns()]
    by = [dict(span.attributes or {})["trio_acp.stopped_by"] for span in telemetry.turns()]
    assert ["caller", "shutdown", "shutdown"] == by
    assert [["queued"], ["queued"], ["queued", "preparing", "running", "cleaning"]] == [
        telemetry.names(span) for span in telemetry.turns()
    ]


async def test_a_retry_prepares_and_runs_twice(telemetry: Telemetry, autojump_clock: MockClock) -> None:
    """Both attempts are seen, and the failure that was not the last word is an event only."""
    attempts: list[list[Step]] = [
        [Raise(trio_acp.BackendUnavailable("planted words", retryable=True))],
        [TextDelta("x")],
    ]
    runtime = FakeRuntime(lambda _: attempts.pop(0))
    async with one_session(runtime, instrument=Forwarding(telemetry)) as (_manager, session):
        await session.prompt("x")
    [span] = telemetry.turns()
    assert ["queued", "preparing", "running", "preparing", "running", "cleaning"] == telemetry.names(span)
    assert StatusCode.UNSET == span.status.status_code
    assert "planted" not in span.to_json()


async def test_a_failure_has_its_detail_and_no_words(telemetry: Telemetry, autojump_clock: MockClock) -> None:
    """The status is an error with the detail, by which failures are told apart; texts may be an agent's."""
    runtime = FakeRuntime([Raise(trio_acp.ConnectionLost("planted words"))])
    async with one_session(runtime, instrument=Forwarding(telemetry)) as (_manager, session):
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("x")
    [span] = telemetry.turns()
    assert caught.value.detail == span.status.description == dict(span.attributes or {})["trio_acp.detail"]
    assert "planted" not in span.to_json()


async def test_without_an_sdk_nothing_happens(autojump_clock: MockClock) -> None:
    """The default is the global provider's tracer, which makes no spans until the application sets one up."""
    async with one_session(FakeRuntime([TextDelta("x")]), instrument=OpenTelemetryInstrument()) as (_manager, session):
        assert "x" == str(await session.prompt("x"))


def test_one_instrument_for_several_runs() -> None:
    """Managers in two threads may share an instrument: turns are told apart by session and id."""
    telemetry = Telemetry()

    async def main() -> None:
        async with one_session(
            FakeRuntime([TextDelta("x")]), settings=attrs.evolve(SETTINGS), instrument=Forwarding(telemetry)
        ) as (_manager, session):
            for _ in range(20):
                await session.prompt("x")

    threads = [threading.Thread(target=trio.run, args=(main,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    telemetry.finish()
    assert 40 == len(telemetry.turns())


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        ("import trio_acp; trio_acp.open_session_manager", "opentelemetry prometheus_client"),
        ("import trio_acp.logs", "opentelemetry prometheus_client trio_websocket cattrs"),
        ("import trio_acp.otel", "opentelemetry.sdk prometheus_client trio_websocket cattrs"),
        ("import trio_acp.prometheus", "opentelemetry trio_websocket"),
    ],
)
def test_extras_are_loaded_only_when_they_are_imported(line: str, foreign: str) -> None:
    """The package needs none of them; the spans need the API alone."""
    code = f"import sys; {line}; print(*(name for name in {foreign.split()} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "" == done.stdout.strip()
