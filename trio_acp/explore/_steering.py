"""Holding every task of a Trio run before every step, so that somebody else chooses which goes on.

Each task's coroutine is replaced by a `SteeredCoroutine`.  When Trio resumes
it, it does not resume the real one but parks the task.  Trio asks its clock
how long to sleep exactly when nothing is left to run: there, one of the parked
tasks is chosen, and only that one makes a step.  So one task moves at a time,
and every order in which Trio could run them, and more, can be had.  Time
passes only when no task is parked, from one deadline to the next.

This uses documented names of Trio, with one caveat: `Task.coro` is a
documented attribute, but that it may be *assigned* while
`Instrument.task_spawned` runs is not promised.  If a release of Trio should
stop honouring it, the first step of a run notices and says so.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, CoroutineType, FrameType

_IDLE_POLLS: Final = 8
"""How often the run may find nothing to do before that counts: its own machinery wakes through a socket."""


class Unsteerable(RuntimeError):
    """This release of Trio does not let its tasks be held."""


class Deadlock(Exception):
    """No task can run, and no deadline will wake one."""


class Livelock(Exception):
    """The run made more steps than it may."""


def _parking_message() -> object:
    def stay(_: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.FAILED

    async def wait() -> None:
        await trio.lowlevel.wait_task_rescheduled(stay)

    waiting = wait()
    message: object = waiting.send(None)
    waiting.close()
    return message


_PARK: Final = _parking_message()
"""What Trio has to be sent to park a task which no cancellation wakes."""


class SteeredCoroutine:
    """Stands in for a task's coroutine: a step waits until it was chosen.

    Attributes:
        label: The task's name, with its number among the tasks of that name.
        born: The task's number among all tasks of the run.
    """

    __slots__ = ("_parked", "_steering", "_value", "born", "done", "inner", "label", "task")

    def __init__(self, steering: Steering, task: trio.lowlevel.Task, label: str) -> None:
        self.task = task
        self.inner = cast("CoroutineType[Any, Any, Any]", task.coro)
        self.label = label
        self.born = len(steering.coroutines)
        self.done = False
        self._parked = False
        self._steering = steering
        self._value: Any = None

    def send(self, value: Any) -> object:
        """Park the task, keeping what it is resumed with; resume it if it has just been chosen."""
        steering = self._steering
        if not self._parked:
            self._value = value
            self._parked = True
            steering.arrived.append(self)
            return _PARK
        self._parked = False
        value, self._value = self._value, None
        steering.begin_step(self)
        try:
            return self.inner.send(value)
        except BaseException:
            self.done = True
            raise

    def throw(self, error: BaseException) -> object:
        """Throw into the coroutine at once; Trio does that only to complain about a foreign library."""
        return self.inner.throw(error)

    def close(self) -> None:
        """Close the coroutine."""
        self.done = True
        self.inner.close()

    # What Trio and debuggers look at.

    @property
    def cr_frame(self) -> FrameType | None:
        return self.inner.cr_frame

    @property
    def cr_await(self) -> Any:
        return self.inner.cr_await

    @property
    def cr_code(self) -> CodeType:
        return self.inner.cr_code

    @property
    def cr_running(self) -> bool:
        return self.inner.cr_running

    @property
    def cr_suspended(self) -> bool:
        return self.inner.cr_suspended


@attrs.define(eq=False)
class Hooks:
    """Who wants to know.

    Attributes:
        choose: Told the parked tasks, at least two, longest parked first; returns the position of the next.
        begin_step: Called right before a step, in the task that makes it.
        end_step: Called right after a step; returns True if that may have made tasks runnable.
        intrude: Told what the run does that it must not.
    """

    choose: Callable[[list[SteeredCoroutine]], int]
    begin_step: Callable[[int, SteeredCoroutine], None]
    end_step: Callable[[int], bool]
    intrude: Callable[[str], None]


class Steering(trio.abc.Clock, trio.abc.Instrument):
    """The clock and the instrument of one steered run.

    Attributes:
        steps: Steps begun so far, of all tasks together.
        now: The virtual time, seconds.
        coroutines: All tasks, in the order of their birth.
        arrived: Tasks that were parked since the last choice.
    """

    def __init__(self, main: CodeType, hooks: Hooks, max_steps: int) -> None:
        self.steps = 0
        self.now = 0.0
        self.coroutines: list[SteeredCoroutine] = []
        self.arrived: list[SteeredCoroutine] = []
        self._main = main
        self._hooks = hooks
        self._max_steps = max_steps
        self._parked: list[SteeredCoroutine] = []
        self._names: dict[str, int] = {}
        self._ended_steps = 0
        self._idle = 0

    # -- trio.abc.Instrument --

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Take over a task, unless it is one of Trio's own."""
        if not self.coroutines:
            if getattr(task.coro, "cr_code", None) is not self._main:
                return
        elif _is_trios_own(task):
            return
        name = task.name.rpartition(".")[2] if self.coroutines else "main"
        number = self._names[name] = self._names.get(name, -1) + 1
        steered = SteeredCoroutine(self, task, f"{name}[{number}]" if number else name)
        self.coroutines.append(steered)
        task.coro = cast("Any", steered)

    # -- trio.abc.Clock --

    def start_clock(self) -> None:
        """Do nothing: the time is virtual."""

    def current_time(self) -> float:
        """Return the virtual time."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Choose the next task; if there is none, let time pass.  Trio asks when nothing is left to run."""
        if trio.testing.active_thread_count():
            self._hooks.intrude("it uses a thread, which virtual time cannot control")
        if self.arrived:
            # Those that arrived together did so in an order that Trio draws by lot.
            self.arrived.sort(key=_born)
            self._parked += self.arrived
            self.arrived.clear()
        if self._ended_steps < self.steps:
            self._ended_steps = self.steps
            if self._hooks.end_step(self.steps - 1):
                return 0.0
        if self._parked:
            self._idle = 0
            if self.steps >= self._max_steps:
                raise Livelock(f"more than {self._max_steps} steps")
            position = self._hooks.choose(self._parked) if len(self._parked) > 1 else 0
            trio.lowlevel.reschedule(self._parked.pop(position).task)
            return 0.0
        return self._let_time_pass(deadline)

    def _let_time_pass(self, deadline: float) -> float:
        if trio.testing.active_thread_count():
            return 0.01  # the run is refused already; the thread wants to report to it
        if self._idle == 0 and any(_waits_for_idleness(steered) for steered in self.coroutines if not steered.done):
            self._idle += 1
            return 0.001  # Trio wakes them instead of sleeping
        if deadline < math.inf:
            self._idle = 0
            self.now = max(self.now, deadline)
            return 0.0
        self._idle += 1
        if self._idle > _IDLE_POLLS:
            if self.coroutines and all(steered.done for steered in self.coroutines):
                return 0.01  # only Trio's own tasks are left
            files = trio.lowlevel.current_statistics().io_statistics
            # One is Trio's own, for signals and other threads.
            if getattr(files, "tasks_waiting_read", 1) + getattr(files, "tasks_waiting_write", 0) > 1:
                self._hooks.intrude("it waits for a file descriptor, which virtual time cannot control")
            raise Deadlock("no task can run, and no deadline is pending")
        return 0.0

    # -- for SteeredCoroutine --

    def begin_step(self, steered: SteeredCoroutine) -> None:
        """Count a step."""
        step = self.steps
        self.steps = step + 1
        self._hooks.begin_step(step, steered)

    # -- afterwards --

    def abandon(self) -> None:
        """Close what a crashed run has left behind, latest first, and forget it."""
        for steered in reversed(self.coroutines):
            for _ in range(100):
                if steered.inner.cr_frame is None:
                    break
                with contextlib.suppress(BaseException):  # cleanup that awaits cannot work any more
                    steered.close()
        for left in (self.coroutines, self.arrived, self._parked):
            left.clear()


