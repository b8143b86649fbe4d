"""The trace: its vocabulary, its order, and that listening changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest
import trio

from tests.turn_kit import Recorder, check_trace, one_session
from trio_acp import Completed, TextDelta
from trio_acp._trace import MEANING, TraceName
from trio_acp.abc import Instrument
from trio_acp.testing import FakeRuntime, Hang, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp._trace import TraceRecord
    from trio_acp.abc import Mode


def test_every_name_has_a_meaning() -> None:
    """The type and the table are one list."""
    assert get_args(TraceName) == tuple(MEANING)


async def test_the_records_of_a_good_turn(autojump_clock: MockClock) -> None:
    """A turn on a live session, in order."""
    recorder = Recorder()
    async with one_session(FakeRuntime([TextDelta("a"), TextDelta("b")]), instrument=recorder) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn:
            async for _ in turn:
                pass
    assert [
        "admitted",
        "dequeued",
        "ready",
        "submitted",
        "first_event",
        "cause",
        "decided",
        "settled",
        "released",
    ] == recorder.names(turn.request_id)
    check_trace(recorder)
    [settled] = [record for record in recorder.records if record.name == "settled"]
    assert ("k", {"outcome": "Completed", "by": None, "detail": None}) == (settled.session, settled.data)


@pytest.mark.parametrize("mode", ["persistent", "oneshot"])
async def test_the_records_of_a_ladder(mode: Mode, autojump_clock: MockClock) -> None:
    """Each rung that was needed, in order; a straggler's late end adds nothing to a settled turn."""
    recorder = Recorder()
    runtime = FakeRuntime([Swallow(9)], cancel=[Hang()] if mode == "persistent" else [])
    async with one_session(runtime, mode=mode, instrument=recorder) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn:
            await trio.sleep(1)
    setup = ["admitted", "dequeued", "ready", "submitted", "cause", "decided"]
    ladder = (
        ["ladder.cancel", "ladder.stop", "straggler", "suspect"]
        if mode == "persistent"
        else ["ladder.cancel", "ladder.join", "ladder.stop", "straggler", "ladder.close"]
    )
    assert [*setup, *ladder, "settled", "released"] == recorder.names(turn.request_id)
    check_trace(recorder)


async def test_an_instrument_that_raises_changes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its exceptions are logged; turns go on."""

    class Broken(Instrument):
        def record(self, record: TraceRecord) -> None:
            raise ZeroDivisionError(record.name)

    async with one_session(FakeRuntime(), instrument=Broken()) as (_manager, session):
        assert Completed() == (await session.prompt("x")).outcome
    assert "the instrument failed on settled" in caplog.text
