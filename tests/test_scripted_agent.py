"""The scripted agent, driven by a client that speaks raw JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_acp._errors import ConnectionLost
from trio_acp.abc import Transport
from trio_acp.testing import STEPS, WILD, Received, ScriptedAgent
from trio_acp.testing import agent as agent_process
from trio_acp.transports.memory import MemoryTransport, memory_transport_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

Json = dict[str, Any]


class Client:
    """Sends and receives JSON, numbers its requests, and answers nothing by itself."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.requests = 0

    async def send(self, method: str, params: object = None, **members: object) -> None:
        await self.transport.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **members}))

    async def ask(self, method: str, params: object = None) -> int:
        self.requests += 1
        await self.send(method, params, id=self.requests)
        return self.requests

    async def answer(self, request: Json, **members: object) -> None:
        await self.transport.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], **members}))

    async def receive(self) -> Json:
        message: Json = json.loads(await self.transport.receive())
        return message

    async def response(self, method: str, params: object = None) -> Json:
        """Ask, and return the answer, which must be the next message."""
        number = await self.ask(method, params)
        message = await self.receive()
        assert number == message["id"]
        return message

    async def new(self) -> str:
        answer = await self.response("session/new", {"cwd": "/w", "mcpServers": []})
        session: str = answer["result"]["sessionId"]
        return session

    async def prompt(self, session: str, text: str) -> int:
        return await self.ask("session/prompt", {"sessionId": session, "prompt": [{"type": "text", "text": text}]})

    async def turn(self, session: str, text: str) -> tuple[list[Json], Json]:
        """Run a turn to its answer; return the bodies of its updates, and the answer."""
        number = await self.prompt(session, text)
        return await self.rest(number)

    async def rest(self, number: int) -> tuple[list[Json], Json]:
        updates = []
        while (message := await self.receive()).get("id") != number:
            assert "session/update" == message["method"]
            updates.append(message["params"]["update"])
        return updates, message

    async def cancel(self, session: str) -> None:
        await self.send("session/cancel", {"sessionId": session})

    async def at_rest(self) -> None:
        """Wait until the agent does nothing but wait, and nothing of it is unread."""
        await wait_all_tasks_blocked()


async def serve(
    agent: ScriptedAgent, transport: Transport, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    task_status.started()
    await agent.serve(transport)


@asynccontextmanager
async def connected(
    agent: ScriptedAgent, *, initialize: bool = True, wrap: Callable[[Transport], Transport] | None = None
) -> AsyncIterator[Client]:
    """Serve one connection of `agent` while the block runs; leaving disconnects, and the serving must end."""
    near, far = memory_transport_pair()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, agent, far if wrap is None else wrap(far))
        client = Client(near)
        if initialize:
            await client.response("initialize", {"protocolVersion": 1})
        yield client
        await near.aclose()


def text_of(updates: list[Json]) -> str:
    return "".join(update["content"]["text"] for update in updates if update["sessionUpdate"] == "agent_message_chunk")


def kinds_of(updates: list[Json]) -> list[str]:
    return [update["sessionUpdate"] for update in updates]


# -- lifecycle ----------------------------------------------------------------


async def test_initialize_tells_the_capabilities() -> None:
    """Each switch shows in the answer to initialize, as the schema has it."""
    async with connected(ScriptedAgent(), initialize=False) as client:
        result = (await client.response("initialize", {"protocolVersion": 1}))["result"]
    assert 1 == result["protocolVersion"]
    assert result["agentCapabilities"]["loadSession"] is True
    assert {"resume": {}, "close": {}} == result["agentCapabilities"]["sessionCapabilities"]
    assert [] == result["authMethods"]

    bare = ScriptedAgent(load=False, resume=False, close=False, auth=True, protocol_version=2)
    async with connected(bare, initialize=False) as client:
        result = (await client.response("initialize", {"protocolVersion": 1}))["result"]
        assert 2 == result["protocolVersion"]
        assert result["agentCapabilities"]["loadSession"] is False
        assert {} == result["agentCapabilities"]["sessionCapabilities"]
        assert ["token", "browser"] == [method["id"] for method in result["authMethods"]]
        await client.response("authenticate", {"methodId": "token"})
        for method in ("session/load", "session/resume", "session/close"):
            assert -32601 == (await client.response(method, {"sessionId": "s", "cwd": "/w"}))["error"]["code"]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("initialize", {"protocolVersion": "1"}, -32600),
        ("session/new", {"cwd": "w", "mcpServers": []}, -32602),
        ("session/new", {"cwd": "/w"}, -32602),
        ("session/new", None, -32602),
        ("session/prompt", {"sessionId": "unknown", "prompt": []}, -32002),
        ("session/resume", {"sessionId": "../etc", "cwd": "/w"}, -32002),
        ("session/close", {"sessionId": ["x"]}, -32002),
        ("session/fork", {}, -32601),
        ("authenticate", {"methodId": "token"}, -32601),
        ("session/cancel", {}, -32601),
    ],
)
async def test_a_request_that_cannot_be_is_refused(method: str, params: object, code: int) -> None:
    """A request with bad params or an unknown method, session or state gets the protocol's error."""
    async with connected(ScriptedAgent()) as client:
        assert code == (await client.response(method, params))["error"]["code"]
        assert "session-1" == await client.new()


