"""What is learned of a session between turns, and who asks how its handle is."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from tests.turn_kit import (
    LIMITS,
    SETTINGS,
    AwkwardStore,
    C,
    J,
    Recorder,
    check_trace,
    installed,
    one_session,
)
from trio_acp import (
    Completed,
    ConnectionLost,
    Identity,
    RequestFailed,
    SessionInitFailed,
    SessionRecord,
    Stopped,
    TextDelta,
    TurnFailed,
    TurnTimedOut,
    UnsupportedControl,
    open_session_manager,
)
from trio_acp._actor import admit
from trio_acp._close import CloseWish, close_in_lane
from trio_acp._refresh import is_unavailable
from trio_acp._requests import Control
from trio_acp._shutdown import shut_down
from trio_acp.abc import Capabilities, Handle, Runtime, RuntimeStatus
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio.testing import MockClock

    from trio_acp import Session, SessionManager, Turn
    from trio_acp._trace import TraceRecord
    from trio_acp.abc import Done, EnsureRequest, EventSink, Mode, SessionStore, TurnRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

SETTLE = LIMITS.settle
PROBE = LIMITS.probe
FRESH = RuntimeStatus(summary="alive", session_id="fresh", agent_session_id="fresh-agent")
STALE = Identity(state="resolved", session_id="stale", agent_session_id="stale-agent", source="status")
GOOD = RuntimeStatus(summary="alive")


def record_of(identity: Identity | None, mode: Mode = "persistent") -> SessionRecord:
    return SessionRecord(key="k", agent="fake", mode=mode, identity=identity)


@asynccontextmanager
async def stored(
    runtime: FakeRuntime,
    identity: Identity | None,
    *,
    mode: Mode = "persistent",
    store: SessionStore | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[SessionManager, Session]]:
    """Open a manager over a store that has one session, ``"k"``, from before."""
    store = store or MemoryStore()
    await store.update("k", lambda _: record_of(identity, mode))
    manager_settings = attrs.evolve(SETTINGS, **settings)
    async with open_session_manager({"fake": runtime}, store=store, settings=manager_settings) as manager:
        yield manager, manager.session("k")


async def identity_in(manager: SessionManager) -> Identity | None:
    [record] = await manager.stored_sessions()
    return record.identity


async def at_rest() -> None:
    """Let what follows a turn follow it."""
    await trio.testing.wait_all_tasks_blocked()


class Learns(FakeRuntime):
    """Its agent's own id becomes known in the first turn on a handle."""

    agent_id = "agent-1"

    async def run_turn(self, request: Any, events: Any) -> Any:
        request.handle.agent_session_id = self.agent_id
        return await super().run_turn(request, events)


# -- after a turn -----------------------------------------------------------------


async def test_a_status_after_a_turn_replaces_stale_ids(autojump_clock: MockClock) -> None:
    """T-029: one question after the first turn on a handle, and both stored ids are fresh."""
    runtime = FakeRuntime(reports=FRESH)
    async with stored(runtime, STALE) as (manager, session):
        await session.prompt("x")
        await at_rest()
        assert ["ensure_session", "run_turn", "status"] == runtime.names()
        assert Identity(
            state="resolved", session_id="fresh", agent_session_id="fresh-agent", source="status"
        ) == await identity_in(manager)
        await session.prompt("y")
        await at_rest()
        assert 1 == runtime.names().count("status")


async def test_an_id_learned_in_a_turn_is_stored_with_it(autojump_clock: MockClock) -> None:
    """T-049: what the handle knows after the turn is in the turn's last write; nobody is asked for it."""
    async with stored(Learns(), Identity(session_id="s")) as (manager, session):
        await session.prompt("x")
        assert Identity(
            state="resolved", session_id="s", agent_session_id="agent-1", source="event"
        ) == await identity_in(manager)


