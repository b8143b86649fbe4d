"""What arrives on a WebSocket of the engine ``websockets``, without I/O.

Synchronous: it is fed bytes, and what they meant is in its attributes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from trio_websocket import CloseReason
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode

from trio_acp._errors import ConnectionLost, MessageTooLarge

from ._splitter import Splitter
from ._websocket_transport import closed_by_peer, too_long

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol


class Incoming:
    """Reads what the peer sends, from the first byte after the handshake.

    Args:
        protocol: Open; what it has to say is for the caller to fetch and send.
        limit: The longest message, in bytes; the protocol was made with the same.
        on_pong: Told what a pong carries.

    Attributes:
        messages: What arrived and was not taken, oldest first.
        end: Why there will be no more, as message and detail; None while there may be.
    """

    def __init__(self, protocol: ClientProtocol, limit: int, on_pong: Callable[[bytes], None]) -> None:
        self.messages: deque[str | bytes] = deque()
        self.end: tuple[str, str] | None = None
        self._protocol = protocol
        self._limit = limit
        self._on_pong = on_pong
        self._splitter = Splitter(limit)
        self._parts: bytearray | None = None  # of a message in fragments
        self._is_text = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for piece in self._splitter.feed(data):
            if self.end is not None:
                break
            if isinstance(piece, str):
                self.messages.append(piece)
            elif piece is not None:  # what is due is due at once here: the library does not wait
                self._give(piece)

    def _give(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and self.end is None:
                self._take(event)
        if self.end is None and (failure := self._protocol.parser_exc) is not None:
            if isinstance(failure, PayloadTooBig):
                self.end = too_long(self._limit), MessageTooLarge.default_detail
            else:
                self.end = _wrong(str(failure) if isinstance(failure, ProtocolError) else type(failure).__name__)

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.TEXT | Opcode.BINARY:
                self._parts = bytearray(frame.data)
                self._is_text = frame.opcode is Opcode.TEXT
            case Opcode.CONT:
                assert self._parts is not None  # the library refuses one that continues nothing
                self._parts += frame.data
            case Opcode.PONG:
                self._on_pong(bytes(frame.data))
            case Opcode.CLOSE:
                close = Close.parse(frame.data)
                self.end = closed_by_peer(CloseReason(int(close.code), close.reason))
        if frame.fin and self._parts is not None and frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            whole, self._parts = self._parts, None
            try:
                self.messages.append(whole.decode() if self._is_text else bytes(whole))
            except UnicodeDecodeError as error:
                self._refuse(error)

    def _refuse(self, error: UnicodeDecodeError) -> None:
        words = f"{error.reason} at position {error.start} of a text"
        self._protocol.fail(CloseCode.INVALID_DATA, words)
        self.end = _wrong(words)


def _wrong(words: str) -> tuple[str, str]:
    return f"the peer broke the rules of WebSocket: {words}", ConnectionLost.default_detail
