"""A conversation: prompts in the order in which they were entered, each of them a turn, and what happens to them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import attrs
import trio

from .._errors import AcpError, TurnTimedOut
from .._events import Commands, ConfigChanged, ModeChanged, Usage
from .._outcomes import Failed, TimedOut

if TYPE_CHECKING:
    from .._events import ConfigOption, Event
    from .._outcomes import Outcome
    from .._prompt import Turn
    from .._session import Session
    from ._chat_log import ChatLog

MOST_WAITING: Final = 32
"""Prompts that may wait, and so may changes of options: as many as a session's queue takes by default."""


class Face(ABC):
    """Shows a conversation.  Its methods return at once, but `room`."""

    @abstractmethod
    def begin(self, prompt: str) -> None:
        """A prompt's turn begins."""

    @abstractmethod
    def show(self, event: Event) -> None:
        """Show an event of the running turn."""

    @abstractmethod
    def end(self, outcome: Outcome) -> None:
        """The running turn has ended."""

    @abstractmethod
    def note(self, text: str, *, bad: bool = False) -> None:
        """Show a remark, or what went wrong."""

    @abstractmethod
    def explain(self, words: Mapping[str, str]) -> None:
        """Show names, and what each of them means."""

    @abstractmethod
    def changed(self) -> None:
        """What waits, or what runs, has changed."""

    async def room(self) -> None:
        """Wait until more can be shown; cancelled, nothing happened."""
        await trio.lowlevel.checkpoint()


@attrs.define
class Told:
    """What the agent told last about itself.

    Attributes:
        mode: Its mode; empty if it told none.
        options: Its configuration options.
        commands: The slash commands that it offers, and what they do.
        usage: How full its context is.
    """

    mode: str = ""
    options: tuple[ConfigOption, ...] = ()
    commands: dict[str, str] = attrs.field(factory=dict)
    usage: Usage | None = None

    def learn(self, event: Event) -> None:
        """Take notice of an event."""
        match event:
            case Usage():
                self.usage = event
            case ModeChanged(mode_id=mode):
                self.mode = mode
            case ConfigChanged(options=options):
                self.options = options
            case Commands(commands=commands):
                self.commands = {command.name: command.description for command in commands}
            case _:
                pass

    def usage_in_words(self) -> str:
        """Return the usage in a few words; empty if none was told."""
        if self.usage is None:
            return ""
        cost = self.usage.cost
        words = f"{_short(self.usage.used)} of {_short(self.usage.size)} tokens"
        return words if cost is None else f"{words}, {cost.amount:.2f} {cost.currency}"


def _short(count: int) -> str:
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"


@attrs.define(eq=False)
class Said:
    """A prompt that was entered.

    Attributes:
        turn: Once the session has it.
        begun: When it was the first one, on Trio's clock.
        withdrawn: Whether it was taken back before it began.
        stopping: Whether its turn was told to stop.
        sent: Set when it is in the session's queue, or could not get there.
        finished: Set when all of it was shown.
    """

    text: str
    turn: Turn | None = None
    begun: float | None = None
    withdrawn: bool = False
    stopping: bool = False
    sent: trio.Event = attrs.field(factory=trio.Event)
    finished: trio.Event = attrs.field(factory=trio.Event)


