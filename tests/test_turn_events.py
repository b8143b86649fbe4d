"""G7: what a consumer gets, when it ends, and what leaving early does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from tests.turn_kit import LIMITS, C, T, one_session
from trio_acp import (
    Completed,
    Failed,
    InvalidOption,
    Settings,
    Stopped,
    TextDelta,
    ToolCall,
    TurnFailed,
    TurnTimedOut,
    Usage,
    UsageError,
)
from trio_acp.abc import Done
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import EventSink, TurnRequest
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency


async def test_events_arrive_in_order_and_iteration_ends(autojump_clock: MockClock) -> None:
    """Every event once, in order, then a normal end; the reply is there too."""
    call = ToolCall(id="1", title="ls")
    done = ToolCall(id="1", title="ls", status="completed")
    usage = Usage(used=1, size=9)
    script: list[Step] = [TextDelta("a"), call, Sleep(1), TextDelta("b"), done, usage]
    async with one_session(FakeRuntime(script)) as (_manager, session):
        turn = session.turn("x")
        assert (None, None) == (turn.outcome, turn.reply)
        async with turn:
            assert [TextDelta("a"), call, TextDelta("b"), done, usage] == [event async for event in turn]
            assert [] == [event async for event in turn]
        assert turn.reply is not None
        assert ("ab", Completed(), usage, (done,)) == (
            str(turn.reply),
            turn.reply.outcome,
            turn.reply.usage,
            turn.reply.tool_calls,
        )


async def test_a_usage_in_the_answer_counts(autojump_clock: MockClock) -> None:
    """The answer's usage is the last one."""
    usage = Usage(used=2, size=9)
    script: list[Step] = [Usage(used=1, size=9), Done(stop_reason="max_tokens", usage=usage)]
    async with one_session(FakeRuntime(script)) as (_manager, session):
        reply = await session.prompt("x")
    assert (Completed("max_tokens"), usage) == (reply.outcome, reply.usage)


async def test_nothing_is_accepted_after_the_turn_settled(autojump_clock: MockClock) -> None:
    """A sink kept by the adapter answers False once the turn is over, and the consumer sees nothing of it."""
    sinks: list[EventSink | None] = []
    async with one_session(FakeRuntime([TextDelta("a"), Run(sinks.append)])) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn:
            await trio.sleep(1)
            assert Completed() == turn.outcome
            assert sinks[0] is not None
            assert not sinks[0].send(TextDelta("late"))
            assert [TextDelta("a")] == [event async for event in turn]


@pytest.mark.parametrize("by", ["caller", "closed", "deadline"])
async def test_the_gate_closes_with_the_cause(by: str, autojump_clock: MockClock) -> None:
    """After these causes nothing more is accepted, although the ladder still runs."""
    sinks: list[EventSink | None] = []
    async with one_session(FakeRuntime([Run(sinks.append), Hang()], cancel=[Hang()])) as (_manager, session):
        turn = session.turn("x", timeout=1)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:

                async def check() -> None:
                    await trio.sleep_until(2.5 if by == "deadline" else 1)
                    if by == "caller":
                        scope.cancel()
                    elif by == "closed":
                        nursery.start_soon(session.close)
                    await trio.sleep(0.5)
                    assert sinks[0] is not None
                    assert not sinks[0].send(TextDelta("late"))
                    assert turn.outcome is None

                nursery.start_soon(check)
                try:
                    async with turn:
                        async for _ in turn:
                            pytest.fail("nothing was sent")
                except TurnTimedOut:
                    assert "deadline" == by


async def test_a_user_cancel_leaves_the_gate_open_until_the_turn_settled(autojump_clock: MockClock) -> None:
    """What the agent still tells while it stops is delivered."""
    sinks: list[EventSink | None] = []

    def last_words(_: object) -> None:
        assert sinks[0] is not None
        assert sinks[0].send(TextDelta("last words"))

    runtime = FakeRuntime([Run(sinks.append), Hang(stops=True)], cancel=[Sleep(0.5), Run(last_words)])
    async with one_session(runtime) as (_manager, session), session.turn("x") as turn:
        await trio.sleep(1)
        turn.cancel()
        assert [TextDelta("last words")] == [event async for event in turn]


