"""What an agent's refusal to resume a session means, over the real stack."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import prompts, received
from tests.turn_kit import OnTask, installed
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from trio_acp.abc import Transport

LOST, INTERNAL, UNKNOWN, GIVEN_UP = -32002, -32603, 5, -32800


class Refusing(trio_acp.abc.Transport):
    """A transport to an agent that answers some methods with errors: the next ones of `codes`, by method."""

    def __init__(self, inner: Transport, codes: dict[str, list[int]]) -> None:
        self._inner = inner
        self._codes = codes
        self._refused: dict[object, int] = {}

    async def send(self, message: str) -> None:
        frame: dict[str, Any] = json.loads(message)
        codes = self._codes.get(str(frame.get("method")))
        if codes:
            self._refused[frame["id"]] = codes.pop(0)
            frame["method"] = f"refused/{frame['method']}"  # the agent does not know that, and says so
        await self._inner.send(json.dumps(frame))

    async def receive(self) -> str | bytes:
        frame: dict[str, Any] = json.loads(await self._inner.receive())
        if "error" in frame and frame["id"] in self._refused:
            frame["error"]["code"] = self._refused.pop(frame["id"])
        return json.dumps(frame)

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def refusing(
    agent: ScriptedAgent, store: trio_acp.MemoryStore, codes: dict[str, list[int]]
) -> AsyncIterator[trio_acp.SessionManager]:
    """Open a manager whose agent refuses."""

    @asynccontextmanager
    async def dial() -> AsyncIterator[Transport]:
        async with dial_agent(agent)() as inner:
            yield Refusing(inner, codes)

    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial)}, store=store) as manager:
        yield manager


async def stored(agent: ScriptedAgent) -> trio_acp.MemoryStore:
    """Return a store with a session that had a turn."""
    store = trio_acp.MemoryStore()
    async with refusing(agent, store, {}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        await session.prompt("say one")
    return store


@pytest.mark.parametrize("code", [INTERNAL, UNKNOWN, -32601])
@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ({}, ["refused/session/resume", "session/load"]),
        ({"load": False}, ["refused/session/resume", "session/resume"]),
        ({"resume": False}, ["refused/session/load", "session/load"]),
    ],
    ids=["both", "resume", "load"],
)
async def test_a_passing_failure_loses_no_conversation(
    offers: dict[str, Any], expected: list[str], code: int, autojump_clock: MockClock
) -> None:
    """A code that says nothing about the session: the agent is asked once more, by the other way if it has one."""
    agent = ScriptedAgent(**offers)
    store = await stored(agent)
    agent.log.clear()
    way = expected[0].removeprefix("refused/")
    async with refusing(agent, store, {way: [code]}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
    if code == -32601 and len(offers):  # what the agent does not have is not asked for again
        assert "replaced" == session.origin
    else:
        assert "resumed" == session.origin
        assert ["initialize", *expected, "session/close"] == received(agent)


@pytest.mark.parametrize("code", [INTERNAL, UNKNOWN, LOST, -32600, -32602])
async def test_a_session_that_is_lost_begins_anew(code: int, autojump_clock: MockClock) -> None:
    """Whichever code the agent has for it: at once if the code is definite, else after two refusals."""
    agent = ScriptedAgent()
    store = await stored(agent)
    agent.log.clear()
    async with refusing(agent, store, {"session/resume": [code], "session/load": [code]}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        assert ("replaced", "session-2") == (session.origin, (await session.status()).session_id)
        assert session.lost is not None
        assert f"({code})" in session.lost
    asked = ["refused/session/resume"] + ["refused/session/load"] * (code in {INTERNAL, UNKNOWN})
    assert asked == [method for method in received(agent) if method.startswith("refused/")]


@pytest.mark.parametrize(
    "codes",
    [
        {"session/resume": [GIVEN_UP]},
        {"session/resume": [INTERNAL], "session/load": [INTERNAL], "session/new": [INTERNAL]},
    ],
    ids=["the request was given up", "the agent opens nothing at all"],
)
async def test_an_agent_in_trouble_keeps_its_conversations(
    codes: dict[str, list[int]], autojump_clock: MockClock
) -> None:
    """If the refusal says nothing of the session, or no new one can be opened, the stored id stays and is used."""
    agent = ScriptedAgent()
    store = await stored(agent)
    async with refusing(agent, store, codes) as manager:
        session = manager.session("k")
        with pytest.raises(trio_acp.TurnFailed):
            await session.prompt("say two")
        assert "I remember 1 earlier turns" in (await session.prompt("history")).text


async def test_a_session_the_agent_forgot_is_not_prompted_for_ever(autojump_clock: MockClock) -> None:
    """A prompt that is answered "not found" makes the next one look: the session is resumed, or begins anew."""
    agent = ScriptedAgent()
    store = await stored(agent)
    lost = {"session/prompt": [LOST]}
    async with refusing(agent, store, lost) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        with pytest.raises(trio_acp.TurnFailed):
            await session.prompt("say two")
        agent.log.clear()
        await session.prompt("say three")
    assert (["session/resume"], ["say three"]) == (received(agent, "session/resume"), prompts(agent))


async def test_what_cannot_be_resumed_is_not_given_up_for_a_prompt(autojump_clock: MockClock) -> None:
    """An agent that can only open new sessions may have meant something else by "not found"."""
    agent = ScriptedAgent(load=False, resume=False)
    async with refusing(agent, trio_acp.MemoryStore(), {"session/prompt": [LOST]}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        with pytest.raises(trio_acp.TurnFailed):
            await session.prompt("say one")
        await session.prompt("say two")
    assert 1 == len(received(agent, "session/new"))


async def test_an_acp_turn_needs_no_status(autojump_clock: MockClock) -> None:
    """The handle has the one id that there is: it is confirmed by the turn, and no task is started to ask for it."""
    agent, store = ScriptedAgent(), trio_acp.MemoryStore()
    watch = OnTask("trio_acp call status", lambda: None, spawned=True)
    async with refusing(agent, store, {}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        with installed(watch):
            await session.prompt("say one")
            await trio.testing.wait_all_tasks_blocked()
        identity = (await session.status()).identity
    assert (False, trio_acp.Identity(state="resolved", session_id="session-1", source="status")) == (
        watch.fired,
        identity,
    )


async def test_a_start_that_is_cancelled_at_any_step_loses_no_id(autojump_clock: MockClock) -> None:
    """Wherever it is cut, between the two ways too: the stored id stays, and the agent is told nothing wrong."""
    agent = ScriptedAgent()
    store = await stored(agent)
    started = False
    for steps in range(1, 40):
        started = False
        async with refusing(agent, store, {"session/resume": [INTERNAL]}) as manager, trio.open_nursery() as nursery:

            async def start(manager: trio_acp.SessionManager = manager) -> None:
                nonlocal started
                await manager.start_session("k", agent="agent", cwd="/repo")
                started = True

            nursery.start_soon(start)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
            assert started <= bool(manager.statistics().open_handles)
    assert started, "the last one was never cut"
    assert [] == agent.violations
    record = await store.read("k")
    assert record is not None
    assert "session-1" == record.session_id
