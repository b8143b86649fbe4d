"""The pieces of option parsing that several commands share."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")
_LINES: Final = 24
_NO_CHOICE: Final = re.compile(r"(argument .*): invalid choice: '?(.*?)'? \(choose from (.*)\)")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Shows texts as they are written, and gives up empty lines where a screen would be too short for them."""

    def format_help(self) -> str:
        """Return the help."""
        text = super().format_help()
        return text if text.count("\n") <= _LINES else re.sub(r"\n\n+", "\n", text)


class Parser(argparse.ArgumentParser):
    """Tells what may have been meant by a word that it does not know."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and remember what was given, for errors."""
        self._given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Tell in one line what is wrong, and leave with 2.

        Raises:
            SystemExit: always.
        """
        first = next(iter(self._given), "")
        if first.startswith("--") and (hint := self._meant(first)):
            message = f"unrecognized arguments: {first}{hint}"  # else the word behind it is blamed, or none
        elif refused := _NO_CHOICE.fullmatch(message):
            argument, word, listed = refused.groups()
            choices = [choice.strip("'") for choice in listed.split(", ")]
            message = f"{argument}: {word!r} is none of {', '.join(choices)}{meant(word, choices)}"
        super().error(message)

    def refuse(self, unknown: list[str], hint: str) -> NoReturn:
        """Tell that words are too many, or that there are no such options.

        Raises:
            SystemExit: always.
        """
        word = next((word for word in unknown if word.startswith("-")), "")
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint or self._meant(word)}")

    def _meant(self, word: str) -> str:
        """Return a question for the option that was probably meant; empty if there is none, or it is one."""
        options = {"--log-file", "--help", *re.findall(r"--[a-z][a-z-]+", self.format_help())}
        name = word.partition("=")[0]
        return "" if name in options else meant(name, sorted(options))


def meant(word: str, names: Iterable[str]) -> str:
    """Return a question for the name that was probably meant; empty if there is none."""
    return "".join(f"; did you mean {name}?" for name in difflib.get_close_matches(word, names, 1, cutoff=0.7))


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    description: str,
    examples: str,
    usage: str | None = None,
    summary: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command whose help shows its texts as they are written."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        usage=usage,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    # Whoever reads the help knows --help; --log-file is in the help of the program, for all commands.
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    parser.add_argument("--log-file", type=Path, metavar="FILE", help=argparse.SUPPRESS)
    # Commands find in their options what to run, and the parser that can say what is wrong with them.
    parser.set_defaults(run=run, parser=parser)
    return parser


def seconds(text: str) -> float:
    """Read a positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {text!r}")
    return value


def tcp_port(text: str) -> int:
    """Read a TCP port; 0 stands for any that is free."""
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"not a port number: {text!r}")
    return int(text)


def origin(text: str) -> str:
    """Read the origin of web pages as browsers send it, which is in lower case."""
    if not _ORIGIN.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError(f"an origin is written https://host or https://host:port, not {text!r}")
    return text.lower()


def header(text: str) -> tuple[str, str]:
    """Read a request header, such as ``X-Key: value``; an error does not show the value, which may be secret."""
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise argparse.ArgumentTypeError("a header is written 'Name: value'")
    return name.strip(), value.strip()
