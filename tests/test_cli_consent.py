"""``trio-acp prompt`` at a terminal: it asks there for permission, and Ctrl-C stops it."""

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

needs_terminal = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("setsid") is None, reason="needs setsid of util-linux"
)

QUESTION = "Allow it? [y/"
ASKS = "permission! Delete it kind=edit; say done"


def prompt(text: str, *options: str) -> AbstractAsyncContextManager[TerminalWindow]:
    return terminal_window([*CLI, "prompt", text, "--stdio", STDIO, *options])


@needs_terminal
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


@pytest.mark.parametrize(
    ("keys", "kinds", "offered", "answer"),
    [
        ("y\n", "allow_always,allow_once,reject_once", ("allow it once", "deny it"), "selected allow_once-2"),
        ("n\n", "allow_once,reject_once", ("allow it once", "deny it"), "selected reject_once-2"),
        ("a\n", "allow_once,allow_always,reject_once", ("allow it once", "deny it"), "selected allow_always-2"),
        ("Never\n", "allow_once,reject_always,reject_once", ("allow it once", "deny it"), "selected reject_always-2"),
        ("y\n", "allow_always,reject_always", ("allow it ALWAYS", "deny it ALWAYS"), "selected allow_always-1"),
        ("n\n", "allow_always,reject_always", ("allow it ALWAYS", "deny it ALWAYS"), "selected reject_always-2"),
        ("y\n", "someday,reject_once", ("cancel: the agent does not offer this", "deny it"), "cancelled"),
    ],
)
@needs_terminal
async def test_an_answer_does_what_was_said_of_it(keys: str, kinds: str, offered: tuple[str, str], answer: str) -> None:
    """The question tells what y and n do with what the agent offers, and that is what they do."""
    async with prompt(f"permission Write kinds={kinds} kind=edit path=/repo/a") as window:
        text = await window.sees(QUESTION)
        lines = ["The agent asks for permission (edit): Write", "  /repo/a"]
        assert lines == text.splitlines()[:2]
        assert f"  y = {offered[0]}" in text
        assert f"  n = {offered[1]}" in text
        assert ("  a = allow it ALWAYS\n" in text) == ({"allow_once", "allow_always"} <= {*kinds.split(",")})
        assert ("  x = deny it ALWAYS\n" in text) == ({"reject_once", "reject_always"} <= {*kinds.split(",")})
        window.press(keys)
        assert 0 == await window.ends()
        assert f"permission: {answer}" in window.text


@needs_terminal
async def test_what_came_before_a_question_is_no_answer() -> None:
    """Keys that were typed ahead allow nothing."""
    async with prompt("permission One; permission Two; say done") as window:
        window.press("y\ny\n")
        await window.sees(QUESTION)
        window.press("n\ny\n")
        await window.sees(lambda text: text.count(QUESTION) == 2)
        window.press("n\n")
        assert 0 == await window.ends()
        assert "allow_once" not in window.text


@needs_terminal
async def test_a_question_ends_with_its_turn() -> None:
    """At the deadline nobody is asked any further, and what is said then stands on a line of its own."""
    async with prompt("permission Write", "--timeout", "3") as window:
        before = window.mode()
        await window.sees(QUESTION)
        assert 3 == await window.ends()
        assert "trio-acp: the time was up after 3 s" in window.rows
        assert before == window.mode()


@needs_terminal
@pytest.mark.parametrize(
    ("script", "wait_for", "rows"),
    [
        ("say working; hang", "working", ["working^C"]),
        ("tool T; hang", "tool completed: T", ["tool, read: T", "tool completed: T"]),
    ],
    ids=["within a line", "after one"],
)
async def test_ctrl_c_says_what_it_did(script: str, wait_for: str, rows: list[str]) -> None:
    """On a line of its own, whatever the terminal shows of the key."""
    async with prompt(script) as window:
        await window.sees(wait_for)
        window.press("\x03")
        assert 130 == await window.ends()
        assert [*rows, "trio-acp: interrupted; the turn was stopped"] == window.rows


@needs_terminal
async def test_a_long_title_shows_its_end() -> None:
    """What matters of a command may be its last words, and many spaces do not push them away."""
    async with prompt("permission echo " + "x" * 600 + " " * 500 + "&& rm -rf /") as window:
        assert "&& rm -rf /" in (await window.sees(QUESTION)).replace("\n", "")
        window.press("n\n")
        await window.ends()


@needs_terminal
async def test_anything_else_is_asked_again() -> None:
    """A line that is neither yes nor no answers nothing; what is an answer is told."""
    async with prompt(ASKS) as window:
        await window.sees(QUESTION)
        window.press("maybe\n")
        await window.sees("Please answer y, a or n.")
        await window.sees(lambda text: text.count(QUESTION) == 2)
        window.press("y\n")
        assert 0 == await window.ends()


@needs_terminal
async def test_what_an_agent_asks_is_harmless() -> None:
    """Its words reach the terminal without control characters, on one line."""
    async with prompt("permission! rm\x1b[2J\u202e kind=edit") as window:
        text = await window.sees(QUESTION)
        assert r"permission (edit): rm\u001b[2J\u202e" in text
        window.press("n\n")
        await window.ends()


@needs_terminal
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


@needs_terminal
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
    words = "rule 1: unknown key 'actoin' (known: action, kind, name, path)"
    assert f"trio-acp: --permissions {rules}: {words}\n" == wrong.stderr.decode()


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
        ("yes", "--permissions must be ask, deny, approve-reads, approve-all or a file FILE.toml, not 'yes'"),
        ("{tmp}/none.toml", "--permissions {tmp}/none.toml: cannot be read: No such file or directory"),
        (
            "{tmp}/wrong.toml",
            "--permissions {tmp}/wrong.toml: rule 1: unknown key 'paths' (known: action, kind, name, path)",
        ),
    ],
)
async def test_a_wrong_value_is_refused_in_one_line(tmp_path: Path, value: str, complaint: str) -> None:
    """Before anything is started, with the exit code of wrong usage."""
    (tmp_path / "wrong.toml").write_text('[[rules]]\naction = "deny"\npaths = "x"\n')
    result = await run_cli("prompt", "hi", "--stdio", "no-such-program", "--permissions", value.format(tmp=tmp_path))
    assert 2 == result.returncode
    assert f"trio-acp: {complaint.format(tmp=tmp_path)}\n" == result.stderr.decode()
