"""Handles and room, as the original's own tests have them: reuse, resume, replace, evict, refuse, restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.original.kit import KEY, Diary, HangingDiary, in_turn, manager_with, record, requests
from tests.turn_kit import SETTINGS, AwkwardStore, C, G, one_session
from trio_acp import (
    BackendMissing,
    Completed,
    RuntimeOptions,
    SessionInitFailed,
    StoreError,
    TooManySessions,
    TurnFailed,
    TurnTimedOut,
    open_session_manager,
)
from trio_acp._cache import CacheEntry, RuntimeCache
from trio_acp.abc import Handle, Identity
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.testing import MockClock

    from trio_acp.abc import EnsureRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

ONE = attrs.evolve(SETTINGS, max_sessions=1)


def forgetful(request: EnsureRequest) -> Iterable[Step]:
    """An agent that does not know any conversation any more."""
    return [Raise(SessionInitFailed("unknown session", detail="resume-failed"))] if request.resume else []


# -- reuse --------------------------------------------------------------------


async def test_a_session_is_opened_once_for_many_turns(autojump_clock: MockClock) -> None:
    """The second turn runs on the handle of the first, and no probe is sent in between."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record()) as (manager, _):
        for _n in range(2):
            await manager.session(KEY).prompt("x")
        assert ["ensure_session", "run_turn", "run_turn"] == runtime.names()


async def test_a_handle_that_died_is_closed_and_opened_again(autojump_clock: MockClock) -> None:
    """Supervision tells, not a probe before each turn; the old handle is closed before the new one is opened."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record()) as (manager, _):
        await manager.session(KEY).prompt("x")
        runtime.dead = set(runtime.open)
        await manager.session(KEY).prompt("y")
        assert ["ensure_session", "run_turn", "close", "ensure_session", "run_turn"] == runtime.names()


# -- restart ------------------------------------------------------------------


async def test_each_manager_opens_its_own_handle_and_resumes_what_is_stored(autojump_clock: MockClock) -> None:
    """Nothing of the process is needed: the next manager's first turn resumes by the stored id."""
    store = Diary(record(session_id="s-1"))
    for _n in range(2):
        runtime = FakeRuntime()
        async with open_session_manager({"codex": runtime}, store=store) as manager:
            await manager.session(KEY).prompt("x")
        assert ["s-1"] == [request.resume for request in requests(runtime)]
    assert "s-1" == store.stored().session_id


async def test_a_oneshot_is_never_resumed(autojump_clock: MockClock) -> None:
    """Whatever id is stored: each of its turns begins a conversation of its own."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record(mode="oneshot", session_id="s-1")) as (manager, _):
        await manager.session(KEY).prompt("x")
        await manager.session(KEY).prompt("y")
        assert [None, None] == [request.resume for request in requests(runtime)]


async def test_the_session_id_is_resumed_not_the_agents_own(autojump_clock: MockClock) -> None:
    """Both ids are stored: the protocol knows the session id; the agent's own is for people."""
    runtime = FakeRuntime()
    async with manager_with(
        runtime, record(identity=Identity(state="resolved", session_id="s-1", agent_session_id="a-1"))
    ) as (manager, _):
        await manager.session(KEY).prompt("x")
        assert ["s-1"] == [request.resume for request in requests(runtime)]


async def test_a_conversation_that_is_lost_is_replaced_with_all_its_ids(autojump_clock: MockClock) -> None:
    """Opened again without the stale id; neither the handle of the turn nor the store has any stale id left."""
    runtime = FakeRuntime(ensure=forgetful)
    stale = Identity(state="resolved", session_id="stale", agent_session_id="stale too")
    async with manager_with(runtime, record(identity=stale)) as (manager, store):
        await manager.session(KEY).prompt("x")
        assert ["stale", None] == [request.resume for request in requests(runtime)]
        [turn] = requests(runtime, "run_turn")
        assert ("fake-1", None) == (turn.handle.session_id, turn.handle.agent_session_id)
        assert ("fake-1", None) == (store.stored().session_id, store.stored().agent_session_id)


async def test_another_refusal_to_resume_is_told_and_loses_nothing(autojump_clock: MockClock) -> None:
    """Only an error that says that resuming is impossible gives the conversation up."""
    runtime = FakeRuntime(ensure=[Raise(SessionInitFailed("busy"))])
    async with manager_with(runtime, record(session_id="s-1")) as (manager, store):
        with pytest.raises(TurnFailed, match="busy"):
            await manager.session(KEY).prompt("x")
        assert (1, "s-1") == (len(requests(runtime)), store.stored().session_id)


