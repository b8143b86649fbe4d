"""`AcpRuntime` over stdio: the example agent that the Python SDK ships, and ours on the same SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import trio_acp

from . import peers
from .sessions import Answer, first_event_then_cancel, open_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(peers.PYTEST_TIMEOUT)


async def test_the_example_agent_answers(python_sdk: peers.PythonSdk, tmp_path: Path) -> None:
    """Its two chunks arrive in order; a cancel between its turns does nothing; the next turn works."""
    async with open_session(trio_acp.AcpRuntime.stdio(python_sdk.example_agent), tmp_path) as session:
        async with session.turn("hello") as turn:
            events = [event async for event in turn]
        assert [trio_acp.TextDelta("Client sent:"), trio_acp.TextDelta("hello")] == events
        assert trio_acp.Completed("end_turn") == turn.outcome
        assert 0 == await session.cancel()
        assert "Client sent:again" == str(await session.prompt("again"))


async def test_a_cancelled_turn_is_stopped_by_the_agent(python_sdk: peers.PythonSdk, tmp_path: Path) -> None:
    """The agent confirms the cancel, and the same process takes the next prompt."""
    agent = python_sdk.stdio_agent(tmp_path / "sessions.json")
    async with open_session(trio_acp.AcpRuntime.stdio(agent), tmp_path) as session:
        outcome = await first_event_then_cancel(session, "seen enough")
        assert trio_acp.Stopped(by="user", reason="seen enough", agent_stop_reason="cancelled") == outcome
        assert "wait recall" == str(await session.prompt("recall"))


@pytest.mark.parametrize(("decision", "text"), [("allow", "answered yes"), ("deny", "answered no")])
async def test_a_permission_is_answered(
    python_sdk: peers.PythonSdk, tmp_path: Path, decision: trio_acp.abc.Decision, text: str
) -> None:
    """The agent gets the option that fits the policy's decision."""
    policy = Answer(decision)
    agent = python_sdk.stdio_agent(tmp_path / "sessions.json")
    async with open_session(trio_acp.AcpRuntime.stdio(agent), tmp_path, policy) as session:
        assert text == str(await session.prompt("permission"))
        assert ["Write notes"] == [request.tool_call.title for request in policy.asked]


async def test_a_dead_process_fails_its_turn_and_the_next_one_starts_another(
    python_sdk: peers.PythonSdk, tmp_path: Path
) -> None:
    """An agent that exits mid-turn is a lost connection; its session is loaded in a new process."""
    agent = python_sdk.stdio_agent(tmp_path / "sessions.json")
    async with open_session(trio_acp.AcpRuntime.stdio(agent), tmp_path) as session:
        await session.prompt("hello")
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("reset")
        assert "agent-exited" == caught.value.detail
        assert isinstance(caught.value.__cause__, trio_acp.ConnectionLost)
        assert "hello reset recall" == str(await session.prompt("recall"))
