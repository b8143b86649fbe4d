"""A request of ours on its way: the frame that carries it, and where its answer will be."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import attrs
import trio

from .._serving import served
from .codec import structure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._errors import AcpError

T = TypeVar("T", bound=attrs.AttrsInstance)


@attrs.define(eq=False)
class Frame:
    """A message on its way to the writer; `taken` once it may be on the wire; `served`: whom it is about."""

    text: str
    taken: bool = False
    served: tuple[str, str] = attrs.field(factory=served)


class PendingReply:
    """A request of ours, and where its answer will be."""

    def __init__(self, method: str, forget: Callable[[PendingReply], None]) -> None:
        self.method = method
        self.id = 0
        self.frame: Frame | None = None
        self.result: object = None
        self.error: AcpError | None = None
        self.on_answer: Callable[[PendingReply], None] | None = None
        self._forget = forget
        self._done = trio.Event()

    @property
    def done(self) -> bool:
        """Whether it was answered, withdrawn, or can be answered no more."""
        return self._done.is_set()

    @property
    def sent(self) -> bool:
        """Whether it may be on the wire."""
        return self.frame is not None and self.frame.taken

    def settle(self, result: object = None, error: AcpError | None = None) -> None:
        """Enter the answer; wakes whoever waits."""
        self.result, self.error = result, error
        self._done.set()
        if self.on_answer is not None:
            self.on_answer(self)

    def withdraw(self, error: AcpError) -> bool:
        """Take it back, if the writer has not taken it yet: it was never sent, and `error` is its answer."""
        if self.done or self.sent:
            return False
        self._forget(self)
        self.settle(error=error)
        return True

    async def wait_done(self) -> None:
        """Wait for the answer, whatever it is.  If cancelled, it is still pending."""
        await self._done.wait()

    async def wait(self, cls: type[T]) -> T:
        """Wait for the answer and return it as `cls`.  If cancelled, it is still pending.

        Raises:
            RequestFailed: the agent answered with an error.
            InvalidMessage: the answer has not the form of `cls`.
            ConnectionLost: the connection ended first.
        """
        await self._done.wait()
        if self.error is not None:
            raise self.error
        return self.read(cls)

    def read(self, cls: type[T]) -> T:
        """Return a good answer as `cls`.

        Raises:
            InvalidMessage: it has not the form of `cls`.
        """
        return structure(cls, self.result, at="$.result")
