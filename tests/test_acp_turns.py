"""Turns over ACP: real messages, a scripted agent, virtual time."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import connections, managed, prompts, received, session_with
from trio_acp._tool_calls import MAX_TOOL_CALLS, ToolCalls
from trio_acp.testing import WILD, ScriptedAgent

pytestmark = pytest.mark.concurrency


async def test_each_kind_of_update_arrives_as_its_event(autojump_clock: trio.testing.MockClock) -> None:
    """A turn yields one typed event for each update, in order."""
    script = "\n".join(
        [
            "say Hello",
            "think hm",
            "tool Read kind=read path=/repo/a.py",
            "plan look | fix",
            "usage 10 100",
            "mode code",
            "commands",
            'update {"sessionUpdate": "plan_removed", "id": 7}',
        ]
    )
    async with session_with(ScriptedAgent()) as session, session.turn(script) as turn:
        events = [event async for event in turn]

    assert [
        "TextDelta",
        "Thought",
        "ToolCall",
        "ToolCall",
        "ToolCall",
        "Plan",
        "Usage",
        "ModeChanged",
        "Commands",
        "UnknownUpdate",
    ] == [type(event).__name__ for event in events]
    calls = [event for event in events if isinstance(event, trio_acp.ToolCall)]
    assert [("Read", "read", status) for status in ("pending", "in_progress", "completed")] == [
        (call.title, call.kind, call.status) for call in calls
    ], "updates of a tool call are merged: each event has all that is known"
    assert trio_acp.Completed("end_turn") == turn.outcome
    assert isinstance(turn.reply, trio_acp.Reply)
    assert ("Hello", 10, 1) == (turn.reply.text, turn.reply.usage and turn.reply.usage.used, len(turn.reply.tool_calls))


async def test_prompts_of_different_sessions_share_a_connection_and_run_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two sessions use one connection; neither waits for the other's turn."""
    agent = ScriptedAgent()
    async with managed(agent) as manager, trio.open_nursery() as nursery:
        for key in ("a", "b"):
            session = await manager.start_session(key, agent="agent", cwd="/repo")
            nursery.start_soon(session.prompt, "sleep 5\nsay done")
        started = trio.current_time()
    assert 5.0 == trio.current_time() - started
    assert [1, 1] == connections(agent, "session/prompt")
    assert [] == agent.violations


async def test_a_user_cancel_sends_one_cancel_and_awaits_the_answer(autojump_clock: trio.testing.MockClock) -> None:
    """`Session.cancel` sends one ``session/cancel`` and returns when the prompt was answered."""
    agent = ScriptedAgent()
    async with session_with(agent) as session, session.turn("say a\nignore-cancel 1\nhang") as turn:
        await anext(turn)
        started = trio.current_time()
        assert 1 == await session.cancel("enough")
        assert 1.0 == trio.current_time() - started
        assert trio_acp.Stopped(by="user", reason="enough", agent_stop_reason="cancelled") == turn.outcome
    assert ["session/cancel"] == received(agent, "session/cancel")
    assert [] == agent.violations


async def test_a_cancel_in_the_instant_of_its_prompt(autojump_clock: trio.testing.MockClock) -> None:
    """Whichever order the scheduler takes: a prompt that was sent is cancelled, and for another one nothing is sent."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        for _ in range(10):
            async with session.turn("sleep 5\nsay never") as turn:
                turn.cancel()
            assert isinstance(turn.outcome, trio_acp.Stopped)
        assert "ok" == str(await session.prompt("say ok"))
    *cancelled, last = prompts(agent)
    assert "say ok" == last
    assert len(cancelled) == len(received(agent, "session/cancel"))
    assert [] == agent.violations


async def test_an_agent_that_ignores_cancel_makes_its_session_suspect(autojump_clock: trio.testing.MockClock) -> None:
    """After 2 s without an answer the caller goes on; the next turn resumes on another connection."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        other = await manager.start_session("other", agent="agent", cwd="/repo")
        started = trio.current_time()
        with trio.move_on_after(10) as scope:
            await session.prompt("ignore-cancel inf\nchunks 1000 x every=1")
        assert scope.cancelled_caught
        assert 12.0 == trio.current_time() - started
        assert 1 == manager.statistics().suspects

        assert "again" == str(await session.prompt("say again"))
        assert 0 == manager.statistics().suspects
        assert "other" == str(await other.prompt("say other")), "a shared connection is not closed for one session"
    assert [1, 2, 1] == connections(agent, "session/prompt")
    assert [2] == connections(agent, "session/resume")
    assert [1] == connections(agent, "session/close")[:1]
    assert [] == agent.violations


