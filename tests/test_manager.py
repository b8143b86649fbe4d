"""The manager: starting sessions, asking, telling how they are."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.turn_kit import LIMITS, SETTINGS, AwkwardStore, C, G, T, one_session
from trio_acp import (
    BackendMissing,
    Completed,
    DenyAll,
    Identity,
    InvalidOption,
    SessionExists,
    SessionInitFailed,
    SessionMissing,
    SessionRecord,
    Settings,
    StoreError,
    TurnFailed,
    TurnTimedOut,
    UsageError,
    open_session_manager,
)
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import Capabilities, EnsureRequest, Handle

pytestmark = pytest.mark.concurrency

STORED = SessionRecord(key="k", agent="fake", identity=Identity(session_id="s"), last_activity=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"runtimes": [FakeRuntime()]}, "runtimes must be a mapping of names to runtimes, not a list"),
        ({"runtimes": FakeRuntime()}, "runtimes must be a mapping of names to runtimes, not a FakeRuntime"),
        ({"runtimes": {"a": FakeRuntime}}, "runtimes['a'] must be a Runtime, not the class FakeRuntime"),
        ({"store": "sessions.db"}, "store must be a SessionStore, not a str"),
        ({"permissions": DenyAll}, "permissions must be a PermissionPolicy, not the class DenyAll"),
        ({"permissions": lambda _: "allow"}, "permissions must be a PermissionPolicy, not a function"),
        ({"instrument": print}, "instrument must be an Instrument, not a builtin_function_or_method"),
    ],
)
async def test_what_is_of_another_kind_is_refused_before_anything_begins(arguments: dict[str, Any], words: str) -> None:
    """A function in the place of a policy would deny everything; a name in that of a store says nothing useful."""
    with pytest.raises(InvalidOption) as caught:
        async with open_session_manager(**{"runtimes": {}, **arguments}):
            raise AssertionError("it was opened")
    assert words == str(caught.value)


async def test_starting_opens_and_stores(autojump_clock: MockClock) -> None:
    """A started session is open, its record has the backend's ids, and this process owns it while it is open."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        assert "k" == session.key
        assert manager.is_live(" K ")
        [record] = await manager.stored_sessions()
        assert ("k", "fake", "persistent", "fake-1", "idle", os.getpid()) == (
            record.key,
            record.agent,
            record.mode,
            record.session_id,
            record.state,
            record.owner and record.owner.pid,
        )
        assert record.last_activity > 0


