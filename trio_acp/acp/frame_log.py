"""The log of frames: a transport that tells the log what goes through it.

A frame that is sent is about the session and turn of whoever put it into the
queue.  One that comes is about the session that it names, or what the request
was about that it answers.
"""

from __future__ import annotations

import itertools
import json
import logging
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from .._errors import InvalidMessage
from .._serving import served, serving
from ..abc import Transport
from ..logs import MAX_FRAME, TRACE, redact
from .codec import decode

if TYPE_CHECKING:
    from collections.abc import Callable

Direction: TypeAlias = Literal["sent", "received"]

_log = logging.getLogger("trio_acp.wire")

_connections: Final = itertools.count(1)

_MAX_ASKED: Final = 1000
"""Our requests of which it is remembered whom they were about; of more, the oldest is forgotten."""


def logged(transport: Transport, serves: Callable[[str], tuple[str, str]]) -> Transport:
    """Return a transport that logs its frames if somebody wants to see them, else the one that was given.

    Args:
        serves: Returns the key and the running turn of the session with that id of the agent.
    """
    return LoggedTransport(transport, serves) if _log.isEnabledFor(TRACE) else transport


class LoggedTransport(Transport):
    """Does what another transport does, and logs each frame: as it is about to be sent, or as it came.

    Attributes:
        number: Tells connections of this process apart.
    """

    def __init__(self, transport: Transport, serves: Callable[[str], tuple[str, str]]) -> None:
        self.number = next(_connections)
        self.processes = transport.processes
        self._transport = transport
        self._serves = serves
        self._asked: dict[int, tuple[str, str]] = {}

    async def send(self, message: str) -> None:
        """Log and send; the law is that of the other transport."""
        self._tell("sent", message)
        await self._transport.send(message)

    async def receive(self) -> str | bytes:
        """Receive and log; the law is that of the other transport."""
        message = await self._transport.receive()
        self._tell("received", message)
        return message

    async def aclose(self) -> None:
        """Close; the law is that of the other transport."""
        await self._transport.aclose()

    def _tell(self, direction: Direction, text: str | bytes) -> None:
        if not _log.isEnabledFor(TRACE):
            return
        message: object = None
        try:
            if isinstance(text, bytes):
                shown = f"[{len(text)} bytes in a binary frame]"
            else:
                message = decode(text)
                shown = json.dumps(redact(message))  # ASCII: nothing in it can do anything to a terminal
        except (InvalidMessage, RecursionError):
            shown = f"[{len(text)} characters that are no JSON]"  # where a secret would be in them, nobody knows
        if len(shown) > MAX_FRAME:
            shown = f"{shown[:MAX_FRAME]}... [{len(shown)} characters]"
        with serving(*self._served(direction, message)):
            extra = {"connection": self.number, "direction": direction}
            _log.log(TRACE, "%s on connection %d: %s", direction, self.number, shown, extra=extra)

    def _served(self, direction: Direction, message: object) -> tuple[str, str]:
        if direction == "sent":
            if isinstance(message, dict) and "method" in message and isinstance(message.get("id"), int):
                self._asked[message["id"]] = served()
                if len(self._asked) > _MAX_ASKED:
                    del self._asked[next(iter(self._asked))]
            return served()
        if not isinstance(message, dict):
            return "", ""
        if (session := _session_id(message.get("params"))) is not None:
            return self._serves(session)
        answered = None if "method" in message else message.get("id")
        return self._asked.pop(answered, ("", "")) if type(answered) is int else ("", "")


def _session_id(params: Any) -> str | None:
    session = params.get("sessionId") if isinstance(params, dict) else None
    return session if isinstance(session, str) else None
