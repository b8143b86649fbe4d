"""What a chat shows at each moment, and what keys do then: in this process, in virtual time."""

from __future__ import annotations

import os
import pty
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from trio_acp import Limits, Settings, TextDelta, ToolCall, open_session_manager
from trio_acp._tool_calls import MAX_TOOL_CALLS
from trio_acp.abc import PermissionOption, PermissionRequest, Verdict
from trio_acp.cli._ask import PAUSE, AskUser
from trio_acp.cli._cells import width
from trio_acp.cli._chat_commands import HELP, KEYS, ChatCommands
from trio_acp.cli._chat_log import ChatLog
from trio_acp.cli._chat_session import Chat
from trio_acp.cli._chat_terminal import TWICE, TerminalChat
from trio_acp.cli._chat_view import ChatView
from trio_acp.cli._exits import INTERRUPTED
from trio_acp.cli._keys import KeyDecoder
from trio_acp.cli._line_editor import LineEditor
from trio_acp.cli._output import Output
from trio_acp.cli._render_plain import PlainRenderer
from trio_acp.cli._terminal import Terminal
from trio_acp.testing import FakeRuntime
from trio_acp.testing.fake import Hang, Sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
CTRL_U = "\x15"


@attrs.define(eq=False)
class Seat:
    """Somebody in front of a chat."""

    terminal: TerminalChat
    view: ChatView
    asking: AskUser
    chat: Chat
    runtime: FakeRuntime

    async def press(self, keys: str) -> None:
        """Press keys, one after the other, and wait until all that follows at once has happened."""
        for key in keys:
            self.terminal._take(key.encode())
        await trio.testing.wait_all_tasks_blocked()

    async def interrupt(self) -> None:
        """Press Ctrl-C; likewise."""
        self.terminal._interrupt()
        await trio.testing.wait_all_tasks_blocked()

    def rows(self, columns: int = 79) -> list[str]:
        """Return the rows that are drawn anew."""
        return list(self.view._live(columns, 24).rows)

    @property
    def status(self) -> str:
        """How things stand."""
        return self.rows()[-2]

    @property
    def prompts(self) -> list[str]:
        """What the agent was asked."""
        return [entry.body["text"] for entry in self.chat.log.entries if entry.kind == "prompt"]


@asynccontextmanager
async def seated(runtime: FakeRuntime, settings: Settings | None = None) -> AsyncIterator[Seat]:
    """Chat with a fake agent; leave at the end of the block."""
    master, slave = pty.openpty()
    try:
        async with open_session_manager({"fake": runtime}, settings=settings) as manager:
            session = await manager.start_session("s", agent="fake")
            asking, editor = AskUser(), LineEditor()
            view = ChatView(Output(None), lambda: (80, 24), PlainRenderer(colours=False), editor, asking, str)
            view.chat = chat = Chat(session, view, ChatLog(session.key))
            terminal = TerminalChat(Terminal(slave, slave), view, editor, KeyDecoder(), asking, chat)
            terminal.commands = ChatCommands(chat=chat, face=view, permissions="ask", quit=terminal.leave, base=Path())
            seat = Seat(terminal, view, asking, chat, runtime)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(terminal.run)
                await trio.testing.wait_all_tasks_blocked()
                yield seat
                terminal.leave()
    finally:
        os.close(master)
        os.close(slave)


# -- questions ----------------------------------------------------------------


def request_of(*kinds: str, title: str = "Write it") -> PermissionRequest:
    """Return a question with an option of each of these kinds, named by it."""
    options = tuple(PermissionOption(id=kind, name="Yes!", kind=kind) for kind in kinds)
    return PermissionRequest(session="s", tool_call=ToolCall(id="1", title=title, kind="edit"), options=options)


USUAL = request_of("allow_once", "allow_always", "reject_once")


