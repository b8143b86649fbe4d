"""``trio-acp prompt`` asks at the terminal, if there is one."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli_kit import CLI, STDIO, run_cli
from tests.pty_kit import terminal_window

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.pty_kit import TerminalWindow

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("setsid") is None, reason="needs setsid of util-linux"
)

QUESTION = "Allow it once? [y/N]"
ASKS = "permission! Delete it kind=edit; say done"


def prompt(text: str, *options: str) -> AbstractAsyncContextManager[TerminalWindow]:
    return terminal_window([*CLI, "prompt", text, "--stdio", STDIO, *options])


@pytest.mark.parametrize(
    ("keys", "code", "seen"),
    [
        ("y\n", 0, "permission allowed: Delete it"),
        ("YES\n", 0, "permission allowed: Delete it"),
        ("n\n", 5, "permission denied: Delete it"),
        ("\n", 5, "permission denied: Delete it"),
        ("\x04", 5, "permission not granted: Delete it"),
        ("\x03", 130, QUESTION),
    ],
    ids=["y", "yes", "n", "enter", "end of input", "Ctrl-C"],
)
async def test_a_line_is_the_answer(keys: str, code: int, seen: str) -> None:
    """Yes allows; no, nothing and no answer do not; Ctrl-C stops the turn."""
    async with prompt(ASKS) as window:
        await window.sees(QUESTION)
        window.press(keys)
        assert code == await window.ends()
        assert seen in window.text


async def test_anything_else_is_asked_again() -> None:
    """A line that is neither yes nor no answers nothing."""
    async with prompt(ASKS) as window:
        await window.sees(QUESTION)
        window.press("maybe\n")
        await window.sees(lambda text: text.count(QUESTION) == 2)
        window.press("y\n")
        assert 0 == await window.ends()


async def test_what_an_agent_asks_is_harmless() -> None:
    """Its words reach the terminal without control characters, on one line."""
    async with prompt("permission! rm\x1b[2J\u202e kind=edit") as window:
        text = await window.sees(QUESTION)
        assert r"permission (edit): rm\u001b[2J\u202e" in text
        window.press("n\n")
        await window.ends()


async def test_standard_input_may_be_the_prompt(tmp_path: Path) -> None:
    """The question goes to the terminal even if input and output are files."""
    script = tmp_path / "script"
    script.write_text(ASKS)
    command = f"{' '.join(CLI)} prompt - --stdio '{STDIO}' < {script} > {tmp_path / 'out'}"
    async with terminal_window(["sh", "-c", command]) as window:
        await window.sees(QUESTION)
        window.press("y\n")
        assert 0 == await window.ends()
    assert "done" in (tmp_path / "out").read_text()


@pytest.mark.parametrize("choice", ["deny", "approve-reads"])
async def test_nobody_is_asked_what_is_decided(choice: str) -> None:
    """Denying asks nothing; approving reads asks for the rest."""
    async with prompt(ASKS, "--permissions", choice) as window:
        if choice == "approve-reads":
            await window.sees(QUESTION)
            window.press("n\n")
        assert 5 == await window.ends()
        assert (choice == "approve-reads") is (QUESTION in window.text)


async def test_a_file_of_rules_is_asked_for_what_it_says(tmp_path: Path) -> None:
    """Its rules decide; without a terminal, what they would ask is denied; a mistake in it is told."""
    rules = tmp_path / "rules.toml"
    rules.write_text('default = "ask"\n[[rules]]\naction = "allow"\nkind = "edit"\nname = "Delete*"\n')
    allowed = await run_cli("prompt", ASKS, "--stdio", STDIO, "--permissions", str(rules))
    denied = await run_cli("prompt", "permission! Other kind=edit", "--stdio", STDIO, "--permissions", str(rules))
    assert (0, 5) == (allowed.returncode, denied.returncode)
    rules.write_text("[[rules]]\nactoin = 1\n")
    wrong = await run_cli("prompt", ASKS, "--stdio", STDIO, "--permissions", str(rules))
    assert (2, b"") == (wrong.returncode, wrong.stdout)
    assert (
        f"trio-acp: {rules}: rule 1: unknown key 'actoin' (known: action, kind, name, path)\n" == wrong.stderr.decode()
    )
