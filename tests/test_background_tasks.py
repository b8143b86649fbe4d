"""Turns of sessions with a requester: one task each, settled once, whatever happens."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.turn_kit import SETTINGS, AwkwardStore, C, G, J, T, our_tasks, run_virtual
from trio_acp import (
    BackendUnavailable,
    Completed,
    Failed,
    MemoryLedger,
    MemoryStore,
    SessionInitFailed,
    Settings,
    SQLiteLedger,
    SQLiteStore,
    Stopped,
    StoreError,
    TextDelta,
    Thought,
    TimedOut,
    ToolCall,
    TurnFailed,
    TurnTimedOut,
    UsageError,
    _background,
    open_session_manager,
)
from trio_acp.abc import Done, Ledger
from trio_acp.testing import FakeRuntime
from trio_acp.testing.fake import Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from trio.testing import MockClock

    from trio_acp import Session, SessionManager, TaskRecord
    from trio_acp.abc import SessionStore
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

HEAD_START = _background.HEAD_START

STATUS = {Completed: "succeeded", Stopped: "cancelled", TimedOut: "timed_out", Failed: "failed"}


class Watched(Ledger):
    """A memory ledger that notes every put, and can be made to be slow, to hang or to raise."""

    def __init__(self) -> None:
        self.memory = MemoryLedger()
        self.puts: list[tuple[float, TaskRecord]] = []
        self.seconds = 0.0
        self.resist = False
        self.error: Exception | None = None
        self.at_once = self.most_at_once = 0

    async def put(self, task: TaskRecord) -> None:
        self.puts.append((trio.current_time(), task))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.seconds:
                with trio.CancelScope(shield=self.resist):
                    await trio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
            await self.memory.put(task)
        finally:
            self.at_once -= 1

    async def list(self, *, open_only: bool = False) -> tuple[TaskRecord, ...]:
        return await self.memory.list(open_only=open_only)

    async def only(self) -> TaskRecord:
        """Return the one task there is; whatever was said of its end was always the same."""
        [task] = await self.memory.list()
        assert {task} >= {told for _, told in self.puts if not told.is_open and told.run_id == task.run_id}
        return task

    def said(self) -> tuple[tuple[float, str, str | None], ...]:
        return tuple((round(time, 6), task.status, task.progress) for time, task in self.puts)


@asynccontextmanager
async def child(
    runtime: FakeRuntime, ledger: Ledger | None, *, store: SessionStore | None = None, settings: Settings = SETTINGS
) -> AsyncIterator[tuple[SessionManager, Session]]:
    """Open a manager with a session that works for another one."""
    async with open_session_manager({"fake": runtime}, ledger=ledger, store=store, settings=settings) as manager:
        yield manager, await manager.start_session("k", agent="fake", requester=" Parent ", label=" tests ")


# -- what is recorded ---------------------------------------------------------


async def test_steering_is_no_task_of_its_own(autojump_clock: MockClock) -> None:
    """Only prompts are recorded: a turn that steers what is going on is part of that."""
    ledger = Watched()
    async with child(FakeRuntime(), ledger) as (_, session):
        await session.prompt("shorter", mode="steer")
        assert [] == ledger.puts
        await session.prompt("go on")
    assert "go on" == (await ledger.only()).task


async def test_a_turn_that_ends_well(autojump_clock: MockClock) -> None:
    """The task is there, running, before anything is opened; the end has the whole progress."""
    ledger = Watched()
    seen: list[TaskRecord] = []

    def ensure(_: object) -> list[Run]:
        return [Run(lambda _: seen.extend(task for _, task in ledger.memory._tasks.items()))]

    runtime = FakeRuntime([TextDelta("Wri"), TextDelta("ting"), Thought("hm"), TextDelta(" it")], ensure=ensure)
    async with open_session_manager({"fake": runtime}, ledger=ledger, store=(store := MemoryStore())) as manager:
        await manager.start_session("k", agent="fake", requester=" Parent ", label=" tests ")
    async with open_session_manager({"fake": runtime}, ledger=ledger, store=store) as manager:
        async with manager.session("k").turn(" Write  it ") as turn:
            pass_on = [event async for event in turn]
        assert 4 == len(pass_on)
        task = await ledger.only()
        assert ["running"] == [task.status for task in seen]
        assert ("parent", "k", "tests", "Write  it") == (task.requester, task.session, task.label, task.task)
        assert (turn.request_id, "succeeded", "Writing it") == (task.run_id, task.status, task.progress)
        assert (None, None, None) == (task.error, task.summary, task.outcome)
        assert task.owner == manager._ctx.owner
        assert task.ended is not None
        assert task.started <= task.ended
        assert 2 == len(ledger.puts)
        assert 0 == manager.statistics().ledger_failures


async def test_a_turn_that_says_it_was_denied_is_blocked(autojump_clock: MockClock) -> None:
    """The text may arrive in any pieces; the outcome of the turn itself is not changed."""
    pieces = ["Write failed: per", "mission", " denied for /srv/no", "tes/to", "day", ".txt."]
    ledger = Watched()
    async with child(FakeRuntime(map(TextDelta, pieces)), ledger) as (_manager, session):
        await session.prompt("x")
        task = await ledger.only()
    assert ("succeeded", "blocked") == (task.status, task.outcome)
    assert "Permission denied for /srv/notes/today.txt." == task.summary
    assert "".join(pieces) == task.progress


async def test_a_failure(autojump_clock: MockClock) -> None:
    """A failed turn is `failed`, also if the error says that something timed out."""
    ledger = Watched()
    runtime = FakeRuntime([TextDelta("apply_patch"), Raise(BackendUnavailable("it timed out"))])
    async with child(runtime, ledger) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        task = await ledger.only()
    assert ("failed", "it timed out", "apply_patch", None) == (task.status, task.error, task.progress, task.outcome)


async def test_a_timeout(autojump_clock: MockClock) -> None:
    """A turn that exceeds its deadline is `timed_out`."""
    ledger = Watched()
    async with child(FakeRuntime([TextDelta("a"), Hang()]), ledger) as (_manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        task = await ledger.only()
    assert ("timed_out", "the turn timed out after 5 s", "a") == (task.status, task.error, task.progress)


@pytest.mark.parametrize("by", ["caller", "user", "left", "closed", "agent"])
async def test_a_stopped_turn_is_cancelled(by: str, autojump_clock: MockClock) -> None:
    """Whoever stops a turn, its task is `cancelled`."""
    ledger = Watched()
    runtime = FakeRuntime([Done(stop_reason="cancelled")] if by == "agent" else [TextDelta("a"), Hang(stops=True)])
    async with child(runtime, ledger) as (_manager, session):
        async with trio.open_nursery() as nursery:
            if by == "caller":
                nursery.start_soon(session.prompt, "x")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel(reason="test")
            else:
                async with session.turn("x") as turn:
                    await wait_all_tasks_blocked()
                    if by == "user":
                        turn.cancel("enough")
                    elif by == "closed":
                        nursery.start_soon(session.close, "enough")
                    if by != "left":
                        assert [] == [event async for event in turn if not isinstance(event, TextDelta)]
        task = await ledger.only()
    assert ("cancelled", "enough" if by in {"user", "closed"} else None) == (task.status, task.error)


async def test_shutdown_cancels_the_task(autojump_clock: MockClock) -> None:
    """Leaving the manager settles the running turn's task; one that waits in the queue never had any."""
    ledger = Watched()
    runtime = FakeRuntime([Hang(stops=True)])
    async with trio.open_nursery() as nursery, child(runtime, ledger) as (_manager, session):
        for text in ("first", "second"):
            nursery.start_soon(session.prompt, text)
            await wait_all_tasks_blocked()
    task = await ledger.only()
    assert ("cancelled", "first") == (task.status, task.task)


