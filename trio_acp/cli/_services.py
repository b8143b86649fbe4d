"""What an agent may do on this machine through a command: the options that say it, all off by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InvalidOption
from ..services import ClientServices, FileService, TerminalService

if TYPE_CHECKING:
    import argparse


def add_service_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that give an agent files and terminals; `make_services` reads them."""
    group = parser.add_argument_group("what the agent may do here, in its working directory, without asking")
    group.add_argument("--allow-fs", action="store_true", help="read and write text files")
    group.add_argument(
        "--allow-terminal",
        action="append",
        metavar="CMD",
        help="run this program; no sandbox: CMD may do all it can; may be repeated",
    )


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
