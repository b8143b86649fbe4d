"""A run of the explorer is a run of Trio: nothing changes but who goes on when, and every order can be had."""

from __future__ import annotations

import contextvars
import functools
import math
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import trio_acp.explore._steering
from tests.explore_kit import CANCEL, kinds, report_of, scenario, workers
from trio_acp.explore import Case, Jump, Plan, Strike, Unsteerable, explore
from trio_acp.explore._guard import Guard
from trio_acp.explore._run import run_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trio_acp.explore._steered import SteeredCoroutine
    from trio_acp.explore._steering import Steering


def seen(function: Callable[[Case], Awaitable[Any]], *actions: Any, **plan: Any) -> list[Any]:
    """Explore a function; return what its runs have returned."""
    results: list[Any] = []
    keep = results.append  # of which pruning sees no more than that it is a function

    async def returning(case: Case) -> None:
        keep(await function(case))

    report = explore(scenario(returning, *actions), Plan(**plan))
    assert [] == [str(finding) for finding in report.findings]
    return results


def test_tasks_go_on_in_the_order_in_which_they_could() -> None:
    """The default order is first come, first served; of those that come together, the eldest is first."""

    async def run(case: Case) -> list[int]:
        log: list[int] = []
        await workers(3, 2, log)
        return log

    assert [[0, 1, 2, 0, 1, 2]] * 2 == seen(run)


@pytest.mark.parametrize(("count", "steps", "orders"), [(2, 1, 6), (2, 2, 20), (3, 1, 90)])
def test_every_order_is_had_once(count: int, steps: int, orders: int) -> None:
    """An exhaustive search without pruning makes each interleaving of the tasks' steps, and none twice."""

    async def run(case: Case) -> list[int]:
        log: list[int] = []

        async def work(number: int) -> None:
            log.append(number)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
                log.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(work, number)
        return log

    logs = [tuple(log) for log in seen(run, exhaustive=1000, prune=False)][2:]
    assert orders == len(logs) == len(set(logs))
    assert orders == math.factorial(count * (steps + 1)) // math.factorial(steps + 1) ** count


def test_an_exhaustive_search_says_that_it_is_complete_when_its_budget_is_exact() -> None:
    """The last order counts, also if nothing is left of the budget after it."""

    async def run(case: Case) -> None:
        await workers(2, 1, [])

    complete = report_of(run, exhaustive=1000, prune=False)
    orders = complete.schedules["exhaustive"]
    assert "exhaustive" in complete.complete
    assert "exhaustive" in report_of(run, exhaustive=orders, prune=False).complete
    assert "exhaustive" not in report_of(run, exhaustive=orders - 1, prune=False).complete


def test_pruning_saves_runs_and_keeps_outcomes() -> None:
    """States met before are not opened again; every final state is still reached."""

    async def run(case: Case) -> tuple[int, str]:
        count, last = 0, ""

        async def work(name: str) -> None:
            nonlocal count, last
            await trio.lowlevel.checkpoint()
            count += 1
            last = name

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(work, name)
        return count, last

    every = seen(run, exhaustive=10_000, prune=False)
    some = seen(run, exhaustive=10_000)
    assert {(3, "a"), (3, "b"), (3, "c")} == set(every) == set(some)
    assert len(some) < len(every) * 2 / 3


def test_runs_are_the_same_again() -> None:
    """With one seed everything that is drawn comes out again, whatever Trio draws by lot meanwhile."""

    async def run(case: Case) -> list[int]:
        log: list[int] = []
        await workers(4, 3, log)
        return log

    first = seen(run, CANCEL, schedules=30, strikes=0, seed=5)
    assert first == seen(run, CANCEL, schedules=30, strikes=0, seed=5)
    assert first != seen(run, CANCEL, schedules=30, strikes=0, seed=6)
    assert len({tuple(log) for log in first}) > 10


@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_random_orders_reach_the_opposite_of_the_default_one(strategy: str) -> None:
    """Both strategies let the last task finish first, sooner or later."""

    async def run(case: Case) -> None:
        log: list[int] = []
        await workers(3, 2, log)
        assert [2, 2] != log[:2]

    report = report_of(run, schedules=300, strategy=strategy)
    assert ["failure"] == kinds(report)


def test_what_is_given_to_run_sync_soon_has_one_order() -> None:
    """Trio's own tasks never share a turn of its loop with a step, so that no lot decides between them."""

    async def run(case: Case) -> list[str]:
        log: list[str] = []
        token = trio.lowlevel.current_trio_token()

        async def other() -> None:
            for _ in range(4):
                log.append("step")
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await trio.lowlevel.checkpoint()
            token.run_sync_soon(log.append, "soon")
            await trio.sleep(1)
            token.run_sync_soon(lambda: log.append(f"soon at {trio.current_time():g}"))
            await trio.sleep(5)
        return log

    results = [log for _ in range(10) for log in seen(run)]
    assert [results[0]] * 20 == results
    assert "soon at 1" in results[0]


