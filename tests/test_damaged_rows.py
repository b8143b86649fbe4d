"""Rows of the SQLite file that we did not write: each is one typed error that says where the damage is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli_kit import run_cli
from trio_acp import (
    Identity,
    Owner,
    SessionRecord,
    SQLiteAudit,
    SQLiteLedger,
    SQLiteStore,
    SQLiteTranscript,
    StoreError,
    TaskRecord,
)
from trio_acp._audit import AuditRecord
from trio_acp._transcript import TranscriptEntry
from trio_acp.stores import _rows, _task_rows, sqlite_audit, sqlite_transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from trio_acp.stores._columns import Columns

OWNER = Owner(pid=1, start_time=2, boot_id="b", manager_id="m")
SESSION = SessionRecord(key="k", agent="a", owner=OWNER, identity=Identity(session_id="s", state="resolved"))
TASK = TaskRecord(run_id="k", requester="r", session="s", task="t", started=1.0, owner=OWNER)
AUDIT = AuditRecord(id="k", time=1.0, owner=OWNER, event="e", decision="deny", rule="r", title_sha256="0")
ENTRY = TranscriptEntry(session="s", turn="k", seq=0, time=1.0, kind="prompt", body={"type": "prompt", "text": "x"})

TABLES: dict[str, Columns] = {
    table.table: table for table in (_rows._TABLE, _task_rows._TABLE, sqlite_audit._TABLE, sqlite_transcript._TABLE)
}


async def fill(path: Path) -> None:
    """Put one row into every table, as we write them."""
    async with SQLiteStore(path) as store, SQLiteLedger(path) as ledger:
        await store.update("k", lambda _: SESSION)
        await ledger.put(TASK)
    async with SQLiteAudit(path) as audit, SQLiteTranscript(path) as transcript:
        await audit.append([AUDIT])
        await transcript.append([ENTRY])


async def read(path: Path, table: str) -> object:
    """Read all of a table."""
    match table:
        case "sessions":
            async with SQLiteStore(path) as store:
                return await store.list()
        case "tasks":
            async with SQLiteLedger(path) as ledger:
                return await ledger.list()
        case "audit":
            async with SQLiteAudit(path) as audit:
                return await audit.list()
        case _:
            async with SQLiteTranscript(path) as transcript:
                return await transcript.list("s")


def execute(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    """Change the file behind the back of whoever checks values."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement, values in statements:
            connection.execute(statement, values)


def columns() -> Iterable[tuple[str, str]]:
    """Yield each column of each table, but for those by which an entry of a transcript is found."""
    for name, table in TABLES.items():
        for column in table.kinds:
            if (name, column) not in {("transcript", "session"), ("transcript", "turn")}:
                yield name, column


@pytest.mark.parametrize(("table", "column"), list(columns()))
async def test_what_no_column_holds_is_told_with_its_place(tmp_path: Path, table: str, column: str) -> None:
    """Bytes in any column of any table are one error, which names file, table, row and column."""
    path = tmp_path / "s.db"
    await fill(path)
    await read(path, table)
    execute(path, (f"UPDATE {table} SET {column} = x'fe'", ()))  # noqa: S608 - our own names
    with pytest.raises(StoreError) as caught:
        await read(path, table)
    row = r"b'\xfe'" if column in TABLES[table].key and table != "transcript" else "'k'"
    assert "store-damaged" == caught.value.detail
    assert str(caught.value).startswith(f"cannot list in {path}: table {table}, row {row}")
    assert rf", column {column}: b'\xfe' is not " in str(caught.value)


@pytest.mark.parametrize(
    ("table", "column", "value", "why"),
    [
        ("sessions", "state", "asleep", "'asleep' is not one of idle, running, error"),
        ("sessions", "last_activity", "x" * 10**6, f"'{'x' * 60}'... is not a number"),
        ("sessions", "owner_boot_id", None, "it is missing"),
        ("sessions", "identity_source", None, "it is missing"),
        ("sessions", "options", "[]", "it is no JSON object"),
        ("sessions", "options", "[" * 10**5, "it is no JSON: "),
        ("sessions", "processes", "[[1, true]]", "it is no list of pairs of numbers"),
        ("tasks", "status", "lost", "'lost' is not one of running, succeeded, failed, timed_out, cancelled"),
        ("tasks", "owner_start_time", None, "it is missing"),
        ("audit", "decision", "maybe", "'maybe' is not one of allow, deny, cancel"),
        ("transcript", "body", "[]", "it is no JSON object"),
        ("transcript", "body", "{", "it is no JSON: "),
    ],
)
async def test_what_a_column_does_not_hold(tmp_path: Path, table: str, column: str, value: object, why: str) -> None:
    """A word that means nothing, half an owner, or what is no JSON, is told in a line of bounded length."""
    path = tmp_path / "s.db"
    await fill(path)
    execute(path, (f"UPDATE {table} SET {column} = ?", (value,)))  # noqa: S608 - our own names
    with pytest.raises(StoreError) as caught:
        await read(path, table)
    said = str(caught.value).removeprefix(f"cannot list in {path}: ")
    assert ("store-damaged", True) == (caught.value.detail, f", column {column}: {why}" in said)
    assert len(said) < 250


MAKERS: list[tuple[Callable[[Any], tuple[Any, ...]], Callable[[tuple[Any, ...]], object], object]] = [
    (_rows.to_row, _rows.from_row, SESSION),
    (_task_rows.to_row, _task_rows.from_row, TASK),
    (sqlite_audit._to_row, sqlite_audit._from_row, AUDIT),
]


@pytest.mark.parametrize(("write", "make", "record"), MAKERS)
def test_what_we_write_we_read(
    write: Callable[[Any], tuple[Any, ...]], make: Callable[[tuple[Any, ...]], object], record: object
) -> None:
    """A row of ours becomes the record that it was made of."""
    assert record == make(write(record))


def test_an_answer_without_an_owner_is_damaged() -> None:
    """An audit record always names who answered."""
    row = dict(zip(sqlite_audit._COLUMNS, sqlite_audit._to_row(AUDIT), strict=True)) | {"owner_pid": None}
    with pytest.raises(ValueError, match="table audit, row 'k', column owner_pid: it is missing"):
        sqlite_audit._from_row(tuple(row.values()))


async def test_a_damaged_row_can_be_told_but_not_another_store_be_asked_for(tmp_path: Path) -> None:
    """The command line tells where the damage is; another ``--store`` would be no remedy."""
    path = tmp_path / "s.db"
    await fill(path)
    execute(path, ("UPDATE sessions SET label = x'00'", ()))
    done = await run_cli("sessions", "list", "--store", str(path))
    [line] = done.stderr.decode().splitlines()
    place = "table sessions, row 'k', column label"
    assert (1, f"trio-acp: cannot list in {path}: {place}: b'\\x00' is not a text") == (done.returncode, line)