class Chat:
    """Sends prompts to a session, one after the other, and shows what comes of them.

    Attributes:
        log: Everything that was said.
        prompts: Those that are not finished; the first one runs, if it has begun.
        told: What the agent told about itself.
        outcome: How the last turn ended.
    """

    def __init__(self, session: Session, face: Face, log: ChatLog, *, timeout: float | None = None) -> None:
        self.session = session
        self.log = log
        self.prompts: list[Said] = []
        self.told = Told()
        self.outcome: Outcome | None = None
        self._face = face
        self._timeout = timeout
        self._jobs, self._to_do = trio.open_memory_channel[Said | Callable[[], Awaitable[None]]](math.inf)
        self._ordered = 0
        self._moved = trio.Event()

    @property
    def running(self) -> Said | None:
        """The prompt whose turn runs."""
        return self.prompts[0] if self.prompts and self.prompts[0].begun is not None else None

    @property
    def waiting(self) -> list[Said]:
        """The prompts that wait."""
        return self.prompts if self.running is None else self.prompts[1:]

    def say(self, text: str) -> Said | None:
        """Enter a prompt; None if too many wait already.  It is sent when those before it have ended."""
        if len(self.waiting) >= MOST_WAITING:
            return None
        # Bytes of another encoding came in as lone surrogates, which nothing can send.
        said = Said(text.encode("utf-8", "replace").decode())
        self.prompts.append(said)
        self._jobs.send_nowait(said)
        self._face.changed()
        return said

    def in_order(self, job: Callable[[], Awaitable[None]]) -> bool:
        """Do something between the prompts before it and those behind it; False if too much waits already."""
        if self._ordered >= MOST_WAITING:
            return False
        self._ordered += 1
        self._jobs.send_nowait(job)
        return True

    def stop(self) -> bool:
        """Stop the running turn, without waiting; False if none runs."""
        running = self.running
        if running is None or running.turn is None or not running.turn.cancel():
            return False
        running.stopping = True
        self._face.changed()
        return True

    def withdraw(self) -> int:
        """Take back all that wait; return how many that were."""
        waiting = list(self.waiting)
        for said in waiting:
            said.withdrawn = True
            self.prompts.remove(said)
            if said.turn is not None:
                said.turn.cancel("withdrawn by the user")
        self._changed()
        return len(waiting)

    async def wait_idle(self) -> None:
        """Wait until everything that was entered is done; cancelled, nothing happened."""
        await trio.lowlevel.checkpoint()
        while self.prompts or self._ordered:
            await self._moved.wait()

    async def run(self) -> None:
        """Send what is entered, until cancelled; turns are then stopped, within the manager's bounds."""
        last: Said | None = None
        async with trio.open_nursery() as nursery:
            async for job in self._to_do:
                if not isinstance(job, Said):
                    try:
                        await job()
                    except AcpError as error:
                        self._face.note(str(error), bad=True)
                    self._ordered -= 1
                    self._changed()
                elif not job.withdrawn:
                    nursery.start_soon(self._send, job, last)
                    # Not the next one before this one is in the session's queue: they keep their order there.
                    await job.sent.wait()
                    last = job

    async def _send(self, said: Said, last: Said | None) -> None:
        try:
            await self._turn(said, last)
        finally:
            said.sent.set()
            said.finished.set()
            if said in self.prompts:
                self.prompts.remove(said)
            self._changed()

    async def _turn(self, said: Said, last: Said | None) -> None:
        outcome: Outcome | None = None
        try:
            turn = said.turn = self.session.turn(said.text, timeout=self._timeout)
            async with turn:
                said.sent.set()
                if last is not None:
                    await last.finished.wait()
                if not said.withdrawn:
                    self._begin(said)
                async for event in turn:
                    self.log.add(event)
                    self.told.learn(event)
                    self._face.show(event)
                    await self._face.room()
            outcome = turn.outcome
        except TurnTimedOut as error:
            outcome = TimedOut(limits=error.limits, cleanup=error.cleanup)
        except AcpError as error:
            outcome = Failed(error)
        if said.begun is None and not said.withdrawn:  # it did not even get into the queue
            if last is not None:
                await last.finished.wait()
            self._begin(said)
        if outcome is not None and said.begun is not None:
            self.log.end(outcome)
            self.outcome = outcome
            self._face.end(outcome)

    def _begin(self, said: Said) -> None:
        said.begun = trio.current_time()
        self.log.begin(None if said.turn is None else said.turn.request_id, said.text)
        self._face.begin(said.text)
        self._face.changed()

    def _changed(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
        self._face.changed()
