"""Closing a session: what is closed, what is kept, and what may go wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio

from tests.turn_kit import (
    OWN_TASKS,
    SETTINGS,
    AtStep,
    AwkwardStore,
    C,
    J,
    installed,
    one_session,
    our_tasks,
    run_virtual,
)
from trio_acp import (
    AcpError,
    BackendMissing,
    BackendUnavailable,
    CloseReport,
    ConnectionLost,
    ManagerClosed,
    RequestFailed,
    SessionInitFailed,
    SessionMissing,
    SessionRecord,
    StoreError,
    TurnFailed,
    TurnTimedOut,
    UnsupportedControl,
    open_session_manager,
)
from trio_acp.abc import Identity
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import EnsureRequest, Mutate
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

GONE: list[Exception] = [
    BackendUnavailable("no route"),
    BackendMissing("not configured"),
    ConnectionLost("reset"),
    TurnFailed("acpx exited with code 1"),
    OSError("ACPX exited with signal SIGTERM"),
]
ONLY_FOR_DISCARD: list[Exception] = [SessionInitFailed("never had it"), UnsupportedControl("cannot close")]
NEVER: list[Exception] = [
    RequestFailed("refused", method="session/close", rpc_code=-32603),
    RequestFailed("acpx exited with code 1", method="session/close", rpc_code=-32603),
    OSError("disk"),
    TurnFailed("it said: acpx exited with code 1"),
]


def resumed(runtime: FakeRuntime) -> list[str | None]:
    """What each opening was asked to resume."""
    return [call.detail.resume for call in runtime.calls if call.name == "ensure_session"]


# -- failing ------------------------------------------------------------------


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("error", GONE + ONLY_FOR_DISCARD + NEVER, ids=repr)
async def test_a_close_that_fails_is_raised_or_reported(
    error: Exception, allow: bool, discard: bool, autojump_clock: MockClock
) -> None:
    """A backend that is gone is reported, if allowed; anything else is raised.  The slot is free in any case."""
    runtime = FakeRuntime(close=[Raise(error)])
    tolerated = allow and (error in GONE or (discard and error in ONLY_FOR_DISCARD))
    async with one_session(runtime, settings=attrs.evolve(SETTINGS, max_sessions=1)) as (manager, session):
        if tolerated:
            report = await session.close(allow_backend_unavailable=allow, discard=discard)
            assert not report.closed
            assert str(error) in str(report.notice)
        else:
            with pytest.raises(AcpError) as caught:
                await session.close(allow_backend_unavailable=allow, discard=discard)
            assert error in (caught.value, caught.value.__cause__)
        assert (False, 0) == (manager.is_live("k"), manager.statistics().capacity.taken)
        await manager.start_session("other", agent="fake")
        assert 2 == runtime.names().count("ensure_session")


@pytest.mark.parametrize(("step", "expected"), [(Hang(), C), (Swallow(20), C + J)])
async def test_a_close_without_an_answer_is_over_in_time(
    step: Step, expected: float, autojump_clock: MockClock
) -> None:
    """`TurnFailed` with a detail of its own, after `cleanup`, and `join` if the runtime resists."""
    async with one_session(FakeRuntime(close=[step])) as (manager, session):
        with pytest.raises(TurnFailed) as caught:
            await session.close()
        assert ("close-timeout", expected) == (caught.value.detail, trio.current_time())
        assert not manager.is_live("k")
        assert CloseReport(closed=False) == await session.close()


async def test_a_failed_close_leaves_the_metadata_alone(autojump_clock: MockClock) -> None:
    """Neither deleted nor without what it would be resumed by; closing again does what was wished."""
    runtime = FakeRuntime(close=[Raise(OSError("x"))])
    async with one_session(runtime) as (manager, session):
        wishes: list[dict[str, Any]] = [{"forget": True}, {"discard": True}]
        for wish in wishes:
            await session.prompt("x")
            with pytest.raises(TurnFailed):
                await session.close(**wish)
        assert ["fake-1"] == [record.session_id for record in await manager.stored_sessions()]
        assert CloseReport(closed=False, forgotten=True) == await session.close(forget=True)
        assert () == await manager.stored_sessions()


# -- what there is to close ----------------------------------------------------


async def test_nothing_is_opened_in_order_to_be_closed(autojump_clock: MockClock) -> None:
    """A stored session without a handle is closed, forgotten or discarded without its backend."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        assert CloseReport(closed=True) == await session.close()
        asked = runtime.names()
        assert CloseReport(closed=False) == await session.close()
        assert CloseReport(closed=False) == await session.close(discard=True)
        assert CloseReport(closed=False, forgotten=True) == await session.close(forget=True)
        assert asked == runtime.names()
        assert () == await manager.stored_sessions()


