"""Closing what is idle: when it is old, and when its room is needed.  Every instant is exact."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.turn_kit import (
    OWN_TASKS,
    SETTINGS,
    AtStep,
    C,
    Counting,
    G,
    J,
    T,
    Watched,
    check_trace,
    installed,
    one_session,
    our_tasks,
    run_virtual,
)
from trio_acp import (
    AcpError,
    CapacityUse,
    CloseReport,
    Completed,
    InvalidOption,
    ManagerClosed,
    SessionInitFailed,
    Settings,
    TooManySessions,
    TurnFailed,
    TurnTimedOut,
    open_session_manager,
)
from trio_acp.abc import RuntimeStatus
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from trio.testing import MockClock

    from trio_acp import Reply, Session, SessionManager
    from trio_acp.abc import Handle
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

TTL = 10.0
IDLE = attrs.evolve(SETTINGS, idle_ttl=TTL)


def room_for(sessions: int, **changes: float) -> Settings:
    """Settings with so many slots, and other limits."""
    return attrs.evolve(SETTINGS, max_sessions=sessions, limits=attrs.evolve(SETTINGS.limits, **changes))


def manager_of(runtime: FakeRuntime, settings: Settings) -> AbstractAsyncContextManager[SessionManager]:
    """Open a manager without sessions."""
    return open_session_manager({"fake": runtime}, settings=settings)


def times(runtime: FakeRuntime, name: str, key: str | None = None) -> list[float]:
    """When a method was called, for one session or for all."""
    return [
        call.time
        for call in runtime.calls
        if call.name == name
        and key in (None, call.detail.key if call.handle is None else call.handle.key)
        and call.detail != "shutdown"
    ]


# -- when it is old -------------------------------------------------------------


async def test_an_idle_session_is_closed_at_the_exact_second_and_resumed(autojump_clock: MockClock) -> None:
    """Its age counts from the end of its last turn; the next prompt resumes the same conversation."""
    runtime = FakeRuntime([Sleep(1)])
    async with one_session(runtime, settings=IDLE) as (manager, session):
        await trio.sleep(3)
        await session.prompt("x")
        before = manager.statistics()
        assert (0, None, CapacityUse(1, None)) == (before.evicted, before.last_evicted, before.capacity)
        await trio.sleep(50)
        assert [("close", 4 + TTL, "idle-evicted")] == [(c.name, c.time, c.detail) for c in runtime.calls[2:]]
        assert not manager.is_live("k")
        after = manager.statistics()
        assert (1, 4 + TTL, CapacityUse(0, None)) == (after.evicted, after.last_evicted, after.capacity)
        assert 1 == after.controls, "only the start"
        await session.prompt("y")
        assert "fake-1" == runtime.calls[-2].detail.resume


async def test_use_keeps_a_session_open(autojump_clock: MockClock) -> None:
    """Every operation in its lane makes it young again."""
    runtime = FakeRuntime()
    async with one_session(runtime, settings=IDLE) as (_manager, session):
        for _ in range(5):
            await trio.sleep(TTL - 1)
            await session.status()
        assert [] == times(runtime, "close")
        await trio.sleep(TTL)
        await wait_all_tasks_blocked()
        assert [5 * (TTL - 1) + TTL] == times(runtime, "close")


async def test_a_busy_session_is_never_evicted(autojump_clock: MockClock) -> None:
    """A turn may last for many times the ttl; the handle's age begins when it has ended."""
    runtime = FakeRuntime([Sleep(T)])
    async with one_session(runtime, settings=attrs.evolve(SETTINGS, idle_ttl=0.5)) as (_manager, session):
        await trio.sleep(0.25)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(session.prompt, "x")
        assert [] == times(runtime, "close")
        await trio.sleep(1)
        assert [0.25 + 3 * T + 0.5] == times(runtime, "close")


