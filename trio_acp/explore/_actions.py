"""What can be done to a run in the middle of a step: `Cancel`, `Interrupt`, `Call`, `Jump`, `Raise`."""

from __future__ import annotations

import functools
import inspect
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._case import Case

Phase: TypeAlias = Literal["before", "after", "entry"]
"""Before a step was made, after it, or at the n-th entry of a callable."""


@attrs.frozen
class Cancel:
    """Cancel the scope of interest (`Case.scope`); the whole scenario if it has none.

    Attributes:
        reason: Given to `trio.CancelScope.cancel`.
    """

    reason: str = "explored"

    @property
    def name(self) -> str:
        """How tapes call it."""
        return "cancel"

    def apply(self, case: Case) -> None:
        """Do it, now."""
        case.cancel(self.reason)


@attrs.frozen
class Interrupt:
    """Press Ctrl-C: `KeyboardInterrupt` is raised in the scenario's own task, at its next checkpoint.

    That is how Trio delivers it when no unprotected code is running; in the
    middle of other tasks' code, where a real one may strike, it does not
    come.  A run that it ends is no failure.  Only in the main thread.
    """

    @property
    def name(self) -> str:
        """How tapes call it."""
        return "interrupt"

    def apply(self, case: Case) -> None:
        """Do it, now."""
        signal.raise_signal(signal.SIGINT)


@attrs.frozen
class Call:
    """Call what the scenario registered with `Case.on` for this `event`; nothing if it has not yet."""

    event: str

    @property
    def name(self) -> str:
        """How tapes call it."""
        return f"call:{self.event}"

    def apply(self, case: Case) -> None:
        """Do it, now."""
        case.call(self.event)


@attrs.frozen
class Jump:
    """Let `seconds` pass at once, as if the machine had been suspended."""

    seconds: float

    @property
    def name(self) -> str:
        """How tapes call it."""
        return f"jump:{self.seconds:g}"

    def apply(self, case: Case) -> None:
        """Do it, now."""
        case.jump(self.seconds)


@attrs.frozen
class Raise:
    """Have a callable raise at its n-th entry, for every n.

    An async callable raises when it is called, not when it is awaited.  It
    replaces an attribute: what has kept the callable itself is not reached.

    Attributes:
        owner: The class, module or object that has it.
        attribute: Its name there.
        error: Makes the exception.
    """

    owner: Any
    attribute: str
    error: Callable[[], BaseException]

    @property
    def name(self) -> str:
        """How tapes call it."""
        return f"raise:{getattr(self.owner, '__qualname__', type(self.owner).__qualname__)}.{self.attribute}"

    @contextmanager
    def patched(self, enter: Callable[[], bool]) -> Iterator[None]:
        """Until the end of the block, have each call ask `enter` whether it is to raise."""
        kept = inspect.getattr_static(self.owner, self.attribute)
        mine = self.attribute in vars(self.owner)
        wrap = type(kept) if isinstance(kept, staticmethod | classmethod) else None
        original = kept.__func__ if wrap is not None else getattr(self.owner, self.attribute)

        @functools.wraps(original)
        def passing(*args: Any, **kwargs: Any) -> Any:
            if enter():
                raise self.error()
            return original(*args, **kwargs)

        setattr(self.owner, self.attribute, passing if wrap is None else wrap(passing))
        try:
            yield
        finally:
            if mine:
                setattr(self.owner, self.attribute, kept)
            else:
                delattr(self.owner, self.attribute)


Action: TypeAlias = Cancel | Interrupt | Call | Jump | Raise


@attrs.frozen
class Strike:
    """One action at one place.

    Attributes:
        action: The action's name.
        step: Which step of the run, of all tasks together, from 0; for
            ``entry``, which entry of the callable, from 1.
        phase: On which side of it.
    """

    action: str
    step: int
    phase: Phase
