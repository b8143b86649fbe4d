"""A timeline for the terminal: each session's turns, why they ended, and what they spent their time on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._turn_words import counted, sentences, spent, title, why
from ._turns import in_seconds, lane_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._turns import PhaseName, Story

_SIGNS: Final[dict[PhaseName, str]] = {"queued": ".", "preparing": "-", "running": "=", "cleaning": "#", "after": "'"}
_BAR: Final = 40


def summary(stories: Sequence[Story], *, wall: str, notes: Sequence[str]) -> Iterator[str]:
    """Yield the lines."""
    turns = [story for story in stories if story.number]
    keys = list(dict.fromkeys(story.session for story in stories))
    yield f"Begun {wall}: {counted(len(keys), 'session')}, {counted(len(turns), 'turn')}.  " + "  ".join(
        f"{sign} {phase}" for phase, sign in _SIGNS.items()
    )
    yield from notes
    for key in keys:
        yield ""
        yield lane_name(key)
        for story in turns:
            if story.session == key:
                yield from _turn(story)


def _turn(story: Story) -> Iterator[str]:
    yield f"  {title(story)}: {why(story)}"
    yield f"    {in_seconds(story.span.start)} [{bar(story)}] {spent(story)}"
    if story.events:
        yield f"    {story.event_words()}"
    for sentence in sentences(story):
        yield f"    {sentence}"


def bar(story: Story, width: int = _BAR) -> str:
    """Return a bar of that width: each phase has its share of it, and at least one sign if it took a millisecond."""
    total = story.span.seconds
    shares = [(phase, span.seconds / total * width) for phase, span in story.phases if span.seconds >= 0.001]
    if not shares:
        return " " * width
    counts = [max(1, int(share)) for _, share in shares]
    # What rounding left over, or took too much, is the longest phase's.
    longest = max(range(len(counts)), key=lambda n: shares[n][1])
    counts[longest] += width - sum(counts)
    return "".join(_SIGNS[phase] * count for (phase, _), count in zip(shares, counts, strict=True))[:width]