async def test_a_session_refuses_bad_prompts_and_modes() -> None:
    """A prompt that is no list, a script with a mistake, and an unknown mode are invalid params."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        answer = await client.response("session/prompt", {"sessionId": session, "prompt": "hi"})
        assert -32602 == answer["error"]["code"]
        updates, answer = await client.turn(session, "say a; sleep soon")
        assert [] == updates
        assert "step 2, 'sleep soon'" in answer["error"]["message"]
        answer = await client.response("session/set_mode", {"sessionId": session, "modeId": "fly"})
        assert -32602 == answer["error"]["code"]
        updates, answer = await client.rest(
            await client.ask("session/set_mode", {"sessionId": session, "modeId": "code"})
        )
        assert [{"sessionUpdate": "current_mode_update", "currentModeId": "code"}] == updates
        assert {} == answer["result"]


async def test_authentication_is_wanted_once() -> None:
    """Opening a session fails with -32000 until a known method was used; the agent remembers it."""
    agent = ScriptedAgent(auth=True)
    async with connected(agent) as client:
        error = (await client.response("session/new", {"cwd": "/w", "mcpServers": []}))["error"]
        assert -32000 == error["code"]
        assert "token" == error["data"]["authMethods"][0]["id"]
        assert -32602 == (await client.response("authenticate", {"methodId": "guess"}))["error"]["code"]
        assert {} == (await client.response("authenticate", {"methodId": "browser"}))["result"]
        await client.new()
    async with connected(agent) as client:
        await client.new()


async def test_history_is_replayed_by_load_and_not_by_resume() -> None:
    """Sessions outlive connections: load replays before its response, resume does not."""
    agent = ScriptedAgent(id_prefix="x")
    async with connected(agent) as client:
        session = await client.new()
        assert "x-1" == session
        updates, _ = await client.turn(session, "history")
        assert "I remember 0 earlier turns; this session is new." == text_of(updates)
        await client.turn(session, "say two; say  three")
    async with connected(agent) as client:
        assert -32002 == (await client.turn(session, "say a"))[1]["error"]["code"]
        updates, answer = await client.rest(
            await client.ask("session/load", {"sessionId": session, "cwd": "/w", "mcpServers": []})
        )
        assert ["user_message_chunk", "agent_message_chunk"] * 2 == kinds_of(updates)
        assert "say two; say  three" == updates[2]["content"]["text"]
        assert "twothree" == updates[3]["content"]["text"]
        assert "ask" == answer["result"]["modes"]["currentModeId"]
        updates, _ = await client.turn(session, "history")
        assert "I remember 2 earlier turns; this session is loaded." == text_of(updates)
    async with connected(agent) as client:
        assert "modes" in (await client.response("session/resume", {"sessionId": session, "cwd": "/w"}))["result"]
        updates, _ = await client.turn(session, "history")
        assert "I remember 3 earlier turns; this session is resumed." == text_of(updates)


async def test_another_agent_finds_the_state(tmp_path: Path) -> None:
    """With a state directory another agent object resumes the session, and makes no id twice."""
    async with connected(ScriptedAgent(state_dir=tmp_path / "a")) as client:
        session = await client.new()
        await client.turn(session, "say kept")
    async with connected(ScriptedAgent(state_dir=tmp_path / "a")) as client:
        assert "session-2" == await client.new()
        updates, _ = await client.rest(await client.ask("session/load", {"sessionId": session, "cwd": "/w"}))
        assert "kept" == text_of(updates)
        (tmp_path / "a" / "damaged.json").write_text("{}")
        damaged = {"sessionId": "damaged", "cwd": "/w"}
        assert -32603 == (await client.response("session/resume", damaged))["error"]["code"]
    with pytest.raises(ValueError, match="cannot begin"):
        ScriptedAgent(id_prefix="../x")


async def test_the_quirks_change_the_order() -> None:
    """The replay may follow the load's response, and an update may precede the new session's."""
    agent = ScriptedAgent(replay_after_load=True, early_update=True, refuse_resume=True)
    async with connected(agent) as client:
        number = await client.ask("session/new", {"cwd": "/w", "mcpServers": []})
        updates, answer = await client.rest(number)
        assert ["available_commands_update"] == kinds_of(updates)
        session = answer["result"]["sessionId"]
        await client.turn(session, "say x")
        assert -32601 == (await client.response("session/resume", {"sessionId": session, "cwd": "/w"}))["error"]["code"]
        await client.response("session/load", {"sessionId": session, "cwd": "/w"})
        assert "user_message_chunk" == (await client.receive())["params"]["update"]["sessionUpdate"]
        assert "agent_message_chunk" == (await client.receive())["params"]["update"]["sessionUpdate"]


async def test_answers_can_be_late_or_never(autojump_clock: trio.testing.MockClock) -> None:
    """The delays of initialize and session/new are kept to the second; `inf` is never."""
    agent = ScriptedAgent(initialize_delay=4, new_session_delay=math.inf)
    async with connected(agent) as client:
        assert 4.0 == trio.current_time()
        await client.ask("session/new", {"cwd": "/w", "mcpServers": []})
        with trio.move_on_after(1e6):
            await client.receive()
        assert 1e6 + 4 == trio.current_time()


async def test_close_ends_the_running_turn_and_forgets_the_session() -> None:
    """session/close answers, cancels the turn whatever its script says, and the id is unknown then."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        number = await client.prompt(session, "ignore-cancel inf; hang")
        await client.at_rest()
        closing = await client.ask("session/close", {"sessionId": session})
        answers = {message["id"]: message["result"] for message in [await client.receive(), await client.receive()]}
        assert {number: {"stopReason": "cancelled"}, closing: {}} == answers
        assert -32002 == (await client.turn(session, "say a"))[1]["error"]["code"]
        await client.response("session/resume", {"sessionId": session, "cwd": "/w"})
        assert {} == (await client.response("session/close", {"sessionId": session}))["result"]