async def test_a_conversation_that_cannot_be_resumed_is_not_closed_for_being_idle(autojump_clock: MockClock) -> None:
    """It would be lost: it stays open, however idle, and makes no room either; the evictor sleeps meanwhile."""
    runtime = FakeRuntime(resumes=False)
    async with manager_of(runtime, room_for(1)) as manager:
        await manager.start_session("k", agent="fake")
        await trio.sleep(10 * TTL)
        assert [] == times(runtime, "close")
        with pytest.raises(TooManySessions):
            await manager.start_session("other", agent="fake")


async def test_each_session_has_its_own_time(autojump_clock: MockClock) -> None:
    """One task closes them all, each at its second; between them it sleeps."""
    runtime = FakeRuntime()
    async with manager_of(runtime, IDLE) as manager:
        for n in range(5):
            await manager.start_session(f"s{n}", agent="fake")
            await trio.sleep(1)
        assert OWN_TASKS == sorted(our_tasks())
        await manager.session("s1").prompt("x")
        await trio.sleep(60)
        assert {f"s{n}": [n + TTL] for n in (0, 2, 3, 4)} | {"s1": [5 + TTL]} == {
            f"s{n}": times(runtime, "close", f"s{n}") for n in range(5)
        }
        assert (5, 0) == (manager.statistics().evicted, manager.statistics().open_handles)


async def test_the_evictor_sleeps_between_two_expiries(autojump_clock: MockClock) -> None:
    """It takes one step for each instant at which something may expire, and none while time passes."""

    class EvictorSteps(trio.abc.Instrument):
        count = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.count += task.name == "trio_acp evictor"

    steps = EvictorSteps()
    async with one_session(FakeRuntime(), settings=IDLE) as (_manager, session):
        await wait_all_tasks_blocked()
        with installed(steps):
            for _ in range(50):
                await session.prompt("x")
            assert 0 == steps.count
            for _ in range(9):
                await trio.sleep(1)
            assert 0 == steps.count
            await trio.sleep(1000)
        assert 1 == steps.count


async def test_a_hung_close_delays_nobody_else(autojump_clock: MockClock) -> None:
    """All that expire together are closed together; another session's turn takes no longer than ever."""
    runtime = FakeRuntime([Sleep(1)], close=[Hang()])
    async with manager_of(runtime, IDLE) as manager:
        for n in range(10):
            await manager.start_session(f"s{n}", agent="fake")
        await trio.sleep(5)
        await manager.session("s0").prompt("x")
        await trio.sleep_until(TTL)
        await wait_all_tasks_blocked()
        assert [TTL] * 9 == times(runtime, "close")
        await manager.session("s0").prompt("y")
        assert TTL + 1 == trio.current_time()
        await manager.start_session("new", agent="fake")
        assert TTL + 1 == trio.current_time()
        assert 11 == manager.statistics().capacity.taken
        await trio.sleep_until(TTL + C)
        await wait_all_tasks_blocked()
        assert CapacityUse(2, None) == manager.statistics().capacity


@pytest.mark.parametrize(("close", "seconds"), [(0.5, 0.5), (1.5, 1.5), (math.inf, C)])
async def test_a_prompt_waits_for_that_close_only(close: float, seconds: float, autojump_clock: MockClock) -> None:
    """It comes while its session is being evicted: it resumes as soon as the close has ended, cleanup at most."""
    runtime = FakeRuntime(close=[Sleep(close)])
    async with one_session(runtime, settings=IDLE) as (manager, session):
        await trio.sleep_until(TTL)
        await wait_all_tasks_blocked()
        assert not (await session.status()).live
        await session.prompt("x")
        assert TTL + seconds == trio.current_time()
        assert ["ensure_session", "close", "ensure_session", "run_turn"] == runtime.names()
        assert CapacityUse(1, None) == manager.statistics().capacity


