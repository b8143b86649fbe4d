"""Searching for a mutant: one technique after the other, each on the scenario that is known to show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from trio_acp.explore import Plan, explore
from trio_acp.testing.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio_acp.explore import Report, Scenario

STRUCK_WITH: Final[Mapping[str, frozenset[str]]] = {
    "cancel": frozenset({"cancel", "call:user", "call:shutdown", "call:vanish"}),
    "schedule": frozenset(),
    "wire": frozenset({"call:cut", "call:death"}),
}
"""What a technique does to a scenario, by the names of the actions."""

REGULAR: Final = Plan(strikes=0, schedules=60, shrink=False)
"""What every profile has time for: each action once in each state; and a few orders."""

DEEP: Final = Plan(schedules=500, shrink=False)
"""Each action at each place; and many orders."""

_BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}


def disturbed(scenario: str, technique: str) -> Scenario:
    """Return a scenario to which nothing is done but what belongs to the technique."""
    found = _BY_NAME[scenario]
    return attrs.evolve(found, actions=tuple(a for a in found.actions if a.name in STRUCK_WITH[technique]))


def search(scenario: str, technique: str, plan: Plan, *, seed: int = 0) -> Report:
    """Look for something in a scenario, in one way, until it is found or the plan is carried out."""
    schedules = plan.schedules if technique == "schedule" else 0
    return explore(disturbed(scenario, technique), attrs.evolve(plan, schedules=schedules, seed=seed))