async def test_a_late_answer_makes_the_handle_clean_again(autojump_clock: trio.testing.MockClock) -> None:
    """If the answer comes before the next operation, the session goes on where it is."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        async with session.turn("ignore-cancel 5\nhang") as turn:
            await trio.sleep(1)
        assert isinstance(turn.outcome, trio_acp.Stopped)
        assert "left" == turn.outcome.by
        assert (await session.status()).suspect
        await trio.sleep(10)
        assert "again" == str(await session.prompt("say again"))
    assert [1, 1] == connections(agent, "session/prompt")
    assert [] == received(agent, "session/resume")
    assert [] == agent.violations


@pytest.mark.parametrize("name", sorted(WILD))
async def test_after_a_wild_agents_turn_the_next_one_works(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """Whatever an agent does with a cancel, the outcome says who stopped it, in time, and the session goes on."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        started = trio.current_time()
        async with session.turn(WILD[name]) as turn:
            await trio.sleep(0.5)
            await session.cancel()
        assert trio.current_time() - started <= 2.5 + 0.1
        if turn.outcome != trio_acp.Completed("end_turn"):
            assert isinstance(turn.outcome, trio_acp.Stopped)
            assert "user" == turn.outcome.by
        await session.prompt("say one")
        assert "two" == str(await session.prompt("say two"))
    assert [] == [fault for fault in agent.violations if "unanswered" in fault]


async def test_a_timed_out_turn_keeps_what_the_agent_had_said(autojump_clock: trio.testing.MockClock) -> None:
    """`TurnTimedOut` comes after the last event, at timeout + 1 s + the agent's answer, with the partial text."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        started = trio.current_time()
        with pytest.raises(trio_acp.TurnTimedOut) as caught:
            await session.prompt("say so far\nhang", timeout=7)
        assert 8.0 == trio.current_time() - started
        assert ("so far", "finished") == (caught.value.partial, caught.value.cleanup)
        assert "next" == str(await session.prompt("say next"))
    assert [1, 1] == connections(agent, "session/prompt"), "it stopped when it was told: the handle is reused"


async def test_an_answer_within_the_grace_completes_the_turn(autojump_clock: trio.testing.MockClock) -> None:
    """An answer between the deadline and the end of the grace still counts."""
    async with session_with(ScriptedAgent()) as session:
        reply = await session.prompt("sleep 7.5\nsay late", timeout=7)
    assert ("late", trio_acp.Completed("end_turn")) == (reply.text, reply.outcome)


async def test_an_error_answer_fails_the_turn_with_what_it_said(autojump_clock: trio.testing.MockClock) -> None:
    """A JSON-RPC error becomes `TurnFailed`, caused by a `RequestFailed` with its code; the session goes on."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("say a\nerror -32603 out of tokens")
        assert isinstance(caught.value.__cause__, trio_acp.RequestFailed)
        assert (-32603, "request-failed", "a") == (
            caught.value.__cause__.rpc_code,
            caught.value.detail,
            caught.value.partial,
        )
        assert "next" == str(await session.prompt("say next"))
    assert [1, 1] == connections(agent, "session/prompt")


