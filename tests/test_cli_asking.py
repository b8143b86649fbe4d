"""`trio-acp prompt` asks for permission at the terminal; what ``--permissions`` names; all by the real program."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from tests.cli_kit import CLI, STDIO, run_cli

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECONDS = 60.0
# Makes standard error the terminal of a session of its own: its keys then send signals.
_ON_TERMINAL = (
    "import fcntl,os,sys,termios; os.setsid(); fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(*eval(sys.argv[1]))"
)


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, master: int, process: trio.Process) -> None:
        self.master, self.process, self.shown = master, process, ""

    async def sees(self, text: str, times: int = 1) -> str:
        """Read until something is there so many times; return all that was written."""
        with trio.fail_after(SECONDS):
            while self.shown.count(text) < times:
                await trio.lowlevel.wait_readable(self.master)
                self.shown += os.read(self.master, 65536).decode()
        return self.shown

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    async def ends(self) -> int:
        """Wait for the program's end; return its exit code."""
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_on)
                code = await self.process.wait()
                nursery.cancel_scope.cancel()
        return code

    async def _read_on(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.master)
            try:
                self.shown += os.read(self.master, 65536).decode()
            except OSError:
                return


@asynccontextmanager
async def prompting(script: str, *options: str, stdin: bool = True) -> AsyncIterator[Terminal]:
    """Run ``trio-acp prompt`` on a terminal, whose standard input need not be it; kill it at the end."""
    master, slave = pty.openpty()
    try:
        argv = [*CLI, "prompt", script, "--stdio", STDIO, *options]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", _ON_TERMINAL, repr((argv[0], argv))],
            stdin=slave if stdin else subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "NO_COLOR": "1"},
        )
        try:
            yield Terminal(master, process)
        finally:
            process.kill()
            with trio.fail_after(10) as scope:
                scope.shield = True
                await process.wait()
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("keys", "kinds", "offered", "answer"),
    [
        ("y\n", "allow_always,allow_once,reject_once", ("allow it once", "deny it"), "selected allow_once-2"),
        ("YES\n", "reject_once,allow_once", ("allow it once", "deny it"), "selected allow_once-2"),
        ("n\n", "allow_once,reject_once", ("allow it once", "deny it"), "selected reject_once-2"),
        ("\n", "allow_once,reject_once", ("allow it once", "deny it"), "selected reject_once-2"),
        ("\x04", "allow_once,reject_once", ("allow it once", "deny it"), "cancelled"),
        ("y\n", "allow_always,reject_always", ("allow it ALWAYS", "deny it ALWAYS"), "selected allow_always-1"),
        ("y\n", "someday,reject_once", ("cancel: the agent does not offer this", "deny it"), "cancelled"),
    ],
)
async def test_an_answer_does_what_was_said_of_it(keys: str, kinds: str, offered: tuple[str, str], answer: str) -> None:
    """The question tells what y and n do with what the agent offers, and that is what they do."""
    async with prompting(f"permission Write kinds={kinds} kind=edit path=/repo/a") as terminal:
        shown = await terminal.sees("[y/N] ")
        assert "asks for permission (edit): Write\r\n  /repo/a\r\n" in shown
        assert f"  y = {offered[0]}" in shown
        assert f"  n = {offered[1]}" in shown
        terminal.types(keys)
        await terminal.sees(f"permission: {answer}")
        assert 0 == await terminal.ends()


async def test_what_is_no_answer_is_asked_again_and_what_came_before_is_none() -> None:
    """Keys typed before the question, and words that are neither, allow nothing."""
    async with prompting("permission One; permission Two; say done") as terminal:
        terminal.types("y\ny\ny\n")
        await terminal.sees("[y/N] ")
        terminal.types("maybe\n")
        await terminal.sees("Please answer y or n.\r\n[y/N] ")
        terminal.types("y\nn\n")
        await terminal.sees("permission: selected allow_once-1")
        await terminal.sees("[y/N] ", 3)
        terminal.types("n\n")
        await terminal.sees("permission: selected reject_once-3")
        assert 0 == await terminal.ends()


async def test_standard_input_need_not_be_the_terminal() -> None:
    """It may be the prompt, or nothing: who sits at the terminal is asked all the same."""
    async with prompting("permission Write", stdin=False) as terminal:
        await terminal.sees("[y/N] ")
        terminal.types("y\n")
        await terminal.sees("permission: selected allow_once-1")
        assert 0 == await terminal.ends()