async def test_closing_a_session_that_is_being_evicted(autojump_clock: MockClock) -> None:
    """It waits for that close and has nothing to do itself."""
    runtime = FakeRuntime(close=[Sleep(1)])
    async with one_session(runtime, settings=IDLE) as (_manager, session):
        await trio.sleep_until(TTL)
        await wait_all_tasks_blocked()
        assert CloseReport(closed=False) == await session.close()
        assert (TTL + 1, [TTL]) == (trio.current_time(), times(runtime, "close"))


async def test_who_waits_for_an_eviction_that_was_withdrawn_looks_again(autojump_clock: MockClock) -> None:
    """It was, for a close that was given up before its turn came: the session is idle, so it makes room again."""
    settings = attrs.evolve(SETTINGS, max_sessions=1)
    runtime = FakeRuntime(reports=RuntimeStatus(summary=""), status=[Swallow(3)])
    async with one_session(runtime, settings=settings) as (manager, session):
        await session.prompt("x")  # and then the lane is busy with the question for ids, which resists its end
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(manager.start_session, "other", agent="fake"))
            await wait_all_tasks_blocked()
            with trio.move_on_after(J / 2):
                await session.close()
        assert J == trio.current_time()


@pytest.mark.parametrize("operation", ["prompt", "close"])
@pytest.mark.parametrize("after", [False, True])
def test_an_eviction_races_with_a_request(operation: str, after: bool) -> None:
    """Whatever step the request comes at, it is served, on a handle that is open, and none is closed twice."""
    fired = 0
    for n in range(1, 40):
        runtime = FakeRuntime()
        step = AtStep(n, lambda: None, after=after)
        run_virtual(_one_race(runtime, step, operation), step)
        fired += step.fired
        assert 1 >= max(runtime.most_at_once.values(), default=0)
        assert set() == runtime.open
        closed: list[Handle | None] = []
        for call in runtime.calls:
            assert call.handle not in closed
            closed += [call.handle] if call.name == "close" else []
        if not step.fired:
            break
    assert 4 <= fired < 39


def _one_race(runtime: FakeRuntime, step: AtStep, operation: str) -> Callable[[], Awaitable[None]]:
    async def race() -> None:
        with trio.fail_after(100):
            async with one_session(runtime, settings=IDLE) as (manager, session), trio.open_nursery() as nursery:
                results: list[object] = []

                async def request() -> None:
                    call = session.prompt("x") if operation == "prompt" else session.close()
                    results.append(await call)

                step.function = lambda: nursery.start_soon(request)
                step.armed = True
                await trio.sleep(TTL)  # ends together with the evictor's sleep, in either order
                await wait_all_tasks_blocked()
                step.armed = False
                await wait_all_tasks_blocked()  # the last step may have been this task's own
                assert step.fired == len(results)
                assert TTL == trio.current_time()
                assert 1 >= manager.statistics().evicted
                assert CapacityUse(len(runtime.open), None) == manager.statistics().capacity

    return race


async def test_without_a_ttl_sessions_stay(autojump_clock: MockClock) -> None:
    """idle_ttl=inf: clean handles are never closed; a suspect one is, after 60 s."""
    runtime = FakeRuntime([Sleep(1)])
    async with manager_of(runtime, attrs.evolve(SETTINGS, idle_ttl=math.inf)) as manager:
        await (await manager.start_session("clean", agent="fake")).prompt("x")
        runtime.turn, runtime.on_cancel = [Hang()], [Hang()]
        with pytest.raises(TurnTimedOut):
            await (await manager.start_session("suspect", agent="fake")).prompt("x")
        ended = trio.current_time()
        assert 1 + T + G + C == ended
        await trio.sleep(80_000)
        assert ([], [ended + 60]) == (times(runtime, "close", "clean"), times(runtime, "close", "suspect"))


