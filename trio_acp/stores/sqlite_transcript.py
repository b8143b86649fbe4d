"""A transcript in an SQLite file, which may be that of a `SQLiteStore`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from .._errors import InvalidOption
from .._transcript import EntryKind, TranscriptEntry
from ..abc import Transcript
from ._columns import INTEGER, NUMBER, TEXT, Columns, one_of
from ._file import DatabaseFile, KeptInFile
from ._text import storable

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ._database import Database, Execute

_MIB: Final = 2**20
_OVERHEAD: Final = 64
"""Bytes that a row takes besides its body, about."""

_TABLE: Final = Columns(
    "transcript",
    ("turn", "seq"),
    {"session": TEXT, "turn": TEXT, "seq": INTEGER, "time": NUMBER, "kind": one_of(EntryKind), "body": TEXT},
)
_BEGIN: Final = "INSERT OR IGNORE INTO transcript_turns (turn, session, size) VALUES (?, ?, 0)"
# Of a turn that was dropped nothing more is kept: its beginning would be missing.
_PUT: Final = """
    INSERT OR IGNORE INTO transcript (turn, seq, time, kind, body)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM transcript_turns WHERE turn = ?1)
"""
_CHANGES: Final = "SELECT changes()"
_GROW: Final = "UPDATE transcript_turns SET size = size + ? WHERE turn = ?"
_TOTAL: Final = "SELECT total(size) FROM transcript_turns"
_OLDEST: Final = "SELECT turn, size FROM transcript_turns ORDER BY number LIMIT 1"
_TURNS_OF: Final = "SELECT turn FROM transcript_turns WHERE session = ?"
_DROP: Final = ("DELETE FROM transcript WHERE turn = ?", "DELETE FROM transcript_turns WHERE turn = ?")
_SELECT: Final = """
    SELECT session, transcript.turn, seq, time, kind, body
    FROM transcript_turns JOIN transcript ON transcript.turn = transcript_turns.turn
    WHERE session = ? ORDER BY number, seq
"""


class SQLiteTranscript(KeptInFile, Transcript):
    """Keeps what users typed and agents streamed in an SQLite file, its own or that of a `SQLiteStore`.

    Give it to `open_session_manager` without entering it: the manager enters
    and leaves it.  To read it, enter it yourself, with ``async with``.

    It has each turn's prompt, without the contents of attachments, then the
    agent's updates and the answers to its requests for permission, then the
    outcome.  **An agent's updates have what its tools read and wrote**; nothing
    else goes in: no environment, no headers, no tokens of ours.

    What `SQLiteStore` says of its file and its thread holds here too: it is
    created at the first use, for its owner only (mode 0600); an append that
    returned survives the death of the machine; **a cancelled call is
    abandoned, not awaited**.  An entry is never changed.

    Args:
        path: The file.  ``~`` is the home directory.
        max_bytes: How much of the file turns may take, all sessions together;
            to make room, the oldest are dropped whole.  A turn that is longer
            than that by itself is not kept.
        busy_timeout: How long one call waits for other users of the file, seconds.

    Raises:
        InvalidOption: the path, the size or the time cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 64 * _MIB, busy_timeout: float = 2.0) -> None:
        if type(max_bytes) is not int or max_bytes < 1:
            raise InvalidOption(
                f"max_bytes must be a whole number of at least 1, not {max_bytes!r}", detail="invalid-max_bytes"
            )
        self._max_bytes = max_bytes
        self._file = DatabaseFile(path, busy_timeout, "SQLiteTranscript", without="no transcript")

    async def append(self, entries: Sequence[TranscriptEntry]) -> None:
        """Keep entries, in one transaction, and drop the oldest turns if there is no room for all.

        If cancelled, it may still happen, whole, before any later append.

        Raises:
            StoreError: they cannot be written; nothing changed.
        """
        most = self._max_bytes

        def write(execute: Execute) -> None:
            for entry in entries:
                if entry.seq == 0:
                    execute(_BEGIN, (entry.turn, storable(entry.session)))
                body = _to_json(entry.body)
                execute(_PUT, (entry.turn, entry.seq, entry.time, entry.kind, body))
                if execute(_CHANGES) == [(1,)]:
                    execute(_GROW, (len(body) + _OVERHEAD, entry.turn))
            _make_room(execute, most)

        await self._file.run(lambda database: database.transact("append", write))

    async def list(self, session: str) -> tuple[TranscriptEntry, ...]:
        """Return what is kept of a session: turn by turn, in the order in which they began.

        If cancelled, nothing was read.

        Raises:
            StoreError: it cannot be read.
        """

        def read(database: Database) -> tuple[TranscriptEntry, ...]:
            return database.find(_from_row, _SELECT, (storable(session),))

        return await self._file.run(read)

    async def forget(self, session: str) -> int:
        """Delete what is kept of a session, in one transaction; return how many turns that were.

        If cancelled, it may still happen, whole.

        Raises:
            StoreError: it cannot be deleted; nothing changed.
        """

        def delete(execute: Execute) -> int:
            turns = execute(_TURNS_OF, (storable(session),))
            for (turn,) in turns:
                _drop(execute, turn)
            return len(turns)

        return await self._file.run(lambda database: database.transact("forget", delete))


def _to_json(body: dict[str, Any]) -> str:
    """Write a body; a runtime may put anything into an event, and one that cannot be written must not stop the rest."""
    try:
        return json.dumps(body, default=repr)
    except Exception as error:  # noqa: BLE001 - a key that is no text, a circle, a `repr` that raises whatever it likes
        return json.dumps({"type": body["type"], "unwritable": type(error).__name__})


def _make_room(execute: Execute, most: int) -> None:
    [(total,)] = execute(_TOTAL)
    while total > most:
        [(turn, size)] = execute(_OLDEST)
        _drop(execute, turn)
        total -= size


def _drop(execute: Execute, turn: str) -> None:
    for statement in _DROP:
        execute(statement, (turn,))


def _from_row(row: tuple[Any, ...]) -> TranscriptEntry:
    values = _TABLE.read(row)
    body = _TABLE.json(values, "body")
    if not isinstance(body, dict):
        raise _TABLE.damaged(values, "body", "it is no JSON object")
    return TranscriptEntry(**values | {"body": body})
