"""Which files a tool call is about, as far as its agent tells, and the policy that allows to read in one directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ._permissions import DenyAll
from .abc import PermissionPolicy, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .abc import Decision, PermissionRequest

_READING: Final = frozenset({"read", "search"})
_SECONDS: Final = 5.0
"""For looking at the file system, which may be on a network."""
_MAX_FILES: Final = 256
_MAX_LENGTH: Final = 4096
"""Characters of a path.  No system opens a longer one, so who looks at it would not see what is there."""


_THREADS: Final = 8
_limiters: Final[trio.lowlevel.RunVar[trio.CapacityLimiter]] = trio.lowlevel.RunVar("trio_acp reads")


def _limiter() -> trio.CapacityLimiter:
    """Return the run's own places for looking: those left behind in a file system that hangs are nobody else's."""
    try:
        return _limiters.get()
    except LookupError:
        _limiters.set(limiter := trio.CapacityLimiter(_THREADS))
        return limiter


@attrs.frozen
class Place:
    """A path, and every file that may be meant by it.

    Programs disagree about ``..`` behind a symbolic link: the system goes up
    from where the link leads, many agents from where it stands.  Both count.

    Attributes:
        given: As it was named, without ``..``.
        real: What is there, symbolic links followed, for the system; then for the others, if that is another file.
    """

    given: str
    real: tuple[str, ...]

    def is_inside(self, root: Place) -> bool:
        """Whether it is a directory, or in it, whatever is meant by it."""
        above = root.real[0].rstrip("/") + "/"
        return all(real == root.real[0] or real.startswith(above) for real in self.real)


@attrs.frozen
class Places:
    """The session's directory, and what a tool call names; all of it absolute.

    Attributes:
        links: Where the other paths lead that were asked about.
    """

    root: Place
    files: tuple[Place, ...]
    links: dict[str, str] = attrs.field(factory=dict)


async def find_places(request: PermissionRequest, also: Iterable[str] = ()) -> Places | None:
    """Return which files a tool call names.

    Looks at the file system, in a thread, which is left behind if it does not
    end within 5 seconds.  If cancelled, nothing happened.

    Args:
        request: What the agent asks.
        also: More paths to follow, absolute ones or relative to the session's directory.

    Returns:
        None if that is not known: there is no directory, or no path; a path
        is not absolute, or none at all, or cannot be followed to its end; or
        there are too many, or it took too long.
    """
    cwd = request.cwd
    paths = [location.path for location in request.tool_call.locations]
    if cwd is None or not 0 < len(paths) <= _MAX_FILES or not all(map(_is_path, [cwd, *paths])):
        await trio.lowlevel.checkpoint()
        return None
    with trio.move_on_after(_SECONDS):
        return await trio.to_thread.run_sync(
            _resolve, cwd, paths, tuple(also), abandon_on_cancel=True, limiter=_limiter()
        )
    return None


def _is_path(text: str) -> bool:
    return text.startswith("/") and "\0" not in text and len(text) <= _MAX_LENGTH


def _resolve(cwd: str, paths: list[str], also: tuple[str, ...]) -> Places | None:
    try:
        files = tuple(map(_place, paths))
        links = {path: os.path.realpath(os.path.join(cwd, path)) for path in also}  # noqa: PTH118 - as it is written
        return Places(_place(cwd), files, links)
    except (OSError, ValueError, RecursionError):  # a loop, a name that no file can have, a directory we may not enter
        return None


def _place(path: str) -> Place:
    given = os.path.normpath("/" + path.lstrip("/"))
    return Place(given, tuple(dict.fromkeys((_follow(path), _follow(given)))))


def _follow(path: str) -> str:
    real = os.path.realpath(path)
    for each in (real, path):  # where `realpath` gave up it does not say so, and the system may give up elsewhere
        try:
            os.stat(each)  # noqa: PTH116 - a Path would not keep `..` as it is
        except (FileNotFoundError, NotADirectoryError):
            continue  # what is not there yet leads nowhere else
    return real


class ApproveReads(PermissionPolicy):
    """Allows what reads in the session's directory; leaves all else to another policy.

    A tool call is allowed if its kind is ``read`` or ``search``, it names at
    least one file, and every file that it names is in the session's working
    directory, symbolic links and ``..`` followed.

    All of that is the agent's word: it may name one file and read another, and
    a link may be changed once the answer is given.  Whoever does not trust the
    agent to tell what it is about to do needs a sandbox, not a policy.  The
    files are looked at on this machine; an agent on another one has others.

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
