"""However a manager is left, no task of it is."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import (
    SETTINGS,
    AwkwardStore,
    C,
    J,
    OnRecord,
    Watched,
    check_trace,
    one_session,
    our_tasks,
    run_virtual,
)
from trio_acp import (
    Completed,
    Limits,
    ManagerClosed,
    Settings,
    Stopped,
    StoreError,
    TimedOut,
    TurnFailed,
    open_session_manager,
)
from trio_acp.abc import Instrument, Transcript
from trio_acp.stores import SQLiteStore
from trio_acp.testing import FakeRuntime, Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from trio_acp import Outcome, Session, SessionRecord
    from trio_acp.abc import Handle, Mutate, TraceRecord, TranscriptEntry
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency


async def keep_prompting(session: Session, outcomes: list[Outcome]) -> None:
    outcomes.append((await session.prompt("x")).outcome)


async def test_leaving_stops_turns_and_closes_all_sessions_in_parallel(autojump_clock: MockClock) -> None:
    """Running and queued turns are Stopped by shutdown; ten hung closes cost one cleanup, not ten."""
    runtime = FakeRuntime([Hang(stops=True)], close=[Hang()])
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        async with open_session_manager({"fake": runtime}, settings=SETTINGS) as manager:
            for n in range(10):
                session = await manager.start_session(f"s{n}", agent="fake")
                for _ in range(2):
                    nursery.start_soon(keep_prompting, session, outcomes)
            await trio.sleep(1)
        assert 1 + C == trio.current_time()
    assert {Stopped(by="shutdown"), Stopped(by="shutdown", agent_stop_reason="cancelled")} == set(outcomes)
    assert (20, 20) == (len(outcomes), manager.statistics().stopped)
    assert 10 == runtime.names().count("cancel")
    assert [] == our_tasks()


@pytest.mark.parametrize("hangs", ["run", "cancel", "both"])
async def test_leaving_is_bounded(hangs: str, autojump_clock: MockClock) -> None:
    """Twice cleanup for the turns and cleanup for the sessions is the most; here one for each."""
    runtime = FakeRuntime([Hang(stops=hangs == "cancel")], cancel=[] if hangs == "run" else [Hang()], close=[Hang()])
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery, one_session(runtime) as (_manager, session):
        nursery.start_soon(keep_prompting, session, outcomes)
        await trio.sleep(1)
    assert pytest.approx(1 + (J if hangs == "run" else C) + C) == trio.current_time()
    assert Stopped(by="shutdown") == outcomes[0]


async def test_a_manager_opened_in_a_cancelled_scope(autojump_clock: MockClock) -> None:
    """Entering works, the first operation is cancelled, and nothing is left."""
    runtime = FakeRuntime()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_session_manager({"fake": runtime}) as manager:
            await manager.start_session("k", agent="fake")
    assert scope.cancelled_caught
    assert [] == our_tasks()
    assert [] == runtime.names()


async def test_a_cancelled_manager_cleans_up_and_then_is_cancelled(autojump_clock: MockClock) -> None:
    """Cancelling around the block: the agent is told to stop, the session closed, Cancelled goes on."""
    runtime = FakeRuntime([Hang()], cancel=[Sleep(1)], close=[Sleep(1)])
    with trio.move_on_after(1) as scope:
        async with one_session(runtime) as (_manager, session):
            await session.prompt("x")
    assert scope.cancelled_caught
    assert pytest.approx(1 + 1 + J + 1) == trio.current_time()
    assert ["ensure_session", "run_turn", "cancel", "close"] == runtime.names()
    assert [] == our_tasks()


async def test_the_bodys_exception_is_the_same_object(autojump_clock: MockClock) -> None:
    """It leaves bare, in no group, although a turn of another task was running."""
    error = LookupError("mine")
    async with trio.open_nursery() as nursery:
        with pytest.raises(LookupError) as caught:
            async with one_session(FakeRuntime([Hang()])) as (_manager, session):
                nursery.start_soon(session.prompt, "x")
                await trio.testing.wait_all_tasks_blocked()
                raise error
        assert error is caught.value
        assert [] == our_tasks()


class BrokenRuntime(FakeRuntime):
    """Its synchronous methods raise."""

    def is_alive(self, handle: Handle) -> bool:
        raise ZeroDivisionError("is_alive")


async def test_a_crashing_actor_harms_nobody_else(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """The request it served fails with detail internal-error; its lane, its siblings and the exit go on."""
    good, bad = FakeRuntime([Sleep(2)]), BrokenRuntime()
    outcomes: list[Outcome] = []
    watched = Watched()
    async with open_session_manager({"good": good, "bad": bad}, settings=SETTINGS, instrument=watched) as manager:
        watched.statistics = manager.statistics
        fine = await manager.start_session("fine", agent="good")
        broken = await manager.start_session("broken", agent="bad")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_prompting, fine, outcomes)
            await trio.sleep(1)
            with pytest.raises(TurnFailed) as caught:
                await broken.prompt("x")
            assert "internal-error" == caught.value.detail
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
        assert ([Completed()], 2) == (outcomes, trio.current_time())
        assert Completed() == (await broken.prompt("on a new handle")).outcome
        assert 1 == manager.statistics().failed
    assert [] == watched.broken
    assert "the actor of broken failed" in caplog.text
    assert set() == bad.open
    check_trace(watched)


@pytest.mark.parametrize("error", [OSError("odd"), StoreError("disk full"), RecursionError("deep")])
async def test_a_store_that_raises_decides_no_outcome(error: Exception, autojump_clock: MockClock) -> None:
    """Writes of a turn's state that fail are counted; the turn completes, and so does the exit."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (manager, session):
        store.error = error
        assert Completed() == (await session.prompt("x")).outcome
        assert 2 == manager.statistics().store_failures


