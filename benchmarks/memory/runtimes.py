"""The runtimes below the manager: one sends what was prepared, one waits to be stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from trio_acp import TextContent, TextDelta
from trio_acp.abc import Done, EnsureRequest, EventSink, Handle, Runtime, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT: Final = "x" * 64
"""The text of each event."""

PIECE: Final = 250
"""Events that come together: what is in 64 KiB from an agent.  After them others get their turn."""


class Prepared(Runtime):
    """Sends as many events as the prompt says, all made before; unlike `FakeRuntime` it records nothing."""

    tells_ids = False

    def __init__(self) -> None:
        self._piece = [TextDelta(TEXT)] * PIECE

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        """Return a handle.  If cancelled, nothing was opened."""
        await trio.lowlevel.checkpoint()
        return Handle(key=request.key, session_id=request.key)

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Send the events.  If cancelled, it ends at the next piece."""
        text = request.prompt[0]
        assert isinstance(text, TextContent)
        left = int(text.text)
        while left > 0:
            _send(events, self._piece if left >= PIECE else self._piece[:left])
            left -= PIECE
            await trio.lowlevel.checkpoint()
        return Done()

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Do nothing: turns end by themselves."""
        await trio.lowlevel.checkpoint()

    async def close(self, handle: Handle, reason: str) -> None:
        """Do nothing: there is nothing to release."""
        await trio.lowlevel.checkpoint()


def _send(events: EventSink, piece: Sequence[TextDelta]) -> None:
    send = events.send
    for event in piece:
        if not send(event):
            raise RuntimeError("the turn took no more: its consumer is too slow for this benchmark")


class Waiting(Prepared):
    """Runs turns that end when they are stopped.

    Attributes:
        running: Set once a turn runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running = trio.Event()
        self._stopped = trio.Event()

    async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
        """Wait to be stopped.  If cancelled, it ends at once."""
        self._stopped = trio.Event()
        self.running.set()
        await self._stopped.wait()
        self.running = trio.Event()
        return Done(stop_reason="cancelled")

    async def cancel(self, handle: Handle, reason: str) -> None:
        """Stop the turn.  If cancelled, it is stopped too."""
        self._stopped.set()
        await trio.lowlevel.checkpoint()