async def test_an_id_learned_in_a_turn_survives_a_status_without_ids(autojump_clock: MockClock) -> None:
    """T-049: a status that tells no ids takes none away."""
    runtime = Learns(reports=GOOD)
    async with stored(runtime, STALE) as (manager, session):
        await session.prompt("x")
        await at_rest()
        assert 1 == runtime.names().count("status")
        identity = await identity_in(manager)
        assert identity is not None
        assert ("stale", "agent-1", "event") == (identity.session_id, identity.agent_session_id, identity.source)


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ("completes", 1),
        ("fails", 1),
        ("is stopped", 1),
        ("cannot be stopped", 0),
        ("times out", 0),
        ("is not submitted", 0),
        ("loses its connection", 0),
    ],
)
async def test_after_which_turns_the_runtime_is_asked(how: str, asked: int, autojump_clock: MockClock) -> None:
    """After each that settled in time on a handle that can still be used, whatever its outcome."""
    runtime = FakeRuntime(reports=FRESH)
    steps: dict[str, list[Step]] = {
        "fails": [Raise(OSError("odd"))],
        "is stopped": [Hang(stops=True)],
        "cannot be stopped": [Hang()],
        "times out": [Hang(stops=True)],
        "loses its connection": [Run(lambda _: runtime.dead.update(runtime.open)), Raise(ConnectionLost("gone"))],
    }
    runtime.turn = steps.get(how, [])
    runtime.on_cancel = [Hang()] if how == "cannot be stopped" else []
    async with one_session(runtime) as (_manager, session):
        if how == "is not submitted":
            await session.update_options(mode="plan")
            runtime.offers = Capabilities()
        turn = session.turn("x")
        with suppress(TurnFailed, TurnTimedOut):
            async with turn:
                await at_rest()
                if "stopped" in how:
                    turn.cancel()
                async for _ in turn:
                    pass
        await at_rest()
        assert asked == runtime.names().count("status")


async def test_what_was_heard_once_is_no_news(autojump_clock: MockClock) -> None:
    """What the runtime told later than the handle stands, until the handle's ids change again."""
    runtime = Learns(reports=FRESH)
    async with stored(runtime, STALE) as (manager, session):
        for agent_id, expected in (("agent-1", "fresh-agent"), ("agent-1", "fresh-agent"), ("agent-2", "agent-2")):
            runtime.agent_id = agent_id
            await session.prompt("x")
            await at_rest()
            identity = await identity_in(manager)
            assert identity is not None
            assert expected == identity.agent_session_id


async def test_what_a_handle_was_opened_with_is_no_news(autojump_clock: MockClock) -> None:
    """Ids that a resumed session has from its opening do not replace confirmed ones after a turn."""

    class Knows(FakeRuntime):
        async def ensure_session(self, request: EnsureRequest) -> Handle:
            handle = await super().ensure_session(request)
            handle.agent_session_id = "another"
            return handle

    async with stored(Knows(), STALE) as (manager, session):
        await session.prompt("x")
        assert STALE == await identity_in(manager)


