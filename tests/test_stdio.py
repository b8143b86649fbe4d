"""Agents as child processes: how they end, what they may print, and that nothing of them is left."""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.forks import forkers
from trio_acp._errors import BackendUnavailable, ConnectionLost, InvalidOption, MessageTooLarge
from trio_acp.transports import LineTransport, StdioTransport, dial_stdio, stdio, stdio_server_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.concurrency

AGENT = Path(__file__).parent / "programs" / "agent.py"
SECONDS = 20.0


@asynccontextmanager
async def agent(*words: str, close_timeout: float = 2.0, max_message: int = 1000) -> AsyncIterator[StdioTransport]:
    """Start the misbehaving agent, under a real deadline."""
    dial = dial_stdio([sys.executable, str(AGENT), *words], close_timeout=close_timeout, max_message=max_message)
    with trio.fail_after(SECONDS):
        async with dial() as transport:
            assert isinstance(transport, StdioTransport)
            yield transport


def is_gone(pid: int) -> bool:
    """Whether no process of this group is left, not even as a zombie."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def have_no_children() -> bool:
    """Whether this process has no child, not even a zombie, but for the one that starts commands for other tests."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    children = set[int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has gone meanwhile
            stat = path.read_text()
            if int(stat.rpartition(")")[2].split()[1]) == os.getpid():
                children.add(int(stat.split()[0]))
    return children <= forkers()


# -- starting -------------------------------------------------------------------


async def test_no_such_program(tmp_path: Path) -> None:
    """A program, a directory or a permission that is missing is named."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    found = []
    for dial in (
        dial_stdio(["no-such-program-anywhere"]),
        dial_stdio([sys.executable], cwd=tmp_path / "missing"),
        dial_stdio([sys.executable], cwd=script),
        dial_stdio([str(script)]),
    ):
        with pytest.raises(BackendUnavailable) as caught:
            async with dial():
                pass
        found.append((caught.value.detail, str(caught.value)))
    assert [each[0] for each in found] == ["no-such-program", "no-such-directory", "no-such-directory", "cannot-start"]
    assert "no-such-program-anywhere" in found[0][1]
    assert str(tmp_path / "missing") in found[1][1]
    assert "Permission denied" in found[3][1]


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"argv": "a string"}, "invalid-argv"),
        ({"argv": []}, "invalid-argv"),
        ({"argv": ["a", "b\0"]}, "invalid-argv"),
        ({"argv": ["a"], "close_timeout": -1}, "invalid-close_timeout"),
        ({"argv": ["a"], "max_message": True}, "invalid-max_message"),
    ],
)
def test_bad_options_are_refused_at_once(options: dict[str, Any], detail: str) -> None:
    """An impossible option raises when the dial is made."""
    with pytest.raises(InvalidOption) as caught:
        dial_stdio(**options)
    assert detail == caught.value.detail


async def test_other_systems_get_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no process groups, both sides say so."""
    monkeypatch.setattr(stdio, "_POSIX", False)
    with pytest.raises(InvalidOption, match="POSIX"):
        dial_stdio(["a"])
    with pytest.raises(InvalidOption, match="POSIX"):
        async with stdio_server_transport():
            pass


async def test_arguments_environment_and_directory(tmp_path: Path) -> None:
    """The agent gets its words without a shell, exactly the given environment, and its directory; repr hides both."""
    code = (
        "import os, sys, json; print(json.dumps([sys.argv[1], os.environ.get('S'), 'HOME' in os.environ, os.getcwd()]))"
    )
    dial = dial_stdio([sys.executable, "-c", code, "$S; *"], cwd=tmp_path, env={"S": "s3cret"})
    async with dial() as transport:
        assert f'["$S; *", "s3cret", false, "{tmp_path}"]' == await transport.receive()
    assert "s3cret" not in repr(dial)
    assert "$S" not in repr(dial)


