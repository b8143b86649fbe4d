"""Text that an SQLite file can hold."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return a text with ``?`` for halves of surrogate pairs, which no file can hold."""
    return text.encode("utf-8", "replace").decode()
