"""Log records on standard error and in a file: one safe line each, or nothing at all."""

from __future__ import annotations

import datetime as dt
import logging
import os
import stat
from typing import TYPE_CHECKING

from .._errors import InvalidOption
from ._text import one_line

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST = 2000
_LONGEST_IN_FILE = 20000


class _SafeLines(logging.Formatter):
    """A record quotes agents too, so it is made harmless like everything else of theirs."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(f"trio-acp: {record.levelname.lower()}: {super().format(record)}", _LONGEST)


class _SafeTimedLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = dt.datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        words = f"{when} {record.levelname.lower()} {record.name}: {super().format(record)}"
        return one_line(words, _LONGEST_IN_FILE)


def log_to_stderr(level: int | None) -> None:
    """Show what this package logs from `level` on; None shows nothing.

    Other packages' records are never shown: trio-websocket's have the query of the URL.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # or the last resort would print warnings as they are
    ours = logging.getLogger("trio_acp")
    kept: list[logging.Handler] = [handler for handler in ours.handlers if isinstance(handler, logging.FileHandler)]
    ours.handlers = kept
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeLines())
    handler.setLevel(level)
    ours.setLevel(logging.DEBUG if kept else level)
    ours.addHandler(handler)
    ours.propagate = False


def log_to_file(path: Path) -> None:
    """Append what this package logs, of every level, to a file that only its owner can read.

    No message to or from an agent is ever logged, and no token.

    Raises:
        InvalidOption: it cannot be written, or is no file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidOption(f"--log-file {path}: cannot write it: {error.strerror}", detail="log-file") from None
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if regular:
            os.fchmod(descriptor, 0o600)  # it may have been there before
    finally:
        os.close(descriptor)
    if not regular:
        # A pipe or a terminal could keep the program waiting.
        raise InvalidOption(f"--log-file {path}: that is no file", detail="log-file")
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_SafeTimedLines())
    ours = logging.getLogger("trio_acp")
    ours.setLevel(logging.DEBUG)
    ours.handlers = [handler]
    ours.propagate = False
