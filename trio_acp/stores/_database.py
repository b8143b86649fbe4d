"""The SQLite file itself, as one thread at a time sees it: it blocks, and knows no Trio.

Every job is one transaction at most, and any failure is treated alike: the
connection is closed, which rolls back, and the next job opens the file anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from .._errors import StoreError, UsageError
from ._columns import DamagedRow
from ._rows import PUT, SELECT, from_row, to_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .._records import SessionRecord
    from ..abc import Mutate

_T = TypeVar("_T")

_APPLICATION_ID: Final = 0x74414350
"""Stamps a file as ours ("tACP"), so that another program's database is never written to."""

MIGRATIONS: Final = (
    """
    CREATE TABLE sessions (
        key TEXT NOT NULL PRIMARY KEY,
        agent TEXT NOT NULL,
        mode TEXT NOT NULL CHECK (mode IN ('persistent', 'oneshot')),
        cwd TEXT,
        session_id TEXT,
        agent_session_id TEXT,
        state TEXT NOT NULL CHECK (state IN ('idle', 'running', 'error')),
        last_error TEXT,
        last_activity REAL NOT NULL,
        owner_pid INTEGER,
        owner_start_time INTEGER,
        owner_boot_id TEXT,
        owner_manager_id TEXT
    )
    """,
    "ALTER TABLE sessions ADD COLUMN options TEXT NOT NULL DEFAULT '{}'",
    "ALTER TABLE sessions ADD COLUMN requester TEXT",
    "ALTER TABLE sessions ADD COLUMN label TEXT",
    "ALTER TABLE sessions ADD COLUMN processes TEXT NOT NULL DEFAULT '[]'",
    """
    CREATE TABLE tasks (
        run_id TEXT NOT NULL PRIMARY KEY,
        requester TEXT NOT NULL,
        session TEXT NOT NULL,
        label TEXT,
        task TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'timed_out', 'cancelled')),
        started REAL NOT NULL,
        last_event REAL,
        ended REAL CHECK ((ended IS NULL) = (status = 'running')),
        error TEXT,
        progress TEXT,
        summary TEXT,
        outcome TEXT,
        owner_pid INTEGER,
        owner_start_time INTEGER,
        owner_boot_id TEXT,
        owner_manager_id TEXT
    )
    """,
    "ALTER TABLE sessions ADD COLUMN record_id TEXT",
    "ALTER TABLE sessions ADD COLUMN identity_state TEXT CHECK (identity_state IN ('pending', 'resolved'))",
    "ALTER TABLE sessions ADD COLUMN identity_source TEXT CHECK (identity_source IN ('ensure', 'status', 'event'))",
    "ALTER TABLE sessions ADD COLUMN identity_updated REAL",
    # Ids that were stored before had been resumed by: they are taken for confirmed.
    """
    UPDATE sessions SET identity_state = 'resolved', identity_source = 'status', identity_updated = last_activity
    WHERE session_id IS NOT NULL OR agent_session_id IS NOT NULL
    """,
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        time REAL NOT NULL,
        owner_pid INTEGER NOT NULL,
        owner_start_time INTEGER NOT NULL,
        owner_boot_id TEXT NOT NULL,
        owner_manager_id TEXT NOT NULL,
        session TEXT,
        session_id TEXT,
        turn TEXT,
        event TEXT NOT NULL,
        decision TEXT NOT NULL CHECK (decision IN ('allow', 'deny', 'cancel')),
        rule TEXT NOT NULL,
        title_sha256 TEXT NOT NULL
    )
    """,
    # Against mistakes, and whoever may only run statements; who may write the file can take them away.
    "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
    "CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END",
    # Replacing a row fires no other trigger.
    """
    CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
    WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id OR number = NEW.number)
    BEGIN SELECT RAISE(IGNORE); END
    """,
    """
    CREATE TABLE transcript_turns (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        turn TEXT NOT NULL UNIQUE,
        session TEXT NOT NULL,
        size INTEGER NOT NULL
    )
    """,
    "CREATE INDEX transcript_of_session ON transcript_turns (session)",
    """
    CREATE TABLE transcript (
        turn TEXT NOT NULL REFERENCES transcript_turns (turn),
        seq INTEGER NOT NULL,
        time REAL NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('prompt', 'event', 'outcome')),
        body TEXT NOT NULL,
        PRIMARY KEY (turn, seq)
    )
    """,
    """
    CREATE TRIGGER transcript_stays BEFORE UPDATE ON transcript
    BEGIN SELECT RAISE(ABORT, 'the transcript is append-only'); END
    """,
)
"""One statement each; a file's `user_version` is how many of them it has had.  Append, never edit."""

_STAMPS: Final = """
    SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)
    FROM pragma_user_version, pragma_application_id
"""
_SELECT_ONE: Final = f"{SELECT} WHERE key = ?"
_SELECT_ALL: Final = f"{SELECT} ORDER BY key"
_DELETE: Final = "DELETE FROM sessions WHERE key = ?"

# Closing any descriptor of a file drops every POSIX lock that the process has on it, SQLite's included.
# So a file may be created, and its descriptor closed, only while no other store of this process opens it.
_creating = threading.Lock()


