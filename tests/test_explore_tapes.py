"""A tape makes its run come out again, exactly; what is found is as small as it can be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.explore_kit import CANCEL, check_then_act, lost_wake_up, report_of, scenario, workers
from trio_acp.explore import BadTape, Case, Finding, Jump, Plan, Scenario, Strike, Tape, explore, replay
from trio_acp.explore._guard import Guard
from trio_acp.explore._run import run_once
from trio_acp.explore._schedules import RandomWalk, Taped
from trio_acp.explore._shrink import shrink

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = st.integers(min_value=0, max_value=2**40)
STRIKES = st.builds(Strike, st.text(), NUMBERS, st.sampled_from(["before", "after", "entry"]))
TAPES = st.builds(
    Tape,
    scenario=st.text(),
    strikes=st.lists(STRIKES).map(tuple),
    deviations=st.dictionaries(NUMBERS, NUMBERS),
    kind=st.text(),
    message=st.text(),
    steps=NUMBERS,
    fingerprint=st.text(),
)


@given(TAPES)
def test_a_tape_is_the_same_after_writing_and_reading(tape: Tape) -> None:
    """Nothing of it is lost in its text."""
    assert tape == Tape.loads(tape.dumps())


GOOD: dict[str, Any] = json.loads(
    Tape("s", (Strike("cancel", 3, "before"),), {2: 1}, "failure", "it broke", 9, "abc").dumps()
)


@pytest.mark.parametrize(
    ("change", "member"),
    [
        ({"format": "other"}, "format: "),
        ({"version": 2}, "version: 2 is not known"),
        ({"version": True}, "version: True"),
        ({"scenario": 1}, "scenario: must be a string, not 1"),
        ({"strikes": {}}, "strikes: must be an array"),
        ({"strikes": [1]}, r"strikes\[0\]: must be an object"),
        ({"strikes": [{"action": 1, "step": 1, "phase": "after"}]}, r"strikes\[0\]\.action: must be a string"),
        ({"strikes": [{"action": "a", "step": "1", "phase": "after"}]}, r"strikes\[0\]\.step: must be a whole"),
        ({"strikes": [{"action": "a", "step": -1, "phase": "after"}]}, r"strikes\[0\]\.step: must not be below 0"),
        ({"strikes": [{"action": "a", "step": 1, "phase": "while"}]}, r"strikes\[0\]\.phase: must be before, after"),
        ({"deviations": [[1, 2], [3]]}, r"deviations\[1\]: must be two whole numbers"),
        ({"deviations": [[1, -2]]}, r"deviations\[0\]: must be two whole numbers"),
        ({"found": None}, "found: must be an object"),
        ({"found": {**GOOD["found"], "steps": 1.5}}, r"found\.steps: must be a whole number, not 1\.5"),
        ({"found": {**GOOD["found"], "fingerprint": None}}, r"found\.fingerprint: must be a string"),
    ],
)
def test_a_bad_tape_is_told_with_the_member_that_is_wrong(change: dict[str, Any], member: str) -> None:
    """Each member is checked, and named with its path."""
    assert "abc" == Tape.loads(json.dumps(GOOD)).fingerprint
    with pytest.raises(BadTape, match=f"^{member}"):
        Tape.loads(json.dumps(GOOD | change))


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_what_is_no_tape_is_told(text: str) -> None:
    """Whatever a file has, reading it ends in a tape or in `BadTape`."""
    with pytest.raises(BadTape):
        Tape.loads(text)


async def busy(case: Case) -> None:
    """Do something that differs much with the order."""
    log: list[int] = []
    with case.scope:
        await workers(4, 4, log)
        await trio.sleep(sum(log[:3]))


def test_a_tape_replays_its_run_exactly() -> None:
    """For 50 random orders with strikes: the same tasks make the same steps at the same times."""
    subject = scenario(busy, CANCEL, Jump(1))
    guard = Guard()
    fingerprints = set()
    with guard.watching():
        for number in range(50):
            strike = Strike("cancel" if number % 2 else "jump:1", number, "before" if number % 3 else "after")
            run = run_once(subject, RandomWalk(number), guard, strikes=[strike], has_scope=True)
            tape = Tape.loads(Tape("busy", run.strikes, run.deviations).dumps())
            again = run_once(subject, Taped(tape.deviations), guard, strikes=tape.strikes, has_scope=True)
            assert (run.fingerprint, run.choices) == (again.fingerprint, again.choices)
            fingerprints.add(run.fingerprint)
    assert 45 < len(fingerprints)


@pytest.mark.parametrize(("function", "plan"), [(lost_wake_up, Plan()), (check_then_act, Plan(schedules=300))])
def test_a_finding_is_replayed_from_its_file(function: Any, plan: Plan, tmp_path: Path) -> None:
    """With the fingerprint of its tape, the same program, and the same text."""
    subject = scenario(function, CANCEL)
    (finding,) = explore(subject, plan).findings
    path = tmp_path / "tape.json"
    path.write_text(finding.tape.dumps(), "utf-8")
    again = replay(subject, Tape.load(path))
    assert again is not None
    assert finding.tape == again.tape
    assert str(finding) == str(again)


def test_a_replay_tells_what_is_there_now() -> None:
    """A bug that was mended is found no more; an action that is unknown is an error."""

    async def mended(case: Case) -> None:
        await trio.sleep(1)

    (finding,) = report_of(lost_wake_up, CANCEL).findings
    assert None is replay(scenario(mended, CANCEL), finding.tape)
    with pytest.raises(KeyError, match="scenario mended has no action cancel"):
        replay(scenario(mended), finding.tape)


# -- shrinking ----------------------------------------------------------------

ITEMS = st.dictionaries(st.integers(0, 60), st.integers(1, 3), max_size=25)


@given(ITEMS, st.lists(st.integers(0, 20), max_size=6, unique=True), st.data())
def test_a_small_tape_is_minimal(deviations: dict[int, int], steps: list[int], data: st.DataObject) -> None:
    """Against any oracle that needs some strikes and deviations: no single one of what is left can go."""
    strikes = tuple(Strike("a", step, "after") for step in steps)
    groups = data.draw(st.lists(st.sets(st.sampled_from(sorted(deviations))), max_size=3)) if deviations else [set()]
    needed = data.draw(st.sets(st.sampled_from(strikes))) if strikes else set()

    def holds(tape: Tape) -> bool:
        return needed <= set(tape.strikes) and (not groups or any(group <= set(tape.deviations) for group in groups))

    whole = Tape("s", strikes, deviations)
    small = shrink(whole, holds)
    assert holds(small)
    assert set(small.strikes) <= set(strikes)
    assert all(taken <= deviations[number] for number, taken in small.deviations.items())
    for strike in small.strikes:
        assert not holds(Tape("s", tuple(set(small.strikes) - {strike}), small.deviations))
    for number in small.deviations:
        assert not holds(Tape("s", small.strikes, {n: t for n, t in small.deviations.items() if n != number}))


@given(ITEMS, st.randoms(use_true_random=False))
def test_a_small_tape_is_minimal_also_where_less_is_sometimes_more(deviations: dict[int, int], lot: Any) -> None:
    """Against an oracle that is not monotonic, what comes out holds, and ends although anything may hold."""
    answers: dict[frozenset[int], bool] = {frozenset(deviations): True}

    def holds(tape: Tape) -> bool:
        return answers.setdefault(frozenset(tape.deviations), lot.random() < 0.3)

    small = shrink(Tape("s", (), deviations), holds)
    assert holds(small)
    assert not any(holds(Tape("s", (), {n: 1 for n in small.deviations if n != gone})) for gone in small.deviations)


def test_a_counterexample_has_nothing_that_is_not_needed() -> None:
    """From 40 tasks' random order and a superfluous strike, what is left is the one turn that matters."""

    async def crowded(case: Case) -> None:
        log: list[str] = []

        async def write(name: str) -> None:
            await trio.lowlevel.checkpoint()
            log.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, "first")
            nursery.start_soon(write, "second")
            for _ in range(40):
                nursery.start_soon(write, "other")
        assert log.index("first") < log.index("second")

    subject = Scenario(crowded, "crowded", (Jump(1),))
    (finding,) = explore(subject, Plan(strikes=0, schedules=50)).findings
    assert () == finding.tape.strikes
    assert 1 == len(finding.tape.deviations)
    assert 1 == sum("<<<< instead of" in line for line in str(finding).splitlines())


def test_the_program_marks_what_was_done_where() -> None:
    """One line for each step, with the time, the task and its place; strikes between them; other turns marked."""
    (finding,) = report_of(lost_wake_up, CANCEL).findings
    lines = str(finding).splitlines()
    assert "scenario lost_wake_up, in the default order" in lines
    (mark,) = [number for number, line in enumerate(lines) if ">>>>" in line]
    assert "       >>>>  cancel, " in lines[mark]
    numbered = [line for line in lines if line[:5].strip().isdigit()]
    assert finding.tape.steps == len(numbered)
    assert "    0  t=0        main  (begins)" == numbered[0]
    assert any("t=0.5 " in line and "explore_kit.py" in line and "LeakyPool.acquire" in line for line in numbered)


def test_a_finding_without_a_program_is_told_too() -> None:
    """Nondeterminism has no run of its own to show."""
    text = str(Finding("nondeterminism", "they differ", "undisturbed", Tape("s")))
    assert "nondeterminism: they differ\n\nscenario s, in the default order" == text
