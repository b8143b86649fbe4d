"""Starting a session with options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.turn_kit import SETTINGS, AwkwardStore, one_session
from trio_acp import (
    UNSET,
    InvalidOption,
    MemoryStore,
    RuntimeOptions,
    StoreError,
    TurnFailed,
    UnsupportedControl,
    open_session_manager,
)
from trio_acp.abc import Capabilities
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp import OptionChanges


def told(runtime: FakeRuntime) -> list[object]:
    """What the backend was told, in order."""
    return [call.detail for call in runtime.calls if call.name in {"set_mode", "set_config_option"}]


def opened(runtime: FakeRuntime) -> list[tuple[str | None, str | None]]:
    """Where each session was opened, and what it resumed."""
    return [(call.detail.cwd, call.detail.resume) for call in runtime.calls if call.name == "ensure_session"]


async def test_options_are_stored_and_told_before_the_first_turn(autojump_clock: MockClock) -> None:
    """Once: the start stores them, the first turn tells them, the second needs not."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        session = await manager.start_session("k", options={"model": " m ", "mode": "plan", "extras": {"a": "1"}})
        assert [] == told(runtime)
        expected = RuntimeOptions(model="m", mode="plan", extras={"a": "1"})
        assert expected == (await manager.stored_sessions())[0].options
        await session.prompt("x")
        await session.prompt("y")
    assert ["plan", ("model", "m"), ("a", "1")] == told(runtime)
    names = runtime.names()
    assert names.index("set_mode") < names.index("run_turn")


@pytest.mark.parametrize(
    "wrong", [{"model": ""}, {"cwd": "relative"}, {"timeout_seconds": 0}, {"colour": "red"}, {"model": None}]
)
async def test_wrong_options_are_refused_before_anything_happens(wrong: Any, autojump_clock: MockClock) -> None:
    """Nothing is opened and nothing stored."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        with pytest.raises(InvalidOption):
            await manager.start_session("k", options=wrong)
        assert ([], (), 0) == (runtime.names(), await manager.stored_sessions(), manager.statistics().controls)


@pytest.mark.parametrize(("wrong", "detail"), [({"mode": "once"}, "invalid-mode"), ({"cwd": 3}, "invalid-cwd")])
async def test_a_start_that_makes_no_sense_is_refused(wrong: Any, detail: str, autojump_clock: MockClock) -> None:
    """There are two modes, and a directory is an absolute path; nothing is stored and nobody is asked."""
    runtime, store = FakeRuntime(), MemoryStore()
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        with pytest.raises(InvalidOption) as caught:
            await manager.start_session("k", agent="fake", **wrong)
        assert (detail, ()) == (caught.value.detail, await store.list())
    assert [] == runtime.names()


async def test_a_directory_option_is_where_the_session_is_opened(autojump_clock: MockClock) -> None:
    """With or without a directory of its own, to which a reset goes back."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        await manager.start_session("a", options={"cwd": "/option"})
        session = await manager.start_session("b", cwd="/own", options={"cwd": "/option"})
        assert ["/option"] * 2 == [(await manager.session(key).status()).cwd for key in "ab"]
        await manager.start_session("b", options={})
        await session.reset_options()
        assert "/own" == (await session.status()).cwd
    assert [("/option", None)] * 2 == opened(runtime)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("changes", "stays", "expected"),
    [
        ({}, True, RuntimeOptions(model="m", extras={"a": "1"})),
        ({"model": "n", "extras": {"b": "2"}}, True, RuntimeOptions(model="n", extras={"a": "1", "b": "2"})),
        ({"model": UNSET}, False, RuntimeOptions(extras={"a": "1"})),
        ({"extras": UNSET}, False, RuntimeOptions(model="m")),
        ({"cwd": "/b"}, False, RuntimeOptions(model="m", extras={"a": "1"}, cwd="/b")),
        ({"cwd": "/a"}, True, RuntimeOptions(model="m", extras={"a": "1"}, cwd="/a")),
    ],
)
async def test_a_start_changes_the_options_of_a_stored_session(
    changes: OptionChanges, stays: bool, expected: RuntimeOptions, live: bool, autojump_clock: MockClock
) -> None:
    """They add up; an open backend session that cannot follow is replaced, resuming what it was."""
    runtime = FakeRuntime()
    async with open_session_manager({"fake": runtime}) as manager:
        session = await manager.start_session("k", cwd="/a", options={"model": "m", "extras": {"a": "1"}})
        await session.prompt("x")
        if not live:
            await session.close()
        again = await manager.start_session("k", options=changes)
        assert ("reused" if live and stays else "resumed") == again.origin
        assert expected == (await manager.stored_sessions())[0].options
        await session.prompt("y")
        assert expected == (await session.status()).options
    assert [("/a", None), *([] if live and stays else [(expected.cwd or "/a", "fake-1")])] == opened(runtime)


async def test_a_fresh_start_has_only_its_own_options(autojump_clock: MockClock) -> None:
    """What was stored is discarded, its options too."""
    async with one_session(FakeRuntime()) as (manager, session):
        await session.update_options(model="m")
        await manager.start_session("k", fresh=True, options={"mode": "plan"})
        assert RuntimeOptions(mode="plan") == (await session.status()).options


async def test_an_option_that_the_backend_lacks_fails_the_first_turn(autojump_clock: MockClock) -> None:
    """Starting stores it; telling it fails, and nothing is submitted."""
    runtime = FakeRuntime(offers=Capabilities())
    async with open_session_manager({"fake": runtime}) as manager:
        session = await manager.start_session("k", options={"mode": "plan"})
        with pytest.raises(TurnFailed) as caught:
            await session.prompt("x")
        assert isinstance(caught.value.__cause__, UnsupportedControl)
        assert "run_turn" not in runtime.names()


async def test_a_start_that_cannot_be_stored_closes_what_it_opened(autojump_clock: MockClock) -> None:
    """The store's own error is raised, the reason is told to the runtime, the slot is free."""
    store, runtime, full = AwkwardStore(), FakeRuntime(), StoreError("disk full")
    store.error_in_update = full
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        with pytest.raises(StoreError) as caught:
            await manager.start_session("k", options={"mode": "plan"})
        assert full is caught.value
        assert ["init-meta-failed"] == [call.detail for call in runtime.calls if call.name == "close"]
        assert (False, 0, set()) == (manager.is_live("k"), manager.statistics().capacity.taken, runtime.open)


async def test_a_cancelled_start_changes_no_options_of_an_open_session(autojump_clock: MockClock) -> None:
    """Given up while the store hangs, the open session stays as it was."""
    store, runtime = AwkwardStore(), FakeRuntime()
    async with one_session(runtime, store=store, settings=SETTINGS) as (manager, session):
        store.hang_update = True
        with trio.move_on_after(1) as scope:
            await manager.start_session("k", options={"mode": "plan"})
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        store.hang_update = False
        assert RuntimeOptions() == (await session.status()).options
        await session.prompt("x")
    assert [] == told(runtime)
