"""Sessions over ACP: opening, resuming, closing, authenticating, losing connections."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trio_acp
from tests.acp_kit import connections, managed, prompts, received, session_with
from trio_acp.testing import ScriptedAgent, dial_agent
from trio_acp.testing.agent import AUTH_METHODS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio_acp.abc import Dial, TraceRecord, Transport

pytestmark = pytest.mark.concurrency


class Trace(trio_acp.abc.Instrument):
    """Remembers the names of all records."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def record(self, record: TraceRecord) -> None:
        self.names.append(record.name)


async def test_entering_a_manager_connects_to_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Connections are lazy: the first session makes the first one."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        await trio.testing.wait_all_tasks_blocked()
        assert [] == agent.log
        await manager.start_session("k", agent="agent", cwd="/repo")
    assert ["initialize", "session/new", "session/close"] == received(agent)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["session/resume"]),
        ({"resume": False}, ["session/load"]),
        ({"refuse_resume": True}, ["session/resume", "session/load"]),
        ({"resume": False, "replay_after_load": True}, ["session/load"]),
    ],
)
async def test_a_stored_session_is_resumed_by_the_next_manager(
    options: dict[str, Any], expected: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    """Resume where the agent has it, else load, whose replay reaches nobody."""
    agent = ScriptedAgent(**options)
    store = trio_acp.MemoryStore()
    async with session_with(agent, store=store) as session:
        await session.prompt("say one")
    async with managed(agent, store=store) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        await trio.sleep(1)
        reply = await session.prompt("history")
    assert "I remember 1 earlier turns" in reply.text
    assert expected == received(agent, "session/resume", "session/load")
    assert 1 == len(received(agent, "session/new"))
    assert [] == agent.violations


async def test_a_conversation_that_another_key_has_open_is_not_resumed(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """An agent that numbers its sessions from 1 again in each process gives one key the id that another remembers."""
    store = trio_acp.MemoryStore()
    async with managed(ScriptedAgent(), store=store) as manager:
        for key in ("a", "b"):
            await manager.start_session(key, agent="agent", cwd="/repo")
    later = ScriptedAgent(load=False)  # another process: it remembers nothing
    async with managed(later, store=store) as manager:
        b = await manager.start_session("b", agent="agent", cwd="/repo")
        a = await manager.start_session("a", agent="agent", cwd="/repo")
        for session in (a, b):
            assert f"from {session.key}" == (await session.prompt(f"say from {session.key}")).text
        assert ("replaced", "replaced") == (a.origin, b.origin)
        assert (await a.status()).session_id != (await b.status()).session_id
    assert "is open as 'b'" in caplog.text


async def test_a_session_that_cannot_be_resumed_begins_anew(autojump_clock: trio.testing.MockClock) -> None:
    """A stale id is replaced by the id of a new session, in the store too, and the trace says so."""
    agent, store, trace = ScriptedAgent(resume=False, load=False), trio_acp.MemoryStore(), Trace()
    async with session_with(agent, store=store):
        pass
    async with session_with(agent, store=store, instrument=trace) as session:
        await session.prompt("say one")
        assert "session-2" == (await session.status()).session_id
    assert 2 == len(received(agent, "session/new"))
    async with store:
        record = await store.read("k")
    assert record is not None
    assert ("session-2", "idle") == (record.session_id, record.state)
    assert "resume_failed" in trace.names


async def test_a_key_of_another_agent_or_mode_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """`SessionExists` for a stored key with another mode; ``fresh=True`` discards it."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        await manager.start_session(" K ", agent="agent", cwd="/repo")
        with pytest.raises(trio_acp.SessionExists):
            await manager.start_session("k", agent="agent", mode="oneshot")
        await manager.start_session("k", agent="agent", mode="oneshot", fresh=True, cwd="/repo")
    assert ["session/new", "session/close", "session/new", "session/close"] == received(
        agent, "session/new", "session/close"
    )


async def test_ask_uses_a_session_of_its_own_and_stores_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A oneshot opens, prompts and closes."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        assert "hi" == str(await manager.ask("say hi", agent="agent", cwd="/repo"))
        assert () == await manager.stored_sessions()
        assert 0 == manager.statistics().open_handles
    assert ["session/new", "session/prompt", "session/close"] == received(agent)[1:]


async def test_close_is_not_sent_to_an_agent_without_it(autojump_clock: trio.testing.MockClock) -> None:
    """``session/close`` is asked only where it was advertised; the session is closed here all the same."""
    agent = ScriptedAgent(close=False)
    async with session_with(agent) as session:
        assert trio_acp.CloseReport(closed=True) == await session.close()
    assert [] == received(agent, "session/close")


# -- authentication ---------------------------------------------------------------


async def test_an_agent_that_wants_authentication_names_its_methods(autojump_clock: trio.testing.MockClock) -> None:
    """-32000 becomes `AuthenticationRequired` with the methods; after `authenticate` it works."""
    agent = ScriptedAgent(auth=True)
    runtime = trio_acp.AcpRuntime(dial_agent(agent))
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        with pytest.raises(trio_acp.AuthenticationRequired) as caught:
            await manager.start_session("k", agent="agent", cwd="/repo")
        assert tuple(AUTH_METHODS) == caught.value.methods
        with pytest.raises(trio_acp.AuthenticationRequired, match="no authentication method"):
            await runtime.authenticate("made-up")
        await runtime.authenticate(AUTH_METHODS[0])
        await manager.start_session("k", agent="agent", cwd="/repo")


async def test_an_authentication_method_is_used_on_each_connection(autojump_clock: trio.testing.MockClock) -> None:
    """With ``auth_method`` the client authenticates right after ``initialize``."""
    agent = ScriptedAgent(auth=True)
    async with session_with(agent, auth_method=AUTH_METHODS[0]):
        pass
    assert ["initialize", "authenticate", "session/new"] == received(agent)[:3]


# -- connections --------------------------------------------------------------------


async def test_an_agent_of_another_version_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """A protocol version we do not speak is `BackendUnavailable` with detail ``protocol-version``."""
    async with managed(ScriptedAgent(protocol_version=2)) as manager:
        with pytest.raises(trio_acp.BackendUnavailable) as caught:
            await manager.start_session("k", agent="agent")
    assert "protocol-version" == caught.value.detail


async def test_an_agent_that_never_initializes_is_given_up_in_time(autojump_clock: trio.testing.MockClock) -> None:
    """``connect_timeout`` covers ``initialize`` to the second; the next operation dials again."""
    agent = ScriptedAgent(initialize_delay=math.inf)
    async with managed(agent, connect_timeout=9) as manager:
        with pytest.raises(trio_acp.BackendUnavailable) as caught:
            await manager.start_session("k", agent="agent")
        assert (9.0, "connect-timeout") == (trio.current_time(), caught.value.detail)
        agent.initialize_delay = 0
        await manager.start_session("k", agent="agent", cwd="/repo")


async def test_the_setup_limit_cuts_off_an_agent_that_opens_no_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """``setup`` seconds, then `TurnFailed` with detail ``setup-timeout``, and the agent is told."""
    agent = ScriptedAgent(new_session_delay=math.inf)
    settings = trio_acp.Settings(limits=trio_acp.Limits(setup=5))
    async with managed(agent, settings=settings) as manager:
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await manager.start_session("k", agent="agent", cwd="/repo")
        assert (5.0, "setup-timeout") == (trio.current_time(), caught.value.detail)
        await trio.testing.wait_all_tasks_blocked()
    assert ["$/cancel_request"] == received(agent, "$/cancel_request")


async def test_a_session_opened_for_nobody_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    """If the caller is cancelled while the agent opens a session, the late one is closed, not adopted."""
    agent = ScriptedAgent(new_session_delay=10)
    async with managed(agent) as manager:
        with trio.move_on_after(1) as scope:
            await manager.start_session("k", agent="agent", cwd="/repo")
        assert scope.cancelled_caught
        assert 1.0 == trio.current_time()
        await trio.sleep(20)
        assert not manager.is_live("k")
        assert () == await manager.stored_sessions()
    assert ["session/new", "$/cancel_request", "session/close"] == received(agent)[1:]


async def test_a_caller_who_gives_up_does_not_take_the_connection_from_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first caller's cancellation while connecting leaves the second one's connection alone."""
    agent = ScriptedAgent(initialize_delay=5)
    async with managed(agent) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(_start, manager, "second")
        with trio.move_on_after(1):
            await manager.start_session("first", agent="agent", cwd="/repo")
    assert [1] == connections(agent, "initialize")
    assert [1] == connections(agent, "session/new")


async def _start(manager: trio_acp.SessionManager, key: str) -> None:
    await manager.start_session(key, agent="agent", cwd="/repo")


async def test_a_lost_connection_fails_the_turn_and_no_prompt_is_sent_twice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The turn fails ``disconnected`` with what was said; the next one resumes on a new connection."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("say before\nclose")
        assert ("disconnected", "before") == (caught.value.detail, caught.value.partial)
        assert isinstance(caught.value.__cause__, trio_acp.ConnectionLost)
        assert "error" == (await session.status()).state
        assert "after" == str(await session.prompt("say after"))
        assert "idle" == (await session.status()).state
    assert ["say before\nclose", "say after"] == prompts(agent)
    assert [1, 2] == connections(agent, "session/prompt")
    assert ["session/resume"] == received(agent, "session/resume")


async def test_a_connection_lost_while_idle_is_replaced_when_needed(autojump_clock: trio.testing.MockClock) -> None:
    """No background reconnect; the next turn dials, resumes and succeeds."""
    agent = ScriptedAgent()
    async with managed(agent) as manager:
        one = await manager.start_session("one", agent="agent", cwd="/repo")
        two = await manager.start_session("two", agent="agent", cwd="/repo")
        with pytest.raises(trio_acp.TurnFailed):
            await one.prompt("close")
        await trio.sleep(100)
        assert [1] == connections(agent, "initialize")
        assert "two" == str(await two.prompt("say two"))
        assert "one" == str(await one.prompt("say one"))
    assert [1, 2] == connections(agent, "initialize")


class Clogged(trio_acp.abc.Transport):
    """A transport whose peer reads nothing after the first `writes` messages."""

    def __init__(self, inner: Transport, writes: int) -> None:
        self._inner = inner
        self._writes = writes

    async def send(self, message: str) -> None:
        self._writes -= 1
        if self._writes < 0:
            await trio.sleep_forever()
        await self._inner.send(message)

    async def receive(self) -> str | bytes:
        return await self._inner.receive()

    async def aclose(self) -> None:
        await self._inner.aclose()


def dial_through(agent: ScriptedAgent, wrap: Callable[[Transport], Transport]) -> Dial:
    """Return a dial to an agent whose transports are wrapped."""

    @asynccontextmanager
    async def dial() -> AsyncIterator[Transport]:
        async with dial_agent(agent)() as inner:
            yield wrap(inner)

    return dial


async def test_a_write_that_does_not_end_breaks_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    """After ``stall`` seconds the connection is broken and its turn fails ``write-stalled``."""
    agent = ScriptedAgent()

    dial = dial_through(agent, lambda inner: Clogged(inner, writes=2))

    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial, stall=30)}) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        started = trio.current_time()
        with pytest.raises(trio_acp.TurnFailed) as caught:
            await session.prompt("say hi")
        assert (30.0, "write-stalled") == (trio.current_time() - started, caught.value.detail)


