"""What several parts do together: claims, the reaper, ledgers and stores that hang, and the release of rows."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from tests.test_ownership import LEFT, stored
from tests.test_reaper import HEEDS, group, lives
from tests.test_reaper import OWNER as CRASHED
from tests.turn_kit import LIMITS, SETTINGS, AwkwardStore, C
from trio_acp import SessionRecord, StoreError, TurnFailed, TurnTimedOut, open_session_manager
from trio_acp.abc import Identity, ProcessGroup, TaskRecord
from trio_acp.stores import MemoryLedger, MemoryStore
from trio_acp.testing import FakeRuntime, Hang, Raise

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import EnsureRequest, Handle, Mutate

pytestmark = pytest.mark.concurrency

SECONDS = 20.0


class LateAnswer(AwkwardStore):
    """A store that makes an update and, once told so, never says that it did."""

    silent = 0

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        made = await super().update(key, mutate)
        if self.silent:
            self.silent -= 1
            await trio.sleep_forever()
        return made


class HungLedger(MemoryLedger):
    """A ledger that never answers."""

    async def list(self, *, open_only: bool = False) -> tuple[TaskRecord, ...]:
        await trio.sleep_forever()
        raise AssertionError

    async def put(self, task: TaskRecord) -> None:
        await trio.sleep_forever()


# -- taking over from the dead ------------------------------------------------------


async def test_a_take_over_that_is_interrupted_leaves_no_agent_behind(autojump_clock: MockClock) -> None:
    """A dead manager's agent is ended before the row stops naming it, wherever the caller gives up."""
    with group(HEEDS) as (leader, recorded):
        store = LateAnswer()
        async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
            await stored(store.memory, attrs.evolve(LEFT, owner=CRASHED, processes=(recorded,)))
            store.silent = 1
            with trio.move_on_after(1):
                await manager.start_session("k", agent="fake")
            await trio.testing.wait_all_tasks_blocked()
            row = await store.read("k")
        assert row is not None
        assert () == row.processes
        leader.wait(SECONDS)
        assert not lives(recorded)


@pytest.mark.parametrize("wish", ["forget", "discard"])
async def test_closing_what_the_dead_left_leaves_no_agent_behind(wish: str, autojump_clock: MockClock) -> None:
    """Who deletes or clears a row of a dead manager ends the agent that only this row names."""
    with group(HEEDS) as (leader, recorded):
        store = MemoryStore()
        async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
            await stored(store, attrs.evolve(LEFT, owner=CRASHED, processes=(recorded,)))
            await manager.session("k").close(forget=wish == "forget", discard=wish == "discard")
        leader.wait(SECONDS)
        assert not lives(recorded)


async def test_a_hung_ledger_does_not_fail_a_take_over(autojump_clock: MockClock) -> None:
    """It decides nothing: after `cleanup` seconds the session is opened without it."""
    store, runtime = MemoryStore(), FakeRuntime()
    async with open_session_manager(
        {"fake": runtime}, store=store, ledger=HungLedger(retention=math.inf), settings=SETTINGS, recover=False
    ) as manager:
        await stored(store, LEFT)
        begun = trio.current_time()
        await manager.start_session("k", agent="fake")
        assert C == pytest.approx(trio.current_time() - begun)


async def test_a_hung_ledger_does_not_prevent_recovery(autojump_clock: MockClock) -> None:
    """The rows are repaired all the same, within `probe` seconds."""
    store = MemoryStore()
    await stored(store, LEFT)
    async with open_session_manager(
        {}, store=store, ledger=HungLedger(retention=math.inf), settings=SETTINGS
    ) as manager:
        assert ("k",) == manager.recovered.repaired
        assert trio.current_time() < LIMITS.probe


# -- releasing ----------------------------------------------------------------------


async def test_a_row_is_free_after_an_operation_that_failed(autojump_clock: MockClock) -> None:
    """Whoever hears that an operation failed can open the session elsewhere at once, however slow the store is."""

    class Slow(AwkwardStore):
        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            await trio.sleep(0.5)
            return await super().update(key, mutate)

    slow = Slow()
    await stored(slow.memory, SessionRecord(key="k", agent="fake"))
    broken = FakeRuntime(ensure=[Raise(RuntimeError("no"))])
    async with (
        open_session_manager({"fake": broken}, store=slow, settings=SETTINGS) as first,
        open_session_manager({"fake": FakeRuntime()}, store=slow.memory, settings=SETTINGS) as second,
    ):
        with pytest.raises(Exception, match="the adapter failed"):
            await first.start_session("k", agent="fake")
        await second.start_session("k", agent="fake")


