"""What contracts have in common: each law is a Trio run of its own, and what breaks it is told with the law."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from unittest import SkipTest

import trio

from .._errors import AcpError
from .._procfs import all_processes, has_variable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

T = TypeVar("T")
C = TypeVar("C", bound="Contract")


NOTHING_IS_LEFT = "Once it is closed and left, none of its tasks and processes is there."
_MARK = "TRIO_ACP_CONTRACT"
_POLL_SECONDS = 0.01


class LawBroken(AssertionError):
    """What was tested breaks a law; the message says how, and cites the law.

    Attributes:
        law: The law, if it is not that of the test.
    """

    def __init__(self, message: str, law: str | None = None) -> None:
        super().__init__(message)
        self.law = law


class Contract:
    """Laws as tests that need no plugin of the test runner: a subclass says what they are for.

    Attributes:
        seconds: How long one step may take.
        leaves: Seconds in which a call that was cancelled must have ended.
    """

    seconds: float = 5.0
    leaves: float = 1.0

    def clock(self) -> trio.abc.Clock | None:
        """Return the clock of one test; None, real time, unless there is nothing real to wait for."""
        return None

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[None]:
        """Have whatever is connected to, such as a server, for the time of one test; here nothing.

        If cancelled, it is gone all the same.
        """
        yield

    async def _step(
        self,
        what: str,
        async_fn: Callable[..., Awaitable[T]],
        *args: object,
        seconds: float | None = None,
        expects: tuple[type[Exception], ...] = (),
    ) -> T:
        """Return what a call returns in time; it may raise what is expected, and nothing else."""
        __tracebackhide__ = True
        patience = self.seconds if seconds is None else seconds
        deadline = trio.current_time() + patience
        try:
            with trio.move_on_at(deadline):
                value = await async_fn(*args)
                if trio.current_time() <= deadline:  # what resists cancellation may come back all the same
                    return value
        except Exception as error:
            if isinstance(error, (LawBroken, *expects)):
                raise
            raise LawBroken(f"{what} raised {error!r}") from error
        raise LawBroken(f"{what} did not end within {patience:g} s")


def law(async_fn: Callable[[C], Awaitable[None]]) -> Callable[[C], None]:
    """Make a test of an async method, whose docstring is the law.

    The test fails with one exception, which cites the law, also if a nursery raised a group.
    It fails, too, if a task or a process is left.
    """

    async def run(contract: C) -> None:
        children = _children()
        async with contract.backend():
            # What a server starts for its connections may end a little later than they do.
            servers = set(_nurseries(trio.lowlevel.current_task()))
            before = set(_tasks(servers))
            await async_fn(contract)
            left = sorted(task.name for task in set(_tasks(servers)) - before)
            demand(not left, f"tasks are left at the end: {', '.join(left)}", NOTHING_IS_LEFT)
        orphans = sorted(_children() - children)
        demand(not orphans, f"processes are left at the end: {', '.join(orphans)}", NOTHING_IS_LEFT)

    def test(contract: C) -> None:
        __tracebackhide__ = True  # what is worth reading is the cause
        try:
            with _no_descendants_left(contract.leaves):
                trio.run(run, contract, clock=contract.clock())
        except Exception as error:  # noqa: BLE001 - whatever was raised, it is told with the law
            verdict, cause = _verdict(error, test.__doc__ or "")
            raise verdict from cause

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(test, name, getattr(async_fn, name))
    return test


def demand(is_so: bool, otherwise: str, law: str | None = None) -> None:
    """Raise `LawBroken` with these words unless it is so; unlike ``assert``, also under ``python -O``.

    Args:
        law: The law, if it is not that of the test.

    Raises:
        LawBroken: it is not so.
    """
    if not is_so:
        raise LawBroken(otherwise, law)


async def already_cancelled(async_fn: Callable[[], Awaitable[object]]) -> bool:
    """Call within a scope that is cancelled already; return whether `Cancelled` came out.

    What is ours may be raised all the same.  If cancelled from outside, so is the call.
    """
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        with suppress(AcpError):
            await async_fn()
    return scope.cancelled_caught


def undeclared(what: str) -> NoReturn:
    """Skip the test: it is about something that the subclass did not declare.

    Raises:
        unittest.SkipTest: always.
    """
    raise SkipTest(f"{what} is not declared")


def _verdict(error: Exception, law: str) -> tuple[Exception, BaseException | None]:
    """Return the one exception that tells of all that was raised, and what else is worth reading."""
    faults = list(_leaves(error))
    said = f"there was {faults[0]!r}, unexpectedly"
    cause: BaseException | None = faults[0] if len(faults) == 1 else error
    for fault in faults:
        if isinstance(fault, SkipTest):
            return fault, None
        if isinstance(fault, LawBroken):
            said, cause, law = str(fault), fault.__cause__, fault.law or law
            break
    summary = " ".join(law.partition("\n\n")[0].split())
    return LawBroken(f"{said}\nThe law: {summary}"), cause


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


def _nurseries(task: trio.lowlevel.Task) -> Iterator[trio.Nursery]:
    """Yield every nursery in a task and in the tasks below it."""
    for nursery in task.child_nurseries:
        yield nursery
        for child in nursery.child_tasks:
            yield from _nurseries(child)


def _tasks(excepted: set[trio.Nursery]) -> Iterator[trio.lowlevel.Task]:
    """Yield every task of this run, system tasks too, but for those in some nurseries."""
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [
            child for nursery in task.child_nurseries if nursery not in excepted for child in nursery.child_tasks
        ]


def _children() -> set[str]:
    """Return the ids of our child processes, as far as the system tells."""
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in _words(task)}


@contextmanager
def _no_descendants_left(patience: float) -> Iterator[None]:
    """Fail if a process that was started within outlives the block, whoever its parent is by then.

    They are known by a variable of their environment, so this sees those that
    inherit it.  What has been killed may take the kernel up to `patience` seconds.

    Raises:
        LawBroken: one is left.
    """
    outer, value = os.environ.get(_MARK), uuid.uuid4().hex
    os.environ[_MARK] = value
    try:
        yield
    finally:
        os.environ.pop(_MARK)
        if outer is not None:
            os.environ[_MARK] = outer
    end = time.monotonic() + patience
    while (left := _marked(value)) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    demand(not left, f"processes are left at the end: {', '.join(left)}", NOTHING_IS_LEFT)


def _marked(value: str) -> list[str]:
    return [str(each.pid) for each in all_processes() if has_variable(each.pid, _MARK, value)]


def _words(file: Path) -> list[str]:
    try:
        return file.read_text("ascii").split()
    except OSError:  # a thread that has just ended
        return []
