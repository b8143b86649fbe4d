"""Confirming the ids of stored sessions: which ones, how many at once, for how long."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
import trio.testing

from tests.turn_kit import LIMITS, SETTINGS, AwkwardStore, Counting, J
from trio_acp import (
    Identity,
    InvalidOption,
    ManagerClosed,
    ReconcileReport,
    SessionInitFailed,
    SessionRecord,
    open_session_manager,
)
from trio_acp.abc import RuntimeStatus
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from trio.testing import MockClock

    from trio_acp import SessionManager
    from trio_acp.abc import EnsureRequest, Mutate, SessionStore
    from trio_acp.testing.fake import FakeCall, Step

pytestmark = pytest.mark.concurrency

SETUP = LIMITS.setup
PENDING = Identity(session_id="s")
ALL = RuntimeStatus(summary="", session_id="s", agent_session_id="a", record_id="r")


def record_of(key: str, identity: Identity | None = PENDING, **changes: Any) -> SessionRecord:
    return SessionRecord(key=key, agent=changes.pop("agent", "fake"), identity=identity, **changes)


def put(record: SessionRecord) -> Mutate:
    return lambda _: record


@asynccontextmanager
async def manager_of(
    runtime: FakeRuntime, *records: SessionRecord, store: SessionStore | None = None, **settings: Any
) -> AsyncIterator[SessionManager]:
    """Open a manager over a store with these records."""
    store = store or MemoryStore()
    for record in records:
        await store.update(record.key, put(record))
    manager_settings = attrs.evolve(SETTINGS, **settings)
    async with open_session_manager({"fake": runtime}, store=store, settings=manager_settings) as manager:
        yield manager


async def identities(manager: SessionManager) -> list[Identity | None]:
    return [record.identity for record in await manager.stored_sessions()]


def opened(runtime: FakeRuntime) -> list[FakeCall]:
    return [call for call in runtime.calls if call.name == "ensure_session"]


async def test_a_pending_identity_is_resolved(autojump_clock: MockClock) -> None:
    """T-030: the session is resumed and its runtime asked; all ids it tells are stored."""
    runtime = FakeRuntime(reports=ALL)
    async with manager_of(runtime, record_of("k")) as manager:
        assert ReconcileReport(1, 1, 0) == await manager.reconcile_identities()
        expected = Identity(state="resolved", session_id="s", agent_session_id="a", record_id="r", source="status")
        assert [expected] == await identities(manager)
        assert (["ensure_session", "status"], "s") == (runtime.names(), opened(runtime)[0].detail.resume)
        assert ReconcileReport(0, 0, 0) == await manager.reconcile_identities()
        await manager.session("k").prompt("x")
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == runtime.names().count("status")  # it has told


async def test_two_at_a_time_ask_once(autojump_clock: MockClock) -> None:
    """Whoever finds in the lane that the ids are confirmed by now is done."""
    runtime = FakeRuntime(ensure=[Sleep(1)], reports=ALL)
    async with manager_of(runtime, record_of("k")) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(manager.reconcile_identities)
        assert ReconcileReport(1, 1, 0) == await manager.reconcile_identities()
        assert ["ensure_session", "status"] == runtime.names()


async def test_a_runtime_that_tells_no_ids_confirms_by_resuming(autojump_clock: MockClock) -> None:
    """Coming back to a session by an id is a confirmation of the id."""
    runtime = FakeRuntime()
    async with manager_of(runtime, record_of("k")) as manager:
        assert ReconcileReport(1, 1, 0) == await manager.reconcile_identities()
        assert [Identity(state="resolved", session_id="s")] == await identities(manager)
        assert ["ensure_session"] == runtime.names()


@pytest.mark.parametrize(
    "record",
    [
        record_of("k", Identity(state="resolved", session_id="s")),
        record_of("k", Identity(record_id="r")),
        record_of("k", None),
        record_of("k", mode="oneshot"),
    ],
    ids=["resolved", "only a record id", "nothing", "a oneshot"],
)
async def test_what_is_left_alone(record: SessionRecord, autojump_clock: MockClock) -> None:
    """T-031, T-048, T-210: what is confirmed, cannot be resumed by anything, or never is resumed."""
    runtime = FakeRuntime(reports=ALL)
    async with manager_of(runtime, record) as manager:
        assert ReconcileReport(0, 0, 0) == await manager.reconcile_identities()
        assert [] == runtime.calls


async def test_an_open_session_is_not_opened_again(autojump_clock: MockClock) -> None:
    """Its handle is asked."""
    runtime = FakeRuntime(reports=ALL)
    async with manager_of(runtime) as manager:
        await manager.start_session("k", agent="fake")
        assert ReconcileReport(1, 1, 0) == await manager.reconcile_identities()
        assert ["ensure_session", "status"] == runtime.names()


async def test_so_many_at_once(autojump_clock: MockClock) -> None:
    """`concurrency` sessions at a time."""
    runtime = FakeRuntime(ensure=[Sleep(1)])
    async with manager_of(runtime, *(record_of(f"k{n}") for n in range(5))) as manager:
        assert ReconcileReport(5, 5, 0) == await manager.reconcile_identities(concurrency=2)
        assert [0, 0, 1, 1, 2] == [call.time for call in opened(runtime)]
        assert 3 == trio.current_time()


async def test_one_hung_session_stalls_no_other(autojump_clock: MockClock) -> None:
    """E-30: it has its own deadline; meanwhile the others are asked."""

    def ensure(request: EnsureRequest) -> Iterable[Step]:
        return [Hang()] if request.key == "k0" else [Sleep(1)]

    runtime = FakeRuntime(ensure=ensure)
    async with manager_of(runtime, *(record_of(f"k{n}") for n in range(4))) as manager:
        assert ReconcileReport(4, 3, 1) == await manager.reconcile_identities(concurrency=2)
        assert [0, 0, 1, 2] == [call.time for call in opened(runtime)]
        assert pytest.approx(SETUP, abs=2 * J) == trio.current_time()
        assert 3 == manager.statistics().open_handles


async def test_a_busy_session_is_waited_for_no_longer(autojump_clock: MockClock) -> None:
    """The time in its queue counts; the turn there is not disturbed."""
    limits = attrs.evolve(LIMITS, turn=3 * SETUP)
    runtime = FakeRuntime([Sleep(2 * SETUP)])
    async with manager_of(runtime, limits=limits) as manager, trio.open_nursery() as nursery:
        session = await manager.start_session("k", agent="fake")
        nursery.start_soon(session.prompt, "x")
        await trio.testing.wait_all_tasks_blocked()
        assert ReconcileReport(1, 0, 1) == await manager.reconcile_identities()
        assert SETUP == trio.current_time()


async def test_a_session_that_cannot_be_resumed_stays_as_it_is(autojump_clock: MockClock) -> None:
    """Nothing begins anew in the background: that is for a turn to do, whose caller can see it."""
    runtime = FakeRuntime(ensure=[Raise(SessionInitFailed("unknown", detail="resume-failed"))])
    async with manager_of(runtime, record_of("k"), record_of("l", agent="missing")) as manager:
        assert ReconcileReport(2, 0, 2) == await manager.reconcile_identities()
        assert (1, [PENDING, PENDING]) == (len(runtime.calls), await identities(manager))


async def test_it_never_exceeds_the_room_there_is(autojump_clock: MockClock) -> None:
    """Nor does it close anybody's idle handle to make some."""
    runtime = Counting()
    records = [record_of(f"k{n}") for n in range(4)]
    async with manager_of(runtime, *records, max_sessions=2) as manager:
        await manager.start_session("mine", agent="fake")
        runtime.ensure = [Sleep(1)]
        report = await manager.reconcile_identities()
        assert ReconcileReport(5, 2, 3) == report  # `mine` itself, and one more
        assert (2, True, 0) == (runtime.most, manager.is_live("mine"), manager.statistics().evicted)


