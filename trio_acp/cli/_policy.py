"""``--permissions``: who answers when an agent asks before it does something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._errors import InvalidOption
from .._permissions import AllowAll, DenyAll
from .._reads import ApproveReads
from .._rules import RulePolicy
from ._output import complain

if TYPE_CHECKING:
    import argparse

    from ..abc import PermissionPolicy

_NAMES: Final = ("ask", "deny", "approve-reads", "approve-all")


def add_permission_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--permissions``; None stands for what fits the terminal."""
    parser.add_argument(
        "--permissions",
        metavar="P",
        help="ask, deny, approve-reads, approve-all or FILE.toml (default: ask on a terminal, else deny)",
    )


def make_policy(options: argparse.Namespace, *, ask: PermissionPolicy | None) -> PermissionPolicy:
    """Return the policy that ``--permissions`` names; it says so if that is dangerous or cannot ask.

    Args:
        options: The command's.
        ask: Asks whoever sits at the terminal; None if nobody does.

    Raises:
        InvalidOption: there is no such policy, or its file cannot be understood.
    """
    match options.permissions:
        case None:
            return ask or DenyAll()
        case "deny":
            return DenyAll()
        case "ask":
            if ask is None:
                complain("--permissions ask: there is no terminal to ask at, so everything is denied")
            return ask or DenyAll()
        case "approve-reads":
            return ApproveReads(ask)
        case "approve-all":
            complain("--permissions approve-all: the agent may do whatever you can do, without asking")
            return AllowAll()
        case str(path) if path.endswith(".toml"):
            return RulePolicy.from_file(path, ask=ask)
        case other:
            raise InvalidOption(f"--permissions: must be {', '.join(_NAMES)} or a file FILE.toml, not {other!r}")