# -- what a turn shows --------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("Hello  there; you", "You said: Hello  there; you"),
        ("say a b", "a b"),
        ("chunks 3", "chunk 1 chunk 2 chunk 3 "),
        ("chunks 2 of it", "of it 1 of it 2 "),
        ("big 70000", "x" * 70000),
        ("wide 3 10", "x" * 30),
        ("say a; what?", "aYou said: what?"),
    ],
)
async def test_text_steps(script: str, text: str) -> None:
    """Steps that speak send exactly this text, then the turn ends."""
    async with connected(ScriptedAgent()) as client:
        updates, answer = await client.turn(await client.new(), script)
        assert text == text_of(updates)
        assert {"stopReason": "end_turn"} == answer["result"]


@pytest.mark.parametrize(
    ("script", "updates"),
    [
        ("think hm", [{"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "hm"}}]),
        ("usage 5 9", [{"sessionUpdate": "usage_update", "used": 5, "size": 9}]),
        ("mode code", [{"sessionUpdate": "current_mode_update", "currentModeId": "code"}]),
        ('update {"sessionUpdate": "new", "a": [1; 2]}'.replace("; ", ", "), [{"sessionUpdate": "new", "a": [1, 2]}]),
        (
            'update {"sessionUpdate": "agent_message_chunk", "content": 7}',
            [{"sessionUpdate": "agent_message_chunk", "content": 7}],
        ),
        ("update [7]", [[7]]),
    ],
)
async def test_single_updates(script: str, updates: list[object]) -> None:
    """Each of these steps is one update, exactly this one."""
    async with connected(ScriptedAgent()) as client:
        assert updates == (await client.turn(await client.new(), script))[0]


async def test_tool_plan_and_commands() -> None:
    """A tool call goes through its states under one id; plans and commands have the schema's form."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        updates, _ = await client.turn(
            session, "tool Read it kind=search path=/a; tool Fail status=failed; plan a | b; commands"
        )
        call, running, done = updates[:3]
        assert ("call-1", "Read it", "search", "pending") == tuple(
            call[k] for k in ("toolCallId", "title", "kind", "status")
        )
        assert [{"path": "/a"}] == call["locations"]
        assert ["call-1"] * 2 == [running["toolCallId"], done["toolCallId"]]
        assert ["in_progress", "completed"] == [running["status"], done["status"]]
        assert ["call-2", "call-2", "call-2"] == [update["toolCallId"] for update in updates[3:6]]
        assert "failed" == updates[5]["status"]
        assert ["a", "b"] == [entry["content"] for entry in updates[6]["entries"]]
        assert ["in_progress", "pending"] == [entry["status"] for entry in updates[6]["entries"]]
        assert ["steps", "history"] == [command["name"] for command in updates[7]["availableCommands"]]


async def test_time_passes_as_written(autojump_clock: trio.testing.MockClock) -> None:
    """`sleep` and `every` take their seconds of Trio's clock, and nothing else takes any."""
    async with connected(ScriptedAgent()) as client:
        await client.turn(await client.new(), "sleep 2.5; chunks 3 every=0.25; wide 2 1 every=1; tool x every=0.5")
        assert 2.5 + 0.5 + 1 + 1 == trio.current_time()


# -- what a turn asks ---------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "answer", "said", "stop"),
    [
        (
            "permission",
            {"outcome": {"outcome": "selected", "optionId": "allow_once-1"}},
            "selected allow_once-1",
            "end_turn",
        ),
        (
            "permission",
            {"outcome": {"outcome": "selected", "optionId": "reject_once-3"}},
            "selected reject_once-3",
            "end_turn",
        ),
        ("permission", {"outcome": {"outcome": "cancelled"}}, "cancelled", "end_turn"),
        ("permission", 7, "cancelled", "end_turn"),
        (
            "permission!",
            {"outcome": {"outcome": "selected", "optionId": "allow_always-2"}},
            "selected allow_always-2",
            "end_turn",
        ),
        (
            "permission!",
            {"outcome": {"outcome": "selected", "optionId": "reject_once-3"}},
            "selected reject_once-3",
            "refusal",
        ),
        ("permission!", {"outcome": {"outcome": "cancelled"}}, "cancelled", "refusal"),
        ("permission!", {"outcome": 7}, "cancelled", "refusal"),
    ],
)
async def test_a_permission_says_its_answer(script: str, answer: object, said: str, stop: str) -> None:
    """The answer is said; after `permission!` anything but an allowing option is a refusal."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        session = await client.new()
        number = await client.prompt(session, script)
        request = await client.receive()
        assert "session/request_permission" == request["method"]
        assert ["allow_once", "allow_always", "reject_once"] == [o["kind"] for o in request["params"]["options"]]
        assert {"toolCallId": "call-1", "title": "Run a tool", "kind": "edit"} == request["params"]["toolCall"]
        await client.answer(request, result=answer)
        updates, response = await client.rest(number)
        assert f"permission: {said} " == text_of(updates)
        assert stop == response["result"]["stopReason"]
    assert [] == agent.violations


async def test_a_permission_offers_what_it_is_told() -> None:
    """Kinds, also repeated ones, and the tool's kind and title are taken from the step; errors are said."""
    agent = ScriptedAgent(string_ids=True)
    async with connected(agent) as client:
        number = await client.prompt(
            await client.new(), "permission Drop it kinds=allow_always,allow_always kind=delete"
        )
        request = await client.receive()
        assert "agent-0" == request["id"]
        assert ["allow_always-1", "allow_always-2"] == [o["optionId"] for o in request["params"]["options"]]
        assert ("Drop it", "delete") == (request["params"]["toolCall"]["title"], request["params"]["toolCall"]["kind"])
        await client.answer(request, error={"code": -1, "message": "no"})
        updates, _ = await client.rest(number)
        assert 'permission: error {"code": -1, "message": "no"} ' == text_of(updates)


async def test_it_takes_back_its_own_request(autojump_clock: trio.testing.MockClock) -> None:
    """`cancel-own-request` sends $/cancel_request unless it was answered before, and waits for the answer."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        number = await client.prompt(session, "cancel-own-request 3")
        request = await client.receive()
        notification = await client.receive()
        assert 3.0 == trio.current_time()
        assert ("$/cancel_request", {"requestId": request["id"]}) == (notification["method"], notification["params"])
        await client.answer(request, error={"code": -32800, "message": "cancelled"})
        updates, _ = await client.rest(number)
        assert "-32800" in text_of(updates)

        number = await client.prompt(session, "cancel-own-request 3")
        await client.answer(await client.receive(), result={"outcome": {"outcome": "cancelled"}})
        updates, _ = await client.rest(number)
        assert "permission: cancelled " == text_of(updates)
        assert 3.0 == trio.current_time()


async def test_requests_and_notifications_of_any_kind() -> None:
    """`request` and `notify` send any method; the request's answer is said."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        script = 'request fs/read_text_file\nrequest _x {"a": 1}\nnotify _n\nnotify _m {"b": [2]}'
        number = await client.prompt(session, script)
        request = await client.receive()
        assert {"sessionId": session, "path": "/w/README.md"} == request["params"]
        await client.answer(request, result={"content": "c"})
        assert 'fs/read_text_file: {"content": "c"} ' == (await client.receive())["params"]["update"]["content"]["text"]
        request = await client.receive()
        assert ("_x", {"sessionId": session, "a": 1}) == (request["method"], request["params"])
        await client.answer(request, error={"code": -32601, "message": "no"})
        await client.receive()
        for method, params in (("_n", {}), ("_m", {"b": [2]})):
            message = await client.receive()
            assert (method, params) == (message["method"], message["params"])
            assert "id" not in message
        assert "end_turn" == (await client.rest(number))[1]["result"]["stopReason"]


# -- how a turn ends ----------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "member", "value"),
    [
        ("stop max_tokens; say never", "result", {"stopReason": "max_tokens"}),
        ("error -32603 It broke; say never", "error", {"code": -32603, "message": "It broke"}),
        ("bad-response; say never", "result", {"stopReason": 7}),
    ],
)
async def test_endings(script: str, member: str, value: object) -> None:
    """These steps end the turn with exactly this answer; later steps are not run."""
    async with connected(ScriptedAgent()) as client:
        updates, answer = await client.turn(await client.new(), script)
        assert [] == updates
        assert value == answer[member]


@pytest.mark.parametrize(
    ("script", "code"), [("say a; close; say b", None), ("say a; crash; say b", 1), ("say a; crash 3", 3)]
)
async def test_the_connection_ends_mid_turn(script: str, code: int | None) -> None:
    """What was said before is delivered, nothing after, no answer; `serve` returns by itself."""
    agent = ScriptedAgent()
    near, far = memory_transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.serve, far)
        client = Client(near)
        await client.response("initialize", {"protocolVersion": 1})
        await client.prompt(await client.new(), script)
        assert "a" == (await client.receive())["params"]["update"]["content"]["text"]
        with pytest.raises(ConnectionLost):
            await client.receive()
    assert code == agent.exit_code


