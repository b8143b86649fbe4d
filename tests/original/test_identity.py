"""Identities, as the original's own tests have them: what is learned when, and what a restart makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.original.kit import KEY, manager_with, record, requests
from tests.turn_kit import SETTINGS, J
from trio_acp import Completed, TurnFailed
from trio_acp.abc import Identity, RuntimeStatus
from trio_acp.testing import FakeRuntime, Hang, Raise, Run, Sleep, Swallow

if TYPE_CHECKING:
    from trio.testing import MockClock

    from trio_acp.abc import EnsureRequest, Handle
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

FRESH = RuntimeStatus(summary="well", session_id="s-2", agent_session_id="a-2", record_id="r-2")
PENDING = Identity(state="pending", session_id="s-1")
SETTLE = SETTINGS.limits.settle


def ids(identity: Identity | None) -> tuple[str | None, ...]:
    """Return the state, the ids and the source of an identity."""
    assert identity is not None
    i = identity
    return (i.state, i.session_id, i.agent_session_id, i.record_id, i.source)


class Nameless(FakeRuntime):
    """Tells no ids, neither with the handle nor when it is asked."""

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        handle = await super().ensure_session(request)
        handle.session_id = None
        return handle


# -- after a turn -------------------------------------------------------------


async def test_what_the_status_tells_after_a_turn_replaces_older_ids(autojump_clock: MockClock) -> None:
    """Asked once, after the caller went on; all ids are stored as confirmed."""
    runtime = FakeRuntime(reports=FRESH)
    async with manager_with(runtime, record(session_id="s-1")) as (manager, store):
        await manager.session(KEY).prompt("x")
        await wait_all_tasks_blocked()
        assert 1 == runtime.names().count("status")
        assert ("resolved", "s-2", "a-2", "r-2", "status") == ids(store.stored().identity)


async def test_what_the_handle_learns_in_a_turn_is_kept(autojump_clock: MockClock) -> None:
    """Although the status says nothing: the agent's own id confirms the session, whose id stays."""
    runtime = FakeRuntime(reports=RuntimeStatus(summary="well"))

    def learn(_: object) -> None:
        for handle in runtime.open:
            handle.agent_session_id = "a-9"

    runtime.turn = [Run(learn)]
    async with manager_with(runtime, record(identity=PENDING)) as (manager, store):
        await manager.session(KEY).prompt("x")
        assert ("resolved", "s-1", "a-9", None, "event") == ids(store.stored().identity)


async def test_ids_survive_a_backend_that_tells_none(autojump_clock: MockClock) -> None:
    """Neither opening nor the status has any: what is stored is still true."""
    runtime = Nameless(reports=RuntimeStatus(summary="well"))
    known = Identity(state="resolved", session_id="s-1", agent_session_id="a-1", source="status")
    async with manager_with(runtime, record(identity=known)) as (manager, store):
        session = manager.session(KEY)
        await session.prompt("x")
        await session.status()
        assert ("resolved", "s-1", "a-1") == ids(store.stored().identity)[:3]


async def test_opening_a_session_again_takes_nothing_back(autojump_clock: MockClock) -> None:
    """What was confirmed stays so, and by whom: the ids of a handle that was just opened are not confirmed."""
    async with manager_with(FakeRuntime(), record(session_id="s-1")) as (manager, store):
        await manager.session(KEY).prompt("x")
        assert ("resolved", "s-1", None, None, "status") == ids(store.stored().identity)


async def test_a_oneshot_learns_its_ids_before_it_is_closed(autojump_clock: MockClock) -> None:
    """Afterwards nobody can be asked any more; what was told is stored."""
    runtime = FakeRuntime(reports=FRESH)
    async with manager_with(runtime, record(mode="oneshot")) as (manager, store):
        await manager.session(KEY).prompt("x")
        assert ["ensure_session", "run_turn", "status", "close"] == runtime.names()
        assert ("resolved", "s-2") == ids(store.stored().identity)[:2]


@pytest.mark.parametrize("resists", [False, True])
async def test_a_status_that_hangs_after_a_turn_holds_up_nobody(resists: bool, autojump_clock: MockClock) -> None:
    """The caller goes on at once, the next turn too; left alone it is given up, and nothing is written of it."""
    runtime = FakeRuntime(status=[Swallow(30) if resists else Hang()], reports=FRESH)
    async with manager_with(runtime, record(session_id="s-1")) as (manager, store):
        session = manager.session(KEY)
        assert Completed() == (await session.prompt("x")).outcome
        assert 0 == trio.current_time()
        written = list(store.written)
        await trio.sleep(SETTLE + 1)
        assert written == store.written
        assert "s-1" == store.stored().session_id
        began = trio.current_time()
        runtime.on_status = []
        await session.prompt("y")
        assert pytest.approx(0, abs=0.11) == trio.current_time() - began


