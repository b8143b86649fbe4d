"""From a path that an agent names to an open descriptor, without ever leaving the session's root.

A path is never handed to the kernel as a whole.  It is taken apart, and each
directory is opened relative to the one before it, and only if it is really a
directory and no symbolic link (``O_NOFOLLOW | O_DIRECTORY``).  So it does not
matter what is renamed, or replaced by a link, between two steps: a descriptor
goes on meaning the directory that was opened.

The rule is the simplest safe one: below the root no symbolic link is followed,
wherever it leads, and ``..`` is not understood.  The root itself may be reached
through links, for whoever opened the session chose it; a path may begin with
the root as it was given or as it really is.

A hard link is a file like any other: what it shares with a file elsewhere can
be read, but not changed, for writing replaces the file.

Everything here blocks, and belongs into a thread.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from ._refused import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening a FIFO waits for its other end.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MAX_LENGTH: Final = 4096
MAX_MADE: Final = 32
"""Directories that are made for one file, at most; each is kept open until the file is written."""


def components(root: str, path: str) -> list[str]:
    """Return the names that lead from the root to `path`; none for the root itself.

    Raises:
        Refused: it is not absolute, not below the root, or has ``..`` or a null character in it.
    """
    if len(path) > _MAX_LENGTH:  # it would be in our answer and in the log
        raise Refused("invalid", f"a path must not have more than {_MAX_LENGTH} characters")
    if "\0" in path or not path.startswith("/"):
        raise Refused("invalid", f"{path!r}: a path must be absolute")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise Refused("invalid", f"{path!r}: character {error.start} is half a surrogate pair") from error
    names = _names(path)
    if ".." in names:
        raise Refused("invalid", f"{path!r}: a path must not have '..' in it")
    for base in (_names(os.path.abspath(root)), _names(os.path.realpath(root))):  # noqa: PTH100 - it may have lone surrogates
        if names[: len(base)] == base:
            return names[len(base) :]
    raise Refused("invalid", f"{path!r} is not inside the session's directory, {root!r}")


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in {"", "."}]


@contextmanager
def open_directory(root: str, names: list[str], path: str, *, create: bool = False) -> Iterator[int]:
    """Open the directory that `names` lead to from the root; closed at the end of the block.

    Args:
        root: Where to begin.
        names: What `components` returned, or the first of them.
        path: The path as the agent wrote it, for errors.
        create: Make the directories that are missing.  If the block raises,
            those that were made are removed again, unless something is in them by then.

    Raises:
        Refused: on the way there is something missing, or no directory.
    """
    with ExitStack() as opened:
        try:
            here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Refused("failed", f"the session's directory {root!r} cannot be opened: {error.strerror}") from error
        opened.callback(os.close, here)
        missing = 0
        with ExitStack() as made:
            for name in names:
                try:
                    inner = _step(here, name, path)
                except Refused as refused:
                    if not create or refused.reason != "missing":
                        raise
                    missing += 1
                    if missing > MAX_MADE:
                        raise Refused("invalid", f"more than {MAX_MADE} directories of the path are missing") from None
                    if _make(here, name, path):
                        made.callback(_remove, here, name)
                    inner = _step(here, name, path)
                if not missing:  # a path is as long as an agent likes, and descriptors are few
                    opened.close()
                opened.callback(os.close, inner)
                here = inner
            yield here
            made.pop_all()


def _make(parent: int, name: str, path: str) -> bool:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return False
    except OSError as error:
        raise refusal(error, name, path) from error
    return True


def _remove(parent: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return  # somebody has put something into it, or has removed it


def _step(parent: int, name: str, path: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        # A link is "not a directory" to Linux and "too many links" to others: look which.
        if error.errno in {errno.ENOTDIR, errno.ELOOP} and _is_link(parent, name):
            raise Refused("invalid", _is_a_link(name, path)) from error
        raise refusal(error, name, path) from error


def open_file(parent: int, name: str, path: str, flags: int) -> tuple[int, os.stat_result]:
    """Open a regular file and nothing else: no link, no device, no FIFO, no directory.  The caller closes it.

    Raises:
        Refused: it is something else, or cannot be opened.
        FileNotFoundError: there is nothing of that name.
    """
    try:
        opened = os.open(name, flags | _FILE, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused("invalid", _is_a_link(name, path)) from error
        if error.errno in {errno.EISDIR, errno.ENXIO, errno.ENODEV}:
            raise Refused("invalid", f"{path!r} is not a regular file") from error
        raise refusal(error, name, path) from error
    found = os.fstat(opened)
    if not stat.S_ISREG(found.st_mode):
        os.close(opened)
        raise Refused("invalid", f"{path!r} is not a regular file")
    return opened, found


def refusal(error: OSError, name: str, path: str) -> Refused:
    """Return what an error of the operating system means to the agent."""
    if error.errno == errno.ENOENT:
        return Refused("missing", f"{path!r}: there is no {name!r}")
    if error.errno == errno.ENOTDIR:
        return Refused("invalid", f"{path!r}: {name!r} is not a directory")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}:
        return Refused("invalid", f"{path!r}: {name!r}: {error.strerror}")
    return Refused("failed", f"{path!r}: {name!r}: {error.strerror}")


def _is_link(parent: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _is_a_link(name: str, path: str) -> str:
    return f"{path!r}: {name!r} is a symbolic link, and links are not followed"
