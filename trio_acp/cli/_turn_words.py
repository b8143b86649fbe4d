"""Why a turn ended when it did, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._text import one_line
from ._turns import ENDS_OF_THE_AGENT, PHASES, in_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._turns import Story


def duration(seconds: float) -> str:
    """Return a duration with as many digits as one can take in: ``12 ms``, ``3.1 s``, ``2 h 5 min``."""
    if seconds < 0.0095:
        return f"{seconds * 1000:.2g} ms" if seconds >= 0.00001 else "0 s"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(number: int, what: str) -> str:
    """Return ``1 turn``, ``2 turns``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def spent(story: Story) -> str:
    """Return how long each of its phases took, those that took no time left out."""
    lengths = ((phase, story.seconds(phase)) for phase in PHASES)
    return ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in lengths if seconds >= 0.001) or "no time"


def title(story: Story) -> str:
    """Return what it is and how it ended, in a few words: ``turn 3: TimedOut``."""
    if not story.number:
        return "operation"
    if story.is_open and not story.outcome:
        return f"turn {story.number}: not over when the trace ends"
    by = f" by {story.by}" if story.by else ""
    detail = f" ({story.detail})" if story.detail else ""
    return f"turn {story.number}: {story.outcome or 'no outcome'}{by}{detail}"


def why(story: Story) -> str:
    """Return the first cause, which decided."""
    if not story.number:
        return "the session was opened, or something else was done with it between turns"
    if "withdrawn" in story.names:
        return "it was withdrawn while it still waited"
    if not story.causes:
        return "nothing had ended it yet" if story.is_open else "the trace does not tell"
    return cause_words(story.causes[0], story.limits)


def cause_words(cause: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """Return a cause in words."""

    def of(key: str) -> str:
        return f": {one_line(str(cause[key]))}" if cause.get(key) else ""

    match cause.get("cause"):
        case "response":
            return f"the agent answered{of('stop_reason')}"
        case "failure":
            return of("error")[2:] or "it failed"
        case "deadline":
            if {"turn", "grace"} <= limits.keys():
                return f"the time was up: {in_seconds(limits['turn'])}, and {in_seconds(limits['grace'])} of grace"
            return "the time was up"
        case "caller":
            return "its caller was cancelled"
        case "user":
            return f"somebody asked for its end{of('reason')}"
        case "left":
            return "its block was left before it was over"
        case "closed":
            return f"its session was closed{of('reason')}"
        case "shutdown":
            return "the manager was closed"
        case other:
            return one_line(f"{other}") + of("reason")


def sentences(story: Story) -> list[str]:
    """Return what followed from the cause, and what else one should know, a sentence each."""
    told = []
    if "retried" in story.names:
        told.append("A first attempt failed before anything was started, and one more was made.")
    later = list(story.causes[1:])
    cause, cancel = story.at("cause"), story.at("cancel")
    answer, stop, settled = story.at("answer"), story.at("stop"), story.at("settled")
    if cause is not None and cancel is not None:
        asked = "The agent was told to stop"
        if answer is not None:
            ended = cause_words(later.pop(_answer(later)), story.limits).replace("the agent answered", "it answered")
            told.append(f"{asked}; {duration(answer - cancel)} later {ended}.")
        elif stop is not None:
            told.append(f"{asked}, did not within {duration(stop - cancel)}, and its call was cancelled.")
        else:
            told.append(f"{asked}.")
    if cause is not None and settled is not None and settled - cause >= 0.001 and cancel is not None:
        told.append(f"The caller could go on {duration(settled - cause)} after the cause.")
    if "straggler" in story.names:
        told.append("A call did not end although it was cancelled; it is left behind and counted.")
    if "suspect" in story.names:
        told.append("The agent still owes an answer, so the session is not reused as it is.")
    if "resume_failed" in story.names:
        told.append("What was stored could not be resumed; the conversation began anew.")
    if "store_failed" in story.names:
        told.append("The session's metadata could not be written.")
    if later:
        said = "; ".join(cause_words(cause, story.limits) for cause in later[:3])
        told.append(f"Later, deciding nothing: {said}.")
    return told


def _answer(causes: Sequence[Mapping[str, Any]]) -> int:
    return next(n for n, cause in enumerate(causes) if cause.get("cause") in ENDS_OF_THE_AGENT)