async def test_accepted_events_stay_readable_until_the_block_is_left(autojump_clock: MockClock) -> None:
    """Settling does not wait for the consumer, and takes nothing from it; leaving does."""
    async with one_session(FakeRuntime([TextDelta("a"), TextDelta("b")])) as (_manager, session):
        async with session.turn("x") as turn:
            await trio.sleep(3)
            assert Completed() == turn.outcome
            assert TextDelta("a") == await turn.__anext__()
        assert [] == [event async for event in turn]


@pytest.mark.parametrize("kind", ["failed", "timed out"])
async def test_iteration_raises_once_after_the_last_event(kind: str, autojump_clock: MockClock) -> None:
    """First every accepted event, then the failure with what was said so far; leaving does not raise it again."""
    end = Raise(OSError("gone")) if kind == "failed" else Hang()
    async with one_session(FakeRuntime([TextDelta("a"), TextDelta("b"), end])) as (_manager, session):
        seen = []
        async with session.turn("x") as turn:
            with pytest.raises(TurnFailed if kind == "failed" else TurnTimedOut) as caught:
                while True:
                    seen.append(await turn.__anext__())
            assert [] == [event async for event in turn]
        assert [TextDelta("a"), TextDelta("b")] == seen
        assert "ab" == caught.value.partial


async def test_leaving_normally_raises_the_failure_if_nobody_saw_it(autojump_clock: MockClock) -> None:
    """A body that never iterates still learns that its turn failed; the adapter's error is the cause of the cause."""
    error = OSError("gone")
    async with one_session(FakeRuntime([Raise(error)])) as (_manager, session):
        with pytest.raises(TurnFailed) as caught:
            async with session.turn("x"):
                await trio.sleep(1)
        assert "adapter-error" == caught.value.detail
        assert error is caught.value.__cause__


async def test_leaving_early_stops_the_turn(autojump_clock: MockClock) -> None:
    """`break` is the cause `left`: the agent is told to stop, within cleanup, and nothing is raised."""
    runtime = FakeRuntime([TextDelta("a"), Hang()], cancel=[Hang()])
    async with one_session(runtime) as (_manager, session):
        async with session.turn("x") as turn:
            async for _ in turn:
                break
        assert (C, Stopped(by="left")) == (trio.current_time(), turn.outcome)


@pytest.mark.parametrize("running", [True, False])
async def test_the_bodys_exception_wins(running: bool, autojump_clock: MockClock) -> None:
    """The body's own exception leaves as the same object, whether the turn still runs or has failed."""
    error = LookupError("mine")
    script = [Hang()] if running else [Raise(OSError("gone"))]
    async with one_session(FakeRuntime(script)) as (_manager, session):
        with pytest.raises(LookupError) as caught:
            async with session.turn("x"):
                await trio.sleep(1)
                raise error
        assert error is caught.value
        assert caught.value.__context__ is None


async def test_a_busy_body_is_never_interrupted(autojump_clock: MockClock) -> None:
    """The deadline ends the turn, not the code in its block."""
    async with one_session(FakeRuntime([Hang()])) as (_manager, session):
        with pytest.raises(TurnTimedOut):
            async with session.turn("x"):
                await trio.sleep(10 * T)
        assert 10 * T == trio.current_time()


async def test_a_slow_consumer_fails_its_own_turn_only(autojump_clock: MockClock) -> None:
    """Too much buffered: Failed with detail consumer-too-slow; what fitted stays readable; others notice nothing."""
    settings = Settings(limits=LIMITS, max_buffered=1000)
    refused: list[bool] = []
    big = TextDelta("x" * 600)
    runtime = FakeRuntime([big, Run(lambda sink: refused.append(bool(sink and sink.send(big)))), Hang(stops=True)])
    other = FakeRuntime([Sleep(1), TextDelta("fine")])
    async with one_session(runtime, settings=settings) as (_manager, session), one_session(other) as (_m, second):
        async with session.turn("x") as turn:
            await trio.sleep(1)
            assert isinstance(turn.outcome, Failed)
            with pytest.raises(TurnFailed) as caught:
                assert big == await turn.__anext__()
                await turn.__anext__()
        assert ("consumer-too-slow", [False]) == (caught.value.detail, refused)
        assert "cancel" in runtime.names()
        assert "fine" == str(await second.prompt("y"))