@pytest.mark.parametrize("steps", [[Raise(OSError("odd"))], [Hang()]], ids=["raises", "hangs"])
async def test_a_status_that_fails_does_not_matter_after_a_resume(steps: list[Step], autojump_clock: MockClock) -> None:
    """The resume has confirmed the id that was stored."""
    runtime = FakeRuntime(status=steps, reports=ALL)
    async with manager_of(runtime, record_of("k")) as manager:
        report = await manager.reconcile_identities()
        hung = trio.current_time() > 0
        assert (ReconcileReport(1, 0, 1) if hung else ReconcileReport(1, 1, 0)) == report
        assert trio.current_time() <= SETUP + 2 * J


@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_a_store_that_cannot_list(how: str, autojump_clock: MockClock) -> None:
    """B-150: it is logged and counted as one failure."""
    store = AwkwardStore()
    async with manager_of(FakeRuntime(), record_of("k"), store=store) as manager:
        store.hang_list = True
        store.error = OSError("disk") if how == "raises" else None
        assert ReconcileReport(0, 0, 1) == await manager.reconcile_identities()
        assert (LIMITS.probe if how == "hangs" else 0) == trio.current_time()


@pytest.mark.parametrize("store_is", ["hang_read", "hang_update"])
async def test_a_store_that_hangs(store_is: str, autojump_clock: MockClock) -> None:
    """A read that hangs fails its session, in time; a write that hangs after the opening is done later."""
    store = AwkwardStore()
    hang = Run(lambda _: setattr(store, store_is, True))
    runtime = FakeRuntime(ensure=[hang] if store_is == "hang_update" else [], reports=ALL)
    async with manager_of(runtime, record_of("k"), store=store) as manager:
        store.hang_read = store_is == "hang_read"
        report = await manager.reconcile_identities()
        assert (ReconcileReport(1, 0, 1) if store_is == "hang_read" else ReconcileReport(1, 1, 0)) == report
        setattr(store, store_is, False)
    async with store:
        [stored] = await store.list()
    assert stored.identity is not None
    assert ("pending" if store_is == "hang_read" else "resolved") == stored.identity.state


