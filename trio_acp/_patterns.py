"""Patterns for texts and for paths.  What they are matched against is an agent's, so no text may take long."""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import TYPE_CHECKING

from ._errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def match_text(pattern: str, text: str) -> bool:
    """Whether a text fits: ``*`` is any text, ``?`` one character, and case counts."""
    return _compiled(pattern).match(text) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # What fnmatch makes of several stars never tries a star again, so the time grows with the text, not its powers.
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


def check_path_pattern(pattern: str) -> None:
    """Refuse a pattern that could match no path: who denies by one would be wrong about what is denied.

    Raises:
        InvalidOption: the pattern, and what to write instead.
    """
    parts = pattern.split("/")
    complaint = None
    if "\0" in pattern:
        complaint = "no path has a NUL in it"
    elif ".." in parts:
        complaint = "no path has '..' left when it is compared; write an absolute one"
    elif any("**" in part and part != "**" for part in parts):
        complaint = "'**' stands for whole directories, between slashes"
    elif pattern.startswith("~"):
        complaint = "there is no such user; write './~...' for a file of that name"
    elif pattern.endswith("/") and pattern.strip("/"):
        complaint = f"it ends with '/'; write '{pattern}**' for the directory and all that is in it"
    if complaint:
        raise InvalidOption(f"{pattern!r}: {complaint}", detail="invalid-pattern")


def parts_of(path: str) -> list[str]:
    """Return the names in a path, or the patterns for them."""
    return [part for part in path.split("/") if part not in {"", "."}]


def literal_start(pattern: str) -> str | None:
    """Return the directories, or the file, that a path pattern begins with; None if it begins with a wildcard."""
    names = list(_literal_parts(pattern))
    if not names:
        return None
    return ("/" if pattern.startswith("/") else "") + "/".join(names)


def _literal_parts(pattern: str) -> Iterator[str]:
    for part in parts_of(pattern):
        if "*" in part or "?" in part:
            return
        yield part


def match_parts(pattern: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the names in a path fit, one by one; ``**`` is any number of them, none included.

    All ways to match are followed at once, so it takes ``len(pattern) * len(names)`` steps at most.
    """
    reached = _skip_stars(pattern, {0})
    for name in names:
        after = {at + (pattern[at] != "**") for at in reached if at < len(pattern) and _fits(pattern[at], name)}
        reached = _skip_stars(pattern, after)
        if not reached:
            return False
    return len(pattern) in reached


def _fits(part: str, name: str) -> bool:
    return part == "**" or match_text(part, name)


def _skip_stars(pattern: Sequence[str], reached: set[int]) -> set[int]:
    for at in sorted(reached):
        skipped = at
        while skipped < len(pattern) and pattern[skipped] == "**":
            skipped += 1
            reached.add(skipped)
    return reached
