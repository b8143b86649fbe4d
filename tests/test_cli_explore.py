"""``trio-acp explore``: what it explores, what it says, and how it ends."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import trio_acp.cli._scenarios
from tests.cli_kit import run_cli
from tests.explore_kit import lost_wake_up
from trio_acp.cli import main
from trio_acp.explore import Cancel, Scenario
from trio_acp.explore._tape import tape_name

if TYPE_CHECKING:
    from collections.abc import Callable

POOL = Path(__file__).parents[1] / "examples" / "explore_pool.py"

FILE = """\
import trio
from trio_acp.explore import Cancel, Interrupt, explored
from beside import seconds

async def plain(case):
    with case.scope:
        await trio.sleep(seconds)

async def lost(case):
    with case.scope:
        await trio.sleep(1)
    assert not case.scope.cancelled_caught, "\\x1b[31mlost"

@explored(Cancel())
async def test_alone(case):
    await trio.sleep(1)

@explored(Cancel())
async def test_with_fixture(case, tmp_path):
    await trio.sleep(1)

async def socket(case):
    await trio.open_tcp_stream("localhost", 1)

def synchronous(case):
    pass

async def two(case, more):
    pass
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with scenarios, in the current directory; what importing it changes is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("seconds = 2\n")
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command, and returns its exit code and output."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main(["explore", *args])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("name", ["plain", "test_alone"])
def test_what_is_right_is_explored_without_a_finding(file: Path, run: Any, name: str) -> None:
    """An async function is cancelled at each step, a test with @explored as it says; then the exit code is 0."""
    code, out, _ = run(f"{file}::{name}", "--schedules", "4")
    assert (0, f"{name}: 0 findings in ") == (code, out[: len(name) + 16])
    assert " strike, 4 schedule)" in out
    assert "complete: strike" in out


def test_a_finding_is_shown_kept_and_replayed(file: Path, run: Any) -> None:
    """Exit code 1, the program, a tape, and a command that plays it; what the scenario says is made harmless."""
    code, out, _ = run("mine.py::lost")
    assert 1 == code
    assert "failure: AssertionError: \\u001b[31mlost, at mine.py:12 in lost" in out
    assert ">>>>  cancel, " in out
    command = out.rstrip().rpartition("replay it: ")[2].split()
    tape = ".trio-acp/tapes/mine-lost-failure.json"
    assert ["trio-acp", "explore", "mine.py::lost", "--replay", tape] == command
    code, out, _ = run(*command[2:])
    assert 1 == code
    assert "It is the run of the tape." in out
    file.write_text(FILE.replace("lost(case):", "lost(case):\n    await trio.lowlevel.checkpoint()"))
    assert "It is not the run of the tape: something changed." in run(*command[2:])[1]
    file.write_text(FILE.replace("assert not", "assert 1 or"))
    assert (0, "lost: nothing is found any more\n") == run(*command[2:])[:2]


def test_tapes_of_tests_with_the_same_name_have_names_of_their_own(file: Path, run: Any) -> None:
    """Their files tell them apart: by the path below the current directory, elsewhere by the file's name."""
    inner = file.parent / "inner"
    inner.mkdir()
    targets = []
    for path in (file, file.with_name("yours.py"), inner / "mine.py"):
        path.write_text(FILE)
        targets.append(f"{path}::lost")
    run(*targets)
    names = {"mine-lost-failure.json", "yours-lost-failure.json", "inner-mine-lost-failure.json"}
    assert names == {path.name for path in Path(".trio-acp/tapes").iterdir()}
    assert "mine-test" == tape_name("../elsewhere/mine.py", "test")


def test_json_has_everything_on_one_line(file: Path, run: Any) -> None:
    """With a tape for each finding, as it would be in its file."""
    code, out, _ = run("mine.py::lost", "mine.py::plain", "--json", "--seed", "3", "--findings", "2")
    assert 1 == code
    lost, plain = map(json.loads, out.splitlines())
    assert "mine.py::lost" == lost["target"]
    (finding,) = lost["findings"]
    assert "trio-explore-tape" == finding["tape"]["format"]
    assert [] == plain["findings"]
    (file.parent / "tape.json").write_text(json.dumps(finding["tape"]))
    code, out, _ = run("mine.py::lost", "--json", "--replay", "tape.json")
    assert {
        "scenario": "lost",
        "found": {"kind": finding["kind"], "message": finding["message"]},
        "same_run": True,
    } == (json.loads(out))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.py::x"], "there is no file gone.py"),
        (["nonsense"], "there is no built-in scenario 'nonsense'"),
        (["mine.py::gone"], "there is no gone in mine.py; its scenarios: test_alone"),
        (["mine.py"], "which scenario of mine.py? It has: test_alone"),
        (["mine.py::synchronous"], "synchronous in mine.py is no Scenario, no test with @explored"),
        (["mine.py::two"], "two in mine.py is no Scenario"),
        (["mine.py::trio"], "trio in mine.py is no Scenario"),
        (["mine.py::test_with_fixture"], "test_with_fixture in mine.py has parameters that only pytest can fill"),
        (["bad.py::x"], "bad.py cannot be loaded: SyntaxError: "),
        (["mine.py::socket"], "socket cannot be explored: it "),
        (["mine.py::plain", "--replay", "gone.json"], "cannot read the tape gone.json: No such file"),
        (["mine.py::plain", "--replay", "bad.py"], "bad tape bad.py: a tape is JSON text"),
        (["mine.py::plain", "--replay", "other.json"], "bad tape other.json: it is of scenario other, not plain"),
        (["mine.py::plain", "--replay", "strike.json"], "bad tape strike.json: scenario plain has no action jump:1"),
        (["mine.py::plain", "mine.py::lost", "--replay", "other.json"], "--replay plays a tape on one TARGET"),
        (["--replay", "other.json"], "--replay plays a tape on one TARGET"),
    ],
)
def test_wrong_usage_is_told_in_one_line(file: Path, run: Any, args: list[str], message: str) -> None:
    """Exit code 2, and what is missing where."""
    (file.parent / "bad.py").write_text("(")
    found = {"kind": "", "message": "", "steps": 0, "fingerprint": ""}
    tape = {"format": "trio-explore-tape", "version": 1, "strikes": [], "deviations": [], "found": found}
    (file.parent / "other.json").write_text(json.dumps({**tape, "scenario": "other"}))
    strikes = [{"action": "jump:1", "step": 0, "phase": "after"}]
    (file.parent / "strike.json").write_text(json.dumps({**tape, "scenario": "plain", "strikes": strikes}))
    code, out, err = run(*args)
    assert (2, "", 1) == (code, out, err.count("\n"))
    assert err.startswith(f"trio-acp: {message}")