async def test_the_reason_is_told_to_the_runtime(autojump_clock: MockClock) -> None:
    """The caller's own words."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (_, session):
        await session.close("enough")
    assert ["enough"] == [call.detail for call in runtime.calls if call.name == "close"]


@pytest.mark.parametrize("wish", [{}, {"forget": True}, {"discard": True}])
async def test_a_session_that_does_not_exist(wish: dict[str, Any], autojump_clock: MockClock) -> None:
    """Closing it is an error, unless the caller says that it need not exist."""
    async with open_session_manager({"fake": FakeRuntime()}) as manager:
        nobody = manager.session("nobody")
        with pytest.raises(SessionMissing):
            await nobody.close(**wish)
        assert not (await nobody.close(**wish, require_session=False)).closed
        assert () == await manager.stored_sessions()


async def test_a_session_of_an_agent_that_is_not_registered_can_be_forgotten(autojump_clock: MockClock) -> None:
    """The report says what stays at the backend; nothing else needs the runtime."""
    store = AwkwardStore()
    await store.memory.update("k", lambda _: SessionRecord(key="k", agent="other", identity=Identity(session_id="s")))
    async with open_session_manager({"fake": FakeRuntime()}, store=store) as manager:
        report = await manager.session("k").close(forget=True)
        assert (False, True) == (report.closed, report.forgotten)
        assert "no runtime is registered as 'other'" in str(report.notice)
        assert () == await manager.stored_sessions()


# -- discarding -----------------------------------------------------------------


@pytest.mark.parametrize("live", [False, True])
async def test_a_discarded_conversation_begins_anew(live: bool, autojump_clock: MockClock) -> None:
    """The metadata stays, idle and without an error; the next turn resumes nothing and its new id is stored."""
    runtime = FakeRuntime()
    async with one_session(runtime) as (manager, session):
        await session.update_options(model="m")
        runtime.turn = [Raise(OSError("boom"))]
        with pytest.raises(TurnFailed):
            await session.prompt("x")
        if not live:
            await session.close()
        report = await session.close(discard=True)
        assert CloseReport(closed=live) == report
        (record,) = await manager.stored_sessions()
        assert ("idle", None, None, None, "m") == (
            record.state,
            record.last_error,
            record.session_id,
            record.agent_session_id,
            record.options.model,
        )
        runtime.turn = []
        await session.prompt("x")
        assert [None, None] == resumed(runtime)
        assert "fake-2" == (await manager.stored_sessions())[0].session_id


async def test_what_could_not_be_written_does_not_bring_a_discarded_conversation_back(
    autojump_clock: MockClock,
) -> None:
    """Ids whose write failed earlier go with the others."""
    store = AwkwardStore()

    def ensure(request: EnsureRequest) -> list[Step]:
        fail = Run(lambda _: setattr(store, "error_in_update", StoreError("disk full")))
        return [fail] if request.resume else []

    runtime = FakeRuntime(ensure=ensure)
    async with one_session(runtime, store=store) as (_, session):
        await session.close()
        await session.prompt("x")
        store.error_in_update = None
        await session.close(discard=True)
        await session.prompt("y")
    assert [None, "fake-1", None] == resumed(runtime)


async def test_a_change_that_was_to_be_taken_back_is_taken_back_by_a_discard(autojump_clock: MockClock) -> None:
    """The store did what it did not confirm; the next write, here the discard, undoes it."""

    class Unconfirming(AwkwardStore):
        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            record = await self.memory.update(key, mutate)
            await self._behave(hang=self.hang_update)
            return record

    store = Unconfirming()
    async with one_session(FakeRuntime(), store=store) as (manager, session):
        store.hang_update = True
        with pytest.raises(StoreError):
            await session.update_options(model="m")
        store.hang_update = False
        assert ["m"] == [record.options.model for record in await manager.stored_sessions()]
        await session.close(discard=True)
        assert [None] == [record.options.model for record in await manager.stored_sessions()]


@pytest.mark.parametrize("wish", [{"forget": True}, {"discard": True}])
@pytest.mark.parametrize("hangs", [False, True])
async def test_a_store_that_fails_is_told(wish: dict[str, Any], hangs: bool, autojump_clock: MockClock) -> None:
    """The store's own error, or a StoreError after `cleanup`; the handle is closed all the same."""
    store, runtime = AwkwardStore(), FakeRuntime()
    async with one_session(runtime, store=store) as (manager, session):
        locked = StoreError("disk locked")
        store.hang_update, store.error_in_update = hangs, None if hangs else locked
        with pytest.raises(StoreError) as caught:
            await session.close(**wish)
        assert ("store-timeout" if hangs else "store") == caught.value.detail
        assert (C if hangs else 0) == trio.current_time()
        assert not manager.is_live("k")
        assert set() == runtime.open
        store.hang_update, store.error_in_update = False, None
        assert "fake-1" == (await manager.stored_sessions())[0].session_id


