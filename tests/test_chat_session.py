"""A conversation without its terminal: the order of prompts, taking them back, asking, remembering, plain lines."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from tests.cli_kit import CLI, STDIO, ended, read_all, read_until, run_cli
from trio_acp import (
    Completed,
    Plan,
    PlanEntry,
    Settings,
    Stopped,
    TextDelta,
    Thought,
    ToolCall,
    open_session_manager,
)
from trio_acp.abc import PermissionRequest
from trio_acp.cli._ask import PAUSE, AskUser
from trio_acp.cli._chat_log import LARGEST, ChatLog
from trio_acp.cli._chat_plain import LineReader
from trio_acp.cli._chat_session import MOST_WAITING, Chat, Face
from trio_acp.cli._why import ending
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from trio.testing import MockClock

    from trio_acp import Event, Outcome


class Heard(Face):
    """Keeps what would be shown."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def begin(self, prompt: str) -> None:
        self.heard.append(f"> {prompt}")

    def show(self, event: Event) -> None:
        self.heard.append(event.text if isinstance(event, TextDelta) else event)

    def end(self, outcome: Outcome) -> None:
        self.heard.append(type(outcome).__name__)

    def note(self, text: str, *, bad: bool = False) -> None:
        self.heard.append(text)

    def explain(self, words: Mapping[str, str]) -> None:
        self.heard.append(words)

    def changed(self) -> None:
        pass

    async def room(self) -> None:
        await trio.sleep(5)  # a terminal that is slower than any turn


@asynccontextmanager
async def conversation(settings: Settings | None = None) -> AsyncIterator[tuple[Chat, Heard, FakeRuntime]]:
    """Open a chat with a fake agent."""
    runtime, face = FakeRuntime(turn=[TextDelta("x"), TextDelta("y")]), Heard()
    async with open_session_manager({"fake": runtime}, settings=settings) as manager:
        session = await manager.start_session("s", agent="fake")
        chat = Chat(session, face, ChatLog(session.key))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chat.run)
            yield chat, face, runtime
            nursery.cancel_scope.cancel()


REQUEST = PermissionRequest(session="s", tool_call=ToolCall(id="1", title="Write"), options=())


async def test_a_question_takes_no_answer_at_once(autojump_clock: MockClock) -> None:
    """Whoever was typing when it came up has not answered it; then one key does."""
    asking = AskUser()
    verdicts: list[str] = []

    async def ask() -> None:
        verdicts.append((await asking.decide(REQUEST)).decision)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert not asking.answer("y")
        await trio.sleep(PAUSE / 2)
        assert not asking.answer("y")
        await trio.sleep(PAUSE)
        assert not asking.answer("x")
        assert asking.answer("Y")
    assert ["allow"] == verdicts
    assert asking.question is None
    assert not asking.answer("y")