async def test_the_directory_option_goes_before_the_directory_of_the_start(autojump_clock: MockClock) -> None:
    """Both are stored: the agent is opened, and the status tells, the option's."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record(cwd="/start", options=RuntimeOptions(cwd="/option"))) as (manager, _):
        session = manager.session(KEY)
        assert "/option" == (await session.status()).cwd
        await session.prompt("x")
        assert ["/option"] == [request.cwd for request in requests(runtime)]


async def test_the_stored_agent_names_the_runtime(autojump_clock: MockClock) -> None:
    """There is no default to fall back to: the record says who serves it."""
    mine, other = FakeRuntime(), FakeRuntime()
    async with open_session_manager({"other": other, "codex": mine}, store=Diary(record())) as manager:
        await manager.session(KEY).prompt("x")
        assert (["ensure_session", "run_turn"], []) == (mine.names(), other.names())


async def test_runtimes_belong_to_their_manager(autojump_clock: MockClock) -> None:
    """What one manager was given another one does not have, nor does it get what is put into the mapping later."""
    runtimes = {"a": FakeRuntime()}
    async with open_session_manager(runtimes) as first, open_session_manager({"b": FakeRuntime()}) as second:
        await first.start_session("k", agent="a")
        runtimes["c"] = FakeRuntime()
        del runtimes["a"]
        await first.session("k").prompt("x")
        for manager, agent in ((first, "b"), (first, "c"), (second, "a")):
            with pytest.raises(BackendMissing) as caught:
                await manager.start_session("other", agent=agent)
            assert "ACP_BACKEND_MISSING" == caught.value.code


async def test_a_manager_lists_what_its_own_store_has(autojump_clock: MockClock) -> None:
    """Whoever wrote it; two managers with two stores do not see each other's."""
    runtime = FakeRuntime()
    async with open_session_manager({"codex": runtime}) as other, manager_with(FakeRuntime(), record()) as (manager, _):
        await other.start_session("elsewhere", agent="codex")
        assert [KEY] == [stored.key for stored in await manager.stored_sessions()]


# -- room ---------------------------------------------------------------------


@pytest.mark.parametrize("by", ["turn", "start"])
async def test_a_full_house_refuses_if_nobody_is_idle(by: str, autojump_clock: MockClock) -> None:
    """As many sessions run as may be open: another one is refused, by a turn as by a start; nothing was opened."""
    runtime = FakeRuntime([Sleep(3)])
    async with manager_with(runtime, record("a"), record("b"), settings=ONE) as (manager, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.session("a").prompt, "x")
            await wait_all_tasks_blocked()
            with pytest.raises((TooManySessions, TurnFailed)) as caught:
                if by == "turn":
                    await manager.session("b").prompt("x")
                else:
                    await manager.start_session("b", agent="codex")
            cause = caught.value.__cause__ if by == "turn" else caught.value
            assert isinstance(cause, TooManySessions)
            assert "ACP_SESSION_INIT_FAILED" == cause.code
        assert (1, 3) == (len(requests(runtime)), trio.current_time())


@pytest.mark.parametrize("by", ["turn", "start"])
async def test_a_full_house_makes_room_of_who_is_idle(by: str, autojump_clock: MockClock) -> None:
    """The idle one is closed at once, expired or not, and the other one runs."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record("a"), record("b"), settings=ONE) as (manager, _):
        await manager.session("a").prompt("x")
        if by == "turn":
            await manager.session("b").prompt("x")
        else:
            await manager.start_session("b", agent="codex")
        assert (["idle-evicted"], False, True) == (
            requests(runtime, "close"),
            manager.is_live("a"),
            manager.is_live("b"),
        )
        assert (2, 0) == (len(requests(runtime)), trio.current_time())


async def test_what_is_idle_long_enough_is_closed_before_anybody_needs_its_room(autojump_clock: MockClock) -> None:
    """At its second, by nobody's operation; another session then finds the room free."""
    runtime = FakeRuntime()
    settings = attrs.evolve(ONE, idle_ttl=0.6)
    async with manager_with(runtime, record("a"), record("b"), settings=settings) as (manager, _):
        await manager.session("a").prompt("x")
        await trio.sleep(2)
        assert [("idle-evicted", 0.6)] == [(call.detail, call.time) for call in runtime.calls if call.name == "close"]
        await manager.session("b").prompt("x")
        assert (2, 2) == (len(requests(runtime)), trio.current_time())


