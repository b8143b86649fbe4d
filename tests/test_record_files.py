"""Audit and transcript in a file that is old, torn, or whose writer was killed."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from trio_acp import Owner, SQLiteAudit, SQLiteStore, SQLiteTranscript, StoreError
from trio_acp._audit import sha256_of
from trio_acp.abc import AuditRecord, TranscriptEntry
from trio_acp.stores._database import MIGRATIONS

if TYPE_CHECKING:
    from trio_acp.abc import SessionRecord

OWNER = Owner(pid=1, start_time=2, boot_id="b", manager_id="m")
RECORD = AuditRecord(
    id="0", time=1.0, owner=OWNER, event="permission", decision="deny", rule="r", title_sha256=sha256_of("")
)
ENTRY = TranscriptEntry(session="k", turn="0", seq=0, time=1.0, kind="prompt", body={"type": "prompt", "text": "a"})
WRITER = Path(__file__).with_name("programs") / "record_forever.py"


@pytest.mark.parametrize("version", range(len(MIGRATIONS)))
async def test_a_file_of_any_older_format_is_upgraded(tmp_path: Path, version: int) -> None:
    """Its sessions are kept, and audit and transcript can be written and read."""
    path = tmp_path / "sessions.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in MIGRATIONS[:version]:
            connection.execute(statement)
        if version:
            connection.execute(
                "INSERT INTO sessions (key, agent, mode, state, last_activity) VALUES ('k', 'a', 'oneshot', 'idle', 1)"
            )
            connection.execute("PRAGMA application_id = 0x74414350")
        connection.execute(f"PRAGMA user_version = {version}")
    async with SQLiteAudit(path) as audit, SQLiteTranscript(path) as kept, SQLiteStore(path) as store:
        await audit.append([RECORD])
        await kept.append([ENTRY])
        assert ((RECORD,), (ENTRY,)) == (await audit.list(), await kept.list("k"))
        stored: tuple[SessionRecord, ...] = await store.list()
        assert (["k"] if version else []) == [record.key for record in stored]


async def read(path: Path) -> tuple[list[str], list[str]]:
    """Return the ids of the audit records, and the turn of each entry."""
    async with SQLiteAudit(path) as audit, SQLiteTranscript(path) as kept:
        return [record.id for record in await audit.list()], [entry.turn for entry in await kept.list("k")]


def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """After SIGKILL, several times: the file is sound, every batch that returned is there, and each is whole."""
    path = tmp_path / "sessions.db"
    for round_ in range(4):
        committed = -1
        with subprocess.Popen([sys.executable, WRITER, path], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                committed = int(line)
                if committed >= 7 * (round_ + 1):
                    process.kill()
        ids, turns = trio.run(read, path)
        batches = [key for key, _ in groupby(name.partition(".")[0] for name in ids)]
        assert [f"{batch}.{part}" for batch in batches for part in range(3)] == ids
        assert {str(number) for number in range(committed + 1)} <= set(batches)
        assert {str(number) for number in range(committed + 1)} <= set(turns)
        assert {3} == {turns.count(turn) for turn in turns}
        with closing(sqlite3.connect(path)) as connection:
            assert [("ok",)] == connection.execute("PRAGMA integrity_check").fetchall()


async def test_a_torn_log_has_whole_batches_from_the_beginning(tmp_path: Path) -> None:
    """However much of the write-ahead log reached the disk, what is read is a prefix of what was appended."""
    path = tmp_path / "sessions.db"
    batches = [[attrs.evolve(RECORD, id=f"{batch}.{part}") for part in range(2)] for batch in range(6)]
    turns = [[attrs.evolve(ENTRY, turn=str(batch), seq=part) for part in range(2)] for batch in range(6)]
    torn = tmp_path / "torn"
    async with SQLiteAudit(path) as audit, SQLiteTranscript(path) as kept:
        for batch, turn in zip(batches, turns, strict=True):
            await audit.append(batch)
            await kept.append(turn)
        torn.mkdir()
        for name in ("sessions.db", "sessions.db-wal"):
            shutil.copy(tmp_path / name, torn / name)
    whole = (torn / "sessions.db-wal").read_bytes()
    before = (torn / "sessions.db").read_bytes()
    prefixes = {sum(map(len, batches[:n])): sum(batches[:n], []) for n in range(7)}  # noqa: RUF017 - of seven
    lengths = set()
    for size in [*range(0, len(whole), 2111), len(whole)]:
        for left in torn.iterdir():
            left.unlink()
        (torn / "sessions.db").write_bytes(before)
        (torn / "sessions.db-wal").write_bytes(whole[:size])
        async with SQLiteAudit(torn / "sessions.db") as audit, SQLiteTranscript(torn / "sessions.db") as kept:
            found = list(await audit.list())
            assert prefixes[len(found)] == found
            entries = [entry.turn for entry in await kept.list("k")]
        assert [str(n) for n in range(len(entries) // 2) for _ in range(2)] == entries
        lengths.add(len(found))
    assert set(prefixes) == lengths


@pytest.mark.parametrize("size", [100, 1000, 5000])
async def test_a_file_that_was_cut_is_an_error_of_the_store(tmp_path: Path, size: int) -> None:
    """What is no database any more is named by one kind of error, and is not touched."""
    path = tmp_path / "sessions.db"
    async with SQLiteAudit(path) as audit:
        await audit.append([RECORD])
    path.write_bytes(path.read_bytes()[:size])
    for log in (SQLiteAudit(path), SQLiteTranscript(path)):
        async with log:
            with pytest.raises(StoreError, match=r"sessions\.db"):
                await (log.list("k") if isinstance(log, SQLiteTranscript) else log.list())
    assert size == path.stat().st_size