def _is_trios_own(task: trio.lowlevel.Task) -> bool:
    nursery = task.parent_nursery
    return (
        nursery is not None
        and nursery.parent_task.parent_nursery is None
        and _module(getattr(task.coro, "cr_frame", None)).startswith("trio._core.")
    )


def _module(frame: FrameType | None) -> str:
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def _born(steered: SteeredCoroutine) -> int:
    return steered.born


_WAIT_FOR_IDLENESS: Final = getattr(trio.testing.wait_all_tasks_blocked, "__code__", None)


def _waits_for_idleness(steered: SteeredCoroutine) -> bool:
    waiting: Any = steered.inner
    while waiting is not None:
        if getattr(waiting, "cr_code", None) is _WAIT_FOR_IDLENESS:
            return True
        waiting = getattr(waiting, "cr_await", None)
    return False


def stack(steered: SteeredCoroutine) -> str:
    """Return where a task waits, outermost frame first, as ``file:line name``; of Trio's frames only the entries."""
    shown: list[str] = []
    inside_trio = False
    for frame, line in steered.task.iter_await_frames():
        module, code = _module(frame), frame.f_code
        was_inside, inside_trio = inside_trio, module.startswith("trio.")
        if module.startswith(__package__) or (inside_trio and was_inside):
            continue
        place = "" if inside_trio else f"{code.co_filename.rpartition('/')[2]}:{line} "
        shown.append(f"{place}{code.co_qualname.replace('<locals>.', '')}")
    return " > ".join(shown)
