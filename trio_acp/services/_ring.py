"""The end of a command's output: so many bytes, and never a torn character."""

from __future__ import annotations

from typing import Final

_CONTINUATION: Final = range(0x80, 0xC0)
_LONGEST: Final = 4  # bytes of a character


class OutputRing:
    """Keeps the last bytes that were written to it.

    Args:
        limit: How many bytes; 0 keeps none.

    Attributes:
        truncated: Whether something of the beginning is gone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False

    def __len__(self) -> int:
        return len(self._kept)

    def write(self, data: bytes | bytearray) -> None:
        """Take more output."""
        self._kept += data
        surplus = len(self._kept) - self._limit
        if surplus > 0:
            del self._kept[:surplus]
            self.truncated = True

    def text(self, *, complete: bool) -> tuple[str, bool]:
        """Return what is kept, at most the limit as UTF-8, and whether the beginning is missing.

        It begins at the boundary of a character.  What is no UTF-8 becomes
        ``U+FFFD``.  Unless the output is `complete`, a character of which only
        the first bytes have come is left for the next call.
        """
        start, end = 0, len(self._kept)
        if self.truncated:
            while start < min(end, _LONGEST - 1) and self._kept[start] in _CONTINUATION:
                start += 1
        if not complete:
            end -= _unfinished(self._kept[start:][-_LONGEST + 1 :])
        text = self._kept[start:end].decode(errors="replace")
        encoded = text.encode()
        if len(encoded) <= self._limit:
            return text, self.truncated
        # One bad byte becomes three.
        return encoded[len(encoded) - self._limit :].decode(errors="ignore"), True


def _unfinished(tail: bytes | bytearray) -> int:
    """Return how many bytes at the end are the beginning of a character that needs more of them."""
    for back in range(1, len(tail) + 1):
        lead = tail[-back]
        if lead in _CONTINUATION:
            continue
        needed = 2 if 0xC2 <= lead < 0xE0 else 3 if 0xE0 <= lead < 0xF0 else 4 if 0xF0 <= lead < 0xF5 else 1
        return back if back < needed else 0
    return 0