@pytest.mark.parametrize(("ttl", "after"), [(30.0, 30.0), (600.0, 60.0)])
async def test_a_suspect_expires_sooner(ttl: float, after: float, autojump_clock: MockClock) -> None:
    """After min(idle_ttl, 60 s)."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with one_session(runtime, settings=attrs.evolve(SETTINGS, idle_ttl=ttl)) as (manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        ended = trio.current_time()
        assert 1 == manager.statistics().suspects
        await trio.sleep(1000)
        assert [ended + after] == times(runtime, "close")
        assert 0 == manager.statistics().suspects


@pytest.mark.parametrize(("ttl", "after"), [(30.0, 30.0), (600.0, 600.0)])
async def test_a_suspect_whose_answer_came_is_clean(ttl: float, after: float, autojump_clock: MockClock) -> None:
    """It is then kept as long as any other."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with one_session(runtime, settings=attrs.evolve(SETTINGS, idle_ttl=ttl)) as (manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        ended = trio.current_time()
        runtime.quiet = True
        await trio.sleep(61)
        assert (0, [ended + after][: ttl < 60]) == (manager.statistics().suspects, times(runtime, "close"))
        await trio.sleep(1000)
        assert [ended + after] == times(runtime, "close")


class Mute(FakeRuntime):
    """Cannot tell whether a handle is quiet."""

    def is_quiet(self, handle: Handle) -> bool:
        raise ZeroDivisionError("is_quiet")