async def test_a_turn_that_timed_out_confirms_nothing(autojump_clock: MockClock) -> None:
    """Its session's identity stays pending."""
    async with one_session(Learns([Hang(stops=True)])) as (manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert Identity(state="pending", session_id="fake-1") == await identity_in(manager)


async def test_a_handle_that_is_given_up_tells_its_ids(autojump_clock: MockClock) -> None:
    """A session that got its id in a turn that could not be stopped is resumed by that id."""

    class Late(FakeRuntime):
        async def ensure_session(self, request: EnsureRequest) -> Handle:
            handle = await super().ensure_session(request)
            handle.session_id = None
            return handle

        async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
            request.handle.session_id = "late"
            return await super().run_turn(request, events)

    runtime = Late([Hang()], cancel=[Hang()])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        runtime.turn = []
        await session.prompt("y")
        assert "late" == runtime.calls[-2].detail.resume


async def test_pending_ids_are_asked_for_after_each_turn(autojump_clock: MockClock) -> None:
    """A session without any id is asked again; one with an id is not."""

    class Nameless(FakeRuntime):
        async def ensure_session(self, request: EnsureRequest) -> Handle:
            handle = await super().ensure_session(request)
            handle.session_id = None
            return handle

    runtime = Nameless(reports=GOOD)
    async with one_session(runtime) as (manager, session):
        for _ in range(2):
            await session.prompt("x")
            await at_rest()
        assert 2 == runtime.names().count("status")
        assert None is await identity_in(manager)
        runtime.reports = FRESH
        for _ in range(2):
            await session.prompt("x")
            await at_rest()
        assert 3 == runtime.names().count("status")
        identity = await identity_in(manager)
        assert identity is not None
        assert ("fresh", "resolved") == (identity.session_id, identity.state)


async def test_a_runtime_without_a_status_is_not_asked(autojump_clock: MockClock) -> None:
    """One that does not override it has nothing to tell, and no task is started for it."""
    inner = FakeRuntime()

    class Mute(Runtime):
        async def ensure_session(self, request: EnsureRequest) -> Handle:
            return await inner.ensure_session(request)

        async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
            return await inner.run_turn(request, events)

        async def cancel(self, handle: Handle, reason: str) -> None:
            await inner.cancel(handle, reason)

        async def close(self, handle: Handle, reason: str) -> None:
            await inner.close(handle, reason)

    calls: list[str] = []

    class Watch(trio.abc.Instrument):
        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            calls.append(task.name.removeprefix("trio_acp call "))

    async with open_session_manager({"fake": Mute()}) as manager:
        session = await manager.start_session("k", agent="fake")
        with installed(Watch()):
            await session.prompt("x")
            await at_rest()
    assert ["trio_acp actor k"] == calls


class CountingStore(MemoryStore):
    """Counts what is written."""

    updates = 0

    async def update(self, key: str, mutate: Any) -> SessionRecord | None:
        self.updates += 1
        return await super().update(key, mutate)


async def test_a_turn_costs_two_writes(autojump_clock: MockClock) -> None:
    """Also the first one of a handle, whose ids are confirmed by it and by the runtime."""
    store = CountingStore()
    runtime = FakeRuntime(reports=lambda handle: RuntimeStatus(summary="", session_id=handle.session_id))
    async with one_session(runtime, store=store) as (manager, session):
        for expected in (3, 5):
            await session.prompt("x")
            await at_rest()
            assert expected == store.updates
        # That the runtime has said so too was no reason for a write; the next one had it.
        identity = await identity_in(manager)
        assert Identity(state="resolved", session_id="fake-1", source="status") == identity


async def test_the_caller_does_not_wait_for_it_and_the_lane_does(autojump_clock: MockClock) -> None:
    """E-20: a hung status keeps the lane for `settle` seconds, the caller for none, and changes no outcome."""
    recorder = Recorder()
    runtime = FakeRuntime([TextDelta("a")], status=[Hang()], reports=FRESH)
    async with one_session(runtime, instrument=recorder) as (manager, session):
        reply = await session.prompt("x")
        assert (0, "a", Completed()) == (trio.current_time(), reply.text, reply.outcome)
        await trio.sleep(SETTLE + J)
        assert [SETTLE] == [r.time for r in recorder.records if r.name == "released"][1:]
        assert 0 == manager.statistics().suspects
        identity = await identity_in(manager)
        assert identity is not None
        assert "fake-1" == identity.session_id
    check_trace(recorder)


@pytest.mark.parametrize(
    "steps", [[Raise(OSError("odd"))], [Hang()], [Swallow(SETTLE + 0.5)]], ids=["raises", "hangs", "resists"]
)
async def test_a_status_that_fails_changes_nothing(steps: list[Step], autojump_clock: MockClock) -> None:
    """T-201: neither the outcome, nor the ids, nor whether the handle is used again."""
    runtime = FakeRuntime(status=steps, reports=FRESH)
    async with stored(runtime, STALE) as (manager, session):
        assert Completed() == (await session.prompt("x")).outcome
        await trio.sleep(SETTLE + 1)
        assert STALE == await identity_in(manager)
        await session.prompt("y")
        assert 1 == runtime.names().count("ensure_session")


@pytest.mark.parametrize("who", ["a prompt", "close", "status", "a stop", "leaving"])
@pytest.mark.parametrize("stubborn", [False, True])
async def test_whoever_comes_next_cuts_it(who: str, stubborn: bool, autojump_clock: MockClock) -> None:
    """A hung status is given up at once, one that resists after `join`."""
    runtime = FakeRuntime(status=[Swallow(3) if stubborn else Hang()], reports=FRESH)
    async with one_session(runtime) as (manager, session):
        await session.prompt("x")
        await trio.sleep(1)
        assert "status" == runtime.names()[-1]
        runtime.on_status = []
        match who:
            case "a prompt":
                assert Completed() == (await session.prompt("y")).outcome
            case "close":
                assert (await session.close()).closed
            case "status":
                assert FRESH == (await session.status()).runtime
            case "a stop":
                assert 0 == await session.cancel()
            case _:
                pass
        if who != "leaving":
            assert trio.current_time() <= 1 + J * stubborn
            await trio.sleep(J)
            assert (1 if stubborn and who != "a stop" else 0) == manager.statistics().stragglers
    assert trio.current_time() <= (4 if stubborn else 1 + 2 * J)


async def test_requests_that_wait_already_let_it_answer_at_once(autojump_clock: MockClock) -> None:
    """A session that is never idle learns too, if the answer takes less than `join`; a later one is not waited for."""
    runtime = FakeRuntime([Sleep(1)], status=[Sleep(J / 2)], reports=FRESH)
    async with stored(runtime, STALE) as (manager, session):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "x")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(session.prompt, "y")
        identity = await identity_in(manager)
        assert identity is not None
        assert ("fresh", 2 + J / 2) == (identity.session_id, trio.current_time())
    runtime = FakeRuntime([Sleep(1)], status=[Hang()], reports=FRESH)
    async with stored(runtime, STALE) as (_manager, session):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "x")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(session.prompt, "y")
            nursery.start_soon(session.prompt, "z")
            await trio.sleep(1 + J / 2)
            assert "status" == runtime.names()[-1]
            assert not session._ctx.is_idle("k"), "somebody waits"
        # The handle's runtime was asked once, and is not asked again.
        assert pytest.approx(3 + J) == trio.current_time() - began


