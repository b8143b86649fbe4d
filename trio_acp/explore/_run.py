"""One run of a scenario: `run_once`, and what came of it, `Run`."""

from __future__ import annotations

import functools
import hashlib
import os
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
import trio

from ._actions import Raise, Strike
from ._case import Case
from ._guard import Forbidden
from ._steered import stack, without_chance
from ._steering import Deadlock, Hooks, Livelock, Steering, Unsteerable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ._guard import Guard
    from ._scenario import Scenario
    from ._schedules import Schedule
    from ._steered import SteeredCoroutine

FindingKind: TypeAlias = Literal["failure", "deadlock", "livelock", "leak", "nondeterminism"]


@attrs.frozen
class Step:
    """One step of a run, for people.

    Attributes:
        number: Which step of the run, from 0.
        time: When, virtual seconds.
        task: Who makes it.
        where: Where that task has waited.
        state: The state of the scenario before it, if it names its states.
        instead: Who would have made it in the default order, if that is another task.
    """

    number: int
    time: float
    task: str
    where: str
    state: str
    instead: str


@attrs.define
class Run:
    """What came of one run.

    Attributes:
        strikes: What was to be done to it.
        steps: Task steps it made.
        tasks: Their names, in the order of their birth.
        trail: The time and the task of each step.
        choices: At each point where several tasks could go on: which was taken, of how many.
        kind: What was found; None if nothing was.
        message: What exactly.
        error: The exception, if there was one.
        states: The state before each step and at the end, if that was asked for.
        entries: How often each `Raise` was passed.
        struck_in: Strikes that really happened, each with the state it happened in.
        has_scope: Whether the scenario asked for its scope.
        log: The steps, if they were asked for.
    """

    strikes: tuple[Strike, ...]
    steps: int = 0
    tasks: list[str] = attrs.field(factory=list)
    trail: list[tuple[float, int]] = attrs.field(factory=list)
    choices: list[tuple[int, int]] = attrs.field(factory=list)
    kind: FindingKind | None = None
    message: str = ""
    error: BaseException | None = None
    states: list[str] = attrs.field(factory=list)
    entries: dict[str, int] = attrs.field(factory=dict)
    struck_in: list[tuple[str, Strike]] = attrs.field(factory=list)
    has_scope: bool = False
    log: list[Step] = attrs.field(factory=list)

    @property
    def deviations(self) -> dict[int, int]:
        """The choices that were not the default one, by number."""
        return {number: taken for number, (taken, _) in enumerate(self.choices) if taken}

    @property
    def fingerprint(self) -> str:
        """Equal for two runs only if the same tasks made the same steps at the same times; also across processes."""
        return hashlib.sha256(repr((self.tasks, self.trail)).encode()).hexdigest()[:16]

    def find(self, kind: FindingKind, message: str, error: BaseException | None = None) -> None:
        """Note a finding; the first counts."""
        if self.kind is None:
            self.kind, self.message, self.error = kind, message, error


def run_once(
    scenario: Scenario,
    schedule: Schedule,
    guard: Guard,
    *,
    strikes: Sequence[Strike] = (),
    has_scope: bool = False,
    watch_states: bool = False,
    log: bool = False,
) -> Run:
    """Run a scenario once, on a schedule, with strikes.

    Synchronous; runs Trio.  `guard` must be watching.

    Raises:
        Forbidden: the scenario cannot be explored.
        Unsteerable: this release of Trio cannot be steered.
        KeyboardInterrupt: pressed by a person.
    """
    run = Run(tuple(strikes))
    guard.begin()
    _Player(scenario, schedule, guard, run, watch_states=watch_states, log=log).play(has_scope)
    # The player, which knows the tasks, is garbage now, and so is what is left of them.
    for leak in guard.end():
        run.find("leak", leak)
    if guard.refused is not None:
        del run
        guard.forget()  # such as the sockets that it got half-way
        raise Forbidden(f"{scenario.name} cannot be explored: {guard.refused}")
    if not run.steps:
        raise Unsteerable(f"trio {trio.__version__} does not let its tasks be held: Task.coro was not used")
    return run


