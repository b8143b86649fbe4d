"""The manager under any order of prompts, stops, closes, faults and time."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.stepped_trio import TrioMachine, in_trio
from tests.turn_kit import SETTINGS, C, Counting, G, J, T, Watched, check_trace, our_tasks
from trio_acp import AcpError, BackendUnavailable, QueueFull, TextDelta, open_session_manager
from trio_acp.stores import MemoryStore
from trio_acp.testing import Hang, Raise, Sleep, Swallow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio_acp import Session, SessionManager, Turn
    from trio_acp.abc import Mode
    from trio_acp.testing.fake import Step

pytestmark = pytest.mark.concurrency

KEYS = st.sampled_from(["a", "b"])
SECONDS = st.sampled_from([0.05, 0.1, 0.5, 1.0, 2.0, 6.0, 30.0])
BOUND = T + G + 2 * C + 2 * J
CALLS: dict[str, list[Step]] = {
    "quick": [],
    "slow": [Sleep(1)],
    "hung": [Hang()],
    "stubborn": [Swallow(3)],
    "failing": [Raise(OSError("planted"))],
    "retryable": [Raise(BackendUnavailable("planted", retryable=True))],
}
OPERATIONS: dict[str, Callable[[Session], Awaitable[object]]] = {
    "set_mode": lambda session: session.set_mode("plan"),
    "set_config_option": lambda session: session.set_config_option("effort", "high"),
    "update_options": lambda session: session.update_options(model="large", timeout_seconds=3),
    "another directory": lambda session: session.update_options(cwd="/elsewhere"),
    "reset_options": lambda session: session.reset_options(),
    "forget": lambda session: session.close(forget=True),
    "discard": lambda session: session.close(discard=True, allow_backend_unavailable=True),
}
TURNS: dict[str, list[Step]] = {
    **CALLS,
    "stops": [TextDelta("x"), Hang(stops=True)],
    "talks": [TextDelta("x"), Sleep(1), TextDelta("y")],
}


@attrs.define(eq=False)
class Prompted:
    """One prompt of the machine: its turn, its caller's scope, and when it was over for the caller."""

    turn: Turn
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    cancelled_at: float | None = None
    returned_at: float | None = None


