"""Bad input is one of two kinds: tolerated, or fatal to one turn or one connection.

`TOLERATED` and `FATAL` are the tables.  After every entry the next turn works,
and no prompt has been sent twice.
"""

from __future__ import annotations

import json
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import trio
import trio.testing
import trio_websocket

import trio_acp
from tests.acp_kit import prompts, session_with
from trio_acp.testing import ScriptedAgent, dial_agent
from trio_acp.transports.stdio import dial_stdio
from trio_acp.transports.websocket import MAX_MESSAGE, dial_websocket, websocket_server_transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def update(**members: Any) -> str:
    return "update " + json.dumps(members)


@attrs.frozen(kw_only=True)
class Tolerated:
    """A script whose bad message must change nothing else.

    Attributes:
        counted: The kind under which it is counted, if it is.
        answer: The JSON-RPC error code the agent gets for it, if any.
        event: The name of the event it becomes, if any.
    """

    script: str
    counted: str | None = None
    answer: int | None = None
    event: str | None = None


TOLERATED: Final = {
    "binary frame": Tolerated(script="binary 3", counted="binary-frame"),
    "unparsable text": Tolerated(script="raw {not json", counted="parse-error", answer=-32700),
    "array": Tolerated(script='raw [{"jsonrpc": "2.0", "method": "x"}]', counted="batch", answer=-32600),
    "number": Tolerated(script="raw 7", counted="invalid-request", answer=-32600),
    "no method": Tolerated(script='raw {"jsonrpc": "2.0"}', counted="invalid-request", answer=-32600),
    "unknown notification": Tolerated(script='notify _vendor/thing {"a": 1}', counted="unknown-notification"),
    "cancel of nothing": Tolerated(
        script='notify $/cancel_request {"requestId": 99}', counted="cancel-of-unknown-request"
    ),
    "unknown response id": Tolerated(script="unknown-response", counted="unknown-response"),
    "duplicate response id": Tolerated(script="duplicate-response", counted="duplicate-response"),
    "an answer to a response": Tolerated(
        script='raw {"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "?"}}',
        counted="error-without-id",
    ),
    "not JSON-RPC at all": Tolerated(script='raw {"error": "Batch JSON-RPC not supported"}', counted="not-json-rpc"),
    "update for another session": Tolerated(script="other-session", counted="update-outside-a-turn"),
    "update outside a turn": Tolerated(script="late 2", counted="update-outside-a-turn"),
    "update without a session": Tolerated(script='notify session/update {"update": {}}', counted="malformed-update"),
    "unknown variant": Tolerated(
        script=update(sessionUpdate="novelty", x=1), counted="unknown-update", event="UnknownUpdate"
    ),
    "no variant": Tolerated(script=update(x=1), counted="malformed-update", event="UnknownUpdate"),
    "required member missing": Tolerated(
        script=update(sessionUpdate="tool_call", title="T"), counted="malformed-update", event="UnknownUpdate"
    ),
    "unknown member": Tolerated(
        script=update(sessionUpdate="agent_message_chunk", content={"type": "text", "text": "", "new": 1}, also=2),
        event="TextDelta",
    ),
    "wrong-typed optional": Tolerated(
        script=update(sessionUpdate="tool_call", toolCallId="t", title="T", kind=3, status={}, locations="x"),
        event="ToolCall",
    ),
    "bad list item": Tolerated(
        script=update(
            sessionUpdate="plan",
            entries=[3, {"content": "c", "priority": "high", "status": "pending"}, {"content": None}],
        ),
        event="Plan",
    ),
}


