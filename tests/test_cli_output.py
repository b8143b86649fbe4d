"""The forms of output, on terminals and off them, and the frame around every command."""

from __future__ import annotations

import argparse
import io
import logging
import os
import pty
import runpy
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

import trio_acp
from trio_acp import (
    AcpError,
    Completed,
    ContentDelta,
    Event,
    Failed,
    ImageContent,
    InvalidOption,
    Limits,
    Location,
    Plan,
    PlanEntry,
    SessionMissing,
    Stopped,
    TextContent,
    TextDelta,
    Thought,
    TimedOut,
    ToolCall,
    TurnFailed,
    TurnTimedOut,
    UnknownUpdate,
    Usage,
)
from trio_acp._events import ToolContent
from trio_acp.cli import main, serve
from trio_acp.cli._exits import exit_code
from trio_acp.cli._formats import TextWriter
from trio_acp.cli._json import event_line, outcome_line
from trio_acp.cli._logging import log_to_stderr
from trio_acp.cli._output import Output, complain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def files(tmp_path: Path) -> Iterator[tuple[Output, Output]]:
    """Open two outputs that are files."""
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        yield Output(out), Output(err)


@contextmanager
def terminal() -> Iterator[tuple[Output, int]]:
    """Open a terminal; yield its output, and the descriptor on which what is shown can be read."""
    shown, side = pty.openpty()
    with open(side, "w") as stream:  # noqa: PTH123 - a descriptor has no path
        yield Output(stream), shown
    os.close(shown)


async def play(writer: TextWriter, *events: Event) -> None:
    """Show the events and a normal end."""
    for event in events:
        await writer.show(event)
    await writer.finish(Completed())


async def test_line_ends_that_arrive_in_halves(tmp_path: Path) -> None:
    """A Windows line end split between two pieces is one newline; a lone CR, at the end too, is shown."""
    with files(tmp_path) as (out, err):
        await play(TextWriter(out, err), TextDelta("a\r"), TextDelta("\nb\r"), TextDelta("c\r"))
    assert "a\nb\\u000dc\\u000d\n" == (tmp_path / "out").read_text()


async def test_notes_of_all_kinds(tmp_path: Path) -> None:
    """Each kind of event has a short line, each state of a tool at most one; the rest shows nothing."""
    entries = (
        PlanEntry(content="a", priority="high", status="completed"),
        PlanEntry(content="b", priority="high", status="pending"),
    )
    call = ToolCall(id="1", title="Run", kind="execute", status="pending")
    with files(tmp_path) as (out, err):
        await play(
            TextWriter(out, err),
            Thought("x" * 200),
            Thought("y" * 200),
            Thought("z" * 200),
            Plan(entries=entries),
            call,
            attrs.evolve(call, status="in_progress"),
            attrs.evolve(call, status="failed"),
            attrs.evolve(call, status="failed"),
            ContentDelta(role="agent", content=ImageContent(data="", mime_type="image/png")),
            Usage(used=1, size=2),
            Thought(" "),
        )
    lines = (tmp_path / "err").read_text().splitlines()
    assert "" == (tmp_path / "out").read_text()
    assert lines[0].startswith("thinking: xxx")
    assert lines[0].endswith("y…")
    assert ["plan: 1 of 2 done", "tool, execute: Run", "tool failed: Run", "not shown: ImageContent"] == lines[1:]