class _Player:
    def __init__(
        self, scenario: Scenario, schedule: Schedule, guard: Guard, run: Run, *, watch_states: bool, log: bool
    ) -> None:
        self._scenario = scenario
        self._schedule = schedule
        self._guard = guard
        self._run = run
        self._watch_states = watch_states
        self._log = log
        self._instead = ""
        self._before = _by_step(run.strikes, "before")
        self._after = _by_step(run.strikes, "after")
        watching = self._before or watch_states or log
        self._steering = Steering(
            _play.__code__,
            Hooks(
                choose=self._choose,
                begin_step=self._begin_step if watching else None,
                end_step=self._end_step if self._after else None,
                intrude=self._intrude,
            ),
            scenario.max_steps,
        )
        self._case = Case(self._jump)

    def play(self, has_scope: bool) -> None:
        run, steering, guard = self._run, self._steering, self._guard
        self._case.has_scope = has_scope
        crashed = False
        try:
            with ExitStack() as patches:
                for action in self._scenario.actions:
                    if isinstance(action, Raise):
                        patches.enter_context(action.patched(functools.partial(self._enter, action)))
                trio.run(
                    functools.partial(_play, self._scenario.function, self._case, guard, self._check_leaks),
                    clock=steering,
                    instruments=[steering],
                )
        except trio.TrioInternalError as error:
            crashed = True
            self._crashed(error.__cause__ or error)
        except BaseException as error:  # noqa: BLE001 - outside of Trio; whatever leaves is what we look for
            self._left(error)
        run.steps, run.trail = steering.steps, steering.trail
        run.tasks = [steered.label for steered in steering.coroutines]
        run.has_scope = self._case.has_scope
        if self._watch_states:
            run.states.append(self._state())
        if crashed:
            self._case = Case(self._jump)  # the scopes of the old one know the tasks
            steering.abandon()
            guard.forget()

    def _crashed(self, error: BaseException) -> None:
        alive = [steered for steered in self._steering.coroutines if not steered.done]
        waiting = "".join(f"\n  {steered.label}: {stack(steered)}" for steered in alive)
        match error:
            case Deadlock():
                self._run.find("deadlock", f"no task can run, and no deadline is pending:{waiting}")
            case Livelock():
                self._run.find("livelock", f"{error}:{waiting}")
            case _:  # a system task, an abort function, or a function given to run_sync_soon raised
                self._run.find("failure", f"Trio crashed: {_describe(error)}", error)

    def _left(self, error: BaseException) -> None:
        others: BaseException | None = error
        if isinstance(error, BaseExceptionGroup):
            pressed, rest = error.split(KeyboardInterrupt)
            others = error if pressed is None else rest
        elif isinstance(error, KeyboardInterrupt):
            others = None
        if others is not error and not any(strike.action == "interrupt" for strike in self._case.strikes):
            raise error  # a person has pressed Ctrl-C
        if others is not None:
            self._run.find("failure", _describe(others), others)

    def _check_leaks(self) -> None:
        _, *others = self._steering.coroutines
        leaks = [f"the task {steered.label} still runs" for steered in others if not steered.done]
        for leak in leaks + self._guard.open_generators():
            self._run.find("leak", leak)

    # -- hooks of the steering --

    def _choose(self, parked: list[SteeredCoroutine]) -> int:
        taken = self._schedule.choose(parked, self._steering)
        self._run.choices.append((taken, len(parked)))
        self._instead = parked[0].label if taken else ""
        return taken

    def _begin_step(self, step: int, steered: SteeredCoroutine) -> None:
        if self._watch_states:
            self._run.states.append(self._state())
        if (strikes := self._before.get(step)) is not None:
            self._strike(strikes)
        if self._log:
            instead, self._instead = self._instead, ""
            self._run.log.append(Step(step, self._steering.now, steered.label, stack(steered), self._state(), instead))

    def _end_step(self, step: int) -> bool:
        if (strikes := self._after.get(step)) is not None:
            self._strike(strikes)
            return True
        return False

    def _intrude(self, why: str) -> None:
        self._guard.refused = why
        self._case.whole.cancel(reason=why)

    # -- strikes --

    def _strike(self, strikes: list[Strike]) -> None:
        for strike in strikes:
            action = self._scenario.action(strike.action)
            assert not isinstance(action, Raise)
            self._note(strike)
            try:
                action.apply(self._case)
            except Exception as error:  # noqa: BLE001 - a function of the user's
                self._run.find("failure", f"{strike.action} raised {_describe(error)}", error)

    def _enter(self, action: Raise) -> bool:
        number = self._run.entries[action.name] = self._run.entries.get(action.name, 0) + 1
        strike = Strike(action.name, number, "entry")
        if strike in self._run.strikes:
            self._note(strike)
            return True
        return False

    def _note(self, strike: Strike) -> None:
        self._case.strikes.append(strike)
        self._case.times.append(self._steering.now)
        self._run.struck_in.append((self._state(), strike))

    def _state(self) -> str:
        try:
            return self._case.state_name()
        except Exception as error:  # noqa: BLE001 - a function of the user's
            self._run.find("failure", f"naming the state raised {_describe(error)}", error)
            return "?"

    def _jump(self, seconds: float) -> None:
        self._steering.now += seconds


def _describe(error: BaseException) -> str:
    """Return what an exception is, with the place in the user's code; of a group, the first of its members."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first, *more = without_chance(f"{type(error).__name__}: {error}").rstrip(": ").split("\n")
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if f"{os.sep}trio{os.sep}" not in frame.filename and Path(frame.filename).parent != Path(__file__).parent:
            place = f", at {Path(frame.filename).name}:{frame.lineno} in {frame.name}"
    return "\n".join([first + place, *more])


def _by_step(strikes: Sequence[Strike], phase: str) -> dict[int, list[Strike]]:
    by_step: dict[int, list[Strike]] = {}
    for strike in strikes:
        if strike.phase == phase:
            by_step.setdefault(strike.step, []).append(strike)
    return by_step


async def _play(
    function: Callable[[Case], Awaitable[object]], case: Case, guard: Guard, check_leaks: Callable[[], None]
) -> None:
    with guard.scenario(), case.whole:
        await function(case)
    check_leaks()
