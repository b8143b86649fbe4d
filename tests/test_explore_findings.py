"""What is wrong with a program is found, told as what it is, and never a hang or noise."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.explore_kit import (
    CANCEL,
    LeakyPool,
    check_then_act,
    kinds,
    lost_wake_up,
    report_of,
    scenario,
    woken_but_not_yet_run,
)
from trio_acp.explore import Call, Case, Forbidden, Interrupt, Jump, Plan, Raise, Report, explore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@pytest.fixture(autouse=True)
def _silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing is written, whatever is found."""
    yield
    assert ("", "") == tuple(capfd.readouterr())


def only(report: Report) -> str:
    """Return the one finding, as kind and message."""
    (finding,) = report.findings
    return f"{finding.kind}: {finding.message}"


# -- bugs ---------------------------------------------------------------------


def test_the_hole_between_waking_and_running_is_found_by_strikes() -> None:
    """Who asks `cancelled_caught` misses a cancel that comes when the value was there and not yet taken."""
    report = report_of(woken_but_not_yet_run, Call("stop"))
    assert "a stop was accepted" in only(report)
    (strike,) = report.findings[0].tape.strikes
    assert "call:stop" == strike.action
    assert {} == report.findings[0].tape.deviations


def test_a_lost_wake_up_is_found_by_strikes() -> None:
    """A cancelled waiter that stays in the queue is woken in place of those behind it."""
    report = report_of(lost_wake_up, CANCEL)
    assert "failure: AssertionError" in only(report)
    assert "in lost_wake_up" in only(report)
    assert 1 == len(report.findings[0].tape.strikes)
    assert [] == report_of(lost_wake_up).findings


def test_check_then_act_is_found_by_order_and_not_by_strikes() -> None:
    """The default order never shows it, with whatever strike; random orders and the exhaustive search do."""
    assert [] == report_of(check_then_act, CANCEL, Jump(10)).findings
    for plan in ({"schedules": 300}, {"schedules": 1000, "strategy": "pct"}, {"exhaustive": 500}):
        report = report_of(check_then_act, **plan)
        assert "it was closed while in use" in only(report)
        tape = report.findings[0].tape
        assert () == tape.strikes
        assert 1 <= len(tape.deviations) <= 3


def test_two_faults_are_found_by_pairs_and_not_by_one() -> None:
    """What needs a cut and a cancel is not found by either alone."""

    async def fragile(case: Case) -> None:
        cut = False

        def cuts() -> None:
            nonlocal cut
            cut = True

        case.on("cut", cuts)
        with case.scope:
            await trio.sleep(1)
        await trio.sleep(1)
        assert not (cut and case.scope.cancelled_caught), "both"

    assert [] == report_of(fragile, CANCEL, Call("cut")).findings
    report = report_of(fragile, CANCEL, Call("cut"), pairs=10_000)
    assert "both" in only(report)
    assert {"cancel", "call:cut"} == {strike.action for strike in report.findings[0].tape.strikes}
    some = report_of(fragile, CANCEL, Call("cut"), pairs=40, seed=1)
    assert ["failure"] == kinds(some)


def test_a_deadlock_is_found_with_what_each_task_waits_for() -> None:
    """Nothing can go on and no deadline will change that, with or without shields: no hang."""

    async def embrace(case: Case) -> None:
        first, second = trio.Event(), trio.Event()

        async def one() -> None:
            with trio.CancelScope(shield=True):
                await first.wait()
            second.set()

        async def two() -> None:
            try:
                await second.wait()
            finally:
                first.set()

        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one)
                nursery.start_soon(two)
                await trio.lowlevel.checkpoint()
                second = trio.Event()

    async def embrace_for_ever(case: Case) -> None:
        event = trio.Event()

        async def wait() -> None:
            with trio.CancelScope(shield=True):
                await event.wait()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(trio.sleep_forever)

    assert [] == report_of(embrace).findings
    text = only(report_of(embrace_for_ever, CANCEL))
    assert text.startswith("deadlock: no task can run, and no deadline is pending:\n  main: ")
    assert "\n  wait: test_explore_findings.py:" in text
    assert text.endswith("\n  sleep_forever: sleep_forever")


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_run_that_never_ends_is_found(seconds: float) -> None:
    """Also if time passes meanwhile; and also if only `run_sync_soon` keeps it going."""

    async def spin(case: Case) -> None:
        while True:  # noqa: ASYNC110 - that is the fault
            await trio.sleep(seconds)

    async def spin_soon(case: Case) -> None:
        token = trio.lowlevel.current_trio_token()

        def again() -> None:
            token.run_sync_soon(again)

        again()
        await trio.sleep_forever()

    text = only(report_of(spin))
    assert text.startswith("livelock: more than 2000 steps:\n  main: test_explore_findings.py:")
    assert only(report_of(spin_soon)).startswith("livelock: more than 2000 calls of TrioToken.run_sync_soon")


