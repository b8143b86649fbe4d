"""Ending what dead managers' agents left: real processes, and never a stranger's."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from trio_acp import SessionRecord, open_session_manager
from trio_acp._owner import MARK, current_owner, mark, start_time
from trio_acp._procfs import look_up
from trio_acp._reaper import Reaped, end_groups
from trio_acp.abc import ProcessGroup
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp.abc import EnsureRequest, Handle

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc proves anything")

SECONDS = 20.0
OWNER = attrs.evolve(current_owner("gone"), pid=2**22 + 1)
HEEDS = "echo; sleep 60"
RESISTS = "trap '' TERM; echo; while :; do sleep 60; done"
LEAVES = "sleep 60 >&- & echo"


@contextmanager
def group(script: str, *, marked: bool = True) -> Iterator[tuple[subprocess.Popen[bytes], ProcessGroup]]:
    """Run a script in a session of its own, until it has written a line; kill it all at the end."""
    environment = {"PATH": os.environ["PATH"], **({MARK: mark(OWNER)} if marked else {})}
    with subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, env=environment, stdout=subprocess.PIPE
    ) as leader:
        recorded = ProcessGroup(pgid=leader.pid, start_time=start_time(leader.pid))
        assert leader.stdout is not None
        leader.stdout.readline()
        try:
            yield leader, recorded
        finally:
            if lives(recorded):
                os.killpg(leader.pid, signal.SIGKILL)


def lives(recorded: ProcessGroup) -> bool:
    """Whether a process of the group is alive."""
    stats = [look_up(int(name)) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names
    return any(stat is not None and stat.group == recorded.pgid and not stat.ended for stat in stats)


async def end(recorded: ProcessGroup, patience: float = SECONDS) -> Reaped:
    """End one group of OWNER."""
    with trio.fail_after(SECONDS):
        return await end_groups([(recorded, OWNER)], patience=patience)


async def test_a_group_that_is_proven_by_its_leader() -> None:
    """SIGTERM ends what heeds it, in much less than the time it is given; marked or not."""
    with group(HEEDS, marked=False) as (leader, recorded):
        assert Reaped(reaped=(recorded.pgid,)) == await end(recorded)
        assert not lives(recorded)
        # The second, if its child was the first to be told: then it says so for it.
        assert leader.wait() in {-signal.SIGTERM, 128 + signal.SIGTERM}
        assert Reaped() == await end(recorded)


async def test_what_resists_is_killed() -> None:
    """SIGKILL follows after the time it was given."""
    with group(RESISTS) as (leader, recorded):
        assert Reaped(reaped=(recorded.pgid,)) == await end(recorded, 0.1)
        assert -signal.SIGKILL == leader.wait()


async def test_a_leader_that_nobody_has_waited_for_proves_its_group() -> None:
    """It has ended, but its number and its start time are still there."""
    with group(LEAVES, marked=False) as (leader, recorded):
        await trio.to_thread.run_sync(os.waitid, os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
        assert Reaped(reaped=(recorded.pgid,)) == await end(recorded)
        assert not lives(recorded)


async def test_without_a_leader_the_mark_proves() -> None:
    """The members that carry the dead owner's mark are ended."""
    with group(LEAVES) as (leader, recorded):
        leader.wait()
        assert lives(recorded)
        assert Reaped(reaped=(recorded.pgid,)) == await end(recorded)
        assert not lives(recorded)


async def test_without_leader_and_mark_it_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It may be anybody's: it is reported."""
    with group(LEAVES, marked=False) as (leader, recorded):
        leader.wait()
        assert Reaped(left=(recorded.pgid,)) == await end(recorded)
        assert lives(recorded)
        assert 1 == len(caplog.records)


async def test_strangers_are_not_touched() -> None:
    """The same number with another start time, or of another boot, is another group; odd numbers are none."""
    with group(HEEDS) as (_leader, recorded):
        other = attrs.evolve(recorded, start_time=recorded.start_time + 1)
        assert Reaped() == await end(other)
        assert Reaped() == await end_groups([(recorded, attrs.evolve(OWNER, boot_id="another"))], patience=SECONDS)
        odd = [(ProcessGroup(pgid=pgid, start_time=start_time(1)), OWNER) for pgid in (-1, 0, 1, 2**70)]
        assert Reaped() == await end_groups(odd, patience=SECONDS)
        assert lives(recorded)


async def test_being_cancelled_kills_at_once() -> None:
    """There is no time left for asking."""
    with group(RESISTS) as (leader, recorded):
        with trio.move_on_after(0.05) as scope:
            await end(recorded)
        assert scope.cancelled_caught
        assert -signal.SIGKILL == leader.wait(SECONDS)


async def test_without_proc_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that exists is reported, one that does not is not."""
    nothing = attrs.evolve(OWNER, start_time=0, boot_id="")
    monkeypatch.setattr("trio_acp._reaper.current_owner", lambda _: nothing)
    with group(HEEDS) as (_leader, recorded):
        missing = ProcessGroup(pgid=2**22 + 1, start_time=1)
        suspects = [(recorded, nothing), (missing, nothing)]
        assert Reaped(left=(recorded.pgid,)) == await end_groups(suspects, patience=SECONDS)
        assert lives(recorded)


class Witness(FakeRuntime):
    """Notes which of a group live on when a session is opened."""

    def __init__(self, recorded: ProcessGroup) -> None:
        super().__init__()
        self.recorded = recorded
        self.found: list[bool] = []

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        self.found.append(lives(self.recorded))
        return await super().ensure_session(request)


@pytest.mark.parametrize("by", ["recovery", "a turn"])
async def test_an_agent_is_ended_before_its_session_is_used_again(by: str) -> None:
    """Two agents never work on one conversation: whoever repairs or takes over a row ends the old one first."""
    store = MemoryStore()
    with group(HEEDS) as (leader, recorded), trio.fail_after(SECONDS):
        runtime = Witness(recorded)
        left = SessionRecord(key="k", agent="fake", state="running", owner=OWNER, processes=(recorded,))
        if by == "recovery":
            await store.update("k", lambda _: left)
        async with open_session_manager({"fake": runtime}, store=store) as manager:
            assert (by == "recovery") == (not lives(recorded))
            if by == "a turn":
                await store.update("k", lambda _: left)
            await manager.session("k").prompt("x")
        assert [False] == runtime.found
        leader.wait()
