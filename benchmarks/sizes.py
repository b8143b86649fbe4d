"""How much work each side does in a round.

Only the standard library is used: each side imports this, in whatever environment it lives.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """The counts and times of one round, which are the same for every side.

    Attributes:
        rounds: How many rounds there are.
        batches: How often a batch is repeated within a round; its value is their median.
        turns: Turns of a batch, one after the other.
        crowd: Sessions with a turn at once, in memory.
        events: Events of the one long turn in memory.
        cancels: Turns that are cancelled.
        idle: Sessions that are kept to weigh one.
        patience: Seconds that a turn is given which never ends; 0 leaves it out.
        wire_turns: Turns over the wire, one after the other.
        updates: Updates of the one long prompt.
        crowd_wire: Sessions, and then connections, with turns at once.
        crowd_turns: Turns of each of them.
        growth: The numbers of sessions at which the cost of an update is taken.
        growth_turns: Turns in all at each of these numbers, at least.
        flood: Updates of 1 KiB that a consumer is sent that takes none; 0 leaves it out.
        stall: Seconds for which it is watched.
        elsewhere: Whether other versions of Python are measured too.
    """

    rounds: int
    batches: int
    turns: int
    crowd: int
    events: int
    cancels: int
    idle: int
    patience: float
    wire_turns: int
    updates: int
    crowd_wire: int
    crowd_turns: int
    growth: tuple[int, ...]
    growth_turns: int
    flood: int
    stall: float
    elsewhere: bool

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))


def load(text: str) -> Sizes:
    """Return what was dumped."""
    fields = json.loads(text)
    return Sizes(**{**fields, "growth": tuple(fields["growth"])})


FULL: Final = Sizes(
    rounds=5,
    batches=7,
    turns=400,
    crowd=1000,
    events=100_000,
    cancels=300,
    idle=10_000,
    patience=1.0,
    wire_turns=1000,
    updates=10_000,
    crowd_wire=100,
    crowd_turns=20,
    growth=(1, 10, 100, 1000, 10_000),
    growth_turns=1000,
    flood=200_000,
    stall=8.0,
    elsewhere=True,
)

QUICK: Final = Sizes(
    rounds=5,
    batches=3,
    turns=100,
    crowd=500,
    events=50_000,
    cancels=50,
    idle=500,
    patience=0.0,
    wire_turns=100,
    updates=2000,
    crowd_wire=50,
    crowd_turns=2,
    growth=(1, 100),
    growth_turns=50,
    flood=0,
    stall=0.0,
    elsewhere=False,
)

TINY: Final = Sizes(
    rounds=1,
    batches=1,
    turns=2,
    crowd=3,
    events=600,
    cancels=2,
    idle=3,
    patience=0.01,
    wire_turns=2,
    updates=20,
    crowd_wire=2,
    crowd_turns=2,
    growth=(1, 2),
    growth_turns=2,
    flood=5000,  # more than may wait for a consumer
    stall=2.0,
    elsewhere=True,
)
"""Enough to see that every row comes out, and nothing of what it says."""
