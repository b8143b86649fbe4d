"""The registry of mutants: faults that the package could have, each with the test that notices it.

To add one, append a `Mutant` to the list of its part (`policies`, `turns`,
`stored`, `owned`, `explorer`, `explored`, or a new one that is named below) and run ``python -m tests.mutants NAME``.
"""

from __future__ import annotations

from typing import Final

from tests.mutants import explored, explorer, owned, policies, stored, turns

MUTANTS: Final = (
    *policies.MUTANTS,
    *turns.MUTANTS,
    *stored.MUTANTS,
    *owned.MUTANTS,
    *explorer.MUTANTS,
    *explored.MUTANTS,
)
