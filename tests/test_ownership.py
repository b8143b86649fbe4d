"""Who has a stored session: owners, claims, releases, and recovery under virtual time."""

from __future__ import annotations

import functools
import math
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.turn_kit import SETTINGS, AwkwardStore, C, one_session
from trio_acp import (
    BackendUnavailable,
    Owner,
    RecoveryReport,
    RuntimeOptions,
    SessionInUse,
    SessionRecord,
    SQLiteStore,
    StoreError,
    TurnFailed,
    TurnTimedOut,
    open_session_manager,
)
from trio_acp._owner import alive, current_owner, is_alive, start_time
from trio_acp._ownership import FREE, INTERRUPTED, are_due, changed, claimed, is_left_behind, repaired
from trio_acp.abc import Identity, ProcessGroup, TaskRecord
from trio_acp.stores import MemoryLedger, MemoryStore
from trio_acp.stores._database import MIGRATIONS
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from trio_acp import Session
    from trio_acp.abc import EnsureRequest, Handle, Mutate

pytestmark = pytest.mark.concurrency

HERE = current_owner("gone")
DEAD = attrs.evolve(HERE, pid=2**22 + 1)  # more than any pid that Linux gives
GROUP = ProcessGroup(pgid=2**22 + 1, start_time=1)
LEFT = SessionRecord(
    key="k",
    agent="fake",
    identity=Identity(session_id="s1", agent_session_id="a1"),
    state="running",
    owner=DEAD,
    processes=(GROUP,),
)


async def stored(store: MemoryStore, *rows: SessionRecord) -> None:
    for row in rows:
        await store.update(row.key, functools.partial(_instead, row))


def _instead(row: SessionRecord, _: SessionRecord | None) -> SessionRecord:
    return row


# -- who is alive ------------------------------------------------------------------


def test_this_process_knows_its_own_managers() -> None:
    """A manager of this process is alive exactly while it is open, whatever became of the process."""
    owner = current_owner("m")
    assert not is_alive(owner)
    with alive(owner):
        assert is_alive(owner)
        assert not is_alive(attrs.evolve(owner, manager_id="n"))
    assert not is_alive(owner)


@pytest.mark.skipif(not HERE.start_time, reason="this system has no /proc")
def test_another_process_is_known_by_more_than_its_number() -> None:
    """The same pid with another start time, or of another boot, is dead; so are numbers that are none."""
    parent = attrs.evolve(HERE, pid=os.getppid(), start_time=start_time(os.getppid()))
    assert is_alive(parent)
    assert not is_alive(attrs.evolve(parent, start_time=parent.start_time + 1))
    assert not is_alive(attrs.evolve(parent, boot_id="another"))
    assert not is_alive(attrs.evolve(HERE, start_time=HERE.start_time + 1))
    assert [False] * 4 == [is_alive(attrs.evolve(parent, pid=pid)) for pid in (0, -1, 2**22 + 1, 2**70)]


