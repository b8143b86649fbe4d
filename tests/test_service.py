"""Service scopes and shields."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio

from trio_acp._service import ServiceScope, shielded
from trio_acp.explore import Jump, Plan, Scenario, explore

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.explore import Case

pytestmark = pytest.mark.concurrency


def test_a_shield_is_finite() -> None:
    """No shield without a deadline."""
    with pytest.raises(ValueError, match="finite"), shielded(math.inf):
        pass


async def test_a_shield_ends_at_its_deadline(autojump_clock: MockClock) -> None:
    """Inside, outer cancellation is not seen; at the deadline the block ends; after it, it is delivered."""
    with trio.move_on_after(1) as outer:
        with shielded(3) as scope:
            await trio.sleep(10)
        assert (True, 3) == (scope.cancelled_caught, trio.current_time())
        await trio.lowlevel.checkpoint()
    assert outer.cancelled_caught


def test_a_scope_starts_although_the_clock_jumps() -> None:
    """A machine that is suspended while a scope is entered wakes up with it entered, in whichever order tasks go on."""

    async def scene(case: Case) -> None:
        async with ServiceScope("s") as nursery:
            nursery.start_soon(trio.sleep_forever)

    report = explore(Scenario(scene, "scope", (Jump(60),)), Plan(schedules=100, exhaustive=100))
    assert [] == report.findings, str(report)


async def test_service_tasks_outlive_the_cancelled_body(autojump_clock: MockClock) -> None:
    """The body sees the cancellation first; the tasks serve until its cleanup is done, and are then cancelled."""
    served: list[float] = []
    with trio.move_on_after(1) as scope:
        async with ServiceScope("s") as nursery:
            request = trio.Event()

            async def serve() -> None:
                await request.wait()
                await trio.sleep(0.5)
                served.append(trio.current_time())
                await trio.sleep_forever()

            nursery.start_soon(serve)
            try:
                await trio.sleep_forever()
            finally:
                request.set()
                with shielded(2):
                    await trio.sleep(1)
    assert (True, [1.5], 2) == (scope.cancelled_caught, served, trio.current_time())


async def test_entering_when_already_cancelled(autojump_clock: MockClock) -> None:
    """It can be entered, used and left; the body is cancelled at its first checkpoint."""
    with trio.CancelScope() as scope:
        scope.cancel()
        async with ServiceScope("s") as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            pytest.fail("the body went on")
    assert (True, 0) == (scope.cancelled_caught, trio.current_time())


async def test_the_bodys_exception_leaves_bare(autojump_clock: MockClock) -> None:
    """The same object, in no group, with tasks running."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught:
        async with ServiceScope("s") as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            raise error
    assert error is caught.value


async def test_a_task_that_raises_ends_the_body(autojump_clock: MockClock) -> None:
    """Service tasks are written so that it does not happen; if it does, nothing hangs and nothing is lost."""

    async def crash() -> None:
        await trio.sleep(1)
        raise LookupError("crash")

    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        async with ServiceScope("s") as nursery:
            nursery.start_soon(crash)
            await trio.sleep_forever()
    assert 1 == trio.current_time()


async def test_a_resisting_task_is_reported(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving waits for it, and logs where it waits every 5 seconds; its children too."""

    async def parent() -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 12, name="child")
                await trio.sleep(12)

    async with ServiceScope("s") as nursery:
        nursery.start_soon(parent, name="parent")
        await trio.lowlevel.checkpoint()
    assert 12 == trio.current_time()
    assert 4 == len(caplog.messages)
    assert ["parent", "child"] * 2 == [line.split("task ")[1].split()[0] for line in caplog.messages]
    assert "test_service.py" in caplog.messages[0]