async def test_starting_a_live_session_again_reuses_it(autojump_clock: MockClock) -> None:
    """The same agent and mode: the same handle; another working directory: closed and resumed there."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, _session):
        await manager.start_session("k", agent="fake")
        assert ["ensure_session"] == runtime.names()
        await manager.start_session("k", agent="fake", cwd="/elsewhere")
        assert ["ensure_session", "close", "ensure_session"] == runtime.names()
        assert ("/elsewhere", "fake-1") == (runtime.calls[-1].detail.cwd, runtime.calls[-1].detail.resume)
        assert {2} == {getattr(handle, "number", 0) for handle in runtime.open}


async def test_starting_a_stored_session_resumes_it(autojump_clock: MockClock) -> None:
    """The next manager resumes what the last one stored; fresh=True does not."""
    store = MemoryStore()
    async with one_session(FakeRuntime(), store=store):
        pass
    runtime = FakeRuntime()
    async with one_session(runtime, store=store):
        assert "fake-1" == runtime.calls[0].detail.resume
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        await manager.start_session("k", agent="fake", fresh=True)
        assert runtime.calls[-1].detail.resume is None


async def test_fresh_closes_the_live_handle_first(autojump_clock: MockClock) -> None:
    """A live handle is never dropped: it is closed before the new session is opened, within cleanup."""
    runtime = FakeRuntime(close=[Hang()])
    async with one_session(runtime) as (manager, _session):
        await manager.start_session("k", agent="fake", fresh=True)
        assert ["ensure_session", "close", "ensure_session"] == runtime.names()
        assert (C, 1) == (trio.current_time(), len(runtime.open))


async def test_a_key_of_another_agent_is_taken(autojump_clock: MockClock) -> None:
    """SessionExists unless agent and mode agree; nothing is opened and the stored one stays."""
    runtime = FakeRuntime()
    async with open_session_manager({"a": runtime, "b": FakeRuntime()}) as manager:
        await manager.start_session("k", agent="a")
        for agent, mode in (("b", "persistent"), ("a", "oneshot")):
            with pytest.raises(SessionExists):
                await manager.start_session("k", agent=agent, mode="oneshot" if mode == "oneshot" else "persistent")
        assert ["ensure_session"] == runtime.names()
        await manager.start_session("k", agent="b", fresh=True)
        assert set() == runtime.open


async def test_a_lost_conversation_is_replaced(autojump_clock: MockClock) -> None:
    """If only resuming fails, a new backend session is opened and its id stored instead of the stale one."""

    def ensure(request: EnsureRequest) -> list[Raise]:
        return [Raise(SessionInitFailed("unknown session", detail="resume-failed"))] if request.resume else []

    store = MemoryStore()
    ids = Identity(state="resolved", session_id="stale", agent_session_id="stale too", source="status")
    await store.update("k", lambda _: SessionRecord(key="k", agent="fake", identity=ids))
    runtime = FakeRuntime(ensure=ensure)
    async with one_session(runtime, store=store) as (manager, _session):
        assert ["stale", None] == [call.detail.resume for call in runtime.calls]
        [record] = await manager.stored_sessions()
        assert ("fake-1", None) == (record.session_id, record.agent_session_id)


async def test_another_refusal_is_told(autojump_clock: MockClock) -> None:
    """An agent that refuses to open a session is an error of that start, and nothing is stored."""
    error = SessionInitFailed("no")
    async with open_session_manager({"fake": FakeRuntime(ensure=[Raise(error)])}) as manager:
        with pytest.raises(SessionInitFailed) as caught:
            await manager.start_session("k", agent="fake")
        assert error is caught.value
        assert () == await manager.stored_sessions()
        with pytest.raises(TurnFailed) as failed:
            await manager.ask("x", agent="fake")
        assert error is failed.value.__cause__


@pytest.mark.parametrize("how", ["raises", "hangs"])
@pytest.mark.parametrize("resumed", [True, False])
async def test_a_start_that_cannot_be_stored_is_rolled_back(how: str, resumed: bool, autojump_clock: MockClock) -> None:
    """The store fails: StoreError; what was opened is closed again, and what cannot be claimed is not opened."""
    store = AwkwardStore()
    if resumed:
        await store.memory.update(
            "k", lambda _: SessionRecord(key="k", agent="fake", identity=Identity(session_id="s"), last_activity=1)
        )
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        real_update = store.update
        store.hang_update = how == "hangs"
        if how == "raises":

            async def update(*args: object) -> SessionRecord | None:
                await trio.lowlevel.checkpoint()
                raise StoreError("disk full")

            setattr(store, "update", update)  # noqa: B010 - for this instance only
        with pytest.raises(StoreError):
            await manager.start_session("k", agent="fake")
        assert (60 if how == "hangs" else 0) == trio.current_time()
        assert ([] if resumed else ["ensure_session", "close"]) == runtime.names()
        assert not manager.is_live("k")
        store.hang_update = False
        setattr(store, "update", real_update)  # noqa: B010


@pytest.mark.parametrize("where", ["read", "ensure", "update"])
@pytest.mark.parametrize("resumed", [True, False])
async def test_a_cancelled_start_closes_what_it_opened(where: str, resumed: bool, autojump_clock: MockClock) -> None:
    """Cancelled anywhere, at once: nothing stays open, and the lane is free as soon as the row is, within cleanup."""
    store = AwkwardStore()
    if resumed:
        await store.memory.update(
            "k", lambda _: SessionRecord(key="k", agent="fake", identity=Identity(session_id="s"), last_activity=1)
        )
    runtime = FakeRuntime(ensure=[Hang()] if where == "ensure" else [])
    store.hang_read, store.hang_update = where == "read", where == "update"
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        with trio.move_on_after(1) as scope:
            await manager.start_session("k", agent="fake")
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        assert set() == runtime.open
        assert not manager.is_live("k")
        store.hang_read = store.hang_update = False
        runtime.ensure = []
        await manager.start_session("k", agent="fake")
        assert (1 + C if where == "update" else 1) == trio.current_time()


async def test_a_late_session_is_closed_never_adopted(autojump_clock: MockClock) -> None:
    """A straggling `ensure_session` whose handle comes after the caller went: closed, by identity."""
    runtime = FakeRuntime(ensure=[Swallow(5)])
    async with open_session_manager({"fake": runtime}, settings=SETTINGS) as manager:
        with trio.move_on_after(1):
            await manager.start_session("k", agent="fake")
        assert pytest.approx(1.1) == trio.current_time()
        assert 1 == manager.statistics().stragglers_now
        runtime.ensure = []
        await manager.start_session("k", agent="fake")
        await trio.sleep(10)
        assert ["late"] == [call.detail for call in runtime.calls if call.name == "close"]
        assert [1] == [getattr(handle, "number", 0) for handle in runtime.open]
        assert (manager.is_live("k"), 0) == (True, manager.statistics().stragglers_now)


async def test_asking_leaves_nothing(autojump_clock: MockClock) -> None:
    """A oneshot of its own: opened, asked, closed; nothing is stored, nothing stays live."""
    runtime = FakeRuntime([Sleep(1)])
    async with open_session_manager({"fake": runtime}) as manager:
        reply = await manager.ask("x", agent="fake", cwd="/repo")
        assert Completed() == reply.outcome
        assert ["ensure_session", "run_turn", "close"] == runtime.names()
        assert ("oneshot-complete", "/repo") == (runtime.calls[-1].detail, runtime.calls[0].detail.cwd)
        assert () == await manager.stored_sessions()
        assert 0 == manager.statistics().open_handles


async def test_a_oneshot_session_is_closed_after_each_turn(autojump_clock: MockClock) -> None:
    """The stored oneshot is opened again for the next turn, and never resumed."""
    runtime = FakeRuntime()
    async with one_session(runtime, mode="oneshot") as (manager, session):
        await session.prompt("x")
        await session.prompt("y")
        opened = [call.detail.resume for call in runtime.calls if call.name == "ensure_session"]
        assert [None, None] == opened
        assert not manager.is_live("k")


async def test_a_oneshot_session_is_never_resumed(autojump_clock: MockClock) -> None:
    """Although its last id is stored."""
    store = MemoryStore()
    await store.update(
        "k", lambda _: SessionRecord(key="k", agent="fake", mode="oneshot", identity=Identity(session_id="old"))
    )
    runtime = FakeRuntime()
    async with one_session(runtime, mode="oneshot", store=store) as (_manager, session):
        await session.prompt("x")
        assert [None] == [call.detail.resume for call in runtime.calls if call.name == "ensure_session"]


async def test_wrong_arguments(autojump_clock: MockClock) -> None:
    """They are refused at once, and nothing is opened."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        with pytest.raises(BackendMissing):
            await manager.start_session("k", agent="nobody")
        with pytest.raises(BackendMissing):
            await manager.ask("x", agent="nobody")
        with pytest.raises(InvalidOption):
            await manager.start_session("k", agent="fake", cwd="relative")
        with pytest.raises(UsageError):
            manager.session("  ")
        assert [] == runtime.names()


