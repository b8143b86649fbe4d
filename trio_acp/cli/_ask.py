"""Asking the user for permission: the questions that wait for a key, and the policy that puts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from ..abc import PermissionPolicy
from ._answers import answers_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..abc import PermissionRequest, Verdict
    from ._answers import Answer

PAUSE: Final = 0.4
"""Seconds before a question takes an answer: whoever was typing when it came up has not answered it."""


@attrs.define(eq=False)
class Question:
    """A request for permission that waits for the user.

    Attributes:
        ready: Whether it takes an answer yet.
    """

    request: PermissionRequest
    ready: bool = False
    answer: Answer | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)


class AskUser(PermissionPolicy):
    """Has the user decide, one question at a time, in the order in which they came.

    A question that the agent takes back, or whose turn is stopped, disappears.

    Attributes:
        asked: Called when there is another first question, or the first one is ready or gone.
    """

    def __init__(self) -> None:
        self._questions: list[Question] = []
        self._moved = trio.Event()
        self.asked: Callable[[], None] = lambda: None

    @property
    def question(self) -> Question | None:
        """The question to be answered now, if there is one."""
        return self._questions[0] if self._questions else None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What the question can be answered; nothing if there is none."""
        return () if self.question is None else answers_to(self.question.request.options)

    def find(self, text: str) -> Answer | None:
        """Return the answer to the question that a letter or a word is, if it is one."""
        text = text.strip().lower()
        return next((answer for answer in self.answers if text in {answer.key, answer.word}), None)

    def answer(self, text: str) -> bool:
        """Answer the question with a letter or a word; False if that is no answer, or it is too early for one."""
        question, answer = self.question, self.find(text)
        if question is None or answer is None or not question.ready:
            return False
        question.answer = answer
        question.answered.set()
        self._remove(question)
        return True

    async def decide(self, request: PermissionRequest) -> Verdict:
        """Ask, and wait for the answer as long as the turn lasts.  If cancelled, the question is taken back."""
        question = Question(request)
        self._questions.append(question)
        try:
            self._changed()
            while self.question is not question:
                await self._moved.wait()
            await trio.sleep(PAUSE)
            question.ready = True
            self._changed()
            await question.answered.wait()
        finally:
            self._remove(question)
        assert question.answer is not None
        return question.answer.verdict("asked")

    def _remove(self, question: Question) -> None:
        if question in self._questions:
            self._questions.remove(question)
            self._changed()

    def _changed(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
        self.asked()
