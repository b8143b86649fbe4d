"""The three forms in which ``trio-acp prompt`` shows a turn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from .._events import ContentDelta, PermissionAnswered, Plan, TextDelta, Thought, ToolCall
from .._outcomes import Completed, Outcome
from ._answers import DECIDED
from ._json import event_line, outcome_line
from ._text import one_line, safe_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._events import Event
    from ._output import Output

_LONGEST_THOUGHT = 300


class Writer(ABC):
    """Shows a turn while it runs.

    Its methods return when all is written.  If cancelled, any part may have
    been written.  They raise `BrokenPipeError` when nobody reads any more.
    """

    def __init__(self, stdout: Output, stderr: Output) -> None:
        self._stdout = stdout
        self._stderr = stderr

    @abstractmethod
    async def show(self, event: Event) -> None:
        """Show one event."""

    async def note(self, line: str) -> None:
        """Say something that is not part of the turn, on standard error."""
        await self._stderr.write(f"{one_line(line)}\n")

    @abstractmethod
    async def finish(self, outcome: Outcome) -> None:
        """Show how the turn ended, as far as the form has words for it; errors are told elsewhere."""


class TextWriter(Writer):
    """The agent's text on standard output; what it does, as short dim lines, on standard error."""

    def __init__(self, stdout: Output, stderr: Output) -> None:
        super().__init__(stdout, stderr)
        self._within_line = False
        self._held = ""
        self._thought = ""
        self._shown: dict[str, str] = {}

    async def show(self, event: Event) -> None:
        """Show one event: see the class."""
        if isinstance(event, Thought):
            # Thoughts come in small pieces; the beginning of each is enough.
            self._thought += event.text[:_LONGEST_THOUGHT] if len(self._thought) < _LONGEST_THOUGHT else ""
            return
        await self._show_thought()
        match event:
            case TextDelta(text=text):
                await self._say(text)
            case ToolCall(status="pending" | "in_progress") if event.id not in self._shown:
                await self._note(f"tool, {event.kind}: {event.title}")
            case ToolCall(status="completed" | "failed") if event.status != self._shown.get(event.id):
                await self._note(f"tool {event.status}: {event.title}")
            case PermissionAnswered():
                await self._note(f"permission {DECIDED[event.decision]}: {event.tool_call.title}")
            case Plan(entries=entries):
                done = sum(entry.status == "completed" for entry in entries)
                now = next((f"; now: {entry.content}" for entry in entries if entry.status == "in_progress"), "")
                await self._note(f"plan: {done} of {len(entries)} done{now}")
            case ContentDelta(role="agent", content=content):
                await self._note(f"not shown: {type(content).__name__}")
            case _:
                pass
        if isinstance(event, ToolCall):
            self._shown[event.id] = event.status

    async def finish(self, outcome: Outcome) -> None:
        """End the last line; say why the agent ended, if it was not simply done."""
        await self._show_thought()
        await self._flush_held()
        if self._within_line:
            await self._write("\n")
        if isinstance(outcome, Completed) and outcome.stop_reason != "end_turn":
            await self._note(f"the agent ended with: {outcome.stop_reason}")

    async def _say(self, text: str) -> None:
        text, self._held = self._held + text, ""
        if text.endswith("\r"):  # the other half of a line end may follow
            text, self._held = text[:-1], "\r"
        await self._write(safe_text(text, multiline=True))

    async def _flush_held(self) -> None:
        held, self._held = self._held, ""
        await self._write(safe_text(held, multiline=True))

    async def _show_thought(self) -> None:
        thought, self._thought = self._thought, ""
        if thought.strip():
            await self._note(f"thinking: {thought}")

    async def _write(self, text: str) -> None:
        if text:
            self._within_line = not text.endswith("\n")
            await self._stdout.write(text)

    async def _note(self, line: str) -> None:
        await self._flush_held()
        if self._within_line and self._stdout.is_terminal and self._stderr.is_terminal:
            await self._write("\n")
        await self._stderr.write(self._stderr.dim(one_line(line)) + "\n")


class JsonWriter(Writer):
    """Every event as a line of JSON; the outcome is the last one."""

    async def show(self, event: Event) -> None:
        """Show one event: see the class."""
        await self._stdout.write(event_line(event))

    async def finish(self, outcome: Outcome) -> None:
        """Show the outcome: see the class."""
        await self._stdout.write(outcome_line(outcome))


class QuietWriter(Writer):
    """The agent's text alone, once it is complete; nothing if it is not."""

    def __init__(self, stdout: Output, stderr: Output) -> None:
        super().__init__(stdout, stderr)
        self._texts: list[str] = []

    async def show(self, event: Event) -> None:
        """Keep the text."""
        if isinstance(event, TextDelta):
            self._texts.append(event.text)

    async def finish(self, outcome: Outcome) -> None:
        """Show the text: see the class."""
        text = safe_text("".join(self._texts), multiline=True)
        if isinstance(outcome, Completed) and text:
            await self._stdout.write(text if text.endswith("\n") else f"{text}\n")


WRITERS: Final[Mapping[str, type[Writer]]] = {"text": TextWriter, "json": JsonWriter, "quiet": QuietWriter}
"""The writers by the name of their format; the first is the default."""