@asynccontextmanager
async def asked(seat: Seat, *requests: PermissionRequest) -> AsyncIterator[list[Verdict]]:
    """Have questions asked, of which the first takes answers already; yield what is answered to them."""
    verdicts: list[Verdict] = []

    async def ask(request: PermissionRequest) -> None:
        verdicts.append(await seat.asking.decide(request))

    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(ask, request)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(PAUSE + 0.1)
        yield verdicts
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("request_", "row", "keys"),
    [
        (USUAL, "allow? y = yes, a = always, n = no, Ctrl-C = stop", {"y": "allow", "a": "allow always", "n": "deny"}),
        (request_of("reject_once", "allow_once"), "allow? y = yes, n = no, Ctrl-C = stop", {"a": None, "x": None}),
        (
            request_of("reject_always", "allow_always"),
            "allow? y = yes ALWAYS, n = no ALWAYS, Ctrl-C = stop",
            {"a": None, "x": None, "Y": "allow", "N": "deny"},
        ),
        (
            request_of("reject_always", "reject_once", "allow_always", "allow_once"),
            "allow? y = yes, a = always, n = no, x = never, Ctrl-C = stop",
            {"x": "deny always"},
        ),
        (request_of("someday"), "allow? y = yes, n = no, Ctrl-C = stop", {"y": "allow", "a": None}),
    ],
)
async def test_a_question_offers_what_the_agent_offers(
    autojump_clock: MockClock, request_: PermissionRequest, row: str, keys: dict[str, str | None]
) -> None:
    """A key for each answer that does something else; the other letters are typed."""
    async with seated(FakeRuntime()) as seat:
        for key, answer in keys.items():
            async with asked(seat, request_) as verdicts:
                assert row in seat.rows()
                await seat.press(key)
                told = [f"{verdict.decision}{' always' * verdict.always}" for verdict in verdicts]
                assert ([] if answer is None else [answer]) == told
            await seat.press(CTRL_U)


async def test_a_question_stays_in_sight(autojump_clock: MockClock) -> None:
    """It is told again below what was shown since; while a line is typed, what to do about that is told."""
    async with seated(FakeRuntime()) as seat, asked(seat, USUAL):
        question, words = "? Write it (edit)", "a question waits: send or clear (Ctrl-U) your line to answer"
        await seat.press("hel")
        assert [words, "ready | /help", "» hel"] == seat.rows()  # the question stands right above
        seat.view.turn.show(TextDelta("by the way\n"))
        await seat.press(CTRL_U)
        assert [question, "allow? y = yes, a = always, n = no, Ctrl-C = stop"] == seat.rows()[-4:-2]
        await seat.press("hello")
        assert [question, words] == seat.rows()[-4:-2]
        assert ["» hello"] == seat.rows()[-1:]
        assert all(width(row) <= 39 for row in seat.rows(39))
        assert " ".join([question, words]) == " ".join(seat.rows(39)[-5:-2])


@pytest.mark.parametrize(("line", "decision"), [("  Yes", "allow"), ("  always", "allow"), ("  n", "deny")])
async def test_a_word_is_an_answer(autojump_clock: MockClock, line: str, decision: str) -> None:
    """A line that is one is no prompt, and is gone; where no question waits it is a prompt like any other."""
    async with seated(FakeRuntime(turn=[TextDelta("x")])) as seat:
        async with asked(seat, USUAL) as verdicts:
            await seat.press(line)
            assert f"Enter answers: {line.strip().lower().replace('n', 'no')}" in " ".join(seat.rows())
            await seat.press("\r")
            assert [decision] == [verdict.decision for verdict in verdicts]
            assert ("" == seat.rows()[-1].strip("» "), []) == (True, seat.prompts)
        await seat.press(f"{line}\r")
        assert [line] == seat.prompts


async def test_a_word_whose_first_letter_was_the_answer_is_no_prompt(autojump_clock: MockClock) -> None:
    """What is left of it answers nothing else, not even the next question."""
    async with seated(FakeRuntime(turn=[TextDelta("x")])) as seat, asked(seat, USUAL, USUAL) as verdicts:
        await seat.press("yes\r")
        assert (["allow"], []) == ([verdict.decision for verdict in verdicts], seat.prompts)
        await trio.sleep(PAUSE + 0.1)
        await seat.press("no\rno\r")
        assert (["allow", "deny"], ["no"]) == ([verdict.decision for verdict in verdicts], seat.prompts)


async def test_a_word_that_comes_too_early_waits(autojump_clock: MockClock) -> None:
    """It was not meant for the question, or too fast: it is neither an answer nor a prompt before Enter comes again."""
    async with seated(FakeRuntime()) as seat:
        await seat.press("yes")
        verdicts: list[Verdict] = []

        async def ask() -> None:
            verdicts.append(await seat.asking.decide(USUAL))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await seat.press("\r")
            assert ([], [], "» yes") == (verdicts, seat.prompts, seat.rows()[-1])
            await trio.sleep(PAUSE + 0.1)
            await seat.press("\r")
        assert ["allow"] == [verdict.decision for verdict in verdicts]


