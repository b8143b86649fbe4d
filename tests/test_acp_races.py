"""What other sessions, late answers and reused ids must not do to a session over ACP."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import connections, managed, prompts, received, session_with
from trio_acp._errors import ConnectionLost
from trio_acp.abc import Done, EnsureRequest, TurnRequest
from trio_acp.acp.codec import written
from trio_acp.acp.connection import Connection
from trio_acp.acp.outbox import MAX_QUEUED
from trio_acp.acp.schema import CloseSessionRequest, PromptRequest
from trio_acp.testing import ScriptedAgent, dial_agent
from trio_acp.transports import memory_transport_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_acp.acp.chunks import Chunk
    from trio_acp.acp.rpc import RequestId

pytestmark = pytest.mark.concurrency


class Answers:
    """A handler of a bare connection, which answers each request as `serve_one` says."""

    def __init__(self, serve_one: Callable[[object], Any] | None = None) -> None:
        self._serve_one = serve_one

    def on_update(self, session_id: str, update: object, size: int) -> bool:
        return False

    def on_chunk(self, session_id: str, chunk: Chunk, size: int) -> bool:
        return False

    async def serve(self, request_id: RequestId, method: str, params: object) -> dict[str, Any]:
        assert self._serve_one is not None
        result: dict[str, Any] = await self._serve_one(params)
        return result


def big_prompt(size: int) -> str:
    return written(PromptRequest(session_id="s", prompt=(trio_acp.TextContent(text="x" * size),)))


async def test_a_withdrawn_frame_takes_no_room(autojump_clock: trio.testing.MockClock) -> None:
    """What was withdrawn behind a stuck write keeps nobody waiting, and is not kept in memory."""
    ours, _theirs = memory_transport_pair(0)
    connection = Connection(ours, Answers(), stall=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        connection.request("session/prompt", big_prompt(10))  # the writer is stuck in this one
        await trio.testing.wait_all_tasks_blocked()
        pending = connection.request("session/prompt", big_prompt(MAX_QUEUED))
        assert pending.withdraw(ConnectionLost("withdrawn"))
        with trio.fail_after(1):
            await connection.wait_for_room(len(big_prompt(100)))
        assert "0 characters queued" in repr(connection)
        nursery.cancel_scope.cancel()


async def test_an_id_that_is_used_again_gets_its_own_answer(autojump_clock: trio.testing.MockClock) -> None:
    """A request whose id was used before is answered by its own task, though the first one's task still ends."""
    ours, theirs = memory_transport_pair()
    release = trio.Event()

    async def serve_one(params: Any) -> dict[str, Any]:
        if params["number"] == 1:
            await release.wait()
        else:
            await trio.sleep(1)
        return dict(params)

    connection = Connection(ours, Answers(serve_one), stall=30)

    async def ask(number: int) -> None:
        await theirs.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": "m", "params": {"number": number}}))
        await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await ask(1)
        assert connection.answer(7, {"number": 0})
        await ask(2)
        release.set()
        answers = [json.loads(await theirs.receive()) for _ in range(2)]
        assert connection.usable
        nursery.cancel_scope.cancel()
    assert [{"number": 0}, {"number": 2}] == [answer["result"] for answer in answers]


async def test_a_poisoned_connection_is_not_closed_under_a_session_that_is_being_opened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """When a session moves to a new connection, one that is just being opened on the old one is not lost."""
    agent = ScriptedAgent(new_session_delay=1.0)
    async with managed(agent) as manager, trio.open_nursery() as nursery:
        moves = await manager.start_session("moves", agent="agent", cwd="/repo")
        with trio.move_on_after(1):
            await moves.prompt("ignore-cancel inf; hang")
        opened: list[trio_acp.Session] = []

        async def open_another() -> None:
            opened.append(await manager.start_session("another", agent="agent", cwd="/repo"))

        nursery.start_soon(open_another)
        await trio.testing.wait_all_tasks_blocked()
        assert "moved" == str(await moves.prompt("say moved"))
        await trio.sleep(2)
        assert "fine" == str(await opened[0].prompt("say fine"))
        assert [1, 2, 1] == connections(agent, "session/prompt")
    assert [] == agent.violations