async def test_an_adapter_that_cannot_tell_harms_nobody_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its session stays suspect and is closed; the others are evicted in their time."""
    mute, fine = Mute([Hang()], cancel=[Hang()]), FakeRuntime()
    async with open_session_manager({"mute": mute, "fine": fine}, settings=attrs.evolve(IDLE, idle_ttl=100)) as manager:
        await manager.start_session("fine", agent="fine")
        with pytest.raises(TurnTimedOut):
            await (await manager.start_session("mute", agent="mute")).prompt("x")
        await trio.sleep(1000)
        assert ([T + G + C + 60], [100.0]) == (times(mute, "close"), times(fine, "close"))
    assert "could not tell whether the session of mute is quiet" in caplog.text


async def test_a_crash_of_the_evictor_is_not_that_of_the_manager(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions then stay open until the manager is left, and work."""

    def crash(self: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("trio_acp._evictor.Evictor.evict_expired", crash)
    runtime = FakeRuntime()
    async with one_session(runtime, settings=IDLE) as (_manager, session):
        await trio.sleep(100)
        assert Completed() == (await session.prompt("x")).outcome
    assert ["ensure_session", "run_turn", "close"] == runtime.names()
    assert "the evictor failed" in caplog.text


# -- when its room is needed ----------------------------------------------------


async def test_the_longest_idle_makes_room(autojump_clock: MockClock) -> None:
    """On a full house it is closed, expired or not, and the opener waits for that close only."""
    runtime = Counting(close=[Sleep(1)])
    async with manager_of(runtime, room_for(3)) as manager:
        for n in range(3):
            await manager.start_session(f"s{n}", agent="fake")
            await trio.sleep(1)
        await manager.session("s0").prompt("x")
        await manager.start_session("new", agent="fake")
        assert 3 + 1 == trio.current_time()
        assert ([], [3.0], []) == tuple(times(runtime, "close", f"s{n}") for n in range(3))
        assert CapacityUse(3, 3) == manager.statistics().capacity
        assert (1, 3.0, 3) == (manager.statistics().evicted, manager.statistics().last_evicted, runtime.most)
        await manager.session("s1").prompt("resumed")
        assert [4.0] == times(runtime, "close", "s2")


@pytest.mark.parametrize("operation", ["start", "prompt", "ask"])
async def test_a_full_house_of_busy_sessions_refuses(operation: str, autojump_clock: MockClock) -> None:
    """At once, with a typed error; nothing was opened, and who has a handle goes on."""
    runtime = FakeRuntime([Sleep(3)])
    async with manager_of(runtime, room_for(1)) as manager, trio.open_nursery() as nursery:
        other = await manager.start_session("other", agent="fake")
        busy = await manager.start_session("busy", agent="fake")
        nursery.start_soon(busy.prompt, "x")
        await trio.sleep(1)
        if operation == "start":
            with pytest.raises(TooManySessions) as refused:
                await manager.start_session("new", agent="fake")
            assert ("ACP_SESSION_INIT_FAILED", "too-many-sessions") == (refused.value.code, refused.value.detail)
            assert "1 of 1 sessions are open" in str(refused.value)
            assert {"busy", "other"} == {record.key for record in await manager.stored_sessions()}
        else:
            with pytest.raises(TurnFailed) as caught:
                await (manager.ask("x", agent="fake") if operation == "ask" else other.prompt("x"))
            assert "too-many-sessions" == caught.value.detail
            assert isinstance(caught.value.__cause__, TooManySessions)
        assert (1, 2) == (trio.current_time(), len(times(runtime, "ensure_session")))
        assert CapacityUse(1, 1) == manager.statistics().capacity
    assert 3 == trio.current_time()


@pytest.mark.parametrize("opener", ["start", "ask"])
async def test_the_limit_holds_for_twenty_at_once(opener: str, autojump_clock: MockClock) -> None:
    """However many open at the same time, no more than the limit are opening, open or closing; oneshots count."""
    runtime = Counting([Sleep(1)], ensure=[Sleep(1)], close=[Sleep(1)])
    refused: list[AcpError] = []
    async with manager_of(runtime, room_for(3)) as manager:

        async def open_one(n: int) -> None:
            await trio.sleep(n / 8)
            try:
                if opener == "ask":
                    await manager.ask("x", agent="fake")
                else:
                    await manager.start_session(f"s{n}", agent="fake")
            except AcpError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(open_one, n)
        assert {"too-many-sessions"} == {error.detail for error in refused}
        assert 3 == runtime.most
        assert len(times(runtime, "ensure_session")) == 20 - len(refused) >= 5
        assert CapacityUse(len(runtime.open), 3) == manager.statistics().capacity
    assert 0 == runtime.now == manager.statistics().capacity.taken


async def test_a_suspect_is_nobodys_room(autojump_clock: MockClock) -> None:
    """While the agent owes an answer the handle counts, and another session is refused; once it came, it is not."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with one_session(runtime, settings=room_for(1)) as (manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        with pytest.raises(TooManySessions):
            await manager.start_session("new", agent="fake")
        assert (CapacityUse(1, 1), 1) == (manager.statistics().capacity, len(times(runtime, "ensure_session")))
        runtime.quiet = True
        await manager.start_session("new", agent="fake")
        assert (1, CapacityUse(1, 1)) == (manager.statistics().evicted, manager.statistics().capacity)


async def test_who_waits_longest_is_served_first(autojump_clock: MockClock) -> None:
    """Three wait for one close each; who gives up while he waits costs nothing, and leaves his room to the next."""
    runtime = Counting(close=[Sleep(1)])
    opened: list[str] = []
    async with manager_of(runtime, room_for(2)) as manager:

        async def open_one(key: str, patience: float) -> None:
            with trio.move_on_after(patience) as scope:
                await manager.start_session(key, agent="fake")
                opened.append(key)
                assert {"second": 1.0, "third": 1.25}[key] == trio.current_time()
            assert not scope.cancelled_caught or patience == trio.current_time()

        await manager.start_session("a", agent="fake")
        await manager.start_session("b", agent="fake")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_one, "impatient", 0.5)
            await trio.sleep(0.25)
            nursery.start_soon(open_one, "second", 99)
            await trio.sleep(0.5)
            nursery.start_soon(open_one, "third", 99)
        assert (["second", "third"], 1.25, 2) == (opened, trio.current_time(), manager.statistics().evicted)
    assert 2 == runtime.most


async def test_waiting_for_room_is_part_of_the_setup(autojump_clock: MockClock) -> None:
    """Longer than `setup` nobody waits; the room that comes then is there for the next."""
    runtime = FakeRuntime(close=[Sleep(1.5)])
    async with one_session(runtime, settings=room_for(1, setup=1.0)) as (manager, _session):
        with pytest.raises(TurnFailed) as caught:
            await manager.start_session("new", agent="fake")
        assert ("setup-timeout", 1.0) == (caught.value.detail, trio.current_time())
        await manager.start_session("new", agent="fake")
        assert 1.5 == trio.current_time()


async def test_a_close_that_straggles_keeps_its_slot(autojump_clock: MockClock) -> None:
    """Who waited for it is told when that is known, and looks for other room; when it ends, there is room again."""
    runtime = Counting(close=[Swallow(5)])
    async with manager_of(runtime, room_for(2)) as manager:
        for key in ("a", "b"):
            await manager.start_session(key, agent="fake")
            await trio.sleep(1)
        with pytest.raises(TooManySessions):
            await manager.start_session("new", agent="fake")
        assert pytest.approx(2 + 2 * (C + J)) == trio.current_time()
        assert [2.0, pytest.approx(2 + C + J)] == times(runtime, "close")
        assert (CapacityUse(2, 2), 0) == (manager.statistics().capacity, manager.statistics().open_handles)
        await trio.sleep_until(7.5)
        assert CapacityUse(1, 2) == manager.statistics().capacity
        await manager.start_session("new", agent="fake")
        assert (7.5, 2) == (trio.current_time(), runtime.most)
        runtime.on_close = []


@pytest.mark.parametrize("ends", ["late", "failed"])
async def test_an_opening_that_straggles_keeps_its_slot(ends: str, autojump_clock: MockClock) -> None:
    """Until it has ended, and the handle that came too late is closed."""
    ensure: list[Step] = [Swallow(5), *([Raise(OSError("planted"))] if ends == "failed" else [])]
    runtime = Counting(ensure=ensure, close=[Sleep(1)])
    async with manager_of(runtime, room_for(1, setup=1.0)) as manager:
        with pytest.raises(TurnFailed) as caught:
            await manager.start_session("k", agent="fake")
        assert "setup-timeout" == caught.value.detail
        runtime.ensure = []
        with pytest.raises(TooManySessions):
            await manager.start_session("k", agent="fake")
        await trio.sleep_until(5.5)
        assert CapacityUse(int(ends == "late"), 1) == manager.statistics().capacity
        await manager.start_session("k", agent="fake")
        assert (6.0 if ends == "late" else 5.5, 1) == (trio.current_time(), runtime.most)


async def test_an_opening_that_fails_gives_its_slot_back(autojump_clock: MockClock) -> None:
    """Refused, timed out or given up: the next one has the room."""
    runtime = FakeRuntime(ensure=[Raise(SessionInitFailed("planted"))])
    async with manager_of(runtime, room_for(1, setup=1.0)) as manager:
        with pytest.raises(SessionInitFailed):
            await manager.start_session("k", agent="fake")
        runtime.ensure = [Hang()]
        with pytest.raises(TurnFailed):
            await manager.start_session("k", agent="fake")
        with trio.move_on_after(0.5):
            await manager.start_session("k", agent="fake")
        assert CapacityUse(0, 1) == manager.statistics().capacity
        runtime.ensure = []
        await manager.start_session("k", agent="fake")


@pytest.mark.parametrize("why", ["connection-lost", "replaced", "retry"])
async def test_a_session_keeps_its_slot_when_it_replaces_its_handle(why: str, autojump_clock: MockClock) -> None:
    """Who came before, and waits for room, does not get it; the session itself opens again at once."""
    runtime = Counting(close=[Sleep(1)])
    refused: list[AcpError] = []
    async with one_session(runtime, settings=room_for(1)) as (manager, session):

        async def want_room() -> None:
            try:
                await manager.start_session("other", agent="fake")
            except AcpError as error:
                refused.append(error)

        async def replace() -> None:
            match why:
                case "connection-lost":
                    runtime.dead |= runtime.open
                    await session.prompt("x")
                case "retry":
                    failure = TurnFailed("nothing was started", retryable=True)
                    steps = iter([[Raise(failure)], []])
                    runtime.turn = lambda _: next(steps)
                    await session.prompt("x")
                case _:
                    await manager.start_session("k", agent="fake", cwd="/elsewhere")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(replace)
            await trio.sleep(0.5)
            nursery.start_soon(want_room)
        assert (["too-many-sessions"], 1) == ([error.detail for error in refused], trio.current_time())
        assert (1, CapacityUse(1, 1)) == (runtime.most, manager.statistics().capacity)
        assert manager.is_live("k")


async def test_a_kept_slot_passes_by_those_in_line(autojump_clock: MockClock) -> None:
    """A turn that is tried again opens as soon as its own old handle is closed, whoever has waited for longer."""
    runtime = Counting(close=[Sleep(1.75)])
    async with manager_of(runtime, room_for(2)) as manager, trio.open_nursery() as nursery:
        await manager.start_session("idle", agent="fake")
        session = await manager.start_session("k", agent="fake")
        attempts: list[list[Step]] = [[Sleep(0.5), Raise(TurnFailed("nothing was started", retryable=True))], []]
        steps = iter(attempts)
        runtime.turn = lambda _: next(steps)
        nursery.start_soon(session.prompt, "x")
        await trio.sleep(0.25)
        nursery.start_soon(functools.partial(manager.start_session, "new", agent="fake"))
        await wait_all_tasks_blocked()
        runtime.on_close = [Sleep(1)]
        await trio.sleep(2)
        assert ([0.0, 1.5], [2.0]) == tuple(times(runtime, "ensure_session", key) for key in ("k", "new"))
        assert 2 == runtime.most


async def test_a_oneshot_is_tried_again_in_its_own_slot(autojump_clock: MockClock) -> None:
    """Nothing is awaited between giving up the old handle and asking for room."""
    runtime = Counting(close=[Sleep(1)])
    steps = iter([[Raise(TurnFailed("nothing was started", retryable=True))], []])
    runtime.turn = lambda _: next(steps)
    async with manager_of(runtime, room_for(1)) as manager:
        assert Completed() == (await manager.ask("x", agent="fake")).outcome
        assert ([0.0, 1.0], 1) == (times(runtime, "ensure_session"), runtime.most)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("ends", ["opened", "failed"])
def test_giving_up_while_opening_gives_the_slot_back(ends: str, after: bool) -> None:
    """Whatever step the caller is cancelled at."""
    fired = 0
    for n in range(1, 60):
        scope = trio.CancelScope()
        step = AtStep(n, scope.cancel, after=after)
        runtime = Counting(ensure=[Raise(SessionInitFailed("planted"))] if ends == "failed" else [])
        run_virtual(functools.partial(_give_up, runtime, scope, step), step)
        fired += step.fired
        if not step.fired:
            break
    assert 4 <= fired < 59


async def _give_up(runtime: Counting, scope: trio.CancelScope, step: AtStep) -> None:
    async with manager_of(runtime, room_for(1)) as manager:
        step.armed = True
        with scope, contextlib.suppress(TurnFailed):
            await manager.ask("x", agent="fake")
        step.armed = False
        await wait_all_tasks_blocked()
        assert (0, CapacityUse(0, 1)) == (runtime.now, manager.statistics().capacity)


async def test_a_slot_kept_for_nothing_is_free(autojump_clock: MockClock) -> None:
    """The session closed its old handle in order to resume, and was stopped before it could."""
    runtime = FakeRuntime(close=[Sleep(1)])
    async with one_session(runtime, settings=room_for(1)) as (manager, session):
        runtime.dead |= runtime.open
        with trio.move_on_after(0.5):
            await session.prompt("x")
        await trio.sleep(1)
        assert CapacityUse(0, 1) == manager.statistics().capacity


# -- leaving --------------------------------------------------------------------


@pytest.mark.parametrize(("close", "left"), [([Sleep(1)], 1.0), ([Hang()], C)])
async def test_leaving_while_evicting(close: list[Step], left: float, autojump_clock: MockClock) -> None:
    """The close that runs keeps its budget; no handle is closed twice, and no task is left."""
    runtime = FakeRuntime(close=close)
    async with one_session(runtime, settings=IDLE):
        await trio.sleep(TTL)
        await wait_all_tasks_blocked()
    assert (["ensure_session", "close"], TTL + left) == (runtime.names(), trio.current_time())
    assert [] == our_tasks()


async def test_nothing_expires_while_the_manager_is_left(autojump_clock: MockClock) -> None:
    """A session whose time comes during the exit is closed by the exit, with all the others."""
    runtime = FakeRuntime([Hang()], cancel=[Hang()])
    async with trio.open_nursery() as nursery:
        async with manager_of(runtime, IDLE) as manager:
            await manager.start_session("idle", agent="fake")
            busy = await manager.start_session("busy", agent="fake")
            await trio.sleep(TTL - 1)
            nursery.start_soon(busy.prompt, "x")
            await wait_all_tasks_blocked()
        assert TTL - 1 + C == trio.current_time()
    assert ["shutdown"] * 2 == [call.detail for call in runtime.calls if call.name == "close"]
    assert 0 == manager.statistics().evicted


async def test_leaving_refuses_who_waits_for_room(autojump_clock: MockClock) -> None:
    """At once; the close that it waited for keeps its budget."""
    runtime = FakeRuntime(close=[Sleep(1)])
    refused: list[float] = []

    async def want_room() -> None:
        with pytest.raises(ManagerClosed):
            await manager.start_session("new", agent="fake")
        refused.append(trio.current_time())

    async with trio.open_nursery() as nursery, one_session(runtime, settings=room_for(1)) as (manager, _session):
        nursery.start_soon(want_room)
        await trio.sleep(0.5)
    assert ([0.5], 1.0) == (refused, trio.current_time())
    assert ["ensure_session", "close"] == runtime.names()


async def test_leaving_two_hundred_running_sessions_takes_one_ladder(autojump_clock: MockClock) -> None:
    """Hung turns, hung cancels, hung closes: the exit takes as long with 200 of them as with one."""
    took = []
    for sessions in (1, 200):
        runtime = FakeRuntime([Hang()], cancel=[Hang()], close=[Hang()])
        replies: list[Reply] = []
        watched = Watched()

        async def prompt(session: Session, replies: list[Reply] = replies) -> None:
            replies.append(await session.prompt("x"))

        async with trio.open_nursery() as nursery:
            async with open_session_manager({"fake": runtime}, settings=SETTINGS, instrument=watched) as manager:
                for n in range(sessions):
                    session = await manager.start_session(f"s{n}", agent="fake")
                    nursery.start_soon(prompt, session)
                await trio.sleep(1)
                left = trio.current_time()
            took.append(trio.current_time() - left)
        assert sessions == len(replies) == manager.statistics().stopped
        assert [] == our_tasks()
        check_trace(watched)
    assert [2 * C, 2 * C] == pytest.approx(took)


# -- settings -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idle_ttl", 0),
        ("idle_ttl", -1.0),
        ("idle_ttl", math.nan),
        ("idle_ttl", None),
        ("max_sessions", 0),
        ("max_sessions", 1.5),
        ("max_sessions", True),
    ],
)
def test_settings_that_cannot_be(name: str, value: Any) -> None:
    """Zero, negative, or not a number: refused with the setting's name."""
    with pytest.raises(InvalidOption) as caught:
        attrs.evolve(Settings(), **{name: value})
    assert f"invalid-{name}" == caught.value.detail


def test_the_default_settings() -> None:
    """Ten minutes, and no limit."""
    assert (600.0, None) == (Settings().idle_ttl, Settings().max_sessions)
    assert (math.inf, 1) == (Settings(idle_ttl=math.inf).idle_ttl, Settings(max_sessions=1).max_sessions)
