"""Test your application with the scripted agent, under a clock that jumps.

The agent here goes silent in the middle of a turn.  That the application
gives up after ten minutes is tested in no time.  The fixture is pytest-trio's;
this file runs its test also without::

    python examples/virtual_time.py
"""

from __future__ import annotations

import time

import trio
from trio.testing import MockClock

import trio_acp
from trio_acp.testing import ScriptedAgent, dial_agent


async def summary(manager: trio_acp.SessionManager, text: str) -> str:
    """Be the application: summarise a text, or say that there is no summary."""
    try:
        return str(await manager.ask(text, agent="agent", timeout=600))
    except trio_acp.TurnTimedOut as error:
        return f"{error.partial} [the agent went silent]"


async def test_an_agent_that_goes_silent_costs_ten_minutes(autojump_clock: MockClock) -> None:
    """The application shows what there is, and the agent was told to stop."""
    agent = ScriptedAgent()
    began = trio.current_time()
    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial_agent(agent))}) as manager:
        assert await summary(manager, "say It is about; hang") == "It is about [the agent went silent]"
    assert 600 <= trio.current_time() - began < 605
    assert "session/cancel" in [received.method for received in agent.log]
    assert agent.violations == []  # what a client must not do, and ours did not


if __name__ == "__main__":
    began = time.perf_counter()
    clock = MockClock(autojump_threshold=0)
    trio.run(test_an_agent_that_goes_silent_costs_ten_minutes, clock, clock=clock)
    print(f"Completed: {clock.current_time():.0f} s of Trio's time in {time.perf_counter() - began:.1f} s")
