"""What the configuration file says about options that are not given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._config import load_config

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def with_defaults(options: argparse.Namespace, parse: Callable[[], argparse.Namespace]) -> argparse.Namespace:
    """Return the options with what ``[defaults]`` says, as far as the command has such options.

    Args:
        options: As parsed; the same if the command talks to no agent.
        parse: Parses the command line anew.

    Raises:
        InvalidOption: the configuration file is broken.
    """
    if "config" not in vars(options):
        return options
    values = load_config(options.config).defaults
    known = {name: value for name, value in values.items() if name != "agent" and name in vars(options)}
    if not known:
        return options
    options.parser.set_defaults(**known)
    again = parse()
    # A value of the command line is another object than the one of the file, even if it is equal.
    again.configured = frozenset(name for name, value in known.items() if vars(again)[name] is value)
    return again


def is_given(options: argparse.Namespace, name: str) -> bool:
    """Whether an option that has a value got it from the command line, and not from the configuration file."""
    return bool(getattr(options, name)) and name not in getattr(options, "configured", ())