async def test_an_agent_that_stops_by_itself_is_named(autojump_clock: trio.testing.MockClock) -> None:
    """A ``cancelled`` that nobody asked for, and -32800, are `Stopped` by the agent; other reasons complete."""
    async with session_with(ScriptedAgent()) as session:
        for script in ("stop cancelled", "error -32800 gone"):
            reply = await session.prompt(script)
            assert trio_acp.Stopped(by="agent", agent_stop_reason="cancelled") == reply.outcome
        assert trio_acp.Completed("max_tokens") == (await session.prompt("stop max_tokens")).outcome


async def test_late_updates_belong_to_no_turn(autojump_clock: trio.testing.MockClock) -> None:
    """What arrives after the answer, or for another session, reaches neither this turn nor the next."""
    agent = ScriptedAgent(early_update=True)
    async with session_with(agent) as session:
        first = await session.prompt("say one\nother-session\nlate 3")
        await trio.sleep(1)
        second = await session.prompt("say two")
        status = await session.status()
    assert ("one", "two") == (first.text, second.text)
    assert status.runtime is not None
    assert 4 <= status.runtime.details["tolerated"]["update-outside-a-turn"]


async def test_a_consumer_that_does_not_read_fails_its_turn_and_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Above `max_buffered` bytes the turn ends `Failed`; another session of the connection notices nothing."""
    agent = ScriptedAgent()
    async with managed(agent, settings=trio_acp.Settings(max_buffered=10_000)) as manager:
        slow = await manager.start_session("slow", agent="agent", cwd="/repo")
        quick = await manager.start_session("quick", agent="agent", cwd="/repo")
        with pytest.raises(trio_acp.TurnFailed) as caught:
            async with slow.turn("wide 100 1000\nhang") as turn:
                assert "fine" == str(await quick.prompt("say fine"))
                await trio.testing.wait_all_tasks_blocked()
                events = [event async for event in turn]
                pytest.fail(f"{len(events)} events and no error")
        assert "consumer-too-slow" == caught.value.detail
        assert "again" == str(await slow.prompt("say again"))
    assert ["session/cancel"] == received(agent, "session/cancel")


async def test_prompt_never_fails_for_the_size_of_the_reply(autojump_clock: trio.testing.MockClock) -> None:
    """`Session.prompt` collects without a buffer, so a long reply is no slow consumer."""
    async with session_with(ScriptedAgent(), settings=trio_acp.Settings(max_buffered=1000)) as session:
        reply = await session.prompt("wide 100 1000")
    assert 100_000 == len(reply.text)


async def test_an_agent_that_invents_tool_calls_fills_no_memory(autojump_clock: trio.testing.MockClock) -> None:
    """Of 1,024 calls the oldest finished one is forgotten first; an update to it is an event like any other."""

    def update(call: str, **members: str) -> str:
        return f"update {json.dumps({'sessionUpdate': 'tool_call_update', 'toolCallId': call, **members})}"

    steps = [update("open", title="Still open", status="in_progress")]
    steps += [update(f"t{number}", title=f"T{number}", status="completed") for number in range(MAX_TOOL_CALLS + 5)]
    steps += [update("t0", kind="edit"), update("open", kind="edit")]
    async with session_with(ScriptedAgent()) as session, session.turn("\n".join(steps)) as turn:
        events = [event async for event in turn if isinstance(event, trio_acp.ToolCall)]
    assert len(steps) == len(events)
    assert [("t0", "t0", "edit"), ("open", "Still open", "edit")] == [(e.id, e.title, e.kind) for e in events[-2:]]
    assert turn.reply is not None
    assert ["open", *(f"t{number}" for number in range(7, MAX_TOOL_CALLS + 5)), "t0"] == [
        call.id for call in turn.reply.tool_calls
    ]


def test_if_no_tool_call_has_finished_the_oldest_is_forgotten() -> None:
    """An agent that finishes nothing gains nothing by it; what changes keeps its place."""
    calls = ToolCalls()
    for number in range(MAX_TOOL_CALLS + 1):
        calls.put(trio_acp.ToolCall(id=str(number), title="t"))
        calls.put(trio_acp.ToolCall(id=str(number), title="u"))
    assert [str(number) for number in range(1, MAX_TOOL_CALLS + 1)] == [call.id for call in calls.all()]
