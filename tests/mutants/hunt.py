"""A hunt: a mutant that shows only when tasks meet, and which techniques of looking for faults find it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.mutants.mutant import Mutant

TECHNIQUES: Final = ("machine", "cancel", "schedule", "wire")


@attrs.frozen(kw_only=True)
class Hunt:
    """A mutant, where it shows, and what finds it there.

    Attributes:
        mutant: The fault.  Its killer is the one search that is made in every profile.
        scenario: Which of `trio_acp.testing.scenarios` shows it.
        found_by: For each of `TECHNIQUES` whether it finds the mutant; None where it does not apply.
            ``machine`` is the named state machine of the suite; the others explore the scenario:
            ``cancel`` strikes once with a cancellation, of the caller, by the user, of the manager's
            body or of all around it; ``schedule`` draws orders of the tasks, and nothing strikes;
            ``wire`` strikes once by cutting the wire or killing the agent.
        machine: The state machine that drives the code, as a killer is named; None if none does.
        seed: Decides what the regular search draws.
    """

    mutant: Mutant
    scenario: str
    found_by: Mapping[str, bool | None]
    machine: str | None = None
    seed: int = 0

    @property
    def regular(self) -> str:
        """The technique that looks for it in every profile."""
        return next(technique for technique in ("schedule", "wire", "cancel") if self.found_by[technique])
