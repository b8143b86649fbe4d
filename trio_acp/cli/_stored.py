"""What the store's file says about sessions, for commands that start no agent."""

from __future__ import annotations

import difflib
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio

from .._errors import InvalidOption, SessionMissing, StoreError
from .._keys import canonical_key
from .._limits import Settings
from .._owner import is_alive
from .._ownership import INTERRUPTED, is_left_behind
from ..stores import SQLiteAudit, SQLiteLedger, SQLiteStore, SQLiteTranscript
from ._store import USUAL_AGENT
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from .._audit import AuditRecord
    from .._records import Owner, SessionRecord
    from .._tasks import TaskRecord
    from .._transcript import TranscriptEntry

_T = TypeVar("_T")
PATIENCE: Final = 10.0
"""Seconds that reading the store may take."""


def is_there(path: Path) -> bool:
    """Whether there is a file.  Reading a store would make one, and readers make nothing."""
    return path.exists()


async def in_time(reading: Awaitable[_T], path: Path) -> _T:
    """Await a call into the store's file.

    Raises:
        StoreError: what it raises, or that it took too long.
    """
    with trio.move_on_after(PATIENCE):
        return await reading
    raise StoreError(f"{path} did not answer within {PATIENCE:g} s", detail="store-timeout")


async def stored_sessions(path: Path) -> tuple[SessionRecord, ...]:
    """Return every session of a store, by its key; none, and no file is made, if there is no file."""
    if not is_there(path):
        return ()
    async with SQLiteStore(path) as store:
        return await in_time(store.list(), path)


async def stored_session(path: Path, key: str) -> SessionRecord:
    """Return one session.

    Raises:
        InvalidOption: the name is empty.
        SessionMissing: there is none of this name; the message has the nearest names.
    """
    if not key.strip():
        raise InvalidOption("KEY is empty; trio-acp sessions list shows all", detail="empty-key")
    sessions = {record.key: record for record in await stored_sessions(path)}
    wanted = canonical_key(key, Settings())
    if wanted in sessions:
        return sessions[wanted]
    near = [one_line(name, 60) for name in difflib.get_close_matches(wanted, sessions, n=3, cutoff=0.5)]
    hint = f"; did you mean {', '.join(near)}?" if near else "; trio-acp sessions list shows all" if sessions else ""
    raise SessionMissing(f"there is no session {wanted!r} in {path}{hint}")


async def recorded(path: Path, key: str) -> tuple[TranscriptEntry, ...]:
    """Return what the transcript has of a session."""
    if not is_there(path):
        return ()
    async with SQLiteTranscript(path) as transcript:
        return await in_time(transcript.list(key), path)


async def audited(path: Path, key: str | None = None) -> tuple[AuditRecord, ...]:
    """Return the audit records of a session, or all."""
    if not is_there(path):
        return ()
    async with SQLiteAudit(path) as audit:
        return await in_time(audit.list(session=key), path)


async def tasks(path: Path, key: str | None = None) -> tuple[TaskRecord, ...]:
    """Return the tasks of a session, or all, oldest first."""
    if not is_there(path):
        return ()
    async with SQLiteLedger(path) as ledger:
        return tuple(task for task in await in_time(ledger.list(), path) if key in {None, task.session})


# -- in words -----------------------------------------------------------------


def state_of(record: SessionRecord) -> str:
    """Return a session's state; one whose owner died while it ran is interrupted, whoever will notice first.

    One with nothing to resume is closed: the next prompt begins a conversation.
    """
    if record.state == "idle" and not (record.session_id or record.agent_session_id):
        return "closed"
    return INTERRUPTED if record.state == "running" and is_left_behind(record, is_alive) else record.state


def agent_of(record: SessionRecord) -> str:
    """Return the name of a session's agent; empty for the one that commands give to all."""
    return "" if record.agent == USUAL_AGENT else record.agent


def owner_of(owner: Owner | None) -> str:
    """Return who has a session open."""
    if owner is None:
        return ""
    return f"process {owner.pid}" if is_alive(owner) else f"process {owner.pid}, dead"


def stamp(seconds: float) -> str:
    """Return a wall-clock time in UTC; empty for none, and for what no calendar has."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds)) if seconds > 0 else ""
    except (OverflowError, ValueError, OSError):
        return ""


def session_value(record: SessionRecord) -> dict[str, Any]:
    """Return a session as JSON."""
    owner = record.owner
    options = attrs.asdict(record.options, filter=lambda _, value: bool(value), value_serializer=_plain)
    return {
        "type": "session",
        "key": record.key,
        "agent": record.agent,
        "mode": record.mode,
        "state": state_of(record),
        "cwd": record.working_directory,
        "session_id": record.session_id,
        "agent_session_id": record.agent_session_id,
        "last_error": record.last_error,
        "last_activity": record.last_activity,
        "owner": None if owner is None else {"pid": owner.pid, "alive": is_alive(owner)},
        "options": options,
        "requester": record.requester,
        "label": record.label,
    }


def _plain(_: object, __: object, value: Any) -> Any:
    return dict(value) if hasattr(value, "items") else value
