"""What a run must not touch, and what it must not leave behind."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import warnings
import weakref
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from types import AsyncGeneratorType

_FORBIDDEN: Final = {
    "socket.__new__": "it makes a real socket; connect its ends with trio.testing.memory_stream_pair()",
    "_thread.start_new_thread": "it starts a thread, which virtual time cannot control",
    "_thread.start_joinable_thread": "it starts a thread, which virtual time cannot control",
    "subprocess.Popen": "it starts a process, which virtual time cannot control",
    "os.posix_spawn": "it starts a process, which virtual time cannot control",
    "os.fork": "it forks the process",
    "os.forkpty": "it forks the process",
}

_DESCRIPTORS: Final = Path("/proc/self/fd")


class Forbidden(RuntimeError):
    """The scenario uses something that cannot be explored; the message says what."""


_guarded: list[Guard] = []


@functools.cache
def _install() -> None:
    sys.addaudithook(_audit)  # it cannot be taken away again; it does nothing while nobody explores


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _guarded and event in _FORBIDDEN and _guarded[-1].inside:
        _guarded[-1].refuse(_FORBIDDEN[event])


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

    def refuse(self, why: str) -> None:
        """Remember a forbidden act, and prevent it.

        Raises:
            Forbidden: in the guarded thread.
        """
        if threading.get_ident() == self._thread:
            self.refused = why
            raise Forbidden(why)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the end of the block; garbage is collected at the end of each run, and only there."""
        _install()
        hook, collects = sys.unraisablehook, gc.isenabled()
        sys.unraisablehook = self._unraisable
        gc.disable()
        _guarded.append(self)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", ResourceWarning)
                warnings.simplefilter("always", RuntimeWarning)
                warnings.showwarning = self._warning
                yield
        finally:
            _guarded.remove(self)
            sys.unraisablehook = hook
            if collects:
                gc.enable()

    def _unraisable(self, unraisable: Any) -> None:
        self._noise.append(f"{unraisable.err_msg or 'exception ignored'}: {unraisable.exc_value!r}")

    def _warning(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        self._noise.append(f"{category.__name__}: {message}")

    # -- one run --

    def begin(self) -> None:
        """Note what there is before a run."""
        self.refused = None
        self._noise.clear()
        self._generators.clear()
        self._descriptors = _count_descriptors()

    @contextmanager
    def scenario(self) -> Iterator[None]:
        """Enclose the scenario itself, in its Trio run."""
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
        """Collect what a crashed run has left, and do not count it: that complains is our doing."""
        self._generators.clear()
        gc.collect()
        self._noise.clear()
        self._descriptors = _count_descriptors()

    def end(self) -> list[str]:
        """Return what a run has left behind."""
        gc.collect(0)
        leaks = list(self._noise)
        if (more := _count_descriptors() - self._descriptors) > 0:
            leaks.append(f"{more} file descriptors were not closed")
        return leaks


def _count_descriptors() -> int:
    try:
        return sum(1 for _ in _DESCRIPTORS.iterdir())
    except OSError:
        return 0  # only Linux tells
