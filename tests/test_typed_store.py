"""A store that raises what it likes: every public call tells it in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.test_ownership import stored
from tests.turn_kit import SETTINGS, AwkwardStore
from trio_acp import SessionManager, SessionRecord, StoreError, TurnFailed, open_session_manager
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

pytestmark = pytest.mark.concurrency

Operation: TypeAlias = "Callable[[SessionManager], Awaitable[object]]"

READING: dict[str, Operation] = {
    "start": lambda manager: manager.start_session("k", agent="fake"),
    "resolve": lambda manager: manager.resolve("k"),
    "list": lambda manager: manager.stored_sessions(),
    "status": lambda manager: manager.session("k").status(),
    "close": lambda manager: manager.session("k").close(),
}
WRITING: dict[str, Operation] = {
    "start": READING["start"],
    "start another": lambda manager: manager.start_session("another", agent="fake"),
    "set a mode": lambda manager: manager.session("k").set_mode("plan"),
    "update options": lambda manager: manager.session("k").update_options(model="m"),
    "reset options": lambda manager: manager.session("k").reset_options(),
    "forget": lambda manager: manager.session("k").close(forget=True),
    "discard": lambda manager: manager.session("k").close(discard=True),
}
EVERY: dict[str, Operation] = {**READING, **WRITING}
ERRORS = [OSError("disk"), ExceptionGroup("both", [OSError("disk"), ValueError("table")])]


async def fails(operation: Operation, *, error: Exception, in_update: bool) -> StoreError:
    """Have a store with one closed session raise, and return what an operation raises."""
    store, runtime = AwkwardStore(), FakeRuntime()
    await stored(store.memory, SessionRecord(key="k", agent="fake"))
    async with open_session_manager({"fake": runtime}, store=store, settings=SETTINGS) as manager:
        if in_update:
            store.error_in_update = error
        else:
            store.error = error
        with pytest.raises(StoreError) as caught:
            await operation(manager)
        store.error = store.error_in_update = None
        assert set() == runtime.open
        await manager.session("k").prompt("x")
    return caught.value


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", EVERY)
async def test_a_foreign_error_in_reading_is_a_store_error(
    name: str, error: Exception, autojump_clock: MockClock
) -> None:
    """Whatever a store raises, whoever called gets one `StoreError` that has it as its cause; nothing is open."""
    told = await fails(EVERY[name], error=error, in_update=False)
    assert ("store", error) == (told.detail, told.__cause__)
    assert repr(error) in str(told)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", WRITING)
async def test_a_foreign_error_in_writing_is_a_store_error(
    name: str, error: Exception, autojump_clock: MockClock
) -> None:
    """The same holds for what an update raises."""
    told = await fails(WRITING[name], error=error, in_update=True)
    assert ("store", error) == (told.detail, told.__cause__)


async def test_a_store_error_is_told_as_it_is(autojump_clock: MockClock) -> None:
    """It has no other around it."""
    error = StoreError("disk full")
    assert error is await fails(READING["start"], error=error, in_update=False)


@pytest.mark.parametrize("in_update", [False, True])
async def test_a_turn_fails_with_it(in_update: bool, autojump_clock: MockClock) -> None:
    """A turn that cannot start because of a foreign error of the store is none of our faults."""
    store, error = AwkwardStore(), OSError("disk")
    await stored(store.memory, SessionRecord(key="k", agent="fake"))
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        if in_update:
            store.error_in_update = error
        else:
            store.error = error
        with pytest.raises(TurnFailed) as caught:
            await manager.session("k").prompt("x")
        assert "store" == caught.value.detail
        assert isinstance(caught.value.__cause__, StoreError)
        assert error is caught.value.__cause__.__cause__
