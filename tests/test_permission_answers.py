"""Every request for permission gets exactly one answer, and the right one, whatever happens meanwhile."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_acp
from tests.acp_kit import session_with
from trio_acp.testing import ScriptedAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp.abc import Decision, PermissionPolicy, PermissionRequest

pytestmark = pytest.mark.concurrency

TIMEOUT = 5.125  # seconds; never at the same time as anything else
OPTION_KINDS = ("allow_once", "allow_always", "reject_once", "reject_always", "someday")
CANCELLED = {"outcome": {"outcome": "cancelled"}}


@attrs.frozen
class Ask:
    """The agent asks; whoever is asked answers after some seconds, fails, or takes no notice of being cancelled."""

    seconds: float
    answer: Decision | Literal["fail"]
    stubborn: bool
    kinds: tuple[str, ...]
    unknown_session: bool


@attrs.frozen
class TakeBack:
    """The agent takes back one of its requests, which may be answered already."""

    which: int


@attrs.frozen
class Wait:
    """The agent does nothing for some seconds."""

    seconds: int


@attrs.frozen
class Ending:
    """How the turn ends, if the agent does not end it first."""

    how: Literal["agent", "cancel", "timeout", "left", "scope"]
    at: float


ASKS = st.builds(
    Ask,
    seconds=st.sampled_from((0.25, 1.25, 3.25, 7.25)),
    answer=st.sampled_from(("allow", "deny", "cancel", "fail")),
    stubborn=st.booleans(),
    kinds=st.lists(st.sampled_from(OPTION_KINDS), max_size=4).map(tuple),
    unknown_session=st.sampled_from((False, False, False, True)),
)
OPS = st.lists(ASKS | st.builds(TakeBack, st.integers(0, 5)) | st.builds(Wait, st.integers(1, 4)), max_size=12)
ENDINGS = st.builds(
    Ending, st.sampled_from(("agent", "cancel", "timeout", "left", "scope")), st.sampled_from((0.5, 2.5, 4.5))
)


def timed(ops: list[Ask | TakeBack | Wait]) -> Iterator[tuple[float, Ask | TakeBack]]:
    """Yield what the agent sends, with its time."""
    now = 0.0
    for op in ops:
        if isinstance(op, Wait):
            now += op.seconds
        else:
            yield now, op


def expected(ops: list[Ask | TakeBack | Wait], ending: Ending) -> dict[str, object]:
    """Say what each request is answered: what happens to it first decides."""
    end = sum(op.seconds for op in ops if isinstance(op, Wait))
    stop = min(end, {"agent": math.inf, "timeout": ending.at + 1}.get(ending.how, ending.at))
    sent = [(at, op) for at, op in timed(ops) if at < stop or stop == end]
    answers: dict[str, object] = {}
    asked = [(at, op) for at, op in sent if isinstance(op, Ask)]
    for number, (began, ask) in enumerate(asked):
        happens: list[tuple[float, object]] = [(stop, CANCELLED)]
        # Who takes no notice of a time-out is still waited for, but what he allows then comes too late.
        late = ask.seconds > TIMEOUT
        if late and not ask.stubborn:
            happens.append((began + TIMEOUT, CANCELLED))
        elif late and ask.answer != "fail":
            happens.append((began + ask.seconds, CANCELLED))
        else:
            happens.append((began + ask.seconds, answer_of(ask)))
        if ask.unknown_session:
            happens.append((began, CANCELLED))
        seen = 0
        for at, op in sent:
            seen += isinstance(op, Ask)
            taken_back = isinstance(op, TakeBack) and op.which == number and seen > number
            if taken_back and not ask.unknown_session and not ask.stubborn:
                happens.append((at, -32800))
        # Of two at once the agent's own message counts: it was sent before the answer that ends its turn.
        answers[f"q{number}"] = min(happens, key=lambda event: (event[0], event[1] != -32800))[1]
    return answers


def answer_of(ask: Ask) -> object:
    """Return the answer if there is time for it."""
    prefix = {"allow": "allow", "deny": "reject", "fail": "reject"}.get(ask.answer)
    for often in ("once", "always"):
        for number, kind in enumerate(ask.kinds):
            if kind == f"{prefix}_{often}":
                return {"outcome": {"outcome": "selected", "optionId": f"o{number}"}}
    return CANCELLED


def script_of(ops: list[Ask | TakeBack | Wait]) -> str:
    """Write the agent's part."""
    lines, number = [], 0
    for op in ops:
        match op:
            case Wait(seconds):
                lines.append(f"sleep {seconds}")
            case TakeBack(which):
                message = {"jsonrpc": "2.0", "method": "$/cancel_request", "params": {"requestId": f"q{which}"}}
                lines.append(f"raw {json.dumps(message)}")
            case Ask():
                params = {
                    "sessionId": "nobody" if op.unknown_session else "session-1",
                    "toolCall": {"toolCallId": f"t{number}", "title": str(number)},
                    "options": [
                        {"optionId": f"o{index}", "name": "x", "kind": kind} for index, kind in enumerate(op.kinds)
                    ],
                }
                request = {"jsonrpc": "2.0", "id": f"q{number}", "method": "session/request_permission"}
                lines.append(f"raw {json.dumps({**request, 'params': params})}")
                number += 1
    return "\n".join((*lines, "say done"))


