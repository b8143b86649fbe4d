"""The command ``trio-acp``: sees to options, exit codes, and that failing takes one line.

Exit codes: 0 all is well; 1 an error, told in one line; 2 wrong usage; 3 the
time was up; 4 no such session; 5 the turn failed or was refused after a
permission had been denied; 130 interrupted by a signal.
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from .._errors import AcpError
from . import agents, chat, demo, doctor, explore, prompt, serve, sessions, status, timeline
from ._defaults import with_defaults
from ._exits import BROKEN_PIPE, ERROR, INTERRUPTED, exit_code
from ._logging import log_to_file
from ._options import HelpFormatter
from ._output import complain, forget_stdout
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  trio-acp demo
  trio-acp serve --port 8137 -- gemini --acp
  trio-acp prompt "Summarise README.md" --url ws://127.0.0.1:8137/acp
  trio-acp chat --url ws://127.0.0.1:8137/acp

Each command also takes --log-file FILE, for log records of every level.
exit codes: 0 all is well, 1 an error, 2 wrong usage, 3 the time was up,
  4 no such session, 5 failed after a permission was denied, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Raises:
        SystemExit: for ``--help``, ``--version``, and with 2 for wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # whatever the locale, no character makes printing fail
            reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if argv is None else argv
    parser = _parser()
    options, unknown = parser.parse_known_args(given)
    if unknown:  # told by the command's own parser: argparse itself would show the usage of the whole program
        hint = "; put -- before the agent's command" if options.run is serve.serve and "--" not in given else ""
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        if options.log_file is not None:
            log_to_file(options.log_file)
        options = with_defaults(options, lambda: parser.parse_known_args(given)[0])
        code: int = options.run(options)
    except AcpError as error:
        complain(one_line(str(error)))
        return exit_code(error)
    except BrokenPipeError:
        forget_stdout()
        return BROKEN_PIPE
    except OSError as error:
        complain(one_line(str(error)))
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trio-acp",
        usage="trio-acp [--version] COMMAND ...",
        description="Use coding agents over ACP, the Agent Client Protocol.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=_versions(), help="show versions: this, Python, Trio")
    commands = parser.add_subparsers(title="commands", prog="trio-acp", metavar="COMMAND ...", required=True)
    for command in (demo, prompt, chat, serve, sessions, status, agents, doctor, explore, timeline):
        command.add_parser(commands)
    return parser


def _versions() -> str:
    parts = [f"{name} {metadata.version(name)}" for name in ("trio-acp", "trio", "trio-websocket")]
    return ", ".join([parts[0], f"Python {platform.python_version()}", *parts[1:]])
