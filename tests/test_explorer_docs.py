"""What docs/explorer.md shows is what happens."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from trio_acp.cli import main
from trio_acp.explore import Cancel, ExplorationFailed, Scenario, explore, explored

TEXT = (Path(__file__).parents[1] / "docs" / "explorer.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the blocks define, run one after another as one file."""
    path = tmp_path_factory.mktemp("docs") / "test_pool.py"
    path.write_text("\n\n".join(BLOCKS), "utf-8")
    return runpy.run_path(str(path))


def test_the_example_finds_the_bug_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints that text, in a directory with that file; pytest says the same of the run and the tape."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("test_pool.py").write_text("\n\n".join(BLOCKS[:2]), "utf-8")
    assert 1 == main(["explore", "test_pool.py::test_no_connection_is_lost"])
    (block,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert block == capsys.readouterr().out
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "test_pool.py::test_no_connection_is_lost (call)")
    with pytest.raises(ExplorationFailed) as raised:
        runpy.run_path("test_pool.py")["test_no_connection_is_lost"]()
    assert block.partition("\n\n")[2] == str(raised.value)


def test_the_obvious_repair_has_the_second_bug(
    shown: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by cancelling at the right step; the whole repair has none, in any order that is tried."""
    monkeypatch.chdir(tmp_path)
    scenario = vars(shown["test_no_connection_is_lost"])["scenario"]
    monkeypatch.setitem(scenario.function.__globals__, "Pool", shown["BetterPool"])
    with pytest.raises(ExplorationFailed, match=r"ValueError: list\.remove"):
        explored(Cancel())(scenario.function)()
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "explore_pool.py"))
    assert isinstance(example["mended"], Scenario)
    assert [] == explore(example["mended"]).findings


def test_the_plan_works(shown: dict[str, Any]) -> None:
    """Its names exist, and its report has the table of states."""
    report = shown["report"]
    assert {"undisturbed", "strike", "schedule", "exhaustive", "pair"} <= set(report.schedules)
    assert "0 free, 0 waiting" in str(report)