def test_what_a_callback_raises_is_found() -> None:
    """A function that was registered with `Case.on`, or names the state, is not to raise."""
    events: dict[str, int] = {}

    async def calling(case: Case) -> None:
        case.on("bad", lambda: events["key"])
        await trio.sleep(1)

    async def naming(case: Case) -> None:
        await trio.sleep(1)
        case.state(lambda: str(1 // 0))
        await trio.sleep(1)

    assert "failure: call:bad raised KeyError: 'key', at test_explore" in only(report_of(calling, Call("bad")))
    assert "failure: naming the state raised ZeroDivisionError" in only(report_of(naming))


# -- leaks --------------------------------------------------------------------


async def leak_system_task(case: Case) -> None:
    trio.lowlevel.spawn_system_task(trio.sleep_forever)
    await trio.sleep(1)


async def leak_generator(case: Case) -> None:
    async def numbers() -> AsyncIterator[int]:
        await trio.lowlevel.checkpoint()
        yield 1
        yield 2

    kept = numbers()
    vars(case)["kept"] = kept
    async for _ in kept:
        break


async def leak_coroutine(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    _ = trio.sleep(1)  # noqa: ASYNC105 - that is the fault


async def leak_coroutine_in_a_circle(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    circle: list[Any] = [trio.sleep(1)]  # noqa: ASYNC105 - that is the fault
    circle.append(circle)


async def leak_unraisable(case: Case) -> None:
    class Bad:
        def __del__(self) -> None:
            raise ValueError("in __del__")

    circle: list[Any] = [Bad()]
    circle.append(circle)
    await trio.sleep(1)


async def leak_descriptor(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    DESCRIPTORS.append(os.open(os.devnull, os.O_RDONLY))


async def leak_file(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    open(os.devnull)  # noqa: PTH123, SIM115, ASYNC230 - that is the fault


DESCRIPTORS: list[int] = []


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (leak_system_task, "the task sleep_forever still runs"),
        (leak_generator, "the async generator leak_generator.<locals>.numbers is neither exhausted nor closed"),
        (leak_coroutine, "RuntimeWarning: coroutine 'sleep' was never awaited"),
        (leak_coroutine_in_a_circle, "RuntimeWarning: coroutine 'sleep' was never awaited"),
        (leak_unraisable, "in leak_unraisable.<locals>.Bad.__del__ had nowhere to go: ValueError('in __del__')"),
        (leak_descriptor, "file descriptors were not closed: 1"),
        (leak_file, "ResourceWarning: unclosed file"),
    ],
)
def test_a_leak_is_found(function: Callable[[Case], Awaitable[None]], message: str) -> None:
    """Tasks, generators, coroutines, descriptors, exceptions that nobody gets: each is told, once."""
    report = report_of(function, max_findings=9)
    for descriptor in DESCRIPTORS:
        os.close(descriptor)
    DESCRIPTORS.clear()
    assert ["leak"] == kinds(report)
    assert message in report.findings[0].message


def test_what_is_no_leak_is_none() -> None:
    """Other warnings go where they always go, and generators that end are forgotten."""

    async def clean(case: Case) -> None:
        async def numbers() -> AsyncIterator[int]:
            await trio.lowlevel.checkpoint()
            yield 1

        async for _ in numbers():
            await trio.lowlevel.checkpoint()
        with pytest.warns(UserWarning, match="of the scenario"):
            _warn()
        with trio.move_on_after(1):
            await trio.sleep_forever()

    assert [] == report_of(clean).findings


def _warn() -> None:
    import warnings

    warnings.warn("of the scenario", stacklevel=2)


# -- refusals -----------------------------------------------------------------


async def use_thread(case: Case) -> None:
    await trio.to_thread.run_sync(int)


async def use_plain_thread(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    threading.Thread(target=int).start()


async def use_socket(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    socket.socketpair()


async def use_trio_socket(case: Case) -> None:
    await trio.open_tcp_stream("127.0.0.1", 9)


async def use_process(case: Case) -> None:
    await trio.run_process(["true"])


async def use_plain_process(case: Case) -> None:
    await trio.lowlevel.checkpoint()
    subprocess.run(["true"], check=False)  # noqa: ASYNC221 - that is the fault


async def swallow(case: Case) -> None:
    try:
        socket.socket()
    except Exception:  # noqa: BLE001 - that is the fault
        await trio.sleep(1)


async def swallow_and_hang(case: Case) -> None:
    try:
        socket.socket()
    except Exception:  # noqa: BLE001 - that is the fault
        await trio.sleep_forever()


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (use_thread, "it uses a thread|it starts a thread"),
        (use_plain_thread, "it starts a thread"),
        (use_socket, "it makes a real socket; connect its ends with"),
        (use_trio_socket, "it makes a real socket|thread"),
        (use_process, "it starts a process|it .* a thread|it waits for a file descriptor"),
        (use_plain_process, "it starts a process"),
        (swallow, "it makes a real socket"),
        (swallow_and_hang, "it makes a real socket"),
    ],
)
def test_what_virtual_time_cannot_control_is_refused(function: Callable[[Case], Awaitable[None]], why: str) -> None:
    """Threads, sockets and processes are prevented, and told even if the scenario swallows that."""
    with pytest.raises(Forbidden, match=f"{function.__name__} cannot be explored: ({why})"):
        report_of(function)


def test_a_thread_that_waits_for_work_is_refused_too() -> None:
    """A worker thread of an earlier run is used without being started, and yet it is seen."""

    async def warm_up() -> None:
        await trio.to_thread.run_sync(int)

    async def use_it(case: Case) -> None:
        with trio.move_on_after(5):
            await trio.to_thread.run_sync(time.sleep, 0.02)

    trio.run(warm_up)
    with pytest.raises(Forbidden, match="it uses a thread"):
        report_of(use_it)


def test_a_socket_from_outside_is_refused_when_it_is_waited_for() -> None:
    """With a deadline or without: time must not pass it by."""
    ours, theirs = socket.socketpair()

    async def wait(case: Case) -> None:
        with trio.move_on_after(5):
            await trio.lowlevel.wait_readable(ours)

    async def wait_for_ever(case: Case) -> None:
        await trio.lowlevel.wait_readable(ours)

    with ours, theirs:
        for function in (wait, wait_for_ever):
            with pytest.raises(Forbidden, match="it waits for a file descriptor"):
                report_of(function)


# -- actions ------------------------------------------------------------------


def test_an_interrupt_is_delivered_as_trio_does_it() -> None:
    """At every step, in either phase, the scenario's own task gets it once, at a checkpoint; that is no failure."""
    outcomes: list[str] = []

    async def interrupted(case: Case) -> None:
        async def child() -> None:
            await trio.sleep(1)

        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(child)
                    await trio.sleep(0.5)
        except* KeyboardInterrupt:
            outcomes.append("interrupted")
            raise
        outcomes.append("ended")

    before = signal.getsignal(signal.SIGINT)
    report = report_of(interrupted, Interrupt())
    assert [] == report.findings
    assert before is signal.getsignal(signal.SIGINT)
    assert ["ended", "ended"] == outcomes[:2]
    assert outcomes.count("interrupted") >= report.schedules["strike"] - 4


def test_what_an_interrupt_breaks_is_found() -> None:
    """The rest of a group that an interrupt is in, and what is raised in its place, are failures."""

    async def breaks(case: Case) -> None:
        try:
            await trio.sleep(1)
        except KeyboardInterrupt:
            raise ValueError("cleanup") from None

    assert "failure: ValueError: cleanup" in only(report_of(breaks, Interrupt()))


def test_an_interrupt_by_a_person_ends_the_exploration() -> None:
    """It is not taken for one of the explorer's."""

    async def pressed(case: Case) -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        report_of(pressed, CANCEL)


class Api:
    """Something to be patched."""

    def plain(self, value: int) -> int:
        """Return the value."""
        return value

    @staticmethod
    def static(value: int) -> int:
        """Return the value."""
        return value

    @classmethod
    def of_class(cls, value: int) -> int:
        """Return the value."""
        return value

    async def later(self, value: int) -> int:
        """Return the value."""
        await trio.lowlevel.checkpoint()
        return value


class Child(Api):
    """Inherits what is patched."""


@pytest.mark.parametrize("owner", [Api, Child])
@pytest.mark.parametrize("attribute", ["plain", "static", "of_class", "later"])
def test_a_callable_raises_at_each_of_its_entries(owner: type[Api], attribute: str) -> None:
    """One entry in each run, every entry in some run; afterwards everything is as it was, inherited or not."""
    before = dict(vars(owner))
    raised: list[tuple[int, ...]] = []

    async def calls(case: Case) -> None:
        failed = []
        for number in range(3):
            try:
                result = getattr(owner(), attribute)(number)
                assert number == (await result if attribute == "later" else result)
            except OSError:
                failed.append(number)
        raised.append(tuple(failed))

    report = report_of(calls, Raise(owner, attribute, lambda: OSError("injected")))
    assert [] == report.findings
    assert [(), (), (0,), (1,), (2,)] == raised
    assert before == dict(vars(owner))


def test_a_raise_says_where_it_happened() -> None:
    """The tape has the number of the entry, and the program shows it."""

    async def calls(case: Case) -> None:
        for number in range(3):
            Api().plain(number)
            await trio.sleep(1)

    report = report_of(calls, Raise(Api, "plain", lambda: OSError("injected")), max_findings=3)
    assert "failure: OSError: injected, at test_explore_findings.py:" in only(report)
    assert 2 == report.repeated
    assert ">>>>  raise:Api.plain, at entry 1" in str(report)


def test_a_cancel_gives_its_reason_and_spares_what_comes_after_the_scope() -> None:
    """It lands in the scope of interest, also before that is entered; without one, in the whole scenario."""
    caught: set[bool] = set()

    async def scoped(case: Case) -> None:
        with case.scope as scope:
            await trio.sleep(1)
        caught.add(scope.cancelled_caught)
        await trio.sleep(1)
        assert 1 <= trio.current_time() <= 2

    async def whole(case: Case) -> None:
        for _ in range(3):
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                reasons.append(str(error))
                raise
        await trio.lowlevel.checkpoint()

    assert [] == report_of(scoped, CANCEL).findings
    assert {False, True} == caught
    reasons: list[str] = []
    assert [] == report_of(whole, CANCEL).findings
    assert all("explored" in reason for reason in reasons)
    assert 6 <= len(reasons)


# -- budgets and reports ------------------------------------------------------


async def harmless(case: Case) -> None:
    where = "before"
    case.state(lambda: where)
    await trio.sleep(1)
    where = "middle"
    await trio.sleep(1)
    where = "after"


def test_budgets_are_kept() -> None:
    """No more runs, seconds or findings than planned; what was not tried is not called complete."""
    report = report_of(harmless, CANCEL, max_schedules=4)
    assert 4 == report.total
    assert [] == report.complete
    assert 0 == report_of(harmless, CANCEL, seconds=0).total
    assert {"undisturbed": 2, "strike": 1} == dict(report_of(check_then_act, CANCEL, strikes=1).schedules)
    many = report_of(lost_wake_up, CANCEL, max_findings=5, schedules=100)
    assert 1 == len(many.findings)
    assert many.repeated > 1


def test_the_report_tells_which_action_met_which_state() -> None:
    """The table has a row for each state, also for one that nothing met, and a column for each action."""
    report = report_of(harmless, CANCEL, Jump(3))
    assert ["strike"] == report.complete
    assert ["", "before", "middle", "after"] == report.states
    assert "state   cancel  jump:3\n(none)       1       1\nbefore       2       2\n" in str(report)
    sampled = report_of(harmless, CANCEL, Jump(3), strikes=1)
    assert {(state, action) for state in report.states for action in ("cancel", "jump:3")} == set(sampled.coverage)
    assert sampled.schedules["strike"] == 8 < report.schedules["strike"]


def test_progress_is_told_after_each_run() -> None:
    """It gets the report as it grows; it may explore something else meanwhile."""
    totals: list[int] = []

    def progress(report: Report) -> None:
        totals.append(report.total)
        assert [] == report_of(harmless).findings

    explore(scenario(harmless, CANCEL), Plan(), progress=progress)
    assert list(range(1, len(totals) + 1)) == totals


def test_memory_does_not_grow_with_the_runs() -> None:
    """What a run has made is gone before the next but one."""
    import gc

    counts: list[int] = []

    def progress(report: Report) -> None:
        if report.total in (50, 250):
            gc.collect()
            counts.append(len(gc.get_objects()))

    async def much(case: Case) -> None:
        pool = LeakyPool(2)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pool.acquire)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    explore(scenario(much), Plan(schedules=300), progress=progress)
    first, second = counts
    assert second - first < 400
