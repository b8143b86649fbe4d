"""Leaving a manager leaves nothing: with real sockets, processes and threads, in real time."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Literal

import pytest
import trio

import trio_acp
from tests.cli_kit import AGENT, read_until, started_cli

pytestmark = pytest.mark.concurrency

PROGRAMS = Path(__file__).parent / "programs"
DESCRIPTORS = Path("/proc/self/fd")
LINUX = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="looks into /proc")


def tasks() -> int:
    """Count all tasks of this run, except Trio's own."""

    def below(task: trio.lowlevel.Task) -> int:
        return 1 + sum(below(child) for nursery in task.child_nurseries for child in nursery.child_tasks)

    root = trio.lowlevel.current_root_task()
    assert root is not None
    return below(root)


def descriptors() -> list[str]:
    """Return what this process's open file descriptors are, by number."""
    found = []
    for descriptor in sorted(DESCRIPTORS.iterdir(), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):  # the one that lists the others
            found.append(f"{descriptor.name}: {descriptor.readlink()}")
    return found


@LINUX
@pytest.mark.parametrize("ending", ["normal", "exception", "cancelled"])
async def test_nothing_is_left_of_a_manager(ending: str, tmp_path: Path) -> None:
    """No task, descriptor, process or thread job stays, however the block is left, a turn still running."""
    wrong = ValueError("the body's own")
    turns: list[trio_acp.Turn] = []
    scope = trio.CancelScope()

    async def body(runtimes: dict[str, trio_acp.AcpRuntime]) -> None:
        store = trio_acp.SQLiteStore(tmp_path / "s.db")
        async with trio_acp.open_session_manager(runtimes, store=store) as manager:
            for name in runtimes:
                session = await manager.start_session(name, agent=name, cwd="/")
                turns.append(session.turn("say one\nhang"))
            async with turns[0], turns[1]:
                await anext(turns[0])
                await anext(turns[1])
                if ending == "exception":
                    raise wrong
                if ending == "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()

    async with started_cli("serve", "--port", "0", "--", *AGENT) as server:
        url = (await read_until(server.stdout, b"\n")).decode().strip()
        await trio.to_thread.run_sync(lambda: None)  # Trio keeps what this opens
        before = (tasks(), descriptors())
        runtimes = {"socket": trio_acp.AcpRuntime.websocket(url), "process": trio_acp.AcpRuntime.stdio(AGENT)}
        with scope:
            if ending == "exception":
                with pytest.raises(ValueError, match="own") as caught:
                    await body(runtimes)
                assert caught.value is wrong
            else:
                await body(runtimes)
        assert (ending == "cancelled") == scope.cancelled_caught
        assert [] == [new for new in descriptors() if new not in before[1]]
        assert before[0] == tasks()
    by: Literal["caller", "left"] = "caller" if ending == "cancelled" else "left"
    assert [trio_acp.Stopped(by=by, agent_stop_reason="cancelled")] * 2 == [turn.outcome for turn in turns]
    with sqlite3.connect(tmp_path / "s.db") as database:
        assert [("idle",), ("idle",)] == database.execute("select state from sessions").fetchall()
    database.close()


def marked(mark: str) -> list[str]:
    """Return the ids of the processes that have the mark in their environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            if mark.encode() in environment.read_bytes():
                found.append(environment.parent.name)
    return found


@LINUX
def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """SIGINT during a turn: `KeyboardInterrupt` comes out alone, the agent is gone, the session is stored as idle."""
    mark = uuid.uuid4().hex  # in the environment of the program and of everything it starts
    command = [sys.executable, str(PROGRAMS / "hung_turn.py"), str(tmp_path / "s.db")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "MARK": mark}
    ) as program:
        assert program.stdout is not None
        assert "running\n" == program.stdout.readline()
        assert 2 <= len(marked(mark))
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert ("interrupted, and nothing else\n", "", 0) == (out, err, program.returncode)
    assert [] == marked(mark), "no process of the program is left"
    with sqlite3.connect(tmp_path / "s.db") as database:
        assert [("idle", None)] == database.execute("select state, last_error from sessions").fetchall()
    database.close()
