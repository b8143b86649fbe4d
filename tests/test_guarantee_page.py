"""docs/guarantees.md names what the code has and leaves no cell open; what is counted for it is what happened."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from tests.evidence import ROOT
from tests.guarantees.page import HEADINGS, page
from tests.guarantees.plans import SCENARIO, SCENE
from tests.guarantees.properties import CAUSES, ENDS, JUDGES, PROPERTIES, STRIKES, broken_in, cause_of, judged
from tests.guarantees.tally import Result, Tally
from tests.mutants.explored import HUNTS
from tests.mutants.hunt import TECHNIQUES
from tests.test_explore_stack import SPOILT, played
from trio_acp import ConnectionLost, Failed
from trio_acp.explore import Cancel, Plan, Scenario, Strike, explore
from trio_acp.testing._scenario_oracle import LAWS, check
from trio_acp.testing._scenario_world import ACTIONS
from trio_acp.testing.turn_model import LAWS as LAWS_OF_THE_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio_acp.explore import Case
    from trio_acp.testing._scenario_world import World

pytestmark = pytest.mark.breaks_the_model("runs of scenarios have an oracle, and some are spoilt here")

PAGE: Final = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
MUTANTS: Final = tuple(hunt.mutant.name for hunt in HUNTS)
TABLES: Final = {
    "scenarios": ("scenario", tuple(SCENARIO), CAUSES),
    "properties": ("property", PROPERTIES, CAUSES),
    "kills": ("mutant", MUTANTS, ("scenario", *TECHNIQUES)),
}


def table(text: str, key: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, its head first."""
    lines = text.partition(f"{HEADINGS[key]}\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in rows if set(row) != {"---"}]


def named(cell: str) -> list[str]:
    """Return the names that a cell lists; of scenarios, it may say which are not meant."""
    wild = ", ".join(f"`{name}`" for name in SCENARIO if name.startswith("wild-"))
    names = re.findall(r"`([^`]+)`", cell.replace("`wild-*`", wild))
    if cell.startswith(("every scenario", "all but")):
        return [name for name in SCENARIO if name not in names]
    return names


def faults(text: str) -> Iterator[str]:
    """Yield what is wrong with the page."""
    untested = {
        (what, under)
        for first, second, why in table(text, "untested")[1:]
        for what in named(first)
        for under in named(second)
        if why
    }
    for key, (kind, names, columns) in TABLES.items():
        head, *rows = table(text, key) or [[]]
        if head != [kind, *columns]:
            yield f"{key}: the columns are {head}"
            continue
        if [f"`{name}`" for name in names] != [row[0] for row in rows]:
            yield f"{key}: the rows are not those of the code"
        for name, *cells in rows:
            for column, cell in zip(columns, cells, strict=True):
                known = (name.strip("`"), column) in untested
                if is_tested(cell) is known:
                    yield f"{name}, {column}: {cell}, and {'is' if known else 'is not'} listed as untested"
            if key == "kills" and "killed" not in cells:
                yield f"{name}: nothing kills it"


def is_tested(cell: str) -> bool:
    """Whether a cell says that something was tried and held, or what became of a mutant, or where that was."""
    held = re.fullmatch(r"(\d+) of (\d+)", cell)
    if held is not None:
        return held[1] == held[2] != "0"
    return cell in {"killed", "survives"} or cell.strip("`") in SCENARIO


def test_the_page_is_complete() -> None:
    """Its properties, scenarios, causes and mutants are those of the code; an open cell has a reason."""
    assert [] == list(faults(PAGE))


def test_what_is_said_of_a_property_is_on_the_page() -> None:
    """And which laws look away, for each that does."""
    assert [f"`{name}`" for name in PROPERTIES] == [row[0] for row in table(PAGE, "says")[1:]]
    expected = [(f"`{name}`", f"`{j.law}`") for name, judges in JUDGES.items() for j in judges if j.why]
    assert expected == [(row[0], row[1]) for row in table(PAGE, "exceptions")[1:]]


HELD: Final = r"\d+ of \d+ "


@pytest.mark.parametrize(
    ("pattern", "replacement", "fault"),
    [
        (r"\| `ask` \| \d.*\n", "", "scenarios: the rows are not those of the code"),
        (r"\| `I7` \| \d.*\n", "", "properties: the rows are not those of the code"),
        (rf"\| `{MUTANTS[0]}` \|", "| `another` |", "kills: the rows are not those of the code"),
        (r"\| death \|", "| disease |", "scenarios: the columns are"),
        (rf"\| `ask` \| {HELD}", "| `ask` | - ", "`ask`, none: -, and is not"),
        (rf"\| `ask` \| {HELD}", "| `ask` | 0 of 0 ", "`ask`, none: 0 of 0, and is not"),
        (rf"\| `ask` \| {HELD}", "| `ask` | 2 of 3: counterexample I3 ", "`ask`, none: 2 of 3: counterexample I3, and"),
        (rf"\| `ask` \| {HELD}", "| `ask` | 2 of 3 ", "`ask`, none: 2 of 3, and is not"),
        (r"(?s)## Not tested.*?(?=## Counter)", "## Not tested\n\n", "`I19`, none: -, and is not"),
        (rf"\| `I1` \| {HELD}", "| `I1` | ", "`I1`, none:"),
        (r"(\| `I19`.* \| no run shows it[^|]*)", "| `I19` | `none` | ", "`I19`, none: -, and is not"),
    ],
)
def test_a_spoilt_page_is_noticed(pattern: str, replacement: str, fault: str) -> None:
    """What is missing, has another name, is open without a reason, or broken."""
    spoilt, times = re.subn(pattern, lambda _: replacement, PAGE, count=1)
    assert 1 == times
    if pattern.startswith(r"\| `I1` "):
        spoilt = spoilt.replace("| `I1` | | ", "| `I1` | - | ")
    assert any(found.startswith(fault) for found in faults(spoilt)), list(faults(spoilt))


# -- what is counted ----------------------------------------------------------


def test_every_law_is_counted_for_a_property() -> None:
    """The 25 of the catalogue; the model's are those that it names itself."""
    judges = [(name, judge.law) for name, found in JUDGES.items() for judge in found]
    assert {law.__name__ for law in LAWS} == {law for _, law in judges}
    assert set(LAWS_OF_THE_MODEL) == {name for name, law in judges if law == "model"}
    assert [ENDS, *(f"I{number}" for number in range(1, 26))] == list(PROPERTIES)


def fail(world: World) -> None:
    """Let a turn have failed."""
    world.prompted[0].turn._state.outcome = Failed(ConnectionLost("spoilt"))


SPOILS: Final[dict[str, list[Callable[[World], object]]]] = {
    **{law: [SPOILT[law]] for law in ("i4_attribution", "i20_isolation", "i22_reverse_requests")},
    "i13_truth": [SPOILT["i13_truth"], fail],
}


@pytest.mark.parametrize("law", SPOILS)
def test_a_law_looks_away_where_it_is_said_to(law: str) -> None:
    """And nowhere else: in scenes that lie or fail, and after each strike."""
    (judge,) = (judge for judges in JUDGES.values() for judge in judges if judge.law == law)
    for liar, fails in ((False, False), (True, False), (False, True)):
        for action in (None, *ACTIONS):
            noticed, scene = False, attrs.evolve(SCENE["start-and-prompt"], liar=liar, fails=fails)
            for spoil in SPOILS[law]:
                world = played("start-and-prompt")
                world.scene = scene
                spoil(world)
                if action is not None:
                    world.case.strikes.append(Strike(action.name, 0, "before"))
                    world.case.times.append(world.callers_ended)
                noticed |= f"{law}: " in complaint(world)
            causes = frozenset() if action is None else frozenset({cause_of(action.name)})
            assert judge.when(scene, causes) is noticed, (scene, action)


def complaint(world: World) -> str:
    """Return what the oracle says."""
    try:
        check(world)
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("law", [law.__name__ for law in LAWS])
def test_a_counterexample_belongs_to_its_law(law: str) -> None:
    """What the oracle says of a spoilt run names a property which that law judges."""
    world = played("start-and-prompt")
    SPOILT[law](world)
    found = broken_in(complaint(world))
    assert found & {name for name, judges in JUDGES.items() if any(judge.law == law for judge in judges)}


def counted(function: Callable[[Case], object], *, pairs: int = 0) -> Tally:
    """Explore a small function as if it were a scene."""

    async def scenario(case: Case) -> None:
        with case.scope:
            await trio.sleep(1)
        function(case)

    tally = Tally(SCENE["ask"], print)
    explore(tally.watching(Scenario(scenario, "x", (Cancel(),))), Plan(pairs=pairs), progress=tally.progress)
    tally.finish()
    return tally


def test_each_run_is_counted_once() -> None:
    """By what was done to it; two things are a pair."""
    tally = counted(lambda case: None, pairs=1)
    assert {"none": 2, "cancel": 4, "pairs": 1} == tally.runs
    assert tally.judged[ENDS] == tally.runs
    assert {} == tally.broken
    assert "none" not in tally.judged["I12"]
    assert tally.runs["cancel"] == tally.judged["I12"]["cancel"]


def test_a_counterexample_is_counted_for_its_property_and_cause() -> None:
    """Those runs that make it small are not counted; an error that no law names is one of the end."""

    def breaks(case: Case) -> None:
        if case.strikes:
            raise AssertionError("i2_wire: a second prompt\nmodel: I1 (lane): x")

    tally = counted(breaks)
    assert {"I2": {"cancel": 1}, "I1": {"cancel": 1}} == tally.broken
    assert (2, 1, 1) == (tally.runs["none"], tally.runs["cancel"], tally.wrong["cancel"])

    def raises(case: Case) -> None:
        if case.strikes:
            raise ValueError("x")

    tally = counted(raises)
    assert {ENDS: {"cancel": 1}} == tally.broken
    assert 0 == tally.judged["I1"]["cancel"]


def test_after_an_interrupt_few_are_judged() -> None:
    """What the oracle judges then."""
    found = judged(SCENE["start-and-prompt"], frozenset({"interrupt"}), cut_short=True)
    assert ("I2", "I3", "I4", "I14", "I21", "I24") == found


def test_the_program_runs_a_scenario_once(tmp_path: Path) -> None:
    """In a process of its own; what it has kept is not run again; a counterexample gets into the page."""
    kept = tmp_path / "results.json"
    argv = [sys.executable, "-m", "tests.guarantees", "--profile", "dev", "--only", "ask", "--json", str(kept)]
    for todo in (1, 0):
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        assert f"{todo} of 1 scenarios to be run" in done.stderr
    result = Result(**json.loads(kept.read_text("utf-8"))["results"]["ask"])
    assert result.total == sum(result.judged[ENDS].values()) >= len(STRIKES)
    assert {} == result.broken

    about = dict.fromkeys(("seed", "commit", "date", "versions"), "0") | {"profile": "dev"}
    everywhere = {name: attrs.evolve(result, scenario=name) for name in SCENARIO}
    everywhere["oneshot"] = attrs.evolve(everywhere["oneshot"], broken={"I3": {"cut": 1}}, wrong={"cut": 1})
    found = list(faults(page(everywhere, HUNTS, about)))
    assert any(re.match(r"`oneshot`, cut: \d+ of \d+: counterexample I3", fault) for fault in found), found
    assert any(re.match(r"`I3`, cut: \d+ of \d+: counterexample", fault) for fault in found), found
