"""How long a turn may take, whatever is stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.turn_kit import SETTINGS, C, G, T
from trio_acp import (
    Completed,
    InvalidOption,
    MemoryStore,
    RuntimeOptions,
    SessionRecord,
    SQLiteStore,
    TurnTimedOut,
    open_session_manager,
)
from trio_acp._timeouts import LONGEST, SHORTEST, effective_timeout
from trio_acp.testing import FakeRuntime, Hang, Sleep

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock

ABSURD: list[Any] = [2**53, 2**53 - 1, 10**400, 1e308]
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from(ABSURD))


@pytest.mark.parametrize(
    ("of_turn", "of_session", "expected"),
    [
        (None, None, 7),
        (None, 3, 3),
        (None, 100, 100),
        (2, 3, 2),
        (2, None, 2),
        (math.inf, 3, math.inf),
        (1e308, 3, 1e308),
        (None, 0, 7),
        (None, -5, 7),
        (None, math.nan, 7),
        (None, math.inf, 7),
        (None, -math.inf, 7),
        (None, 0.25, SHORTEST),
        (None, 2**53, LONGEST),
        (None, 10**400, LONGEST),
        (None, 1e308, LONGEST),
    ],
)
def test_whose_timeout_holds(of_turn: float | None, of_session: float | None, expected: float) -> None:
    """The turn's own, else the session's within its bounds, else the default."""
    assert expected == effective_timeout(of_turn=of_turn, of_session=of_session, default=7)


@given(NUMBERS)
def test_no_stored_number_disturbs_a_clock(stored: float) -> None:
    """Added to a clock, and a cleanup after it, it gives instants that are apart."""
    turn = effective_timeout(of_turn=None, of_session=stored, default=7)
    assert SHORTEST <= turn <= LONGEST
    deadline = 1e9 + turn
    assert 1e9 < deadline < deadline + 0.1 < math.inf


@pytest.mark.parametrize(
    "seconds", ABSURD, ids=lambda s: f"{s:.3g}" if isinstance(s, float) else f"{len(str(s))} digits"
)
async def test_a_turn_with_an_absurd_stored_timeout_ends_at_the_longest(
    seconds: Any, autojump_clock: MockClock
) -> None:
    """It completes if it can, and a hung one is stopped with the usual grace and cleanup."""
    store = MemoryStore()
    record = SessionRecord(key="k", agent="fake", options=RuntimeOptions(timeout_seconds=seconds))
    await store.update("k", lambda _: record)
    runtime = FakeRuntime([Sleep(1)])
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        session = manager.session("k")
        assert Completed() == (await session.prompt("x")).outcome
        assert 1 == trio.current_time()
        runtime.turn, runtime.on_cancel = [Hang()], [Hang()]
        with pytest.raises(TurnTimedOut) as caught:
            await session.prompt("x")
        assert (LONGEST, 1 + LONGEST + G + C) == (caught.value.limits.turn, trio.current_time())


async def test_an_absurd_timeout_survives_the_database(tmp_path: Path) -> None:
    """What is in the file may be anything that JSON can say."""
    record = SessionRecord(key="k", agent="fake", options=RuntimeOptions(timeout_seconds=10**400))
    async with SQLiteStore(tmp_path / "sessions.db") as store:
        await store.update("k", lambda _: record)
    with trio.fail_after(10):
        async with open_session_manager(
            {"fake": FakeRuntime()}, store=SQLiteStore(tmp_path / "sessions.db")
        ) as manager:
            assert Completed() == (await manager.session("k").prompt("x")).outcome


@pytest.mark.parametrize("timeout", [10**400, -(10**400)])
async def test_a_callers_absurd_timeout_is_refused(timeout: int, autojump_clock: MockClock) -> None:
    """No float is that large, and the error is ours."""
    async with open_session_manager({"fake": FakeRuntime()}) as manager:
        session = await manager.start_session("k")
        with pytest.raises(InvalidOption):
            session.turn("x", timeout=timeout)


async def test_a_callers_huge_timeout_is_no_limit(autojump_clock: MockClock) -> None:
    """The largest float, and infinity: the turn simply takes its time."""
    async with open_session_manager({"fake": FakeRuntime([Sleep(T)])}, settings=SETTINGS) as manager:
        session = await manager.start_session("k")
        for timeout in (1e308, 2**53, math.inf):
            assert Completed() == (await session.prompt("x", timeout=timeout)).outcome
    assert 3 * T == trio.current_time()