async def test_cancelled_while_starting() -> None:
    """A start that is cancelled leaves no process and no descriptor."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    with trio.CancelScope() as scope:
        scope.cancel(reason="before")
        async with agent("slow_start"):
            pass
    assert scope.cancelled_caught
    for steps in range(1, 12):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(start_and_wait)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel(reason="while starting")
    assert have_no_children()
    assert before >= len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


async def start_and_wait() -> None:
    """Start an agent and wait until cancelled."""
    async with agent("slow_start"):
        await trio.sleep_forever()


async def test_the_bodys_exception_comes_out_bare() -> None:
    """What the body raises leaves the block as the same object, not in a group."""
    mine = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with agent("banner"):
            raise mine
    assert mine is caught.value


# -- how agents end -------------------------------------------------------------


async def test_exit_code_and_last_words() -> None:
    """The error of a lost agent has its exit code and the end of its standard error, in one line."""
    async with agent("fail") as transport:
        with pytest.raises(ConnectionLost) as caught:
            await transport.receive()
        assert caught.value.detail == "agent-exited"
        assert str(caught.value) == "agent exited with code 3: first line | no licence found"
        assert transport.stderr_tail == "first line\n\nno licence found\n"
        with pytest.raises(ConnectionLost, match="code 3"):
            await transport.receive()


async def test_death_by_a_signal_and_much_on_standard_error(caplog: pytest.LogCaptureFixture) -> None:
    """A signal is told by its name; of standard error the last 8 KiB are kept, and each line is logged."""
    caplog.set_level(logging.DEBUG, logger="trio_acp")
    async with agent("chatter") as transport:
        assert await transport.receive() == "{}"
        with pytest.raises(ConnectionLost, match=r"agent was killed by SIGKILL: .*line 4999"):
            await transport.receive()
        assert len(transport.stderr_tail) == 8192
    assert "line 4321" in caplog.text


async def test_a_signal_without_a_name() -> None:
    """A real-time signal is told by its number."""
    async with agent("odd_signal") as transport:
        with pytest.raises(ConnectionLost, match="killed by signal 40"):
            await transport.receive()


async def test_exit_in_the_middle_of_a_line() -> None:
    """What is no whole line is no message; the error says that there was a part of one."""
    async with agent("torn") as transport:
        assert await transport.receive() == '{"n": 1}'
        with pytest.raises(ConnectionLost, match=r"code 0 \(in the middle of a line, after 4 bytes\)"):
            await transport.receive()


async def test_closed_output() -> None:
    """An agent that closes its output without exiting is lost too, after a short wait for its exit."""
    async with agent("close_output") as transport:
        with pytest.raises(ConnectionLost, match="closed its standard output") as caught:
            await transport.receive()
    assert caught.value.detail == "disconnected"


async def test_closed_input() -> None:
    """Sending to an agent that closed its input raises; what it writes can still be received."""
    async with agent("closed_ears") as transport:
        assert await transport.receive() == "{}"
        with pytest.raises(ConnectionLost, match="no longer reads"):
            await transport.send("{}")


async def test_a_send_cancelled_half_way() -> None:
    """A send that is cancelled while the pipe is full breaks the connection, also for the receiver."""
    async with agent("deaf") as transport:
        assert await transport.receive() == "{}"
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.send, "x" * 2**20)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel(reason="half way")
        assert scope.cancelled_caught
        with pytest.raises(ConnectionLost, match="send was cancelled"):
            await transport.send("{}")
        with pytest.raises(ConnectionLost, match="send was cancelled"):
            await transport.receive()


async def test_closing_while_a_send_waits() -> None:
    """A send that waits while its transport is closed raises `ConnectionLost`."""

    async def send(transport: StdioTransport) -> None:
        with pytest.raises(ConnectionLost) as caught:
            await transport.send("x" * 2**20)
        assert caught.value.detail == "closed"

    async with agent("deaf", close_timeout=0.2) as transport, trio.open_nursery() as nursery:
        assert await transport.receive() == "{}"
        nursery.start_soon(send, transport)
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()


# -- closing --------------------------------------------------------------------


async def test_an_agent_that_exits_by_itself() -> None:
    """An agent that heeds the end of its input exits unharmed, and is reaped."""
    async with agent("banner", close_timeout=SECONDS) as transport:
        await transport.receive()
        began = trio.current_time()
        await transport.aclose()
        assert trio.current_time() - began < SECONDS / 2
        assert is_gone(transport.pid)
        assert transport.exit_status == 0


@pytest.mark.parametrize(
    ("how", "status", "earliest"), [("ignore_eof", -15, 0.5), ("heed_term", 7, 0.5), ("ignore_term", -9, 0.75)]
)
async def test_an_agent_that_has_to_be_told(how: str, status: int, earliest: float) -> None:
    """After half of the time comes SIGTERM, after three quarters SIGKILL; then the agent is gone."""
    async with agent(how, close_timeout=1.0) as transport:
        assert await transport.receive() == "{}"
        began = trio.current_time()
        await transport.aclose()
        took = trio.current_time() - began
        assert is_gone(transport.pid)
        assert status == transport.exit_status
    assert earliest <= took < SECONDS / 2


async def test_a_cancelled_close_kills_at_once() -> None:
    """A cancelled close does not wait for manners, and yet reaps."""
    async with agent("ignore_term", close_timeout=SECONDS) as transport:
        assert await transport.receive() == "{}"
        began = trio.current_time()
        with trio.CancelScope() as scope:
            scope.cancel(reason="no time")
            await transport.aclose()
        assert scope.cancelled_caught
        assert is_gone(transport.pid)
        assert trio.current_time() - began < 5


@pytest.mark.parametrize("leader_first", [True, False])
async def test_no_grandchild_survives(tmp_path: Path, leader_first: bool) -> None:
    """A grandchild that ignores everything dies with the agent, whoever of agent and connection ends first."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    watched = trio.lowlevel.FdStream(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    command = [sys.executable, str(AGENT), "grandchild"]
    dial = dial_stdio(["/bin/sh", "-c", 'exec 9>"$0"; exec "$@"', fifo, *command])
    with trio.fail_after(SECONDS):
        async with watched, dial() as transport:
            assert await transport.receive() == "{}"  # from the grandchild: it now holds the pipe
            if leader_first:
                await transport.send("{}")
                with pytest.raises(ConnectionLost, match="exited with code 0"):
                    await transport.receive()
            else:
                await transport.aclose()
            # The end of the pipe: nobody holds its other side any more.
            assert await watched.receive_some() == b""


