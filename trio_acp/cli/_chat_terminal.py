"""A chat on a terminal: keys, signals and the screen around one conversation."""

from __future__ import annotations

import logging
import math
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from ._exits import INTERRUPTED, OK
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._ask import AskUser
    from ._chat_commands import ChatCommands
    from ._chat_session import Chat
    from ._chat_view import ChatView
    from ._keys import Key, KeyDecoder
    from ._line_editor import LineEditor
    from ._terminal import Terminal

TWICE: Final = 2.0
"""Seconds within which a second Ctrl-C leaves."""

_WIPE_SECONDS = 0.3
_TICK = 1.0
_SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
)


class TerminalChat:
    """Runs a chat on a terminal until the user leaves, or a signal says so.

    Attributes:
        code: The exit code, once it is left.
    """

    def __init__(
        self,
        terminal: Terminal,
        view: ChatView,
        editor: LineEditor,
        decoder: KeyDecoder,
        asking: AskUser | None,
        chat: Chat,
    ) -> None:
        self.code: int | None = None
        self.commands: ChatCommands | None = None
        self._terminal = terminal
        self._view = view
        self._editor = editor
        self._decoder = decoder
        self._asking = asking
        self._chat = chat
        self._unread: frozenset[str] = frozenset()  # what may follow of a word whose first letter was an answer
        self._stopped_here = False
        self._nursery: trio.Nursery | None = None

    async def run(self) -> int:
        """Chat, and return the exit code; if cancelled, turns are stopped within the manager's bounds.

        The terminal's mode is given back before that is waited for.
        """
        with self._terminal, trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as self._nursery:
                for task in (self._show, self._chat.run, self._read, self._tick):
                    self._nursery.start_soon(task)
                self._nursery.start_soon(self._obey, signals)
                self._view.changed()
        return INTERRUPTED if self.code is None else self.code

    def leave(self, code: int = OK) -> None:
        """Leave, without waiting for anything here; the first exit code counts."""
        if self.code is None:
            self.code = code
            assert self._nursery is not None
            self._nursery.start_soon(self._end)

    async def _end(self) -> None:
        assert self._nursery is not None
        try:
            with trio.move_on_after(_WIPE_SECONDS):
                await self._view.screen.wipe()
        finally:
            self._terminal.give_back()  # now: stopping the agent may take its time
            self._nursery.cancel_scope.cancel(reason="the chat was left")

    async def _show(self) -> None:
        try:
            await self._view.screen.run()
        except OSError:  # the terminal is gone
            self.leave(INTERRUPTED)

    async def _tick(self) -> None:
        """Let the seconds of a running turn be seen."""
        while True:
            await trio.sleep(_TICK)
            if self._chat.running is not None:
                self._view.changed()

    # -- keys -------------------------------------------------------------------

    async def _read(self) -> None:
        while data := await self._terminal.read():
            self._take(data)
        self.leave(INTERRUPTED)

    def _take(self, data: bytes) -> None:
        for key in self._decoder.feed(data):
            if self.code is None:
                self._press(key)
        self._view.changed()

    def _press(self, key: Key) -> None:
        self._view.leaves_until = -math.inf  # whoever goes on does not leave by the next Ctrl-C
        if key.name == "ctrl-l":
            self._view.screen.clear()
        elif key.name == "ctrl-d" and not self._editor.text:
            self.leave()
        elif not self._answers(key):
            line = self._editor.key(key)
            if line is not None:
                assert self.commands is not None
                job = self.commands.enter(line)
                if job is not None and self._nursery is not None:
                    self._nursery.start_soon(job)

    def _answers(self, key: Key) -> bool:
        """Answer the question that waits with a key, or with a line that is a word for it; such a line is no prompt."""
        asking, line = self._asking, self._editor.text.strip().lower()
        if asking is None:
            return False
        if key.name == "text" and not self._editor.text and len(key.text) == 1:
            words = frozenset(answer.word[1:] for answer in asking.answers if answer.word.startswith(key.text.lower()))
            answered = asking.answer(key.text)
            self._unread = words if answered else self._unread
            return answered
        if key.name != "enter":
            return False
        unread, self._unread = self._unread, frozenset()
        if line in unread or asking.answer(line):
            self._editor.clear()
            return True
        return asking.find(line) is not None  # too early: it waits for another Enter

    # -- signals ----------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            match number:
                case signal.SIGINT:
                    self._take(self._terminal.read_now())  # what was typed before it comes first
                    self._interrupt()
                case signal.SIGTSTP:
                    with trio.move_on_after(_WIPE_SECONDS):
                        await self._view.screen.wipe()
                    self._stopped_here = True
                    self._terminal.stop_process()
                    self._view.screen.resume()
                case signal.SIGCONT if self._stopped_here:
                    self._stopped_here = False  # all was done when it came back from being stopped
                case signal.SIGCONT:
                    self._terminal.activate()
                    self._view.screen.resume()
                case signal.SIGWINCH:
                    self._view.changed()
                case _:
                    self.leave(INTERRUPTED)

    def _interrupt(self) -> None:
        now = trio.current_time()
        if now < self._view.leaves_until:
            self.leave(INTERRUPTED)
            return
        self._view.leaves_until = now + TWICE
        if not self._chat.stop():
            self._editor.clear()
        self._view.changed()
        assert self._nursery is not None
        self._nursery.start_soon(self._show_at, self._view.leaves_until)

    async def _show_at(self, time: float) -> None:
        await trio.sleep_until(time)
        self._view.changed()


class NoteHandler(logging.Handler):
    """Shows warnings of this package as remarks, for lines on standard error would go across the picture."""

    def __init__(self, view: ChatView) -> None:
        super().__init__(logging.WARNING)
        self._view = view
        self._token = trio.lowlevel.current_trio_token()

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, from whatever thread it comes."""
        words = one_line(f"{record.levelname.lower()}: {record.getMessage()}", 1000)
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._view.note, words)
