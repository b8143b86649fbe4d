"""Writing files that are nobody else's business."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path


def write_private(path: Path, text: str, replace: bool = True) -> None:
    """Write a file, for its owner only; it is there as a whole, or as it was before.

    If it is not to `replace` one, a process that is killed meanwhile may leave the beginning of a new file.

    What is no plain file is written into and never replaced: a FIFO, ``/dev/null``.  That may block.
    Links are followed to such a one only, as ``/dev/stdout`` is; never to a plain file.

    Args:
        replace: Whether a plain file that is there already is replaced.

    Raises:
        FileExistsError: it, or a link of that name, is there already, and is not to be replaced; nothing changed.
        OSError: it cannot be written, or is a link to a plain file.
    """
    if path.exists() and not path.is_file():
        _write_into(path, text)
        return
    if replace and path.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link; name the file that it leads to")
    if replace:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    else:
        descriptor, name = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), str(path)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        if replace:
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_into(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):  # it has come there meanwhile
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        file.write(text)
