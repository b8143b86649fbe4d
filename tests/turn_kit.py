"""What the tests of turns share: managers over a `FakeRuntime`, recorders, hooks into the scheduler."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.testing import MockClock

from trio_acp import Limits, SessionRecord, Settings, open_session_manager
from trio_acp._trace import MEANING
from trio_acp.abc import Instrument, SessionStore
from trio_acp.stores import MemoryStore
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from trio_acp import Session, SessionManager
    from trio_acp._statistics import Statistics
    from trio_acp._trace import TraceRecord
    from trio_acp.abc import EnsureRequest, Handle, Mode, Mutate

T, G, C, J = 5.0, 1.0, 2.0, 0.1
"""The deadlines of every turn here: turn, grace, cleanup, join."""

LIMITS = Limits(turn=T, grace=G, cleanup=C, join=J)
SETTINGS = Settings(limits=LIMITS)


class Recorder(Instrument):
    """Keeps every record; checks what holds at each of them."""

    def __init__(self) -> None:
        self.records: list[TraceRecord] = []
        self.statistics: Callable[[], Statistics] | None = None

    def record(self, record: TraceRecord) -> None:
        self.records.append(record)

    def names(self, turn: str | None = None) -> list[str]:
        return [record.name for record in self.records if turn in (None, record.turn)]

    def turns(self) -> Iterator[str]:
        """The ids of admitted turns, in order."""
        return (record.turn for record in self.records if record.name == "admitted")


class OnRecord(Recorder):
    """A recorder that calls a function once, in the step in which something of that name is recorded."""

    def __init__(self, name: str, function: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.name, self.function = name, function
        self.fired = False

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        if record.name == self.name and not self.fired:
            self.fired = True
            self.function()


class Watched(Recorder):
    """A recorder that also samples the statistics at every record; read `broken` at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[tuple[TraceRecord, Statistics]] = []

    def record(self, record: TraceRecord) -> None:
        super().record(record)
        if self.statistics is not None:
            now = self.statistics()
            if not adds_up(now):
                self.broken.append((record, now))


def adds_up(s: Statistics) -> bool:
    """Whether every submitted turn is in exactly one column."""
    columns = (s.queued, s.active, s.completed, s.failed, s.timed_out, s.stopped)
    return s.submitted == sum(columns) and s.depth == s.queued + s.active and min(columns) >= 0


def check_trace(recorder: Recorder) -> None:
    """Assert the laws that every trace of a finished manager obeys."""
    assert set(recorder.names()) <= set(MEANING)
    for turn in recorder.turns():
        names = recorder.names(turn)
        assert "admitted" == names[0]
        assert 1 == names.count("settled"), names
        assert {"released"} >= set(names[names.index("settled") + 1 :]), names
        assert names.count("ladder.cancel") <= names.count("submitted"), names
        assert names.count("ladder.cancel") <= 1
        if "submitted" in names and "cause" in names:
            last = len(names) - names[::-1].index("submitted")
            stops = [
                record
                for record in [record for record in recorder.records if record.turn == turn][:last]
                if record.name == "cause" and record.data["cause"] != "failure"
            ]
            assert [] == stops, "a prompt was submitted after a cause"


@asynccontextmanager
async def one_session(
    runtime: FakeRuntime,
    *,
    mode: Mode = "persistent",
    settings: Settings = SETTINGS,
    store: SessionStore | None = None,
    instrument: Instrument | None = None,
) -> AsyncIterator[tuple[SessionManager, Session]]:
    """Open a manager with one started session, ``"k"``."""
    async with open_session_manager(
        {"fake": runtime}, store=store, settings=settings, instrument=instrument
    ) as manager:
        if isinstance(instrument, Recorder):
            instrument.statistics = manager.statistics
        yield manager, await manager.start_session("k", agent="fake", mode=mode)


class AwkwardStore(SessionStore):
    """A memory store whose calls can be made to hang or to raise, while it is used."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        self.hang_read = self.hang_update = self.hang_list = False
        self.error: Exception | None = None
        self.error_in_update: Exception | None = None

    async def read(self, key: str) -> SessionRecord | None:
        await self._behave(hang=self.hang_read)
        return await self.memory.read(key)

    async def update(self, key: str, mutate: Mutate) -> SessionRecord | None:
        if self.error_in_update is not None:
            raise self.error_in_update
        await self._behave(hang=self.hang_update)
        return await self.memory.update(key, mutate)

    async def list(self) -> tuple[SessionRecord, ...]:
        await self._behave(hang=self.hang_list)
        return await self.memory.list()

    async def _behave(self, *, hang: bool) -> None:
        if self.error is not None:
            raise self.error
        if hang:
            await trio.sleep_forever()


class Counting(FakeRuntime):
    """Counts the backend sessions that are being opened, open, or being closed, and remembers the most."""

    most = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.used: Counter[str] = Counter()

    @property
    def now(self) -> int:
        return self.used.total()

    async def ensure_session(self, request: EnsureRequest) -> Handle:
        self.used[request.key] += 1
        self.most = max(self.most, self.now)
        opened = False
        try:
            handle = await super().ensure_session(request)
            opened = True
        finally:
            self.used[request.key] -= not opened
        return handle

    async def close(self, handle: Handle, reason: str) -> None:
        try:
            await super().close(handle, reason)
        finally:
            self.used[handle.key] -= 1


class AtStep(trio.abc.Instrument):
    """Calls a function once, before or after the n-th task step of a run since it was armed."""

    def __init__(self, n: int, function: Callable[[], object], *, after: bool) -> None:
        self.n, self.function, self.after = n, function, after
        self.count = 0
        self.armed = False
        self.fired = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.after:
            self._step()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.after:
            self._step()

    def _step(self) -> None:
        if not self.armed or self.fired:
            return
        self.count += 1
        if self.count == self.n:
            self.fired = True
            self.function()


class OnTask(trio.abc.Instrument):
    """Calls a function once, when a task of that name is spawned or has made its last step."""

    def __init__(self, name: str, function: Callable[[], object], *, spawned: bool) -> None:
        self.name, self.function, self.spawned = name, function, spawned
        self.fired = False

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if self.spawned:
            self._fire(task)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        if not self.spawned:
            self._fire(task)

    def _fire(self, task: trio.lowlevel.Task) -> None:
        if task.name == self.name and not self.fired:
            self.fired = True
            self.function()


OWN_TASKS: Final = ["trio_acp actors", "trio_acp evictor", "trio_acp gates"]
"""The tasks of a manager, whatever it does, in the order of their names."""


def our_tasks() -> list[str]:
    """The names of all tasks of this run that belong to trio_acp, the scopes' own left out."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    found: list[str] = []
    nurseries = list(root.child_nurseries)
    while nurseries:
        for task in nurseries.pop().child_tasks:
            nurseries += task.child_nurseries
            if task.name.startswith("trio_acp"):
                found.append(task.name)
    return found


def run_virtual(async_fn: Callable[[], Awaitable[object]], *instruments: trio.abc.Instrument) -> None:
    """Run in a fresh Trio run whose time jumps."""
    trio.run(async_fn, clock=MockClock(autojump_threshold=0), instruments=instruments)


@contextmanager
def installed(instrument: trio.abc.Instrument) -> Iterator[None]:
    """Have a Trio instrument listen to this run during the block."""
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)
