"""Where the command line keeps sessions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .._errors import InvalidOption

if TYPE_CHECKING:
    import argparse


USUAL_AGENT: Final = "agent"
"""What the agent of stored sessions is called: the next command may reach the same one in another way."""


def default_store() -> Path:
    """Return the file for sessions: below ``TRIO_ACP_HOME`` or the user's directory for state."""
    home = os.environ.get("TRIO_ACP_HOME")
    if home:
        return Path(home) / "sessions.db"
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state) / "trio-acp" / "sessions.db"


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--store``."""
    shown = str(default_store()).replace("%", "%%")
    parser.add_argument("--store", type=Path, metavar="PATH", help=f"where sessions are kept (default: {shown})")


def store_path(options: argparse.Namespace) -> Path:
    """Return the store's file, which need not exist.

    Raises:
        InvalidOption: it is there and no plain file, or in the home of a user that there is not.
    """
    given: Path = options.store or default_store()
    try:
        path = given.expanduser()
    except RuntimeError:
        raise InvalidOption(f"--store {given}: there is no such home directory", detail="invalid-path") from None
    try:
        there, directory, plain = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:
        raise InvalidOption(f"--store {path}: {error.strerror}", detail="invalid-path") from error
    if directory:
        raise InvalidOption(f"--store {path} is a directory; name the file in it", detail="invalid-path")
    if there and not plain:  # SQLite would write beside a device, and wait for a FIFO
        raise InvalidOption(f"--store {path} is a device or a pipe; name a file", detail="invalid-path")
    return path