class ManagerMachine(TrioMachine):
    """Drives one manager with two sessions."""

    @initialize(
        random=st.random_module(),
        mode=st.sampled_from(["persistent", "oneshot"]),
        idle_ttl=st.sampled_from([0.5, 20.0, math.inf]),
        max_sessions=st.sampled_from([None, 1, 2]),
        tells_ids=st.booleans(),
    )
    def open(self, random: object, mode: Mode, idle_ttl: float, max_sessions: int | None, tells_ids: bool) -> None:
        """Draw the scheduler's order too: Trio's is registered with Hypothesis."""
        self.mode = mode
        self.settings = attrs.evolve(SETTINGS, idle_ttl=idle_ttl, max_sessions=max_sessions)
        self.runtime = Counting()
        self.runtime.tells_ids = tells_ids
        self.watched = Watched()
        self.prompts: list[Prompted] = []
        self.store = MemoryStore()
        self.manager: SessionManager | None = None
        self.longest_wait = 0.0
        self.leave = trio.Event()
        self.trio.call(self._open)

    async def _open(self) -> None:
        assert self.trio.nursery is not None
        self.trio.nursery.start_soon(self._manage)
        await trio.testing.wait_all_tasks_blocked()
        for key in ("a", "b"):
            assert self.manager is not None
            await self.manager.start_session(key, agent="fake", mode=self.mode)

    async def _manage(self) -> None:
        async with open_session_manager(
            {"fake": self.runtime}, store=self.store, settings=self.settings, instrument=self.watched
        ) as self.manager:
            self.watched.statistics = self.manager.statistics
            await self.leave.wait()

    def in_background(self, async_fn: object, *args: object) -> None:
        async def run() -> None:
            assert callable(async_fn)
            with contextlib.suppress(AcpError):
                await async_fn(*args)

        assert self.trio.nursery is not None
        self.trio.nursery.start_soon(run)
        self.trio.call(trio.lowlevel.checkpoint)

    @rule(key=KEYS, burst=st.integers(1, 3))
    def submit(self, key: str, burst: int) -> None:
        """Some prompts, each with a caller of its own."""
        assert self.manager is not None
        for _ in range(burst):
            prompted = Prompted(self.manager.session(key).turn("x"))
            self.prompts.append(prompted)
            self.in_background(self._prompt, prompted)

    async def _prompt(self, prompted: Prompted) -> None:
        try:
            with prompted.scope:
                async with prompted.turn:
                    async for _ in prompted.turn:
                        pass
        except QueueFull:
            self.prompts.remove(prompted)
        finally:
            prompted.returned_at = trio.current_time()

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    @in_trio
    async def cancel_a_caller(self, data: st.DataObject) -> None:
        prompted = data.draw(st.sampled_from(self.prompts))
        if prompted.returned_at is None and prompted.cancelled_at is None:
            prompted.cancelled_at = trio.current_time()
            prompted.scope.cancel()

    @precondition(lambda self: self.prompts)
    @rule(data=st.data())
    @in_trio
    async def stop_a_turn(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.prompts)).turn
        unsettled = turn.outcome is None
        assert unsettled == turn.cancel("by the machine")

    @rule(key=KEYS)
    def cancel_a_session(self, key: str) -> None:
        assert self.manager is not None
        self.in_background(self.manager.session(key).cancel)

    @rule(key=KEYS)
    def close_a_session(self, key: str) -> None:
        assert self.manager is not None
        self.in_background(self.manager.session(key).close)

    @rule(key=KEYS)
    def ask_how_it_is(self, key: str) -> None:
        assert self.manager is not None
        self.in_background(self.manager.session(key).status)

    @rule()
    def reconcile(self) -> None:
        assert self.manager is not None
        self.in_background(self.manager.reconcile_identities)

    @rule(key=KEYS, operation=st.sampled_from(sorted(OPERATIONS)), gives_up_after=SECONDS)
    def operate(self, key: str, operation: str, gives_up_after: float) -> None:
        """Change a session's options, or forget it; the caller may be gone before that is done."""

        async def run() -> None:
            assert self.manager is not None
            start = trio.current_time()
            with trio.move_on_after(gives_up_after):
                await OPERATIONS[operation](self.manager.session(key))
            self.longest_wait = max(self.longest_wait, trio.current_time() - start - gives_up_after)

        self.in_background(run)

    @rule(key=KEYS, fresh=st.booleans())
    def start_again(self, key: str, fresh: bool) -> None:
        """Start a session that may be open."""
        assert self.manager is not None
        manager = self.manager

        async def run() -> None:
            await manager.start_session(key, agent="fake", mode=self.mode, fresh=fresh)

        self.in_background(run)

    @rule(
        turn=st.sampled_from(sorted(TURNS)),
        ensure=st.sampled_from(sorted(CALLS)),
        cancel=st.sampled_from(sorted(CALLS)),
        close=st.sampled_from(sorted(CALLS)),
        control=st.sampled_from(sorted(CALLS)),
        status=st.sampled_from(sorted(CALLS)),
        quiet=st.booleans(),
    )
    def change_the_weather(
        self, turn: str, ensure: str, cancel: str, close: str, control: str, status: str, quiet: bool
    ) -> None:
        """From now on the runtime behaves like this."""
        self.runtime.turn, self.runtime.ensure = TURNS[turn], CALLS[ensure]
        self.runtime.on_cancel, self.runtime.on_close = CALLS[cancel], CALLS[close]
        self.runtime.on_control, self.runtime.on_status = CALLS[control], CALLS[status]
        self.runtime.quiet = quiet

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.trio.advance(seconds)

    @rule()
    def lose_the_connection(self) -> None:
        self.runtime.dead |= self.runtime.open

    @invariant()
    def every_record_added_up(self) -> None:
        if self.manager is not None:
            assert [] == self.watched.broken

    @invariant()
    def one_turn_at_a_time_on_each_handle(self) -> None:
        if self.manager is not None:
            alive = [call.handle for call in self.runtime.calls if call.name == "run_turn"]
            assert len(self.runtime.running) <= len(set(alive))
            stragglers = self.manager.statistics().stragglers
            assert all(most <= 1 + stragglers for most in self.runtime.most_at_once.values())

    @invariant()
    def every_handle_has_its_slot(self) -> None:
        """As many slots are taken as the runtime itself counts handles, and never more than there are."""
        if self.manager is not None:
            assert self.runtime.now == self.manager.statistics().capacity.taken
            assert self.runtime.most <= (self.settings.max_sessions or math.inf)

    @invariant()
    @in_trio
    async def every_row_is_ours_as_long_as_a_handle_may_be_open(self) -> None:
        """As the runtime counts them; and free once the last one is gone and nobody is at work."""
        if self.manager is None or self.leave.is_set():
            return
        for row in await self.store.list():
            used = self.runtime.used[row.key] > 0
            busy = row.key in self.manager._ctx.queue.busy()
            assert (row.owner is not None) == used or (busy and not used), row

    @invariant()
    @in_trio
    async def nobody_waits_too_long(self) -> None:
        now = trio.current_time()
        started = {r.turn: r.time for r in getattr(self, "watched", Watched()).records if r.name == "dequeued"}
        for prompted in getattr(self, "prompts", []):
            over = now if prompted.returned_at is None else prompted.returned_at
            if prompted.cancelled_at is not None:
                assert over - prompted.cancelled_at <= 2 * C + 2 * J + 1e-6
            begun = started.get(prompted.turn.request_id)
            if begun is not None:
                assert over - begun <= BOUND + 1e-6
            assert (prompted.turn.outcome is not None) >= (prompted.returned_at is not None and begun is not None)

    @invariant()
    def nobody_who_gave_up_waits_too_long(self) -> None:
        assert getattr(self, "longest_wait", 0.0) <= 2 * C + 2 * J + 1e-6

    def teardown(self) -> None:
        try:
            if hasattr(self, "leave"):
                self.trio.call_sync(self.leave.set)
                self.trio.advance(60)
                assert [] == self.trio.call_sync(our_tasks)
                assert set() == self.runtime.open
                assert 0 == self.runtime.now
                assert self.manager is not None
                assert 0 == self.manager.statistics().capacity.taken
                check_trace(self.watched)
                assert [] == self.watched.broken
        finally:
            super().teardown()


TestManager = ManagerMachine.TestCase
assert settings.default is not None
TestManager.settings = settings(max_examples=settings.default.max_examples, stateful_step_count=25)
