"""Requests for permission: answered exactly once, by the kind of option, and at once when a turn is stopped."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import session_with
from trio_acp.abc import Verdict
from trio_acp.testing import ScriptedAgent, dial_agent

if TYPE_CHECKING:
    from trio_acp.abc import Decision, PermissionRequest

pytestmark = pytest.mark.concurrency


class Policy(trio_acp.abc.PermissionPolicy):
    """Decides as told, after some seconds, and remembers what it was asked."""

    def __init__(self, decision: Decision = "allow", *, seconds: float = 0, error: Exception | None = None) -> None:
        self.decision: Decision = decision
        self.seconds, self.error = seconds, error
        self.asked: list[PermissionRequest] = []
        self.cancelled = 0

    async def decide(self, request: PermissionRequest) -> Decision:
        self.asked.append(request)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.decision


def answers(agent: ScriptedAgent) -> list[object]:
    """Return what the agent got as results of its own requests, in order."""
    return [entry.params for entry in agent.log if entry.kind == "response"]


@pytest.mark.parametrize(
    ("decision", "kinds", "expected"),
    [
        ("allow", "reject_once,allow_always,allow_once", "allow_once"),
        ("allow", "reject_once,allow_always", "allow_always"),
        ("deny", "allow_once,reject_always,reject_once", "reject_once"),
        ("deny", "allow_once,reject_always", "reject_always"),
        ("deny", "allow_once,allow_always", None),
        ("allow", "reject_once", None),
        ("allow", "someday", None),
        ("cancel", "allow_once,reject_once", None),
    ],
)
async def test_the_option_is_chosen_by_its_kind(
    decision: Decision, kinds: str, expected: str | None, autojump_clock: trio.testing.MockClock
) -> None:
    """Once before always, never by position; if no option says the decision, it is cancelled."""
    agent, policy = ScriptedAgent(string_ids=True), Policy(decision)
    script = f"permission Write kinds={kinds} kind=edit"
    async with session_with(agent, permissions=policy) as session, session.turn(script) as turn:
        events = [event async for event in turn if isinstance(event, trio_acp.PermissionAnswered)]
    assert [expected is None] == [event.option_id is None for event in events]
    assert [decision if expected else "cancel"] == [event.decision for event in events]
    assert ("Write", "edit") == (policy.asked[0].tool_call.title, policy.asked[0].tool_call.kind)
    assert ("k", "/repo") == (policy.asked[0].session, policy.asked[0].cwd)
    assert [] == agent.violations
    assert expected is None or expected in json.dumps(answers(agent))


async def test_everything_is_denied_by_default(autojump_clock: trio.testing.MockClock) -> None:
    """A manager without a policy denies."""
    async with session_with(ScriptedAgent()) as session:
        reply = await session.prompt("permission! Delete")
    assert trio_acp.Completed("refusal") == reply.outcome


async def test_a_policy_that_fails_denies(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of the policy is logged, denies, and does the turn no other harm."""
    async with session_with(ScriptedAgent(), permissions=Policy(error=OSError("no display"))) as session:
        reply = await session.prompt("permission! Delete")
    assert trio_acp.Completed("refusal") == reply.outcome
    assert "no display" in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "yes",
        ["allow"],
        Verdict(decision=cast("Any", "maybe"), rule="r"),
        Verdict(decision=cast("Any", []), rule="r"),
    ],
)
async def test_a_policy_that_returns_no_decision_denies(
    answer: Any, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no decision denies like an exception: the log warns, the record says why, and the turn goes on."""
    log = trio_acp.MemoryAudit()
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}, permissions=Policy(answer), audit=log) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        reply = await session.prompt("permission! Delete")
    assert trio_acp.Completed("refusal") == reply.outcome
    rule = "Policy returned no decision"
    assert [("deny", rule)] == [(record.decision, record.rule) for record in await log.list()]
    [warning] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"{rule}, which is 'allow' or 'cancel' or 'deny'; permission is denied" in warning.getMessage()
    assert repr(answer) in warning.getMessage()


async def test_a_stopped_turn_answers_open_permissions_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A cancel answers ``cancelled`` in zero time and takes the question away from the policy."""
    agent, policy = ScriptedAgent(), Policy(seconds=1000)
    async with session_with(agent, permissions=policy) as session, session.turn("permission Write") as turn:
        await trio.sleep(3)
        await session.cancel()
        assert 3.0 == trio.current_time()
    assert isinstance(turn.outcome, trio_acp.Stopped)
    assert "cancelled" == turn.outcome.agent_stop_reason
    assert 1 == policy.cancelled
    assert "cancelled" in json.dumps(answers(agent))
    assert [] == agent.violations


async def test_an_agent_may_take_its_request_back(autojump_clock: trio.testing.MockClock) -> None:
    """After ``$/cancel_request`` the request is answered -32800 and the policy is not asked any further."""
    agent, policy = ScriptedAgent(), Policy(seconds=1000)
    async with session_with(agent, permissions=policy) as session:
        reply = await session.prompt("cancel-own-request 2")
    assert 2.0 == trio.current_time()
    assert "-32800" in reply.text
    assert 1 == policy.cancelled


async def test_what_this_client_does_not_offer_is_method_not_found(autojump_clock: trio.testing.MockClock) -> None:
    """Other requests are answered -32601, bad params -32602; permission for an unknown session is cancelled."""
    agent = ScriptedAgent()
    async with session_with(agent, permissions=Policy()) as session:
        assert "-32601" in (await session.prompt('request fs/read_text_file {"path": "/etc/passwd"}')).text
        assert "-32602" in (await session.prompt('request session/request_permission {"options": 3}')).text
        unknown = {"sessionId": "nobody", "toolCall": {"toolCallId": "t"}, "options": []}
        reply = await session.prompt(f"request session/request_permission {json.dumps(unknown)}")
        assert "cancelled" in reply.text


async def test_a_flood_of_permissions_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """At most 16 requests of a session are open; further ones are cancelled at once."""
    policy = Policy(seconds=1000)
    question = {"jsonrpc": "2.0", "method": "session/request_permission"}
    params = {"sessionId": "session-1", "toolCall": {"toolCallId": "t"}, "options": []}
    flood = "\n".join(f"raw {json.dumps({**question, 'id': f'flood-{n}', 'params': params})}" for n in range(40))
    async with session_with(ScriptedAgent(), permissions=policy) as session, session.turn(flood + "\nhang"):
        await trio.testing.wait_all_tasks_blocked()
        assert 16 == len(policy.asked)


async def test_a_finished_turn_leaves_no_question_open(autojump_clock: trio.testing.MockClock) -> None:
    """If the agent ends its turn without waiting for the answer, the policy is not left waiting."""
    policy = Policy(seconds=1000)
    params = {"sessionId": "session-1", "toolCall": {"toolCallId": "t"}, "options": []}
    ask = {"jsonrpc": "2.0", "id": "q", "method": "session/request_permission", "params": params}
    async with session_with(ScriptedAgent(), permissions=policy) as session:
        await session.prompt(f"raw {json.dumps(ask)}\nsleep 1\nsay done")
        await trio.testing.wait_all_tasks_blocked()
        assert (1, 1) == (len(policy.asked), policy.cancelled)


async def test_a_policy_that_resists_is_reported_while_the_manager_waits_for_it(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing the session does not wait for it; leaving the manager does, and says every 5 seconds where it hangs."""

    class Stubborn(Policy):
        async def decide(self, request: PermissionRequest) -> Decision:
            with trio.move_on_after(23, shield=True):
                await trio.sleep_forever()
            return self.decision

    caplog.set_level(logging.WARNING)
    async with session_with(ScriptedAgent(), permissions=Stubborn()) as session, trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "permission Write it")
        await trio.testing.wait_all_tasks_blocked()
        await session.close()
        assert 0 == trio.current_time()
    assert 23 == trio.current_time()
    reports = [line for line in caplog.messages if "does not end; it waits at" in line and "decide" in line]
    assert 4 == len(reports)
