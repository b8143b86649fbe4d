"""The public testing kit: an agent whose prompts are scripts."""

from ._agent_connection import Received
from ._script import STEPS, WILD
from ._scripted_agent import ScriptedAgent

__all__ = ["STEPS", "WILD", "Received", "ScriptedAgent"]