@pytest.mark.parametrize("plain", [False, True])
async def test_on_a_terminal_notes_are_dim_and_have_their_own_line(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal a note begins on a new line and is dim, unless NO_COLOR asks for plain text."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if plain:
        monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as (output, shown):
        await play(TextWriter(output, output), TextDelta("hi"), Thought("hm"), TextDelta("there"))
        text = ""
        while not text.endswith("there\r\n"):  # a terminal may hand out a part at a time
            text += os.read(shown, 1000).decode()
    note = "thinking: hm" if plain else "\x1b[2mthinking: hm\x1b[0m"
    assert f"hi\r\n{note}\r\nthere\r\n" == text


async def test_a_closed_stream_swallows_what_is_written() -> None:
    """Standard output that was closed before the start is written to by nobody."""
    await Output(None).write("lost")


async def test_a_write_that_does_not_end_can_be_cancelled() -> None:
    """A full pipe keeps a deadline from nothing: the write is left behind."""
    reader, writer = os.pipe()
    with trio.fail_after(10), trio.move_on_after(0.1) as scope, open(writer, "w") as stream:  # noqa: PTH123, ASYNC230 - a descriptor
        await Output(stream).write("x" * 2**20)
    os.close(reader)
    assert scope.cancelled_caught


def test_complaints_that_nobody_can_read_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken standard error is no second error."""
    reader, writer = os.pipe()
    os.close(reader)
    with closing(open(writer, "w", buffering=1)) as stream:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stderr", stream)
        complain("nothing")
        assert sys.stderr is None
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writer)  # so that closing the stream finds no broken pipe
        os.close(null)


def test_json_of_nested_events() -> None:
    """What is inside an event has a type too; what is None is left out; unknown updates are passed on as they came."""
    call = ToolCall(
        id="1", title="T", content=(ToolContent(content=TextContent(text="x")),), locations=(Location(path="/a"),)
    )
    assert (
        '{"type": "tool_call", "id": "1", "title": "T", "kind": "other", "status": "pending", "content": '
        '[{"type": "tool_content", "content": {"type": "text_content", "text": "x"}}], '
        '"locations": [{"type": "location", "path": "/a"}]}\n'
    ) == event_line(call)
    assert '{"type": "unknown_update", "raw": {"a": [null]}}\n' == event_line(UnknownUpdate({"a": [None]}))


def test_json_of_outcomes() -> None:
    """Each outcome has its name and the agent's stop reason; a failure has its error."""
    assert '"outcome": "completed", "stop_reason": "refusal"' in outcome_line(Completed("refusal"))
    stopped = Stopped(by="user", reason="r", agent_stop_reason="cancelled")
    assert '"stopped", "stop_reason": "cancelled", "by": "user", "reason": "r"' in outcome_line(stopped)
    assert '"timed_out", "stop_reason": null' in outcome_line(TimedOut(limits=Limits(), cleanup="finished"))
    failed = Failed(TurnFailed("m", detail="d"))
    assert '"error": {"code": "ACP_TURN_FAILED", "detail": "d", "message": "m"}' in outcome_line(failed)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidOption("x"), 2),
        (TurnTimedOut("x", limits=Limits(), cleanup="finished"), 3),
        (TurnFailed("x", detail="setup-timeout"), 3),
        (SessionMissing("x"), 4),
        (TurnFailed("x"), 1),
    ],
)
def test_exit_codes_of_errors(error: AcpError, code: int) -> None:
    """An error is classified by its type and detail."""
    assert code == exit_code(error)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (TurnFailed("a\x1b\nb"), 1, "trio-acp: a\\u001b b\n"),
        (OSError(28, "No space left on device"), 1, "trio-acp: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_ends_a_command_is_one_line(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a command raises becomes an exit code and at most one safe line."""

    def fail(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(serve, "run", lambda command: fail(argparse.Namespace()))
    assert code == main(["serve", "--port", "0", "--insecure-no-token", "--", sys.executable])
    assert said == capsys.readouterr().err


def test_log_records_are_safe_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log record is one line on standard error, without control characters."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    log_to_stderr(logging.WARNING)
    logger = logging.getLogger("trio_acp.test")
    logger.warning("agent said %s", "\x1b[2J\nnext")
    logger.info("not shown")
    assert "trio-acp: warning: agent said \\u001b[2J next\n" == said.getvalue()


def test_version_and_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m trio_acp` is the command; --version names it, and every --help fits 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["trio-acp", "--version"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("trio_acp", run_name="__main__")
    assert (0, "trio-acp ") == (exit_.value.code, capsys.readouterr().out[:9])
    for command in ([], ["demo"], ["prompt"], ["serve"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        text = capsys.readouterr().out
        assert "example" in text
        assert [] == [line for line in text.splitlines() if len(line) > 90]


def test_ctrl_c_while_the_command_is_loaded_is_no_error() -> None:
    """Exit code 130 without a traceback, as later."""
    load = (
        "import sys\n"
        "class Slow:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'trio_acp.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from trio_acp.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, check=False, timeout=60)
    assert (130, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the usage is shown, and the code is 2."""
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert 2 == exit_.value.code
    assert capsys.readouterr().err.startswith("usage: trio-acp")


def test_it_stands_above_everything() -> None:
    """The library does not import the command line."""
    assert "cli" not in vars(trio_acp)["__all__"]
