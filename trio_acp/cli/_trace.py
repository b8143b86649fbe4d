"""The option ``--trace``: what went on in the turns of a command, in a file for ``trio-acp timeline``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._trace_file import TraceFile

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


def add_trace_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--trace``."""
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what goes on, for `timeline`")


@asynccontextmanager
async def open_trace(path: Path | None) -> AsyncIterator[TraceFile | None]:
    """Open the file that ``--trace`` named, around the manager; without one, yield None.

    If cancelled, what was recorded is written all the same, within 5 seconds.

    Raises:
        InvalidOption: the file cannot be written.
    """
    if path is None:
        yield None
        return
    async with TraceFile(path) as trace:
        yield trace