async def test_a_row_is_free_after_a_fault_of_ours(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that ended with ``internal-error`` before a session was open keeps nobody else from it."""

    async def fail(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("no /proc today")

    store = MemoryStore()
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        await stored(store, SessionRecord(key="k", agent="fake"))
        monkeypatch.setattr("trio_acp._turn.ensure_runtime_handle", fail)
        with pytest.raises(TurnFailed) as caught:
            await manager.session("k").prompt("x")
        assert "internal-error" == caught.value.detail
        await trio.testing.wait_all_tasks_blocked()
        row = await store.read("k")
        assert row is not None
        assert row.owner is None


# -- what is stored of an open session ------------------------------------------------


class WithProcesses(FakeRuntime):
    """A runtime whose handles name a process group."""

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        handle = await super().ensure_session(request)
        return attrs.evolve(handle, processes=(ProcessGroup(pgid=2**22 + 5, start_time=7),))


@pytest.mark.parametrize("how", ["start", "reconcile", "control", "refused control", "stopped before its prompt"])
async def test_the_processes_of_an_open_session_are_stored(how: str, autojump_clock: MockClock) -> None:
    """Whatever opened it: as long as the session stays open its row names what a crash would leave."""
    store, runtime = MemoryStore(), WithProcesses()
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        await stored(store, SessionRecord(key="k", agent="fake", identity=Identity(session_id="s", state="pending")))
        if how == "start":
            await manager.start_session("k")
        elif how == "reconcile":
            await manager.reconcile_identities()
        elif how == "control":
            await manager.session("k").set_mode("plan")
        elif how == "refused control":
            runtime.offers = attrs.evolve(runtime.offers, controls=frozenset())
            with pytest.raises(Exception, match="no modes"):
                await manager.session("k").set_mode("plan")
        else:
            await manager.session("k").update_options(mode="plan")
            runtime.on_control = [Hang()]
            with trio.move_on_after(0.5):
                await manager.session("k").prompt("x")
        await trio.testing.wait_all_tasks_blocked()
        assert manager.is_live("k")
        row = await store.read("k")
        assert row is not None
        assert 1 == len(row.processes)


# -- what could not be written ------------------------------------------------------


@pytest.mark.parametrize("then", ["nothing", "a turn that fails", "an exit"])
@pytest.mark.parametrize("ahead", [0, 3600, -3600])
async def test_what_was_written_late_is_not_written_again_over_another(
    ahead: float, then: str, autojump_clock: MockClock
) -> None:
    """A write that was made after its deadline is over: what another manager stored meanwhile stays, on any clock."""
    store = LateAnswer()
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as first:
        first._ctx.wall_clock = lambda: time.time() + ahead
        session = await first.start_session("k", agent="fake")
        store.silent = 9
        await session.prompt("x")
        await session.close()  # its row is free, and it does not know that
        store.silent = 0
        newer = Identity(session_id="newer", state="resolved")
        async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as second:
            await second.start_session("k", agent="fake", fresh=True)
            await second.session("k").close()
            newer_row = attrs.evolve(SessionRecord(key="k", agent="fake"), identity=newer, last_activity=time.time())
            await stored(store.memory, newer_row)
        if then == "a turn that fails":
            store.hang_read = True
            with pytest.raises(TurnTimedOut):
                await session.prompt("y", timeout=1)
            store.hang_read = False
        if then != "an exit":
            again = await session.status()
            assert "newer" == again.session_id
    row = await store.read("k")
    assert row is not None
    assert newer == row.identity


@pytest.mark.parametrize("how", ["update", "reset"])
async def test_a_change_of_options_leaves_ids_alone_that_were_stored_meanwhile(
    how: str, autojump_clock: MockClock
) -> None:
    """Who has the session not open changes its options and nothing else of what another manager stored."""

    class Overtaken(AwkwardStore):
        overtake = False

        async def read(self, key: str) -> SessionRecord | None:
            row = await super().read(key)
            if self.overtake:
                self.overtake = False
                await second.start_session("k", agent="fake", cwd="/elsewhere", fresh=True)
                await second.session("k").close()
            return row

    store, runtime = Overtaken(), WithProcesses()
    async with (
        open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as first,
        open_session_manager({"fake": runtime}, store=store.memory, settings=SETTINGS) as second,
    ):
        session = await first.start_session("k", agent="fake", cwd="/here")
        await session.close()
        store.overtake = True
        await (session.update_options(model="m") if how == "update" else session.reset_options())
    row = await store.read("k")
    assert row is not None
    assert ("fake-2", "/elsewhere", ()) == (row.session_id, row.cwd, row.processes)
    assert ("m" if how == "update" else None) == row.options.model


async def test_what_is_stored_while_the_exit_stores_something_else_is_no_fault(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The exit finds a write that is under way among those to be made again; it may be over when its turn comes."""
    full = StoreError("full")
    script: dict[str, list[Exception | float]] = {}

    class Scripted(AwkwardStore):
        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            match script[key].pop(0) if script.get(key) else 0.0:
                case Exception() as error:
                    raise error
                case seconds:
                    await trio.sleep(seconds)
            return await super().update(key, mutate)

    store = Scripted()
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        slow = await manager.start_session("slow", agent="fake")
        quick = await manager.start_session("quick", agent="fake")
        script |= {"slow": [full, 1.5], "quick": [full, 1.0]}
        await slow.close()
        with pytest.raises(StoreError):
            await quick.close(discard=True)
    assert {"slow": [], "quick": []} == script
    assert "KeyError" not in caplog.text
    assert [None, None] == [row.owner for row in await store.list()]
