"""What is particular to the SQLite store: the file, its threads, and other processes."""

from __future__ import annotations

import logging
import math
import os
import signal
import sqlite3
import stat
import sys
import threading
from contextlib import asynccontextmanager, closing
from functools import partial
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from trio_acp._errors import InvalidOption, StoreError, UsageError
from trio_acp._records import Identity, Owner, RuntimeOptions, SessionRecord
from trio_acp.stores import SQLiteStore, _database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio_acp.abc import Mutate

ONE = SessionRecord(key="n", agent="a", last_activity=1.0)


def add_one(old: SessionRecord | None) -> SessionRecord:
    return ONE if old is None else attrs.evolve(old, last_activity=old.last_activity + 1)


def put(record: SessionRecord) -> Mutate:
    return lambda old: record


def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Run one statement on the file behind the store's back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file is to be; it does not exist yet."""
    return tmp_path / "sessions.db"


# -- the file -----------------------------------------------------------------


async def test_nothing_is_touched_before_the_first_call(path: Path) -> None:
    """Entering and leaving a store creates no file."""
    async with SQLiteStore(path):
        pass
    assert not path.exists()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """File and side files have mode 0600 and new directories 0700, whatever the umask."""
    path = tmp_path / "new" / "deep" / "sessions.db"
    before = os.umask(0)
    try:
        async with SQLiteStore(path) as store:
            await store.update("n", add_one)
            names = ["sessions.db", "sessions.db-shm", "sessions.db-wal"]
            assert names == sorted(entry.name for entry in path.parent.iterdir())
            assert {0o600} == {mode(path.parent / name) for name in names}
            assert [0o700, 0o700] == [mode(path.parent), mode(path.parent.parent)]
    finally:
        os.umask(before)


async def test_leaving_folds_the_log_into_the_file(path: Path) -> None:
    """After leaving only the file itself remains, with everything in it."""
    async with SQLiteStore(path) as store:
        await store.update("n", add_one)
    assert [path] == list(path.parent.iterdir())
    assert [("n", 1.0)] == ask(path, "SELECT key, last_activity FROM sessions")


async def test_leaving_folds_the_log_in_beside_other_users(path: Path) -> None:
    """The log is folded in although another connection keeps the file open."""
    async with SQLiteStore(path) as other:
        await other.list()
        async with SQLiteStore(path) as store:
            await store.update("n", add_one)
        assert 0 == path.with_name("sessions.db-wal").stat().st_size


async def test_the_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading ``~`` is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with SQLiteStore("~/a?b#c%20/sessions.db") as store:
        await store.update("n", add_one)
    assert (tmp_path / "a?b#c%20" / "sessions.db").exists()


async def test_an_unchanged_record_is_not_written(path: Path) -> None:
    """A `mutate` that returns an equal record, or None for nothing, commits nothing."""
    async with SQLiteStore(path) as store:
        await store.update("n", add_one)
        with closing(sqlite3.connect(path)) as watcher:
            before = watcher.execute("PRAGMA data_version").fetchone()
            await store.update("n", lambda old: attrs.evolve(ONE))
            await store.update("nobody", lambda old: None)
            assert before == watcher.execute("PRAGMA data_version").fetchone()
            await store.update("n", add_one)
            assert before != watcher.execute("PRAGMA data_version").fetchone()


@pytest.mark.parametrize(
    ("path", "timeout", "detail"),
    [
        (":memory:", 1, "invalid-path"),
        ("", 1, "invalid-path"),
        ("~no-such-user-here/x", 1, "invalid-path"),
        ("x", 0, "invalid-busy_timeout"),
        ("x", float("inf"), "invalid-busy_timeout"),
        ("x", float("nan"), "invalid-busy_timeout"),
    ],
)
def test_settings_that_cannot_be_are_refused(path: str, timeout: float, detail: str) -> None:
    """A store without a file, or with an unbounded wait, is refused when it is made."""
    with pytest.raises(InvalidOption) as caught:
        SQLiteStore(path, busy_timeout=timeout)
    assert detail == caught.value.detail


