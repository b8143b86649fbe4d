"""One run of a scenario: `run_once`, and what came of it, `Run`."""

from __future__ import annotations

import functools
import hashlib
import os
import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs
import trio

from ._actions import Raise, Strike
from ._case import Case
from ._guard import Forbidden
from ._steering import Deadlock, Hooks, Livelock, SteeredCoroutine, Steering, Unsteerable, stack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from ._actions import Action
    from ._guard import Guard
    from ._schedules import Schedule

FindingKind: TypeAlias = Literal["failure", "deadlock", "livelock", "leak", "nondeterminism"]


@attrs.frozen
class Scenario:
    """An async function to be explored, and what may be done to it.

    Attributes:
        function: Called with a `Case`, in a new Trio run, again and again.  It
            must behave the same each time but for the order of its tasks and
            what is done to it, and use neither threads nor real sockets.
        name: How reports and tapes call it.
        actions: What is done to it.
        max_steps: How many task steps count as "it never ends".
    """

    function: Callable[[Case], Awaitable[object]]
    name: str
    actions: tuple[Action, ...] = ()
    max_steps: int = 50_000

    def action(self, name: str) -> Action:
        """Return the action of this name.

        Raises:
            KeyError: it has none.
        """
        for action in self.actions:
            if action.name == name:
                return action
        raise KeyError(name)


@attrs.frozen
class Step:
    """One step of a run, for people."""

    number: int
    time: float
    task: str
    where: str
    state: str


