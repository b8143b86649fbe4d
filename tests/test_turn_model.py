"""The model of a turn: each of its laws bites, and the page that draws it is up to date."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest
import trio

from tests.turn_kit import LIMITS, Recorder, one_session
from trio_acp import TextDelta, _turn
from trio_acp._trace import TraceName, TraceRecord
from trio_acp.testing import FakeRuntime, Hang, Sleep, Swallow
from trio_acp.testing.trace_check import check
from trio_acp.testing.turn_model import EDGES, GUARDS, LAWS, Broken, Turn, diagram, foretell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.testing import MockClock

PAGE = Path(__file__).parents[1] / "docs" / "turn-model.md"
DATA: dict[str, dict[str, Any]] = {
    "response": {"cause": "response", "retryable": False},
    "failure": {"cause": "failure", "retryable": False},
    "retryable": {"cause": "failure", "retryable": True},
    "user": {"cause": "user", "retryable": False},
    "caller": {"cause": "caller", "retryable": False},
    "deadline": {"cause": "deadline", "retryable": False},
}
OUTCOMES: dict[str, dict[str, Any]] = {
    "completed": {"outcome": "Completed", "by": None},
    "failed": {"outcome": "Failed", "by": None},
    "internal": {"outcome": "Failed", "by": None, "detail": "internal-error"},
    "stopped": {"outcome": "Stopped", "by": "user"},
    "timed-out": {"outcome": "TimedOut", "by": None},
}
STARTED = "admitted dequeued ready submitted"
CLEAN = "cause:response decided:response settled:completed released"
FAILED = "cause:failure decided:failure settled:failed"


def trace(story: str, turn: str = "t", start: float = 0.0) -> list[TraceRecord]:
    """Read records from ``name:argument@time ...``; a time holds for what follows."""
    records, now = [], start
    for word in story.split():
        what, _, time = word.partition("@")
        now = float(time) if time else now
        name, _, argument = what.partition(":")
        data: dict[str, Any] = {}
        if name == "cause":
            data = DATA[argument]
        elif name == "decided":
            kind, _, mode = argument.partition("/")
            data = {"cause": kind, "limits": LIMITS, "oneshot": mode == "oneshot"}
        elif name == "settled":
            data = OUTCOMES[argument]
        records.append(TraceRecord(name=cast("TraceName", name), time=now, session="k", turn=turn, data=data))
    return records


GOOD = [
    f"{STARTED} first_event {CLEAN}",
    f"{STARTED} first_event event@1 event cause:response decided:response event settled:completed released",
    "admitted withdrawn settled:stopped",
    "admitted cause:user dequeued@7 decided:user settled:stopped released",
    f"admitted dequeued setup resume_failed setup ready store_failed submitted {FAILED}",
    f"{STARTED} cause:retryable retried setup ready submitted {CLEAN}",
    f"{STARTED} cause:user@1 decided:user ladder.cancel first_event ladder.join@2 cause:response settled:stopped",
    f"{STARTED} cause:deadline@6 decided:deadline ladder.cancel ladder.stop@8 straggler@8.1 suspect settled:timed-out",
    f"{STARTED} cause:user decided:user/oneshot ladder.cancel ladder.join ladder.stop ladder.close settled:stopped@2",
    f"{STARTED} settled:internal released",
]
BAD = {
    "I1": [],  # needs two turns: see below
    "I3": [
        f"{STARTED} cause:caller first_event",
        f"{STARTED} first_event first_event",
        f"{STARTED} event",
        f"{STARTED} first_event event cause:caller event",
        f"{STARTED} first_event cause:response decided:response settled:completed event",
        f"{STARTED} cause:response decided:response settled:completed first_event",
        "admitted dequeued first_event",
    ],
    "I5": [f"{STARTED} cause:user decided:user ladder.cancel ladder.cancel"],
    "I6": [
        f"{STARTED} cause:response decided:response ladder.cancel",
        f"{STARTED} cause:user decided:user settled:stopped",
        f"{STARTED} cause:user decided:user ladder.stop",
        "admitted dequeued cause:user decided:user ladder.cancel",
    ],
    "I7": [
        f"{STARTED} cause:deadline@6.2 decided:deadline",
        f"{STARTED} cause:deadline@5 decided:deadline",
        "admitted dequeued ready@6.3",
    ],
    "I8": [
        f"{STARTED} cause:user decided:user@0.1",
        "admitted dequeued cause:user decided:user@0.3",
        f"{STARTED} cause:user decided:user ladder.cancel ladder.join@2.1",
        f"{STARTED} cause:user decided:user ladder.cancel ladder.join ladder.stop@0.2",
        f"{STARTED} cause:user decided:user ladder.cancel ladder.stop@2 suspect@2.2",
        f"{STARTED} cause:user decided:user ladder.cancel ladder.join settled:stopped@2.2",
        f"{STARTED} cause:response decided:response/oneshot ladder.close settled:completed@2.2",
        f"{STARTED} cause:user decided:user ladder.join",
    ],
    "I9": ["admitted withdrawn settled:stopped@1", "admitted withdrawn dequeued", "admitted dequeued withdrawn"],
    "I10": [
        f"{STARTED} cause:user submitted",
        "admitted dequeued cause:user ready",
        "admitted dequeued ready cause:user submitted",
        "admitted dequeued cause:user setup",
        f"{STARTED} submitted",
    ],
    "I11": [
        f"{STARTED} cause:failure retried",
        f"{STARTED} cause:retryable cause:user retried",
        f"{STARTED} cause:user retried",
        f"{STARTED} first_event cause:retryable retried",
        f"{STARTED} cause:retryable retried ready submitted cause:retryable retried",
    ],
    "I13": [
        f"{STARTED} decided:user",
        f"{STARTED} cause:user cause:response decided:response",
        f"{STARTED} cause:user cause:response decided:user settled:completed",
        f"{STARTED} cause:deadline@6 decided:deadline ladder.cancel ladder.join settled:failed",
        f"{STARTED} settled:failed",
        f"{STARTED} cause:response decided:response settled:completed settled:completed",
        "admitted admitted",
        "dequeued",
        f"{STARTED} cause:user decided:user ladder.cancel",
        "admitted",
    ],
    "I16": [f"{STARTED} cause:user decided:user released", f"{STARTED} {CLEAN} cause:user"],
    "I17": [
        f"{STARTED} cause:user decided:user ladder.cancel ladder.join suspect",
        f"{STARTED} cause:user decided:user ladder.cancel ladder.join ladder.close",
        f"{STARTED} cause:response decided:response ladder.close",
    ],
}


@pytest.mark.parametrize("story", GOOD)
def test_a_good_trace(story: str) -> None:
    """Every way through a turn, one of each kind, is a run of the model."""
    assert [] == check(trace(story))


@pytest.mark.parametrize(("law", "story"), [(law, story) for law, stories in BAD.items() for story in stories])
def test_a_bad_trace(law: str, story: str) -> None:
    """Each law is broken by a trace, and named."""
    broken = check(trace(story), LIMITS)
    assert [] != broken
    assert all(line.startswith(f"{law} ({LAWS[law]})") for line in broken), broken


def test_every_law_has_a_bad_trace() -> None:
    """What no trace could break would be no law."""
    assert BAD.keys() == LAWS.keys()


def test_a_handle_that_owes_an_answer_is_never_kept() -> None:
    """A `cancel` that hung leaves a suspect or a closed handle (I17)."""
    story = f"{STARTED} cause:user decided:user ladder.cancel ladder.stop@2 settled:stopped"
    [broken] = check(trace(story))
    assert broken.startswith("I17")


def test_the_lane_of_a_session() -> None:
    """Two turns of a session never overlap, and the first one admitted is the first one to run."""
    first, second = trace(f"{STARTED} {CLEAN}", "first"), trace(f"{STARTED} {CLEAN}", "second")
    assert [] == check([first[0], second[0], *first[1:], *second[1:]])
    [early] = check([first[0], second[0], *second[1:], *first[1:]])
    assert early.startswith("I9")
    [overlap] = check([first[0], second[0], *first[1:-1], *second[1:], first[-1]])
    assert overlap.startswith("I1 ")


def test_what_is_done_between_outcome_and_release_is_free() -> None:
    """A later version may reconcile and record there; what belongs to a turn may not come again."""
    records = trace(
        f"{STARTED} cause:response decided:response settled:completed store_failed suspect something released"
    )
    assert [] == check(records)


def test_records_of_other_requests_are_none_of_a_turn() -> None:
    """A control sets up and is released too."""
    assert [] == check(trace("setup resume_failed setup store_failed released"))


def test_without_bounds_the_order_is_checked() -> None:
    """On a real clock a bound says nothing; a timeout that is too early still does."""
    slow = trace("admitted dequeued ready@9 submitted cause:deadline decided:deadline@11 ladder.cancel ladder.join@90")
    turn = Turn(limits=LIMITS, slack=math.inf)
    for record in slow:
        turn = turn.step(record)
    assert "joining" == turn.state
    with pytest.raises(Broken, match="I7"):
        Turn(limits=LIMITS, slack=math.inf, state="running", at={"dequeued": 0}).step(trace("cause:deadline@1")[0])


def test_the_table_is_sound() -> None:
    """Every record is in the trace's vocabulary, every state can be reached and left, every guard is used."""
    assert {edge.record for edge in EDGES} == set(get_args(TraceName))
    sources, targets = {edge.source for edge in EDGES}, {edge.target for edge in EDGES}
    assert sources - {"new"} == targets - {"over"}
    assert GUARDS.keys() == {edge.when for edge in EDGES if edge.when}


