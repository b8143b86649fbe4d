"""Calls into code that is not trusted to end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from trio_acp._calls import Call, Calls

if TYPE_CHECKING:
    from trio.testing import MockClock

pytestmark = pytest.mark.concurrency


async def value_after(seconds: float, *, resist: bool = False) -> str:
    with trio.CancelScope(shield=resist):
        await trio.sleep(seconds)
    return "value"


async def test_a_call_that_returns(autojump_clock: MockClock) -> None:
    """Its value is there, its waiter is told once, waiting again costs nothing."""
    ended: list[float] = []
    async with trio.open_nursery() as nursery:
        call: Call[str] = Calls(nursery, 0.1).start(
            "x", value_after, 1, on_end=lambda: ended.append(trio.current_time())
        )
        assert not await call.wait(0.5)
        assert await call.wait(2)
        assert await call.wait(0)
        assert (True, "value", [1.0]) == (call.ok, call.value, ended)


async def test_a_call_that_raises(autojump_clock: MockClock) -> None:
    """Its error is kept, not raised; its siblings live on."""

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("foreign")

    async with trio.open_nursery() as nursery:
        calls = Calls(nursery, 0.1)
        other: Call[str] = calls.start("other", value_after, 1)
        call: Call[None] = calls.start("x", fail)
        await call.wait(10)
        assert isinstance(call.error, LookupError)
        assert not call.ok
        assert await other.wait(10)


async def test_stopping_gives_join_seconds_to_all_together(autojump_clock: MockClock) -> None:
    """Two resisting calls cost one join; both are stragglers until they end, and their values are discarded."""
    discarded: list[str] = []
    async with trio.open_nursery() as nursery:
        calls = Calls(nursery, 0.1)
        stubborn: list[Call[str]] = [
            calls.start("x", lambda: value_after(3, resist=True), discard=discarded.append) for _ in range(2)
        ]
        polite: Call[str] = calls.start("y", value_after, 3, discard=discarded.append)
        await trio.sleep(1)
        assert not await calls.stop(*stubborn, polite, reason="enough")
        assert (1.1, 2, 2, True) == (trio.current_time(), calls.straggled, calls.stragglers_now, polite.finished)
        assert not polite.ok
        await trio.sleep(5)
        assert (["value"] * 2, 2, 0) == (discarded, calls.straggled, calls.stragglers_now)


async def test_stopping_a_call_that_has_ended_discards_its_value_once(autojump_clock: MockClock) -> None:
    """The value that nobody took is handed to `discard`, one time."""
    discarded: list[str] = []
    async with trio.open_nursery() as nursery:
        calls = Calls(nursery, 0.1)
        call: Call[str] = calls.start("x", value_after, 1, discard=discarded.append)
        await call.wait(5)
        assert await calls.stop(call, reason="enough")
        assert await calls.stop(call, reason="again")
        assert ["value"] == discarded


async def test_an_abandoned_call_that_fails_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for its error any more, so it goes to the log."""

    async def fail_late() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(2)
        raise LookupError("late")

    async with trio.open_nursery() as nursery:
        calls = Calls(nursery, 0.1)
        call: Call[None] = calls.start("x", fail_late)
        await trio.sleep(1)
        await calls.stop(call, reason="enough")
    assert "the abandoned call x ended with LookupError('late')" in caplog.text
