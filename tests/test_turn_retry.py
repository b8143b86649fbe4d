"""G9: a turn is submitted twice only if nothing was started the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import C, G, OnRecord, Recorder, T, check_trace, one_session
from trio_acp import (
    AcpError,
    BackendUnavailable,
    Completed,
    ConnectionLost,
    Failed,
    MemoryStore,
    RequestFailed,
    SessionInitFailed,
    SessionMissing,
    Stopped,
    StoreError,
    TextDelta,
    TurnFailed,
    TurnTimedOut,
)
from trio_acp._calls import as_acp_error
from trio_acp._retry import nothing_was_started
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio.testing import MockClock

    from trio_acp import SessionRecord
    from trio_acp.abc import Mutate
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

NOTHING_STARTED = BackendUnavailable("the prompt was never taken", retryable=True)


def one_after_the_other(*attempts: Iterable[Step]) -> Callable[[object], Iterable[Step]]:
    """The steps of the first call, of the second, and so on; the last ones again for ever."""
    left = list(attempts)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


async def test_a_turn_is_retried_once_if_nothing_was_started(autojump_clock: MockClock) -> None:
    """The second attempt has a fresh handle; the first one is closed; the consumer sees one turn."""
    recorder = Recorder()
    runtime = FakeRuntime(one_after_the_other([Raise(NOTHING_STARTED)], [TextDelta("ok")]))
    async with one_session(runtime, instrument=recorder) as (manager, session):
        reply = await session.prompt("x")
        assert ("ok", Completed()) == (reply.text, reply.outcome)
        await trio.testing.wait_all_tasks_blocked()
        numbers = [getattr(call.handle, "number", None) for call in runtime.calls]
        assert [("ensure_session", None), ("run_turn", 1), ("ensure_session", None), ("run_turn", 2)] == [
            pair for pair in zip(runtime.names(), numbers, strict=True) if pair[0] != "close"
        ]
        assert [1] == [number for name, number in zip(runtime.names(), numbers, strict=True) if name == "close"]
        assert (1, 1) == (manager.statistics().submitted, manager.statistics().completed)
    check_trace(recorder)


async def test_a_second_failure_is_final(autojump_clock: MockClock) -> None:
    """There is no third attempt, however retryable the error."""
    runtime = FakeRuntime([Raise(NOTHING_STARTED)])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert NOTHING_STARTED is caught.value.__cause__
        assert 2 == runtime.names().count("run_turn")


async def test_a_retryable_setup_is_tried_twice(autojump_clock: MockClock) -> None:
    """Opening the session may be retried too, within the same deadline."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_manager, session):
        await session.close()
        runtime.ensure = one_after_the_other([Sleep(1), Raise(NOTHING_STARTED)], [Sleep(1)])
        assert Completed() == (await session.prompt("x")).outcome
        assert 2 == trio.current_time()


@pytest.mark.parametrize(
    "steps",
    [[TextDelta("a"), Raise(NOTHING_STARTED)], [Raise(ConnectionLost("gone"))], [Raise(OSError("odd"))]],
    ids=["output seen", "not retryable", "foreign error"],
)
async def test_no_retry_when_something_may_have_started(steps: list[Step], autojump_clock: MockClock) -> None:
    """One event seen, or an error that does not promise that nothing was started: one attempt."""
    runtime = FakeRuntime(steps)
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        assert 1 == runtime.names().count("run_turn")


async def test_no_retry_after_a_cause(autojump_clock: MockClock) -> None:
    """A retryable end and a stop in the same step, in both orders: no second attempt."""
    runtime = FakeRuntime()
    recorder = OnRecord("")
    async with one_session(runtime, instrument=recorder) as (_manager, session):
        first = session.turn("stop, then error")
        runtime.turn = [Run(lambda sink: first.cancel("s")), Raise(NOTHING_STARTED)]
        async with first:
            assert [] == [event async for event in first]
        assert Stopped(by="user", reason="s") == first.outcome
        runtime.turn = [Raise(NOTHING_STARTED)]
        second = session.turn("error, then stop")
        recorder.name, recorder.function = "cause", second.cancel
        with pytest.raises(TurnFailed):
            async with second:
                async for _ in second:
                    pass
        assert isinstance(second.outcome, Failed)
        assert 2 == runtime.names().count("run_turn")


async def test_a_retry_that_was_not_submitted_is_not_cancelled(autojump_clock: MockClock) -> None:
    """The first attempt was submitted, the second not yet: a stop in that window tells the backend nothing."""
    runtime = FakeRuntime(one_after_the_other([Raise(NOTHING_STARTED)], [Hang()]))
    recorder = OnRecord("retried")
    async with one_session(runtime, instrument=recorder) as (_manager, session):
        turn = session.turn("x")
        recorder.function = turn.cancel
        async with turn:
            assert [] == [event async for event in turn]
        assert isinstance(turn.outcome, Stopped)
        assert (1, 0) == (runtime.names().count("run_turn"), runtime.names().count("cancel"))


