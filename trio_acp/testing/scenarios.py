"""The built-in scenarios of ``trio-acp explore``: this package under its own explorer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from .._options import UNSET
from ._scenario_oracle import check
from ._scenario_world import Scene
from ._script import WILD

if TYPE_CHECKING:
    from ._scenario_world import World

async def start_and_prompt(world: World) -> None:
    """Open a session and run a turn on it."""
    await world.run(await world.start(), "say hello; sleep 1; say bye")

SCENES = (Scene(name="start-and-prompt", body=start_and_prompt, check=check),)
SCENARIOS = tuple(scene.scenario() for scene in SCENES)
