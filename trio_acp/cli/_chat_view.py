"""The live rows of a chat: the running turn, what waits, a question, how things stand, and the line being typed."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import trio

from ._chat_session import Face
from ._line_editor import LONGEST, lay_out
from ._screen import Live, Screen
from ._text import one_line
from ._turn_view import TurnView

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._errors import AcpError
    from .._events import Event
    from .._outcomes import Outcome
    from ._answers import Answer
    from ._ask import AskUser, Question
    from ._chat_session import Chat
    from ._line_editor import LineEditor
    from ._output import Output
    from ._render_plain import PlainRenderer

_MOST_QUEUED = 3


class ChatView(Face):
    """Shows a chat on a terminal.

    Attributes:
        chat: The chat, once there is one.
        leaves_until: Up to when Ctrl-C leaves, on Trio's clock.
    """

    def __init__(
        self,
        output: Output,
        size: Callable[[], tuple[int, int]],
        renderer: PlainRenderer,
        editor: LineEditor,
        asking: AskUser | None,
        explain: Callable[[AcpError], str],
    ) -> None:
        self.screen = Screen(output, size, self._live)
        self.turn = TurnView(self.screen, renderer, explain)
        self.chat: Chat | None = None
        self.leaves_until = -math.inf
        self._renderer = renderer
        self._editor = editor
        self._asking = asking
        self._asked: Question | None = None
        self._history = 0  # of the screen, when that question stood at its end
        if asking is not None:
            asking.asked = self._show_question

    def begin(self, prompt: str) -> None:
        """See `Face`."""
        self.turn.begin(prompt)

    def show(self, event: Event) -> None:
        """See `Face`."""
        self.turn.show(event)

    def end(self, outcome: Outcome) -> None:
        """See `Face`."""
        self.turn.end(outcome)

    def note(self, text: str, *, bad: bool = False) -> None:
        """See `Face`."""
        self.turn.note(text, bad=bad)

    def explain(self, words: Mapping[str, str]) -> None:
        """See `Face`."""
        self.turn.add(self._renderer.explained(words, self.screen.columns))

    def changed(self) -> None:
        """See `Face`."""
        self.screen.changed()

    async def room(self) -> None:
        """See `Face`."""
        await self.screen.room()

    def _show_question(self) -> None:
        """Show, once, what the first question is about: all of it that helps to decide."""
        question = None if self._asking is None else self._asking.question
        if question is not None and question is not self._asked:
            self._asked = question
            columns, renderer = self.screen.columns, self._renderer
            call = question.request.tool_call
            rows = renderer.note(one_line(f"? {call.title} ({call.kind})", 4000), columns, "ask")
            rows += renderer.locations(call.locations, columns)
            if call.raw_input:
                # Wrapped, not clipped: what is allowed must have been seen.
                rows += renderer.note(json.dumps(call.raw_input, ensure_ascii=False), columns, "dim")
            self.turn.add([*rows, *renderer.diffs(call, columns)])
            self._history = self.screen.history
        self.screen.changed()

    def _live(self, columns: int, lines: int) -> Live:
        renderer = self._renderer
        lead = f"{renderer.sign('you')} "
        rows, row, column = lay_out(self._editor.text, self._editor.cursor, columns, lead, renderer.safe)
        most = max(lines // 2, 1)
        first = max(0, min(row - most // 2, len(rows) - most))  # of a long line, the part around the cursor
        typed = [*rows[first : first + most]]
        row -= first
        above = [self._status(columns)]
        if self._asking is not None and self._asking.question is not None:
            above = [*self._question_rows(self._asking, self._asking.question, columns), *above]
        above = [*self._queued(columns), *above][-max(lines - len(typed), 0) :] if lines > len(typed) else []
        room = lines - len(typed) - len(above) - 1
        above = [*self.turn.live(columns, room), *above]
        return Live((*above, *typed), len(above) + row, min(column, columns))

    def _queued(self, columns: int) -> list[str]:
        waiting = [] if self.chat is None else self.chat.waiting
        rows = [f"queued: {said.text}" for said in waiting[:_MOST_QUEUED]]
        if len(waiting) > _MOST_QUEUED:
            rows.append(f"queued: {len(waiting) - _MOST_QUEUED} more")
        return [self._renderer.style("dim", self._renderer.line(row, columns)) for row in rows]

    def _question_rows(self, asking: AskUser, question: Question, columns: int) -> list[str]:
        renderer, call, typed = self._renderer, question.request.tool_call, asking.find(self._editor.text)
        if typed is not None and question.ready:
            words = f"Enter answers: {self._meaning(typed)}"
        elif self._editor.text:
            words = "a question waits: send or clear (Ctrl-U) your line to answer"
        elif question.ready:
            keys = ", ".join(f"{answer.key} = {self._meaning(answer)}" for answer in asking.answers)
            words = f"allow? {keys}, Ctrl-C = stop"
        else:
            words = "allow?"
        rows = renderer.note(words, columns, "ask")
        if self.screen.history != self._history:  # what is asked does not stand right above any more
            rows.insert(0, renderer.style("ask", renderer.line(f"? {call.title} ({call.kind})", columns)))
        return rows

    @staticmethod
    def _meaning(answer: Answer) -> str:
        """Say so if a yes or no would bind for ever, because the agent offers no other."""
        binds = not answer.always and answer.option is not None and answer.option.kind.endswith("_always")
        return f"{answer.word} ALWAYS" if binds else answer.word

    def _status(self, columns: int) -> str:
        chat, now = self.chat, trio.current_time()
        running = None if chat is None else chat.running
        again = "Ctrl-C again leaves" if now < self.leaves_until else ""
        if len(self._editor.text) >= LONGEST:
            parts = [f"the line is full: {LONGEST} characters"]
        elif running is None or running.begun is None:
            parts = ["ready", again or "/help"]
        elif running.stopping:
            parts = ["stopping", again or "Ctrl-C twice leaves"]
        else:
            parts = [f"working {now - running.begun:.0f} s", again or "Ctrl-C stops"]
        if chat is not None:
            parts += [part for part in (chat.told.mode, chat.told.usage_in_words()) if part]
        return self._renderer.style("dim", self._renderer.line(" | ".join(parts), columns))
