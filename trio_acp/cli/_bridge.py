"""One client's WebSocket and one agent's pipes, joined: messages go through as they are.

Each direction is one task that receives a message and sends it on.  Nothing
else is buffered, so whoever does not read makes the other side wait; after
`STALL` seconds of that the bridge ends.  When either side ends, what it had
said before still arrives, then the other side is ended.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio

from .._errors import BackendUnavailable, ConnectionLost, InvalidMessage, MessageTooLarge
from .._service import shielded
from ..acp.codec import decode, encode
from ..transports.stdio import StdioTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trio_websocket

    from ..abc import Dial
    from ..transports.websocket import WebSocketTransport

_log = logging.getLogger(__name__)

STALL: Final = 30.0

_LONGEST_REASON: Final = 123
"""Bytes that a WebSocket's close frame has for its reason."""
_LAST_WORDS = 1.0
_CLOSE_SECONDS = 2.0
_AGENT_SECONDS = 4.0

NORMAL, GOING_AWAY, INTERNAL_ERROR = 1000, 1001, 1011
_PARSE_ERROR: Final = '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}'


@attrs.define(eq=False)
class Bridge:
    """Runs one agent for one client.

    Attributes:
        name: The connection's id, for the log.
        binary_ignored: Binary messages of the client, which ACP does not have.
        garbage: Messages of the client that were no JSON.
        stall: Seconds that a side may leave a message unread.
        end: The close code and the reason with which the client is left; the first one counts.
    """

    name: str
    connection: trio_websocket.WebSocketConnection
    client: WebSocketTransport
    dial: Dial
    stall: float = STALL
    binary_ignored: int = 0
    garbage: int = 0
    end: tuple[int, str] | None = None
    _sends: list[trio.CancelScope] = attrs.field(factory=list, init=False)
    _sending: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    async def run(self) -> None:
        """Start the agent and pass messages until one side ends; then end the other, within deadlines.

        If cancelled, it ends both in the same way.  Nothing of the agent is left.
        """
        try:
            async with self.dial() as agent:
                assert isinstance(agent, StdioTransport)
                try:
                    await self._pass_messages(agent)
                finally:
                    # An agent that was slow to go must not make the client wait: it hears first.
                    await self._close_now()
                    with shielded(_AGENT_SECONDS):
                        await agent.aclose()
        except BackendUnavailable as error:
            self._decide(INTERNAL_ERROR, str(error))
        finally:
            try:
                await self._close_now()
            finally:
                self._report()

    async def _pass_messages(self, agent: StdioTransport) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._to_agent, agent, nursery.cancel_scope)
            nursery.start_soon(self._to_client, agent, nursery.cancel_scope)

    async def _to_agent(self, agent: StdioTransport, both: trio.CancelScope) -> None:
        try:
            while True:
                message = await self.client.receive()
                if isinstance(message, bytes):
                    self.binary_ignored += 1
                    continue
                try:
                    line = _as_line(message)
                except InvalidMessage:
                    self.garbage += 1
                    await self._send_to_client(_PARSE_ERROR)
                    continue
                await self._send_to_agent(agent, line)
        except (ConnectionLost, MessageTooLarge) as error:
            self._decide(NORMAL, str(error))
        except trio.TooSlowError:
            self._decide(INTERNAL_ERROR, self._stalled)
        both.cancel(reason="the client's side of the bridge has ended")

    async def _send_to_agent(self, agent: StdioTransport, line: str) -> None:
        try:
            with self._before_the_stall():
                await agent.send(line)
                return
        except ConnectionLost as error:
            lost = error
        # The other direction knows better why, and may still have the agent's last words to deliver.
        await trio.sleep(_LAST_WORDS)
        self._decide(INTERNAL_ERROR, str(lost))
        raise lost

    async def _to_client(self, agent: StdioTransport, both: trio.CancelScope) -> None:
        try:
            while True:
                message = await agent.receive()
                assert isinstance(message, str)
                await self._send_to_client(message)
        except trio.TooSlowError:
            self._decide(INTERNAL_ERROR, self._stalled)
        except (ConnectionLost, MessageTooLarge) as error:
            self._decide(NORMAL if agent.exit_status == 0 else INTERNAL_ERROR, str(error))
        both.cancel(reason="the agent's side of the bridge has ended")

    async def _send_to_client(self, message: str) -> None:
        try:
            with self._before_the_stall():
                async with self._sending:
                    await self.client.send(message)
        except ConnectionLost as error:
            self._decide(NORMAL, str(error))
            raise

    @contextmanager
    def _before_the_stall(self) -> Iterator[None]:
        with trio.fail_after(self.stall) as scope:
            self._sends.append(scope)
            try:
                yield
            finally:
                self._sends.remove(scope)

    @property
    def _stalled(self) -> str:
        return f"a message was left unread for {self.stall:g} seconds"

    def _decide(self, code: int, reason: str) -> None:
        if self.end is not None:
            return
        # A send that was given up breaks its connection, which the other direction may notice first.
        if any(scope.cancel_called for scope in self._sends):
            code, reason = INTERNAL_ERROR, self._stalled
        self.end = (code, reason)

    async def _close_now(self) -> None:
        """Say goodbye with the code that was decided.  Cancelled or not, it takes its bounded time."""
        self._decide(GOING_AWAY, "the bridge was stopped")
        assert self.end is not None
        with shielded(_CLOSE_SECONDS):
            code, reason = self.end
            await self.connection.aclose(code, _fitting(reason))
        await self.client.aclose()

    def _report(self) -> None:
        assert self.end is not None
        code, reason = self.end
        level = logging.WARNING if code == INTERNAL_ERROR else logging.INFO
        _log.log(level, "connection %s ended: %s", self.name, reason)
        if self.binary_ignored or self.garbage:
            _log.info(
                "connection %s: ignored %d binary messages, answered %d that were no JSON",
                self.name,
                self.binary_ignored,
                self.garbage,
            )


def _fitting(reason: str) -> str:
    """Return a reason that fits into a close frame: cut between two words, if there are any, and marked so."""
    data = reason.encode("utf-8", "replace")
    if len(data) <= _LONGEST_REASON:
        return data.decode()
    cut = data[: _LONGEST_REASON - len(" …".encode())].decode("utf-8", "ignore")
    return f"{cut.rpartition(' ')[0] or cut} …"


def _as_line(message: str) -> str:
    """Return a message as one line of JSON: agents over pipes read lines.

    Raises:
        InvalidMessage: it is no JSON.
    """
    value = cast("dict[str, Any]", decode(message))  # what else it may be is for the agent to refuse
    return encode(value) if "\n" in message or "\r" in message else message
