"""What every transport keeps: whether it has ended and why, and who is using it.

All of it is synchronous: a transport decides here and does its I/O elsewhere.
"""

from __future__ import annotations

from typing import Literal

import trio

from trio_acp._errors import ConnectionLost, InvalidMessage

CLOSED_HERE = "the connection was closed on this side"
SEND_CANCELLED = "the connection was abandoned because a send was cancelled and may have sent a part"


class Sole:
    """One direction of a connection: a block in which there is one task at a time.

    Raises:
        trio.BusyResourceError: on entering it, another task is already there.
    """

    def __init__(self, use: Literal["send", "receive"]) -> None:
        self._use = use
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is already in {self._use}() of this transport")
        self._busy = True

    def __exit__(self, *exc_info: object) -> None:
        self._busy = False


class Life:
    """The end of one connection, and the rule that each direction has one user at a time.

    Attributes:
        sending: To be entered by whoever sends.
        receiving: To be entered by whoever receives.
    """

    def __init__(self) -> None:
        self._end: tuple[str, str] | None = None
        self.sending = Sole("send")
        self.receiving = Sole("receive")

    @property
    def ended(self) -> bool:
        """Whether the connection can no longer be used."""
        return self._end is not None

    @property
    def reason(self) -> tuple[str, str] | None:
        """How the connection ended, as message and detail."""
        return self._end

    def end(self, message: str, *, detail: str = "disconnected") -> None:
        """Note that the connection has ended.  The first reason stays."""
        if self._end is None:
            self._end = (message, detail)

    def lost(self) -> ConnectionLost:
        """Make the error that says how the connection ended."""
        message, detail = self._end or ("the connection ended", "disconnected")
        return ConnectionLost(message, detail=detail)

    async def require(self) -> None:
        """Raise if the connection has ended; a full checkpoint only then.

        If cancelled, nothing happened.

        Raises:
            ConnectionLost: it has ended.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._end is not None:
            await trio.lowlevel.checkpoint()
            raise self.lost()


def require_text(message: str) -> None:
    """Refuse what UTF-8 cannot carry, before any of it is sent.

    Raises:
        InvalidMessage: the text has a lone surrogate; the connection is unharmed.
    """
    if message.isascii():
        return
    try:
        message.encode()
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            f"cannot send a lone surrogate: character {error.start} of the message is not text", detail="not-text"
        ) from None