async def test_a_late_close_does_not_hit_the_session_that_was_resumed_since(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A handle whose id another handle has taken over is closed here, not at the agent."""
    agent = ScriptedAgent()
    async with trio_acp.AcpRuntime(dial_agent(agent)) as runtime:
        opening = EnsureRequest(key="k", mode="persistent", cwd="/repo")
        first = await runtime.ensure_session(opening)
        second = await runtime.ensure_session(
            EnsureRequest(key="k", mode="persistent", cwd="/repo", resume=first.session_id)
        )
        await runtime.close(first, "late")
        assert [] == received(agent, "session/close")
        await runtime.close(second, "done")
        await runtime.close(second, "done twice")
        assert ["session/close"] == received(agent, "session/close")


async def test_a_resume_that_was_given_up_is_closed_when_its_answer_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What an agent resumed for somebody who is gone is closed, unless it was resumed again meanwhile."""
    agent = ScriptedAgent()
    wire = Holding()
    async with trio_acp.AcpRuntime(wire.dial(agent)) as runtime:
        first = await runtime.ensure_session(EnsureRequest(key="k", mode="persistent", cwd="/repo"))
        await runtime.close(first, "done")
        again = EnsureRequest(key="k", mode="persistent", cwd="/repo", resume=first.session_id)
        opened: list[trio_acp.abc.Handle] = []

        async def open_again() -> None:
            opened.append(await runtime.ensure_session(again))

        for retried in (True, False):
            agent.log.clear()
            wire.hold()
            with trio.move_on_after(1):
                await runtime.ensure_session(again)
            if retried:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(open_again)
                    await trio.testing.wait_all_tasks_blocked()
                    wire.release()
                await trio.sleep(1)
                assert [] == received(agent, "session/close")
                await runtime.close(opened.pop(), "done")
            else:
                wire.release()
                await trio.sleep(1)
                assert ["session/close"] == received(agent, "session/close")


class Holding:
    """A wire that keeps back what the agent says while it is told to."""

    def __init__(self) -> None:
        self._flows = trio.Event()
        self._flows.set()

    def hold(self) -> None:
        self._flows = trio.Event()

    def release(self) -> None:
        self._flows.set()

    def dial(self, agent: ScriptedAgent) -> trio_acp.abc.Dial:
        holding = self

        class Held(trio_acp.abc.Transport):
            def __init__(self, inner: trio_acp.abc.Transport) -> None:
                self._inner = inner

            async def send(self, message: str) -> None:
                await self._inner.send(message)

            async def receive(self) -> str | bytes:
                message = await self._inner.receive()
                await holding._flows.wait()
                return message

            async def aclose(self) -> None:
                await self._inner.aclose()

        @asynccontextmanager
        async def connect() -> AsyncIterator[trio_acp.abc.Transport]:
            async with dial_agent(agent)() as transport:
                yield Held(transport)

        return connect


async def test_an_agent_that_gives_one_id_to_two_sessions_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """A ``session/new`` answered with the id of an open session is `SessionInitFailed`; the open one goes on."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        one = await manager.start_session("one", agent="agent", cwd="/repo")
        agent._store._made -= 1
        agent._store._sessions.clear()
        with pytest.raises(trio_acp.SessionInitFailed, match="session-1"):
            await manager.start_session("two", agent="agent", cwd="/repo")
        assert [] == received(agent, "session/close")
        assert "fine" == str(await one.prompt("say fine"))


async def test_a_turn_is_cancelled_at_most_once_on_the_wire(autojump_clock: trio.testing.MockClock) -> None:
    """However often the adapter is asked to stop a turn, the agent is told once."""
    agent = ScriptedAgent()
    async with trio_acp.AcpRuntime(dial_agent(agent)) as runtime, trio.open_nursery() as nursery:
        handle = await runtime.ensure_session(EnsureRequest(key="k", mode="persistent", cwd="/repo"))

        class Sink(trio_acp.abc.EventSink):
            def send(self, event: trio_acp.Event, size: int | None = None) -> bool:
                return True

        async def turn() -> None:
            prompt = (trio_acp.TextContent(text="ignore-cancel 5; hang"),)
            request = TurnRequest(handle=handle, prompt=prompt, request_id="r", permissions=trio_acp.DenyAll())
            assert Done(stop_reason="cancelled") == await runtime.run_turn(request, Sink())

        nursery.start_soon(turn)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(runtime.cancel, handle, "once")
        nursery.start_soon(runtime.cancel, handle, "twice")
    assert ["session/cancel"] == received(agent, "session/cancel")
    assert [] == agent.violations


class FailingStore(trio_acp.MemoryStore):
    """A store whose writes fail, or whose reads never end, when it is told to."""

    failing = False
    hanging = False

    async def read(self, key: str) -> trio_acp.SessionRecord | None:
        if self.hanging:
            await trio.sleep_forever()
        return await super().read(key)

    async def update(self, key: str, mutate: Any) -> trio_acp.SessionRecord | None:
        if self.failing:
            raise trio_acp.StoreError("the disk is full")
        return await super().update(key, mutate)


async def test_a_resumed_session_that_cannot_be_stored_is_closed_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """If its metadata cannot be written, nothing stays open: a resumed session neither."""
    agent, store = ScriptedAgent(), FailingStore()
    async with session_with(agent, store=store):
        pass
    async with managed(agent, store=store) as manager:
        store.failing = True
        with pytest.raises(trio_acp.StoreError):
            await manager.start_session("k", agent="agent", cwd="/repo")
        assert 0 == manager.statistics().open_handles
        store.failing = False
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        store.failing = True
        with pytest.raises(trio_acp.StoreError):
            await manager.start_session("k", agent="agent", cwd="/repo")
        assert 1 == manager.statistics().open_handles, "it was open before, and stays so"
        assert "hi" == str(await session.prompt("say hi"))
        store.failing = False


@pytest.mark.parametrize("operation", ["start", "status"])
async def test_a_store_that_hangs_holds_up_no_caller_that_is_cancelled(
    operation: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Cancelled while the store is read, the caller goes on at once, and the lane is free."""
    store = FailingStore()
    async with managed(ScriptedAgent(), store=store) as manager:
        store.hanging = True
        started = trio.current_time()
        with trio.move_on_after(1) as scope:
            if operation == "start":
                await manager.start_session("k", agent="agent", cwd="/repo")
            else:
                await manager.session("k").status()
        assert scope.cancelled_caught
        assert 1.0 == trio.current_time() - started
        store.hanging = False
        assert "hi" == str(await (await manager.start_session("k", agent="agent", cwd="/repo")).prompt("say hi"))


async def test_what_a_late_turn_says_before_the_next_prompt_is_sent_reaches_no_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Until the writer has taken a prompt, nothing that arrives can be about it."""
    agent = ScriptedAgent()
    stuck = Stuck()
    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(stuck.dial(agent))}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        await session.prompt("say one; late 5 1")
        stuck.block()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck.unblock_after, 3)
            # The first frame is stuck half-way; the prompt waits behind it.
            nursery.start_soon(_ignore_failure, manager.session("other"))
            await trio.testing.wait_all_tasks_blocked()
            reply = await session.prompt("sleep 0.5; say two")
        assert "late 2" not in reply.text
    assert ["say one; late 5 1", "sleep 0.5; say two"] == prompts(agent)


async def _ignore_failure(session: trio_acp.Session) -> None:
    ctx = session._ctx
    await trio.lowlevel.checkpoint()
    runtime = ctx.runtime("agent")
    await runtime.ensure_session(EnsureRequest(key="other", mode="persistent", cwd="/repo"))


class Stuck:
    """A wire over which nothing is sent while it is told so."""

    def __init__(self) -> None:
        self._flows = trio.Event()
        self._flows.set()

    def block(self) -> None:
        self._flows = trio.Event()

    async def unblock_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._flows.set()

    def dial(self, agent: ScriptedAgent) -> trio_acp.abc.Dial:
        stuck = self

        class Sticky(trio_acp.abc.Transport):
            def __init__(self, inner: trio_acp.abc.Transport) -> None:
                self._inner = inner

            async def send(self, message: str) -> None:
                await stuck._flows.wait()
                await self._inner.send(message)

            async def receive(self) -> str | bytes:
                return await self._inner.receive()

            async def aclose(self) -> None:
                await self._inner.aclose()

        @asynccontextmanager
        async def connect() -> AsyncIterator[trio_acp.abc.Transport]:
            async with dial_agent(agent)() as transport:
                yield Sticky(transport)

        return connect


async def test_an_answer_that_was_given_before_the_agent_went_away_counts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A write that fails ends the connection only after what had arrived was read."""
    for _ in range(10):  # whichever of reader and writer runs first
        ours, theirs = memory_transport_pair()
        connection = Connection(ours, Answers(), stall=30)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            pending = connection.request("session/prompt", big_prompt(1))
            asked = json.loads(await theirs.receive())
            await trio.testing.wait_all_tasks_blocked()
            for update in ({"method": "x"}, {"method": "x"}, {"id": asked["id"], "result": {"stopReason": "end_turn"}}):
                theirs._outgoing.send_nowait(json.dumps({"jsonrpc": "2.0", **update}))
            theirs._outgoing.close()
            theirs._incoming.close()
            connection.request("session/prompt", big_prompt(1))
        assert (None, {"stopReason": "end_turn"}) == (pending.error, pending.result)


async def test_a_write_that_fails_ends_the_connection_though_nothing_more_arrives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An agent that only stopped reading does not keep its connection open for long."""
    ours, theirs = memory_transport_pair()
    connection = Connection(ours, Answers(), stall=30)
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            theirs._incoming.close()
            pending = connection.request("session/prompt", big_prompt(1))
    assert isinstance(pending.error, ConnectionLost)
    assert not pending.error.retryable


async def test_each_write_has_the_whole_time(autojump_clock: trio.testing.MockClock) -> None:
    """A write that stalls breaks the connection that long after its own beginning, whatever was written before."""
    ours, theirs = memory_transport_pair(0)
    connection = Connection(ours, Answers(), stall=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        for slow in (0, 29, 29):
            pending = connection.request("session/prompt", big_prompt(1))
            await trio.sleep(slow)
            await theirs.receive()
        await trio.sleep(100)  # nothing is under way
        assert connection.usable
        began = trio.current_time()
        pending = connection.request("session/prompt", big_prompt(1))
        await pending.wait_done()
        assert 30 == trio.current_time() - began
    assert isinstance(pending.error, ConnectionLost)
    assert ("write-stalled", False) == (pending.error.detail, pending.error.retryable)


async def test_a_program_that_was_busy_does_not_accuse_a_write_that_ended(mock_clock: trio.testing.MockClock) -> None:
    """Whoever keeps everybody waiting for longer than a write may take breaks no connection that got on."""
    ours, theirs = memory_transport_pair()
    connection = Connection(ours, Answers(), stall=30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        for _ in range(64):  # whose turn it is next is drawn by lot
            connection.request("session/prompt", big_prompt(1))
            await trio.lowlevel.checkpoint()  # the frame is sent, but the writer was not told yet
            mock_clock.jump(31)
            await theirs.receive()
            await trio.testing.wait_all_tasks_blocked()
            assert connection.usable
        nursery.cancel_scope.cancel()


async def test_whoever_asks_waits_for_room(autojump_clock: trio.testing.MockClock) -> None:
    """A request is not queued before there is room for it; cancelled until then, nothing of it is sent."""
    ours, theirs = memory_transport_pair(0)
    connection = Connection(ours, Answers(), stall=30)
    params = CloseSessionRequest(session_id="s")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        connection.request("session/prompt", big_prompt(1))  # the writer is stuck in this one
        await trio.testing.wait_all_tasks_blocked()
        connection.request("session/prompt", big_prompt(MAX_QUEUED))
        with trio.move_on_after(1) as scope:
            await connection.ask("session/close", params)
        assert scope.cancelled_caught
        nursery.start_soon(connection.ask, "session/close", params)
        said = [json.loads(await theirs.receive()) for _ in range(3)]
        assert ["session/prompt", "session/prompt", "session/close"] == [message["method"] for message in said]
        assert {"sessionId": "s"} == said[2]["params"]
        nursery.cancel_scope.cancel()


async def test_what_comes_after_the_end_is_not_heard(autojump_clock: trio.testing.MockClock) -> None:
    """A chunk of text that was on its way when the connection ended is nobody's, like any other message."""
    heard = []

    class Closes(Answers):
        def on_chunk(self, session_id: str, chunk: Chunk, size: int) -> bool:
            heard.append(chunk)
            connection.close()
            return True

    ours, theirs = memory_transport_pair()
    connection = Connection(ours, Closes(), stall=30)
    for text in ("last", "late"):
        update = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        params = {"sessionId": "s", "update": update}
        await theirs.send(json.dumps({"jsonrpc": "2.0", "method": "session/update", "params": params}))
    await connection.run()
    assert ([trio_acp.TextDelta("last")], {"ended": 1}) == (heard, connection.ignored)


async def test_everybody_who_waits_for_a_connection_gets_an_error_of_his_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What a dial raises comes out typed, though it came in a group of its nursery, and is not shared."""

    @asynccontextmanager
    async def refuse() -> AsyncIterator[trio_acp.abc.Transport]:
        async with trio.open_nursery():
            await trio.sleep(3)
            if trio.current_time() > 0:
                raise trio_acp.BackendUnavailable("nobody there", detail="connection-refused", status=503)
            yield memory_transport_pair()[0]

    errors: list[trio_acp.BackendUnavailable] = []
    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(refuse)}) as manager:

        async def one(key: str) -> None:
            with pytest.raises(trio_acp.BackendUnavailable) as caught:
                await manager.start_session(key, agent="agent", cwd="/repo")
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            for key in "abc":
                nursery.start_soon(one, key)
    assert [("connection-refused", 503)] * 3 == [(error.detail, error.status) for error in errors]
    assert 3 == len({id(error) for error in errors})


async def test_a_dial_that_fails_strangely_is_named_as_the_cause(autojump_clock: trio.testing.MockClock) -> None:
    """An untyped error of a dial is `BackendUnavailable`, caused by it; the manager lives on."""
    fault = ValueError("no such thing")

    def dial() -> Any:
        raise fault

    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial)}) as manager:
        with pytest.raises(trio_acp.BackendUnavailable) as caught:
            await manager.start_session("k", agent="agent", cwd="/repo")
    assert ("internal-error", fault) == (caught.value.detail, caught.value.__cause__)
