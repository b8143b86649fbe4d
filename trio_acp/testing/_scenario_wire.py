"""The wire between a manager and a scripted agent: a WebSocket over streams in memory, which can be cut."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs
import trio
import trio.testing
import trio_websocket

from ..transports import websocket_over_stream, websocket_server_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MemoryReceiveStream, MemorySendStream

    from ..abc import Transport
    from ._dial import Serves

    Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


_HANDSHAKE_SECONDS: Final = 10.0


@attrs.frozen(eq=False)
class _Line:
    """One connection: its two ends, and the scope in which the agent serves it."""

    ours: Stream
    theirs: Stream
    agent: trio.CancelScope

    def cut(self) -> None:
        """Break it: both ends read nothing more, and neither can send."""
        for end in (self.ours, self.theirs):
            end.receive_stream.put_eof()
            end.send_stream.send_all_hook = _broken

    def kill(self) -> None:
        """Let the agent's side of it die: it says no goodbye, and its end is closed as by the system."""
        self.agent.cancel(reason="the agent was killed")


class Wire:
    """Connects to an agent, again and again; the agent lives in tasks of its own, which no client can cancel.

    Attributes:
        agents: Where the agent's tasks run.
        open: How many connections the client has not closed.
        cuts: When it was cut.
        codes: With which codes the WebSockets were closed that were closed in order, as the agent saw it.
    """

    def __init__(self, agent: Serves, agents: trio.Nursery) -> None:
        self.agents = agents
        self.open = 0
        self.cuts: list[float] = []
        self.codes: list[int] = []
        self._agent = agent
        self._lines: list[_Line] = []

    def cut(self) -> None:
        """Break every connection, now."""
        self.cuts.append(trio.current_time())
        for line in self._lines:
            line.cut()

    def kill(self) -> None:
        """Kill the agent, now, wherever it is; the next connection finds a new one, with the same sessions stored."""
        for line in self._lines:
            line.kill()

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[Transport]:
        """Connect; a `trio_acp.abc.Dial`.  If cancelled, nothing stays open on this side."""
        ours, theirs = trio.testing.memory_stream_pair()
        line = _Line(ours, theirs, trio.CancelScope())
        self.agents.start_soon(self._serve, line, name="the agent")
        self.open += 1
        try:
            async with websocket_over_stream(ours, "test", "/acp") as transport:
                yield transport
        finally:
            self.open -= 1

    async def _serve(self, line: _Line) -> None:
        self._lines.append(line)
        connection: trio_websocket.WebSocketConnection | None = None
        try:
            with line.agent:
                async with trio.open_nursery() as nursery:
                    with trio.fail_after(_HANDSHAKE_SECONDS):  # trio-websocket would wait for ever for one that broke
                        request = await trio_websocket.wrap_server_stream(nursery, line.theirs)
                        connection = await request.accept()
                    await self._agent.serve(websocket_server_transport(connection))
        except* (
            trio_websocket.ConnectionClosed,
            trio_websocket.HandshakeError,
            trio.BrokenResourceError,
            trio.TooSlowError,
        ):
            pass
        finally:
            self._lines.remove(line)
            with suppress(trio.BrokenResourceError):  # the client closed its end first
                line.theirs.send_stream.close()
            line.theirs.receive_stream.close()
            if connection is not None and connection.closed is not None:
                self.codes.append(connection.closed.code)


async def _broken() -> None:
    await trio.lowlevel.checkpoint()
    raise trio.BrokenResourceError("the wire was cut")