async def test_a_missing_session(autojump_clock: MockClock) -> None:
    """Prompting or probing what was never started is SessionMissing."""
    async with open_session_manager({"fake": FakeRuntime()}) as manager:
        nobody = manager.session("nobody")
        with pytest.raises(TurnFailed) as caught:
            await nobody.prompt("x")
        assert isinstance(caught.value.__cause__, SessionMissing)
        assert "session-missing" == caught.value.detail
        with pytest.raises(SessionMissing):
            await nobody.status()


# -- status ------------------------------------------------------------------------


async def test_status_of_an_idle_and_of_a_busy_session(autojump_clock: MockClock) -> None:
    """Idle and live: the runtime is asked; busy: it is not, and the answer comes at once."""
    runtime = FakeRuntime([Sleep(5)])
    async with one_session(runtime) as (manager, session), trio.open_nursery() as nursery:
        status = await session.status()
        assert ("idle", True, "fake", "fake-1") == (
            status.state,
            status.live,
            status.runtime and status.runtime.summary,
            status.session_id,
        )
        assert runtime.offers == status.capabilities
        nursery.start_soon(session.prompt, "x")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(session.prompt, "y")
        await trio.testing.wait_all_tasks_blocked()
        status = await session.status()
        assert ("running", 1, None, None) == (status.state, status.queued, status.runtime, status.capabilities)
        assert (0, 1) == (trio.current_time(), runtime.names().count("status"))
        assert manager.statistics().controls > 0


