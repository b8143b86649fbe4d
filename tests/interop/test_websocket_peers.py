"""`AcpRuntime` over WebSocket against an agent on each official SDK's own server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

import trio_acp
from trio_acp.transports._engines import ENGINES

from . import peers
from .sessions import Answer, first_event_then_cancel, open_session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio_acp.transports._engines import Engine

pytestmark = pytest.mark.timeout(peers.PYTEST_TIMEOUT)


chosen: dict[str, Engine] = {}


@pytest.fixture(params=ENGINES, autouse=True)
def _engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test of this file with each engine."""
    monkeypatch.setitem(chosen, "engine", request.param)


def runtime(url: str) -> trio_acp.AcpRuntime:
    """Return a runtime for the peer, with the engine of this test."""
    return trio_acp.AcpRuntime.websocket(url, engine=chosen["engine"])


@asynccontextmanager
async def open_peer(
    command: list[str], directory: Path, permissions: trio_acp.abc.PermissionPolicy | None = None
) -> AsyncIterator[trio_acp.Session]:
    """Yield a session with a freshly started peer."""
    async with (
        peers.serving(command) as url,
        open_session(runtime(url), directory, permissions) as session,
    ):
        yield session


async def test_a_turn_streams_and_completes(websocket_agent: list[str], tmp_path: Path) -> None:
    """The pieces of a message arrive in order, and the agent's stop reason is the outcome."""
    async with open_peer(websocket_agent, tmp_path) as session:
        async with session.turn("hello") as turn:
            events = [event async for event in turn]
        assert [trio_acp.TextDelta("Hel"), trio_acp.TextDelta("lo "), trio_acp.TextDelta("there")] == events
        assert trio_acp.Completed("end_turn") == turn.outcome


async def test_a_tool_call_is_shown_as_it_changes(websocket_agent: list[str], tmp_path: Path) -> None:
    """Each update of a tool call yields the whole call as known so far."""
    async with open_peer(websocket_agent, tmp_path) as session:
        async with session.turn("tool") as turn:
            calls = [event async for event in turn if isinstance(event, trio_acp.ToolCall)]
        assert ["pending", "in_progress", "completed"] == [call.status for call in calls]
        assert {"Read notes"} == {call.title for call in calls}
        assert (trio_acp.ToolContent(content=trio_acp.TextContent(text="three lines")),) == calls[-1].content


@pytest.mark.parametrize(
    ("decision", "option", "text"),
    [("allow", "yes", "answered yes"), ("deny", "no", "answered no"), ("cancel", None, "answered cancelled")],
)
async def test_a_permission_is_answered_by_the_kind_of_its_options(
    websocket_agent: list[str],
    tmp_path: Path,
    decision: trio_acp.abc.Decision,
    option: str | None,
    text: str,
) -> None:
    """The agent gets the option that fits the policy's decision, and the turn shows what was answered."""
    policy = Answer(decision)
    async with open_peer(websocket_agent, tmp_path, policy) as session:
        async with session.turn("permission") as turn:
            events = [event async for event in turn]
        assert ["Write notes"] == [request.tool_call.title for request in policy.asked]
        (answered,) = (event for event in events if isinstance(event, trio_acp.PermissionAnswered))
        assert (decision, option) == (answered.decision, answered.option_id)
        assert text == "".join(event.text for event in events if isinstance(event, trio_acp.TextDelta))


async def test_a_cancelled_turn_is_stopped_by_the_agent(websocket_agent: list[str], tmp_path: Path) -> None:
    """The agent confirms the cancel, and the same session takes the next prompt."""
    async with open_peer(websocket_agent, tmp_path) as session:
        outcome = await first_event_then_cancel(session, "seen enough")
        assert trio_acp.Stopped(by="user", reason="seen enough", agent_stop_reason="cancelled") == outcome
        assert "wait recall" == str(await session.prompt("recall"))


async def test_a_cancelled_caller_stops_the_agent(websocket_agent: list[str], tmp_path: Path) -> None:
    """An ordinary cancel scope ends the turn at the agent too, before it lets its caller go."""
    async with open_peer(websocket_agent, tmp_path) as session:
        with trio.CancelScope() as scope:
            async with session.turn("wait") as turn:
                async for _ in turn:
                    scope.cancel(reason="the caller has seen enough")
        assert scope.cancelled_caught
        assert isinstance(turn.outcome, trio_acp.Stopped)
        assert ("caller", "cancelled") == (turn.outcome.by, turn.outcome.agent_stop_reason)
        assert "wait recall" == str(await session.prompt("recall"))


async def test_a_cancel_answers_the_permission_that_waits(websocket_agent: list[str], tmp_path: Path) -> None:
    """A policy that never decides does not keep a cancelled turn alive."""
    policy = Answer(None)
    async with open_peer(websocket_agent, tmp_path, policy) as session:
        async with session.turn("permission") as turn:
            await policy.was_asked.wait()
            turn.cancel("nobody is there")
            async for _ in turn:
                pass
        assert trio_acp.Stopped(by="user", reason="nobody is there", agent_stop_reason="cancelled") == turn.outcome


async def test_a_session_outlives_its_manager(websocket_agent: list[str], tmp_path: Path) -> None:
    """A second manager resumes or loads the stored session; what the agent replays is in no turn."""
    async with peers.serving(websocket_agent) as url:
        async with open_session(runtime(url), tmp_path) as session:
            await session.prompt("hello")
        async with open_session(runtime(url), tmp_path) as session:
            assert "hello recall" == str(await session.prompt("recall"))


async def test_an_error_fails_the_turn_only(websocket_agent: list[str], tmp_path: Path) -> None:
    """The agent's error is the cause of the failure, and the session takes the next prompt."""
    async with open_peer(websocket_agent, tmp_path) as session:
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("fail")
        assert "trying" == caught.value.partial
        cause = caught.value.__cause__
        assert isinstance(cause, trio_acp.RequestFailed)
        assert (-32603, {"reason": "asked"}) == (cause.rpc_code, cause.data)
        assert "fail recall" == str(await session.prompt("recall"))


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_lost_connection_fails_its_turn_and_the_next_one_reconnects(
    websocket_agent: list[str], tmp_path: Path, how: str
) -> None:
    """Closed or reset mid-turn: the turn fails as disconnected, no prompt is sent twice, the session goes on."""
    async with open_peer(websocket_agent, tmp_path) as session:
        await session.prompt("hello")
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt(how)
        assert "disconnected" == caught.value.detail
        assert isinstance(caught.value.__cause__, trio_acp.ConnectionLost)
        assert f"hello {how} recall" == str(await session.prompt("recall"))
