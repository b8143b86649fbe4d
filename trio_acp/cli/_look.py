"""Opening a stored session at its agent, to look at it: no manager, and nothing is written into the store."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs
import trio

from .._errors import AcpError, BackendUnavailable, SessionInUse, TurnFailed, UsageError
from .._events import UserText
from .._limits import Limits
from .._owner import is_alive
from .._service import shielded
from .._transcript import TranscriptEntry, event_value
from ..abc import EnsureRequest
from ._backend import find_backend, require_url_for_its_options
from ._why import why

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Sequence

    from .._events import Event
    from .._records import SessionRecord
    from .._transcript import EntryKind
    from ..acp.link import AcpHandle
    from ..acp.runtime import AcpRuntime
    from ._backend import Backend

OPEN_SECONDS: Final = 60.0
"""For reaching the agent, and for it to resume the session."""
CLOSE_SECONDS: Final = 2.0
_QUIET: Final = 0.5
"""Seconds without a word after which a replay is over: some agents send it behind their answer."""


def optional_backend(options: argparse.Namespace) -> Backend | None:
    """Return the agent that the options name, if they name one.

    Raises:
        InvalidOption: an option has a value that it cannot have.
        SystemExit: options do not go together.
    """
    if any(getattr(options, name, None) is not None for name in ("url", "stdio", "agent")):
        return find_backend(options)
    require_url_for_its_options(options)
    return None


@attrs.define
class Opened:
    """A session that is open at its agent.

    Attributes:
        replayed: What the agent has sent of it.
    """

    runtime: AcpRuntime
    handle: AcpHandle
    replayed: list[Event]


@asynccontextmanager
async def opened(backend: Backend, record: SessionRecord, *, replay: bool = False) -> AsyncIterator[Opened]:
    """Resume a session at its agent for the block, and close it there again; the agent keeps the conversation.

    If cancelled, both are given up within some seconds.

    Raises:
        SessionInUse: a process that is alive has the session open.
        UsageError: it was never opened at an agent.
        TurnFailed: with detail ``setup-timeout``: the agent took too long.
        AcpError: the agent cannot be reached, or refused.
    """
    if record.owner is not None and is_alive(record.owner):
        pid = record.owner.pid
        raise SessionInUse(f"process {pid} has session {record.key!r} open; ask again when it is done", pid=pid)
    if record.session_id is None:
        raise UsageError(f"session {record.key!r} has no conversation at an agent")
    replayed: list[Event] = []
    runtime = backend.make_runtime()
    if replay:
        runtime.on_replay = replayed.append
    request = EnsureRequest(key=record.key, mode=record.mode, cwd=record.working_directory, resume=record.session_id)
    async with runtime:
        handle: AcpHandle | None = None
        with trio.move_on_after(OPEN_SECONDS):
            try:
                handle = await runtime.ensure_session(request)
            except BackendUnavailable as error:
                words = why(error, command=backend.command, limits=Limits(), timeout=None)
                raise BackendUnavailable(words, detail=error.detail) from error
        if handle is None:
            raise TurnFailed(f"the agent did not answer within {OPEN_SECONDS:g} s", detail="setup-timeout")
        try:
            yield Opened(runtime, handle, replayed)
        finally:
            # What was to be seen was seen; the connection ends next.
            with shielded(CLOSE_SECONDS), suppress(AcpError):
                await runtime.close(handle, "looked at")


async def replay_of(backend: Backend, record: SessionRecord) -> tuple[TranscriptEntry, ...]:
    """Return what the agent replays of a session, if it does; when that was is not told.

    Raises: what `opened` raises.
    """
    async with opened(backend, record, replay=True) as session:
        with trio.move_on_after(OPEN_SECONDS):
            heard = -1
            while heard < len(session.replayed):
                heard = len(session.replayed)
                await trio.sleep(_QUIET)
        return as_entries(record.key, session.replayed)


def as_entries(key: str, events: Sequence[Event]) -> tuple[TranscriptEntry, ...]:
    """Return replayed events as a transcript: what the user said begins a turn."""
    entries: list[TranscriptEntry] = []
    turn, in_prompt = 0, False
    for event in events:
        if isinstance(event, UserText):
            if in_prompt:
                entries[-1].body["text"] += event.text
                continue
            turn += 1
            body = {"type": "prompt", "text": event.text}
        elif not turn:
            continue  # commands and modes are told before anything was said
        else:
            body = event_value(event)
        in_prompt = isinstance(event, UserText)
        seq = 0 if in_prompt else entries[-1].seq + 1
        kind: EntryKind = "prompt" if in_prompt else "event"
        entries.append(TranscriptEntry(session=key, turn=str(turn), seq=seq, time=0.0, kind=kind, body=body))
    return tuple(entries)
