"""What was on the wire: the recordings of `tee`, read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPT: Final = "session/prompt"
TAKE_BACK: Final = "$/cancel_request"


@dataclass(frozen=True)
class Passed:
    """One message: when, to whom (``agent`` or ``client``), and what."""

    at: float
    to: str
    message: dict[str, Any]

    @property
    def method(self) -> str | None:
        """Its method; None for an answer."""
        method = self.message.get("method")
        return None if method is None else str(method)


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, when it was sent, and when the agent had done with it."""

    text: str
    sent_at: float
    answered_at: float | None


@dataclass
class Connection:
    """One connection to one agent process; `ended_at` is when that process had ended."""

    passed: list[Passed] = field(default_factory=list)
    ended_at: float | None = None

    def prompts(self) -> Iterator[Prompt]:
        """Yield its prompts in order."""
        for sent in self.passed:
            if sent.to == "agent" and sent.method == PROMPT:
                answers = [each.at for each in self.passed if each.to == "client" and answers_it(each, sent)]
                text = "".join(str(block.get("text", "")) for block in sent.message["params"]["prompt"])
                yield Prompt(text, sent.at, answers[0] if answers else None)

    def in_flight(self) -> int:
        """Return how many prompts were unanswered at once, at most."""
        prompts = list(self.prompts())
        return max(
            (
                sum(
                    other.sent_at <= each.sent_at and (other.answered_at is None or other.answered_at > each.sent_at)
                    for other in prompts
                )
                for each in prompts
            ),
            default=0,
        )

    def words(self, since: float, until: float) -> list[tuple[float, str]]:
        """Return what the client sent in that time, each message in a few words."""
        said = []
        for each in self.passed:
            if each.to == "agent" and since <= each.at <= until:
                asked = [other for other in self.passed if other.to == "client" and answers_it(each, other)]
                said.append((each.at, f"`{each.method}`" if each.method else _answer(each, asked[-1])))
        return said

    def take_backs(self) -> Iterator[tuple[float, Passed | None]]:
        """Yield when the agent took a request back, and the client's answer to that request, if it came."""
        for each in self.passed:
            if each.to == "client" and each.method == TAKE_BACK:
                number = each.message["params"]["requestId"]
                answers = [
                    other
                    for other in self.passed
                    if other.to == "agent" and other.method is None and other.message.get("id") == number
                ]
                yield each.at, answers[0] if answers else None


def answers_it(answer: Passed, request: Passed) -> bool:
    """Whether a message is the answer to a request that went the other way."""
    return (
        answer.method is None
        and request.method is not None
        and answer.to != request.to
        and "id" in request.message
        and answer.message.get("id") == request.message["id"]
    )


def _answer(answer: Passed, request: Passed) -> str:
    if "error" in answer.message:
        return f"error {answer.message['error']['code']} to `{request.method}`"
    outcome = (answer.message.get("result") or {}).get("outcome", {}).get("outcome", "result")
    return f"`{outcome}` to `{request.method}`"


def read(directory: Path) -> list[Connection]:
    """Read the recordings of a run, in the order of its connections."""
    connections = []
    for path in sorted(directory.glob("*.jsonl")):
        connection = Connection()
        for entry in map(json.loads, path.read_text("utf-8").splitlines()):
            if "exited" in entry:
                connection.ended_at = entry["at"]
            else:
                connection.passed.append(Passed(entry["at"], entry["to"], entry["message"]))
        connections.append(connection)
    return connections