async def test_a_session_that_is_asked_counts_as_idle(autojump_clock: MockClock) -> None:
    """Who needs room gets the handle of a session whose turn is over, though its runtime does not answer."""
    runtime = FakeRuntime(status=[Hang()], reports=FRESH)
    settings = attrs.evolve(SETTINGS, max_sessions=1)
    async with one_session(runtime, settings=settings) as (manager, session):
        await session.prompt("x")
        await trio.sleep(1)
        await manager.start_session("other", agent="fake")
        assert (1, ["other"]) == (trio.current_time(), [key for key in ("k", "other") if manager.is_live(key)])


async def test_a_question_does_not_make_a_session_old(autojump_clock: MockClock) -> None:
    """Its idle age counts from the end of the turn, not from the turn before."""
    runtime = FakeRuntime([Sleep(3)], status=[Hang()], reports=FRESH)
    async with one_session(runtime, settings=attrs.evolve(SETTINGS, idle_ttl=2)) as (manager, session):
        await session.prompt("x")
        manager._ctx.evictor.evict_expired()
        await at_rest()
        assert (3, True) == (trio.current_time(), manager.is_live("k"))


@pytest.mark.parametrize("hung", ["hang_update", "error_in_update"])
async def test_ids_that_cannot_be_stored_are_stored_later(hung: str, autojump_clock: MockClock) -> None:
    """A store that fails after the turn does not matter: the next write has the ids."""
    store = AwkwardStore()
    runtime = FakeRuntime(reports=FRESH, status=[Run(lambda _: setattr(store, hung, trouble))])
    trouble: Any = True if hung == "hang_update" else OSError("disk")
    async with stored(runtime, STALE, store=store) as (manager, session):
        await session.prompt("x")
        await trio.sleep(SETTLE)
        setattr(store, hung, False if hung == "hang_update" else None)
        assert STALE == await identity_in(manager)
        await session.prompt("y")
        identity = await identity_in(manager)
        assert identity is not None
        assert "fresh" == identity.session_id


