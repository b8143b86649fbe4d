"""What went on in the turns of a command: for ``--trace`` in a file of its own, for ``--log-file`` in the log."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._trace_file import TraceFile
from ..abc import Instrument

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator

    from .._trace import TraceRecord

_log = logging.getLogger(__name__)


def add_trace_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trace``."""
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what goes on, for `timeline`")


class _Logged(Instrument):
    """Logs the steps of each turn, and passes on what it hears."""

    def __init__(self, trace: TraceFile | None) -> None:
        self.events = trace is not None and trace.events
        self._trace = trace

    def record(self, record: TraceRecord) -> None:
        if record.name != "event":  # there may be thousands
            told = {name: value for name, value in record.data.items() if value is not None and name != "limits"}
            details = "".join(f", {name} {value}" for name, value in told.items())
            _log.debug("session %s, turn %s: %s%s", record.session, record.turn, record.name, details)
        if self._trace is not None:
            self._trace.record(record)


@asynccontextmanager
async def open_trace(path: Path | None) -> AsyncIterator[Instrument | None]:
    """Open the file that ``--trace`` named, around the manager; yield what hears of the turns, if anything does.

    If cancelled, what was recorded is written all the same, within 5 seconds.

    Raises:
        InvalidOption: the file cannot be written.
    """
    async with AsyncExitStack() as stack:
        trace = None if path is None else await stack.enter_async_context(TraceFile(path))
        yield _Logged(trace) if _log.isEnabledFor(logging.DEBUG) else trace
