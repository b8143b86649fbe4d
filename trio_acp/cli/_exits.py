"""Which exit code tells which error."""

from __future__ import annotations

from typing import Final

from .._errors import AcpError, InvalidOption, SessionMissing, TurnTimedOut

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
TIMEOUT: Final = 3
NO_SESSION: Final = 4
DENIED: Final = 5
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""Whoever read our output has had enough, as after ``| head``: what a shell makes of SIGPIPE."""


def exit_code(error: AcpError) -> int:
    """Return the exit code for an error that ended a command."""
    match error:
        case InvalidOption():
            return USAGE
        case SessionMissing():
            return NO_SESSION
        case TurnTimedOut() | AcpError(detail="setup-timeout"):
            return TIMEOUT
        case _:
            return ERROR