@pytest.mark.parametrize("by_key", [True, False])
async def test_ctrl_c_ends_a_question(by_key: bool) -> None:
    """The turn is stopped, the code is 130, and the terminal is as it was."""
    async with prompting("permission Write") as terminal:
        before = termios.tcgetattr(terminal.master)
        await terminal.sees("[y/N] ")
        if by_key:
            terminal.types("\x03")
        else:
            terminal.process.send_signal(signal.SIGTERM)
        assert 130 == await terminal.ends()
        assert before == termios.tcgetattr(terminal.master)


async def test_a_question_ends_with_its_turn() -> None:
    """At the deadline nobody is asked any further; a key pressed then answers nothing."""
    async with prompting("permission Write", "--timeout", "3") as terminal:
        await terminal.sees("[y/N] ")
        assert 3 == await terminal.ends()
        assert "\r\ntrio-acp: the time was up after 3 s" in terminal.shown


async def test_an_agent_cannot_draw_on_the_terminal() -> None:
    """What it calls its tool is shown, not obeyed, and does not hide its own end."""
    name = "Write \x1b[2J\x1b[1A\u202e" + "x" * 600 + " && rm -rf /"
    async with prompting(f"permission {name}") as terminal:
        shown = await terminal.sees("[y/N] ")
        assert "\x1b" not in shown
        assert "\\u001b[2J" in shown
        assert "\u202e" not in shown
        assert "&& rm -rf /" in shown.replace("\r\n", "")
        terminal.types("n\n")
        assert 0 == await terminal.ends()


# -- without a terminal ---------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "options", "answer", "said"),
    [
        ("permission Write", [], "selected reject_once-3", ""),
        ("permission Write", ["--permissions", "deny"], "selected reject_once-3", ""),
        ("permission Write", ["--permissions", "ask"], "selected reject_once-3", "there is no terminal to ask at"),
        ("permission Write", ["--permissions", "approve-all"], "selected allow_once-1", "whatever you can do"),
        ("permission R kind=read path={cwd}/a", ["--permissions", "approve-reads"], "selected allow_once-1", ""),
        ("permission R kind=read path={cwd}/../a", ["--permissions", "approve-reads"], "selected reject_once-3", ""),
        ("permission W kind=edit path={cwd}/a", ["--permissions", "approve-reads"], "selected reject_once-3", ""),
        ("permission R kind=edit path={cwd}/a", ["--permissions", "{cwd}/rules.toml"], "selected allow_once-1", ""),
        ("permission R kind=edit path={cwd}/.git/a", ["--permissions", "{cwd}/rules.toml"], "cancelled", ""),
    ],
)
async def test_each_policy_decides(tmp_path: Path, script: str, options: list[str], answer: str, said: str) -> None:
    """Over the whole stack; one line of warning where it is dangerous, or nobody can be asked."""
    (tmp_path / "rules.toml").write_text(
        '[[rules]]\naction = "deny"\npath = ".git/**"\n[[rules]]\naction = "allow"\nkind = "edit"\npath = "**"\n'
    )
    kinds = " kinds=allow_once" if answer == "cancelled" else ""
    result = await run_cli(
        "prompt",
        script.format(cwd=tmp_path) + kinds,
        "--stdio",
        STDIO,
        "--cwd",
        str(tmp_path),
        *(option.format(cwd=tmp_path) for option in options),
    )
    assert 0 == result.returncode
    assert f"permission: {answer}" in result.stdout.decode()
    warnings = [line for line in result.stderr.decode().splitlines() if line.startswith("trio-acp: ")]
    assert (1 if said else 0) == len(warnings)
    assert all(said in line for line in warnings)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("yes", "--permissions: must be ask, deny, approve-reads, approve-all or a file FILE.toml, not 'yes'"),
        ("{tmp}/none.toml", "{tmp}/none.toml: cannot be read: No such file or directory"),
        ("{tmp}/wrong.toml", "{tmp}/wrong.toml: rule 1: unknown key 'paths' (known: action, kind, name, path)"),
    ],
)
async def test_a_wrong_value_is_refused_in_one_line(tmp_path: Path, value: str, complaint: str) -> None:
    """Before anything is started, with the exit code of wrong usage."""
    (tmp_path / "wrong.toml").write_text('[[rules]]\naction = "deny"\npaths = "x"\n')
    result = await run_cli("prompt", "hi", "--stdio", "no-such-program", "--permissions", value.format(tmp=tmp_path))
    assert 2 == result.returncode
    assert f"trio-acp: {complaint.format(tmp=tmp_path)}\n" == result.stderr.decode()
