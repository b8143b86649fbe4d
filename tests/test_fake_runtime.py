"""The runtime without an agent does what its script says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from trio_acp import TextDelta
from trio_acp._permissions import DenyAll
from trio_acp.abc import Done, EnsureRequest, RuntimeStatus, TurnRequest
from trio_acp.testing import FakeHandle, FakeRuntime, Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import Event
    from trio_acp.abc import Handle


class Sink:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event, size: int | None = None) -> bool:
        self.events.append(event)
        return True


def request_for(handle: Handle) -> TurnRequest:
    return TurnRequest(handle=handle, prompt=(), request_id="1", permissions=DenyAll())


ENSURE = EnsureRequest(key="k", mode="persistent", cwd="/x")


async def test_handles_are_numbered_and_resumed_ones_keep_their_id(autojump_clock: MockClock) -> None:
    """Two handles are two objects, whatever their ids."""
    runtime = FakeRuntime()
    first = await runtime.ensure_session(ENSURE)
    second = await runtime.ensure_session(EnsureRequest(key="k", mode="persistent", resume="fake-1"))
    assert isinstance(first, FakeHandle)
    assert isinstance(second, FakeHandle)
    assert ("fake-1", "fake-1", 1, 2) == (first.session_id, second.session_id, first.number, second.number)
    assert {first, second} == runtime.open
    await runtime.close(first, "r")
    assert {second} == runtime.open
    assert runtime.is_alive(second)
    assert not runtime.is_quiet(second)


async def test_a_script_is_played(autojump_clock: MockClock) -> None:
    """Events are sent, functions called, time taken, and a Done ends it."""
    sink = Sink()
    seen: list[object] = []
    runtime = FakeRuntime([TextDelta("a"), Sleep(2), Run(seen.append), Done(stop_reason="refusal"), TextDelta("b")])
    handle = await runtime.ensure_session(ENSURE)
    assert Done(stop_reason="refusal") == await runtime.run_turn(request_for(handle), sink)
    assert ([TextDelta("a")], [sink], 2) == (sink.events, seen, trio.current_time())
    assert ["ensure_session", "run_turn"] == runtime.names()
    assert RuntimeStatus(summary="fake", session_id="fake-1") == await runtime.status(handle)


async def test_a_hanging_turn_stops_when_cancel_has_returned(autojump_clock: MockClock) -> None:
    """Hang(stops=True) waits for the end of `cancel`, not for its call."""
    runtime = FakeRuntime([Hang(stops=True)], cancel=[Sleep(1)])
    handle = await runtime.ensure_session(ENSURE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runtime.cancel, handle, "r")
        assert Done(stop_reason="cancelled") == await runtime.run_turn(request_for(handle), Sink())
    assert (1, {}, {"k": 1}) == (trio.current_time(), runtime.running, runtime.most_at_once)


async def test_swallowing_lasts_as_long_as_it_says(autojump_clock: MockClock) -> None:
    """A scope that gave up after a second gets its task back after five."""
    runtime = FakeRuntime(close=[Swallow(5)])
    handle = await runtime.ensure_session(ENSURE)
    with trio.move_on_after(1):
        await runtime.close(handle, "r")
    assert 5 == trio.current_time()


async def test_mistakes_are_told(autojump_clock: MockClock) -> None:
    """An event outside a turn is no step; a planted error is raised as it is."""
    error = LookupError("planted")
    runtime = FakeRuntime([Raise(error)], close=[TextDelta("x")])
    handle = await runtime.ensure_session(ENSURE)
    with pytest.raises(LookupError) as caught:
        await runtime.run_turn(request_for(handle), Sink())
    assert error is caught.value
    with pytest.raises(TypeError):
        await runtime.close(handle, "r")


async def test_two_turns_at_once_are_noticed(autojump_clock: MockClock) -> None:
    """The highest number of turns that ran together on one key is kept."""
    runtime = FakeRuntime([Sleep(1)])
    handles = [await runtime.ensure_session(ENSURE) for _ in range(2)]
    async with trio.open_nursery() as nursery:
        for handle in handles:
            nursery.start_soon(runtime.run_turn, request_for(handle), Sink())
    assert {"k": 2} == runtime.most_at_once
