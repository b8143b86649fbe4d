"""What a scripted agent remembers: sessions and their turns, in memory or as JSON files.

All of it is synchronous and small; the files are a few hundred bytes, except
where a test makes an agent talk very much.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from pathlib import Path

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_KEPT: Final = 10_000


@attrs.define
class RememberedTurn:
    """One turn: the prompt's text, and the beginning of what was replied."""

    prompt: str
    reply: str = ""


@attrs.define(eq=False)
class RememberedSession:
    """A session as it outlives its connections."""

    id: str
    cwd: str
    turns: list[RememberedTurn] = attrs.field(factory=list)


class AgentStore:
    """Sessions by id; with a directory, also those that other processes left there.

    Attributes:
        authenticated: Whether a client has authenticated itself.
    """

    def __init__(self, directory: Path | None, prefix: str) -> None:
        if not _SAFE_ID.fullmatch(prefix):
            raise ValueError(f"{prefix!r} cannot begin the ids of sessions: letters, digits, '.', '_', '-' only")
        self._directory = directory
        self._prefix = prefix
        self._made = 0
        self._sessions: dict[str, RememberedSession] = {}
        self.authenticated = False
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def new(self, cwd: str) -> RememberedSession:
        """Make a session with an id that is not in use."""
        while True:
            self._made += 1
            session = RememberedSession(f"{self._prefix}-{self._made}", cwd)
            if session.id not in self._sessions and self._claim(session):
                self._sessions[session.id] = session
                return session

    def find(self, session_id: str) -> RememberedSession | None:
        """Return a session, from its file if need be."""
        if session_id not in self._sessions and self._directory is not None and _SAFE_ID.fullmatch(session_id):
            path = self._path(self._directory, session_id)
            if path.is_file():
                stored = json.loads(path.read_text("utf-8"))
                turns = [RememberedTurn(**turn) for turn in stored["turns"]]
                self._sessions[session_id] = RememberedSession(session_id, stored["cwd"], turns)
        return self._sessions.get(session_id)

    def save(self, session: RememberedSession) -> None:
        """Write a session's file, if there is a directory: whole or not at all."""
        if self._directory is None:
            return
        path = self._path(self._directory, session.id)
        beside = path.with_suffix(".tmp")
        beside.write_text(self._text(session), "utf-8")
        beside.replace(path)

    def _claim(self, session: RememberedSession) -> bool:
        # Exclusive creation: another process may be making sessions in the same directory.
        if self._directory is None:
            return True
        try:
            with self._path(self._directory, session.id).open("x", encoding="utf-8") as file:
                file.write(self._text(session))
        except FileExistsError:
            return False
        return True

    @staticmethod
    def _path(directory: Path, session_id: str) -> Path:
        return directory / f"{session_id}.json"

    @staticmethod
    def _text(session: RememberedSession) -> str:
        turns = [{"prompt": turn.prompt[:_KEPT], "reply": turn.reply[:_KEPT]} for turn in session.turns]
        return json.dumps({"cwd": session.cwd, "turns": turns})