def answers_in(agent: ScriptedAgent) -> dict[str, list[object]]:
    """Return all answers to each request."""
    found: dict[str, list[object]] = {}
    for entry in agent.log:
        if entry.kind == "response" and str(entry.id).startswith("q"):
            answer = entry.params
            code = answer.get("code", answer.get("error", {}).get("code")) if isinstance(answer, dict) else None
            found.setdefault(str(entry.id), []).append(answer if code is None else code)
    return found


async def run_turn(ops: list[Ask | TakeBack | Wait], ending: Ending, agent: ScriptedAgent) -> None:
    """Run the turn, and end it as told; then everything has ended."""
    asks = [op for op in ops if isinstance(op, Ask)]

    async def decide(request: PermissionRequest) -> Decision:
        ask = asks[int(request.tool_call.title)]
        with trio.CancelScope(shield=ask.stubborn):
            await trio.sleep(ask.seconds)
        if ask.answer == "fail":
            raise OSError("no display")
        return ask.answer

    policy = trio_acp.Ask(decide, timeout=TIMEOUT)
    limit = ending.at if ending.how == "timeout" else 1000
    async with session_with(agent, permissions=policy) as session:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                try:
                    async with session.turn(script_of(ops), timeout=limit) as turn:
                        if ending.how == "scope":
                            scope.deadline = ending.at
                        if ending.how == "cancel":
                            nursery.start_soon(cancel_at, session, ending.at)
                        with trio.move_on_after(ending.at if ending.how == "left" else math.inf):
                            async for _ in turn:
                                pass
                except trio_acp.TurnTimedOut:
                    pass
                nursery.cancel_scope.cancel()


async def cancel_at(session: trio_acp.Session, seconds: float) -> None:
    """Stop the session's turn after a while."""
    await trio.sleep(seconds)
    await session.cancel()


@given(ops=OPS, ending=ENDINGS)
def test_every_request_is_answered_once(ops: list[Ask | TakeBack | Wait], ending: Ending) -> None:
    """Answers, time-outs, failures, requests taken back, and the turn's end: the first of them decides, once."""
    agent = ScriptedAgent()
    trio.run(run_turn, ops, ending, agent, clock=trio.testing.MockClock(autojump_threshold=0))
    assert {request: [answer] for request, answer in expected(ops, ending).items()} == answers_in(agent)


KINDS = st.lists(st.sampled_from(OPTION_KINDS), max_size=5)


@given(kinds=KINDS, policy=st.sampled_from(("deny", "allow")))
def test_no_policy_says_its_opposite_on_the_wire(kinds: list[str], policy: str) -> None:
    """Denying never answers with what allows, allowing never with what rejects, in whatever order it is offered."""
    agent = ScriptedAgent()
    options = [{"optionId": f"{number}:{kind}", "name": "Allow", "kind": kind} for number, kind in enumerate(kinds)]
    params = {"sessionId": "session-1", "toolCall": {"toolCallId": "t"}, "options": options}
    request = {"jsonrpc": "2.0", "id": "q0", "method": "session/request_permission", "params": params}
    policies: dict[str, type[PermissionPolicy]] = {"deny": trio_acp.DenyAll, "allow": trio_acp.AllowAll}

    async def main() -> None:
        async with session_with(agent, permissions=policies[policy]()) as session:
            await session.prompt(f"raw {json.dumps(request)}\nsleep 1\nsay done")

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    ((answer,),) = answers_in(agent).values()
    chosen: Any = answer
    option = chosen["outcome"].get("optionId", "")
    prefix = {"deny": "reject_", "allow": "allow_"}[policy]
    fits = any(kind.startswith(prefix) for kind in kinds)
    assert fits is (option.partition(":")[2].startswith(prefix))
    assert fits is (option != "")


@pytest.mark.parametrize("policy", [trio_acp.DenyAll(), trio_acp.ApproveReads(), trio_acp.RulePolicy([])])
async def test_policies_say_why(policy: PermissionPolicy, autojump_clock: trio.testing.MockClock) -> None:
    """Every answer comes with a few words, which the turn's events tell."""
    async with (
        session_with(ScriptedAgent(), permissions=policy) as session,
        session.turn("permission Write; say on") as turn,
    ):
        (answer,) = [event async for event in turn if isinstance(event, trio_acp.PermissionAnswered)]
    assert "deny" == answer.decision
    assert answer.rule in {"everything is denied", "no rule matches"}