async def test_both_attempts_share_one_deadline(autojump_clock: MockClock) -> None:
    """The deadline is the turn's, not the attempt's."""
    runtime = FakeRuntime(one_after_the_other([Sleep(3), Raise(NOTHING_STARTED)], [Hang()]), cancel=[Hang()])
    async with one_session(runtime) as (_manager, session):
        with pytest.raises(TurnTimedOut):
            await session.prompt("x")
        assert T + G + C == trio.current_time()


async def test_a_stop_in_the_second_setup_leaves_no_running_record(autojump_clock: MockClock) -> None:
    """The first attempt marked the session `running`; a stop before the second one's handle takes that back."""
    runtime = FakeRuntime(
        [Raise(NOTHING_STARTED)],
        ensure=one_after_the_other([], [Hang()]),
    )
    async with one_session(runtime) as (manager, session):
        with trio.move_on_after(1) as scope:
            await session.prompt("x")
        assert scope.cancelled_caught
        assert ["idle"] == [record.state for record in await manager.stored_sessions()]


# -- what an adapter says only in words ---------------------------------------


EXITED = TurnFailed("acpx exited with code 1")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EXITED, True),
        (TurnFailed("  ACPX Exited with signal SIGTERM, sorry"), True),
        (SessionInitFailed("acpx exited with code 137"), True),
        (BackendUnavailable("refused", retryable=True), True),
        (BackendUnavailable("refused"), False),
        (ConnectionLost("gone", retryable=True), True),
        (ConnectionLost("acpx exited with code 1"), False),
        (RequestFailed("acpx exited with code 1", method="session/prompt", rpc_code=-32603), False),
        (StoreError("acpx exited with code 1"), False),
        (SessionMissing("acpx exited with code 1"), False),
        (TurnFailed("the agent said: acpx exited with code 1"), False),
        (TurnFailed("acpx exited"), False),
        (TurnFailed("acpx exited with code one"), False),
        (TurnFailed("agent exited with code 1"), False),
        (as_acp_error(OSError("acpx exited with code 1")), True),
        (as_acp_error(OSError("it was acpx exited with code 1")), False),
    ],
    ids=repr,
)
def test_what_says_that_nothing_was_started(error: AcpError, expected: bool) -> None:
    """The adapter's own word, or an adapter's error that begins with the known text; nothing that an agent wrote."""
    assert expected == nothing_was_started(error)


@pytest.mark.parametrize("text", ["acpx exited with code 1", "acpx exited with signal SIGTERM"])
@pytest.mark.parametrize("foreign", [False, True])
async def test_an_early_exit_is_retried_once(text: str, foreign: bool, autojump_clock: MockClock) -> None:
    """With a fresh handle; the stored state is running, then idle, and never error.  The last write gives it back."""
    states: list[str] = []

    class Watching(MemoryStore):
        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            record = await super().update(key, mutate)
            states.append("gone" if record is None else record.state)
            return record

    error = OSError(text) if foreign else TurnFailed(text)
    runtime = FakeRuntime(one_after_the_other([Raise(error)], [TextDelta("ok")]))
    async with one_session(runtime, store=Watching()) as (manager, session):
        assert "ok" == str(await session.prompt("x"))
        assert (1, 0) == (manager.statistics().completed, manager.statistics().failed)
    assert (2, 2) == (runtime.names().count("ensure_session"), runtime.names().count("run_turn"))
    assert ["idle", "running", "running", "idle", "idle"] == states


async def test_an_early_exit_while_opening_is_retried_once(autojump_clock: MockClock) -> None:
    """Two openings, and if both exit that is the turn's error."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        await session.close()
        runtime.ensure = one_after_the_other([Raise(EXITED)], [])
        await session.prompt("x")
        assert 3 == runtime.names().count("ensure_session")
        await session.close()
        runtime.ensure = [Raise(EXITED)]
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert str(EXITED) == str(caught.value)
        assert 5 == runtime.names().count("ensure_session")


@pytest.mark.parametrize("seen", [[TextDelta("a")], [Hang(stops=True)]])
async def test_an_early_exit_is_not_retried_after_output_or_a_cause(
    seen: list[Step], autojump_clock: MockClock
) -> None:
    """Then the words change nothing."""
    runtime = FakeRuntime([*seen, Raise(EXITED)])
    async with one_session(runtime) as (_, session):
        with trio.move_on_after(1), pytest.raises(TurnFailed):
            await session.prompt("x")
    assert 1 == runtime.names().count("run_turn")