async def test_serving_ends_when_a_send_fails() -> None:
    """An agent that is frozen notices the end of its connection as soon as it sends."""
    near, far = memory_transport_pair(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ScriptedAgent().serve, far)
        client = Client(near)
        await client.response("initialize", {"protocolVersion": 1})
        await client.prompt(await client.new(), "freeze; say a; say b")
        await client.at_rest()
        await near.aclose()


async def test_a_hanging_turn_ends_with_its_connection() -> None:
    """Whatever a turn is waiting for, the end of the transport ends it."""
    for script in ("hang", "ignore-cancel inf; hang", "permission", "late 1 1e9"):
        async with connected(ScriptedAgent()) as client:
            await client.prompt(await client.new(), script)
            await client.at_rest()


# -- what a cancel does -------------------------------------------------------


async def cancelled_turn(client: Client, session: str, script: str) -> tuple[list[Json], Json]:
    """Prompt, cancel once the agent rests, and return what followed."""
    number = await client.prompt(session, script)
    await client.at_rest()
    await client.cancel(session)
    return await client.rest(number)


@pytest.mark.parametrize("script", ["hang", "sleep 9", "chunks 9 every=1", "tool x every=5", "late 0; hang"])
async def test_a_cancel_stops_any_step(script: str, autojump_clock: trio.testing.MockClock) -> None:
    """A cancel ends the turn at once with `cancelled`, and the session takes the next prompt."""
    agent = ScriptedAgent()
    autojump_clock.autojump_threshold = math.inf
    async with connected(agent) as client:
        session = await client.new()
        _, answer = await cancelled_turn(client, session, script)
        assert {"stopReason": "cancelled"} == answer["result"]
        assert 0.0 == trio.current_time()
        assert "end_turn" == (await client.turn(session, "say a"))[1]["result"]["stopReason"]
    assert [] == agent.violations
    assert 1 == sum(received.method == "session/cancel" for received in agent.log)


