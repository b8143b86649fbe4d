"""`explored` makes a test of an async function: with fixtures and parameters, and a failure that can be replayed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from tests.explore_kit import CANCEL, lost_wake_up
from trio_acp.explore import Case, ExplorationFailed, Forbidden, Plan, Scenario, explored

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = """\
import pytest
import trio
from trio_acp.explore import Cancel, Plan, explored

@pytest.fixture
def limit():
    return 2

@explored(Cancel())
async def test_alone(case):
    with case.scope:
        await trio.sleep(1)
    assert not case.scope.cancelled_caught

class TestClass:
    @pytest.mark.parametrize("seconds", [1, 3])
    @explored(Cancel(), plan=Plan(schedules=10))
    async def test_with_fixture(self, seconds, case, limit):
        with case.scope:
            await trio.sleep(seconds)
        assert case.scope.cancelled_caught or trio.current_time() <= limit, "late"
"""


def shell(command: Sequence[str], cwd: Path) -> tuple[int, str]:
    """Run a command with this Python's programs; return its exit code and output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=50, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_pytest_runs_explored_tests_and_their_commands_replay(tmp_path: Path) -> None:
    """Under ``-W error``: what is right passes, what is not shows its program, and its command shows it again."""
    (tmp_path / "test_it.py").write_text(FILE)
    code, out = shell([sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], tmp_path)
    assert 1 == code
    assert "2 failed, 1 passed" in out
    assert "ExplorationFailed: failure: AssertionError: late, at test_it.py:21 in test_with_fixture\n" in out
    assert ">>>>  cancel, " in out
    # Once each: on a build machine pytest's summary has the whole message too.
    commands = [shlex.split(line) for line in dict.fromkeys(re.findall(r"replay it: (.*)$", out, re.MULTILINE))]
    (alone,) = [command for command in commands if command[0] == "trio-acp"]
    (fixed,) = [command for command in commands if command[0] == "env"]
    assert "test_it.py::test_alone" == alone[2]
    assert ".trio-acp/tapes/test_it-test_alone-failure.json" == alone[4]
    assert "TRIO_ACP_REPLAY=.trio-acp/tapes/test_it-TestClass-test_with_fixture-3--failure.json" == fixed[1]
    assert "test_it.py::TestClass::test_with_fixture[3]" == fixed[-1]
    code, out = shell(alone, tmp_path)
    assert 1 == code
    assert "It is the run of the tape." in out
    code, out = shell([*fixed, "-p", "no:cacheprovider"], tmp_path)
    assert 1 == code
    assert "AssertionError: late" in out
    assert "1 failed" in out


@explored(CANCEL)
async def test_an_explored_test_is_a_test(case: Case) -> None:
    """This one is run by pytest itself, beside pytest-trio, which takes async functions."""
    with case.scope:
        await trio.sleep(1)
    assert case.scope.cancelled_caught or trio.current_time() == 1


@pytest.mark.parametrize("count", [1, 2])
@explored(CANCEL, plan=Plan(schedules=5))
async def test_an_explored_test_has_fixtures(case: Case, tmp_path: Path, count: int) -> None:
    """Other parameters are filled by pytest, once for all runs."""
    assert tmp_path.is_dir()
    assert count in (1, 2)
    await trio.sleep(count)


def test_the_failure_has_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pytest's environment too; the tape is kept below the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(
        ExplorationFailed, match=r"its tape: \.trio-acp/tapes/explore_kit-lost_wake_up-failure\.json"
    ) as raised:
        explored(CANCEL)(lost_wake_up)()
    assert 1 == len(raised.value.report.findings)
    assert [Path(".trio-acp/tapes/explore_kit-lost_wake_up-failure.json")] == list(Path(".trio-acp/tapes").iterdir())


def test_a_tape_from_the_environment_is_played_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails as the tape says, and passes once that is mended."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExplorationFailed) as first:
        explored(CANCEL)(lost_wake_up)()
    (tape,) = Path(".trio-acp/tapes").iterdir()
    monkeypatch.setenv("TRIO_ACP_REPLAY", str(tape))
    with pytest.raises(ExplorationFailed) as again:
        explored(CANCEL)(lost_wake_up)()
    assert str(first.value.report.findings[0]) == str(again.value.report.findings[0])
    assert 0 == again.value.report.total

    async def mended(case: Case) -> None:
        await trio.sleep(1)

    explored(CANCEL)(mended)()


def test_what_it_makes_of_a_function() -> None:
    """A plain function without the case; the scenario is there for the command line if nothing else is needed."""
    test = explored(CANCEL)(lost_wake_up)
    scenario = vars(test)["scenario"]
    assert isinstance(scenario, Scenario)
    assert ("lost_wake_up", (CANCEL,)) == (scenario.name, scenario.actions)

    async def no_case(other: int) -> None:
        pass

    with pytest.raises(TypeError, match="no_case needs a parameter named case"):
        explored()(no_case)


def test_what_cannot_be_explored_fails_with_that() -> None:
    """Not with a finding."""

    async def threaded(case: Case) -> None:
        await trio.to_thread.run_sync(int)

    with pytest.raises(Forbidden, match="threaded cannot be explored"):
        explored()(threaded)()