@pytest.mark.skipif(not HERE.start_time, reason="this system has no /proc")
def test_a_process_that_has_ended_and_waits_for_its_parent_is_dead() -> None:
    """A zombie owns nothing."""
    with subprocess.Popen([sys.executable, "-IS", "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert 0 < start_time(child.pid)
        assert not is_alive(attrs.evolve(HERE, pid=child.pid, start_time=start_time(child.pid)))


def test_without_proc_the_number_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody tells start times, a process of that number counts as the owner."""
    nothing = attrs.evolve(HERE, start_time=0, boot_id="")
    monkeypatch.setattr("trio_acp._owner.current_owner", lambda _: nothing)
    assert is_alive(attrs.evolve(nothing, pid=os.getppid()))
    assert is_alive(attrs.evolve(nothing, pid=1))
    assert [False] * 3 == [is_alive(attrs.evolve(nothing, pid=pid)) for pid in (-1, 2**22 + 1, 2**70)]


# -- one live owner ------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Session], Awaitable[object]]] = {
    "prompt": lambda session: session.prompt("x"),
    "set_mode": lambda session: session.set_mode("plan"),
    "update_options": lambda session: session.update_options(model="large"),
    "reset_options": lambda session: session.reset_options(),
    "forget": lambda session: session.close(forget=True),
}


@pytest.mark.parametrize("name", ["start", "fresh", *OPERATIONS])
async def test_a_second_manager_is_refused(name: str, autojump_clock: MockClock) -> None:
    """While one has the session open the other one gets SessionInUse, opens nothing and writes nothing."""
    store, ours = MemoryStore(), FakeRuntime()
    async with (
        one_session(FakeRuntime(), store=store) as (_manager, session),
        open_session_manager({"fake": ours}, store=store, settings=SETTINGS) as second,
    ):
        await session.prompt("x")
        before = await store.read("k")
        with pytest.raises((SessionInUse, TurnFailed)) as caught:
            if name in OPERATIONS:
                await OPERATIONS[name](second.session("k"))
            else:
                await second.start_session("k", agent="fake", fresh=name == "fresh")
        error = caught.value.__cause__ if name == "prompt" else caught.value
        assert isinstance(error, SessionInUse)
        assert ("ACP_SESSION_INIT_FAILED", "session-in-use", os.getpid()) == (error.code, error.detail, error.pid)
        assert ([], before) == (ours.names(), await store.read("k"))
        assert "idle" == (await second.session("k").status()).state
        await session.close()
        await second.start_session("k", agent="fake")
        assert ["fake-1"] == [call.detail.resume for call in ours.calls]


async def test_two_managers_that_start_the_same_new_session(autojump_clock: MockClock) -> None:
    """One gets it; what the other one opened is closed again."""
    store, runtimes, refused = MemoryStore(), [FakeRuntime([], ensure=[Sleep(1)]) for _ in range(2)], []

    async def start(runtime: FakeRuntime) -> None:
        async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
            try:
                await manager.start_session("k", agent="fake")
            except SessionInUse:
                refused.append(runtime)
                assert set() == runtime.open
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for runtime in runtimes:
            nursery.start_soon(start, runtime)
    assert 1 == len(refused)
    assert "ensure_session close" == " ".join(refused[0].names())
    row = await store.read("k")
    assert row is not None
    assert row.owner is None


# -- claim and release ---------------------------------------------------------------


async def owner_of(store: MemoryStore, key: str = "k") -> tuple[bool, tuple[ProcessGroup, ...]]:
    row = await store.read(key)
    assert row is not None
    return row.owner is not None, row.processes


class WithProcesses(FakeRuntime):
    """Its handles have a process group."""

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        handle = await super().ensure_session(request)
        object.__setattr__(handle, "processes", (GROUP,))
        return handle


@pytest.mark.parametrize("how", ["close", "exit", "evicted", "options", "directory gone"])
async def test_a_session_is_owned_from_its_opening_to_its_end(how: str, autojump_clock: MockClock) -> None:
    """While the handle is open, between turns too, the row names owner and processes; afterwards neither."""
    store, runtime = MemoryStore(), WithProcesses()
    settings = attrs.evolve(SETTINGS, idle_ttl=10)
    async with one_session(runtime, store=store, settings=settings) as (manager, session):
        for _ in range(2):
            assert (True, (GROUP,)) == await owner_of(store)
            await session.prompt("x")
        if how == "close":
            await session.close()
        elif how == "evicted":
            await trio.sleep(11)
        elif how == "options":
            await session.reset_options()
        elif how == "directory gone":
            runtime.ensure = [Raise(BackendUnavailable("gone"))]
            with pytest.raises(BackendUnavailable):
                await manager.start_session("k", agent="fake", cwd="/elsewhere")
        if how != "exit":
            await trio.testing.wait_all_tasks_blocked()
            assert (False, ()) == await owner_of(store)
            runtime.ensure = []
            await session.prompt("x")
            assert (True, (GROUP,)) == await owner_of(store)
    assert (False, ()) == await owner_of(store)


async def test_a_row_is_claimed_before_anything_is_opened(autojump_clock: MockClock) -> None:
    """While a stored session is being opened its row names us; if that fails or is given up, nobody."""
    store, runtime = MemoryStore(), FakeRuntime(ensure=[Hang()])
    await stored(
        store, SessionRecord(key="k", agent="fake", identity=Identity(session_id="s"), state="error", last_error="old")
    )
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        session = manager.session("k")
        for operation in (
            session.prompt,
            session.set_mode,
            lambda _: manager.start_session("k", agent="fake"),
        ):
            with trio.move_on_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(operation, "x")
                    await trio.sleep(0.5)
                    assert (True, ()) == await owner_of(store)
            await trio.testing.wait_all_tasks_blocked()
            assert (False, ()) == await owner_of(store)
        row = await store.read("k")
        assert row is not None
        assert ("error", "old") == (row.state, row.last_error)
        runtime.ensure = [Raise(BackendUnavailable("gone"))]
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        assert (False, ()) == await owner_of(store)


async def test_a_oneshot_is_owned_for_its_turn(autojump_clock: MockClock) -> None:
    """It is free again as soon as its caller goes on."""
    store = MemoryStore()
    async with one_session(FakeRuntime([Sleep(1)]), store=store, mode="oneshot") as (_manager, session):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "x")
            await trio.sleep(0.5)
            assert (True, ()) == await owner_of(store)
            await trio.sleep(0.5)
        assert (False, ()) == await owner_of(store)


async def test_asking_claims_nothing(autojump_clock: MockClock) -> None:
    """A session that is not stored needs no store."""
    store = AwkwardStore()
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        store.error = StoreError("broken")
        await manager.ask("x", agent="fake")
        store.error = None


class CountingStore(MemoryStore):
    updates = 0

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        self.updates += 1
        return await super().update(key, mutate)


async def test_a_turn_writes_twice(autojump_clock: MockClock) -> None:
    """On a live handle: that it runs, and how it ended; once more for claiming one that is not open."""
    store = CountingStore()
    async with one_session(FakeRuntime(), store=store) as (_manager, session):
        store.updates = 0
        await session.prompt("x")
        assert 2 == store.updates
        await session.close()
        store.updates = 0
        await session.prompt("x")
        assert 3 == store.updates


async def test_a_release_that_fails_is_not_forgotten(autojump_clock: MockClock) -> None:
    """It delays nobody by more than cleanup, and the next write of the session, or the exit, makes up for it."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (manager, session):
        store.hang_update = True
        await session.close()
        assert (C, 1) == (trio.current_time(), manager.statistics().store_failures)
        store.hang_update = False
        assert (True, ()) == await owner_of(store.memory)
    assert (False, ()) == await owner_of(store.memory)


async def test_a_late_write_leaves_another_owner_alone(autojump_clock: MockClock) -> None:
    """What could not be stored in time is not written over the row of whoever has the session now."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (_manager, session):
        store.error_in_update = StoreError("full")
        await session.close()
        store.error_in_update = None
        other = attrs.evolve(LEFT, owner=attrs.evolve(HERE, manager_id="other"), state="running")
        await stored(store.memory, other)
    assert other == await store.memory.read("k")


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        pytest.param({"last_activity": 2.0, "state": "error"}, True, id="newer"),
        pytest.param({"last_activity": 0.5, "state": "error"}, False, id="older"),
        pytest.param({"last_activity": 2.0, "state": "idle", **FREE}, False, id="freed"),
        pytest.param({"options": RuntimeOptions()}, True, id="taken back"),
    ],
)
def test_what_is_due_to_a_row_that_nobody_owns(changes: dict[str, Any], due: bool) -> None:
    """Changes that were to free a row of ours have been made if it is free; others are, unless it is newer."""
    row = attrs.evolve(LEFT, **FREE, last_activity=1.0)
    assert due is are_due(row, HERE, changes)
    assert are_due(attrs.evolve(row, owner=HERE), HERE, changes)
    assert not are_due(attrs.evolve(row, owner=DEAD), HERE, changes)


async def test_the_end_of_a_turn_that_claimed_nothing_is_stored(autojump_clock: MockClock) -> None:
    """There is nothing to be freed, and the row says all the same that the turn failed."""
    store = AwkwardStore()
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        await stored(store.memory, attrs.evolve(LEFT, **FREE, state="idle"))
        store.hang_read = True
        with pytest.raises(TurnTimedOut):
            await manager.session("k").prompt("x", timeout=1)
        row = await store.memory.read("k")
        assert row is not None
        assert ("error", None) == (row.state, row.owner)


# -- recovery ------------------------------------------------------------------------


async def test_rows_of_dead_owners_are_repaired_at_the_start(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """`running` becomes `error`, what was idle is just given back, ids stay; each in one line of the log; once."""
    store = MemoryStore()
    living = current_owner("living")
    idle = attrs.evolve(LEFT, key="idle", state="idle")
    rows = (LEFT, idle, attrs.evolve(LEFT, key="mine", owner=living), attrs.evolve(LEFT, key="nobody's", owner=None))
    await stored(store, *rows, attrs.evolve(idle, key="free", owner=None, processes=()))
    with alive(living):
        before = await store.list()
        async with open_session_manager({}, store=store, recover=False) as manager:
            assert (RecoveryReport(), before) == (manager.recovered, await store.list())
        async with open_session_manager({}, store=store) as manager:
            assert RecoveryReport(repaired=("idle", "k", "nobody's")) == manager.recovered
        assert 3 == len(caplog.records)
        after = {row.key: row for row in await store.list()}
        assert attrs.evolve(LEFT, state="error", last_error=INTERRUPTED, owner=None, processes=()) == after["k"]
        assert attrs.evolve(idle, owner=None, processes=()) == after["idle"]
        assert rows[2] == after["mine"]
        async with open_session_manager({}, store=store) as manager:
            assert RecoveryReport() == manager.recovered


@pytest.mark.skipif(not HERE.start_time, reason="this system has no /proc")
async def test_a_recycled_number_is_not_the_owner(autojump_clock: MockClock) -> None:
    """A live process with the pid, but of another start time or another boot, does not keep the row."""
    store = MemoryStore()
    parent = attrs.evolve(HERE, pid=os.getppid(), start_time=start_time(os.getppid()))
    owners = {
        "boot": attrs.evolve(parent, boot_id="another"),
        "itself": parent,
        "recycled": attrs.evolve(parent, start_time=parent.start_time + 1),
        "ours": attrs.evolve(HERE, manager_id="of an earlier manager"),
    }
    await stored(store, *(attrs.evolve(LEFT, key=key, owner=owner, processes=()) for key, owner in owners.items()))
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        assert RecoveryReport(repaired=("boot", "ours", "recycled")) == manager.recovered
        with pytest.raises(SessionInUse):
            await manager.start_session("itself", agent="fake")


async def test_tasks_of_the_dead_are_settled_before_their_rows(autojump_clock: MockClock) -> None:
    """Open tasks of dead owners have failed, interrupted; those of the living, and what has ended, stay as they are."""
    store = MemoryStore()
    alive = attrs.evolve(HERE, pid=os.getppid(), start_time=start_time(os.getppid()))
    task = TaskRecord(run_id="dead", requester="boss", session="k", task="go", started=1.0, owner=LEFT.owner)
    tasks = [task, attrs.evolve(task, run_id="live", owner=alive), attrs.evolve(task, run_id="nobody's", owner=None)]
    tasks.append(attrs.evolve(task, run_id="ended", status="succeeded", ended=2.0))

    class Watched(MemoryLedger):
        async def put(self, task: TaskRecord) -> None:
            assert LEFT == await store.read("k")
            await super().put(task)

    ledger = Watched(retention=math.inf)
    for before in tasks:
        await MemoryLedger.put(ledger, before)
    await stored(store, LEFT)
    async with open_session_manager({}, store=store, ledger=ledger) as manager:
        assert ("k",) == manager.recovered.repaired
    after = {task.run_id: task for task in await ledger.list()}
    assert ("failed", "interrupted") == (after["dead"].status, after["dead"].error)
    assert tasks[1:] == [after[before.run_id] for before in tasks[1:]]


@pytest.mark.parametrize("broken", ["list", "put"])
async def test_a_ledger_that_fails_recovery_stops_nothing(
    broken: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are repaired all the same, and the tasks are left to the next manager."""
    store, ledger = MemoryStore(), MemoryLedger(retention=math.inf)
    task = TaskRecord(run_id="r", requester="boss", session="k", task="go", started=1.0, owner=LEFT.owner)
    await ledger.put(task)
    await stored(store, LEFT)

    async def fail(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise StoreError("no")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, broken, fail)
        async with open_session_manager({}, store=store, ledger=ledger) as manager:
            assert ("k",) == manager.recovered.repaired
    assert (task,) == await ledger.list(open_only=True)
    async with open_session_manager({}, store=store, ledger=ledger):
        assert () == await ledger.list(open_only=True)


async def test_managers_that_start_at_once_repair_each_row_once(autojump_clock: MockClock) -> None:
    """However their steps mix, every row is in one report."""
    store = MemoryStore()
    await stored(store, *(attrs.evolve(LEFT, key=f"k{n}") for n in range(20)))
    found: list[str] = []

    async def start() -> None:
        async with open_session_manager({}, store=store) as manager:
            found.extend(manager.recovered.repaired)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)
    assert sorted(f"k{n}" for n in range(20)) == sorted(found)


@pytest.mark.parametrize("how", ["list raises", "list hangs", "update raises", "update hangs"])
async def test_a_store_that_fails_recovery_does_not_prevent_the_start(
    how: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, takes at most `probe` seconds, and the next manager does it."""
    store = AwkwardStore()
    await stored(store.memory, LEFT)
    store.error = StoreError("broken") if how == "list raises" else None
    store.error_in_update = StoreError("broken") if how == "update raises" else None
    store.hang_list, store.hang_update = how == "list hangs", how == "update hangs"
    async with open_session_manager({}, store=store, settings=SETTINGS) as manager:
        assert (5 if "hangs" in how else 0) == trio.current_time()
        assert RecoveryReport() == manager.recovered
        assert 1 == len(caplog.records)
        store.error = store.error_in_update = None
        store.hang_list = store.hang_update = False
    async with open_session_manager({}, store=store) as manager:
        assert ("k",) == manager.recovered.repaired


async def test_an_owner_that_dies_later_is_succeeded_by_whoever_needs_the_session(autojump_clock: MockClock) -> None:
    """No restart is needed: a turn takes the session over, resumes it, and the row is right afterwards."""
    store, runtime = MemoryStore(), FakeRuntime()
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        await stored(store, LEFT)
        await manager.session("k").prompt("x")
        assert ["s1"] == [call.detail.resume for call in runtime.calls if call.name == "ensure_session"]
    row = await store.read("k")
    assert row is not None
    assert ("idle", None, None) == (row.state, row.last_error, row.owner)


async def test_a_take_over_settles_the_tasks_of_the_dead(autojump_clock: MockClock) -> None:
    """When the session is opened again its old task has failed, interrupted, at that time."""
    store, ledger = MemoryStore(), MemoryLedger(retention=math.inf)
    async with open_session_manager({"fake": FakeRuntime()}, store=store, ledger=ledger, settings=SETTINGS) as manager:
        await ledger.put(TaskRecord(run_id="r", requester="boss", session="k", task="go", started=1.0, owner=DEAD))
        await stored(store, LEFT)
        manager._ctx.wall_clock = lambda: 1000.0
        await manager.session("k").prompt("x")
        (task,) = await ledger.list()
        assert ("failed", "interrupted", 1000.0) == (task.status, task.error, task.ended)


async def test_a_take_over_repairs_even_if_nothing_comes_of_it(autojump_clock: MockClock) -> None:
    """Whoever takes a row over and gives up leaves it as recovery would have."""
    store, runtime = MemoryStore(), FakeRuntime(ensure=[Hang()])
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        await stored(store, LEFT)
        with trio.move_on_after(1):
            await manager.start_session("k", agent="fake")
        await trio.testing.wait_all_tasks_blocked()
        assert attrs.evolve(LEFT, **FREE, state="error", last_error=INTERRUPTED) == await store.read("k")


async def test_a_file_of_the_first_format_is_upgraded_and_repaired(tmp_path: Path) -> None:
    """A turn that ran when the first version of the program died is interrupted, and its session can be resumed."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute(MIGRATIONS[0])
        values: tuple[Any, ...] = ("k", "fake", "persistent", "/", "s1", None, "running", None, 1.0)
        values += (DEAD.pid, DEAD.start_time, DEAD.boot_id, DEAD.manager_id)
        connection.execute(f"INSERT INTO sessions VALUES ({', '.join('?' * 13)})", values)  # noqa: S608 - question marks
        connection.execute(f"PRAGMA application_id = {0x74414350}")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    async with open_session_manager({}, store=SQLiteStore(path)) as manager:
        assert RecoveryReport(repaired=("k",)) == manager.recovered
        expected = SessionRecord(
            key="k",
            agent="fake",
            cwd="/",
            identity=Identity(state="resolved", session_id="s1", source="status"),
            state="error",
            last_error=INTERRUPTED,
            last_activity=1.0,
        )
        assert (expected,) == await manager.stored_sessions()


# -- every order -----------------------------------------------------------------------

MANAGERS = ("a", "b", "c")


class OwnershipMachine(RuleBasedStateMachine):
    """Several managers and one row, against an oracle that knows who has it open and what a crash left."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: set[str] = set()
        self.row: SessionRecord | None = SessionRecord(key="k", agent="fake", identity=Identity(session_id="s"))
        self.lives = 0
        self.names: dict[str, str] = {}
        # The oracle: who has the session open, whether it runs, and whether that one is dead.
        self.holder: str | None = None
        self.running = self.orphaned = False
        self.state = "idle"

    def owner(self, name: str) -> Owner:
        return attrs.evolve(HERE, manager_id=self.names[name])

    def is_alive(self, owner: Owner) -> bool:
        return owner.manager_id in self.alive

    def is_open(self, name: str) -> bool:
        return self.names.get(name) in self.alive

    @rule(name=st.sampled_from(MANAGERS))
    def start(self, name: str) -> None:
        """A manager starts, and recovers; a name that was used before has a new id."""
        if self.is_open(name):
            return
        self.lives += 1
        self.names[name] = f"{name}{self.lives}"
        self.alive.add(self.names[name])
        assert self.row is not None
        left = is_left_behind(self.row, self.is_alive)
        assert self.orphaned == left
        if left:
            self.row = repaired(self.row)
            self._oracle_repairs()
            self.holder = None

    def _oracle_repairs(self) -> None:
        if self.running:
            self.state = "error"
        self.running = self.orphaned = False

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(MANAGERS))
    def claim(self, name: str) -> None:
        """Whoever is alive wants to open the session."""
        if not self.is_open(name):
            return
        if self.holder is not None and not self.orphaned and self.holder != self.names[name]:
            with pytest.raises(SessionInUse):
                claimed(self.row, self.owner(name), self.is_alive, {"last_error": "lost"})
            return
        if self.orphaned:
            self._oracle_repairs()
        self.row = claimed(self.row, self.owner(name), self.is_alive, {})
        self.holder = self.names[name]

    @rule(name=st.sampled_from(MANAGERS), what=st.sampled_from(["run", "end", "release"]))
    def write(self, name: str, what: str) -> None:
        """Anybody that is alive writes what it believes; only the holder's writes count while there is one."""
        if not self.is_open(name):
            return
        mine = self.holder == self.names[name]
        if what != "release" and not mine:
            return
        changes: dict[str, Any] = dict(FREE)
        if what != "release":
            changes = {"state": "running" if what == "run" else "idle", "processes": (GROUP,)}
        elif self.running:
            changes["state"] = "idle"
        self.row = changed(self.row, self.owner(name), changes)
        if mine:
            self.running = what == "run"
            if what == "end" or (what == "release" and self.state == "running"):
                self.state = "idle"
            elif what == "run":
                self.state = "running"
            if what == "release":
                self.holder = None

    @rule(name=st.sampled_from(MANAGERS))
    def crash(self, name: str) -> None:
        """One stops without a word."""
        if self.is_open(name):
            self.alive.discard(self.names[name])
            self.orphaned |= self.holder == self.names[name]

    @invariant()
    def the_row_says_what_the_oracle_knows(self) -> None:
        assert self.row is not None
        assert self.holder == (None if self.row.owner is None else self.row.owner.manager_id)
        assert self.state == self.row.state
        assert "s" == self.row.session_id
        if self.holder is None:
            assert () == self.row.processes


TestOwnershipMachine = OwnershipMachine.TestCase