async def test_questions_are_asked_one_at_a_time(autojump_clock: MockClock) -> None:
    """In their order; one that is taken back makes room, and the next has its own pause."""
    asking, verdicts = AskUser(), dict[str, str]()

    async def ask(name: str, scope: trio.CancelScope) -> None:
        with scope:
            verdicts[name] = (await asking.decide(REQUEST)).decision

    scopes = {name: trio.CancelScope() for name in "abc"}
    async with trio.open_nursery() as nursery:
        for name, scope in scopes.items():
            nursery.start_soon(ask, name, scope)
            await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(PAUSE * 1.5)
        scopes["b"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert asking.answer("n")
        assert not asking.answer("n")
        await trio.sleep(PAUSE * 1.5)
        assert asking.answer("y")
    assert {"a": "deny", "c": "allow"} == verdicts


async def test_prompts_keep_their_order_and_so_do_changes(autojump_clock: MockClock) -> None:
    """Each turn is shown whole before the next begins; what was entered between two prompts is done between them."""
    async with conversation() as (chat, face, _):

        async def job(number: int) -> None:
            await trio.sleep(1)
            face.note(f"job {number}")

        for number in range(5):
            chat.say(f"p{number}")

            chat.in_order(partial(job, number))
        await chat.wait_idle()
        turns = [words for words in face.heard if str(words).startswith("> ") or words == "Completed"]
        assert [words for number in range(5) for words in (f"> p{number}", "Completed")] == turns
        jobs = [words for words in face.heard if str(words).startswith("job")]
        assert [f"job {number}" for number in range(5)] == jobs


async def test_there_is_a_limit_to_what_waits(autojump_clock: MockClock) -> None:
    """What is beyond it is refused, and nothing that was taken is lost."""
    async with conversation() as (chat, face, _):
        taken = [chat.say(str(number)) for number in range(MOST_WAITING + 3)]
        assert MOST_WAITING == sum(said is not None for said in taken)
        await chat.wait_idle()
        assert MOST_WAITING == face.heard.count("Completed")


async def test_what_waits_can_be_taken_back(autojump_clock: MockClock) -> None:
    """It never begins, whether the session had it or not; the next prompt runs."""
    async with conversation() as (chat, face, _):
        assert not chat.stop()
        for number in range(4):
            chat.say(f"p{number}")
        assert 4 == chat.withdraw()
        chat.say("last")
        await chat.wait_idle()
        assert ["> last", "Completed"] == [face.heard[0], face.heard[-1]]
        assert isinstance(chat.outcome, Completed)


# -- what is remembered -------------------------------------------------------


def remembered() -> ChatLog:
    """Return a log of a small chat, a second between any two things that happened."""
    log, call = ChatLog("k", iter(range(1, 100)).__next__), ToolCall(id="1", title="Read\x1b[2J", status="in_progress")
    log.begin("first", "hi")
    for event in (Thought("a"), Thought("b"), TextDelta("on"), TextDelta("e\x9b"), call):
        log.add(event)
    log.add(attrs.evolve(call, status="completed"))
    log.add(Plan(entries=(PlanEntry(content="x", priority="high", status="completed"),)))
    log.end(Completed())
    log.begin("second", "more")
    log.add(TextDelta("p", message_id="1"))
    log.add(TextDelta("q", message_id="2"))
    log.end(Stopped(by="user"))
    return log


def test_the_log_is_a_transcript() -> None:
    """What `sessions export` makes documents of: messages are whole, and each entry has its turn, place and time."""
    entries = remembered().entries
    assert {"k"} == {entry.session for entry in entries}
    assert [("prompt", "hi"), ("thought", "ab"), ("text_delta", "one\x9b")] == [
        (entry.body["type"], entry.body["text"]) for entry in entries[:3]
    ]
    assert [("tool_call", "event"), ("tool_call", "event"), ("plan", "event"), ("outcome", "outcome")] == [
        (entry.body["type"], entry.kind) for entry in entries[3:7]
    ]
    assert [("second", 0), ("second", 1), ("second", 2), ("second", 3)] == [(e.turn, e.seq) for e in entries[7:]]
    assert ["more", "p", "q"] == [entry.body["text"] for entry in entries[7:10]]
    assert list(range(1, 12)) == [entry.time for entry in entries]


def test_a_log_may_be_exported_while_a_message_comes() -> None:
    """What there is of it by then is there, and the rest is still added to it."""
    log = ChatLog("k")
    log.begin(None, "hi")
    for text in ("on", "e"):
        log.add(TextDelta(text))
    assert "one" == log.entries[-1].body["text"]
    log.add(TextDelta(" more"))
    assert ["hi", "one more"] == [entry.body["text"] for entry in log.entries]


def test_what_is_remembered_is_bounded() -> None:
    """What comes later is left out, and that is known."""
    log = ChatLog("k")
    full = []
    for piece in ("x" * LARGEST, "y"):
        log.add(TextDelta(piece))
        full.append(log.full)
    assert [False, True] == full
    log.end(Completed())
    assert ["x" * LARGEST] == [entry.body["text"] for entry in log.entries]


async def test_a_chat_is_exported_as_a_recorded_session_is(tmp_path: Path) -> None:
    """The same entries in the same layout: only times may differ."""
    env = {"TRIO_ACP_HOME": str(tmp_path)}
    lines = "".join(
        [
            "think why; say one; say 1; tool T kind=read; plan a|b; permission W\nsay two\n",
            *(f"/export {tmp_path}/c.{form}\n" for form in ("md", "jsonl")),
        ]
    ).encode()
    await run_cli("chat", "--stdio", STDIO, "--session", "p", "--record", stdin=lines, env=env)
    for form, name in (("markdown", "c.md"), ("jsonl", "c.jsonl")):
        recorded = await run_cli("sessions", "export", "p", "--format", form, env=env)
        times = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\"time\": [0-9.]+")
        assert times.sub("T", recorded.stdout.decode()) == times.sub("T", (tmp_path / name).read_text())


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Stopped(by="user", agent_stop_reason="cancelled"), "stopped"),
        (Stopped(by="user"), "stopped; the agent has not answered, and may still be at work"),
        (Stopped(by="agent", agent_stop_reason="cancelled"), "the agent stopped the turn"),
    ],
)
def test_a_stop_that_the_agent_did_not_confirm_is_told_as_such(outcome: Stopped, words: str) -> None:
    """Whoever reads that it stopped may go and touch its files."""
    assert words == ending(outcome, str)


# -- without a terminal -------------------------------------------------------