async def test_a_late_status_does_not_write_over_a_session_that_began_anew(autojump_clock: MockClock) -> None:
    """The question after a turn gives way to the reset; its answer, when it comes, is of nobody any more."""
    runtime = FakeRuntime(status=[Swallow(3)], reports=FRESH)
    async with manager_with(runtime, record(session_id="s-1")) as (manager, store):
        await manager.session(KEY).prompt("x")
        await wait_all_tasks_blocked()
        await manager.start_session(KEY, agent="codex", fresh=True)
        assert J == trio.current_time()
        fresh = store.stored().identity
        await trio.sleep(20)
        assert ("fake-2", None) == ids(store.stored().identity)[1:3]
        assert ids(fresh)[1:] == ids(store.stored().identity)[1:]


async def test_a_handle_on_which_something_failed_is_asked_how_it_is(autojump_clock: MockClock) -> None:
    """Before it is used again; one that says that it is dead is closed, and the session resumed on another."""
    runtime = FakeRuntime([Raise(OSError("odd"))])
    async with manager_with(runtime, record(session_id="s-1")) as (manager, _):
        session = manager.session(KEY)
        for answer, handles in ((RuntimeStatus(summary="well"), 1), (RuntimeStatus(summary="status=dead"), 2)):
            runtime.turn = [Raise(OSError("odd"))]
            with pytest.raises(TurnFailed):
                await session.prompt("x")
            del runtime.calls[:]
            runtime.turn, runtime.reports = [], answer
            await session.prompt("y")
            reopened = ["close", "ensure_session"] if handles == 2 else []
            assert ["status", *reopened, "run_turn"] == runtime.names()
            assert 1 == len(runtime.open)


# -- other ids ----------------------------------------------------------------


async def test_a_handle_of_another_conversation_than_the_stored_one_is_replaced(autojump_clock: MockClock) -> None:
    """Somebody stored other ids under the key: starting closes the open handle and resumes those."""
    runtime = FakeRuntime()
    async with manager_with(runtime, record(session_id="s-1")) as (manager, store):
        await manager.session(KEY).prompt("x")
        other = Identity(state="resolved", session_id="s-2")
        await store.update(KEY, lambda old: None if old is None else attrs.evolve(old, identity=other))
        await manager.start_session(KEY, agent="codex")
        assert ["s-1", "s-2"] == [request.resume for request in requests(runtime)]
        assert (["replaced"], 1) == (requests(runtime, "close"), len(runtime.open))


# -- after a restart ----------------------------------------------------------


async def test_ids_that_were_never_confirmed_are_confirmed_after_a_restart(autojump_clock: MockClock) -> None:
    """The session is resumed, asked, and stored with all its ids."""
    runtime = FakeRuntime(reports=attrs.evolve(FRESH, session_id="s-1"))
    async with manager_with(runtime, record(identity=PENDING)) as (manager, store):
        report = await manager.reconcile_identities()
        assert (1, 1, 0) == (report.checked, report.resolved, report.failed)
        assert ["s-1"] == [request.resume for request in requests(runtime)]
        assert ("resolved", "s-1", "a-2", "r-2", "status") == ids(store.stored().identity)


@pytest.mark.parametrize(
    "stored",
    [
        record(session_id="s-1"),
        record(),
        record(identity=Identity(state="pending", record_id="r-1")),
        record(identity=PENDING, mode="oneshot"),
    ],
    ids=["confirmed", "no identity", "only a record id", "oneshot"],
)
async def test_a_restart_leaves_the_others_alone(stored: Any, autojump_clock: MockClock) -> None:
    """Confirmed ids, ids by which nothing can be resumed, and oneshots: nobody is opened, nobody asked."""
    runtime = FakeRuntime(reports=FRESH)
    async with manager_with(runtime, stored) as (manager, store):
        report = await manager.reconcile_identities()
        assert (0, 0, 0) == (report.checked, report.resolved, report.failed)
        assert ([], []) == (runtime.names(), store.written)


async def test_one_session_that_hangs_does_not_keep_others_from_being_reconciled(autojump_clock: MockClock) -> None:
    """Each has its own deadline, and several are asked at once."""

    def ensure(request: EnsureRequest) -> list[Step]:
        return [Hang()] if request.key == "k0" else [Sleep(1)]

    runtime = FakeRuntime(ensure=ensure, reports=lambda handle: RuntimeStatus(summary="well", session_id="s-1"))
    records = [record(f"k{n}", identity=PENDING) for n in range(9)]
    async with manager_with(runtime, *records) as (manager, _):
        report = await manager.reconcile_identities(concurrency=3)
        assert (9, 8, 1) == (report.checked, report.resolved, report.failed)
        assert SETTINGS.limits.setup == trio.current_time()
        assert 4 == max(call.time for call in runtime.calls if call.name == "status")


# -- for people ---------------------------------------------------------------


async def test_the_status_tells_whether_ids_are_confirmed(autojump_clock: MockClock) -> None:
    """Pending ids are marked as such; confirmed ones are all there, the agent's own for its own tools."""
    runtime = FakeRuntime(reports=RuntimeStatus(summary="well"))
    async with manager_with(runtime, record(identity=PENDING)) as (manager, _):
        session = manager.session(KEY)
        identity = (await session.status()).identity
        assert ("pending", "s-1", None) == ids(identity)[:3]
        runtime.reports = FRESH
        await session.prompt("x")
        identity = (await session.status()).identity
        assert ("resolved", "s-2", "a-2") == ids(identity)[:3]
