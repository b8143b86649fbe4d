"""The command ``trio-acp``: sees to options, exit codes, and that failing takes one line.

Exit codes: 0 all is well; 1 an error, told in one line; 2 wrong usage; 3 the
time was up; 4 no such session; 5 the turn failed or was refused after a
permission had been denied; 130 interrupted by a signal.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, Final

from .._errors import AcpError
from ._exits import BROKEN_PIPE, ERROR, INTERRUPTED, exit_code
from ._logging import log_to_file
from ._options import HelpFormatter, Parser
from ._output import complain, forget_stdout
from ._remedies import in_words
from ._text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMMANDS: Final = {
    "demo": "see it work, in a few seconds, without an agent of your own",
    "prompt": "send a prompt to an agent",
    "chat": "talk with an agent",
    "serve": "put an agent behind a WebSocket",
    "sessions": "list, show, end or export stored sessions",
    "status": "tell how stored sessions are",
    "agents": "list agents that have a name, and whether they are installed",
    "doctor": "try an agent step by step, and tell what to do where it fails",
    "explore": "find what cancellation and the order of tasks can break",
    "timeline": "show what went on in turns, and why they ended",
}
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
    try:
        code: int = _run(given)
    except AcpError as error:
        complain(one_line(in_words(error)))
        return exit_code(error)
    except BrokenPipeError:
        forget_stdout()
        return BROKEN_PIPE
    except OSError as error:
        complain(one_line(str(error) if error.filename is None else f"{error.filename}: {error.strerror}"))
        return ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(given: Sequence[str]) -> int:
    parser = _parser(next((word for word in given if not word.startswith("-")), None))
    options, unknown = parser.parse_known_args(given)
    if unknown:  # told by the command's own parser: argparse itself would show the usage of the whole program
        hint = ""
        if options.chosen == "serve" and "--" not in given:
            hint = "; put -- before the agent's command"
        elif options.chosen == "prompt" and not unknown[0].startswith("-"):
            hint = "; a prompt of several words is one argument: quote it"
        options.parser.refuse(unknown, hint)
    from ._defaults import with_defaults  # here, for --help and --version are to be quick

    if options.log_file is not None:
        log_to_file(options.log_file)
    options = with_defaults(options, lambda: parser.parse_known_args(given)[0])
    code: int = options.run(options)
    return code


def _parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """Return the parser, which knows the options of one command: those of the others would have to be imported."""
    parser = Parser(
        prog="trio-acp",
        usage="trio-acp [--version] COMMAND ...",
        description="Use coding agents over ACP, the Agent Client Protocol.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument("--version", action=_Versions, help="show versions: this, Python, Trio")
    commands = parser.add_subparsers(
        title="commands", prog="trio-acp", metavar="COMMAND ...", required=True, dest="chosen"
    )
    for name, summary in _COMMANDS.items():
        if name == wanted:
            importlib.import_module(f".{name}", __name__).add_parser(commands)
        else:
            commands.add_parser(name, help=summary)
    return parser


class _Versions(argparse.Action):
    """Prints versions, and looks them up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's name
        super().__init__(option_strings, dest=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import platform
        from importlib import metadata

        parts = [f"{name} {metadata.version(name)}" for name in ("trio-acp", "trio", "trio-websocket")]
        print(", ".join([parts[0], f"Python {platform.python_version()}", *parts[1:]]))
        parser.exit()
