"""What a user can answer when an agent asks for permission: yes and no, and for always where the agent offers that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from .._permissions import choose_option
from ..abc import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..abc import Decision, PermissionOption

DECIDED: Final[dict[str, str]] = {"allow": "allowed", "deny": "denied", "cancel": "not granted"}
"""What became of a permission, by the decision."""

_ALL: Final[tuple[tuple[str, str, Decision, bool], ...]] = (
    ("y", "yes", "allow", False),
    ("a", "always", "allow", True),
    ("n", "no", "deny", False),
    ("x", "never", "deny", True),
)


@attrs.frozen(kw_only=True)
class Answer:
    """One of the answers to a question.

    Attributes:
        key: The letter for it.
        word: The word for it.
        option: What it chooses of what the agent offers; None, and the agent is told ``cancelled``, if nothing fits.
    """

    key: str
    word: str
    decision: Decision
    always: bool
    option: PermissionOption | None

    def verdict(self, rule: str) -> Verdict:
        """Return what a policy says to it; the rule says who answered."""
        return Verdict(decision=self.decision, rule=f"{rule}, always" if self.always else rule, always=self.always)


def answers_to(options: Sequence[PermissionOption]) -> tuple[Answer, ...]:
    """Return the answers that do something different with what an agent offers."""
    answers = []
    for key, word, decision, always in _ALL:
        option = choose_option(decision, options, always=always)
        if not always or option is not choose_option(decision, options):
            answers.append(Answer(key=key, word=word, decision=decision, always=always, option=option))
    return tuple(answers)
