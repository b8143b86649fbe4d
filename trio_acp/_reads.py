"""Which files a tool call is about, as far as its agent tells, and the policy that allows to read in one directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ._permissions import DenyAll
from .abc import PermissionPolicy, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .abc import Decision, PermissionRequest

_READING: Final = frozenset({"read", "search"})
_SECONDS: Final = 5.0
"""For looking at the file system, which may be on a network."""


@attrs.frozen
class Place:
    """A path: as it was given, without ``..``, and as it is once symbolic links are followed."""

    given: str
    real: str

    def is_inside(self, root: Place) -> bool:
        """Whether it is a directory, or in it, symbolic links followed."""
        return self.real == root.real or self.real.startswith(root.real.rstrip("/") + "/")


@attrs.frozen
class Places:
    """The session's directory, and what a tool call names; all of it absolute."""

    root: Place
    files: tuple[Place, ...]


async def find_places(request: PermissionRequest) -> Places | None:
    """Return which files a tool call names.

    Looks at the file system, in a thread, which is left behind if it does not
    end within 5 seconds.  If cancelled, nothing happened.

    Returns:
        None if that is not known: there is no directory, or no path; a path
        is not absolute, or none at all; or it took too long.
    """
    paths = [location.path for location in request.tool_call.locations]
    if not paths or request.cwd is None or not all(map(_is_path, [request.cwd, *paths])):
        await trio.lowlevel.checkpoint()
        return None
    found: list[Place] = []
    with trio.move_on_after(_SECONDS):
        found = await trio.to_thread.run_sync(_resolve, [request.cwd, *paths], abandon_on_cancel=True)
    return Places(found[0], tuple(found[1:])) if found else None


def _is_path(text: str) -> bool:
    return text.startswith("/") and "\0" not in text


def _resolve(paths: Sequence[str]) -> list[Place]:
    try:
        return [Place(os.path.normpath(path), os.path.realpath(path)) for path in paths]
    except (OSError, ValueError):  # a name that no file can have
        return []


class ApproveReads(PermissionPolicy):
    """Allows what reads in the session's directory; leaves all else to another policy.

    A tool call is allowed if its kind is ``read`` or ``search``, it names at
    least one file, and every file that it names is in the session's working
    directory, symbolic links and ``..`` followed.

    All of that is the agent's word.  Whoever does not trust the agent to tell
    what it is about to do needs a sandbox, not a policy.

    Args:
        otherwise: Decides the rest; default: `DenyAll`.
    """

    def __init__(self, otherwise: PermissionPolicy | None = None) -> None:
        self._otherwise = otherwise or DenyAll()

    async def decide(self, request: PermissionRequest) -> Decision | Verdict:
        """Allow, or let the other policy decide.  If cancelled, nothing was decided."""
        if request.tool_call.kind in _READING:
            places = await find_places(request)
            if places is not None and all(file.is_inside(places.root) for file in places.files):
                return Verdict(decision="allow", rule="it reads in the session's directory")
        return await self._otherwise.decide(request)