async def test_cancelling_while_frames_wait_submits_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A prompt stuck behind a clogged writer is withdrawn by a cancel, in zero time."""
    agent = ScriptedAgent()

    dial = dial_through(agent, lambda inner: Clogged(inner, writes=3))

    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial, stall=1000)}) as manager:
        one = await manager.start_session("one", agent="agent", cwd="/repo")
        two = await manager.start_session("two", agent="agent", cwd="/repo")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.prompt, "x" * 2**21)  # the writer is stuck in this one
            await trio.testing.wait_all_tasks_blocked()
            for text in ("small", "y" * 2**20, "waits for room"):
                started = trio.current_time()
                with trio.move_on_after(1):
                    await two.prompt(text)
                assert trio.current_time() - started <= 1.1
            nursery.cancel_scope.cancel()
    assert [] == prompts(agent)


async def test_the_status_of_a_session_tells_what_is_known(autojump_clock: trio.testing.MockClock) -> None:
    """`Session.status` joins metadata, lane and connection; a busy session is not disturbed."""
    agent = ScriptedAgent()
    async with session_with(agent) as session:
        status = await session.status()
        assert ("k", "agent", "persistent", "idle", "/repo", "session-1", True, 0) == (
            status.key,
            status.agent,
            status.mode,
            status.state,
            status.cwd,
            status.session_id,
            status.live,
            status.queued,
        )
        assert status.runtime is not None
        assert "connected" == status.runtime.summary
        async with session.turn("hang"):
            await trio.testing.wait_all_tasks_blocked()
            busy = await session.status()
            assert ("running", None) == (busy.state, busy.runtime)
    with pytest.raises(trio_acp.ManagerClosed):
        await session.status()


async def test_a_runtime_that_was_not_entered_says_so(autojump_clock: trio.testing.MockClock) -> None:
    """Using an `AcpRuntime` without a manager is a clear `RuntimeError`."""
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    with pytest.raises(RuntimeError, match="open_session_manager"):
        await runtime.authenticate("x")


async def test_a_runtime_belongs_to_one_manager(autojump_clock: trio.testing.MockClock) -> None:
    """Giving an open manager's runtime to a second one is a clear `RuntimeError`; afterwards it can be used again."""
    runtime = trio_acp.AcpRuntime(dial_agent(ScriptedAgent()))
    async with trio_acp.open_session_manager({"agent": runtime}):
        with pytest.raises(RuntimeError, match="already"):
            async with trio_acp.open_session_manager({"agent": runtime}):
                pass
    async with trio_acp.open_session_manager({"agent": runtime}) as manager:
        assert "hi" == str(await manager.ask("say hi", agent="agent", cwd="/repo"))