def test_foretelling_takes_each_order_of_one_instant() -> None:
    """Of two causes at one instant either may be the first, and then there are two ends."""

    def world(turn: Turn) -> Iterable[TraceRecord]:
        if turn.state == "running":
            return trace("cause:user@1") + trace("cause:response@1") + trace("cause:caller@2")
        return ()

    turn = Turn(limits=LIMITS)
    for record in trace(STARTED):
        turn = turn.step(record)
    assert {"user", "response"} == {end.log[0]["cause"] for end in foretell(turn, world)}


async def test_a_ladder_of_the_real_thing_is_a_run(autojump_clock: MockClock) -> None:
    """The records of a timed out turn whose adapter resists, with the limits that the trace itself tells."""
    recorder = Recorder()
    async with one_session(FakeRuntime([Swallow(9)], cancel=[Hang()]), instrument=recorder) as (_manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
    assert [] == check(recorder.records)
    late = [record for record in recorder.records if record.name != "suspect"]
    [broken] = check(late)
    assert "while owing" in broken


@pytest.mark.parametrize(("by", "accepted"), [("caller", False), ("user", True)])
async def test_what_comes_after_a_stop(by: str, accepted: bool, autojump_clock: MockClock) -> None:
    """An event that comes while the ladder runs is accepted after a user's cancel, and not if the caller is gone."""
    recorder = Recorder()
    runtime = FakeRuntime([Sleep(1), TextDelta("late"), Hang()], cancel=[Hang()])
    async with one_session(runtime, instrument=recorder) as (_manager, session):
        turn = session.turn("x")
        with trio.move_on_after(0.5 if by == "caller" else math.inf):
            async with turn:
                if by == "user":
                    await trio.sleep(0.5)
                    turn.cancel()
                async for _ in turn:
                    pass
    assert accepted == ("first_event" in recorder.names())
    assert [] == check(recorder.records)


def test_the_page_is_up_to_date() -> None:
    """docs/turn-model.md is what the model draws; the module says how to write it again, `_turn.py` where it is."""
    assert diagram() == PAGE.read_text("utf-8")
    assert _turn.__doc__ is not None
    assert "docs/turn-model.md" in _turn.__doc__