@pytest.mark.parametrize(("script", "reason"), [("say a; hang", "cancelled"), ("hang; refuse-cancel", "end_turn")])
async def test_a_cancel_in_the_same_breath_as_the_prompt_is_kept(script: str, reason: str) -> None:
    """A cancel that arrives before the turn's task ran cancels it, in the way its script says."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        number = await client.prompt(session, script)
        await client.cancel(session)
        assert reason == (await client.rest(number))[1]["result"]["stopReason"]


@pytest.mark.parametrize("script", ["permission", "permission!", "request _x", "cancel-own-request 99"])
async def test_a_cancel_waits_for_the_open_request(script: str) -> None:
    """A turn with an unanswered request of its own stops when that was answered, not before."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        session = await client.new()
        number = await client.prompt(session, f"{script}; say on")
        request = await client.receive()
        await client.cancel(session)
        with trio.move_on_after(0.05) as unanswered:
            await client.receive()
        assert unanswered.cancelled_caught
        await client.answer(request, result={"outcome": {"outcome": "cancelled"}})
        updates, answer = await client.rest(number)
        assert [] == updates
        assert "cancelled" == answer["result"]["stopReason"]
    assert [] == agent.violations


async def test_ignore_cancel_goes_on_for_so_long(autojump_clock: trio.testing.MockClock) -> None:
    """The turn stops so many seconds after the cancel, or when its steps are over; `inf` never."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        autojump_clock.autojump_threshold = math.inf
        number = await client.prompt(session, "ignore-cancel 5; chunks 9 every=2")
        await client.receive()
        await client.cancel(session)
        await client.at_rest()
        autojump_clock.autojump_threshold = 0
        updates, answer = await client.rest(number)
        assert 5.0 == trio.current_time()
        assert "chunk 2 chunk 3 " == text_of(updates)
        assert "cancelled" == answer["result"]["stopReason"]

        number = await client.prompt(session, "ignore-cancel inf; say x; sleep 100")
        await client.receive()
        await client.cancel(session)
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        assert 105.0 == trio.current_time()


async def test_an_error_stays_an_error_after_a_cancel(autojump_clock: trio.testing.MockClock) -> None:
    """A script may answer a cancelled turn with an error."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        number = await client.prompt(session, "ignore-cancel 9; say x; sleep 1; error -32800 Request cancelled")
        await client.receive()
        await client.cancel(session)
        assert -32800 == (await client.rest(number))[1]["error"]["code"]