async def test_one_event_of_any_size_fits(autojump_clock: MockClock) -> None:
    """The limit is for what waits, not for a single event; reading makes room again."""
    big = TextDelta("x" * 5000)
    script: list[Step] = [big, Sleep(1), big, Sleep(1), big]
    async with one_session(FakeRuntime(script), settings=Settings(max_buffered=1000)) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn:
            assert [big, big, big] == [event async for event in turn]


async def test_a_second_iterator_is_busy(autojump_clock: MockClock) -> None:
    """Two tasks cannot iterate over one turn; the first goes on."""
    async with one_session(FakeRuntime([Sleep(1), TextDelta("a")])) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn, trio.open_nursery() as nursery:

            async def second() -> None:
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError):
                    await turn.__anext__()

            nursery.start_soon(second)
            assert [TextDelta("a")] == [event async for event in turn]


async def test_a_nested_turn_of_the_same_session_is_refused(autojump_clock: MockClock) -> None:
    """In one task a second turn inside an unfinished first would wait for itself; in another task, or after, it may."""
    async with one_session(FakeRuntime([Sleep(1)])) as (manager, session):
        async with session.turn("x") as turn:
            with pytest.raises(RuntimeError, match="inside an unfinished turn"):
                await session.prompt("y")
            assert 1 == manager.statistics().submitted
            async for _ in turn:
                pass
            await session.prompt("z")
        async with session.turn("x"), trio.open_nursery() as nursery:
            nursery.start_soon(session.prompt, "elsewhere")
            nursery.start_soon(session.prompt, "and there")
        assert 5 == manager.statistics().submitted


async def test_a_turn_is_entered_once(autojump_clock: MockClock) -> None:
    """Entering again, or iterating before entering, is a mistake that is told at once."""
    async with one_session(FakeRuntime()) as (_manager, session):
        turn = session.turn("x")
        with pytest.raises(RuntimeError):
            await turn.__anext__()
        async with turn:
            pass
        with pytest.raises(RuntimeError):
            await turn.__aenter__()


async def test_a_turn_is_refused_before_it_begins(autojump_clock: MockClock) -> None:
    """Wrong arguments never reach the queue."""
    async with one_session(FakeRuntime()) as (_manager, session):
        with pytest.raises(InvalidOption):
            session.turn("x", timeout=0)
        text: Any = b"bytes"
        with pytest.raises(UsageError):
            session.turn(text)


async def test_attachments_follow_the_text(autojump_clock: MockClock) -> None:
    """The prompt is the text, then what was attached."""
    from trio_acp import TextContent

    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        await session.prompt("x", attachments=[TextContent(text="y")])
    assert [("x", "y")] == [
        tuple(block.text for block in call.detail.prompt) for call in runtime.calls if call.name == "run_turn"
    ]


async def test_a_cancelled_wait_takes_no_event(autojump_clock: MockClock) -> None:
    """A consumer that gives up waiting gets the same event later."""
    async with one_session(FakeRuntime([Sleep(2), TextDelta("a")])) as (_manager, session):  # noqa: SIM117 - reads better
        async with session.turn("x") as turn:
            with trio.move_on_after(1) as scope:
                await turn.__anext__()
            assert scope.cancelled_caught
            assert [TextDelta("a")] == [event async for event in turn]


async def test_an_adapter_that_says_nothing_fails_the_turn(autojump_clock: MockClock) -> None:
    """Returning without a `Done` is a failure of the adapter."""

    class Mute(FakeRuntime):
        async def run_turn(self, request: TurnRequest, events: EventSink) -> Done:
            await trio.lowlevel.checkpoint()
            nothing: Any = None
            return cast("Done", nothing)

    async with one_session(Mute()) as (_manager, session):
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert "no-terminal-event" == caught.value.detail
