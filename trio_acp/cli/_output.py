"""Writing to standard output and standard error without keeping Trio waiting."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

import trio

if TYPE_CHECKING:
    from typing import Self

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Output:
    """One of the standard streams, written to in a worker thread.

    A pager or a full pipe can stop a write for ever.  Deadlines and signals
    are kept meanwhile: a cancelled write is left to its thread, which does not
    keep the process from ending.

    Args:
        stream: Only its descriptor and encoding are used.  None, as for a
            stream that was closed before the program started, swallows all.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._fd = None if stream is None else stream.fileno()
        self._encoding = (None if stream is None else stream.encoding) or "utf-8"
        self.is_terminal = self._fd is not None and os.isatty(self._fd)
        dumb = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        self._can_dim = self.is_terminal and not dumb

    @classmethod
    def stdout(cls) -> Self:
        """Return the one for standard output."""
        return cls(sys.stdout)

    @classmethod
    def stderr(cls) -> Self:
        """Return the one for standard error."""
        return cls(sys.stderr)

    def dim(self, line: str) -> str:
        """Make a line recede, where the stream is a terminal that can show that."""
        return f"{_DIM}{line}{_PLAIN}" if self._can_dim else line

    async def write(self, text: str) -> None:
        """Write all of it; cancelled, any part of it may have been or will be written.

        Characters that the stream's encoding lacks are written as escapes.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        if self._fd is None:
            await trio.lowlevel.checkpoint()
            return
        data = text.encode(self._encoding, "backslashreplace")
        await trio.to_thread.run_sync(_write_all, self._fd, data, abandon_on_cancel=True)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def complain(line: str, *, interrupted: bool = False) -> None:
    """Write the one line that says why the command failed; what cannot be written is lost.

    If it was interrupted, a terminal shows ``^C``, and the line goes over that.
    """
    try:
        over = "\r" if interrupted and sys.stderr is not None and sys.stderr.isatty() else ""
        print(f"{over}trio-acp: {line}", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None  # else the interpreter tries it again on its way out


def forget_stdout() -> None:
    """Point standard output at nothing, so that the interpreter's last flush finds no broken pipe."""
    if sys.stdout is not None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