async def test_a_store_is_used_only_while_it_is_entered(path: Path) -> None:
    """Calls outside the block, and entering twice, are usage errors."""
    store = SQLiteStore(path)
    with pytest.raises(UsageError):
        await store.list()
    async with store:
        with pytest.raises(UsageError, match="this SQLiteStore has been entered already; pass it to open_session_"):
            await store.__aenter__()
        assert () == await store.list()
    with pytest.raises(UsageError):
        await store.list()


text = st.text(max_size=20)
maybe = st.none() | text
records = st.builds(
    SessionRecord,
    key=text,
    agent=text,
    mode=st.sampled_from(["persistent", "oneshot"]),
    cwd=maybe,
    identity=st.none()
    | st.builds(
        Identity,
        state=st.sampled_from(["pending", "resolved"]),
        session_id=maybe,
        agent_session_id=maybe,
        record_id=maybe,
        source=st.sampled_from(["ensure", "status", "event"]),
        updated=st.floats(allow_nan=False),
    ),
    state=st.sampled_from(["idle", "running", "error"]),
    last_error=maybe,
    last_activity=st.floats(allow_nan=False),
    owner=st.none()
    | st.builds(
        Owner,
        pid=st.integers(0, 2**31),
        start_time=st.integers(0, 2**63 - 1),
        boot_id=text,
        manager_id=text,
    ),
)


@given(stored=st.lists(records, unique_by=lambda record: record.key, max_size=4))
def test_any_record_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, stored: list[SessionRecord]) -> None:
    """Whatever text and numbers a record has, they are read as they were written, in the order of keys."""
    path = tmp_path_factory.getbasetemp() / "any-record.db"
    path.unlink(missing_ok=True)
    database = _database.Database(path, 1.0)
    try:
        for record in stored:
            assert record == database.update(record.key, put(record))
        assert tuple(sorted(stored, key=lambda record: record.key)) == database.read_all()
    finally:
        database.close()


# -- formats ------------------------------------------------------------------


async def test_a_new_file_carries_our_stamps(path: Path) -> None:
    """A new file has the newest format, our application id, and a write-ahead log."""
    async with SQLiteStore(path) as store:
        await store.list()
    assert [(len(_database.MIGRATIONS),)] == ask(path, "PRAGMA user_version")
    assert [(0x74414350,)] == ask(path, "PRAGMA application_id")
    assert [("wal",)] == ask(path, "PRAGMA journal_mode")


def test_every_commit_reaches_the_disk(path: Path) -> None:
    """A connection waits for the disk on each commit (synchronous = FULL, which is 2)."""
    database = _database.Database(path, 1.0)
    try:
        assert [(2,)] == database._open().execute("PRAGMA synchronous").fetchall()
    finally:
        database.close()


async def test_a_file_without_options_gets_them(path: Path) -> None:
    """A file of format 1 is upgraded: its records have no options set, and can be given some."""
    row = ("n", "a", "persistent", None, None, None, "idle", None, 1.0, None, None, None, None)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(_database.MIGRATIONS[0])
        connection.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("PRAGMA application_id = 0x74414350")
        connection.execute("PRAGMA user_version = 1")
    changed = attrs.evolve(ONE, options=RuntimeOptions(mode="plan", extras={"a": "1"}))
    async with SQLiteStore(path) as store:
        assert (ONE,) == await store.list()
        await store.update("n", lambda _: changed)
    assert [(len(_database.MIGRATIONS),)] == ask(path, "PRAGMA user_version")
    async with SQLiteStore(path) as store:
        assert changed == await store.read("n")


OLD_IDS = [
    # Stored under the keys a, b and c: the session's id, the agent's, and what they are taken for.
    ("s", "x", Identity(state="resolved", session_id="s", agent_session_id="x", source="status")),
    (None, "x", Identity(state="resolved", agent_session_id="x", source="status")),
    (None, None, None),
]


