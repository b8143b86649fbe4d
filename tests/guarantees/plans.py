"""How much of each built-in scenario is explored, by profile; for the tests and for the page of guarantees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from trio_acp.explore import Plan
from trio_acp.testing.scenarios import SCENARIOS, SCENES

if TYPE_CHECKING:
    from trio_acp.explore import Scenario
    from trio_acp.testing._scenario_world import Scene

SMALLEST: Final = frozenset({"ask", "oneshot"})
PLANS: Final = {
    "dev": Plan(strikes=0, schedules=2),
    "ci": Plan(strikes=20, schedules=10, pairs=4),
    "deep": Plan(schedules=2000, pairs=20, max_findings=3),
}
"""By profile; even with ``strikes=0`` each state meets each action once."""
SMALLEST_PAIRS: Final = {"dev": 6, "ci": 20, "deep": 2_000}
"""Of the 4 million that the smallest scenario has: more than a day."""

SCENARIO: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in SCENARIOS}
SCENE: Final[dict[str, Scene]] = {scene.name: scene for scene in SCENES}


def plan_of(name: str, profile: str, seed: int = 0) -> Plan:
    """Return what is tried of a scenario; a profile that is not known here is ``dev``."""
    profile = profile if profile in PLANS else "dev"
    plan = attrs.evolve(PLANS[profile], seed=seed)
    return attrs.evolve(plan, pairs=SMALLEST_PAIRS[profile]) if name in SMALLEST else plan