# -- how things stand ---------------------------------------------------------


async def test_the_status_is_true_at_each_moment(autojump_clock: MockClock) -> None:
    """Of a turn that stops, one that runs next, and none; Ctrl-C leaves only while it is said to."""
    async with seated(FakeRuntime(turn=[Hang(stops=True)], cancel=[Sleep(0.5)])) as seat:
        assert "ready | /help" == seat.status
        await seat.press("one\rtwo\r")
        await trio.sleep(TWICE + 0.25)
        assert "working 2 s | Ctrl-C stops" == seat.status
        await seat.interrupt()
        assert "stopping | Ctrl-C again leaves" == seat.status
        await trio.sleep(1)
        assert (["one", "two"], "working 0 s | Ctrl-C again leaves") == (seat.prompts, seat.status)
        await trio.sleep(TWICE)
        assert "working 2 s | Ctrl-C stops" == seat.status
        await seat.interrupt()
        await trio.sleep(1)
        assert "ready | Ctrl-C again leaves" == seat.status
        await trio.sleep(TWICE)
        assert "ready | /help" == seat.status


async def test_an_agent_that_does_not_stop_is_said_to_be_stopping(autojump_clock: MockClock) -> None:
    """However long: one more Ctrl-C says that the next one leaves."""
    patient = Settings(limits=Limits(cleanup=10))
    async with seated(FakeRuntime(turn=[Hang(stops=True)], cancel=[Sleep(4)]), patient) as seat:
        await seat.press("one\r")
        await seat.interrupt()
        await trio.sleep(TWICE + 0.5)
        assert "stopping | Ctrl-C twice leaves" == seat.status
        await seat.interrupt()
        assert "stopping | Ctrl-C again leaves" == seat.status
        await seat.interrupt()
        assert INTERRUPTED == seat.terminal.code


async def test_whoever_goes_on_does_not_leave(autojump_clock: MockClock) -> None:
    """Keys after a Ctrl-C begin something new, which the next Ctrl-C stops or clears."""
    async with seated(FakeRuntime()) as seat:
        await seat.interrupt()
        assert "ready | Ctrl-C again leaves" == seat.status
        await seat.press("half a line")
        assert "ready | /help" == seat.status
        await seat.interrupt()
        assert (None, "»") == (seat.terminal.code, seat.rows()[-1].strip())


# -- help ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", [39, 79])
def test_the_help_reads_well(columns: int) -> None:
    """Names begin rows, nothing else does; no row is too wide, and all fits on a screen at once."""
    words = HELP | KEYS | {"/agent's": "what \x1b[2J it does"}
    rows = PlainRenderer(colours=False).explained(words, columns)
    assert all(width(row) <= columns for row in rows)
    assert list(words) == [row.partition("  ")[0] for row in rows if row[:1] != " "]
    shown = " ".join(" ".join(row.split()) for row in rows)
    assert " ".join(f"{name} {meaning}" for name, meaning in words.items()).replace("\x1b", "\\u001b") == shown
    assert len(rows) == len(words) if columns == 79 else len(rows) < 24


# -- tool calls ---------------------------------------------------------------


@pytest.mark.parametrize("status", ["in_progress", "completed"])
def test_an_agent_that_invents_tool_calls_does_not_fill_the_memory(status: str) -> None:
    """However many there are in a turn, the view knows a bounded number, and each was shown or can be."""
    view = ChatView(Output(None), lambda: (80, 24), PlainRenderer(colours=False), LineEditor(), AskUser(), str)
    turn = view.turn
    for number in range(3 * MAX_TOOL_CALLS):
        turn.show(ToolCall(id=str(number), title=f"call {number}.", status=status))
    assert MAX_TOOL_CALLS >= max(len(turn._tools), len(turn._done))
    live = [call.title for call in turn._tools.values()]
    assert [f"call {number}." for number in range(3 * MAX_TOOL_CALLS)] == [
        row[row.index("call") :].split(".")[0] + "." for row in view.screen._staying if "call" in row
    ] + live
    if status == "completed":
        turn.show(ToolCall(id=str(3 * MAX_TOOL_CALLS - 1), title="again"))
        assert {} == turn._tools  # it is over
    else:
        turn.show(ToolCall(id=str(3 * MAX_TOOL_CALLS - 1), title="again", status=status))
        assert ["again"] == [call.title for call in turn._tools.values() if call.title not in live]
        assert len(live) == len(turn._tools)  # none had to go for it