@pytest.mark.parametrize("version", [1, 5])
async def test_the_ids_of_an_older_file_are_kept(path: Path, version: int) -> None:
    """A file of a format without identities is upgraded: ids that it has are taken for confirmed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in _database.MIGRATIONS[:version]:
            connection.execute(statement)
        for key, (session_id, agent_session_id, _) in zip("abc", OLD_IDS, strict=True):
            connection.execute(
                "INSERT INTO sessions (key, agent, mode, session_id, agent_session_id, state, last_activity) "
                "VALUES (?, 'a', 'persistent', ?, ?, 'idle', 7.0)",
                (key, session_id, agent_session_id),
            )
        connection.execute("PRAGMA application_id = 0x74414350")
        connection.execute(f"PRAGMA user_version = {version}")
    for _ in range(2):
        async with SQLiteStore(path) as store:
            records = await store.list()
        assert [expected for _, _, expected in OLD_IDS] == [record.identity for record in records]
        assert [7.0, 7.0] == [record.identity.updated for record in records if record.identity is not None]


async def rewrite_options(path: Path, text: str) -> None:
    """Store a session, and change its options behind the store's back."""
    async with SQLiteStore(path) as store:
        await store.update("n", add_one)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessions SET options = ?", (text,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"mode": 5, "timeout_seconds": true, "extras": ["a"], "new": 1}', RuntimeOptions()),
        ('{"model": "m", "extras": {"a": 1, "b": "2"}}', RuntimeOptions(model="m", extras={"b": "2"})),
    ],
)
async def test_stored_options_are_read_leniently(path: Path, text: str, expected: RuntimeOptions) -> None:
    """What has not its type, or is not known, was never set."""
    await rewrite_options(path, text)
    async with SQLiteStore(path) as store:
        assert attrs.evolve(ONE, options=expected) == await store.read("n")


@pytest.mark.parametrize("text", ["", "[]", "{"])
async def test_options_that_are_none_are_an_error(path: Path, text: str) -> None:
    """Options that cannot be read are not taken for unset: one of them may be a permission profile."""
    await rewrite_options(path, text)
    async with SQLiteStore(path) as store:
        with pytest.raises(StoreError):
            await store.read("n")


async def test_an_older_file_is_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older format gets the statements it lacks, once, and keeps its records."""
    async with SQLiteStore(path) as store:
        await store.update("n", add_one)
    monkeypatch.setattr(_database, "MIGRATIONS", (*_database.MIGRATIONS, "CREATE TABLE later (x)"))
    for _ in range(2):
        async with SQLiteStore(path) as store:
            assert (ONE,) == await store.list()
    assert [(len(_database.MIGRATIONS),)] == ask(path, "PRAGMA user_version")
    tables = [name for (name,) in ask(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert ["sessions", "tasks", "audit", "transcript_turns", "transcript", "later"] == [
        name for name in tables if not name.startswith("sqlite_")
    ]


async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one statement of a migration fails, none of them has happened."""
    monkeypatch.setattr(_database, "MIGRATIONS", (*_database.MIGRATIONS, "CREATE NONSENSE"))
    async with SQLiteStore(path) as store:
        with pytest.raises(StoreError):
            await store.list()
    assert [] == ask(path, "SELECT name FROM sqlite_master")


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, it only looks like a file" * 100)


def truncated(path: Path) -> None:
    ask(path, "CREATE TABLE t (x)")
    path.write_bytes(path.read_bytes()[:1000])


def foreign(path: Path) -> None:
    ask(path, "CREATE TABLE sessions (x)")


def stamped_by_another(path: Path) -> None:
    ask(path, "PRAGMA application_id = 5")


def newer(path: Path) -> None:
    ask(path, "PRAGMA application_id = 0x74414350")
    ask(path, "PRAGMA user_version = 1000")


def directory(path: Path) -> None:
    path.mkdir()


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize(
    ("spoil", "detail"),
    [
        (garbage, "store"),
        (truncated, "store"),
        (directory, "store"),
        (dangling, "store"),
        (foreign, "store-foreign"),
        (stamped_by_another, "store-foreign"),
        (newer, "store-version"),
    ],
)
async def test_an_unusable_file_is_a_store_error(path: Path, spoil: Callable[[Path], None], detail: str) -> None:
    """What is no file of ours is named in a `StoreError`, left as it is, and can be replaced while in use."""
    spoil(path)
    content = path.read_bytes() if path.is_file() else b""
    async with SQLiteStore(path) as store:
        for call in (lambda: store.read("n"), store.list, lambda: store.update("n", add_one)):
            with pytest.raises(StoreError, match=r"sessions\.db") as caught:
                await call()
            assert detail == caught.value.detail
        assert content == (path.read_bytes() if path.is_file() else b"")
        path.rename(path.with_name("aside"))
        assert ONE == await store.update("n", add_one)