async def test_lines_are_prompts_and_answers_are_lines(tmp_path: Path) -> None:
    """One turn for each line, in order; commands too; no escapes, and exit code 0 at the end of the input."""
    env = {"TRIO_ACP_HOME": str(tmp_path)}
    lines = f"say one; tool T\n\n/mode code\nsay two\n/export {tmp_path}/c.jsonl\nsay three".encode()
    done = await run_cli("chat", "--stdio", STDIO, "--session", "p", stdin=lines, env=env)
    assert (0, b"one\ntwo\nthree\n") == (done.returncode, done.stdout)
    written = f"written: {tmp_path}/c.jsonl\n"
    assert f"new session p\ntool, read: T\ntool completed: T\nmode: code\n{written}" == done.stderr.decode()
    assert 2 == (tmp_path / "c.jsonl").read_text().count('"type": "prompt"')
    again = await run_cli("chat", "--stdio", STDIO, "--session", "p", stdin=b"/quit\nsay no\n", env=env)
    assert (0, b"") == (again.returncode, again.stdout)
    anew = "trio-acp: the conversation begins anew: the agent refused the session: "
    assert again.stderr.decode().startswith(anew)
    assert again.stderr.endswith(b"\nnew session p\n")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("~nobody-has-it/chat.md", b"trio-acp: /export: there is no such home directory: ~nobody"),
        ("chat\0.md", b"trio-acp: /export: a file's name has no NUL in it: 'chat"),
    ],
)
async def test_a_name_that_no_file_can_have_ends_no_chat(tmp_path: Path, name: str, said: bytes) -> None:
    """It is told, and the conversation goes on."""
    lines = f"say one\n/export {name}\nsay two".encode()
    done = await run_cli("chat", "--stdio", STDIO, stdin=lines, env={"TRIO_ACP_HOME": str(tmp_path)})
    assert (0, b"one\ntwo\n") == (done.returncode, done.stdout)
    assert said in done.stderr
    assert b"Traceback" not in done.stderr


async def test_without_a_terminal_the_first_failure_is_the_exit_code(tmp_path: Path) -> None:
    """Later prompts are sent all the same."""
    env = {"TRIO_ACP_HOME": str(tmp_path)}
    lines = b"say a; error -32603 broken\nsay b; hang\nsay c\n"
    done = await run_cli("chat", "--stdio", STDIO, "--timeout", "2", stdin=lines, env=env)
    assert (1, b"a\nb\nc\n") == (done.returncode, done.stdout)
    assert b"trio-acp: session/prompt: broken" in done.stderr
    assert b"trio-acp: the time was up after 2 s\n" in done.stderr


async def test_without_a_terminal_an_interrupted_chat_tells_how_to_go_on(tmp_path: Path) -> None:
    """The last line is ended, and the words come after it."""
    process = await trio.lowlevel.open_process(
        [*CLI, "chat", "--stdio", STDIO, "--session", "p"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TRIO_ACP_HOME": str(tmp_path)},
    )
    try:
        with trio.fail_after(30):
            assert process.stdin is not None
            await process.stdin.send_all(b"say thinking; hang\n")
            assert b"thinking" == await read_until(process.stdout, b"thinking")
            process.send_signal(signal.SIGINT)
            assert b"\n" == await read_all(process.stdout)
            said = (await read_all(process.stderr)).decode()
            assert 130 == await process.wait()
    finally:
        await ended(process)
    words = shlex.join(["trio-acp", "chat", "--session", "p", "--stdio", STDIO])
    assert f"new session p\ntrio-acp: interrupted; to go on: {words}\n" == said


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--session", " "), 2, "--session needs a name"),
        (("--cwd", "/no/such"), 2, "--cwd: there is no directory /no/such"),
        (("--timeout", "0"), 2, "not a number of seconds above 0"),
    ],
)
async def test_misuse_is_told(tmp_path: Path, args: tuple[str, ...], code: int, words: str) -> None:
    """In one line that names the option."""
    done = await run_cli("chat", "--stdio", STDIO, *args, env={"TRIO_ACP_HOME": str(tmp_path)})
    assert code == done.returncode
    assert words in done.stderr.decode()


async def test_an_agent_that_cannot_be_started_is_one_line(tmp_path: Path) -> None:
    """There is no chat then."""
    done = await run_cli("chat", "--stdio", "/no/such/agent", env={"TRIO_ACP_HOME": str(tmp_path)})
    assert (1, b"trio-acp: --stdio: there is no program '/no/such/agent'\n") == (done.returncode, done.stderr)


async def test_the_help_fits_on_a_terminal() -> None:
    """24 lines of 80 columns, with an example."""
    done = await run_cli("chat", "--help", env={"COLUMNS": "80"})
    lines = done.stdout.decode().splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert "example: trio-acp chat" in done.stdout.decode()


async def test_lines_are_read_as_they_are_cut() -> None:
    """However they come; the last one needs no end."""
    reading, writing = os.pipe()
    lines: list[str | None] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, os.write, writing, b"a\r\nb\n\nc\xff"))
            reader = LineReader(reading)
            lines += [await reader.read() for _ in range(3)]
        os.close(writing)
        lines += [await reader.read() for _ in range(2)]
    finally:
        os.close(reading)
    assert ["a", "b", "", "c\ufffd", None] == lines


async def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    """And so does one that is not named: nothing is known of its cursor."""
    done = await trio.run_process(
        [*CLI, "chat", "--stdio", STDIO],
        stdin=b"say x\n",
        capture_stdout=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "dumb", "TRIO_ACP_HOME": str(tmp_path)},
    )
    assert b"x\n" == done.stdout