# -- what agents print ----------------------------------------------------------


async def test_lines_that_are_no_messages(caplog: pytest.LogCaptureFixture) -> None:
    """Banners are skipped, counted and logged once; blank lines and CRLF are nothing special."""
    caplog.set_level(logging.INFO, logger="trio_acp")
    async with agent("banner") as transport:
        assert [await transport.receive(), await transport.receive()] == ['{"n": 1}', "[2]"]
        assert transport.skipped_lines == 2
    assert len(caplog.records) == 1
    assert "Welcome!" in caplog.text


async def test_a_line_that_is_too_long() -> None:
    """A line over the limit raises `MessageTooLarge` naming it; the connection is gone and closing works."""
    async with agent("long_line") as transport:
        assert await transport.receive() == '{"n": 1}'
        with pytest.raises(MessageTooLarge, match="1000 bytes"):
            await transport.receive()
        with pytest.raises(ConnectionLost, match="1000 bytes"):
            await transport.receive()
        with pytest.raises(ConnectionLost):
            await transport.send("{}")


# -- being an agent -------------------------------------------------------------


def line_pair(max_message: int = 1000) -> tuple[LineTransport, Any]:
    """Return a transport over memory streams and the other end of them."""
    ours, theirs = trio.testing.memory_stream_pair()
    return LineTransport(ours.send_stream, ours.receive_stream, max_message=max_message), theirs


async def test_line_transport_reads_and_skips() -> None:
    """The agent's side reads the same lines and counts the same noise."""
    transport, wire = line_pair()
    await wire.send_all(b'noise\n{"a": 1}\n')
    assert await transport.receive() == '{"a": 1}'
    assert transport.skipped_lines == 1
    await transport.send('{\r\n"b": 2}')
    assert await wire.receive_some() == b'{  "b": 2}\n'
    await transport.aclose()


async def test_line_transport_limits() -> None:
    """The agent's side has the same limit."""
    transport, wire = line_pair(max_message=10)
    await wire.send_all(b"x" * 100)
    with pytest.raises(MessageTooLarge):
        await transport.receive()
    with pytest.raises(ConnectionLost):
        await transport.receive()


async def test_line_transport_ends() -> None:
    """The client's end of input, a broken stream and a cancelled send each end the connection."""
    transport, wire = line_pair()
    await wire.send_eof()
    with pytest.raises(ConnectionLost, match="peer closed"):
        await transport.receive()

    transport, wire = line_pair()
    await wire.aclose()
    with pytest.raises(ConnectionLost, match="no longer reads"):
        await transport.send("{}")

    ours, _ = trio.testing.lockstep_stream_pair()
    transport = LineTransport(ours.send_stream, ours.receive_stream)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.send, "{}")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel(reason="half way")
    with pytest.raises(ConnectionLost, match="send was cancelled"):
        await transport.receive()


async def test_line_transport_closed_under_a_receive_and_a_send() -> None:
    """Closing ends a receive and a send that wait."""
    ours, _ = trio.testing.lockstep_stream_pair()
    transport = LineTransport(ours.send_stream, ours.receive_stream)
    ended = []

    async def expect_lost(call: Any, *args: str) -> None:
        with pytest.raises(ConnectionLost) as caught:
            await call(*args)
        ended.append(caught.value.detail)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_lost, transport.receive)
        nursery.start_soon(expect_lost, transport.send, "{}")
        await trio.testing.wait_all_tasks_blocked()
        await transport.aclose()
    assert ended == ["closed", "closed"]


def test_signal_numbers_of_this_test() -> None:
    """Signal 40 has no name here, as the test above relies on."""
    with pytest.raises(ValueError, match="40"):
        signal.Signals(40)
