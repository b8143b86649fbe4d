"""Messages as lines of text: one JSON value a line, with a bound on how long a line may be."""

from __future__ import annotations

from trio_acp._errors import MessageTooLarge

_NEWLINE = b"\n"
# Enough for whoever shows a part of it to take out first what nobody should see.
_LONGEST_SKIPPED = 4096


class LineReader:
    r"""Cuts what arrives into lines.  Synchronous: it is fed bytes and gives out lines.

    A line ends with ``\n`` or ``\r\n``.  The place up to which no newline was
    found is remembered, so a long line that arrives in small pieces costs no
    more than its length.

    Args:
        limit: The longest line, in bytes, without its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._scanned = 0

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their line."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray) -> None:
        """Add what arrived."""
        self._buffer += data

    def next_line(self) -> bytes | None:
        """Take the next whole line, without its end; None if more is needed.

        Raises:
            MessageTooLarge: the line is longer than the limit; the reader is of no further use.
        """
        end = self._buffer.find(_NEWLINE, self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            # One byte more is allowed while the line is open: it may be the \r of its end.
            if self._scanned > self._limit + 1:
                raise self._too_large()
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        if len(line) > self._limit:
            raise self._too_large()
        del self._buffer[: end + 1]
        self._scanned = 0
        return line

    def _too_large(self) -> MessageTooLarge:
        self._buffer.clear()
        return MessageTooLarge(f"a line exceeded the limit of {self._limit} bytes")


class MessageReader:
    """Picks the messages out of the lines and counts the rest.

    Agents print banners and warnings where only messages belong.  A line that
    begins with neither ``{`` nor ``[`` is skipped; blank ones are not counted.

    Attributes:
        skipped: How many lines were skipped.
        first_skipped: The first of them, shortened.
    """

    def __init__(self, limit: int) -> None:
        self._lines = LineReader(limit)
        self.skipped = 0
        self.first_skipped: str | None = None

    @property
    def pending(self) -> int:
        """How many bytes wait for the rest of their line."""
        return self._lines.pending

    def feed(self, data: bytes | bytearray) -> None:
        """Add what arrived."""
        self._lines.feed(data)

    def next_message(self) -> str | None:
        """Take the next message; None if more is needed.

        Bytes that are not UTF-8 become U+FFFD: one garbled character in an
        agent's text is better than a lost message.

        Raises:
            MessageTooLarge: a line is longer than the limit; the reader is of no further use.
        """
        while (line := self._lines.next_line()) is not None:
            line = line.strip()
            if line.startswith((b"{", b"[")):
                return line.decode(errors="replace")
            if line:
                self.skipped += 1
                if self.first_skipped is None:
                    self.first_skipped = line[:_LONGEST_SKIPPED].decode(errors="replace")
        return None


def frame(message: str) -> bytes:
    """Return one message as a line.

    In JSON a raw line break can only be white space between tokens, so a blank
    in its place leaves the value as it is and keeps the message in one line.
    """
    return message.replace("\r", " ").replace("\n", " ").encode() + _NEWLINE
