"""Log records on standard error: one safe line each, or nothing at all."""

from __future__ import annotations

import logging

from ._text import one_line

_LONGEST = 2000


class _SafeLines(logging.Formatter):
    """A record quotes agents too, so it is made harmless like everything else of theirs."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(f"trio-acp: {record.levelname.lower()}: {super().format(record)}", _LONGEST)


def log_to_stderr(level: int | None) -> None:
    """Show what this package logs from `level` on; None shows nothing.

    Other packages' records are never shown: trio-websocket's have the query of the URL.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # or the last resort would print warnings as they are
    if level is None:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeLines())
    ours = logging.getLogger("trio_acp")
    ours.setLevel(level)
    ours.handlers = [handler]
    ours.propagate = False
