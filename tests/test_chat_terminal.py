"""`trio-acp chat` on a real terminal: what a user sees there, presses, and gets back."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.cli_kit import AGENT, CLI, STDIO
from tests.pty_kit import TerminalWindow, terminal_window

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="setsid --ctty is of util-linux")

CTRL_C, CTRL_D, CTRL_Z, CTRL_L, CTRL_U = "\x03", "\x04", "\x1a", "\x0c", "\x15"
DIFF = (
    '{"sessionUpdate":"tool_call","toolCallId":"d","title":"Edit it","kind":"edit","status":"completed",'
    '"content":[{"type":"diff","path":"/a/b.py","oldText":"one\\ntwo\\n","newText":"one\\n2\\n"}]}'
)


@asynccontextmanager
async def chatting(
    tmp_path: Path,
    *args: str,
    columns: int = 80,
    lines: int = 24,
    agent: str = STDIO,
    env: dict[str, str] | None = None,
) -> AsyncIterator[TerminalWindow]:
    """Run a chat with the scripted agent until it is ready."""
    home = {"TRIO_ACP_HOME": str(tmp_path / "config"), **(env or {})}
    argv = [*CLI, "chat", "--stdio", agent, *args]
    async with terminal_window(argv, columns=columns, lines=lines, env=home) as window:
        await window.sees("ready")
        assert window.before != window.mode()
        yield window


async def interrupt_twice(window: TerminalWindow) -> None:
    """Press Ctrl-C, and again once it was heard: signals that wait are not counted."""
    window.press(CTRL_C)
    await window.sees("again leaves")
    window.press(CTRL_C)


async def left(window: TerminalWindow, *, code: int = 0) -> None:
    """Assert that it ends so, and gives the terminal back as it was."""
    assert code == await window.ends()
    assert window.before == window.mode()
    assert not window.screen.cursor.hidden
    assert window.raw.rfind(b"\x1b[?2004l") > window.raw.rfind(b"\x1b[?2004h")


@pytest.mark.parametrize("columns", [40, 80])
async def test_a_turn_is_shown(tmp_path: Path, columns: int) -> None:
    """The prompt, thoughts dimmed, tools as they ended, the plan, a diff, usage, and text; no row is too wide."""
    async with chatting(tmp_path, columns=columns) as window:
        script = f"think Let me see; tool Read it kind=read; plan one|two; usage 150000 200000; update {DIFF}\nsay done"
        window.press(f"\x1b[200~{script}\x1b[201~\r")
        text = await window.sees(lambda text: "done\n" in text and "ready" in text)
        for row in (
            "Let me see",
            "✓ read: Read it",
            "[>] one",
            "[ ] two",
            "✓ edit: Edit it",
            "  /a/b.py",
            "  -two",
            "  +2",
        ):
            assert row in text.split("\n")
        assert "150k of 200k tokens" in text.replace("\n", " ")
        assert b"\x1b[2mLet me see" in window.raw
        assert b"\x1b[32m  +2" in window.raw
        window.press(CTRL_D)
        await left(window)
        assert "to go on: trio-acp chat --session chat-" in window.text.replace("\n", "")


async def test_text_is_shown_while_it_comes_and_a_typed_line_stays_below_it(tmp_path: Path) -> None:
    """What is being typed is drawn again under whatever is said meanwhile."""
    async with chatting(tmp_path) as window:
        window.press("say first; hang\r")
        await window.sees("first\nworking")
        window.press("half a li")
        await window.sees("» half a li")
        window.press("ne\x1b[D\x1b[D\x1b[D\x1b[D")
        await window.sees("» half a line")
        await window.sees(lambda _: window.screen.cursor.x == len("» half a "))
        window.press(CTRL_C)
        await window.sees(lambda text: re.search(r"first\n\nstopped\n.*\n» half a line\Z", text))
        window.press(f"{CTRL_U}\x0b{CTRL_D}")
        await left(window)


async def test_a_tool_line_changes_in_place(tmp_path: Path) -> None:
    """A tool call that runs has one line, which is its last one too."""
    async with chatting(tmp_path) as window:
        update = '{"sessionUpdate":"tool_call","toolCallId":"t","title":"Build","status":"in_progress"}'
        done = '{"sessionUpdate":"tool_call_update","toolCallId":"t","status":"failed"}'
        window.press(f"\x1b[200~update {update}\npermission Go on\nupdate {done}\nhang\x1b[201~\r")
        text = await window.sees("y = yes")
        assert 1 == text.count("● Build (in progress)\n")
        window.press("n")
        text = await window.sees("✗ Build (failed)")
        assert "permission denied: Go on" in text
        assert "in progress" not in text.replace(update, "")
        await interrupt_twice(window)
        await left(window, code=130)


async def test_a_permission_is_given_by_one_key(tmp_path: Path) -> None:
    """One that is typed when the line is empty and the question says so; letters of a line are none."""
    async with chatting(tmp_path) as window:
        window.press("permission Write it kind=edit; permission Then this; say done\r")
        await window.sees("? Write it (edit)")
        window.press("\x1b[200~y\x1b[201~")  # pasted text answers nothing
        await window.sees("» y")
        await window.sees("Enter answers: yes")
        window.press("n")
        await window.sees("? Write it (edit)\na question waits: send or clear (Ctrl-U) your line to answer\n")
        await window.sees("» yn")
        window.press(CTRL_U)
        await window.sees("y = yes")
        window.press("y")
        await window.sees("permission allowed: Write it")
        await window.sees(lambda text: "? Then this" in text and "a = always" in text)
        window.press("always\r")
        await window.sees("permission allowed (asked, always): Then this")
        await window.sees(lambda text: "selected allow_always" in text and "done\n" in text)
        window.press(CTRL_D)
        await left(window)


@pytest.mark.parametrize(("given", "answer"), [("deny", "reject_once"), ("approve-all", "allow_once")])
async def test_permissions_may_be_decided_beforehand(tmp_path: Path, given: str, answer: str) -> None:
    """Nothing is asked then; allowing everything is said aloud."""
    async with chatting(tmp_path, "--permissions", given) as window:
        window.press("permission Write it\r")
        text = await window.sees(f"selected {answer}")
        assert (given == "approve-all") == ("WHATEVER THE AGENT ASKS FOR IS ALLOWED" in text)
        window.press(CTRL_D)
        await left(window)


async def test_ctrl_c_stops_the_turn_and_the_next_prompt_runs(tmp_path: Path) -> None:
    """What was typed meanwhile waits its turn, is shown, and keeps its order."""
    async with chatting(tmp_path) as window:
        window.press("say working; hang\r")
        await window.sees("working\n")
        window.press("say second\rsay third\r")
        await window.sees("queued: say second\nqueued: say third")
        window.press(CTRL_C)
        await window.sees("Ctrl-C again leaves")
        text = await window.sees("\nthird\n")
        order = [text.index(words) for words in ("stopped", "» say second", "\nsecond", "» say third", "\nthird")]
        assert sorted(order) == order
        window.press(CTRL_D)
        await left(window)


async def test_ctrl_c_without_a_turn_clears_the_line_and_twice_leaves(tmp_path: Path) -> None:
    """The exit code is that of an interrupt."""
    async with chatting(tmp_path) as window:
        window.press("half a li")
        await window.sees("half a li")
        window.press(CTRL_C)
        await window.sees(lambda text: "half" not in text and "Ctrl-C again leaves" in text)
        window.press(CTRL_C)
        await left(window, code=130)


async def test_an_agent_that_hears_nothing_does_not_keep_you(tmp_path: Path) -> None:
    """Ctrl-C twice leaves although the agent is frozen, and the terminal is given back before it is dealt with."""
    async with chatting(tmp_path) as window:
        window.press("say now; freeze\r")
        await window.sees("now\n")
        await interrupt_twice(window)
        await window.sees(lambda _: window.before == window.mode())
        await left(window, code=130)


async def test_an_agent_that_crashes_does_not_end_the_chat(tmp_path: Path) -> None:
    """The failure is told in a line; the next prompt starts the agent again."""
    async with chatting(tmp_path, agent=shlex.join([*AGENT, "--state-dir", str(tmp_path / "state")])) as window:
        window.press("crash 3\r")
        await window.sees("agent exited with code 3")
        window.press("say back again\r")
        await window.sees("\nback again\n")
        window.press("/quit\r")
        await left(window)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
async def test_signals_give_the_terminal_back(tmp_path: Path, number: signal.Signals) -> None:
    """Whatever asks for its end, while a turn runs."""
    async with chatting(tmp_path) as window:
        window.press("say now; hang\r")
        await window.sees("now\n")
        assert window.process is not None
        os.kill(window.process.pid, number)
        if number == signal.SIGINT:
            await window.sees("again leaves")
            os.kill(window.process.pid, number)
        await left(window, code=130)


async def test_closing_the_window_ends_the_chat_as_a_signal_does(tmp_path: Path) -> None:
    """Nothing can be shown any more, and that is no error: the exit code is 130, and nothing is complained of."""
    complaints, copy = tmp_path / "stderr", 'exec "$@" 2>"$0"'
    argv = ["sh", "-c", copy, str(complaints), *CLI, "chat", "--stdio", STDIO]
    async with terminal_window(argv, env={"TRIO_ACP_HOME": str(tmp_path / "config")}) as window:
        await window.sees("ready")
        window.press("say now; hang\r")
        await window.sees("now\n")
        assert window.process is not None
        window.close()
        with trio.fail_after(30):
            assert 130 == await window.process.wait()
    assert "" == complaints.read_text()


async def test_a_mistake_of_ours_gives_the_terminal_back(tmp_path: Path) -> None:
    """Also an exception that nobody expects: its traceback is printed on a terminal that works."""
    code = (
        "import sys; from trio_acp.cli import main, _chat_commands\n"
        "def fail(*_): raise ZeroDivisionError\n"
        "_chat_commands.ChatCommands.enter = fail\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    env = {"TRIO_ACP_HOME": str(tmp_path)}
    async with terminal_window([sys.executable, "-c", code, "chat", "--stdio", STDIO], env=env) as window:
        await window.sees("ready")
        window.press("x\r")
        assert 1 == await window.ends()
        assert "ZeroDivisionError" in window.text
        assert window.before == window.mode()


async def test_a_terminal_that_takes_nothing_does_not_keep_you(tmp_path: Path) -> None:
    """Nobody reads what it writes, as after Ctrl-S: Ctrl-C twice leaves all the same."""
    async with chatting(tmp_path) as window:
        window.press("wide 2000 1000; hang\r")
        assert window.process is not None
        with trio.fail_after(60):
            await wait_full(window)
            while window.before != window.mode():  # whether the first one was heard cannot be seen here
                window.press(CTRL_C)
                with trio.move_on_after(1):
                    await window.process.wait()
            await window.process.wait()
        assert (130, window.before) == (window.process.returncode, window.mode())


async def wait_full(window: TerminalWindow) -> None:
    """Wait until there is output that nobody has read, and more cannot be written."""
    poll = select.poll()
    poll.register(window.slave, select.POLLOUT)
    while poll.poll(0):  # noqa: ASYNC110 - the kernel tells nobody that a terminal is full
        await trio.sleep(0.01)


def in_words(wanted: str, text: str) -> bool:
    """Whether something is in a text, whatever its lines are."""
    return wanted in " ".join(text.split())


async def test_commands(tmp_path: Path) -> None:
    """Each does what it says; one that there is not is told, and not sent."""
    agent = shlex.join([*AGENT, "--config"])
    async with chatting(tmp_path, "--session", "named", agent=agent, lines=60) as window:
        for typed, seen in [
            ("/help", "/export FILE write a new file, .md or .jsonl /help"),
            ("/mode", "mode: not told"),
            ("/mode code", "mode: code"),
            ("/set", "the agent has told of no options yet"),
            ("/set effort high", "effort: high"),
            ("/set effort bad", "session/set_config_option: There is no such"),
            ("/set effort", "usage: /set [KEY VALUE]"),
            ("/status", "permissions: ask"),
            ("/queue", "nothing waits"),
            ("/cancel", "nothing runs; 0 taken back"),
            ("/nonsense", "there is no command /nonsense"),
            ("commands", "ready"),
            ("//etc is a directory", "You said: /etc is a directory"),
            (f"/export {tmp_path}/chat.md", "written: "),
            (f"/export {tmp_path}/chat.md", "is there already"),
            (f"/export {tmp_path}/chat.txt", "ends in .md or .jsonl"),
            (f"/export {tmp_path}/no/chat.md", "No such file or directory"),
        ]:
            window.press(f"{typed}\r")
            await window.sees(partial(in_words, seen))
        assert "> **You:** /etc is a directory\n\nYou said: /etc" in (tmp_path / "chat.md").read_text()
        assert 0o600 == (tmp_path / "chat.md").stat().st_mode & 0o777
        window.press("say on; hang\rsay two\r")
        await window.sees("queued: say two")
        window.press("/queue clear\r")
        await window.sees("1 taken back")
        window.press("/cancel\r")
        await window.sees("\nstopped\n")
        window.press("/quit\r")
        await left(window)
        assert "two\n" not in window.text.replace("say two", "")
        assert f"chat --session named --stdio {shlex.quote(agent)}" in window.text.replace("\n", "")


async def test_a_session_is_resumed(tmp_path: Path) -> None:
    """By its name, in another process; its mode is still there."""
    agent = shlex.join([*AGENT, "--state-dir", str(tmp_path / "state")])
    for seen in ("new session mine", "resumed session mine"):
        async with chatting(tmp_path, "--session", "mine", agent=agent) as window:
            await window.sees(seen)
            window.press("history\r")
            await window.sees("earlier turns" if seen[0] == "r" else "turn")
            window.press(CTRL_D)
            await left(window)


@pytest.mark.parametrize("columns", [40, 80])
async def test_ctrl_z_gives_the_terminal_to_the_shell_and_back(tmp_path: Path, columns: int) -> None:
    """A real shell gets its terminal as it was; continued, the chat has its line and its keys again."""
    env = {"TRIO_ACP_HOME": str(tmp_path), "PS1": "$ ", "HISTFILE": ""}
    async with terminal_window(["bash", "--norc", "--noprofile", "-i"], columns=columns, env=env) as window:
        await window.sees("$")
        window.press(
            f"stty -a > before; {shlex.join([*CLI, 'chat', '--stdio', STDIO])}\r".replace(
                "before", f"{tmp_path}/before"
            )
        )
        await window.sees("ready")
        window.press("half a li")
        await window.sees("» half a li")
        window.press(CTRL_Z)
        await window.sees("Stopped")
        window.press(f"stty -a > {tmp_path}/after; fg\r")
        await window.sees(lambda text: text.endswith("» half a li"))
        window.press("ne\r")
        await window.sees("half a line\n\n")
        window.press(CTRL_D)
        await window.sees(lambda text: "to go on" in text and text.endswith("$"))
        window.press("exit\r")
        await window.ends()
        assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


@pytest.mark.parametrize("stop", [CTRL_Z, ""], ids=["ctrl-z", "sigstop"])
async def test_the_terminal_is_given_back_before_the_process_stops(tmp_path: Path, stop: str) -> None:
    """Not by the shell: by the chat itself, which goes on with its line once continued, however it was stopped."""
    job_control = [sys.executable, "-m", "tests.programs.job_control"]
    env = {"TRIO_ACP_HOME": str(tmp_path)}
    async with terminal_window([*job_control, *CLI, "chat", "--stdio", STDIO], env=env) as window:
        await window.sees("ready")
        window.press("half a li")
        await window.sees("» half a li")
        if stop:
            window.press(stop)
        else:
            os.kill(os.tcgetpgrp(window.master), signal.SIGSTOP)
        text = await window.sees(lambda text: re.search(r"stopped; .*» half a li\Z", text, re.DOTALL))
        assert ("the terminal is as it was" in text) == bool(stop)
        assert 1 + (not stop) == text.count("» half a li")
        window.press("ne\r")
        await window.sees("You said: half a line\n")
        window.press(CTRL_D)
        await left(window)


async def test_a_new_size_is_used_at_once(tmp_path: Path) -> None:
    """The line being typed is laid out anew, and so is what comes then."""
    async with chatting(tmp_path, columns=80) as window:
        words = "one two three four five six seven eight nine ten eleven"
        window.press(words)
        await window.sees(words)
        window.resize(40, 24)
        await window.sees(lambda text: "» " + words[:37] in text.split("\n") and words[:39] not in text)
        window.press("\r")
        await window.sees(
            lambda text: "ready" in text and "You said: one two three four five six\nseven eight nine" in text
        )
        window.press(CTRL_D)
        await left(window)


@pytest.mark.parametrize(
    "env",
    [{"NO_COLOR": "1"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["no colour", "C", "ascii"],
)
async def test_other_surroundings(tmp_path: Path, env: dict[str, str]) -> None:
    """NO_COLOR has no colours, bold or dim at all; without UTF-8 there are escapes, and nothing crashes."""
    async with chatting(tmp_path, env=env) as window:
        window.press("think hm; tool Lesen; say gr\u00fcn **bold**; permission Now; plan a|b\r")
        await window.sees("y = yes")
        window.press("y")
        await window.sees(lambda text: "ready" in text and "[ ] b" in text)
        if "NO_COLOR" in env:
            assert [] == re.findall(rb"\x1b\[[0-9;]*m", window.raw)
        if "PYTHONUTF8" in env:
            assert window.raw.isascii()
            assert "+ read: Lesen" in window.text
        window.press(CTRL_D)
        await left(window)


async def test_what_the_agent_says_is_not_obeyed(tmp_path: Path) -> None:
    """It cannot clear the screen, set the title or fake a question: its escapes are shown."""
    said = "x\\u001b[2J\\u001b]0;t\\u0007\\u202ey"
    evil = f'{{"sessionUpdate":"agent_message_chunk","content":{{"type":"text","text":"{said}"}}}}'
    async with chatting(tmp_path) as window:
        window.press(f"\x1b[200~update {evil}\npermission Do\x1b[201~\r")
        await window.sees("y = yes")
        assert f"\n{said}\n" in window.text
        assert "t" != window.screen.title
        window.press(CTRL_C)
        await window.sees("permission not granted: Do")
        window.press(CTRL_D)
        await left(window)


async def test_keys_edit_and_recall(tmp_path: Path) -> None:
    """Home, end, erasing, wide characters, several rows, the history, and an empty screen."""
    async with chatting(tmp_path) as window:
        window.press("日本x\x7f語")
        await window.sees("» 日本語")
        await window.sees(lambda _: window.screen.cursor.x == 2 + 6)
        window.press("\x01\x0bsay one\r")
        await window.sees("\none\n")
        window.press("\x1b[A")
        await window.sees(lambda text: text.endswith("» say one"))
        window.press(f"\x1b\rsay two{CTRL_L}")
        await window.sees(lambda text: text.endswith("» say one\n  say two") and window.screen.cursor.y < 4)
        window.press("\r")
        await window.sees("\nonetwo")
        window.press(CTRL_D)
        await left(window)
