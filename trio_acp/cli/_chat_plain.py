"""A chat without a terminal: a prompt on each line of standard input, and what comes of it, as ``prompt`` shows it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from .._outcomes import Completed, Failed, Outcome, Stopped, TimedOut
from ._chat_session import Face
from ._exits import ERROR, OK, TIMEOUT, exit_code
from ._formats import TextWriter
from ._why import ending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._errors import AcpError
    from .._events import Event
    from ._chat_commands import ChatCommands
    from ._chat_session import Chat
    from ._output import Output

_CHUNK = 65536


class PlainFace(Face):
    """Keeps what is to be shown until somebody may wait for the output.

    Attributes:
        code: The exit code: that of the first turn that failed.
    """

    def __init__(self, stdout: Output, stderr: Output, explain: Callable[[AcpError], str]) -> None:
        self._writer = TextWriter(stdout, stderr)
        self._explain = explain
        self._kept: list[Event | Outcome | str] = []
        self.code = OK

    def begin(self, prompt: str) -> None:
        """Say nothing: the prompt is where it came from."""

    def show(self, event: Event) -> None:
        """See `Face`."""
        self._kept.append(event)

    def end(self, outcome: Outcome) -> None:
        """See `Face`."""
        self._kept.append(outcome)
        if isinstance(outcome, Completed):  # for which the writer has words
            return
        late = TIMEOUT if isinstance(outcome, TimedOut) else ERROR
        self.code = self.code or (exit_code(outcome.error) if isinstance(outcome, Failed) else late)
        self.note(ending(outcome, self._explain), bad=True)

    def note(self, text: str, *, bad: bool = False) -> None:
        """See `Face`."""
        self._kept.append(f"trio-acp: {text}" if bad else text)

    def explain(self, words: Mapping[str, str]) -> None:
        """See `Face`."""
        for name, meaning in words.items():
            self.note(f"{name}: {meaning}")

    def changed(self) -> None:
        """Show nothing: what waits is not seen here."""

    async def room(self) -> None:
        """Write what is kept; cancelled, any part of it may have been written.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        await trio.lowlevel.checkpoint()
        while self._kept:
            kept = self._kept.pop(0)
            if isinstance(kept, str):
                await self._writer.note(kept)
            elif isinstance(kept, Outcome):
                await self._writer.finish(kept)
            else:
                await self._writer.show(kept)

    async def break_off(self) -> None:
        """End the line that an interrupted turn has begun; cancelled, it may stay as it is.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        await self._writer.finish(Stopped(by="caller", reason="interrupted"))


class LineReader:
    """Reads lines from a descriptor, in a worker thread that is left behind if it waits for ever."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""

    async def read(self) -> str | None:
        """Return the next line, None at the end; cancelled, one may be lost."""
        await trio.lowlevel.checkpoint()
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            # Not by sys.stdin: a thread inside of it would keep the interpreter from ending.
            data = await trio.to_thread.run_sync(os.read, self._fd, _CHUNK, abandon_on_cancel=True)
            if not data:
                line, self._buffer = self._buffer, b""
                return line.decode("utf-8", "replace") if line else None
            self._buffer += data
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.decode("utf-8", "replace").removesuffix("\r")


async def chat_in_lines(lines: LineReader, face: PlainFace, chat: Chat, commands: ChatCommands) -> int:
    """Take a prompt or a command from each line, and do it before the next is read; return the exit code.

    If cancelled, a running turn is stopped within the manager's bounds.

    Raises:
        BrokenPipeError: nobody reads standard output any more.
    """
    left = False

    def leave() -> None:
        nonlocal left
        left = True

    commands.quit = leave
    await face.room()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat.run)
        while not left and (line := await lines.read()) is not None:
            job = commands.enter(line)
            if job is not None:
                await job()
            await chat.wait_idle()
            await face.room()
        nursery.cancel_scope.cancel()
    return face.code
