"""The task of a busy lane: when there is one, and what is left of a request however it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.turn_kit import one_session, our_tasks
from trio_acp import TurnFailed
from trio_acp._actor import Actor
from trio_acp._requests import Control
from trio_acp.testing import FakeRuntime, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock

pytestmark = pytest.mark.concurrency


async def test_an_idle_session_has_no_task(autojump_clock: MockClock) -> None:
    """A lane has one actor, from its first request to its last, however many there are; an idle one has none."""

    def actors() -> list[str]:
        return [name for name in our_tasks() if name.startswith("trio_acp actor ")]

    async with one_session(FakeRuntime([Sleep(1)])) as (_manager, session):
        await wait_all_tasks_blocked()
        assert [] == actors()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(session.prompt, "x")
            await wait_all_tasks_blocked()
            assert ["trio_acp actor k"] == actors()
        await wait_all_tasks_blocked()
        assert [] == actors()


async def test_a_request_is_settled_however_its_actor_ends(autojump_clock: MockClock) -> None:
    """The actor itself is cancelled, as nothing of ours ever does: whoever waits for its request is told at once."""

    async def forever(_: Control) -> None:
        await trio.sleep_forever()

    async with one_session(FakeRuntime()) as (_manager, session):
        control = Control("k", "1", forever)
        assert session._ctx.queue.admit("k", control)
        with trio.move_on_after(1) as scope:
            await Actor(session._ctx, "k").serve()
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        assert control.settled.is_set()
        assert isinstance(control.error, TurnFailed)
        assert "internal-error" == control.error.detail
