"""What every `Ledger` promises, shown for each one we have; and what is particular to the one in a file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_acp import (
    InvalidOption,
    MemoryLedger,
    Owner,
    SessionRecord,
    SQLiteLedger,
    SQLiteStore,
    StoreError,
    TaskRecord,
)
from trio_acp.stores import _task_rows
from trio_acp.stores._database import MIGRATIONS, Database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_acp.abc import Ledger

HOUR, DAY = 3600.0, 86_400.0

OPEN = TaskRecord(run_id="r", requester="parent", session="child", task="do it", started=10.0)
FULL = TaskRecord(
    run_id="r-1",
    requester="agent:main:main",
    session="agent:codex:acp:7",
    label="tests",
    task="do it",
    status="failed",
    started=1.5,
    last_event=2.5,
    ended=3.25,
    error="gone",
    progress="é…",
    summary="s",
    outcome="blocked",
    owner=Owner(pid=42, start_time=2**40, boot_id="b", manager_id="m"),
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Callable[..., Ledger]:
    """Return what makes ledgers that were not entered yet."""
    if request.param == "memory":
        return lambda **kwargs: MemoryLedger(wall_clock=clock, **kwargs)
    return lambda **kwargs: SQLiteLedger(tmp_path / "tasks.db", wall_clock=clock, **kwargs)


def test_the_sample_sets_every_field() -> None:
    """No field of the sample has its default, so that a forgotten column cannot hide."""
    defaults = TaskRecord(run_id="", requester="", session="", task="", started=0)
    assert [] == [f.name for f in attrs.fields(TaskRecord) if getattr(FULL, f.name) == getattr(defaults, f.name)]


@pytest.mark.parametrize("task", [FULL, OPEN])
async def test_a_task_comes_back_as_it_was(make: Callable[..., Ledger], task: TaskRecord) -> None:
    """Every field of a task is kept, also beyond leaving the ledger."""
    ledger = make()
    async with ledger as entered:
        assert ledger is entered
        await ledger.put(task)
        assert (task,) == await ledger.list()
    async with ledger:
        assert (task,) == await ledger.list()


async def test_an_open_task_is_replaced(make: Callable[..., Ledger]) -> None:
    """A put replaces an open task as a whole, and leaves the others alone."""
    other = attrs.evolve(OPEN, run_id="other")
    async with make() as ledger:
        for task in (OPEN, other, attrs.evolve(OPEN, label="l", progress="p")):
            await ledger.put(task)
        changed = attrs.evolve(OPEN, progress="q", last_event=11.0)
        await ledger.put(changed)
        assert (other, changed) == await ledger.list()


@pytest.mark.parametrize("late", [OPEN, attrs.evolve(OPEN, status="succeeded", ended=30.0)])
async def test_a_task_that_has_ended_stays(make: Callable[..., Ledger], late: TaskRecord) -> None:
    """Neither progress nor another end changes a task that has ended."""
    ended = attrs.evolve(OPEN, status="failed", ended=20.0, error="first")
    async with make() as ledger:
        for task in (OPEN, ended, ended, late):
            await ledger.put(task)
        assert (ended,) == await ledger.list()


async def test_the_list_is_ordered_by_start(make: Callable[..., Ledger]) -> None:
    """`list` gives the oldest first, and those that have not ended alone if asked."""
    tasks = [attrs.evolve(OPEN, run_id=run_id, started=started) for run_id, started in [("b", 2), ("a", 2), ("c", 1)]]
    async with make() as ledger:
        assert () == await ledger.list()
        for task in tasks:
            await ledger.put(task)
        assert ["c", "a", "b"] == [task.run_id for task in await ledger.list()]
        await ledger.put(attrs.evolve(tasks[1], status="cancelled", ended=5.0))
        assert ["c", "b"] == [task.run_id for task in await ledger.list(open_only=True)]
        assert ["c", "a", "b"] == [task.run_id for task in await ledger.list()]


async def test_what_ended_long_ago_is_gone(make: Callable[..., Ledger], clock: Clock) -> None:
    """A task is kept for `retention` seconds after its end, an open one for good."""
    async with make(retention=DAY) as ledger:
        await ledger.put(OPEN)
        await ledger.put(FULL)
        clock.now = FULL.ended + DAY if FULL.ended else 0
        assert (FULL, OPEN) == await ledger.list()
        clock.now += 0.5
        assert (OPEN,) == await ledger.list()
        clock.now += 100 * DAY
        await ledger.put(FULL)
        assert (OPEN,) == await ledger.list()


async def test_nothing_goes_without_a_retention(make: Callable[..., Ledger], clock: Clock) -> None:
    """An infinite retention keeps every task."""
    async with make(retention=float("inf")) as ledger:
        await ledger.put(FULL)
        clock.now = 1e12
        await ledger.put(OPEN)
        assert (FULL, OPEN) == await ledger.list()


@pytest.mark.parametrize("retention", [0, -1, float("nan")])
def test_a_retention_that_cannot_be_is_refused(make: Callable[..., Ledger], retention: float) -> None:
    """Zero, less and not-a-number are refused when the ledger is made."""
    with pytest.raises(InvalidOption) as caught:
        make(retention=retention)
    assert "invalid-retention" == caught.value.detail


@pytest.mark.parametrize("name", ["put", "list"])
async def test_a_call_cancelled_before_it_starts_does_nothing(make: Callable[..., Ledger], name: str) -> None:
    """In a cancelled scope every method raises `Cancelled`, and nothing happened."""
    async with make() as ledger:
        await ledger.put(OPEN)
        with trio.CancelScope() as scope:
            scope.cancel(reason="test")
            await (ledger.put(attrs.evolve(OPEN, progress="p")) if name == "put" else ledger.list())
        assert scope.cancelled_caught
        assert (OPEN,) == await ledger.list()


async def test_leaving_keeps_the_bodys_exception(make: Callable[..., Ledger]) -> None:
    """The body's exception leaves the ledger as the same object."""
    error = RuntimeError("body")
    with pytest.raises(RuntimeError) as caught:
        async with make():
            raise error
    assert error is caught.value


