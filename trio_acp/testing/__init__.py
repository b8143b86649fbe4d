"""The public testing kit: test your application, or your adapter, without an agent.

`ScriptedAgent` is a whole agent at the other end of a transport, `FakeRuntime`
a runtime without one.
"""

from __future__ import annotations

from ._agent_connection import Received
from ._dial import dial_agent
from ._script import STEPS, WILD
from ._scripted_agent import ScriptedAgent
from .contract import RuntimeContract
from .fake import FakeCall, FakeHandle, FakeRuntime, Hang, Raise, Run, Sleep, Swallow

__all__ = [
    "STEPS",
    "WILD",
    "FakeCall",
    "FakeHandle",
    "FakeRuntime",
    "Hang",
    "Raise",
    "Received",
    "Run",
    "RuntimeContract",
    "ScriptedAgent",
    "Sleep",
    "Swallow",
    "dial_agent",
]