async def test_a_withdrawn_turn_has_no_task(autojump_clock: MockClock) -> None:
    """A caller that is cancelled in the queue leaves no trace in the ledger."""
    ledger = Watched()
    async with child(FakeRuntime([Sleep(1)]), ledger) as (_manager, session):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "first")
            await wait_all_tasks_blocked()
            with trio.move_on_after(0.5):
                await session.prompt("second")
        assert "first" == (await ledger.only()).task


async def test_a_retry_is_one_task(autojump_clock: MockClock) -> None:
    """The second attempt goes on with the task of the first."""
    ledger = Watched()
    attempts: list[object] = []

    def turn(request: object) -> list[Step]:
        attempts.append(request)
        return [Raise(BackendUnavailable("gone", retryable=True))] if len(attempts) == 1 else [TextDelta("ok")]

    async with child(FakeRuntime(turn), ledger) as (_manager, session):
        assert "ok" == str(await session.prompt("x"))
        assert 2 == len(attempts)
        assert ("succeeded", "ok") == ((await ledger.only()).status, (await ledger.only()).progress)
    assert ["running", "succeeded"] == [status for _, status, _ in ledger.said()]


async def test_a_failed_setup_settles_the_task(autojump_clock: MockClock) -> None:
    """If the session cannot be opened, the task that was begun before fails with it."""
    ledger, store = Watched(), MemoryStore()
    async with child(FakeRuntime(), None, store=store):
        pass
    runtime = FakeRuntime(ensure=[Raise(SessionInitFailed("refused"))])
    async with open_session_manager({"fake": runtime}, ledger=ledger, store=store) as manager:
        with pytest.raises(TurnFailed):
            await manager.session("k").prompt("x")
        assert ("failed", "refused") == ((await ledger.only()).status, (await ledger.only()).error)
    assert ["running", "failed"] == [status for _, status, _ in ledger.said()]