@pytest.mark.parametrize("args", [["--schedules", "-1"], ["--pairs", "x"], ["--strategy", "best"], ["--seconds", "0"]])
def test_bad_options_are_refused(run: Any, args: list[str]) -> None:
    """By the parser, with exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        run("x", *args)
    assert 2 == stopped.value.code


def test_built_in_scenarios_are_listed_and_run(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a target, or with --list; by name, or all of them; and there may be none."""
    monkeypatch.chdir(tmp_path)
    known = {"pool": Scenario(lost_wake_up, "pool", (Cancel(),)), "again": Scenario(lost_wake_up, "again")}
    monkeypatch.setattr("trio_acp.cli.explore.built_in", lambda: known)
    told = str(lost_wake_up.__doc__)
    assert (0, f"pool   {told}\nagain  {told}\n", "") == run() == run("--list")
    assert (0, '["pool", "again"]\n', "") == run("--list", "--json")
    assert 1 == run("pool")[0]
    code, out, _ = run("--all", "--schedules", "0")
    assert 1 == code
    assert "again: 0 findings" in out
    monkeypatch.setattr("trio_acp.cli.explore.built_in", dict)
    code, out, _ = run()
    assert (0, "There are no built-in scenarios") == (code, out[:31])


def test_exploring_nothing_is_no_success(file: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 if there is nothing to explore, or no run is allowed: what was not tried was not found right."""
    assert (2, "", "trio-acp: mine.py::plain: nothing was explored\n") == run("mine.py::plain", "--max-schedules", "0")
    monkeypatch.setattr("trio_acp.cli.explore.built_in", dict)
    assert (2, "", "trio-acp: there are no built-in scenarios\n") == run("--all")


def test_all_takes_no_target(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever names a target and all of the built-in ones is told, with exit code 2, before anything is explored."""
    with pytest.raises(SystemExit) as stopped:
        main(["explore", "mine.py::plain", "--all"])
    said = capsys.readouterr()
    assert (2, "") == (stopped.value.code, said.out)
    assert said.err.endswith("trio-acp explore: error: --all takes no target\n")


def test_the_registry_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release without built-in scenarios has an empty list."""
    monkeypatch.setattr(trio_acp.cli._scenarios, "_REGISTRY", "trio_acp.testing.nothing_of_this_name")
    assert {} == trio_acp.cli._scenarios.built_in()


def test_an_interrupt_shows_what_was_done_so_far(file: Path, run: Any) -> None:
    """Exit code 130, after the report; a person's Ctrl-C is no finding."""
    file.write_text(
        FILE + "\nimport signal\nruns = []\nasync def slow(case):\n    runs.append(1)\n"
        "    if len(runs) == 5:\n        signal.raise_signal(signal.SIGINT)\n    await trio.sleep(1)\n"
    )
    before = signal.getsignal(signal.SIGINT)
    code, out, _ = run("mine.py::slow")
    assert 130 == code
    assert "slow: 0 findings in 4 runs" in out
    assert before is signal.getsignal(signal.SIGINT)


def test_progress_is_one_line_on_a_terminal(file: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written over, fits, and is gone in the end; elsewhere it is plain lines, now and then."""
    monkeypatch.setattr("trio_acp.cli.explore._REFRESH_SECONDS", 0.0)
    monkeypatch.setattr("trio_acp.cli.explore._PLAIN_SECONDS", 0.0)
    _, _, err = run("mine.py::plain", "--schedules", "2")
    assert "plain: 3 runs, " in err
    assert "\r" not in err
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True, raising=False)
    _, _, err = run("mine.py::plain", "--schedules", "2")
    assert err.startswith("\rplain: 1 runs, ")
    assert "/s, 0 found" in err
    assert "\n" not in err
    assert err.endswith(" \r")
    assert all(len(line) < 80 for line in err.split("\r"))


async def test_the_command_works_as_a_process(tmp_path: Path) -> None:
    """The example with the bug and the one without, from the shell."""
    done = await run_cli("explore", f"{POOL}::mended", "--schedules", "10", "--exhaustive", "20", "--pairs", "20")
    assert (0, b"") == (done.returncode, done.stderr)
    assert b"mended: 0 findings" in done.stdout
