"""Whole text messages cut out of the bytes of a WebSocket, before the library that frames it sees them.

A library knows every rule of WebSocket, and gets whatever is not plain: control
frames, fragments, binary, frames that are not here whole, and all that is
wrong.  A whole, unfragmented, unmasked text frame within the limit is nearly
everything that an agent sends, and there is nothing to be known about it but
its length: it is cut out here, at a tenth of the price.

Synchronous: it is fed bytes and returns what they are.
"""

from __future__ import annotations

from typing import Final

_PLAIN_TEXT: Final = 0x81  # the only frame of its message, and no extension's bit
_FINAL: Final = 0x80
_EXTENSIONS: Final = 0x70
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_TWO_BYTES: Final = 126  # lengths from here on are written behind
_LONGEST_CONTROL: Final = 125
_MASKED: Final = 128


class Splitter:
    """Reads what a server sends, from the first byte after the handshake.

    Args:
        limit: The longest text to cut out, in bytes.

    Attributes:
        done: Nothing is cut out any more: the close has come, or something the library has to judge.
    """

    def __init__(self, limit: int) -> None:
        self.done = False
        self._limit = limit
        self._head = b""  # the beginning of a frame, as long as its length is not known
        self._given = 0  # bytes of a frame that are still to be given to the library
        self._open = False  # a message in fragments is not over

    def feed(self, data: bytes) -> list[str | bytes | None]:
        """Take the next bytes; return the messages that were cut out, and the bytes that are for the library.

        None stands before bytes from which the library will make a message, or an end:
        that comes before what stands behind.
        """
        if self._head:
            data, self._head = self._head + data, b""
        pieces: list[str | bytes | None] = []
        at, end = 0, len(data)
        while at < end:
            if self.done:
                pieces.append(data[at:])
                break
            if self._given:
                part = data[at : at + self._given]
                self._given -= len(part)
                at += len(part)
                pieces.append(part)
                continue
            if not self._open:
                at = self._cut_out(data, at, pieces)
            if end - at < 2:
                self._head = data[at:]
                break
            first, length, start = data[at], data[at + 1], at + 2
            if _TWO_BYTES <= length < _MASKED:
                start += 2 if length == _TWO_BYTES else 8
                if end < start:
                    self._head = data[at:]
                    break
                length = int.from_bytes(data[at + 2 : start])
            elif length >= _MASKED:  # from a server that is wrong, whatever follows
                length = self._limit + 1
            if self._begins_something(first, length):
                pieces.append(None)
            self._given = start + length - at
        return pieces

    def _cut_out(self, data: bytes, at: int, pieces: list[str | bytes | None]) -> int:
        """Cut out whole texts for as long as one follows the other; return where something else begins."""
        end, limit = len(data), self._limit
        while end - at >= 2 and data[at] == _PLAIN_TEXT:
            length, start = data[at + 1], at + 2
            if length >= _TWO_BYTES:
                if length >= _MASKED:
                    break
                start += 2 if length == _TWO_BYTES else 8
                length = int.from_bytes(data[at + 2 : start])  # of less, if not all of it is here: then nothing is
            stop = start + length
            if stop > end or length > limit:
                break
            try:
                pieces.append(data[start:stop].decode())
            except UnicodeDecodeError:
                break
            at = stop
        return at

    def _begins_something(self, first: int, length: int) -> bool:
        opcode, final = first & 0x0F, bool(first & _FINAL)
        if opcode in (_PING, _PONG) and final and length <= _LONGEST_CONTROL and not first & _EXTENSIONS:
            return False
        if opcode == _CONTINUATION and self._open and length <= self._limit and not first & _EXTENSIONS:
            self._open = not final
            return False
        if opcode in (_TEXT, _BINARY) and not self._open and length <= self._limit and not first & _EXTENSIONS:
            self._open = not final
            return True
        self.done = True
        return True