@pytest.mark.parametrize("made", ["late", "never"])
async def test_a_discard_without_an_answer_is_made_sooner_or_later(made: str, autojump_clock: MockClock) -> None:
    """Nobody knows whether the store did it: no id that could not be written earlier is written after it."""

    class Unconfirming(AwkwardStore):
        async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
            if self.hang_update and made == "late":
                await self.memory.update(key, mutate)
            return await super().update(key, mutate)

    store = Unconfirming()

    def ensure(request: EnsureRequest) -> list[Step]:
        fail = Run(lambda _: setattr(store, "error_in_update", StoreError("disk full")))
        return [fail] if request.resume else []

    runtime = FakeRuntime(ensure=ensure)
    async with one_session(runtime, store=store) as (_, session):
        await session.close()
        await session.prompt("x")
        store.hang_update, store.error_in_update = True, None
        with pytest.raises(StoreError):
            await session.close(discard=True)
        store.hang_update, store.hang_read = False, True
        with pytest.raises(TurnTimedOut):
            await session.prompt("the store does not answer, and is told that this failed", timeout=1)
        store.hang_read = False
        await session.prompt("y")
    assert [None, "fake-1", None] == resumed(runtime)


async def test_a_discard_of_a_session_that_is_not_open_is_made_sooner_or_later(autojump_clock: MockClock) -> None:
    """There is no row of ours to be freed, and the next write discards it all the same."""
    store, runtime = AwkwardStore(), FakeRuntime()
    async with one_session(runtime, store=store) as (_, session):
        await session.close()
        store.hang_update = True
        with pytest.raises(StoreError):
            await session.close(discard=True)
        store.hang_update = False
        await session.prompt("x")
    assert [None, None] == resumed(runtime)


# -- giving up --------------------------------------------------------------------


async def test_a_caller_that_gives_up_is_back_in_time(autojump_clock: MockClock) -> None:
    """At once while the store is read; within `cleanup` each for the backend and the store else."""
    store = AwkwardStore()
    async with one_session(FakeRuntime(close=[Hang()]), store=store) as (manager, session):
        store.hang_read = True
        with trio.move_on_after(1) as scope:
            await manager.session("other").close()
        assert (True, 1) == (scope.cancelled_caught, trio.current_time())
        store.hang_update = True
        with trio.move_on_after(0.5) as scope:
            await session.close(discard=True, allow_backend_unavailable=True)
        assert (True, 1 + C + C) == (scope.cancelled_caught, trio.current_time())
        assert not manager.is_live("k")
        store.hang_read = store.hang_update = False


async def test_a_close_is_given_up_when_the_manager_is_left(autojump_clock: MockClock) -> None:
    """Its caller hears that the manager was closed, not that there is no such session."""
    store = AwkwardStore()
    store.hang_read = True
    async with trio.open_nursery() as nursery:
        async with open_session_manager({"fake": FakeRuntime()}, store=store, settings=SETTINGS) as manager:

            async def close() -> None:
                with pytest.raises(ManagerClosed):
                    await manager.session("k").close()

            nursery.start_soon(close)
            await trio.testing.wait_all_tasks_blocked()
        assert 0 == trio.current_time()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("wish", [{"forget": True}, {"discard": True}, {"require_session": False}])
def test_a_close_that_is_cancelled_anywhere_happens_whole_or_can_be_repeated(wish: dict[str, Any], after: bool) -> None:
    """Cancelled at any step of any task, the handle is closed once at most, and doing it again does it."""

    async def main(n: int) -> bool:
        runtime = FakeRuntime()
        async with one_session(runtime) as (manager, session):
            scope = trio.CancelScope()
            step = AtStep(n, scope.cancel, after=after)
            with installed(step), scope:
                step.armed = True
                await session.close(**wish)
                step.armed = False
            await trio.testing.wait_all_tasks_blocked()
            await session.close(**{**wish, "require_session": False})
            assert not manager.is_live("k")
            assert 1 == runtime.names().count("close")
            stored = [record.session_id for record in await manager.stored_sessions()]
            assert {"forget": [], "discard": [None]}.get(next(iter(wish)), ["fake-1"]) == stored
            assert OWN_TASKS == sorted(our_tasks())
            return step.fired

    fired = True
    n = 1
    while fired:
        results: list[bool] = []

        async def run(n: int = n, results: list[bool] = results) -> None:
            results.append(await main(n))

        run_virtual(run)
        fired = results[0]
        n += 1
    assert n > 5
