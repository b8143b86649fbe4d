"""The tool calls of one turn, each as it is known so far; of very many, the latest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._events import ToolCall

MAX_TOOL_CALLS: Final = 1024
"""How many are kept: more than any honest turn has, and an agent that invents ids does not fill our memory."""

_FINISHED: Final = frozenset({"completed", "failed"})


class ToolCalls:
    """Keeps the last state of each tool call, in order of appearance.

    To make room for one more than `MAX_TOOL_CALLS`, the oldest that has
    finished is forgotten; if none has, the oldest.  An update to a forgotten
    one begins it anew.
    """

    def __init__(self) -> None:
        self._calls: dict[str, ToolCall] = {}

    def get(self, call_id: str) -> ToolCall | None:
        """Return the call of that id, if it is kept."""
        return self._calls.get(call_id)

    def put(self, call: ToolCall) -> None:
        """Keep a call, in place of its earlier state."""
        if call.id not in self._calls and len(self._calls) >= MAX_TOOL_CALLS:
            finished = (known.id for known in self._calls.values() if known.status in _FINISHED)
            del self._calls[next(finished, next(iter(self._calls)))]
        self._calls[call.id] = call

    def clear(self) -> None:
        """Forget all."""
        self._calls.clear()

    def all(self) -> tuple[ToolCall, ...]:
        """Return those that are kept."""
        return tuple(self._calls.values())