async def test_ids_that_a_close_kept_from_being_stored_are_stored_by_it(autojump_clock: MockClock) -> None:
    """Who comes between the runtime's answer and the write of it stops that write, and loses no id."""
    store = MemoryStore()

    def close(_: object) -> None:
        ctx = manager._ctx
        admit(ctx, Control("k", "close", lambda control: close_in_lane(ctx, control, "test", CloseWish())))

    runtime = FakeRuntime(reports=FRESH, status=[Run(close)])
    async with stored(runtime, STALE, store=store) as (manager, session):
        await session.prompt("x")
        await at_rest()
        assert ["ensure_session", "run_turn", "status", "close"] == runtime.names()
        identity = await identity_in(manager)
        assert identity is not None
        assert "fresh" == identity.session_id


# -- oneshots ---------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True])
async def test_a_oneshot_is_asked_before_it_is_closed(slow: bool, autojump_clock: MockClock) -> None:
    """D-05: its ids are in the turn's last write; a status that hangs costs `cleanup` seconds, and the ids."""
    runtime = FakeRuntime(status=[Hang()] if slow else [], reports=FRESH)
    async with one_session(runtime, mode="oneshot") as (manager, session):
        assert Completed() == (await session.prompt("x")).outcome
        assert C * slow == trio.current_time()
        assert ["ensure_session", "run_turn", "status", "close"] == runtime.names()
        identity = await identity_in(manager)
        assert identity is not None
        expected = ("fake-1", "event") if slow else ("fresh", "status")
        assert ("resolved", *expected) == (identity.state, identity.session_id, identity.source)


async def test_nobody_asks_for_ids_that_are_not_stored(autojump_clock: MockClock) -> None:
    """`ask` keeps no metadata, so its runtime is asked for none."""
    runtime = FakeRuntime(reports=FRESH)
    async with one_session(runtime) as (manager, _session):
        await manager.ask("x", agent="fake")
        assert 0 == runtime.names().count("status")


async def test_a_stopped_oneshot_is_not_asked(autojump_clock: MockClock) -> None:
    """Its cleanup is needed for stopping it."""
    runtime = FakeRuntime([Hang()], reports=FRESH)
    async with one_session(runtime, mode="oneshot") as (_manager, session):
        with trio.move_on_after(1):
            await session.prompt("x")
        assert ["ensure_session", "run_turn", "cancel", "close"] == runtime.names()


# -- status -----------------------------------------------------------------------


async def test_ids_survive_when_none_are_told(autojump_clock: MockClock) -> None:
    """T-032: neither the opening nor the status tells any; those stored stay."""
    runtime = FakeRuntime(reports=GOOD)
    async with stored(runtime, STALE) as (manager, session):
        await manager.start_session("k", agent="fake")
        assert STALE == (await session.status()).identity
        assert STALE == await identity_in(manager)


async def test_a_status_tells_ids(autojump_clock: MockClock) -> None:
    """What `Session.status` brings to light is stored before it returns."""
    runtime = FakeRuntime(reports=FRESH)
    async with one_session(runtime) as (manager, session):
        status = await session.status()
        assert "fresh" == status.session_id
        assert status.identity == await identity_in(manager)


async def test_a_cancelled_status_still_learns_what_was_told(autojump_clock: MockClock) -> None:
    """The store hangs and the caller gives up: the next write has the ids."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(reports=FRESH), store=store) as (manager, session):
        store.hang_update = True
        with trio.move_on_after(1) as scope:
            await session.status()
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        store.hang_update = False
        await session.prompt("x")
        identity = await identity_in(manager)
        assert identity is not None
        assert "fresh" == identity.session_id


# -- probing ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("summary", "details", "expected"),
    [
        ("alive", {}, False),
        ("Status=DEAD now", {}, True),
        ("the status=no-session", {}, True),
        ("exit_status=dead", {}, False),
        ("status=alive status=dead", {}, False),
        ("status= dead", {}, False),
        ("status=dead", {"status": "alive"}, False),
        ("status=dead", {"status": " "}, True),
        ("alive", {"status": " Dead "}, True),
        ("alive", {"status": "no-session"}, True),
        ("alive", {"status": 5}, False),
    ],
)
def test_what_says_that_a_session_is_lost(summary: str, details: dict[str, Any], expected: bool) -> None:
    """The details' ``status``, else the first ``status=`` of the summary."""
    assert expected == is_unavailable(RuntimeStatus(summary=summary, details=details))
    assert not is_unavailable(None)


