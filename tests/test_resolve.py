"""What is under a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.turn_kit import SETTINGS, AwkwardStore, one_session
from trio_acp import (
    Missing,
    Ready,
    SessionMissing,
    SessionRecord,
    Stale,
    StoreError,
    TurnFailed,
    open_session_manager,
)
from trio_acp.testing import FakeRuntime, Sleep

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_key_is_ready_stale_or_missing(autojump_clock: MockClock) -> None:
    """Stored; made for a session but without metadata; or neither, an empty key included."""
    runtime = FakeRuntime()
    store = AwkwardStore()
    record = SessionRecord(key="agent:main:main", agent="fake")
    await store.memory.update(record.key, lambda _: record)
    async with open_session_manager({"fake": runtime}, store=store) as manager:
        assert Ready("agent:main:main", record) == await manager.resolve(" Main")
        assert Missing("nobody") == await manager.resolve("Nobody")
        assert Missing("") == await manager.resolve("  ")
        stale = await manager.resolve("Agent:Fake:ACP:1")
        assert isinstance(stale, Stale)
        assert ("agent:fake:acp:1", "stale-session") == (stale.key, stale.error.detail)
        assert "ACP metadata is missing" in str(stale.error)
        assert ([], 0) == (runtime.names(), manager.statistics().controls)


async def test_a_stale_session_is_told_from_a_missing_one_wherever_it_is_used(autojump_clock: MockClock) -> None:
    """The detail of `SessionMissing` says which it is."""
    async with open_session_manager({"fake": FakeRuntime()}) as manager:
        for key, detail in {"acp:1": "stale-session", "nobody": "session-missing"}.items():
            session = manager.session(key)
            for call in (session.status, session.close, session.reset_options):
                with pytest.raises(SessionMissing) as caught:
                    await call()
                assert detail == caught.value.detail
            with pytest.raises(TurnFailed) as failed:
                await session.prompt("x")
            assert detail == failed.value.detail


async def test_resolving_waits_for_no_lane(autojump_clock: MockClock) -> None:
    """A session that is busy is resolved at once, and is `running` then."""
    async with one_session(FakeRuntime([Sleep(4)])) as (manager, session), trio.open_nursery() as nursery:
        nursery.start_soon(session.prompt, "x")
        await trio.testing.wait_all_tasks_blocked()
        found = await manager.resolve("k")
        assert isinstance(found, Ready)
        assert ("running", 0) == (found.record.state, trio.current_time())


async def test_a_store_that_hangs_costs_probe_seconds(autojump_clock: MockClock) -> None:
    """Then it is a StoreError; a caller that gives up does so at once."""
    store = AwkwardStore()
    store.hang_read = True
    async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:
        with trio.move_on_after(1) as scope:
            await manager.resolve("k")
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        with pytest.raises(StoreError) as caught:
            await manager.resolve("k")
        assert ("store-timeout", 6) == (caught.value.detail, trio.current_time())


async def test_a_session_is_busy_while_a_turn_waits_or_runs(autojump_clock: MockClock) -> None:
    """From before its setup to its very end; other operations do not make it busy."""
    runtime = FakeRuntime([Sleep(1)], ensure=[Sleep(1)], status=[Sleep(1)])
    async with one_session(runtime) as (manager, session), trio.open_nursery() as nursery:
        await session.close()
        nursery.start_soon(session.prompt, "x")
        await trio.sleep(0.5)
        assert (True, False) == (manager.is_busy("K"), manager.is_live("k"))
        await trio.sleep(1)
        assert (True, True) == (manager.is_busy("k"), manager.is_live("k"))
        await trio.sleep(1)
        assert not manager.is_busy("k")
        nursery.start_soon(session.status)
        await trio.testing.wait_all_tasks_blocked()
        assert not manager.is_busy("k")
        nursery.start_soon(session.prompt, "y")
        await trio.testing.wait_all_tasks_blocked()
        assert manager.is_busy("k")
