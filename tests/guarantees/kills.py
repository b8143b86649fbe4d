"""The kill matrix: which technique finds which planted fault, as `tests.mutants.explored.HUNTS` has it."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.mutants.mutant import Mutant

TECHNIQUES: Final = ("machine", "cancel", "schedule", "wire")


class Hunt(Protocol):
    """A mutant, and what finds it: True or False for each technique, None if that was not tried."""

    @property
    def mutant(self) -> Mutant:
        """The planted fault."""

    @property
    def scenario(self) -> str:
        """Where it is hunted."""

    @property
    def found_by(self) -> Mapping[str, bool | None]:
        """By technique."""


def hunts() -> Sequence[Hunt]:
    """Return all hunts."""
    if importlib.util.find_spec("tests.mutants.explored") is None:
        return ()
    found: Sequence[Hunt] = importlib.import_module("tests.mutants.explored").HUNTS
    return found
