"""What a run must not touch, and what it must not leave behind."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
import warnings
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from types import AsyncGeneratorType

_THREAD: Final = "it starts a thread, which virtual time cannot control"
_FORBIDDEN: Final = {
    # By the names that Python gives to these acts: see "Audit events table" in its documentation.
    "socket.__new__": "it makes a real socket; connect its ends with trio.testing.memory_stream_pair()",
    "_thread.start_new_thread": _THREAD,
    "_thread.start_joinable_thread": _THREAD,
    "subprocess.Popen": "it starts a process, which virtual time cannot control",
    "os.posix_spawn": "it starts a process, which virtual time cannot control",
    "os.fork": "it forks the process",
    "os.forkpty": "it forks the process",
}

_DESCRIPTORS: Final = "/proc/self/fd"
_RUNS_PER_SWEEP: Final = 100


class Forbidden(RuntimeError):
    """The scenario uses something that cannot be explored; the message says what."""


_guarded: Final[list[Guard]] = []
_one_at_a_time: Final = threading.RLock()  # warnings, garbage and unraisable exceptions belong to the whole process


@functools.cache
def _install() -> None:
    sys.addaudithook(_audit)  # it cannot be taken away again; it does nothing while nobody explores


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _guarded and event in _FORBIDDEN and _guarded[-1].inside:
        _guarded[-1].refuse(_FORBIDDEN[event])


def _refuse_thread(thread: threading.Thread) -> None:
    """Stand in for `threading.Thread.start`, of which Python 3.11 has no audit event."""
    if _guarded[-1].inside:
        _guarded[-1].refuse(_THREAD)
    _start_thread(thread)


_start_thread: Final = threading.Thread.start


class Guard:
    """Watches over the runs of one exploration.

    Attributes:
        inside: Whether the scenario is running now, as opposed to Trio's own starting and ending.
        refused: What the scenario did that it must not, whatever became of the exception.
    """

    def __init__(self) -> None:
        self.inside = False
        self.refused: str | None = None
        self._thread = threading.get_ident()
        self._noise: list[str] = []
        self._generators: weakref.WeakSet[AsyncGeneratorType[Any, Any]] = weakref.WeakSet()
        self._descriptors = 0
        self._runs = 0

    def refuse(self, why: str) -> None:
        """Remember a forbidden act, and prevent it.

        Raises:
            Forbidden: in the guarded thread.
        """
        if threading.get_ident() == self._thread:
            self.refused = why
            raise Forbidden(why)

    @contextmanager
    def watching(self, *, interrupts: bool = False) -> Iterator[None]:
        """Watch until the end of the block; garbage is collected at the end of each run, and only there.

        Another thread's watch is waited for.  All that is changed is put back.

        Args:
            interrupts: Whether SIGINT will be raised.

        Raises:
            Forbidden: it will, and this is not the main thread.
        """
        if interrupts and threading.current_thread() is not threading.main_thread():
            raise Forbidden("Interrupt raises SIGINT, which reaches the main thread only; explore there")
        _install()
        with _one_at_a_time, _put_back(interrupts=interrupts), warnings.catch_warnings():
            gc.collect()  # what is left of earlier doings is not this scenario's
            gc.disable()
            sys.unraisablehook = self._unraisable
            if interrupts:
                signal.signal(signal.SIGINT, signal.default_int_handler)  # Trio respects every other handler
            warnings.simplefilter("always", ResourceWarning)
            warnings.filterwarnings("always", r"coroutine .* was never awaited", RuntimeWarning)
            warnings.showwarning = functools.partial(self._warning, warnings.showwarning)
            _guarded.append(self)
            setattr(threading.Thread, "start", _refuse_thread)  # noqa: B010 - an assignment would be a type error
            try:
                yield
            finally:
                _guarded.remove(self)

    def _unraisable(self, unraisable: Any) -> None:
        where = getattr(unraisable.object, "__qualname__", type(unraisable.object).__qualname__)
        self._noise.append(f"an exception in {where} had nowhere to go: {unraisable.exc_value!r}")

    def _warning(self, show: Any, message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, ResourceWarning) or "was never awaited" in str(message):
            self._noise.append(f"{category.__name__}: {message}")
        else:
            show(message, category, *args, **kwargs)

    # -- one run --

    def begin(self) -> None:
        """Note what there is before a run."""
        self._runs += 1
        if self._runs % _RUNS_PER_SWEEP == 0:
            gc.collect(1)  # what an error's traceback held on to when its run ended
        self.refused = None
        self._noise.clear()
        self._generators.clear()
        self._descriptors = _count_descriptors()

    @contextmanager
    def scenario(self) -> Iterator[None]:
        """Enclose the scenario itself, in its Trio run, which puts the hooks for generators back."""
        first, last = sys.get_asyncgen_hooks()

        def started(generator: AsyncGenerator[Any, Any]) -> None:
            self._generators.add(cast("AsyncGeneratorType[Any, Any]", generator))
            if first is not None:
                first(generator)

        sys.set_asyncgen_hooks(firstiter=started, finalizer=last)
        self.inside = True
        try:
            yield
        finally:
            self.inside = False

    def open_generators(self) -> list[str]:
        """Return the async generators that the scenario has begun and left, asked right after its end."""
        return sorted(
            f"the async generator {generator.__qualname__} is neither exhausted nor closed"
            for generator in self._generators
            if generator.ag_frame is not None
        )

    def forget(self) -> None:
        """Collect what a crashed run has left, and do not count it: that it complains is our doing."""
        self.inside = False
        self._generators.clear()
        gc.collect()
        self._noise.clear()
        self._descriptors = _count_descriptors()

    def end(self) -> list[str]:
        """Return what a run has left behind; nothing may hold on to its tasks any more."""
        gc.collect(0)
        leaks = list(self._noise)
        if (more := _count_descriptors() - self._descriptors) > 0:
            leaks.append(f"file descriptors were not closed: {more}")
        return leaks


@contextmanager
def _put_back(*, interrupts: bool) -> Iterator[None]:
    hook, collects = sys.unraisablehook, gc.isenabled()
    handler, start = signal.getsignal(signal.SIGINT), threading.Thread.start
    try:
        yield
    finally:
        sys.unraisablehook = hook
        setattr(threading.Thread, "start", start)  # noqa: B010 - an assignment would be a type error
        if collects:
            gc.enable()
        if interrupts:
            signal.signal(signal.SIGINT, handler)


def _count_descriptors() -> int:
    try:
        return len(os.listdir(_DESCRIPTORS))  # noqa: PTH208 - a path for each would cost more than the rest of a short run
    except OSError:
        return 0  # only Linux tells
