"""A row is ours as long as an agent of ours may be at work on its session, and free right afterwards."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import SETTINGS, AwkwardStore, C, J, Recorder
from trio_acp import AcpError, SessionExists, SessionRecord, TurnFailed, open_session_manager
from trio_acp._service import shielded
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio.testing import MockClock

    from trio_acp import Session, SessionManager, Turn
    from trio_acp.abc import Handle, Mutate, TraceRecord, TurnRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

LOST = TurnFailed("lost", detail="resume-required")


async def retried(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Lose the session in a turn, so that its handle is closed beside the retry, and stop before that opens another."""

    async def play() -> None:
        await manager.session("k").prompt("x")

    def no_more(_: object) -> Iterable[Step]:
        return [Hang()] if runtime.names().count("ensure_session") > 1 else []

    runtime.ensure = no_more
    with trio.move_on_after(0.5):
        await play()


async def late_setup(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Give up opening a session whose handle then comes all the same."""
    runtime.ensure = [Swallow(4)]
    with trio.move_on_after(0.5):
        await manager.session("k").prompt("x")


async def late_nothing(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Give up opening a session, which fails later."""
    runtime.ensure = [Swallow(4), Raise(RuntimeError("no"))]
    with trio.move_on_after(0.5):
        await manager.session("k").prompt("x")


async def straggling_close(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Close a session whose adapter resists that."""
    runtime.on_close = [Swallow(6)]
    await manager.start_session("k", agent="fake")
    with pytest.raises(TurnFailed, match="did not close"):
        await manager.session("k").close()


async def tolerated_close(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Close a session so that it is to be begun anew, and put up with it that this does not work."""
    runtime.on_close = [Swallow(6)]
    await manager.start_session("k", agent="fake")
    report = await manager.session("k").close(discard=True, allow_backend_unavailable=True)
    assert not report.closed


async def oneshot(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Run a turn of a session that is closed after each, which takes a while."""
    runtime.turn = []
    runtime.on_close = [Sleep(1)]
    session = await manager.start_session("once", agent="fake", mode="oneshot")
    await session.prompt("x")


async def stopped_oneshot(manager: SessionManager, runtime: FakeRuntime) -> None:
    """Stop a turn of such a session, whose adapter resists its being closed."""
    runtime.on_close = [Swallow(6)]
    runtime.turn = [Hang()]
    session = await manager.start_session("once", agent="fake", mode="oneshot")
    with trio.move_on_after(0.5):
        await session.prompt("x")


WAYS = [retried, late_setup, late_nothing, straggling_close, tolerated_close, oneshot, stopped_oneshot]


@pytest.mark.parametrize("way", WAYS)
async def test_a_row_is_ours_as_long_as_a_handle_is_open(
    way: Callable[[SessionManager, FakeRuntime], Awaitable[None]], autojump_clock: MockClock
) -> None:
    """At every instant: whoever else may open the session finds no agent of ours at work on it, and need not wait."""

    def lose(_: TurnRequest) -> Iterable[Step]:
        return [Raise(LOST)]

    store, runtime = MemoryStore(), FakeRuntime(lose, close=[Hang()])
    seen = []
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        await store.update("k", lambda _: SessionRecord(key="k", agent="fake"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(way, manager, runtime)
            for _ in range(100):
                await trio.sleep(0.1)
                await trio.testing.wait_all_tasks_blocked()
                owned = any(row.owner is not None for row in await store.list())
                taken = manager.statistics().capacity.taken > 0
                seen.append(owned)
                assert owned or not taken, f"free at {trio.current_time():g} s while an agent may be at work"
        assert any(seen)
        assert not seen[-1], "and free at last, although nobody did anything more"
        assert all(row.owner is None for row in await store.list())


async def test_another_manager_can_open_a_session_once_its_late_handle_is_closed(autojump_clock: MockClock) -> None:
    """Until then it is told that the session is in use."""
    store, runtime = MemoryStore(), FakeRuntime(ensure=[Swallow(4)])
    async with (
        open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as first,
        open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as second,
    ):
        await store.update("k", lambda _: SessionRecord(key="k", agent="fake"))
        with trio.move_on_after(0.5):
            await first.session("k").prompt("x")
        with pytest.raises(AcpError, match="in use"):
            await second.session("k").prompt("x")
        await trio.sleep(4 + C + J)
        await second.session("k").prompt("x")


class Slow(AwkwardStore):
    """A store that takes a while to write."""

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        await trio.sleep(0.25)
        return await super().update(key, mutate)


async def test_a_oneshot_is_free_for_others_when_its_turn_is_over(autojump_clock: MockClock) -> None:
    """Whoever has heard how its turn ended can run the next one elsewhere at once, however slow the store is."""
    slow = Slow()
    async with (
        open_session_manager({"fake": FakeRuntime(close=[Sleep(1)])}, store=slow, settings=SETTINGS) as first,
        open_session_manager({"fake": FakeRuntime()}, store=slow.memory, settings=SETTINGS) as second,
    ):
        await (await first.start_session("once", agent="fake", mode="oneshot")).prompt("x")
        await second.session("once").prompt("x")


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.4])  # while it is claimed, and freed
async def test_a_release_that_was_interrupted_is_made_up_for(seconds: float, autojump_clock: MockClock) -> None:
    """Whoever gives up an operation, and with it the write that frees the row, need not do anything more."""
    slow = Slow()
    async with open_session_manager({"fake": FakeRuntime()}, store=slow, settings=SETTINGS) as manager:
        await slow.memory.update("k", lambda _: SessionRecord(key="k", agent="another"))
        with trio.move_on_after(seconds), pytest.raises(SessionExists):
            await manager.start_session("k", agent="fake")
        await trio.sleep(1)
        row = await slow.memory.read("k")
        assert row is not None
        assert row.owner is None


async def test_a_session_that_was_forgotten_may_be_begun_by_another(autojump_clock: MockClock) -> None:
    """Then it is that one's, even while our agent, which is not of that conversation, is still being closed."""
    store, runtime = MemoryStore(), FakeRuntime(close=[Swallow(6)])
    async with (
        open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as first,
        open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as second,
    ):
        session = await first.start_session("k", agent="fake")
        report = await session.close(forget=True, allow_backend_unavailable=True)
        assert (False, True) == (report.closed, report.forgotten)
        await second.start_session("k", agent="fake")
        for _ in range(2):  # while ours is being closed, and afterwards
            with pytest.raises(TurnFailed, match="in use"):
                await session.prompt("x")
            await trio.sleep(10)
        assert 1 == runtime.names().count("ensure_session")


class Stubborn(FakeRuntime):
    """Closes no session before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_close = trio.Event()

    async def close(self, handle: Handle, reason: str) -> None:
        with shielded(60):
            await self.may_close.wait()


class Withdrawing(Recorder):
    """Cancels turns in the step of their admission, before their actor can have begun, and calls a function."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.entering: dict[str, Turn] = {}
        self.then = then

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        if record.name == "admitted":
            self.entering[record.turn].cancel()
            self.then()


async def test_a_row_is_freed_though_its_lane_was_used_for_nothing_meanwhile(autojump_clock: MockClock) -> None:
    """A turn that is withdrawn before its lane takes it does not keep the end of a late close from freeing the row."""
    store, runtime = MemoryStore(), Stubborn()
    withdrawing = Withdrawing(runtime.may_close.set)
    async with open_session_manager(
        {"fake": runtime}, store=store, settings=SETTINGS, instrument=withdrawing
    ) as manager:
        # Many, for which of close and lane comes first is a matter of chance.
        sessions = [await manager.start_session(f"k{i}", agent="fake") for i in range(30)]
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(partial(session.close, allow_backend_unavailable=True))

        async def change_its_mind(session: Session) -> None:
            turn = session.turn("x")
            withdrawing.entering[turn.request_id] = turn
            async with turn:
                pass

        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(change_its_mind, session)
        await trio.testing.wait_all_tasks_blocked()
        assert [] == [row.key for row in await store.list() if row.owner is not None]


async def test_a_session_is_free_for_others_when_its_turn_was_stopped_in_setup(autojump_clock: MockClock) -> None:
    """Likewise, if nothing was opened."""
    slow, runtime = Slow(), FakeRuntime(ensure=[Hang()])
    async with (
        open_session_manager({"fake": runtime}, store=slow, settings=SETTINGS) as first,
        open_session_manager({"fake": FakeRuntime()}, store=slow.memory, settings=SETTINGS) as second,
    ):
        await slow.memory.update("k", lambda _: SessionRecord(key="k", agent="fake"))
        with trio.move_on_after(1):
            await first.session("k").prompt("x")
        await second.session("k").prompt("x")