# -- wild agents --------------------------------------------------------------


async def start_wild(client: Client, name: str) -> tuple[str, int]:
    session = await client.new()
    number = await client.prompt(session, WILD[name])
    assert "working" == (await client.receive())["params"]["update"]["content"]["text"]
    await client.cancel(session)
    return session, number


async def test_wild_end_turn_after_cancel() -> None:
    """The cancelled turn is answered `end_turn`."""
    async with connected(ScriptedAgent()) as client:
        _, number = await start_wild(client, "end-turn-after-cancel")
        assert "end_turn" == (await client.rest(number))[1]["result"]["stopReason"]


async def test_wild_two_stop_reasons() -> None:
    """The cancelled turn is answered twice, with two stop reasons."""
    async with connected(ScriptedAgent()) as client:
        _, number = await start_wild(client, "two-stop-reasons")
        answers = [await client.receive(), await client.receive()]
        assert [(number, "cancelled"), (number, "end_turn")] == [(a["id"], a["result"]["stopReason"]) for a in answers]


async def test_wild_cancel_rejected(autojump_clock: trio.testing.MockClock) -> None:
    """The cancel gets an error with a null id, and the turn runs on to its ordinary end."""
    async with connected(ScriptedAgent()) as client:
        _, number = await start_wild(client, "cancel-rejected")
        error = await client.receive()
        assert (None, -32601) == (error["id"], error["error"]["code"])
        updates, answer = await client.rest(number)
        assert ("finished", "end_turn", 60.0) == (text_of(updates), answer["result"]["stopReason"], trio.current_time())


@pytest.mark.parametrize("cancels", [1, 2])
async def test_wild_double_cancel_poisons(cancels: int, autojump_clock: trio.testing.MockClock) -> None:
    """After two cancels the next permission fails unasked, once; after one it does not."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        session, number = await start_wild(client, "double-cancel-poisons")
        if cancels == 2:
            await client.cancel(session)
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        number = await client.prompt(session, "permission!")
        if cancels == 2:
            updates, answer = await client.rest(number)
            assert "permission: failed without being asked " == text_of(updates)
            assert "refusal" == answer["result"]["stopReason"]
            number = await client.prompt(session, "permission")
        assert "session/request_permission" == (await client.receive())["method"]
    assert cancels - 1 == len(agent.violations)


async def test_wild_cancel_hits_next_turn() -> None:
    """The cancel stops its turn, the next one too, and then no more."""
    async with connected(ScriptedAgent()) as client:
        session, number = await start_wild(client, "cancel-hits-next-turn")
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        reasons = [(await client.turn(session, "say a"))[1]["result"]["stopReason"] for _ in range(2)]
        assert ["cancelled", "end_turn"] == reasons


async def test_wild_runs_on_after_cancel(autojump_clock: trio.testing.MockClock) -> None:
    """The cancel is confirmed at once, and the updates of the turn go on after it."""
    async with connected(ScriptedAgent()) as client:
        _, number = await start_wild(client, "runs-on-after-cancel")
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        assert 0.0 == trio.current_time()
        texts = [(await client.receive())["params"]["update"]["content"]["text"] for _ in range(4)]
        assert ["still 1 ", "still 2 ", "still 3 ", "finished"] == texts
        assert 5.0 == trio.current_time()


async def test_wild_slow_cleanup_then_late(autojump_clock: trio.testing.MockClock) -> None:
    """The answer comes 30 s after the cancel, and three updates after it."""
    async with connected(ScriptedAgent()) as client:
        _, number = await start_wild(client, "slow-cleanup-then-late")
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        assert 30.0 == trio.current_time()
        texts = [(await client.receive())["params"]["update"]["content"]["text"] for _ in range(3)]
        assert ["late 1 ", "late 2 ", "late 3 "] == texts


# -- what no agent should send ------------------------------------------------


async def test_messages_as_they_stand() -> None:
    """Raw texts, bytes, foreign updates and responses go out exactly as written."""
    near, far = memory_transport_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ScriptedAgent().serve, far)
        client = Client(near)
        await client.response("initialize", {"protocolVersion": 1})
        session = await client.new()
        number = await client.prompt(
            session, "raw [1]; NaN {\nbinary 3\nother-session\nother-session s-9; unknown-response"
        )
        assert "[1]; NaN {" == await near.receive()
        assert b"\0\0\0" == await near.receive()
        assert ["no-such-session", "s-9"] == [(await client.receive())["params"]["sessionId"] for _ in range(2)]
        assert {"jsonrpc": "2.0", "id": "no-such-request", "result": {}} == await client.receive()
        assert number == (await client.receive())["id"]
        await near.aclose()


class TextOnly(Transport):
    """A transport that cannot send bytes."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, message: str) -> None:
        await self._inner.send(message)

    async def receive(self) -> str | bytes:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_bytes_are_left_out_where_the_transport_has_none() -> None:
    """`binary` does nothing on a transport that sends text only."""
    async with connected(ScriptedAgent(), wrap=TextOnly) as client:
        updates, answer = await client.turn(await client.new(), "binary 3; say a")
        assert "a" == text_of(updates)
        assert "end_turn" == answer["result"]["stopReason"]


