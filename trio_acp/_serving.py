"""Which session and turn the running task serves, for the log.

A context variable: tasks inherit it from whoever started them.  The actor of a
session sets it for each request, so the calls into adapters that it starts
have it too.  The task of a connection, which belongs to all sessions, clears
it, whoever needed the connection first; the tasks that answer an agent's
requests set it again.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVED: Final = ContextVar("trio_acp_served", default=("", ""))


def served() -> tuple[str, str]:
    """Return the key of the session and the id of the turn; empty if there is none."""
    return _SERVED.get()


def serve(session: str = "", turn: str = "") -> None:
    """From now on this task, and what it starts, serves that session and turn."""
    _SERVED.set((session, turn))


@contextmanager
def serving(session: str, turn: str = "") -> Iterator[None]:
    """Serve that session and turn within the block."""
    token = _SERVED.set((session, turn))
    try:
        yield
    finally:
        _SERVED.reset(token)