class Execute(Protocol):
    """Runs one statement to its end and returns its rows."""

    def __call__(self, sql: str, values: tuple[Any, ...] = (), /) -> list[tuple[Any, ...]]: ...


class Database:
    """The file.  Every method blocks, and the caller sees to it that only one runs at a time."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout
        self._deadline = 0.0
        self._connection: sqlite3.Connection | None = None
        self.leaving = False
        """Set by the Trio thread: whichever job ends last closes the file."""

    # -- jobs --

    def read(self, key: str) -> SessionRecord | None:
        with self._job(), self._failures("read"):
            return self._read(self._open(), key)

    def read_all(self) -> tuple[SessionRecord, ...]:
        return self.find(from_row, _SELECT_ALL)

    def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        with self._job():
            with self._failures("update"):
                connection = self._open()
                self._execute(connection, "BEGIN IMMEDIATE")
                old = self._read(connection, key)
            new = mutate(old)  # outside of `_failures`: its exceptions are the caller's own
            if new is not None and new.key != key:
                raise UsageError(
                    f"the record of {key!r} cannot be replaced by one of {new.key!r}", detail="key-changed"
                )
            with self._failures("update"):
                if new is None and old is not None:
                    self._execute(connection, _DELETE, (key,))
                elif new is not None and new != old:
                    self._execute(connection, PUT, to_row(new))
                self._execute(connection, "COMMIT")  # of nothing, it writes nothing
            return new

    def find(self, make: Callable[[tuple[Any, ...]], _T], sql: str, values: tuple[Any, ...] = ()) -> tuple[_T, ...]:
        """Return what is made of the rows that one statement finds."""
        with self._job(), self._failures("list"):
            return tuple(map(make, self._execute(self._open(), sql, values)))

    def transact(self, operation: str, work: Callable[[Execute], _T]) -> _T:
        """Do work in one transaction; whatever it raises, nothing changed."""
        with self._job(), self._failures(operation):
            connection = self._open()
            self._execute(connection, "BEGIN IMMEDIATE")
            result = work(partial(self._execute, connection))
            self._execute(connection, "COMMIT")
            return result

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # What was committed is on the disk already; that the log could not be folded in harms nobody.
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()

    # -- what every job does --

    @contextlib.contextmanager
    def _job(self) -> Iterator[None]:
        self._deadline = time.monotonic() + self._busy_timeout
        try:
            yield
        except BaseException:
            # One rule for every failure: closing rolls back, and the next job starts from the file.
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
            raise
        finally:
            if self.leaving:
                self.close()

    @contextlib.contextmanager
    def _failures(self, operation: str) -> Iterator[None]:
        try:
            yield
        # The last two: a value that SQLite cannot hold, a lone surrogate or a huge int; a damaged row.
        except (sqlite3.Error, OSError, OverflowError, ValueError) as error:
            detail = "store-damaged" if isinstance(error, DamagedRow) else "store-busy" if _is_busy(error) else None
            raise StoreError(f"cannot {operation} in {self._path}: {error}", detail=detail) from error

    def _execute(self, connection: sqlite3.Connection, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Run one statement to its end, trying again while another connection is in the way.

        Not SQLite's own `busy_timeout`: that would count anew for each
        statement, and switching to WAL does not honour it.
        """
        pause = 0.001
        while True:
            try:
                return connection.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() >= self._deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 0.02)

    def _read(self, connection: sqlite3.Connection, key: str) -> SessionRecord | None:
        rows = self._execute(connection, _SELECT_ONE, (key,))
        return from_row(rows[0]) if rows else None

    # -- opening --

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        self._create()
        # mode=rw: SQLite itself must never create the file, it would be readable by others.
        uri = f"{self._path.as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
        self._connection = connection
        self._version(connection)  # before anything is written: the file may not be ours
        self._execute(connection, "PRAGMA journal_mode = WAL")
        self._execute(connection, "PRAGMA synchronous = FULL")
        if self._version(connection) < len(MIGRATIONS):
            self._migrate(connection)
        return connection

    def _create(self) -> None:
        parents = self._path.parents
        try:
            for directory in reversed([parent for parent in parents if not parent.exists()]):
                directory.mkdir(mode=0o700, exist_ok=True)
            # The -wal and -shm files get their permissions from this one.
            with _creating, contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"cannot open {self._path}: cannot create {error.filename}: {error.strerror}") from error

    def _version(self, connection: sqlite3.Connection) -> int:
        [(version, application, objects)] = self._execute(connection, _STAMPS)
        if application != _APPLICATION_ID and (application or version or objects):
            raise StoreError(f"{self._path} is the database of another program", detail="store-foreign")
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer version: its format is {version}, known is {len(MIGRATIONS)}",
                detail="store-version",
            )
        return int(version)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        self._execute(connection, "BEGIN IMMEDIATE")
        # Asked again now that nobody else can be migrating.
        for statement in MIGRATIONS[self._version(connection) :]:
            self._execute(connection, statement)
        self._execute(connection, f"PRAGMA application_id = {_APPLICATION_ID}")
        self._execute(connection, f"PRAGMA user_version = {len(MIGRATIONS)}")
        self._execute(connection, "COMMIT")


def _is_busy(error: Exception) -> bool:
    # The low byte is the primary code; the error may be one that SQLite did not make.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