async def test_a_store_that_cannot_be_read_fails_the_turn(autojump_clock: MockClock) -> None:
    """Without its metadata a turn cannot start; the error is typed, whatever the store raised."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(), store=store) as (_manager, session):
        await session.close()
        store.error = StoreError("unreadable")
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert ("store", store.error) == (caught.value.detail, caught.value.__cause__)
        store.error = OSError("odd")
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert "store" == caught.value.detail
        store.error = None
        await session.prompt("x")


async def test_the_exit_with_a_hung_store_is_bounded(autojump_clock: MockClock) -> None:
    """What was not stored is tried once more, beside the closes and within the same cleanup; then comes the row."""
    store = AwkwardStore()
    async with one_session(FakeRuntime([Sleep(1)], close=[Hang()]), store=store) as (_manager, session):
        async with session.turn("x") as turn:
            await trio.sleep(0.5)
            store.hang_update = True
            async for _ in turn:
                pass
        left = trio.current_time()
    assert left + 2 * C == trio.current_time()
    assert [] == our_tasks()


async def test_a_running_start_is_refused_and_rolled_back_at_the_exit(autojump_clock: MockClock) -> None:
    """An operation that runs at the exit gets ManagerClosed; what it opened is closed once, and given its time."""
    runtime = FakeRuntime(close=[Sleep(1)])
    store = AwkwardStore()
    store.hang_update = True
    errors: list[BaseException] = []

    async def start() -> None:
        try:
            await manager.start_session("k", agent="fake")
        except ManagerClosed as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:  # noqa: SIM117 - reads better
        async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
            nursery.start_soon(start)
            nursery.start_soon(start)
            await trio.sleep(1)
            store.hang_update = False
    assert 2 == len(errors)
    assert (["ensure_session", "close"], 2) == (runtime.names(), trio.current_time())
    assert [] == our_tasks()


async def test_a_close_that_runs_at_the_exit_is_not_cut_off(autojump_clock: MockClock) -> None:
    """It keeps its cleanup budget, and its caller its report."""
    runtime = FakeRuntime(close=[Sleep(1.5)])
    reports: list[bool] = []

    async def close() -> None:
        reports.append((await session.close()).closed)

    async with trio.open_nursery() as nursery, one_session(runtime) as (_manager, session):
        nursery.start_soon(close)
        await trio.sleep(1)
    assert ([True], 1.5) == (reports, trio.current_time())


async def test_leaving_right_after_admission(autojump_clock: MockClock) -> None:
    """A turn admitted in the last pass is Stopped by shutdown, or over already, as the scheduler will have it."""
    outcomes: list[Outcome] = []
    admitted = trio.Event()

    class Listener(Instrument):
        def record(self, record: TraceRecord) -> None:
            if record.name == "admitted":
                admitted.set()

    async with (
        trio.open_nursery() as nursery,
        one_session(FakeRuntime(), instrument=Listener()) as (manager, session),
    ):
        nursery.start_soon(keep_prompting, session, outcomes)
        await admitted.wait()
    assert outcomes in ([Stopped(by="shutdown")], [Stopped(by="shutdown", agent_stop_reason="end_turn")], [Completed()])
    assert manager.statistics().submitted == 1 == manager.statistics().stopped + manager.statistics().completed


@pytest.mark.parametrize("step", [Raise(ValueError("planted")), Hang()], ids=["failing", "hanging"])
async def test_many_closings_that_fail_at_the_exit_are_summed_up(
    step: Step, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten are named, the others counted: a thousand lines would say no more."""
    async with open_session_manager({"fake": FakeRuntime(close=[step])}, settings=SETTINGS) as manager:
        for n in range(30):
            await manager.start_session(f"k{n}", agent="fake")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    named, last = [line for line in said if "closing the session of" in line], said[-1]
    assert (10, "closing 20 more sessions (shutdown) failed") == (len(named), last)
    assert 11 == len(said)