def test_time_is_virtual() -> None:
    """It passes at once, and only when no task can go on; every deadline on the way is kept."""

    async def run(case: Case) -> list[float]:
        times: list[float] = []

        async def at(seconds: float) -> None:
            await trio.sleep(seconds)
            times.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for seconds in (86400, 2, 0.5):
                nursery.start_soon(at, seconds)
            with trio.move_on_after(10):
                await trio.sleep_forever()
            times.append(trio.current_time())
        return times

    assert [[0.5, 2, 10, 86400]] * 2 == seen(run)


@pytest.mark.parametrize(("cushion", "expected"), [(0.0, (5, 0.0)), (0.01, (6, 0.015))])
def test_waiting_for_all_tasks_to_be_blocked_works(cushion: float, expected: tuple[int, float]) -> None:
    """It ends when nothing else can go on, before any time passes but its cushion, and not before that."""

    async def run(case: Case) -> tuple[int, float]:
        steps = 0

        async def busy() -> None:
            nonlocal steps
            for _ in range(5):
                steps += 1
                await trio.lowlevel.checkpoint()
            await trio.sleep(0.005)
            steps += 1
            await trio.sleep(50)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
            await trio.testing.wait_all_tasks_blocked(cushion)
            result = steps, round(trio.current_time(), 6)
            nursery.cancel_scope.cancel()
        return result

    assert [expected] * 2 == seen(run)


def test_cancellation_is_level_triggered_and_stops_at_shields() -> None:
    """Whatever the order, a cancelled scope stays cancelled, and a shield holds until its own deadline."""

    async def run(case: Case) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(3):
                with pytest.raises(trio.Cancelled):
                    await trio.lowlevel.checkpoint()
            with trio.move_on_after(2, shield=True) as shield:
                await trio.sleep_forever()
            assert shield.cancelled_caught
            assert 2 == trio.current_time()
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught

    seen(run)


def test_a_value_in_hand_is_not_lost_to_a_cancel() -> None:
    """A task that was woken before the cancel gets what it was woken with, and is cancelled where it waits next."""

    async def run(case: Case) -> list[str]:
        send, receive = trio.open_memory_channel[str](0)
        log: list[str] = []

        async def sender() -> None:
            await send.send("value")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender)
            with case.scope:
                log.append(await receive.receive())
                await trio.lowlevel.checkpoint()
                log.append("not cancelled")
            nursery.cancel_scope.cancel()
        return log

    results = [tuple(log) for log in seen(run, CANCEL)]
    assert {(), ("value",), ("value", "not cancelled")} == set(results)


async def child(*, fail: bool, task_status: trio.TaskStatus[int]) -> None:
    """Start with a value, or fail to."""
    await trio.lowlevel.checkpoint()
    if fail:
        raise ValueError
    task_status.started(7)
    await trio.sleep(1)


async def hold(lock: trio.Lock, tasks: list[trio.lowlevel.Task], *, task_status: trio.TaskStatus[None]) -> None:
    """Acquire a lock, and never release it."""
    tasks.append(trio.lowlevel.current_task())
    await lock.acquire()
    task_status.started()
    await trio.sleep(1)


def test_a_task_that_starts_moves_on_as_in_trio() -> None:
    """`nursery.start`, with values and failures, and with a cancel at every step of it."""

    async def run(case: Case) -> None:
        async with trio.open_nursery() as nursery:
            with case.scope:
                assert 7 == await nursery.start(functools.partial(child, fail=False))
                with pytest.raises(ValueError):
                    await nursery.start(functools.partial(child, fail=True))

    seen(run, CANCEL, schedules=50)


def test_exceptions_leave_as_they_are() -> None:
    """Groups keep their shape, causes and contexts; what the scenario raises is what is reported."""

    async def run(case: Case) -> None:
        async def fail(error: Exception) -> None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise error from KeyError("why")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, ValueError("one"))
            nursery.start_soon(fail, TypeError("two"))

    (finding,) = report_of(run).findings
    error = finding.error
    assert isinstance(error, ExceptionGroup)
    assert [ValueError, TypeError] == [type(member) for member in error.exceptions]
    assert isinstance(error.exceptions[0].__cause__, KeyError)
    assert "ValueError: one, at test_explore_runs.py:" in finding.message