@attrs.define
class Run:
    """What came of one run.

    Attributes:
        strikes: What was to be done to it.
        steps: Task steps it made.
        choices: At each point where several tasks could go on: which was taken, of how many.
        kind: What was found; None if nothing was.
        message: What exactly.
        error: The exception, if there was one.
        fingerprint: Equal for two runs only if the same tasks made the same steps at the same times.
        states: The state before each step, if the scenario names its states.
        entries: How often each `Raise` was passed.
        struck_in: Strikes that really happened, each with the state it happened in.
        log: The steps, if they were asked for.
    """

    strikes: tuple[Strike, ...]
    steps: int = 0
    choices: list[tuple[int, int]] = attrs.field(factory=list)
    kind: FindingKind | None = None
    message: str = ""
    error: BaseException | None = None
    fingerprint: str = ""
    states: list[str] = attrs.field(factory=list)
    entries: dict[str, int] = attrs.field(factory=dict)
    struck_in: list[tuple[str, Strike]] = attrs.field(factory=list)
    has_scope: bool = False
    log: list[Step] = attrs.field(factory=list)

    @property
    def deviations(self) -> dict[int, int]:
        """The choices that were not the default one, by number."""
        return {number: taken for number, (taken, _) in enumerate(self.choices) if taken}

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
    return _Player(scenario, schedule, guard, Run(tuple(strikes)), watch_states=watch_states, log=log).play(has_scope)


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
        self._trail: list[tuple[float, int]] = []
        self._before = _by_step(run.strikes, "before")
        self._after = _by_step(run.strikes, "after")
        self._steering = Steering(
            _play.__code__, Hooks(self._choose, self._begin_step, self._end_step, self._intrude), scenario.max_steps
        )

    def play(self, has_scope: bool) -> Run:
        run, steering, guard = self._run, self._steering, self._guard
        self._case = case = Case(has_scope=has_scope)
        case.jump = self._jump
        guard.begin()
        crashed = False
        try:
            with ExitStack() as stack:
                for action in self._scenario.actions:
                    if isinstance(action, Raise):
                        stack.enter_context(self._raising(action))
                play = functools.partial(_play, self._scenario.function, case, guard, self._check_leaks)
                trio.run(play, clock=steering, instruments=[steering])
        except trio.TrioInternalError as error:
            crashed = True
            self._crashed(error.__cause__ or error)
        except BaseException as error:  # noqa: BLE001 - outside of Trio; whatever leaves is what we look for
            self._left(error)
        tasks = [steered.label for steered in steering.coroutines]
        run.has_scope = case.has_scope
        if crashed:
            self._case = case = Case()  # its scopes know the tasks
            steering.abandon()
            guard.forget()
        if not tasks and run.kind is None:
            raise Unsteerable(f"trio {trio.__version__} does not let its tasks be held: Task.coro was not used")
        if guard.refused is not None:
            raise Forbidden(f"{self._scenario.name} cannot be explored: {guard.refused}")
        run.steps = steering.steps
        run.fingerprint = hashlib.sha256(repr((tasks, self._trail)).encode()).hexdigest()[:16]
        for leak in guard.end():
            run.find("leak", leak)
        return run

    def _crashed(self, error: BaseException) -> None:
        run, steering = self._run, self._steering
        alive = [steered for steered in steering.coroutines if not steered.done]
        waiting = "".join(f"\n  {steered.label}: {stack(steered)}" for steered in alive)
        match error:
            case Deadlock():
                run.find("deadlock", f"no task can run, and no deadline is pending:{waiting}")
            case Livelock():
                run.find("livelock", f"{error}:{waiting}")
            case _:
                raise error

    def _left(self, error: BaseException) -> None:
        interrupted = any(strike.action == "interrupt" for strike in self._case.strikes)
        rest: BaseException | None = error
        if isinstance(error, KeyboardInterrupt):
            rest = None
        elif isinstance(error, BaseExceptionGroup):
            found, rest = error.split(KeyboardInterrupt)
            interrupted = interrupted or found is None
        else:
            interrupted = True
        if not interrupted:
            raise error
        if rest is not None:
            self._run.find("failure", _describe(rest), rest)

    def _check_leaks(self) -> None:
        _, *others = self._steering.coroutines
        leaks = [f"the task {steered.label} still runs" for steered in others if not steered.done]
        for leak in leaks + self._guard.open_generators():
            self._run.find("leak", leak)

    # -- hooks of the steering --

    def _choose(self, parked: list[SteeredCoroutine]) -> int:
        taken = self._schedule.choose(parked, self._steering)
        self._run.choices.append((taken, len(parked)))
        return taken

    def _begin_step(self, step: int, steered: SteeredCoroutine) -> None:
        self._trail.append((self._steering.now, steered.born))
        if self._watch_states:
            self._run.states.append(self._case.state_name())
        if self._before and (strikes := self._before.get(step)) is not None:
            self._strike(strikes)
        if self._log:
            self._run.log.append(Step(step, self._steering.now, steered.label, stack(steered), self._case.state_name()))

    def _end_step(self, step: int) -> bool:
        if self._after and (strikes := self._after.get(step)) is not None:
            self._strike(strikes)
            return True
        return False

    def _intrude(self, why: str) -> None:
        self._guard.refused = why
        self._case.whole.cancel(reason=why)

    def _strike(self, strikes: list[Strike]) -> None:
        for strike in strikes:
            self._case.strikes.append(strike)
            self._run.struck_in.append((self._case.state_name(), strike))
            try:
                action = self._scenario.action(strike.action)
                assert not isinstance(action, Raise)
                action.apply(self._case)
            except Exception as error:  # noqa: BLE001 - a callback of the user's
                self._run.find("failure", f"{strike.action} raised {error!r}", error)

    def _jump(self, seconds: float) -> None:
        self._steering.now += seconds

    @contextmanager
    def _raising(self, action: Raise) -> Iterator[None]:
        run, case = self._run, self._case
        original = getattr(action.owner, action.attribute)
        at = {strike.step for strike in run.strikes if strike.action == action.name}

        def passing(*args: Any, **kwargs: Any) -> Any:
            number = run.entries[action.name] = run.entries.get(action.name, 0) + 1
            if number in at:
                case.strikes.append(strike := Strike(action.name, number, "entry"))
                run.struck_in.append((case.state_name(), strike))
                raise action.error()
            return original(*args, **kwargs)

        setattr(action.owner, action.attribute, passing)
        try:
            yield
        finally:
            setattr(action.owner, action.attribute, original)


def _describe(error: BaseException) -> str:
    """Return what an exception is, with the place in the user's code; of a group, the first of its members."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if f"{os.sep}trio{os.sep}" not in frame.filename and Path(frame.filename).parent != Path(__file__).parent:
            place = f", at {Path(frame.filename).name}:{frame.lineno} in {frame.name}"
    return text + place


def _by_step(strikes: Sequence[Strike], phase: str) -> Mapping[int, list[Strike]]:
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