async def test_a_session_that_cannot_be_read_has_no_task(autojump_clock: MockClock) -> None:
    """Who the requester is cannot be known then, and nothing is left open."""
    ledger, store = Watched(), AwkwardStore()
    async with open_session_manager({"fake": FakeRuntime()}, ledger=ledger, store=store) as manager:
        store.error = StoreError("unreadable")
        with pytest.raises(TurnFailed):
            await manager.session("k").prompt("x")
        store.error = None
    assert [] == ledger.puts


async def test_a_fault_of_ours_settles_the_task(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even an actor that fails half-way leaves no open task."""
    ledger = Watched()

    async def broken(*args: object) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    async with child(FakeRuntime(), ledger) as (manager, session):
        monkeypatch.setattr("trio_acp._turn.apply_controls", broken)
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert "internal-error" == caught.value.detail
        await wait_all_tasks_blocked()
        assert "failed" == (await ledger.only()).status
        assert 0 == manager.statistics().active


@pytest.mark.parametrize("ledger", [Watched(), None])
async def test_only_sessions_with_a_requester_have_tasks(ledger: Watched | None, autojump_clock: MockClock) -> None:
    """Other sessions, oneshots of `ask`, and managers without a ledger record nothing."""
    async with open_session_manager({"fake": FakeRuntime([TextDelta("a")])}, ledger=ledger) as manager:
        session = await manager.start_session("k", agent="fake", requester=None if ledger else "parent")
        await session.prompt("x")
        await manager.ask("x", agent="fake")
    assert [] == (ledger.puts if ledger else [])


# -- the requester ------------------------------------------------------------


async def test_requester_and_label_are_kept_until_others_are_given(autojump_clock: MockClock) -> None:
    """Starting a stored session again without them leaves them; with them replaces them, live or not."""
    store = MemoryStore()
    async with child(FakeRuntime(), None, store=store) as (manager, _session):
        for requester, label, expected in [
            (None, None, ("parent", "tests")),
            ("A", None, ("a", "tests")),
            (None, " b ", ("a", "b")),
            (None, " ", ("a", "b")),
        ]:
            await manager.start_session("k", agent="fake", requester=requester, label=label)
            record = await store.read("k")
            assert record is not None
            assert expected == (record.requester, record.label)
        with pytest.raises(UsageError):
            await manager.start_session("k", agent="fake", requester=" ")
        await manager.start_session("k", agent="fake", fresh=True)
        record = await store.read("k")
        assert record is not None
        assert (None, None) == (record.requester, record.label)


# -- progress -----------------------------------------------------------------


async def test_progress_is_told_once_a_second_at_most(autojump_clock: MockClock) -> None:
    """Events in between are told together, later; a quiet turn has nothing to tell and no task for it."""
    ledger = Watched()
    steps: list[Step] = [
        TextDelta("a"),
        TextDelta("b"),
        Sleep(0.5),
        TextDelta("c"),
        Sleep(0.6),
        TextDelta("d"),
        Sleep(2),
    ]
    steps += [ToolCall(id="t", title="t"), Sleep(0.5)]
    async with child(FakeRuntime(steps), ledger) as (_manager, session):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "x")
            await trio.sleep(3.05)
            assert [] == [name for name in our_tasks() if "ledger" in name]
        expected = [(0, "running", None), (1, "running", "abc"), (2, "running", "abcd"), (3.1, "running", "abcd")]
        assert [*expected, (3.6, "succeeded", "abcd")] == list(ledger.said())
        assert 1 == ledger.most_at_once


async def test_a_busy_turn_writes_no_more_than_that(autojump_clock: MockClock) -> None:
    """A thousand events in four seconds: the begin, three words in between, the end."""
    ledger = Watched()
    steps: list[Step] = [step for _ in range(1000) for step in (TextDelta("a "), Sleep(0.004))]
    async with child(FakeRuntime(steps), ledger) as (_manager, session):
        await session.prompt("x")
    assert 4 <= len(ledger.puts) <= 6
    assert 1 == ledger.most_at_once


async def test_a_slow_ledger_is_told_the_latest(autojump_clock: MockClock) -> None:
    """While one call is under way there is no other, and what came meanwhile is told afterwards."""
    ledger = Watched()
    ledger.seconds = 1.5
    steps: list[Step] = [TextDelta("a"), Sleep(0.5), TextDelta("b"), Sleep(3.9)]
    async with child(FakeRuntime(steps), ledger) as (_manager, session):
        await session.prompt("x")
        assert "succeeded" == (await ledger.only()).status
    told = [(0, "running", None), (1.5, "running", "ab"), (4.5, "succeeded", "ab")]
    assert told == list(ledger.said())
    assert 1 == ledger.most_at_once


# -- a ledger that does not work ----------------------------------------------


@pytest.mark.parametrize("resist", [False, True])
@pytest.mark.parametrize(
    ("steps", "seconds", "status"),
    [([TextDelta("a")], HEAD_START + C, "succeeded"), ([Hang()], T + G + C, "timed_out")],
)
async def test_a_hung_ledger_changes_no_bound(
    steps: list[Step], seconds: float, status: str, autojump_clock: MockClock, *, resist: bool
) -> None:
    """It takes a moment before the turn, `cleanup` (and `join`, if it resists) beside the ladder; and no outcome."""
    ledger = Watched()
    async with child(FakeRuntime(steps, cancel=[Hang()]), ledger) as (manager, session):
        ledger.seconds, ledger.resist = 50, resist
        outcome = "succeeded"
        try:
            await session.prompt("x")
        except TurnTimedOut:
            outcome = "timed_out"
        assert (status, round(seconds + J * resist, 6)) == (outcome, round(trio.current_time(), 6))
        await trio.sleep(60)
        assert 1 <= manager.statistics().ledger_failures
        ledger.seconds = 0
    assert status == (await ledger.only()).status


async def test_an_end_that_failed_is_told_before_the_next_word(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that raises decides nothing; the next turn of the session makes good for the last one."""
    ledger = Watched()
    async with child(FakeRuntime([TextDelta("a")]), ledger) as (manager, session):
        ledger.error = OSError("disk full")
        assert "a" == str(await session.prompt("first"))
        assert 2 == manager.statistics().ledger_failures
        assert ["WARNING"] == [record.levelname for record in caplog.records]
        ledger.error = None
        await session.prompt("second")
        done = [(task.task, task.status) for _, task in ledger.puts[2:]]
        assert [("first", "succeeded"), ("second", "running"), ("second", "succeeded")] == done
        assert {("first", "succeeded"), ("second", "succeeded")} == {(t.task, t.status) for t in await ledger.list()}
        assert 2 == manager.statistics().ledger_failures


async def test_an_end_that_failed_is_told_at_the_exit(autojump_clock: MockClock) -> None:
    """What is still missing when the manager is left is tried once more."""
    ledger = Watched()
    async with child(FakeRuntime(), ledger) as (_manager, session):
        ledger.error = OSError("disk full")
        await session.prompt("x")
        ledger.error = None
    assert "succeeded" == (await ledger.only()).status


@pytest.mark.parametrize("error", [None, OSError("disk full")])
async def test_the_exit_is_bounded(
    error: Exception | None, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With a ledger that never answers, or only raises, the exit takes `cleanup` at most and says what is lost."""
    ledger = Watched()
    async with child(FakeRuntime(), ledger) as (_manager, session):
        ledger.error, ledger.seconds = error, 0 if error else 1000
        await session.prompt("x")
        start = trio.current_time()
    assert (0 if error else C) == pytest.approx(trio.current_time() - start)
    assert "the ledger lacks the end of 1 tasks" in [record.getMessage() for record in caplog.records]
    assert () == await ledger.list()


async def test_what_is_kept_for_a_broken_ledger_is_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the limit the oldest end is forgotten, and that is logged."""
    monkeypatch.setattr(_background, "MAX_UNWRITTEN", 2)
    ledger = Watched()
    async with child(FakeRuntime(), ledger) as (_manager, session):
        ledger.error = OSError("disk full")
        for text in "abc":
            await session.prompt(text)
        ledger.error = None
    assert ["b", "c"] == sorted(task.task for task in await ledger.list())
    assert 1 == sum(record.levelno == logging.ERROR for record in caplog.records)


# -- everywhere ---------------------------------------------------------------


@pytest.mark.parametrize("seconds", [n / 20 for n in range(1, 64, 3)])
@pytest.mark.parametrize("awkward", ["no", "slow", "raises", "hangs"])
def test_a_caller_cancelled_at_any_time_leaves_one_end(seconds: float, awkward: str) -> None:
    """Whenever the caller goes, and however the ledger is, the ledger has one end of the task in the end."""
    ledger = Watched()

    async def main() -> None:
        runtime = FakeRuntime([TextDelta("a"), Sleep(2), TextDelta("b"), Swallow(0.05)], ensure=[Sleep(0.3)])
        async with child(runtime, ledger, store=MemoryStore()) as (_manager, session):
            await session.close()
            ledger.seconds = {"slow": 0.7, "hangs": 1000}.get(awkward, 0)
            ledger.error = OSError("disk full") if awkward == "raises" else None
            with trio.move_on_after(seconds):
                async with session.turn("x") as turn:
                    await turn._state.settled.wait()
            ledger.seconds, ledger.error = 0, None
        if ledger.puts:
            assert STATUS[type(turn.outcome)] == (await ledger.only()).status
        else:
            assert turn._state.started is None

    run_virtual(main)


async def test_tasks_survive_in_a_file_shared_with_the_store(tmp_path: Path) -> None:
    """The real thing: store and ledger in one SQLite file, one task for each turn."""
    path = tmp_path / "both.db"
    with trio.fail_after(30):
        async with child(FakeRuntime([TextDelta("\ud83d")]), SQLiteLedger(path), store=SQLiteStore(path)) as (
            _,
            session,
        ):
            await session.prompt("x\udcff")
            await session.prompt("y")
        async with SQLiteLedger(path) as ledger:
            found = await ledger.list()
    assert [("x�", "succeeded", "�"), ("y", "succeeded", "�")] == [(t.task, t.status, t.progress) for t in found]
