"""What can be done to a run in the middle of a step: `Cancel`, `Interrupt`, `Call`, `Jump`, `Raise`."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Press Ctrl-C: `KeyboardInterrupt`, delivered as Trio delivers it, to the scenario's own task."""

    @property
    def name(self) -> str:
        """How tapes call it."""
        return "interrupt"

    def apply(self, case: Case) -> None:
        """Do it, now."""
        signal.raise_signal(signal.SIGINT)


@attrs.frozen
class Call:
    """Call what the scenario registered with `Case.on` under this name; nothing if it has not yet."""

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