DEAD = RuntimeStatus(summary="status=dead")
FAILS: list[Step] = [Raise(OSError("odd"))]


@pytest.mark.parametrize(
    ("steps", "told", "seconds", "replaced"),
    [
        ([], GOOD, 0, False),
        ([], None, 0, False),
        ([], DEAD, 0, True),
        ([Raise(OSError("odd"))], GOOD, 0, True),
        ([Hang()], GOOD, PROBE, True),
        ([Swallow(PROBE + 1)], GOOD, PROBE + J, True),
    ],
    ids=["good", "no answer", "dead", "raises", "hangs", "resists"],
)
@pytest.mark.parametrize("by", ["a turn", "a control"])
async def test_a_handle_on_which_something_failed_is_asked_how_it_is(
    by: str, steps: list[Step], told: Any, seconds: float, replaced: bool, autojump_clock: MockClock
) -> None:
    """Before it is used again, once: a good answer clears it; otherwise that very handle is closed and replaced."""
    runtime = FakeRuntime(FAILS, controls=FAILS, status=steps, reports=lambda _: told)
    runtime.tells_ids = False
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed):
            await (session.prompt("x") if by == "a turn" else session.set_mode("plan"))
        assert 0 == runtime.names().count("status")
        runtime.turn, runtime.on_control = (), ()
        began, calls = trio.current_time(), len(runtime.calls)
        limits = attrs.evolve(LIMITS, turn=20)
        session._ctx.settings = attrs.evolve(SETTINGS, limits=limits)
        assert Completed() == (await session.prompt("y")).outcome
        assert pytest.approx(seconds) == trio.current_time() - began
        names = [call.name for call in runtime.calls[calls:]]
        assert (["status", "close", "ensure_session"] if replaced else ["status"]) == names[: 3 if replaced else 1]
        if replaced:
            closed = runtime.calls[calls + 1]
            assert (1, "unhealthy") == (getattr(closed.handle, "number", None), closed.detail)
        await session.prompt("z")
        assert 1 == runtime.names().count("status")


async def test_a_control_that_is_late_raises_doubts(autojump_clock: MockClock) -> None:
    """An agent that does not answer in time may not be there any more."""
    runtime = FakeRuntime(controls=[Hang()])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.set_mode("plan")
        runtime.on_control = []
        await session.prompt("x")
        assert ["set_mode", "status"] == runtime.names()[2:4]


@pytest.mark.parametrize("steps", [[Raise(OSError("odd"))], [Hang()]], ids=["raises", "hangs"])
async def test_a_status_that_fails_raises_doubts(steps: list[Step], autojump_clock: MockClock) -> None:
    """Who asks on purpose gets no answer; the next use asks again, and replaces the handle if it gets none either."""
    runtime = FakeRuntime(status=steps)
    async with one_session(runtime) as (_manager, session):
        assert None is (await session.status()).runtime
        session._ctx.settings = attrs.evolve(SETTINGS, limits=attrs.evolve(LIMITS, turn=20))
        await session.prompt("x")
        assert {"capabilities", "status"} == set(runtime.names()[1:3])
        assert ["status", "close", "ensure_session", "run_turn"] == runtime.names()[3:]


async def test_a_turn_that_is_stopped_already_asks_nothing(autojump_clock: MockClock) -> None:
    """The backend is told nothing for a request that is to stop."""
    turns: list[Turn] = []

    class Stop(Recorder):
        def record(self, record: TraceRecord) -> None:
            if record.name == "dequeued" and turns:
                turns[0].cancel()

    runtime = FakeRuntime(FAILS)
    async with one_session(runtime, instrument=Stop()) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        turns.append(session.turn("y"))
        async with turns[0]:
            await at_rest()
        assert isinstance(turns[0].outcome, Stopped)
        assert ["ensure_session", "run_turn"] == runtime.names()