@pytest.mark.parametrize("name", TOLERATED)
async def test_tolerated_input_changes_nothing_else(
    name: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, logged once, answered as JSON-RPC says, and the turn completes."""
    case = TOLERATED[name]
    caplog.set_level("INFO", logger="trio_acp")
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        async with session.turn(f"{case.script}\n{case.script}\nsay done") as turn:
            events = [event async for event in turn]
        await trio.sleep(1)
        assert trio_acp.Completed("end_turn") == turn.outcome
        assert trio_acp.TextDelta("done") in events
        assert ([] if case.event is None else [case.event] * 2) == [
            type(event).__name__ for event in events if event != trio_acp.TextDelta("done")
        ]
        status = await session.status()
        assert status.runtime is not None
        tolerated = status.runtime.details["tolerated"]
        assert ({case.counted} if case.counted else set()) == set(tolerated)
        assert "next" == str(await session.prompt("say next"))
    if case.counted is not None:
        assert 1 == caplog.text.count(f"tolerated from the agent: {case.counted}")
    errors = [entry.params["code"] for entry in agent.log if isinstance(entry.params, dict) and "code" in entry.params]
    assert ([] if case.answer is None else [case.answer] * 2) == errors
    assert 2 == len(prompts(agent))


async def test_a_plan_keeps_the_entries_that_are_good(autojump_clock: trio.testing.MockClock) -> None:
    """Of a list that forgives bad items, only those are dropped."""
    async with session_with(ScriptedAgent()) as session, session.turn(TOLERATED["bad list item"].script) as turn:
        (event,) = [event async for event in turn]
    assert trio_acp.Plan(entries=(trio_acp.PlanEntry(content="c", priority="high", status="pending"),)) == event


# -- fatal to the turn ---------------------------------------------------------------


async def test_a_response_with_a_wrong_required_member_fails_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """`InvalidMessage` names the JSON path; the connection lives on."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("bad-response")
        assert isinstance(caught.value.__cause__, trio_acp.InvalidMessage)
        assert "$.result.stopReason" == caught.value.__cause__.path
        assert "$.result.stopReason" in str(caught.value)
        assert "next" == str(await session.prompt("say next"))
    assert {1} == {entry.connection for entry in agent.log}


async def test_an_unreadable_store_fails_the_turn(tmp_path: Path) -> None:
    """`StoreError` names the file; with a readable store the next turn works."""
    path = tmp_path / "sessions.db"
    path.write_bytes(b"this is no database, but long enough to look at" * 100)
    agent = ScriptedAgent()
    with trio.fail_after(20):
        async with trio_acp.open_session_manager(
            {"agent": trio_acp.AcpRuntime(dial_agent(agent))}, store=trio_acp.SQLiteStore(path)
        ) as manager:
            with pytest.raises(trio_acp.TurnFailed, match=r"sessions\.db") as caught:
                await manager.session("k").prompt("say hi")
            assert isinstance(caught.value.__cause__, trio_acp.StoreError)
            with pytest.raises(trio_acp.StoreError, match=r"sessions\.db"):
                await manager.start_session("k", agent="agent")
            path.unlink()
            session = await manager.start_session("k", agent="agent", cwd="/repo")
            assert "hi" == str(await session.prompt("say hi"))


# -- fatal to the connection -----------------------------------------------------------

AGENT: Final = [sys.executable, "-m", "trio_acp.testing.agent"]

FATAL_STDIO: Final = {
    # name: (script, detail, in the message)
    "agent exit": ("say a\ncrash 3", "agent-exited", "3"),
    "message over 64 MiB": (f"big {MAX_MESSAGE}", "message-too-large", str(MAX_MESSAGE)),
    "end of file": ("close", "agent-exited", "0"),
}


@pytest.mark.parametrize("name", FATAL_STDIO)
async def test_a_broken_process_fails_one_turn_and_is_replaced(name: str, tmp_path: Path) -> None:
    """One typed error that names what; the next turn starts the agent again and resumes."""
    script, detail, quoted = FATAL_STDIO[name]
    runtime = trio_acp.AcpRuntime(dial_stdio([*AGENT, "--state-dir", str(tmp_path)]))
    with trio.fail_after(50):
        async with trio_acp.open_session_manager({"agent": runtime}) as manager:
            session = await manager.start_session("k", agent="agent", cwd="/")
            with pytest.raises(trio_acp.TurnFailed) as caught:
                await session.prompt(script)
            assert detail == caught.value.detail
            assert quoted in str(caught.value)
            assert isinstance(caught.value.__cause__, trio_acp.WireError)
            assert "resumed" in str(await session.prompt("history"))


async def test_a_killed_process_is_named_by_its_signal(tmp_path: Path) -> None:
    """An agent killed from outside fails its turn with the signal's name."""
    script = "import os, signal, sys\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    runtime = trio_acp.AcpRuntime.stdio([sys.executable, "-c", script])
    with trio.fail_after(20):
        async with trio_acp.open_session_manager({"agent": runtime}) as manager:
            with pytest.raises(trio_acp.BackendUnavailable, match=signal.SIGKILL.name):
                await manager.start_session("k", agent="agent", cwd="/")


@asynccontextmanager
async def websocket_agent(agent: ScriptedAgent, path: str = "/acp") -> AsyncIterator[str]:
    """Serve an agent on a loopback port; yield its URL."""

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        if request.path != path:
            await request.reject(404)
        elif dict(request.headers).get(b"authorization") == b"Bearer wrong":
            await request.reject(401)
        else:
            connection = await request.accept()
            await agent.serve(websocket_server_transport(connection))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, serve, "127.0.0.1", 0, None)
        try:
            yield f"ws://127.0.0.1:{server.port}{path}"
        finally:
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("path", "headers", "status"), [("/elsewhere", (), 404), ("/acp", (("Authorization", "Bearer wrong"),), 401)]
)
async def test_a_rejected_handshake_is_one_error_with_its_status(
    path: str, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    """401 and 404 are `BackendUnavailable` with the status, and nothing else breaks."""
    with trio.fail_after(20):
        async with websocket_agent(ScriptedAgent()) as url:
            runtimes = {
                "bad": trio_acp.AcpRuntime.websocket(url.replace("/acp", path), headers=headers),
                "good": trio_acp.AcpRuntime.websocket(url),
            }
            async with trio_acp.open_session_manager(runtimes) as manager:
                with pytest.raises(trio_acp.BackendUnavailable, match=str(status)) as caught:
                    await manager.start_session("k", agent="bad")
                assert status == caught.value.status
                assert "hi" == str(await manager.ask("say hi", agent="good", cwd="/repo"))


async def test_a_reset_connection_fails_one_turn_and_is_replaced() -> None:
    """A TCP reset fails the turn ``disconnected``; the next turn resumes on a new connection."""
    agent = ScriptedAgent()
    with trio.fail_after(20):
        async with websocket_agent(agent) as url, _resetting_proxy(url) as (proxied, reset):
            runtime = trio_acp.AcpRuntime(dial_websocket(proxied))
            async with trio_acp.open_session_manager({"agent": runtime}) as manager:
                session = await manager.start_session("k", agent="agent", cwd="/repo")
                with pytest.raises(trio_acp.TurnFailed) as caught:
                    async with session.turn("say one\nhang") as turn:
                        async for _ in turn:
                            reset.set()
                assert ("disconnected", "one") == (caught.value.detail, caught.value.partial)
                assert "two" == str(await session.prompt("say two"))
    assert ["say one\nhang", "say two"] == prompts(agent)


@asynccontextmanager
async def _resetting_proxy(url: str) -> AsyncIterator[tuple[str, trio.Event]]:
    """Put a TCP proxy in front of a server; once the event is set, it resets its first connection."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    reset = trio.Event()
    seen = 0

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        with trio.CancelScope():
            try:
                async for data in source:
                    await sink.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def handle(client: trio.SocketStream) -> None:
        nonlocal seen
        seen += 1
        first = seen == 1
        async with await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as pumps:
            pumps.start_soon(pump, client, server)
            pumps.start_soon(pump, server, client)
            if first:
                await reset.wait()
                # An abortive close: with SO_LINGER 0, closing sends RST.
                client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.socket.close()
                pumps.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        try:
            yield f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/acp", reset
        finally:
            nursery.cancel_scope.cancel()
