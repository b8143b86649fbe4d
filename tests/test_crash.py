"""A manager that is killed at any point: what the next one finds, repairs and ends."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import pytest
import trio

from trio_acp import (
    AcpRuntime,
    Limits,
    RecoveryReport,
    SessionInUse,
    SessionRecord,
    Settings,
    SQLiteLedger,
    SQLiteStore,
    TaskRecord,
    TurnFailed,
    open_session_manager,
)
from trio_acp._owner import MARK, mark
from trio_acp._procfs import has_variable, look_up
from trio_acp.transports import dial_stdio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp import SessionManager

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells what is left")

PROGRAMS: Final = Path(__file__).parent / "programs"
SETTINGS: Final = Settings(limits=Limits(cleanup=0.5))
SECONDS: Final = 30.0
STUBBORN: Final = ("stubborn", "child")


@attrs.frozen
class Crash:
    """Where a manager is killed, and what it leaves behind.

    Attributes:
        point: A point of tests/programs/crash_manager.py.
        state: Of the row; None if there is none.
        owned: Whether the row names the manager that died.
        recorded: Whether the row names the agent's process group, and that is alive.
    """

    point: str
    state: str | None
    owned: bool = True
    recorded: bool = True


CRASHES: Final = (
    # a session is started
    Crash("before start", None, owned=False, recorded=False),
    Crash("after start", "idle"),
    # a turn opens a stored session
    Crash("before claim", "idle", owned=False, recorded=False),
    Crash("after claim", "idle", recorded=False),
    Crash("setup", "idle", recorded=False),
    Crash("ready", "idle", recorded=False),
    Crash("before running, opened", "idle", recorded=False),
    Crash("after running, opened", "running"),
    # a turn on a live handle
    Crash("admitted", "idle"),
    Crash("dequeued", "idle"),
    Crash("before running", "idle"),
    Crash("after running", "running"),
    Crash("submitted", "running"),
    Crash("first_event", "running"),
    Crash("cause", "running"),
    Crash("ladder.cancel", "running"),
    Crash("decided", "running"),
    Crash("before terminal", "running"),
    Crash("after terminal", "idle"),
    Crash("settled", "idle"),
    Crash("released", "idle"),
    Crash("idle", "idle"),
    # the session is closed
    Crash("before close", "idle"),
    Crash("after close", "idle"),
    Crash("before release", "idle"),
    Crash("after release", "idle", owned=False, recorded=False),
    # the manager is left
    Crash("before hanging up", "idle"),
    Crash("after hanging up", "idle", recorded=False),
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory for the store and the agent; what runs there at the end, after a failure, is killed."""
    yield tmp_path
    for pid in processes(tmp_path):
        if str(tmp_path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def processes(place: Path) -> list[int]:
    """The agents' processes that are alive."""
    found = [look_up(int(path.stem)) for path in place.glob("*.pid")]
    return [process.pid for process in found if process is not None and not process.ended]


async def all_gone(place: Path) -> None:
    """Wait until none is alive: those that ended, and those that see the end of their input."""
    for pid in processes(place):
        await ended(pid)
    assert [] == processes(place)


async def ended(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    with trio.fail_after(SECONDS), suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)


@pytest.fixture(scope="module", autouse=True)
def managers() -> Iterator[None]:
    """A process that forks managers: importing anew for each of them would take most of the time."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAMS / "crash_manager.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as Managers.process:
        yield
        Managers.process.communicate(timeout=SECONDS)


class Managers:
    process: subprocess.Popen[str]

    @classmethod
    def run(cls, words: tuple[str, ...]) -> int:
        assert cls.process.stdin is not None
        assert cls.process.stdout is not None
        cls.process.stdin.write(json.dumps(words) + "\n")
        cls.process.stdin.flush()
        return int(cls.process.stdout.readline())


async def crash(place: Path, point: str, *words: str) -> None:
    """Run a manager that kills itself at this point."""
    with trio.fail_after(SECONDS):
        status = await trio.to_thread.run_sync(Managers.run, (str(place), point, *words), abandon_on_cancel=True)
    assert -signal.SIGKILL == status


async def row_of(place: Path) -> SessionRecord | None:
    """Read the row as it is: a store repairs nothing."""
    async with SQLiteStore(place / "sessions.db") as store:
        return await store.read("k")


async def tasks_of(place: Path) -> tuple[TaskRecord, ...]:
    """Read what the ledger says of the turn that was killed."""
    async with SQLiteLedger(place / "sessions.db") as ledger:
        return await ledger.list()


def runtime(place: Path) -> AcpRuntime:
    """The agent, without bad habits."""
    return AcpRuntime(dial_stdio([sys.executable, "-IS", str(PROGRAMS / "crash_agent.py"), str(place)]))


async def next_turn(manager: SessionManager, place: Path) -> str:
    """Have the agent say which session it is, and how many prompts it has had."""
    if not await manager.stored_sessions():
        await manager.start_session("k", agent="agent", cwd="/")
    return str(await manager.session("k").prompt("again"))


@pytest.mark.parametrize("crashed", CRASHES, ids=lambda crashed: crashed.point)
async def test_a_manager_that_was_killed(crashed: Crash, place: Path) -> None:
    """The next one repairs its row, ends its agent's processes, and goes on with the conversation; once."""
    # An agent whose group is not in the row yet, or not any more, has the end of its input to go by.
    await crash(place, crashed.point, *(STUBBORN if crashed.recorded else ()))
    found = await row_of(place)
    assert crashed.state == (None if found is None else found.state)
    assert crashed.owned == (found is not None and found.owner is not None)
    with trio.fail_after(SECONDS):
        async with open_session_manager(
            {"agent": runtime(place)},
            store=SQLiteStore(place / "sessions.db"),
            ledger=SQLiteLedger(place / "sessions.db"),
            settings=SETTINGS,
        ) as manager:
            tasks = await tasks_of(place)
            assert [] == [task for task in tasks if task.is_open]
            # The ledger is written beside the row: it may have been told how the turn ended, and the row not.
            ends = {"failed", "succeeded"} if crashed.point == "before terminal" else {"failed"}
            assert (not ends.isdisjoint(task.status for task in tasks)) >= (crashed.state == "running")
            groups = () if found is None else tuple(group.pgid for group in found.processes)
            assert crashed.recorded == bool(groups) or crashed.point == "after hanging up"
            assert (
                RecoveryReport(
                    repaired=("k",) if crashed.owned else (), reaped=groups if crashed.recorded else (), left=()
                )
                == manager.recovered
            )
            if crashed.recorded:
                assert [] == processes(place)
            repaired = await row_of(place)
            if found is not None and repaired is not None:
                ran = found.state == "running"
                state, error = ("error", "interrupted") if ran else (found.state, found.last_error)
                assert attrs.evolve(found, state=state, last_error=error, owner=None, processes=()) == repaired
            before = place / "s1.session"
            had = int(before.read_text()) if before.exists() and found is not None else 0
            said = await next_turn(manager, place)
            session_id = found.session_id if found is not None else said.split()[0]
            assert f"{session_id} {had + 1}" == said
        async with open_session_manager({}, store=SQLiteStore(place / "sessions.db")) as manager:
            assert RecoveryReport() == manager.recovered
    await all_gone(place)


async def test_a_process_that_outlives_the_agent_that_started_it(place: Path) -> None:
    """The agent sees the end of its input; what it started does not, but carries the mark of the manager that died."""
    await crash(place, "first_event", "child")
    found = await row_of(place)
    assert found is not None
    [group] = found.processes
    await ended(group.pgid)
    [orphan] = processes(place)
    assert found.owner is not None
    assert has_variable(orphan, MARK, mark(found.owner))
    async with open_session_manager({}, store=SQLiteStore(place / "sessions.db"), settings=SETTINGS) as manager:
        assert RecoveryReport(repaired=("k",), reaped=(group.pgid,)) == manager.recovered
    assert [] == processes(place)


@pytest.mark.parametrize("point", ["before repair", "after repair"])
async def test_a_recovery_that_was_killed(point: str, place: Path) -> None:
    """The next one does what is left to do, and nothing twice."""
    await crash(place, "first_event", *STUBBORN)
    await crash(place, point)
    assert [] == processes(place)
    found = await row_of(place)
    assert found is not None
    assert ("running" if point == "before repair" else "error") == found.state
    async with open_session_manager(
        {"agent": runtime(place)}, store=SQLiteStore(place / "sessions.db"), settings=SETTINGS
    ) as manager:
        done = ("k",) if point == "before repair" else ()
        assert RecoveryReport(repaired=done) == manager.recovered
        assert "s1 2" == await next_turn(manager, place)


async def test_only_a_manager_that_is_to_recover_does(place: Path) -> None:
    """Reading a store repairs nothing, nor does a manager with recover=False; a turn of it takes over all the same."""
    await crash(place, "first_event", *STUBBORN)
    found = await row_of(place)
    assert found is not None
    async with open_session_manager(
        {"agent": runtime(place)}, store=SQLiteStore(place / "sessions.db"), settings=SETTINGS, recover=False
    ) as manager:
        assert RecoveryReport() == manager.recovered
        assert (found,) == await manager.stored_sessions()
        assert found == await row_of(place)
        assert 2 == len(processes(place))
        assert "s1 2" == await next_turn(manager, place)
        # Only the agent of this manager is left.
        assert 1 == len(processes(place))
    await all_gone(place)


# -- while the other one lives -----------------------------------------------------


async def test_a_session_that_another_process_has_open(place: Path) -> None:
    """SessionInUse, at once, naming the process, for a start and for a turn; the command line says so in one line."""
    agent = [sys.executable, "-IS", str(PROGRAMS / "crash_agent.py"), str(place)]
    command = [sys.executable, "-m", "trio_acp", "prompt", "hang", "--session", "k", "--cwd", "/"]
    command += ["--store", str(place / "sessions.db"), "--stdio", shlex.join(agent)]
    other = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with trio.fail_after(SECONDS):
        try:
            assert other.stdout is not None
            assert (await other.stdout.receive_some()).startswith(b"s1 1")
            row = await row_of(place)
            async with open_session_manager(
                {"agent": runtime(place)}, store=SQLiteStore(place / "sessions.db")
            ) as manager:
                assert RecoveryReport() == manager.recovered
                with pytest.raises(SessionInUse) as caught:
                    await manager.start_session("k", agent="agent", cwd="/")
                assert (other.pid, "session-in-use") == (caught.value.pid, caught.value.detail)
                with pytest.raises(TurnFailed) as failed:
                    await manager.session("k").prompt("hello")
                assert isinstance(failed.value.__cause__, SessionInUse)
                assert (1, row) == (len(processes(place)), await row_of(place))
            done = await trio.run_process(command, check=False, capture_stdout=True, capture_stderr=True)
            told = f"trio-acp: session 'k' is in use by process {other.pid}\n"
            assert (1, b"", told) == (done.returncode, done.stdout, done.stderr.decode())
            other.send_signal(signal.SIGINT)
            assert 130 == await other.wait()
        finally:
            other.kill()
    row = await row_of(place)
    assert row is not None
    assert (None, ()) == (row.owner, row.processes)
    await all_gone(place)