async def test_a_frozen_agent_reads_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """While frozen it does not take a cancel, and loses no message; afterwards it does."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        session = await client.new()
        number = await client.prompt(session, "freeze 20; hang")
        await trio.sleep(1)
        before = len(agent.log)
        await client.cancel(session)
        await trio.sleep(18)
        assert before == len(agent.log)
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
        assert 20.0 == trio.current_time()


async def test_late_updates_are_spaced(autojump_clock: trio.testing.MockClock) -> None:
    """`late` sends its updates after the response, so many seconds apart."""
    async with connected(ScriptedAgent()) as client:
        session = await client.new()
        await client.turn(session, "late 2 3")
        await client.turn(session, "say between")
        assert 0.0 == trio.current_time()
        await client.receive()
        await client.receive()
        assert 6.0 == trio.current_time()


# -- what the agent notes about its client ------------------------------------


async def test_the_log_keeps_the_order() -> None:
    """Every message received is logged once, in order, with its connection."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        session = await client.new()
        number = await client.prompt(session, "permission")
        await client.answer(await client.receive(), result={"outcome": {"outcome": "cancelled"}})
        await client.rest(number)
        await client.send("_note", {"a": 1})
        await client.at_rest()
    async with connected(agent):
        pass
    assert ["initialize", "session/new", "session/prompt", None, "_note", "initialize"] == [r.method for r in agent.log]
    assert [1, 1, 1, 1, 1, 2] == [received.connection for received in agent.log]
    assert Received(connection=1, kind="notification", method="_note", params={"a": 1}) == agent.log[4]
    response = Received(connection=1, kind="response", id=0, params={"outcome": {"outcome": "cancelled"}})
    assert response == agent.log[3]
    assert [] == agent.violations