def test_context_variables_belong_to_tasks() -> None:
    """Each task has its own context, also while others run between its steps."""
    variable = contextvars.ContextVar("variable", default=0)

    async def run(case: Case) -> None:
        async def set_and_get(value: int) -> None:
            assert 1 == variable.get()
            variable.set(value)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                assert value == variable.get()

        variable.set(1)
        async with trio.open_nursery() as nursery:
            for value in range(2, 5):
                nursery.start_soon(set_and_get, value)

    seen(run, schedules=30)


def test_a_task_can_be_looked_at_while_it_is_held() -> None:
    """`iter_await_frames`, the state of the coroutine, and a lock whose owner has died, which Trio finds by it."""

    async def run(case: Case) -> None:
        lock = trio.Lock()
        tasks: list[trio.lowlevel.Task] = []

        async with trio.open_nursery() as nursery:
            await nursery.start(hold, lock, tasks)
            (task,) = tasks
            assert "sleep" in [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
            assert hold.__code__ is task.coro.cr_code
            with pytest.raises(trio.BrokenResourceError):
                await lock.acquire()

    seen(run)


def test_a_system_task_is_a_task() -> None:
    """What the scenario starts with `spawn_system_task` is steered, and what it raises is a failure."""

    async def run(case: Case) -> None:
        async def fail() -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError("system")

        trio.lowlevel.spawn_system_task(fail)
        await trio.sleep(1)

    report = report_of(run)
    assert "Trio crashed: ValueError: system, at test_explore_runs.py" in report.findings[0].message


def test_a_jump_lets_time_pass_at_once() -> None:
    """All deadlines on the way expire together; time never goes back."""

    async def run(case: Case) -> float:
        with trio.move_on_after(5):
            await trio.sleep(1)
            await trio.sleep(1)
        return trio.current_time()

    times = seen(run, Jump(100))
    assert [2, 2] == times[:2]
    assert 100 in times
    assert 102 in times


class Youngest:
    """A schedule: of those that could go on, whoever came last."""

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Return the last position."""
        return len(parked) - 1


def test_who_is_woken_by_a_strike_between_two_steps_may_go_on_at_once() -> None:
    """Before the next task is chosen, what the strike has woken is among those that could be."""

    async def run(case: Case) -> None:
        async def busy() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
            nursery.start_soon(busy)
            with case.scope:
                await trio.sleep(1)

    guard = Guard()
    with guard.watching():
        result = run_once(scenario(run, CANCEL), Youngest(), guard, strikes=[Strike("cancel", 1, "after")])
    assert ["main", "busy[1]", "main"] == [result.tasks[task] for _, task in result.trail][:3]


@pytest.mark.parametrize(
    "decide",
    [
        lambda numbers: random.SystemRandom().random() < 0.5,
        lambda numbers: time.perf_counter_ns() % 2 == 0,
        lambda numbers: hash(object()) // 16 % 2 == 0,
        lambda numbers: next(numbers) % 2 == 0,
    ],
    ids=["random", "time", "hash", "state"],
)
def test_nondeterminism_is_found(decide: Callable[[Any], bool]) -> None:
    """A scenario that a clock, random numbers, addresses or an earlier run decide is told so, with the step."""
    numbers = iter(range(10_000))
    keep: list[object] = []

    async def run(case: Case) -> None:
        for _ in range(20):
            keep.append(object())  # so that addresses are not the same again
            await trio.sleep(1 if decide(numbers) else 0)
        next(numbers, None)

    report = report_of(run, CANCEL)
    assert ["nondeterminism"] == kinds(report)
    assert "two runs differ before anything was done, at step" in report.findings[0].message


def test_names_by_chance_are_no_difference() -> None:
    """Tasks named with a UUID, in either form, or with an address, are the same tasks in each run."""

    async def run(case: Case) -> None:
        async with trio.open_nursery() as nursery:
            for name in (uuid.uuid4().hex, f"job {uuid.uuid4()} of two", repr(object())):
                nursery.start_soon(trio.lowlevel.checkpoint, name=name)

    assert [] == report_of(run, CANCEL).findings


def test_a_scenario_knows_when_it_was_struck() -> None:
    """The time of each strike is the virtual time at which it was made."""

    async def run(case: Case) -> list[tuple[str, float]]:
        with case.scope:
            await trio.sleep(2)
            await trio.sleep(3)
        return [(strike.phase, time) for strike, time in zip(case.strikes, case.times, strict=True)]

    told = seen(run, CANCEL)
    assert [("before", 0.0)] in told
    assert [("after", 2.0)] in told
    assert [("before", 5.0)] in told


def test_a_trio_that_cannot_be_steered_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """If `Task.coro` is no longer what Trio runs, exploring ends with that, and not with wrong results."""

    async def run(case: Case) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio_acp.explore._steering.Steering, "task_spawned", lambda self, task: None)
    with pytest.raises(Unsteerable, match=r"Task\.coro"):
        report_of(run)