async def test_a_path_below_a_file_is_a_store_error(path: Path) -> None:
    """A directory that cannot be made is a `StoreError` that names the file and the directory."""
    path.touch()
    async with SQLiteStore(path / "below" / "x.db") as store:
        with pytest.raises(StoreError, match=r"cannot open .*x\.db: cannot create .*below: Not a dir"):
            await store.list()


@pytest.mark.parametrize(
    "bad",
    [
        attrs.evolve(ONE, cwd="\udcff"),
        attrs.evolve(ONE, owner=Owner(pid=1, start_time=2**64, boot_id="", manager_id="")),
        attrs.evolve(ONE, last_activity=math.nan),
    ],
)
async def test_a_record_that_cannot_be_stored_changes_nothing(path: Path, bad: SessionRecord) -> None:
    """A value that the file cannot hold is a `StoreError`, and the old record stays."""
    async with SQLiteStore(path) as store:
        await store.update("n", add_one)
        with pytest.raises(StoreError, match="cannot update"):
            await store.update("n", lambda old: bad)
        assert ONE == await store.read("n")


# -- threads ------------------------------------------------------------------


class Frozen:
    """A `mutate` that waits, in its thread, until it is released."""

    def __init__(self) -> None:
        self.started = trio.Event()
        self.release = threading.Event()

    def __call__(self, old: SessionRecord | None) -> SessionRecord:
        trio.from_thread.run_sync(self.started.set)
        assert self.release.wait(30)
        return add_one(old)


async def abandon(store: SQLiteStore, frozen: Frozen) -> None:
    """Call an update, and cancel it while it is in its thread."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.update, "n", frozen)
        await frozen.started.wait()
        nursery.cancel_scope.cancel(reason="test")


@pytest.mark.concurrency
async def test_a_frozen_update_is_abandoned_and_the_order_is_kept(path: Path) -> None:
    """A cancelled update returns at once; it still happens, and before the ones called after it."""
    frozen = Frozen()
    seen: list[object] = []

    def look(old: SessionRecord | None) -> SessionRecord | None:
        seen.append(old)
        return old

    with trio.fail_after(20):
        async with SQLiteStore(path) as store:
            await abandon(store, frozen)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.update, "n", look)
                await trio.testing.wait_all_tasks_blocked()
                assert [] == seen
                frozen.release.set()
            assert [ONE] == seen


@pytest.mark.concurrency
async def test_a_waiting_update_that_is_cancelled_does_not_happen(path: Path) -> None:
    """An update that is cancelled while another one is in the thread never starts."""
    frozen, shown = Frozen(), []

    def look(old: SessionRecord | None) -> None:
        shown.append(old)

    with trio.fail_after(20):
        async with SQLiteStore(path) as store:
            await abandon(store, frozen)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.update, "n", look)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel(reason="test")
            frozen.release.set()
            assert ONE == await store.read("n")
    assert [] == shown


@pytest.mark.concurrency
@pytest.mark.parametrize("cancelled", [False, True])
async def test_leaving_waits_for_the_running_job(path: Path, *, cancelled: bool) -> None:
    """Leaving returns only when no job is in a thread any more, also in a cancelled scope."""
    frozen, left = Frozen(), trio.Event()

    async def use() -> None:
        with trio.CancelScope() as scope:
            async with SQLiteStore(path) as store:
                await abandon(store, frozen)
                if cancelled:
                    scope.cancel(reason="test")
        left.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await frozen.started.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert not left.is_set()
            frozen.release.set()
            await left.wait()
            # Closed by then: nothing is beside the file, and the abandoned update is in it.
            assert [path] == list(path.parent.iterdir())
            assert [(1.0,)] == ask(path, "SELECT last_activity FROM sessions")


@pytest.mark.concurrency
async def test_leaving_gives_up_on_a_job_that_does_not_end(
    path: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Leaving takes at most `busy_timeout` plus 5 seconds; the job then closes the file itself."""
    frozen = Frozen()
    store = SQLiteStore(path, busy_timeout=3.0)
    async with store:
        await abandon(store, frozen)
        limiter = store._file.limiter
        database = store._file.database
        assert database is not None
    assert 8.0 == trio.current_time()
    assert [logging.WARNING] == [record.levelno for record in caplog.records]
    frozen.release.set()
    async with limiter:
        assert [path] == list(path.parent.iterdir())
    async with store:
        pass