# -- the file -----------------------------------------------------------------


def rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [run_id for (run_id,) in connection.execute("SELECT run_id FROM tasks ORDER BY run_id")]


async def test_a_ledger_shares_the_file_of_a_store(tmp_path: Path) -> None:
    """A store and a ledger in one file, whoever comes first, see what is theirs."""
    path = tmp_path / "both.db"
    record = SessionRecord(key="k", agent="a", requester="p", label="l")
    for _ in range(2):
        async with SQLiteLedger(path, retention=float("inf")) as ledger, SQLiteStore(path) as store:
            await ledger.put(FULL)
            await store.update("k", lambda _: record)
            assert ((FULL,), (record,)) == (await ledger.list(), await store.list())


async def test_a_store_of_the_format_before_gets_a_ledger(tmp_path: Path) -> None:
    """A file without tasks is upgraded by the ledger and keeps its sessions."""
    path = tmp_path / "old.db"
    before = next(n for n, statement in enumerate(MIGRATIONS) if "CREATE TABLE tasks" in statement)
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in MIGRATIONS[:before]:
            connection.execute(statement)
        values = ("k", "a", "oneshot", "idle", 1)
        connection.execute(
            "INSERT INTO sessions (key, agent, mode, state, last_activity) VALUES (?, ?, ?, ?, ?)", values
        )
        connection.execute("PRAGMA application_id = 0x74414350")
        connection.execute(f"PRAGMA user_version = {before}")
    async with SQLiteLedger(path) as ledger, SQLiteStore(path) as store:
        await ledger.put(OPEN)
        assert (OPEN,) == await ledger.list()
        assert ["k"] == [record.key for record in await store.list()]


async def test_the_first_put_deletes_and_others_once_an_hour(tmp_path: Path, clock: Clock) -> None:
    """What is too old leaves the file with the first put, and afterwards at most once an hour."""
    path = tmp_path / "tasks.db"
    old = [attrs.evolve(FULL, run_id=name) for name in ("a", "b")]
    async with SQLiteLedger(path, retention=DAY, wall_clock=clock) as ledger:
        await ledger.put(old[0])
    clock.now += DAY
    async with SQLiteLedger(path, retention=DAY, wall_clock=clock) as ledger:
        assert () == await ledger.list()
        assert ["a"] == rows(path)  # reading deletes nothing
        await ledger.put(OPEN)
        assert ["r"] == rows(path)
        await ledger.put(old[1])
        clock.now += HOUR - 1
        await ledger.put(OPEN)
        assert ["b", "r"] == rows(path)
        clock.now += 1
        await ledger.put(OPEN)
        assert ["r"] == rows(path)
        await ledger.put(old[1])
        clock.now -= 10  # the clock was set back: when it was searched last says nothing any more
        await ledger.put(OPEN)
        assert ["r"] == rows(path)


async def test_surrogates_do_not_break_the_file(tmp_path: Path) -> None:
    """Halves of a surrogate pair that came in two pieces are joined, and a lone one is replaced."""
    async with SQLiteLedger(tmp_path / "tasks.db") as ledger:
        await ledger.put(attrs.evolve(OPEN, task="a\udcffb", progress="\ud83d" + "\ude00", label="\ud83d"))
        [task] = await ledger.list()
    assert ("a�b", "\N{GRINNING FACE}", "�") == (task.task, task.progress, task.label)


async def test_what_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    """A record with no end and an ended status, or a number that is too big, is a `StoreError`; the old one stays."""
    owner = Owner(pid=1, start_time=2**64, boot_id="", manager_id="")
    async with SQLiteLedger(tmp_path / "tasks.db") as ledger:
        await ledger.put(OPEN)
        for bad in (attrs.evolve(OPEN, status="failed"), attrs.evolve(OPEN, owner=owner)):
            with pytest.raises(StoreError, match="cannot put in"):
                await ledger.put(bad)
        assert (OPEN,) == await ledger.list()


async def test_a_file_that_is_none_of_ours_is_an_error(tmp_path: Path) -> None:
    """Both calls name the file in a `StoreError`."""
    path = tmp_path / "tasks.db"
    path.write_bytes(b"this is no database" * 100)
    async with SQLiteLedger(path) as ledger:
        for call in (lambda: ledger.put(OPEN), ledger.list):
            with pytest.raises(StoreError, match=r"tasks\.db"):
                await call()


texts = st.text(max_size=20)
tasks = st.builds(
    TaskRecord,
    run_id=texts,
    requester=texts,
    session=texts,
    label=st.none() | texts,
    task=texts,
    started=st.floats(allow_nan=False),
    last_event=st.none() | st.floats(allow_nan=False),
    error=st.none() | texts,
    progress=st.none() | texts,
)


@given(stored=st.lists(tasks, unique_by=lambda task: task.run_id, max_size=4))
def test_any_task_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, stored: list[TaskRecord]) -> None:
    """Whatever text and numbers a task has, they are read as they were written."""
    path = tmp_path_factory.getbasetemp() / "any-task.db"
    path.unlink(missing_ok=True)
    database = Database(path, 1.0)
    try:
        for task in stored:
            database.find(tuple, _task_rows.PUT, _task_rows.to_row(task))
        found = database.find(_task_rows.from_row, _task_rows.SELECT, (0.0, True))
        assert sorted(stored, key=lambda task: (task.started, task.run_id)) == list(found)
    finally:
        database.close()
