"""A task's coroutine, held before every step: `SteeredCoroutine`; and where a task waits: `stack`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import trio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CoroutineType, FrameType


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
"""What Trio has to be sent to park a task which no cancellation wakes.

A task is parked only when it could go on, and Trio never aborts a task that
could: it finds out at its next checkpoint.  So does one that is parked.
"""


class SteeredCoroutine:
    """Stands in for a task's coroutine: a step waits until it was chosen.

    What else Trio and debuggers ask a coroutine, the real one answers.

    Attributes:
        task: The task.
        inner: The real coroutine.
        label: The task's name, with its number among the tasks of that name.
        born: The task's number among all tasks of the run.
        done: Whether the task has ended.
    """

    __slots__ = ("_arrived", "_begin", "_parked", "_value", "born", "done", "inner", "label", "task")

    def __init__(
        self,
        task: trio.lowlevel.Task,
        label: str,
        born: int,
        arrived: list[SteeredCoroutine],
        begin: Callable[[SteeredCoroutine], object] | None,
    ) -> None:
        self.task = task
        self.inner = cast("CoroutineType[Any, Any, Any]", task.coro)
        self.label = label
        self.born = born
        self.done = False
        self._arrived = arrived
        self._begin = begin
        self._parked = False
        self._value: Any = None

    def send(self, value: Any) -> object:
        """Park the task, keeping what it is resumed with; resume it if it has just been chosen."""
        if not self._parked:
            self._value = value
            self._parked = True
            self._arrived.append(self)
            return _PARK
        self._parked = False
        value, self._value = self._value, None
        if self._begin is not None:
            self._begin(self)
        return self.inner.send(value)

    def throw(self, error: BaseException) -> object:
        """Throw into the coroutine at once; Trio does that only to complain about a foreign library."""
        return self.inner.throw(error)

    def close(self) -> None:
        """Close the coroutine."""
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def in_hand(self) -> object:
        """What a parked task will be resumed with."""
        return self._value


_BY_CHANCE: Final = re.compile(r" at 0x[0-9a-fA-F]+|\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b")


def without_chance(text: str) -> str:
    """Return a text without what is another in every run: the addresses of objects, and UUIDs."""
    return _BY_CHANCE.sub("", text)


def module_of(frame: FrameType | None) -> str:
    """Return the name of the module whose code runs in a frame."""
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


def stack(steered: SteeredCoroutine) -> str:
    """Return where a task waits, outermost frame first, as ``file:line name``; of Trio's frames only the entries."""
    shown: list[str] = []
    inside_trio = False
    for frame, line in steered.task.iter_await_frames():
        module, code = module_of(frame), frame.f_code
        was_inside, inside_trio = inside_trio, module.startswith("trio.")
        if module.startswith(__package__) or (inside_trio and was_inside):
            continue
        place = "" if inside_trio else f"{code.co_filename.rpartition('/')[2]}:{line} "
        shown.append(f"{place}{code.co_qualname.replace('<locals>.', '')}")
    return " > ".join(shown)
