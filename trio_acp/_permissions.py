"""Answering an agent's request for permission: decisions, and the option that says them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .abc import Decision, PermissionPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .abc import PermissionOption, PermissionRequest

# The mildest answer first: what is allowed or denied once binds nobody later.
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "allow": ("allow_once", "allow_always"),
    "deny": ("reject_once", "reject_always"),
}


def choose_option(decision: Decision, options: Sequence[PermissionOption]) -> PermissionOption | None:
    """Return the option whose kind says the decision, or None if none does.

    Never goes by an option's position or name; None means to answer ``cancelled``.
    """
    for kind in _KINDS.get(decision, ()):
        for option in options:
            if option.kind == kind:
                return option
    return None


class DenyAll(PermissionPolicy):
    """Denies everything; the default."""

    async def decide(self, request: PermissionRequest) -> Decision:
        """Deny."""
        return "deny"


class AllowAll(PermissionPolicy):
    """Allows everything.  The agent can then do whatever your user can do."""

    async def decide(self, request: PermissionRequest) -> Decision:
        """Allow."""
        return "allow"
