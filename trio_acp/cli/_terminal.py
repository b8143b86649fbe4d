"""The terminal that a chat is typed on: its mode, which is always given back, and what comes from it."""

from __future__ import annotations

import errno
import os
import select
import signal
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from types import TracebackType

_PASTE_ON, _PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
_SHOW_CURSOR: Final = b"\x1b[?25h\x1b[?7h"
_CHUNK = 65536
_INPUT, _LOCAL, _CHARACTERS = 0, 3, 6


class Terminal:
    """A terminal in cbreak mode for a block: keys come one by one and are not echoed, signals work as usual.

    The mode is given back when the block is left, however that happens, and
    while the process is stopped.

    Args:
        stdin: The descriptor keys are read from.
        stdout: The descriptor of what is shown.
    """

    def __init__(self, stdin: int, stdout: int) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._before: list[Any] = termios.tcgetattr(stdin)
        self._active = False

    def __enter__(self) -> Terminal:
        self.activate()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.give_back()

    def activate(self) -> None:
        """Go into cbreak mode; also when something else has changed the mode meanwhile."""
        mode = list(self._before)
        mode[_INPUT] |= termios.ICRNL
        # Without IEXTEN Ctrl-V and Ctrl-O are keys; with NOFLSH Ctrl-C drops neither keys nor half a picture.
        mode[_LOCAL] &= ~(termios.ICANON | termios.ECHO | termios.IEXTEN)
        mode[_LOCAL] |= termios.ISIG | termios.NOFLSH
        mode[_CHARACTERS] = list(mode[_CHARACTERS])
        mode[_CHARACTERS][termios.VMIN], mode[_CHARACTERS][termios.VTIME] = 1, 0
        self._active = True
        self._set(mode)
        self._tell(_PASTE_ON)

    def give_back(self) -> None:
        """Set the mode that was found; at once, also if the terminal is stopped.  Idempotent."""
        if self._active:
            self._active = False
            self._tell(_PASTE_OFF + _SHOW_CURSOR)
            self._set(self._before)

    def stop_process(self) -> None:
        """Stop as Ctrl-Z has it, with the mode given back; return in cbreak mode once continued."""
        self.give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            # The default action, not SIGSTOP: where nobody could continue the process, it is ignored.
            signal.raise_signal(signal.SIGTSTP)
        finally:
            signal.signal(signal.SIGTSTP, handler)
        self.activate()

    def size(self) -> tuple[int, int]:
        """Return how many columns and lines there are; 80 and 24 if the terminal does not know."""
        try:
            columns, lines = os.get_terminal_size(self._stdout)
        except OSError:
            columns = lines = 0
        return columns or 80, lines or 24

    async def read(self) -> bytes:
        """Wait for keys; empty once the terminal has been hung up.  If cancelled, nothing was read."""
        await trio.lowlevel.wait_readable(self._stdin)
        return self._read()

    def read_now(self) -> bytes:
        """Return the keys that wait, if any."""
        return self._read() if _ready(self._stdin, select.POLLIN) else b""

    def _read(self) -> bytes:
        try:
            return os.read(self._stdin, _CHUNK)
        except OSError:
            return b""

    def _set(self, mode: list[Any]) -> None:
        while True:
            try:
                termios.tcsetattr(self._stdin, termios.TCSANOW, mode)
            except termios.error as error:
                if error.args[0] == errno.EINTR:  # we were in the background, stopped for it, and continued
                    continue
            return  # another error means that it was hung up: reading finds that out

    def _tell(self, sequence: bytes) -> None:
        """Write a few bytes, unless that could block: the terminal may be stopped."""
        if _ready(self._stdout, select.POLLOUT):
            with suppress(OSError):
                os.write(self._stdout, sequence)


def _ready(fd: int, event: int) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return any(found & event for _, found in poll.poll(0))