# -- other users of the file --------------------------------------------------

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
"""

COUNT = """
import sys, attrs, trio
from trio_acp._records import SessionRecord
from trio_acp.stores import SQLiteStore

def add_one(old):
    old = old or SessionRecord(key="n", agent="a")
    return attrs.evolve(old, last_activity=old.last_activity + 1)

async def main():
    async with SQLiteStore(sys.argv[1], busy_timeout=20) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(sys.argv[2])):
            await store.update("n", add_one)
            print("done", flush=True)

trio.run(main)
"""


class Lines:
    """The lines that a child process prints."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._buffer = b""

    async def next(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            chunk = await self.process.stdout.receive_some()
            assert chunk, "the child process ended"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    async def go(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")


@asynccontextmanager
async def child(script: str, *argv: object) -> AsyncIterator[Lines]:
    """Run a script in another process, which does not outlive the block."""
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-c", script, *map(str, argv)]
        run = partial(trio.run_process, command, stdin=PIPE, stdout=PIPE, check=False)
        process = await nursery.start(run)
        try:
            yield Lines(process)
        finally:
            nursery.cancel_scope.cancel(reason="the test is done with its child process")


async def test_a_lock_that_is_held_on_ends_the_wait(path: Path) -> None:
    """While another process holds the lock, reading works and an update fails after `busy_timeout`."""
    async with SQLiteStore(path, busy_timeout=0.3) as store:
        await store.update("n", add_one)
        async with child(HOLD, path) as holder:
            with trio.fail_after(20):
                assert "held" == await holder.next()
                assert ONE == await store.read("n")
                started = trio.current_time()
                with pytest.raises(StoreError, match="cannot update") as caught:
                    await store.update("n", add_one)
            assert "store-busy" == caught.value.detail
            assert 0.3 <= trio.current_time() - started < 0.3 + 2  # the rest is for a busy machine
        assert ONE == await store.read("n")


@pytest.mark.concurrency
async def test_a_lock_that_is_given_back_is_waited_for(path: Path) -> None:
    """An update waits for another process's transaction and then happens."""
    ask(path, "PRAGMA application_id = 0x74414350")
    async with SQLiteStore(path, busy_timeout=20) as store, child(HOLD, path) as holder:
        with trio.fail_after(20):
            assert "held" == await holder.next()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.update, "n", add_one)
                await trio.testing.wait_all_tasks_blocked()
                await holder.go()
            assert ONE == await store.read("n")


@pytest.mark.concurrency
async def test_processes_share_a_file_from_its_creation_on(path: Path) -> None:
    """Stores in several processes, all of which find no file, lose no update."""
    with trio.fail_after(40):
        async with (
            child(COUNT, path, 20) as one,
            child(COUNT, path, 20) as two,
            SQLiteStore(path, busy_timeout=20) as here,
            SQLiteStore(path, busy_timeout=20) as here_too,
        ):
            for other in (one, two):
                assert "ready" == await other.next()
            for other in (one, two):
                await other.go()
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(here.update, "n", add_one)
                    nursery.start_soon(here_too.update, "n", add_one)
            for other in (one, two):
                for _ in range(20):
                    assert "done" == await other.next()
            record = await here.read("n")
    assert record is not None
    assert 60.0 == record.last_activity


@pytest.mark.concurrency
@pytest.mark.parametrize("count", [1, 7, 30])
async def test_a_killed_writer_leaves_a_whole_file(path: Path, count: int) -> None:
    """After kill -9 of a process that writes, all it was told is done is there, and the file is whole."""
    with trio.fail_after(40):
        async with child(COUNT, path, 1_000_000) as writer:
            assert "ready" == await writer.next()
            await writer.go()
            for _ in range(count):
                await writer.next()
            writer.process.send_signal(signal.SIGKILL)
            assert -signal.SIGKILL == await writer.process.wait()
        async with SQLiteStore(path) as store:
            record = await store.read("n")
            assert record is not None
            assert count <= record.last_activity
            assert attrs.evolve(record, last_activity=record.last_activity + 1) == await store.update("n", add_one)
    assert [("ok",)] == ask(path, "PRAGMA integrity_check")
