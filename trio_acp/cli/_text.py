"""What an agent says, made harmless for a terminal.

A terminal obeys what it is shown: control characters move the cursor, set the
clipboard and the window's title; bidirectional controls make text read
otherwise than it is.  Whatever came from an agent passes `safe_text` first.
"""

from __future__ import annotations

import re
from typing import Final

_FORBIDDEN: Final = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 with ESC and CR, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction
    "\u2028\u2029"  # line breaks that some programs take for one
    "\ud800-\udfff"  # halves of surrogate pairs: no encoding has them
    "]"
)
_FORBIDDEN_BUT_LAYOUT: Final = re.compile(_FORBIDDEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def safe_text(text: str, *, multiline: bool) -> str:
    r"""Show control characters instead of obeying them: ESC becomes ``\u001b``.

    Newline and tab stay as they are where several lines are wanted, and there
    a Windows line end becomes a newline; on a single line they are shown too.
    Applied to its own result, it changes nothing.
    """
    if not multiline:
        return _FORBIDDEN.sub(_escaped, text)
    return _FORBIDDEN_BUT_LAYOUT.sub(_escaped, text.replace("\r\n", "\n"))


def one_line(text: str, limit: int = 300) -> str:
    """Put a text of any shape on one safe line of at most `limit` characters."""
    line = safe_text(" ".join(text.split()), multiline=False)
    return line if len(line) <= limit else line[: limit - 1] + "…"
