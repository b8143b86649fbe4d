"""When doing the same again cannot do it twice, and when a backend was gone anyway.

Errors are judged by their type and by what their adapter says of them.  One
exception: the adapter ``acpx`` says only in words that its process ended before
it began, so these words are known, here and nowhere else.  They count in an
adapter's own error; what an agent wrote, or a connection, is not searched.
"""

from __future__ import annotations

import re
from typing import Final

from ._errors import (
    AcpError,
    BackendMissing,
    BackendUnavailable,
    ConnectionLost,
    SessionInitFailed,
    StoreError,
    UnsupportedControl,
    UsageError,
    WireError,
)

_EXITED: Final = re.compile(r"\s*acpx exited with (code [0-9]+|signal [a-z0-9]+)", re.IGNORECASE | re.ASCII)


def exited(error: AcpError) -> bool:
    """Whether an adapter's error says that its process ended before it began."""
    if isinstance(error, WireError | UsageError | StoreError):
        return False
    foreign = error.__cause__ if error.detail == "adapter-error" else None
    return _EXITED.match(str(foreign or error)) is not None


def nothing_was_started(error: AcpError) -> bool:
    """Whether a turn, or a setup, that failed so can be tried again."""
    return error.retryable or exited(error)


def backend_is_gone(error: AcpError, *, discarding: bool) -> bool:
    """Whether a close that failed so can be left at that, because there is nothing that could be closed.

    Args:
        discarding: The session is not to be resumed, so that one which the
            backend could not open, or cannot close, is none either.
    """
    if discarding and isinstance(error, SessionInitFailed | UnsupportedControl):
        return True
    gone = isinstance(error, BackendMissing | BackendUnavailable | ConnectionLost)
    return gone or error.detail == "close-timeout" or exited(error)
