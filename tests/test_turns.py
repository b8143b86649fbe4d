"""The story of each turn, told from records: phases, steps, deadlines, and why it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.trace_kit import encoded, entry, header, write_demo
from trio_acp.cli._timeline_text import bar, summary
from trio_acp.cli._trace_read import read_trace
from trio_acp.cli._turn_words import duration, sentences, title, why
from trio_acp.cli._turns import Story, tell

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = {"turn": 10.0, "grace": 1.0, "cleanup": 2.0, "join": 0.1, "setup": "inf"}


def stories(*entries: dict[str, Any]) -> list[Story]:
    """Return what is told of these records."""
    return tell(read_trace(encoded(header(), *entries), "f"))


def the_turn(*told: tuple[str, float] | tuple[str, float, dict[str, Any]]) -> Story:
    """Return the one turn of these records."""
    [story] = stories(*(entry(name, time, **(data[0] if data else {})) for name, time, *data in told))
    return story


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[Story]:
    """The stories of real runs, one of each kind."""
    path: Path = tmp_path_factory.mktemp("trace") / "demo.jsonl"
    write_demo(path)
    with path.open("rb") as file:
        return tell(read_trace(file, "demo"))


def found(demo: list[Story], session: str, number: int = 1) -> Story:
    """Return a turn of the demo."""
    [story] = [story for story in demo if session in story.session and story.number == number]
    return story


def test_a_time_out_tells_its_deadlines_and_its_ladder(demo: list[Story]) -> None:
    """T, T+1 and +2 are where they are, and the agent that did not stop is what took the last two seconds."""
    story = found(demo, "ignores")
    began = story.span.start
    assert "turn 1: TimedOut" == title(story)
    assert "the time was up: 10 s, and 1 s of grace" == why(story)
    assert [10, 11, 13] == [round(bound.time - began, 6) for bound in story.bounds]
    assert [("cause", 11), ("cancel", 11), ("stop", 13), ("settled", 13)] == [
        (step, round(time - began, 6)) for step, time in story.steps
    ]
    assert "The agent was told to stop, did not within 2 s, and its call was cancelled." == sentences(story)[0]
    assert "The agent still owes an answer, so the session is not reused as it is." in sentences(story)


def test_a_cancel_tells_who_asked_and_how_long_the_agent_took(demo: list[Story]) -> None:
    """The reason is told as it was given, made harmless; the answer to the cancel is one of the steps."""
    story = found(demo, "script")
    assert "turn 1: Stopped by user" == title(story)
    assert why(story).startswith("somebody asked for its end: pressed a<script>")
    assert "\x1b" not in why(story)
    assert ["cause", "cancel", "answer", "settled"] == [step for step, _ in story.steps]
    assert "The agent was told to stop; 700 ms later it answered: cancelled." == sentences(story)[0]
    assert () == story.shields


def test_a_cancelled_caller_waits_in_a_shield(demo: list[Story]) -> None:
    """From its cancellation to the outcome, and no longer."""
    story = found(demo, "script", 2)
    assert "its caller was cancelled" == why(story)
    [shield] = story.shields
    assert (story.at("cause"), story.at("settled")) == (shield.start, shield.end)


def test_a_queue_tells_who_waited(demo: list[Story]) -> None:
    """Each turn's wait is a phase of its own; who was withdrawn never had the lane."""
    queued = [round(found(demo, "queue", n).seconds("queued"), 6) for n in (1, 2, 3, 4)]
    assert [0, 1.5, 3, 2] == queued
    withdrawn = found(demo, "queue", 4)
    assert ("turn 4: Stopped by caller", None) == (title(withdrawn), withdrawn.owned)
    assert "it was withdrawn while it still waited" == why(withdrawn)


def test_a_retry_has_two_attempts_and_one_outcome(demo: list[Story]) -> None:
    """The failed attempt decides nothing, and is told."""
    story = found(demo, "loses")
    assert ["queued", "preparing", "running", "preparing", "running", "cleaning", "after"] == [
        phase for phase, _ in story.phases
    ]
    assert "the agent answered: end_turn" == why(story)
    assert "A first attempt failed before anything was started, and one more was made." in sentences(story)


def test_phases_follow_each_other(demo: list[Story]) -> None:
    """They cover a turn without a gap, whatever happened in it."""
    for story in demo:
        edges = [edge for _, span in story.phases for edge in (span.start, span.end)]
        assert [story.span.start, story.span.end] == [edges[0], edges[-1]]
        assert edges[1:-1:2] == edges[2::2]


