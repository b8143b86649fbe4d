"""Writing files that are nobody else's business."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str, replace: bool = True) -> None:
    """Write a file, for its owner only; it is there as a whole, or as it was before.

    What is no plain file is written into and never replaced: a FIFO, ``/dev/null``.  That may block.

    Args:
        replace: Whether a plain file that is there already is replaced; a link to one stays, and leads to the new text.

    Raises:
        FileExistsError: it is there already, and is not to be replaced; nothing changed.
        OSError: it cannot be written.
    """
    if (path.is_symlink() and replace) or (path.exists() and not path.is_file()):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return
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