async def test_two_sessions_run_at_once() -> None:
    """A prompt of another session is no violation, and neither waits for the other."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        first, second = await client.new(), await client.new()
        number = await client.prompt(first, "hang")
        await client.turn(second, "say a")
        await client.cancel(first)
        assert "cancelled" == (await client.rest(number))[1]["result"]["stopReason"]
    assert [] == agent.violations


async def second_prompt(client: Client) -> None:
    session = await client.new()
    await client.prompt(session, "hang")
    assert -32600 == (await client.turn(session, "say b"))[1]["error"]["code"]


async def idle_cancel(client: Client) -> None:
    await client.cancel(await client.new())


async def cancel_nothing(client: Client) -> None:
    await client.send("session/cancel", [])


async def cancel_twice(client: Client) -> None:
    session = await client.new()
    await client.prompt(session, "ignore-cancel inf; hang")
    await client.cancel(session)
    await client.cancel(session)


async def unknown_response(client: Client) -> None:
    await client.answer({"id": 77}, result={})
    await client.answer({"id": "x"}, error={"code": 1, "message": "m"})


async def null_response(client: Client) -> None:
    await client.answer({"id": None}, result={})


async def made_up_option(client: Client) -> None:
    await client.prompt(await client.new(), "permission")
    await client.answer(await client.receive(), result={"outcome": {"outcome": "selected", "optionId": "yes"}})


async def initialize_again(client: Client) -> None:
    assert -32600 == (await client.response("initialize", {"protocolVersion": 1}))["error"]["code"]


def raw(text: str, code: int) -> Callable[[Client], Any]:
    async def send(client: Client) -> None:
        await client.transport.send(text)
        message = await client.receive()
        assert (None, code) == (message["id"], message["error"]["code"])

    return send


async def binary(client: Client) -> None:
    await client.transport.send_bytes(b"x")


@pytest.mark.parametrize(
    ("offence", "texts"),
    [
        (second_prompt, ["a second prompt for session-1 while one is unanswered"]),
        (idle_cancel, ["session/cancel for the idle session session-1"]),
        (cancel_nothing, ["session/cancel for an unknown session"]),
        (cancel_twice, ["a second session/cancel for one turn of session-1"]),
        (unknown_response, ["a response to the unknown id 77", "a response to the unknown id 'x'"]),
        (null_response, ["a response to the unknown id None"]),
        (made_up_option, ["the option 'yes' was not offered"]),
        (initialize_again, ["a second initialize"]),
        (raw("{", -32700), ["not JSON"]),
        (raw('{"jsonrpc": "2.0", "method": "x", "params": NaN}', -32700), ["not JSON"]),
        (raw("[]", -32600), ["no JSON-RPC 2.0 message"]),
        (raw('{"method": "x"}', -32600), ["no JSON-RPC 2.0 message"]),
        (raw('{"jsonrpc": "2.0", "id": 1}', -32600), ["neither request, notification nor response"]),
        (binary, ["a binary message"]),
    ],
)
async def test_violations_are_noted(offence: Callable[[Client], Any], texts: list[str]) -> None:
    """What a client must not do is noted, one text each, and the agent goes on."""
    agent = ScriptedAgent()
    async with connected(agent) as client:
        await offence(client)
        await client.at_rest()
        assert [f"connection 1: {text}" for text in texts] == agent.violations
        await client.ask("session/new", {"cwd": "/w", "mcpServers": []})
        while "sessionId" not in (await client.receive()).get("result", {}):
            pass


@pytest.mark.parametrize("method", ["session/new", "session/prompt", "authenticate"])
async def test_a_request_before_initialize_is_a_violation(method: str) -> None:
    """Nothing is served before initialize, and initialize with bad params does not count."""
    agent = ScriptedAgent(auth=True)
    async with connected(agent, initialize=False) as client:
        assert -32600 == (await client.response(method, {}))["error"]["code"]
        assert -32602 == (await client.response("initialize", {"protocolVersion": "1"}))["error"]["code"]
        assert -32600 == (await client.response(method, {}))["error"]["code"]
    assert [f"connection 1: {method} before initialize"] * 2 == agent.violations


# -- the process --------------------------------------------------------------


async def test_the_process_speaks_over_stdio(tmp_path: Path) -> None:
    """`python -m trio_acp.testing.agent` is the same agent: a turn, a crash with its code, and a resume after it."""
    argv = [sys.executable, "-m", "trio_acp.testing.agent", "--state-dir", str(tmp_path)]
    argv += ["--no-load", "--id-prefix", "session"]
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}}
    new = {"jsonrpc": "2.0", "id": 2, "method": "session/new", "params": {"cwd": "/w", "mcpServers": []}}
    resume = {"jsonrpc": "2.0", "id": 2, "method": "session/resume", "params": {"sessionId": "session-1", "cwd": "/w"}}

    async def run(opening: Json, text: str) -> tuple[list[Json], int, bytes]:
        prompt = {"sessionId": "session-1", "prompt": [{"type": "text", "text": text}]}
        asked = {"jsonrpc": "2.0", "id": 3, "method": "session/prompt", "params": prompt}
        lines = "".join(json.dumps(message) + "\n" for message in (hello, opening, asked))
        async with trio.open_nursery() as nursery:
            pipe = subprocess.PIPE
            process = await nursery.start(
                partial(trio.run_process, argv, stdin=pipe, stdout=pipe, stderr=pipe, check=False)
            )
            await process.stdin.send_all(lines.encode())
            received = b""
            async for piece in process.stdout:
                received += piece
                if b'"id": 3' in received:
                    await process.stdin.aclose()
            errors = b"".join([piece async for piece in process.stderr])
            code: int = await process.wait()
        return [json.loads(line) for line in received.splitlines()], code, errors

    with trio.fail_after(30):
        messages, code, errors = await run(new, "say hi; crash 7")
        assert ([1, 2, None], 7, b"") == ([message.get("id") for message in messages], code, errors)
        assert messages[0]["result"]["agentCapabilities"]["loadSession"] is False
        messages, code, errors = await run(resume, "history")
        assert "I remember 1 earlier turns" in messages[-2]["params"]["update"]["content"]["text"]
        assert (3, 0, b"") == (messages[-1]["id"], code, errors)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--initialize-delay", "soon"], "invalid number of seconds value: 'soon'"),
        (["--new-session-delay", "-1"], "invalid number of seconds value: '-1'"),
        (["--id-prefix", "../x"], "cannot begin the ids of sessions"),
        (["--state-dir", "/dev/null/x"], "/dev/null"),
        (["--what"], "unrecognized arguments"),
    ],
)
def test_bad_options_are_a_usage_error(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that cannot be ends the program with 2 and says which."""
    with pytest.raises(SystemExit) as caught:
        agent_process.main(argv)
    assert 2 == caught.value.code
    assert complaint in capsys.readouterr().err


def test_the_steps_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--steps` prints each step and what it does, then what is no step, and starts no agent."""
    assert 0 == agent_process.main(["--steps"])
    steps, _, rest = capsys.readouterr().out.partition("\n\n")
    assert [usage.split()[0] for usage in STEPS] == [line.split()[0] for line in steps.splitlines()]
    assert "Steps are separated by ; or a newline.  Anything else is answered with: You said: ...\n" == rest
