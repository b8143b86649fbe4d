"""A turn as a chat shows it: text that runs, tool calls whose lines change until they are done, a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._events import ContentDelta, PermissionAnswered, Plan, TextDelta, Thought, ToolCall
from .._outcomes import Failed, TimedOut
from .._tool_calls import MAX_TOOL_CALLS
from ._answers import DECIDED
from ._why import ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._errors import AcpError
    from .._events import Event
    from .._outcomes import Outcome
    from ._render_plain import Flow, PlainRenderer
    from ._screen import Screen

_DONE = frozenset({"completed", "failed"})
_MOST_TOOLS = 6
_MOST_STEPS = 12


class TurnView:
    """Makes rows of events: those that are final go to the screen, the others are asked for when it is drawn."""

    def __init__(self, screen: Screen, renderer: PlainRenderer, explain: Callable[[AcpError], str]) -> None:
        self._screen = screen
        self._renderer = renderer
        self._explain = explain
        self._flow: Flow | None = None
        self._kind: type[TextDelta | Thought] | None = None
        self._last = ""  # what the rows above are: talk, or what was done
        self._tools: dict[str, ToolCall] = {}
        self._done: dict[str, None] = {}  # in order
        self._plan: Plan | None = None

    def begin(self, prompt: str) -> None:
        """Show the prompt of the turn that begins."""
        columns = self._screen.columns
        self._screen.add(["", *self._renderer.prompt(prompt, columns), ""])
        self._last = ""
        self._tools, self._done, self._plan = {}, {}, None

    def show(self, event: Event) -> None:
        """Take an event of the turn."""
        match event:
            case TextDelta() | Thought():
                self._stream(event)
            case ToolCall():
                self._tool(event)
            case Plan():
                self._plan = event
            case PermissionAnswered(decision=decision, tool_call=call, rule=rule):
                by = f" ({rule})" if rule and rule != "asked" and decision != "cancel" else ""
                style = "good" if decision == "allow" else "bad"
                self.add([self._row(f"permission {DECIDED.get(decision, decision)}{by}: {call.title}", style)])
            case ContentDelta(role="agent", content=content):
                self.add([self._row(f"not shown: {type(content).__name__}", "dim")])
            case _:
                pass
        self._screen.changed()

    def end(self, outcome: Outcome) -> None:
        """Show what is left of the turn, and how it ended unless it was simply done."""
        columns = self._screen.columns
        rows = [self._renderer.tool(call, columns) for call in self._tools.values()]
        rows += [] if self._plan is None else self._renderer.plan(self._plan, columns)
        self.add(rows)
        self._tools, self._plan = {}, None
        words = ending(outcome, self._explain)
        if words:
            self.note(words, bad=isinstance(outcome, TimedOut | Failed))

    def note(self, text: str, *, bad: bool = False) -> None:
        """Show a remark."""
        self.add(self._renderer.note(text, self._screen.columns, "bad" if bad else "dim"))

    def add(self, rows: list[str]) -> None:
        """Show rows; a text that is running ends before them."""
        self._end_stream()
        if rows:
            self._keep_distance("done")
            self._screen.add(rows)

    def live(self, columns: int, lines: int) -> list[str]:
        """Return the rows that may still change, at most `lines`; of a long text, the last ones."""
        renderer = self._renderer
        calls = list(self._tools.values())
        rows = [renderer.tool(call, columns) for call in calls[:_MOST_TOOLS]]
        if len(calls) > _MOST_TOOLS:
            rows.append(renderer.style("dim", renderer.line(f"and {len(calls) - _MOST_TOOLS} more", columns, "  ")))
        if self._plan is not None:
            steps = renderer.plan(self._plan, columns)
            rows += steps[:_MOST_STEPS]
            if len(steps) > _MOST_STEPS:
                rows.append(renderer.style("dim", renderer.line(f"and {len(steps) - _MOST_STEPS} more", columns, "  ")))
        text = [] if self._flow is None else self._flow.tail(columns)
        return (text + rows)[-lines:] if lines > 0 else []

    def _stream(self, event: TextDelta | Thought) -> None:
        if type(event) is not self._kind:
            self._end_stream()
            self._keep_distance("talk")
            self._kind = type(event)
            self._flow = self._renderer.message() if isinstance(event, TextDelta) else self._renderer.thought()
        assert self._flow is not None
        self._screen.add(self._flow.feed(event.text, self._screen.columns))

    def _end_stream(self) -> None:
        if self._flow is not None:
            self._screen.add(self._flow.finish(self._screen.columns))
        self._flow = self._kind = None

    def _keep_distance(self, what: str) -> None:
        """Put an empty row between what the agent says and what it does."""
        if self._last not in {"", what}:
            self._screen.add([""])
        self._last = what

    def _tool(self, call: ToolCall) -> None:
        if call.id in self._done:
            return
        if call.id not in self._tools:
            self._end_stream()
        if call.status in _DONE:
            self._finish(call)
            return
        if call.id not in self._tools and len(self._tools) >= MAX_TOOL_CALLS:
            self._finish(self._tools[next(iter(self._tools))])
        self._tools[call.id] = call

    def _finish(self, call: ToolCall) -> None:
        """Show a call for good; what is told of it later is not shown, unless very many came in between."""
        self._tools.pop(call.id, None)
        self._done[call.id] = None
        if len(self._done) > MAX_TOOL_CALLS:
            del self._done[next(iter(self._done))]
        columns = self._screen.columns
        self.add([self._renderer.tool(call, columns), *self._renderer.diffs(call, columns)])

    def _row(self, text: str, style: str) -> str:
        return self._renderer.style(style, self._renderer.line(text, self._screen.columns))