@pytest.mark.parametrize("where", ["list", "read", "ensure", "status", "update"])
async def test_a_cancelled_reconcile_leaves_nothing_behind(where: str, autojump_clock: MockClock) -> None:
    """Whatever it waits for, it ends at once; the session can be used, and what was confirmed is stored."""
    store = AwkwardStore()
    hang: list[Step] = [Hang()]
    runtime = FakeRuntime(
        ensure=hang if where == "ensure" else [], status=hang if where == "status" else [], reports=ALL
    )
    async with manager_of(runtime, record_of("k"), record_of("l"), store=store) as manager:
        store.hang_list, store.hang_read, store.hang_update = (where == name for name in ("list", "read", "update"))
        with trio.move_on_after(1) as scope:
            await manager.reconcile_identities(concurrency=1)
        assert scope.cancelled_caught
        assert trio.current_time() <= 1 + 2 * J
        assert [] == [call for call in opened(runtime) if call.detail.key == "l"]
        store.hang_list = store.hang_read = store.hang_update = False
        runtime.ensure, runtime.on_status = [], []
        await manager.session("k").prompt("x")
        await trio.testing.wait_all_tasks_blocked()
        first = (await identities(manager))[0]
        assert first is not None
        assert "resolved" == first.state


async def test_the_manager_can_be_left_meanwhile(autojump_clock: MockClock) -> None:
    """Leaving it gives up what is being asked; those left count as failed."""
    runtime = FakeRuntime(ensure=[Hang()])
    reports: list[ReconcileReport] = []

    async with trio.open_nursery() as nursery:
        async with manager_of(runtime, record_of("k"), record_of("l")) as manager:

            async def reconcile() -> None:
                reports.append(await manager.reconcile_identities(concurrency=1))

            nursery.start_soon(reconcile)
            await trio.sleep(1)
        assert trio.current_time() <= 1 + 2 * J
    assert [ReconcileReport(2, 0, 2)] == reports
    with pytest.raises(ManagerClosed):
        await manager.reconcile_identities()


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, None])
async def test_the_concurrency_is_a_whole_number(concurrency: Any, autojump_clock: MockClock) -> None:
    """Anything else is refused."""
    async with manager_of(FakeRuntime()) as manager:
        with pytest.raises(InvalidOption):
            await manager.reconcile_identities(concurrency=concurrency)
