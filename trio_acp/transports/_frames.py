"""What arrives on a WebSocket of the engine ``websockets``, without I/O.

The library's sans-I/O protocol knows every rule of WebSocket, and gets whatever
is not plain: control frames, fragments, binary, frames that are not here whole,
and all that is wrong.  A whole, unfragmented, unmasked text frame with a length
within the limit is nearly everything that an agent sends, and there is nothing
to be known about it: it is cut out here, at a tenth of the price.  For that the
lengths of all frames are read, so that the library is given whole frames or a
frame's parts, and never the beginning of a frame that is cut out.

Synchronous: it is fed bytes, and what they meant is in its attributes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from trio_websocket import CloseReason
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode

from trio_acp._errors import ConnectionLost, MessageTooLarge

from ._websocket_transport import closed_by_peer, too_long

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.client import ClientProtocol

_PLAIN_TEXT: Final = 0x81  # the only frame of its message, and no extension's bit
_SHORT: Final = 126  # lengths from here on are written in more bytes
_MASKED: Final = 128


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
        self._head = b""  # the beginning of a frame, as long as its length is not known
        self._given = 0  # bytes of a frame that are still to be given to the library
        self._parts: bytearray | None = None  # of a message in fragments
        self._is_text = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while at < end and self.end is None:
            if self._given:
                part = data[at : at + self._given]
                self._given -= len(part)
                at += len(part)
                self._give(part)
                continue
            if end - at < 2:
                self._head = data[at:]
                return
            length, start = data[at + 1], at + 2
            if length >= _SHORT:
                if length >= _MASKED:  # from a server that is wrong, whatever follows
                    self._give(data[at:])
                    return
                start += 2 if length == _SHORT else 8
                if end < start:
                    self._head = data[at:]
                    return
                length = int.from_bytes(data[at + 2 : start])
            stop = start + length
            if data[at] == _PLAIN_TEXT and stop <= end and length <= self._limit and self._parts is None:
                try:
                    self.messages.append(data[start:stop].decode())
                except UnicodeDecodeError as error:
                    self._refuse(error)
                at = stop
            else:
                self._given = stop - at

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
