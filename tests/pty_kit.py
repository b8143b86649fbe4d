"""A program on a real pseudo-terminal, and pyte to see what a user would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pyte
import trio

from tests.cli_kit import CLI
from tests.forks import Command, can_fork, fork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

SECONDS = 60.0
"""For anything to be seen: machines are busy."""


class TerminalWindow:
    """A terminal emulator with a program in it.

    Attributes:
        raw: Everything that the program wrote.
        screen: What is seen, with what has scrolled away above it.
        before: The terminal's attributes when nothing had changed them yet.
    """

    def __init__(self, master: int, slave: int, columns: int, lines: int) -> None:
        self.master = master
        self.slave = slave
        self.raw = b""
        self.screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self.process: trio.Process | Command | None = None
        self.before: list[Any] = self.mode()
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size, as by pulling at the window's corner; the kernel tells the program."""
        self.screen.resize(lines, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str | bytes) -> None:
        """Send keys, as a keyboard does."""
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    @property
    def rows(self) -> list[str]:
        """The rows, from the first one that scrolled away to the last on the screen that is not empty."""
        above = ["".join(row[x].data for x in range(self.screen.columns)) for row in self.screen.history.top]
        rows = [row.rstrip() for row in [*above, *self.screen.display]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def text(self) -> str:
        """All rows."""
        return "\n".join(self.rows)

    def mode(self) -> list[Any]:
        """Return the terminal's attributes; the program need not live any more."""
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        """Close the window: the terminal is hung up, and cannot be used any more."""
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (self.master, self.slave):
            os.dup2(null, fd)
        os.close(null)

    async def read(self) -> bool:
        """Read what the program writes next; False at its end."""
        await trio.lowlevel.wait_readable(self.master)
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += data
        self._stream.feed(data)
        return bool(data)

    async def sees(self, wanted: str | Callable[[str], object]) -> str:
        """Read until something is seen; return all rows then."""
        seen = (lambda text: wanted in text) if isinstance(wanted, str) else wanted
        with trio.move_on_after(SECONDS):
            while not seen(self.text):
                await self.read()
            return self.text
        raise AssertionError(f"not seen: {wanted!r} in\n{self.text}")

    async def ends(self) -> int:
        """Read until the program has ended; return its exit code."""
        assert self.process is not None
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_on)
                code = await self.process.wait()
                nursery.cancel_scope.cancel()
            with trio.move_on_after(0):  # what it wrote last
                while True:
                    await self.read()
        return code

    async def _read_on(self) -> None:
        while await self.read():
            pass


@asynccontextmanager
async def terminal_window(
    argv: Sequence[str], *, columns: int = 80, lines: int = 24, env: dict[str, str] | None = None, **options: Any
) -> AsyncIterator[TerminalWindow]:
    """Run a program on a terminal of its own, as the leader of a session; end it with the block."""
    master, slave = pty.openpty()
    try:
        window = TerminalWindow(master, slave, columns, lines)
        inherited = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "LC_ALL", "LANG"}}
        whole = {**inherited, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(env or {})}
        if [*argv[: len(CLI)]] == CLI and can_fork(whole) and not options:
            streams = (slave, slave, slave)
            window.process = await fork(argv[len(CLI) :], env=whole, streams=streams, terminal=True)
        else:
            window.process = await trio.lowlevel.open_process(
                # The terminal has to become the session's: signals of its keys go there.
                ["setsid", "--ctty", "--wait", *argv],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=whole,
                **options,
            )
        try:
            yield window
        finally:
            if window.process.returncode is None:
                window.process.kill()
            with trio.fail_after(10) as scope:
                scope.shield = True
                await window.process.wait()
    finally:
        os.close(master)
        os.close(slave)