def test_an_ordinary_turn_counts_its_events(demo: list[Story]) -> None:
    """By kind, the most frequent first."""
    assert "43 events: 40 TextDelta, 3 ToolCall" == found(demo, "normal").event_words()


def test_opening_a_session_is_an_operation_and_no_turn(demo: list[Story]) -> None:
    """It is not counted."""
    [opening, _turn] = [story for story in demo if "loses" in story.session]
    assert (0, "operation") == (opening.number, title(opening))


def test_a_trace_that_ends_early_has_an_open_turn() -> None:
    """It lasts until the last record of the trace, and its deadlines are known all the same."""
    story = the_turn(
        ("admitted", 0), ("dequeued", 0, {"limits": LIMITS}), ("submitted", 1), ("event", 30, {"kind": "X"})
    )
    assert story.is_open
    assert (30.0, "turn 1: not over when the trace ends") == (story.span.end, title(story))
    assert "nothing had ended it yet" == why(story)
    assert [10.0, 11.0] == [bound.time for bound in story.bounds]


CAUSES = [
    ({"cause": "failure", "error": "no\nmore"}, "no more"),
    ({"cause": "failure"}, "it failed"),
    ({"cause": "deadline"}, "the time was up"),
    ({"cause": "left"}, "its block was left before it was over"),
    ({"cause": "closed", "reason": "bye"}, "its session was closed: bye"),
    ({"cause": "shutdown"}, "the manager was closed"),
    ({"cause": "a new one", "reason": "x"}, "a new one: x"),
    ({}, "None"),
]


@pytest.mark.parametrize(("cause", "words"), CAUSES)
def test_every_cause_has_words(cause: dict[str, Any], words: str) -> None:
    """Also one that this version does not know, and one without anything."""
    assert words == why(the_turn(("admitted", 0), ("dequeued", 0), ("cause", 1, cause)))


def test_later_causes_are_told_as_such() -> None:
    """They decided nothing, but may be what a person remembers having done."""
    story = the_turn(
        ("admitted", 0),
        ("dequeued", 0),
        ("submitted", 0),
        ("cause", 1, {"cause": "deadline"}),
        ("decided", 1, {"limits": LIMITS}),
        ("ladder.cancel", 1),
        ("cause", 2, {"cause": "user", "reason": "enough"}),
        ("cause", 2, {"cause": "failure", "error": "gone"}),
        ("straggler", 2),
        ("store_failed", 2),
        ("settled", 2, {"outcome": "TimedOut"}),
        ("released", 2),
    )
    told = sentences(story)
    assert "The agent was told to stop; 1 s later gone." == told[0]
    assert "Later, deciding nothing: somebody asked for its end: enough." == told[-1]
    assert 5 == len(told)


def test_an_unknown_record_is_a_tick() -> None:
    """With what it says."""
    story = the_turn(("admitted", 0), ("brand.new", 1, {"x": "y\x1b"}), ("dequeued", 2))
    assert ["brand.new: unknown record (x: y\\u001b)"] == [tick.words for tick in story.ticks]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.0021, "2.1 ms"), (0.25, "250 ms"), (3.14159, "3.14 s"), (119.6, "2 min 0 s"), (7500, "2 h 5 min")],
)
def test_durations_can_be_taken_in(seconds: float, words: str) -> None:
    """Two or three digits, and a unit to match."""
    assert words == duration(seconds)


def test_the_summary_says_it_in_plain_lines(demo: list[Story]) -> None:
    """A line for each session, a line for each turn that begins with why it ended, a bar as wide as any other."""
    lines = list(summary(demo, wall="today", notes=["A note."]))
    assert lines[0].startswith("Begun today: 6 sessions, 11 turns.")
    assert "A note." == lines[1]
    assert "  turn 1: TimedOut: the time was up: 10 s, and 1 s of grace" in lines
    assert 11 == sum(line.startswith("  turn ") for line in lines)
    assert {40} == {len(line.partition("[")[2].partition("]")[0]) for line in lines if " s [" in line}


def test_a_bar_shows_what_was_short_too() -> None:
    """A phase that took a millisecond has a sign of its own."""
    story = the_turn(("admitted", 0), ("dequeued", 0.002), ("submitted", 5), ("settled", 5), ("released", 90))
    assert (".", 40) == (bar(story)[0], len(bar(story)))
    assert {".", "-", "'"} == set(bar(story))
    assert " " * 40 == bar(the_turn(("admitted", 1)))
