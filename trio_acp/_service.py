"""The one place that makes shields: bounded cleanup, and scopes that outlive their body.

Every shield in this package comes from here, and each has a finite deadline.
The one exception is the shield around the tasks of a service scope, which is
there exactly as long as the scope's body and is taken away by its exit.
"""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_log = logging.getLogger(__name__)

REPORT_EVERY = 5.0
"""Seconds between two reports about tasks that do not end."""

_START_LIMIT = 30.0


@contextmanager
def shielded(seconds: float) -> Iterator[trio.CancelScope]:
    """Run cleanup out of the reach of outer cancellation, for at most `seconds`.

    The scope it yields is cancelled when the time is over; the block then ends
    without an exception.  Outer cancellation is delivered at the first
    checkpoint after the block.
    """
    if not math.isfinite(seconds):
        raise ValueError("a shield must have a finite deadline")
    with trio.move_on_after(seconds, shield=True) as scope:
        yield scope


def await_stack(task: trio.lowlevel.Task) -> str:
    """Return where a task waits, outermost frame first, as ``file:line name``."""
    steps = []
    for frame, line in task.iter_await_frames():
        code = frame.f_code
        steps.append(f"{PurePath(code.co_filename).name}:{line} {code.co_qualname}")
    return " -> ".join(steps)


def _descendants(nursery: trio.Nursery) -> Iterator[trio.lowlevel.Task]:
    for task in nursery.child_tasks:
        yield task
        for child in task.child_nurseries:
            yield from _descendants(child)


class ServiceScope:
    """A nursery whose tasks are cancelled only after the body has ended.

    If an outer scope is cancelled, the body sees it first; the tasks live on
    until the body has finished, its cleanup included.  The body's exception
    leaves the block as it is, the same object, never in a group.  If a task
    raises, the body is cancelled and the exception leaves in a group: service
    tasks are written so that none does.

    Leaving waits until every task has ended, also when it is interrupted by
    Ctrl-C, which is raised afterwards.  While a task resists, its await stack
    is logged every 5 seconds.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # Lifted by `__aexit__`, and only then: see the module's docstring.
        self._shield = trio.CancelScope(shield=True)
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._inner: trio.Nursery | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> trio.Nursery:
        """Start the scope; works in an already cancelled scope too."""
        # Made only now: a scope may be made outside of a Trio run.
        self._outer_manager = trio.open_nursery()
        outer = await self._outer_manager.__aenter__()
        outer.start_soon(self._host, name=f"trio_acp {self._name}")
        # Not `nursery.start`: in a scope that is already cancelled it never returns.  The host reaches
        # its shield in its very first step, so this wait ends within one pass of the scheduler.
        interrupt: KeyboardInterrupt | None = None
        while interrupt is None and not self._ready.is_set():  # a clock that jumps may end the wait before that step
            with shielded(_START_LIMIT):
                try:
                    await self._ready.wait()
                except KeyboardInterrupt as error:
                    interrupt = error
        if interrupt is not None:
            await self.__aexit__(None, None, None)  # the caller's `async with` does not do it for us
            raise interrupt
        assert self._inner is not None
        return self._inner

    @trio.lowlevel.enable_ki_protection
    async def _host(self) -> None:
        try:
            with self._shield:
                async with trio.open_nursery() as self._inner:
                    self._ready.set()
                    await trio.sleep_forever()
        finally:
            self._ended.set()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._shield.cancel(reason=f"{self._name}: the body has ended")
        interrupt: KeyboardInterrupt | None = None
        while not self._ended.is_set():
            with shielded(REPORT_EVERY) as scope:
                try:
                    await self._ended.wait()
                except KeyboardInterrupt as error:
                    interrupt = error  # raised below: a nursery cannot be left while its tasks live
                    continue
            if scope.cancelled_caught:
                self.report()
        # The body's exception is not shown to the nursery: it would come out in a group.
        await self._outer_manager.__aexit__(None, None, None)
        if interrupt is not None:
            raise interrupt

    def report(self) -> None:
        """Log where each task waits: for whoever has waited for them before leaving."""
        assert self._inner is not None
        for task in _descendants(self._inner):
            _log.warning("%s: task %s does not end; it waits at %s", self._name, task.name, await_stack(task))
