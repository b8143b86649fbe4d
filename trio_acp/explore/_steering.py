"""Holding every task of a Trio run before every step, so that somebody else chooses which goes on.

Each task's coroutine is replaced by a `SteeredCoroutine`.  When Trio resumes
it, it does not resume the real one but parks the task.  Trio asks its clock
how long to sleep exactly when nothing is left to run: there, one of the parked
tasks is chosen, and only that one makes a step.  So one task moves at a time,
and every order in which Trio could run them, and more, can be had.  Time
passes only when no task is parked, from one deadline to the next.

Trio's own tasks (what calls the functions given to `TrioToken.run_sync_soon`,
what closes abandoned async generators) are held too, so that they never share
a turn of Trio's loop with a step, whose order Trio would draw by lot.  They go
on before anybody is chosen, and make no steps.

This uses documented names of Trio, with one caveat: `Task.coro` is a
documented attribute, but that it may be *assigned* while
`Instrument.task_spawned` runs is not promised.  If a release of Trio should
stop honouring it, no step is ever seen, and `run_once` raises `Unsteerable`.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio
import trio.testing

from ._steered import SteeredCoroutine, module_of, without_chance

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_IDLE_POLLS: Final = 4
"""How often the run may find nothing to do before that counts: its own machinery wakes through a socket."""

_INTRUDER_POLLS: Final = 500
"""How often a thread that should not be there is waited for, 0.01 real seconds each time."""


class Unsteerable(RuntimeError):
    """This release of Trio does not let its tasks be held."""


class Deadlock(Exception):
    """No task can run, and no deadline will wake one."""


class Livelock(Exception):
    """The run made more steps than it may."""


@attrs.define(eq=False)
class Hooks:
    """Who wants to know.

    Attributes:
        choose: Told the parked tasks, at least two, longest parked first; returns the position of the next.
        begin_step: Called right before a step, in the task that makes it; None if nobody is interested.
        end_step: Called right after a step, outside of any task; returns
            True if that may have made tasks runnable; None if nobody is interested.
        intrude: Told what the run does that it must not.
    """

    choose: Callable[[list[SteeredCoroutine]], int]
    begin_step: Callable[[int, SteeredCoroutine], None] | None
    end_step: Callable[[int], bool] | None
    intrude: Callable[[str], None]


class Steering(trio.abc.Clock, trio.abc.Instrument):
    """The clock and the instrument of one steered run.

    Attributes:
        steps: Steps begun so far, of all tasks together.
        now: The virtual time, seconds.
        coroutines: All tasks but Trio's own, in the order of their birth.
        trail: The time and the task of each step.
    """

    def __init__(self, main: CodeType, hooks: Hooks, max_steps: int) -> None:
        self.steps = 0
        self.now = 0.0
        self.coroutines: list[SteeredCoroutine] = []
        self.trail: list[tuple[float, int]] = []
        self._main = main
        self._hooks = hooks
        self._max_steps = max_steps
        self._arrived: list[SteeredCoroutine] = []  # parked since the last choice
        self._parked: list[SteeredCoroutine] = []
        self._root: trio.lowlevel.Task | None = None
        self._own: list[SteeredCoroutine] = []
        self._own_arrived: list[SteeredCoroutine] = []
        self._own_steps = 0
        self._names: dict[str, int] = {}
        self._ended_steps = 0
        self._idle = 0

    # -- trio.abc.Instrument --

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Take over a task."""
        if task.parent_nursery is None:
            self._root = task  # it only starts and stops the others
            return
        if self._is_trios_own(task):
            own = SteeredCoroutine(task, task.name, len(self._own), self._own_arrived, None)
            self._own.append(own)
            task.coro = cast("Any", own)
            return
        name = without_chance(task.name).rpartition(".")[2] if self.coroutines else "main"
        number = self._names[name] = self._names.get(name, -1) + 1
        label = f"{name}[{number}]" if number else name
        steered = SteeredCoroutine(task, label, len(self.coroutines), self._arrived, self._begin_step)
        self.coroutines.append(steered)
        task.coro = cast("Any", steered)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Note a task's end."""
        held: object = task.coro
        if isinstance(held, SteeredCoroutine):
            held.done = True

    def _is_trios_own(self, task: trio.lowlevel.Task) -> bool:
        if not self.coroutines:
            return getattr(task.coro, "cr_code", None) is not self._main
        nursery = task.parent_nursery
        return (
            nursery is not None
            and nursery.parent_task is self._root
            and module_of(getattr(task.coro, "cr_frame", None)).startswith("trio._core.")
        )

    # -- trio.abc.Clock --

    def start_clock(self) -> None:
        """Do nothing: the time is virtual."""

    def current_time(self) -> float:
        """Return the virtual time."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Choose the next task; if there is none, let time pass.  Trio asks when nothing is left to run."""
        parked = self._parked
        if self._arrived:
            # Those that arrived together did so in an order that Trio draws by lot.
            self._arrived.sort(key=_born)
            parked += self._arrived
            self._arrived.clear()
        if self._ended_steps < self.steps:
            self._ended_steps = self.steps
            if self._hooks.end_step is not None and self._hooks.end_step(self.steps - 1):
                return 0.0
        if self._own_arrived:
            return self._release_own()
        if not parked:
            return self._let_time_pass(deadline)
        self._idle = 0
        if self.steps >= self._max_steps:
            raise Livelock(f"more than {self._max_steps} steps")
        position = self._hooks.choose(parked) if len(parked) > 1 else 0
        trio.lowlevel.reschedule(parked.pop(position).task)
        return 0.0

    def _release_own(self) -> float:
        self._idle = 0
        self._own_steps += 1
        if self._own_steps > self._max_steps:
            raise Livelock(f"more than {self._max_steps} calls of TrioToken.run_sync_soon")
        if trio.testing.active_thread_count():
            self._hooks.intrude("it uses a thread, which virtual time cannot control")
        self._own_arrived.sort(key=_born)
        trio.lowlevel.reschedule(self._own_arrived.pop(0).task)
        return 0.0

    def _let_time_pass(self, deadline: float) -> float:
        self._idle += 1
        if self._idle == 1:
            return 0.0  # whatever was given to run_sync_soon comes first
        if trio.testing.active_thread_count():
            self._hooks.intrude("it uses a thread, which virtual time cannot control")
            if self._idle < _INTRUDER_POLLS:
                return 0.01  # it wants to report to the run, whose end it would delay
        files = trio.lowlevel.current_statistics().io_statistics
        # One is Trio's own, for signals and other threads.
        if getattr(files, "tasks_waiting_read", 1) + getattr(files, "tasks_waiting_write", 0) > 1:
            self._hooks.intrude("it waits for a file descriptor, which virtual time cannot control")
            raise Deadlock("no task can run, but for what is outside of the run")
        cushions = [cushion for steered in self.coroutines if (cushion := _cushion(steered)) is not None]
        if cushions and self.now + min(cushions) < deadline:
            self.now += min(cushions)
            return min(cushions) + 0.001  # Trio wakes those that wait for idleness before that
        if deadline < math.inf:
            self._idle = 0
            self.now = max(self.now, deadline)
            return 0.0
        if self._idle > _IDLE_POLLS:
            if all(steered.done for steered in self.coroutines):
                return 0.01  # only Trio's own tasks are left
            raise Deadlock("no task can run, and no deadline is pending")
        return 0.0

    # -- for SteeredCoroutine --

    def _begin_step(self, steered: SteeredCoroutine) -> None:
        step = self.steps
        self.steps = step + 1
        self.trail.append((self.now, steered.born))
        if self._hooks.begin_step is not None:
            self._hooks.begin_step(step, steered)

    # -- afterwards --

    def abandon(self) -> None:
        """Close what a crashed run has left behind, latest first, and forget it."""
        left: list[Any] = [steered.inner for steered in (*self._own, *self.coroutines)]
        if self._root is not None:
            left.insert(0, self._root.coro)
        for coroutine in reversed(left):
            for _ in range(100):
                if coroutine.cr_frame is None:
                    break
                with contextlib.suppress(BaseException):  # cleanup that awaits cannot work any more
                    coroutine.close()
        for tasks in (self.coroutines, self._own, self._arrived, self._own_arrived, self._parked):
            tasks.clear()
        self._root = None


def _born(steered: SteeredCoroutine) -> int:
    return steered.born


_WAIT_FOR_IDLENESS: Final = getattr(trio.testing.wait_all_tasks_blocked, "__code__", None)


def _cushion(steered: SteeredCoroutine) -> float | None:
    """Return the cushion with which a task waits for all tasks to be blocked; None if it does not."""
    waiting: Any = None if steered.done else steered.inner
    while waiting is not None:
        if getattr(waiting, "cr_code", None) is _WAIT_FOR_IDLENESS:
            return float(waiting.cr_frame.f_locals["cushion"])
        waiting = getattr(waiting, "cr_await", None)
    return None
