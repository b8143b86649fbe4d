"""What an agent may do on this machine through a command: the options that say it, all off by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InvalidOption
from ..services import ClientServices, FileService, TerminalService

if TYPE_CHECKING:
    import argparse


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that give an agent files and terminals; `make_services` reads them."""
    option = parser.add_argument
    option("--allow-fs", action="store_true", help="the agent may read and write text files in DIR")
    option("--allow-terminal", action="append", metavar="CMD", help="it may run CMD; may be repeated")


def make_services(options: argparse.Namespace) -> ClientServices | None:
    """Return what the options allow; None for nothing, also for a command that has no such options.

    Raises:
        InvalidOption: there is no such program.
    """
    given = vars(options)
    files, commands = given.get("allow_fs"), given.get("allow_terminal")
    if not files and not commands:
        return None
    try:
        terminals = TerminalService(commands=commands) if commands else None
    except InvalidOption as error:
        raise InvalidOption(f"--allow-terminal: {error}", detail=error.detail) from error
    return ClientServices(files=FileService() if files else None, terminals=terminals)
