"""The mutants that need exploration: one search for each; in the deep profile, all that is on record.

`tests.mutants` runs the search with the mutant, for it is named as the killer,
and without it, when it finds nothing; so other profiles leave it out.  Only ``deep``
(HYPOTHESIS_PROFILE) has the time for each technique on each mutant.
"""

from __future__ import annotations

import ast
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.evidence import ROOT, defined_in
from tests.hunting import DEEP, REGULAR, STRUCK_WITH, search
from tests.mutants.explored import HUNTS
from tests.mutants.hunt import TECHNIQUES
from trio_acp.testing.scenarios import SCENES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mutants.hunt import Hunt

pytestmark = [
    pytest.mark.timeout(4 * 3600),
    pytest.mark.breaks_the_model("the oracle of the scenarios checks each run"),
]

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE")

judged = pytest.mark.skipif(
    PROFILE not in {"mutants", "deep"}, reason="tests.mutants runs it, with its fault and without"
)
deep = pytest.mark.skipif(PROFILE != "deep", reason="takes hours: the deep profile has it")


@pytest.fixture(autouse=True)
def _nothing_is_logged() -> Iterator[None]:
    """That a connection was lost is what the scenarios are about."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def by_name(hunt: Hunt) -> str:
    return hunt.mutant.name


@judged
@pytest.mark.timeout(30)
@pytest.mark.parametrize("hunt", HUNTS, ids=by_name)
def test_nothing_is_found(hunt: Hunt) -> None:
    """The search that finds the mutant finds nothing without it."""
    report = search(hunt.scenario, hunt.regular, REGULAR, seed=hunt.seed)
    assert [] == report.findings, str(report)


@deep
@pytest.mark.parametrize("technique", STRUCK_WITH)
@pytest.mark.parametrize("hunt", HUNTS, ids=by_name)
def test_exploring_finds_what_is_on_record(hunt: Hunt, technique: str) -> None:
    """With the mutant at work, each technique finds something in its scenario, or does not, as was written down."""
    with hunt.mutant.at_work():
        report = search(hunt.scenario, technique, DEEP)
    assert hunt.found_by[technique] is bool(report.findings), str(report)


@deep
def test_the_machines_find_what_is_on_record() -> None:
    """A state machine fails with the mutant, or passes, as was written down."""
    judging = "; ".join(
        (
            "import attrs",
            "from tests.mutants.__main__ import judge",
            "from tests.mutants.explored import HUNTS",
            "mutants = [attrs.evolve(h.mutant, killer=h.machine) for h in HUNTS if h.machine is not None]",
            "print(judge(mutants, patience=900))",
        )
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", judging]
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    recorded = {
        hunt.mutant.name: "killed" if hunt.found_by["machine"] else "survived"
        for hunt in HUNTS
        if hunt.machine is not None
    }
    assert recorded == ast.literal_eval(child.stdout)


def test_the_record_is_whole() -> None:
    """Each hunt says of each technique whether it finds the mutant, and names what is there; exploring finds each."""
    assert len(HUNTS) == len({hunt.mutant.name for hunt in HUNTS}) >= 12
    scenes = {scene.name for scene in SCENES}
    for hunt in HUNTS:
        assert list(TECHNIQUES) == list(hunt.found_by)
        assert hunt.scenario in scenes
        assert (hunt.machine is None) is (hunt.found_by["machine"] is None)
        assert any(hunt.found_by[technique] for technique in STRUCK_WITH)
        if hunt.machine is not None:
            file, machine, *_ = hunt.machine.split("::")
            assert machine in defined_in(f"tests/{file}")


def test_each_technique_has_a_mutant_that_only_it_finds() -> None:
    """None of them can be left out."""
    alone = {by[0] for hunt in HUNTS if len(by := [t for t in TECHNIQUES if hunt.found_by[t]]) == 1}
    assert {"cancel", "schedule", "wire"} <= alone