async def test_a_session_that_owes_an_answer_keeps_its_room(autojump_clock: MockClock) -> None:
    """After a timeout whose `cancel` never returned the handle counts on, and another session is refused."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    options = RuntimeOptions(timeout_seconds=1)
    async with manager_with(runtime, record("a", options=options), record("b"), settings=ONE) as (manager, _):
        with pytest.raises(TurnTimedOut):
            await manager.session("a").prompt("x")
        assert (1 + G + C, 1) == (trio.current_time(), manager.statistics().capacity.taken)
        with pytest.raises(TurnFailed) as caught:
            await manager.session("b").prompt("x")
        assert isinstance(caught.value.__cause__, TooManySessions)
        assert 1 == len(requests(runtime))


def test_an_entry_knows_for_how_long_it_was_idle() -> None:
    """Used at 10 and at 100: at 1100 that is 1090 and 1000 seconds ago, the longest idle first."""
    cache = RuntimeCache()
    for key, used in (("late", 100.0), ("early", 10.0)):
        cache.put(key, CacheEntry(handle=Handle(key=key), record=record(key), last_used=used))
    idle = [(key, entry.idle_for(1100.0)) for key, entry in cache.idle(lambda _: True)]
    assert [("early", 1090.0), ("late", 1000.0)] == idle


# -- late comers --------------------------------------------------------------


async def test_a_handle_that_comes_late_does_not_replace_the_fresh_one(autojump_clock: MockClock) -> None:
    """A turn's opening was given up by a close and straggles on: its handle is closed, nothing of it is stored."""
    runtime = FakeRuntime(ensure=in_turn([Swallow(5)], []))
    async with manager_with(runtime, record()) as (manager, store), trio.open_nursery() as nursery:
        session = manager.session(KEY)
        nursery.start_soon(session.prompt, "x")
        await wait_all_tasks_blocked()
        await session.close()
        await manager.start_session(KEY, agent="codex", fresh=True)
        written = list(store.written)
        assert "fake-1" == store.stored().session_id
        await trio.sleep(10)
        assert written == store.written
        assert ["late"] == requests(runtime, "close")
        assert [1] == [getattr(handle, "number", 0) for handle in runtime.open]
        assert Completed() == (await session.prompt("y")).outcome
        assert 2 == len(requests(runtime))


async def test_leaving_while_a_session_is_opened_closes_what_comes_late(autojump_clock: MockClock) -> None:
    """The manager waits for an adapter that resists, and then nothing is open and no prompt was sent."""
    runtime = FakeRuntime(ensure=[Swallow(5)])
    async with trio.open_nursery() as nursery:
        async with manager_with(runtime, record()) as (manager, _):
            nursery.start_soon(manager.session(KEY).prompt, "x")
            await wait_all_tasks_blocked()
        assert (set(), ["late"]) == (runtime.open, requests(runtime, "close"))
        assert "run_turn" not in runtime.names()
        assert (0, 1) == (manager.statistics().open_handles, manager.statistics().stopped)


@pytest.mark.parametrize("reset", ["fresh", "forget"])
@pytest.mark.parametrize("write", ["running", "terminal", "options"])
async def test_a_write_that_failed_never_comes_back_over_a_reset_session(
    write: str, reset: str, autojump_clock: MockClock
) -> None:
    """What could not be stored is tried again later, but not once its session was begun anew or forgotten."""
    runtime, store = FakeRuntime(), HangingDiary()
    async with open_session_manager({"codex": runtime}, store=store, settings=SETTINGS) as manager:
        session = await manager.start_session(KEY, agent="codex")
        match write:
            case "running":
                store.hanging = {"running"}
                await session.prompt("x")
            case "terminal":
                runtime.turn = [Raise(OSError("boom"))]
                store.hanging = {"error"}
                with pytest.raises(TurnFailed):
                    await session.prompt("x")
            case _:
                store.hanging = {"idle"}
                with trio.move_on_after(1):
                    await session.update_options(model="old")
        store.hanging = set()
        if reset == "fresh":
            await manager.start_session(KEY, agent="codex", fresh=True)
        else:
            await session.close(forget=True)
    if reset == "forget":
        assert () == await store.list()
    else:
        now = store.stored()
        assert ("idle", None, "fake-2", None) == (now.state, now.last_error, now.session_id, now.options.model)


async def test_metadata_that_cannot_be_deleted_is_an_error_of_close(autojump_clock: MockClock) -> None:
    """The store's own error comes out, the handle is closed all the same, and the metadata is still there."""
    runtime, store, locked = FakeRuntime(), AwkwardStore(), StoreError("disk locked")
    async with one_session(runtime, store=store) as (manager, session):
        store.error_in_update = locked
        with pytest.raises(StoreError) as caught:
            await session.close(forget=True)
        store.error_in_update = None
        assert locked is caught.value
        assert (False, set()) == (manager.is_live("k"), runtime.open)
        assert ["k"] == [stored.key for stored in await manager.stored_sessions()]


async def test_two_backends_of_one_name_are_two_handles(autojump_clock: MockClock) -> None:
    """Handles are told apart by what they are, not by what they say: equal ids do not make them one."""

    class Same(FakeRuntime):
        async def ensure_session(self, request: EnsureRequest) -> Handle:
            return attrs.evolve(await super().ensure_session(request), session_id="same")

    runtime = Same()
    async with one_session(runtime) as (manager, session):
        first = manager._ctx.cache.get("k")
        await session.close()
        await session.prompt("x")
        second = manager._ctx.cache.get("k")
        assert first is not None
        assert second is not None
        assert (first.handle.session_id, False) == (second.handle.session_id, first.handle == second.handle)