@pytest.mark.parametrize("presses", [1, 2, 3, 6])
def test_ctrl_c_leaves_nothing(presses: int) -> None:
    """KeyboardInterrupt in the body, and again during the exit: out comes KeyboardInterrupt, and no task stays."""
    runtime = FakeRuntime([Hang()], cancel=[Swallow(7)], close=[Hang()])
    left: list[list[str]] = []

    async def main() -> None:
        try:
            async with one_session(runtime) as (_manager, session), session.turn("x"):
                await trio.sleep(1)
                signal.raise_signal(signal.SIGINT)
                await trio.sleep_forever()
        finally:
            left.append(our_tasks())

    async def press_again() -> None:
        for n in range(1, presses):
            await trio.sleep_until(1 + 1.05 * n)
            signal.raise_signal(signal.SIGINT)

    @trio.lowlevel.enable_ki_protection
    async def presser() -> None:
        await press_again()

    async def run() -> None:
        trio.lowlevel.spawn_system_task(presser)
        await main()

    with pytest.raises(KeyboardInterrupt):
        run_virtual(run)
    assert [[]] == left


def press() -> None:
    signal.raise_signal(signal.SIGINT)


class PressingTranscript(Transcript):
    pressed = False

    async def append(self, entries: Sequence[TranscriptEntry]) -> None:
        if not self.pressed:
            self.pressed = True
            press()
        await trio.lowlevel.checkpoint()

    async def list(self, session: str) -> tuple[TranscriptEntry, ...]:
        raise NotImplementedError

    async def forget(self, session: str) -> int:
        raise NotImplementedError


@pytest.mark.parametrize("where", ["gates", "records"])
def test_ctrl_c_that_comes_while_a_task_of_ours_runs_is_the_bodys(where: str) -> None:
    """Whatever task the signal interrupts: out comes KeyboardInterrupt alone, and the turn has its outcome."""
    instrument = OnRecord("cause", press) if where == "gates" else None
    transcript = PressingTranscript() if where == "records" else None
    outcomes: list[Outcome | None] = []

    async def run() -> None:
        runtimes = {"fake": FakeRuntime([Hang(stops=True)])}
        async with open_session_manager(
            runtimes, settings=SETTINGS, instrument=instrument, transcript=transcript
        ) as manager:
            session = await manager.start_session("k", agent="fake")
            turn = session.turn("x")
            try:
                async with turn:
                    await trio.sleep_forever()
            finally:
                outcomes.append(turn.outcome)

    with pytest.raises(KeyboardInterrupt):
        run_virtual(run)
    [outcome] = outcomes
    assert isinstance(outcome, TimedOut if where == "gates" else Stopped)


async def test_a_hung_sqlite_write_costs_its_deadline_only(tmp_path: Path) -> None:
    """In real time: a mutate stuck in its thread is abandoned at the deadline; the manager's exit lets it end."""
    limits = Limits(turn=5, cleanup=0.2, grace=0.1, setup=0.3)
    release = threading.Event()

    class Stuck(SQLiteStore):
        stuck = False

        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            def slow(record: SessionRecord | None) -> SessionRecord | None:
                release.wait(5)
                return mutate(record)

            return await super().update(key, slow if self.stuck else mutate)

    store = Stuck(tmp_path / "s.db")
    with trio.fail_after(10):
        async with one_session(FakeRuntime(), settings=Settings(limits=limits), store=store) as (manager, session):
            store.stuck = True
            assert Completed() == (await session.prompt("x")).outcome
            assert manager.statistics().store_failures >= 1
            store.stuck = False
            release.set()
            await session.prompt("y")
            [record] = await manager.stored_sessions()
            assert "idle" == record.state