@pytest.mark.parametrize("error", [UnsupportedControl("no modes"), RequestFailed("no", method="m", rpc_code=-32602)])
async def test_a_refusal_raises_no_doubts(error: Exception, autojump_clock: MockClock) -> None:
    """An agent that answers is there, and a good turn is no reason to ask."""
    runtime = FakeRuntime(controls=[Raise(error)])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(type(error)):
            await session.set_mode("plan")
        await session.prompt("x")
        await session.prompt("y")
        assert 0 == runtime.names().count("status")


async def test_a_lost_connection_is_not_asked(autojump_clock: MockClock) -> None:
    """A handle whose connection is gone is replaced at once."""
    runtime = FakeRuntime(FAILS)
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        runtime.dead, runtime.turn = set(runtime.open), ()
        await session.prompt("y")
        assert ["close", "ensure_session", "run_turn"] == runtime.names()[-3:]


@pytest.mark.parametrize("how", ["turn.cancel", "caller", "close", "leaving"])
async def test_a_question_is_given_up_with_its_request(how: str, autojump_clock: MockClock) -> None:
    """A turn that is stopped while its handle is asked ends at once; the handle stays in doubt."""
    runtime = FakeRuntime(FAILS)
    async with one_session(runtime) as (manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        runtime.turn, runtime.on_status = (), [Hang()]
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                turn = session.turn("y")

                @nursery.start_soon
                async def _() -> None:
                    async with turn:
                        async for _event in turn:
                            pass

                await trio.sleep(1)
                match how:
                    case "turn.cancel":
                        turn.cancel()
                    case "caller":
                        scope.cancel()
                    case "close":
                        await session.close()
                    case _:
                        await shut_down(manager._ctx)
        assert isinstance(turn.outcome, Stopped)
        assert trio.current_time() <= 1 + 2 * J
        assert 1 == runtime.names().count("run_turn")
        if how in {"turn.cancel", "caller"}:
            assert manager.is_live("k")
            runtime.on_status = []
            await session.prompt("z")
            assert 2 == runtime.names().count("status")


async def test_a_dead_status_after_a_turn_raises_doubts(autojump_clock: MockClock) -> None:
    """Whoever asked, an answer that the session is lost is remembered; the next use asks once more."""
    answers = [DEAD, DEAD, GOOD]
    runtime = FakeRuntime(reports=lambda _: answers.pop(0))
    async with one_session(runtime) as (_manager, session):
        await session.prompt("x")
        await at_rest()
        await session.prompt("y")
        await at_rest()
        assert ["run_turn", "status", "status", "close", "ensure_session", "run_turn", "status"] == runtime.names()[1:]


# -- handles that are gone ----------------------------------------------------------


@pytest.mark.parametrize("resumes", [True, False])
async def test_a_dead_handle_gives_up_its_room(resumes: bool, autojump_clock: MockClock) -> None:
    """On a full house it goes first, suspect or resumable or not: it is of no use any more."""
    runtime = FakeRuntime(resumes=resumes)
    settings = attrs.evolve(SETTINGS, max_sessions=2)
    async with one_session(runtime, settings=settings) as (manager, _session):
        await manager.start_session("second", agent="fake")
        second = manager._ctx.cache.get("second")
        assert second is not None
        runtime.dead = {second.handle}
        second.suspect = True
        await manager.start_session("third", agent="fake")
        assert [True, False, True] == [manager.is_live(key) for key in ("k", "second", "third")]


# -- resuming ---------------------------------------------------------------------


def unless_resumed(request: EnsureRequest) -> Iterable[Step]:
    return [Raise(SessionInitFailed("unknown", detail="resume-failed"))] if request.resume else []


async def test_a_failed_resume_leaves_no_stale_id(autojump_clock: MockClock) -> None:
    """T-014, T-041: the fresh session's id is stored in the same write, and the stale agent's id is gone."""
    runtime = FakeRuntime(ensure=unless_resumed)
    async with stored(runtime, STALE) as (manager, session):
        await session.prompt("x")
        assert ["stale", None] == [c.detail.resume for c in runtime.calls if c.name == "ensure_session"]
        identity = await identity_in(manager)
        assert Identity(state="resolved", session_id="fake-1", source="event") == identity


async def test_the_write_before_the_prompt_has_the_new_ids(autojump_clock: MockClock) -> None:
    """A crash in the turn leaves the fresh id in the store, pending, and nothing stale."""
    store = MemoryStore()
    runtime = FakeRuntime([Hang()], ensure=unless_resumed)
    async with stored(runtime, STALE, store=store) as (manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "x")
        await at_rest()
        assert Identity(state="pending", session_id="fake-1") == await identity_in(manager)
        nursery.cancel_scope.cancel()


async def test_only_a_lost_session_begins_anew(autojump_clock: MockClock) -> None:
    """Any other error of a resume is raised, and the ids stay."""
    runtime = FakeRuntime(ensure=[Raise(SessionInitFailed("not now"))])
    async with stored(runtime, STALE) as (manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        assert (1, STALE) == (len(runtime.calls), await identity_in(manager))


async def test_a_oneshot_forgets_the_ids_of_the_one_before(autojump_clock: MockClock) -> None:
    """T-013: it is never resumed, so confirmed ids of an earlier backend session are stale."""
    runtime = FakeRuntime()
    async with stored(runtime, STALE, mode="oneshot") as (manager, session):
        await session.prompt("x")
        assert None is runtime.calls[0].detail.resume
        assert Identity(state="resolved", session_id="fake-1", source="event") == await identity_in(manager)


async def test_a_handle_is_not_reused_for_other_stored_ids(autojump_clock: MockClock) -> None:
    """T-038: where the store is read anyway, ids that another program has put there win."""
    store = MemoryStore()
    async with one_session(FakeRuntime(), store=store) as (manager, _session):
        assert "reused" == (await manager.start_session("k", agent="fake")).origin
        await store.update("k", lambda _: record_of(STALE))
        session = await manager.start_session("k", agent="fake")
        assert ("resumed", "stale") == (session.origin, (await session.status()).session_id)


LOST = TurnFailed("lost", detail="resume-required")


def wrapped(error: Exception, levels: int) -> Exception:
    for _ in range(levels):
        outer = OSError("internal error")
        outer.__cause__ = error
        error = outer
    return error


@pytest.mark.parametrize(
    ("steps", "attempts"),
    [
        ([Raise(LOST)], 2),
        ([Raise(wrapped(LOST, 6))], 2),
        ([Raise(wrapped(LOST, 7))], 1),
        ([TextDelta("a"), Raise(LOST)], 1),
    ],
    ids=["plain", "as a cause", "too deep", "after output"],
)
async def test_a_turn_on_a_lost_session_is_run_on_a_fresh_one(
    steps: list[Step], attempts: int, autojump_clock: MockClock
) -> None:
    """T-047: once, without a resume id; the stored ids are the fresh ones."""
    left = [steps, []]
    runtime = FakeRuntime(lambda _: left.pop(0))
    async with stored(runtime, STALE) as (manager, session):
        if attempts == 1:
            with pytest.raises(TurnFailed):
                await session.prompt("x")
        else:
            assert Completed() == (await session.prompt("x")).outcome
            assert Identity(state="resolved", session_id="fake-2", source="event") == await identity_in(manager)
        assert ["stale", None][:attempts] == [c.detail.resume for c in runtime.calls if c.name == "ensure_session"]


async def test_the_ids_of_a_lost_session_are_gone_if_no_other_can_be_opened(autojump_clock: MockClock) -> None:
    """The turn fails, and the next one does not try to resume either."""
    runtime = FakeRuntime([Raise(LOST)])
    async with stored(runtime, STALE) as (manager, session):
        await manager.start_session("k", agent="fake")
        runtime.ensure = [Raise(SessionInitFailed("full"))]
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        assert None is await identity_in(manager)
        runtime.ensure, runtime.turn = [], []
        await session.prompt("y")
        assert None is runtime.calls[-2].detail.resume


async def test_a_lost_oneshot_is_lost(autojump_clock: MockClock) -> None:
    """There was nothing to resume, so nothing is tried twice."""
    runtime = FakeRuntime([Raise(LOST)])
    async with one_session(runtime) as (manager, _session):
        with pytest.raises(TurnFailed):
            await manager.ask("x", agent="fake")
        assert 1 == runtime.names().count("run_turn")
