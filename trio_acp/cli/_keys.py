"""What a terminal sends when keys are pressed, as keys: characters, named keys, pasted text."""

from __future__ import annotations

import codecs
import re
from typing import Final

import attrs

LONGEST_PASTE: Final = 2**16
"""Characters of one paste; the rest of it is dropped."""

_PASTE_END = "\x1b[201~"
_CSI: Final = re.compile(r"\x1b\[[0-?]{0,60}[ -/]{0,3}[@-~]")
_CSI_BEGUN: Final = re.compile(r"\x1b\[[0-?]{0,60}[ -/]{0,3}\Z")
_CONTROLS: Final = {
    "\r": "enter",
    "\n": "enter",
    "\t": "tab",
    "\x7f": "backspace",
    "\x08": "backspace",
    **{chr(ord(letter) - 96): f"ctrl-{letter}" for letter in "abcdefgklnopqrstuvwxyz"},
}
_SEQUENCES: Final = {
    "[A": "up",
    "[B": "down",
    "[C": "right",
    "[D": "left",
    "[H": "home",
    "[F": "end",
    "[1~": "home",
    "[7~": "home",
    "[4~": "end",
    "[8~": "end",
    "[3~": "delete",
    "[1;5C": "word-right",
    "[1;5D": "word-left",
    "[1;3C": "word-right",
    "[1;3D": "word-left",
    "[200~": "paste",
}
_ALT: Final = {
    "\r": "newline",
    "\n": "newline",
    "b": "word-left",
    "f": "word-right",
    "\x7f": "ctrl-w",
}


@attrs.frozen
class Key:
    """A key, or several characters that came together.

    Attributes:
        name: ``text``, ``paste``, or which key: ``enter``, ``left``, ``ctrl-a``, ...
        text: What was typed or pasted, without control characters but newline and tab.
    """

    name: str
    text: str = ""


class KeyDecoder:
    """Turns bytes into keys, however they are cut into pieces; what is incomplete waits for its rest.

    Sequences that mean nothing here are dropped, bytes that are no text are
    replaced by U+FFFD.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._waiting = ""
        self._pasted: list[str] | None = None
        self._pasted_length = 0

    def feed(self, data: bytes) -> list[Key]:
        """Return the keys that are complete now."""
        self._waiting += self._decoder.decode(data)
        keys: list[Key] = []
        while self._waiting:
            length, key = self._paste() if self._pasted is not None else self._one()
            if key is not None:
                keys.append(key)
            if not length:
                break
            self._waiting = self._waiting[length:]
        return keys

    def _one(self) -> tuple[int, Key | None]:
        """Return how many characters are dealt with, and the key that they are; 0 to wait for more."""
        text = self._waiting
        if text[0] != "\x1b":
            return self._plain(text)
        if len(text) == 1:
            return 0, None
        if text[1] == "[":
            match = _CSI.match(text)
            if match is not None:
                return match.end(), self._named(match[0])
            if _CSI_BEGUN.match(text):
                return 0, None
            return 2, None  # no sequence after all
        if text[1] == "O":
            return (0, None) if len(text) == 2 else (3, self._named(f"\x1b[{text[2]}"))
        name = _ALT.get(text[1])
        if text[1] == "\x1b":
            return 1, None
        return 2, None if name is None else Key(name)

    def _plain(self, text: str) -> tuple[int, Key | None]:
        if not _is_text(text[0]):
            name = _CONTROLS.get(text[0])
            return 1, None if name is None else Key(name)
        end = next((index for index, char in enumerate(text) if not _is_text(char)), len(text))
        return end, Key("text", text[:end])

    def _named(self, sequence: str) -> Key | None:
        name = _SEQUENCES.get(sequence[1:])
        if name == "paste":
            self._pasted, self._pasted_length = [], 0
            return None
        return None if name is None else Key(name)

    def _paste(self) -> tuple[int, Key | None]:
        """Take pasted text, of which only the end marker is not text."""
        assert self._pasted is not None
        end = self._waiting.find(_PASTE_END)
        if end < 0:
            # The last characters may be the beginning of the marker.
            keep = next((n for n in range(len(_PASTE_END) - 1, 0, -1) if self._waiting.endswith(_PASTE_END[:n])), 0)
            taken = len(self._waiting) - keep
            self._keep_pasted(self._waiting[:taken])
            return taken, None
        self._keep_pasted(self._waiting[:end])
        pasted, self._pasted = "".join(self._pasted), None
        return end + len(_PASTE_END), Key("paste", _only_text(pasted))

    def _keep_pasted(self, text: str) -> None:
        assert self._pasted is not None
        text = text[: LONGEST_PASTE - self._pasted_length]
        self._pasted_length += len(text)
        self._pasted.append(text)


def _is_text(char: str) -> bool:
    return char >= " " and not "\x7f" <= char <= "\x9f"


def _only_text(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in text if _is_text(char) or char in "\n\t")