async def test_everybody_who_waits_for_room_gets_it(autojump_clock: trio.testing.MockClock) -> None:
    """Requests that wait behind a full queue are all sent once it empties, in whatever order."""
    agent = ScriptedAgent()
    unclogged = trio.Event()

    class Slow(Clogged):
        async def send(self, message: str) -> None:
            if "session/prompt" in message:
                await unclogged.wait()
            await self._inner.send(message)

    dial = dial_through(agent, lambda inner: Slow(inner, writes=0))

    async with trio_acp.open_session_manager({"agent": trio_acp.AcpRuntime(dial)}) as manager:
        sessions = [await manager.start_session(f"s{n}", agent="agent", cwd="/repo") for n in range(5)]
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.prompt, "say " + "x" * 700_000)
            await trio.testing.wait_all_tasks_blocked()
            assert [] == prompts(agent)
            unclogged.set()
    assert 5 == len(prompts(agent))


@pytest.mark.parametrize(
    ("offers", "evicted"), [({}, 1), ({"resume": False}, 1), ({"resume": False, "load": False}, 0)]
)
async def test_only_sessions_the_agent_can_resume_are_closed_for_being_idle(
    offers: dict[str, Any], evicted: int, autojump_clock: trio.testing.MockClock
) -> None:
    """After `idle_ttl` the next prompt finds the conversation again, whatever the agent offers."""
    settings = trio_acp.Settings(idle_ttl=10)
    async with managed(ScriptedAgent(**offers), settings=settings) as manager:
        session = await manager.start_session("k", agent="agent", cwd="/repo")
        await session.prompt("say one")
        await trio.sleep(20)
        assert evicted == manager.statistics().evicted
        assert "I remember 1 earlier turns" in str(await session.prompt("history"))


@pytest.mark.parametrize("option", ["connect_timeout", "stall"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "3"])
def test_seconds_that_cannot_be_are_refused_when_the_runtime_is_made(option: str, seconds: Any) -> None:
    """`InvalidOption` names the option."""
    with pytest.raises(trio_acp.InvalidOption, match=option):
        trio_acp.AcpRuntime(dial_agent(ScriptedAgent()), **{option: seconds})


async def test_a_close_that_is_given_up_at_once_is_sent_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody will ask for it again: neither is it taken back before it was sent, nor after that."""
    agent = ScriptedAgent()
    async with trio_acp.AcpRuntime(dial_agent(agent)) as runtime:
        handle = await runtime.ensure_session(trio_acp.abc.EnsureRequest(key="k", mode="persistent", cwd="/repo"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await runtime.close(handle, "the turn that wanted it closed was stopped")
        await trio.testing.wait_all_tasks_blocked()
        assert ["session/close"] == received(agent, "session/close", "$/cancel_request")
    assert [] == agent.abandoned
