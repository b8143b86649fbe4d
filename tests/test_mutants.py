"""The registry of mutants: each fault can still be had, and the test that is named for it notices it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.mutants import MUTANTS
from tests.mutants.mutant import Mutant
from trio_acp import Settings
from trio_acp._keys import canonical_key

TESTS: Final = Path(__file__).parent
MODULES: Final = {
    # Where the original had its faults: what decides, and what acts on a turn.
    *("_queue", "_cache", "_capacity", "_options", "_keys", "_statistics"),
    *(
        "_actor",
        "_turn",
        "_turn_state",
        "_requests",
        "_ensure",
        "_calls",
        "_context",
        "_evictor",
        "_operations",
        "_controls",
    ),
    # What is kept between turns, and what outlives a manager.
    *("_identity", "_refresh", "_reconcile", "_resolve", "_backends", "_starting", "_close", "_retry", "_timeouts"),
    "_typed_store",
    *("_ledger", "_background", "_owner", "_ownership", "_claims", "_recovery", "_reaper"),
    # What looks for faults itself.
    *("explore._run", "explore._schedules", "explore._tape"),
}
SHOUTING: Final = Mutant(
    "shouting",
    "B-001",
    "_keys:normalise_key",
    ".lower() if",
    ".upper() if",
    "test_mutants.py::test_a_fault_comes_and_goes",
)
SPARED: Final = [
    attrs.evolve(SHOUTING, name="harmless", new=".lower().lower() if"),
    attrs.evolve(SHOUTING, name="nowhere", killer="test_mutants.py::nowhere"),
]


def by_name(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_a_mutant_can_be_had(mutant: Mutant) -> None:
    """Its old text stands in its function once, the change compiles, and the test that kills it exists."""
    assert re.fullmatch(r"[BDEHT]-\d+|G\d|explorer", mutant.stands_for)
    assert mutant.code() != mutant.function().__code__
    file, name, *_ = mutant.killer.partition("[")[0].split("::")
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert name in names


def test_the_registry_covers_what_decides_and_what_acts() -> None:
    """No two mutants have one name, and every module of the list has one at least."""
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS})
    assert MODULES <= {mutant.where.partition(":")[0] for mutant in MUTANTS}


def test_a_fault_comes_and_goes() -> None:
    """While a mutant is at work the package has the fault, for whoever imported the function too; not after."""
    with SHOUTING.at_work():
        assert "K" == canonical_key("k", Settings())
    assert "k" == canonical_key("k", Settings())


@pytest.mark.parametrize(
    "change",
    [
        {"old": "nowhere"},
        {"old": "e"},
        {"new": ".lower().nowhere("},
        {"new": "[nowhere]"},
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: dict[str, str]) -> None:
    """Text that is not there, or there twice; a change that does not compile, or uses what is not there."""
    with pytest.raises((ValueError, SyntaxError)):
        attrs.evolve(SHOUTING, **change).code()


def in_a_child(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python; killers that fail shall disturb neither this process nor its measured coverage."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False)


def test_what_is_not_killed_is_told() -> None:
    """A change without effect survives, and a killer that does not exist kills nothing."""
    judging = (
        "from tests import test_mutants; from tests.mutants.__main__ import judge; print(judge(test_mutants.SPARED))"
    )
    verdicts = ast.literal_eval(in_a_child("-c", judging).stdout)
    assert {"harmless": "survived", "nowhere": "there is no test test_mutants.py::nowhere"} == verdicts


@pytest.mark.timeout(300)
def test_every_mutant_is_killed() -> None:
    """Its killer fails with it and passes without it."""
    run = in_a_child("-m", "tests.mutants")
    assert [] == [line for line in run.stdout.splitlines() if not line.startswith("killed: ")]
    assert (0, "", len(MUTANTS)) == (run.returncode, run.stderr, run.stdout.count("killed: "))
