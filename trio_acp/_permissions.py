"""Answering an agent's request for permission: the simple policies, and the option that says a decision."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, get_args

import trio

from ._errors import InvalidOption
from ._limits import is_seconds
from .abc import Decision, PermissionPolicy, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .abc import PermissionOption, PermissionRequest

_log = logging.getLogger(__name__)

# What is allowed or denied once binds nobody later.
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "allow": ("allow_once", "allow_always"),
    "deny": ("reject_once", "reject_always"),
}
_DECISIONS: Final = get_args(Decision)


def choose_option(
    decision: Decision, options: Sequence[PermissionOption], *, always: bool = False
) -> PermissionOption | None:
    """Return the option whose kind says the decision, or None if none does; the mildest, unless it is for `always`.

    Never goes by an option's position or name; None means to answer ``cancelled``.
    """
    kinds = _KINDS.get(decision, ())
    for kind in reversed(kinds) if always else kinds:
        for option in options:
            if option.kind == kind:
                return option
    return None


def verdict_of(answer: Any, policy: PermissionPolicy) -> Verdict:
    """Return what a policy decided; if it returned something that is no decision, that denies, and the log warns."""
    name = type(policy).__name__
    verdict = answer if isinstance(answer, Verdict) else Verdict(decision=answer, rule=name)
    if verdict.decision in _DECISIONS and isinstance(verdict.rule, str):
        return verdict
    rule = f"{name} returned no decision"
    decisions = " or ".join(map(repr, sorted(_DECISIONS)))
    _log.warning("%s, which is %s; permission is denied: it returned %.200r", rule, decisions, answer)
    return Verdict(decision="deny", rule=rule)


class DenyAll(PermissionPolicy):
    """Denies everything; the default."""

    async def decide(self, request: PermissionRequest) -> Verdict:
        """Deny.  If cancelled, nothing was decided."""
        await trio.lowlevel.checkpoint()
        return Verdict(decision="deny", rule="everything is denied")


class AllowAll(PermissionPolicy):
    """Allows everything, and says so in a warning.  The agent can then do whatever your user can do."""

    def __init__(self) -> None:
        _log.warning("agents get every permission that they ask for (AllowAll)")

    async def decide(self, request: PermissionRequest) -> Verdict:
        """Allow.  If cancelled, nothing was decided."""
        await trio.lowlevel.checkpoint()
        return Verdict(decision="allow", rule="everything is allowed")


class Ask(PermissionPolicy):
    """Lets an async function decide: one that asks somebody, for instance.

    Args:
        ask: Gets the request, and returns a decision or a `Verdict`.  Several
            requests may be open at once.  What the request says is the
            agent's: make it safe before it is shown.  The function is
            cancelled when nobody waits for its answer any more.
        timeout: Seconds after which the request is cancelled; ``math.inf`` for never.

    Raises:
        InvalidOption: the timeout is no number above 0.
    """

    def __init__(
        self,
        ask: Callable[[PermissionRequest], Awaitable[Decision | Verdict]],
        *,
        timeout: float = math.inf,
    ) -> None:
        if not is_seconds(timeout):
            raise InvalidOption(f"timeout must be more than 0 seconds, not {timeout!r}", detail="invalid-timeout")
        self._ask = ask
        self._timeout = timeout

    async def decide(self, request: PermissionRequest) -> Verdict:
        """Ask.  If cancelled, so is the question."""
        with trio.move_on_after(self._timeout) as scope:
            answer = await self._ask(request)
            if not scope.cancel_called:  # else it comes too late, from a function that took no notice
                return answer if isinstance(answer, Verdict) else Verdict(decision=answer, rule="asked")
        return Verdict(decision="cancel", rule=f"nobody answered within {self._timeout:g} s")
