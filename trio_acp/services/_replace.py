"""Write a whole file, or nothing of it: the part that runs in a thread.

The new content goes to a temporary file in the same directory, is flushed to
the disk, and takes the old file's place in one step.  Whoever reads meanwhile
sees the old content or the new, never a part.  Permission bits are kept; owner
and extended attributes are not.

Only if this process is killed in between does the temporary file stay; its name
begins with ``.trio-acp-``.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from contextlib import suppress
from typing import Final

from ._refused import Refused
from ._root import open_file, refusal

_TEMPORARY: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Gate:
    """Lets one of two go first: the thread that is about to replace a file, or whoever does not want it any more.

    A thread cannot be cancelled.  But once `withdraw` has returned True, the
    file is not going to change, however long the thread still takes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held for an instant, never while waiting for anything
        self._passed = self._withdrawn = False

    def withdraw(self) -> bool:
        """Forbid the replacement; False if it is under way already."""
        with self._lock:
            self._withdrawn = True
            return not self._passed

    def enter(self) -> None:
        """Begin the replacement.

        Raises:
            Refused: it was withdrawn.
        """
        with self._lock:
            if self._withdrawn:
                raise Refused("cancelled", "the write was withdrawn; nothing was written")
            self._passed = True


def replace(parent: int, name: str, path: str, content: bytes, gate: Gate) -> None:
    """Give the file `name` of an open directory this content.  Blocks; cannot be cancelled, only withdrawn.

    Args:
        parent: The directory's descriptor.
        name: The file's name in it; a regular file that we may write, or nothing yet.
        path: The path as the agent wrote it, for errors.
        content: All of the file.
        gate: Entered before the old file is touched.

    Raises:
        Refused: there is something else of that name, or it did not work.  The directory is as before.
    """
    mode = _mode_of_old(parent, name, path)
    temporary = f".trio-acp-{secrets.token_hex(8)}"
    try:
        # A new file gets the mode that the umask gives it.
        written = os.open(temporary, _TEMPORARY, 0o666 if mode is None else 0o600, dir_fd=parent)
    except OSError as error:
        raise refusal(error, name, path) from error
    replaced = False
    try:
        try:
            _fill(written, content, mode)
        finally:
            os.close(written)
        gate.enter()
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        replaced = True
    except OSError as error:
        raise refusal(error, name, path) from error
    finally:
        if not replaced:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
    with suppress(OSError):  # the content is there; some file systems cannot flush a directory
        os.fsync(parent)


def _mode_of_old(parent: int, name: str, path: str) -> int | None:
    try:
        # For writing, though nothing is written: a file that we may not write is not replaced either.
        old, found = open_file(parent, name, path, os.O_WRONLY)
    except FileNotFoundError:
        return None
    os.close(old)
    return stat.S_IMODE(found.st_mode) & 0o777


def _fill(written: int, content: bytes, mode: int | None) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(written, left) :]
    if mode is not None:
        os.fchmod(written, mode)
    os.fsync(written)