@pytest.mark.parametrize("resists", [True, False])
async def test_a_hung_probe_costs_probe_seconds(resists: bool, autojump_clock: MockClock) -> None:
    """A runtime that does not answer a status request costs `probe` seconds, plus join if it resists."""
    runtime = FakeRuntime(status=[Swallow(20) if resists else Hang()])
    async with one_session(runtime) as (_manager, session):
        status = await session.status()
        assert pytest.approx(5.1 if resists else 5) == trio.current_time()
        assert (True, None, runtime.offers) == (status.live, status.runtime, status.capabilities)


async def test_capabilities_that_are_not_told_cost_probe_seconds_too(autojump_clock: MockClock) -> None:
    """Both questions share the deadline, and one that hangs does not keep the other's answer."""

    class Mute(FakeRuntime):
        async def capabilities(self, handle: Handle) -> Capabilities:
            await trio.sleep_forever()
            raise AssertionError

    async with one_session(Mute()) as (manager, session):
        status = await session.status()
        assert (5, True, None) == (trio.current_time(), status.runtime is not None, status.capabilities)
        with trio.move_on_after(1):
            await session.status()
        assert (6, 0) == (trio.current_time(), manager.statistics().stragglers)


async def test_a_cancelled_status_is_over_at_once(autojump_clock: MockClock) -> None:
    """Neither a hung runtime nor a hung store holds up a caller that gave up, nor the lane."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(status=[Hang()]), store=store) as (manager, session):
        with trio.move_on_after(1):
            await session.status()
        assert 1 == trio.current_time()
        store.hang_read = True
        with trio.move_on_after(1):
            await manager.session("other").status()
        assert 2 == trio.current_time()
        assert 0 == await manager.session("other").cancel()


async def test_status_tells_the_last_error(autojump_clock: MockClock) -> None:
    """After a failed turn the stored state is error, and says why; after the next good one it is idle."""
    runtime = FakeRuntime([Raise(OSError("boom"))])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        status = await session.status()
        assert "error" == status.state
        assert "boom" in str(status.last_error)
        runtime.turn = [Hang()]
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert "the turn timed out after 5 s" == (await session.status()).last_error
        runtime.turn = []
        await session.prompt("x")
        assert ("idle", None) == (lambda s: (s.state, s.last_error))(await session.status())


async def test_a_hung_store_ends_reads_at_their_deadlines(autojump_clock: MockClock) -> None:
    """Listing and describing give up after `probe` seconds, forgetting after `cleanup`; StoreError each time."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (manager, session):
        store.hang_list = store.hang_read = store.hang_update = True
        with pytest.raises(StoreError):
            await manager.stored_sessions()
        assert 5 == trio.current_time()
        with pytest.raises(StoreError):
            await manager.session("other").status()
        assert 10 == trio.current_time()
        with pytest.raises(StoreError):
            await session.close(forget=True)
        assert 12 == trio.current_time()
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert 12 + T + G + C == trio.current_time()
        store.hang_update = False


async def test_a_lost_connection_is_replaced_by_the_next_turn(autojump_clock: MockClock) -> None:
    """A handle that is not alive is closed, and the conversation resumed on a new one."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        runtime.dead = set(runtime.open)
        await session.prompt("x")
        assert ["ensure_session", "close", "ensure_session", "run_turn"] == runtime.names()
        assert ("connection-lost", "fake-1") == (runtime.calls[1].detail, runtime.calls[2].detail.resume)


async def test_a_store_that_fails_a_thousand_turns_can_still_be_written(autojump_clock: MockClock) -> None:
    """What could not be written is merged, not piled up: the first good write has the last state."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store, settings=Settings(limits=LIMITS)) as (manager, session):
        store.error = StoreError("disk full")
        for _ in range(1000):
            await session.prompt("x")
        assert 2000 == manager.statistics().store_failures
        store.error = None
        await session.prompt("x")
        assert 2000 == manager.statistics().store_failures


async def test_all_changes_that_could_not_be_written_are_kept(autojump_clock: MockClock) -> None:
    """The ids of the backend session, written first, are not lost to the state, written after it."""
    store = AwkwardStore()
    runtime = FakeRuntime()
    async with one_session(runtime, mode="oneshot", store=store) as (_manager, session):
        await session.prompt("x")
        runtime.ensure = [Run(lambda _: setattr(store, "error_in_update", StoreError("disk full")))]
        await session.prompt("y")
        store.error_in_update = None
    record = await store.memory.read("k")
    assert record is not None
    assert ("fake-2", "idle") == (record.session_id, record.state)
