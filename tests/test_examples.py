"""What the README and the examples show is run as it stands there."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def run_block(marker: str, tmp_path: Path, **names: Any) -> dict[str, Any]:
    """Run the one block of the README that contains `marker`; return its names."""
    (block,) = [block for block in BLOCKS if marker in block]
    path = tmp_path / "block.py"
    path.write_text(block)
    return runpy.run_path(str(path), init_globals=names)


def test_the_readme_has_the_blocks_that_are_run_here() -> None:
    """No Python block of the README goes untested."""
    assert 2 == len(BLOCKS)


def test_the_readmes_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedding example streams a turn and asks another, here with the scripted agent for the real one."""

    def websocket(url: str) -> trio_acp.AcpRuntime:
        assert "ws://127.0.0.1:8137/acp" == url
        return trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))

    monkeypatch.setattr(trio_acp.AcpRuntime, "websocket", websocket)
    monkeypatch.chdir(tmp_path)
    run_block("trio.run(main)", tmp_path)
    shown = capsys.readouterr().out
    assert "You said: Explain this traceback" in shown
    assert "Completed(stop_reason='end_turn')" in shown
    assert "You said: Summarise the repository" in shown
    assert (tmp_path / "sessions.db").exists()


def test_the_readmes_test_passes(tmp_path: Path) -> None:
    """The example of a test is a test that passes."""
    names = run_block("autojump_clock", tmp_path, trio_acp=trio_acp, pytest=pytest)
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(names["test_my_app_survives_an_agent_that_hangs"], clock, clock=clock)


SHOWS = {
    "asyncio_host.py": "asyncio went on meanwhile: True",
    "chat_bridge.py": "(1 stopped)",
    "custom_runtime.py": "Stopped(by='left'",
    "explore_cache.py": "",
    "explore_pool.py": "",
    "fan_out.py": "Completed: 6, failed: 1",
    "permission_dialogs.py": "[4] closed: cancel",
    "quickstart.py": "the agent has been told to stop",
    "race.py": "the tortoise was told to stop: True",
    "stream.py": "[completed] read: Read README.md /repo/README.md",
    "timeline.py": "The agent was told to stop, did not within",
    "timeouts.py": "3. Stopped(by='user', reason='the user pressed stop'",
    "virtual_time.py": "Completed: 601 s of Trio's time",
}


@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_an_example_runs(example: str) -> None:
    """Each example ends well and without a word on standard error, and shows what it is there for."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert "Completed" in done.stdout
    assert SHOWS[example] in done.stdout


@pytest.mark.parametrize("example", sorted(SHOWS))
def test_an_example_says_how_it_is_run(example: str) -> None:
    """The command is in its docstring, so that nobody has to look elsewhere."""
    (docstring, *_) = (ROOT / "examples" / example).read_text().split('"""\n\nfrom __future__')
    assert f"python examples/{example}" in docstring


def test_adapters_that_are_shown_keep_the_laws_that_the_kit_tests(tmp_path: Path) -> None:
    """The example, and both of the page, pass as they are said to: under pytest without any settings."""
    page = (ROOT / "docs" / "adapters.md").read_text()
    shown = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for number, text in enumerate([(ROOT / "examples" / "custom_runtime.py").read_text(), *shown]):
        (tmp_path / f"test_{number}.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (0, True) == (done.returncode, "41 passed, 2 skipped" in done.stdout), done.stdout
