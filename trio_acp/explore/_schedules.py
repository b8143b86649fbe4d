"""Who goes on, where several tasks can: the default order, at random, by priorities, from a tape, exhaustively."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Protocol

import trio

from ._steered import module_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._steered import SteeredCoroutine
    from ._steering import Steering


class Schedule(Protocol):
    """Chooses among parked tasks, for one run."""

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Return the position of the task that goes on; there are at least two, longest parked first."""


class Default:
    """The order of becoming runnable: whoever has waited longest; of those that came together, the eldest."""

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Return 0."""
        return 0


class Taped:
    """The default order with deviations from it, by number of the choice."""

    def __init__(self, deviations: Mapping[int, int]) -> None:
        self._deviations = deviations
        self._number = 0

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Return what the tape says; the last task, if there are fewer than on the tape."""
        number = self._number
        self._number += 1
        return min(self._deviations.get(number, 0), len(parked) - 1)


class RandomWalk:
    """Any task, with equal probability."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - replayable on purpose

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Draw a task."""
        return self._random.randrange(len(parked))


class Priorities:
    """Probabilistic concurrency testing: fixed random priorities, lowered at a few random points.

    Burckhardt, Kothari, Musuvathi and Nagarakatte, "A randomized scheduler with
    probabilistic guarantees of finding bugs", ASPLOS 2010: a bug that needs `depth`
    orderings is found with probability of at least 1/(n k^(depth-1)), for n
    tasks and k choices.

    Args:
        seed: Decides what is drawn.
        depth: That many orderings.
        choices: An upper bound of k, such as the number of steps.
    """

    def __init__(self, seed: int | str, *, depth: int, choices: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - replayable on purpose
        self._priorities: dict[int, float] = {}
        self._changes = {self._random.randrange(max(1, choices)) for _ in range(depth - 1)}
        self._number = 0

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Return the task of the highest priority."""
        priorities = self._priorities
        for steered in parked:
            if steered.born not in priorities:
                priorities[steered.born] = self._random.random()
        best = max(range(len(parked)), key=lambda position: priorities[parked[position].born])
        if self._number in self._changes:
            priorities[parked[best].born] = min(priorities.values()) - 1.0
            best = max(range(len(parked)), key=lambda position: priorities[parked[position].born])
        self._number += 1
        return best


class Exhaustive:
    """Every order, depth first, one run after another; stateless search, as in VeriSoft and CHESS.

    Musuvathi, Qadeer, Ball, Basler, Nainar and Neamtiu, "Finding and
    reproducing Heisenbugs in concurrent programs", OSDI 2008.

    Where a state was met before, its alternatives are not tried again.  Two
    states count as one if the virtual time is the same, and so is who is
    parked in which order, and if every task stands at the same instruction,
    with equal local variables and an equal value to be resumed with.  Plain
    values, containers and objects of Python classes are compared by contents,
    to a depth of three; all else (what only globals or deeper objects know, the
    inside of classes written in C) is not, so a pruned search can miss what
    depends on it.  ``prune=False`` misses nothing.
    """

    def __init__(self, *, prune: bool = True) -> None:
        self._prune = prune
        self._seen: set[int] = set()
        self._todo: list[tuple[int, ...]] = [()]
        self._prefix: tuple[int, ...] = ()
        self._path: list[int] = []
        self._closed = False

    @property
    def done(self) -> bool:
        """Whether every order has been had."""
        return not self._todo

    def next_run(self) -> None:
        """Get ready for the next run."""
        self._prefix = self._todo.pop()
        self._path = []
        self._closed = False

    def choose(self, parked: Sequence[SteeredCoroutine], steering: Steering) -> int:
        """Follow the prefix, then take the first alternative and note the others."""
        path = self._path
        if len(path) < len(self._prefix):
            taken = min(self._prefix[len(path)], len(parked) - 1)
        else:
            taken = 0
            if self._prune and not self._closed:
                alive = tuple((s.born, _place(s)) for s in steering.coroutines if not s.done)
                state = hash((steering.now, tuple(s.born for s in parked), alive))
                self._closed = state in self._seen
                self._seen.add(state)
            if not self._closed:
                self._todo += [(*path, other) for other in range(len(parked) - 1, 0, -1)]
        path.append(taken)
        return taken


_PLAIN = (int, str, float, bytes, bool, type(None))
_DEPTH = 3


def _place(steered: SteeredCoroutine) -> int:
    """Hash where a task stands, and what it knows."""
    frames = tuple(
        (id(frame.f_code), frame.f_lasti, tuple(_known(value, _DEPTH) for value in frame.f_locals.values()))
        for frame, _ in steered.task.iter_await_frames()
        if not module_of(frame).startswith(__package__)
    )
    return hash((frames, _known(steered.in_hand, _DEPTH)))


def _known(value: object, depth: int) -> object:
    """Return something hashable that tells values apart by their contents, as far as these are plain."""
    if isinstance(value, _PLAIN):
        return value
    kind = type(value).__qualname__
    if isinstance(value, trio.CancelScope):
        return kind, value.cancel_called
    if depth > 0 and not isinstance(
        value, trio.lowlevel.Task | trio.Nursery
    ):  # they have numbers that never come again
        if isinstance(value, list | tuple | deque):
            return kind, tuple(_known(item, depth - 1) for item in value)
        if isinstance(value, set | frozenset):
            return kind, frozenset(_known(item, depth - 1) for item in value)
        contents = value if isinstance(value, dict) else _attributes(value)
        if contents:
            return kind, frozenset((_known(k, depth - 1), _known(v, depth - 1)) for k, v in contents.items())
    return kind


def _attributes(value: object) -> Mapping[str, object]:
    names = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    slots = {name: getattr(value, name) for name in names if name[:2] != "__" and hasattr(value, name)}
    return {**slots, **getattr(value, "__dict__", {})}
