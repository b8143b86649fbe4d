"""`explore`: a scenario under every strike, in many orders, until a budget is used up."""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs

from ._actions import Phase, Raise, Strike
from ._guard import Guard
from ._report import Finding, Report
from ._run import run_once
from ._schedules import Default, Exhaustive, Priorities, RandomWalk, Schedule, Taped
from ._shrink import shrink
from ._tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._run import Run, Scenario

PHASES: tuple[Phase, ...] = ("before", "after")

Strategy: TypeAlias = Literal["random", "pct"]


@attrs.frozen(kw_only=True)
class Plan:
    """What to try, and how much of it.

    Attributes:
        strikes: How many single strikes, of all there are; evenly spread, but
            so that each state meets each action.  ``math.inf`` tries all.
        schedules: How many random orders; every other one also has a strike.
        strategy: How they are drawn: ``random`` walks, or ``pct`` (priorities).
        pairs: How many pairs of strikes.
        exhaustive: How many orders of an exhaustive search.
        seed: Decides everything that is drawn.
        max_schedules: Runs in total.
        seconds: Real seconds in total, checked between runs.
        max_findings: Stop after so many.
        check_determinism: Begin with two undisturbed runs, and compare.
    """

    strikes: float = math.inf
    schedules: int = 0
    strategy: Strategy = "random"
    pairs: int = 0
    exhaustive: int = 0
    seed: int = 0
    max_schedules: float = math.inf
    seconds: float = math.inf
    max_findings: int = 1
    check_determinism: bool = True


def explore(
    scenario: Scenario, plan: Plan | None = None, *, progress: Callable[[Report], None] | None = None
) -> Report:
    """Run a scenario again and again, as a plan says, and report what goes wrong.

    Synchronous; each run is a Trio run of its own, under virtual time.

    Args:
        progress: Called after each run.

    Raises:
        Forbidden: the scenario uses a thread, a process, or a real socket.
        Unsteerable: this release of Trio cannot be steered.
    """
    return _Exploration(scenario, plan or Plan(), progress).explore()


def replay(scenario: Scenario, tape: Tape) -> Finding | None:
    """Play a tape; return what is found, or None if nothing is any more.

    Raises:
        KeyError: the tape uses an action that the scenario does not have.
        Forbidden: as `explore` does.
    """
    for strike in tape.strikes:
        scenario.action(strike.action)
    guard = Guard()
    with guard.watching():
        base = run_once(scenario, Default(), guard)
        run = _play(scenario, tape, guard, base.has_scope, log=True)
    return None if run.kind is None else _finding(run, "replay", tape)


def _play(scenario: Scenario, tape: Tape, guard: Guard, has_scope: bool, *, log: bool = False) -> Run:
    return run_once(scenario, Taped(tape.deviations), guard, strikes=tape.strikes, has_scope=has_scope, log=log)


def _finding(run: Run, technique: str, tape: Tape) -> Finding:
    assert run.kind is not None
    return Finding(run.kind, run.message, technique, tape, tuple(run.log), run.error)


class _Done(Exception):
    """The budget is used up, or enough was found."""


class _Exploration:
    def __init__(self, scenario: Scenario, plan: Plan, progress: Callable[[Report], None] | None) -> None:
        self._scenario = scenario
        self._plan = plan
        self._progress = progress
        self._report = Report(scenario.name)
        self._guard = Guard()
        self._random = random.Random(plan.seed)  # noqa: S311 - replayable on purpose
        self._started = time.perf_counter()
        self._has_scope = False

    def explore(self) -> Report:
        report = self._report
        with self._guard.watching():
            try:
                base = self._undisturbed()
                for technique in (self._strikes, self._schedules, self._exhaust, self._pairs):
                    technique(base)
            except _Done:
                pass
        report.seconds = time.perf_counter() - self._started
        return report

    # -- techniques --

    def _undisturbed(self) -> Run:
        base = self._run("undisturbed", Default(), watch_states=True)
        self._has_scope = base.has_scope
        self._report.steps = base.steps
        if self._plan.check_determinism:
            again = self._run("undisturbed", Default())
            if base.fingerprint != again.fingerprint:
                self._note(
                    Finding(
                        "nondeterminism",
                        f"two undisturbed runs differ ({base.steps} and {again.steps} steps): "
                        "something besides the order of tasks decides, such as the clock, random numbers or hashes",
                        "undisturbed",
                        Tape(self._scenario.name),
                    )
                )
        return base

    def _strikes(self, base: Run) -> None:
        every = list(self._all_strikes(base))
        some = _stratified(every, base, self._plan.strikes, self._random)
        for strike in some:
            self._run("strike", Default(), [strike])
        if len(some) == len(every):
            self._report.complete.append("strike")

    def _schedules(self, base: Run) -> None:
        every = list(self._all_strikes(base))
        for number in range(self._plan.schedules):
            seed = f"{self._plan.seed}/{number}"
            schedule: Schedule = RandomWalk(seed)
            if self._plan.strategy == "pct":
                schedule = Priorities(seed, depth=3, choices=len(base.choices))
            strikes = [self._random.choice(every)] if every and number % 2 else []
            self._run("schedule", schedule, strikes)

    def _exhaust(self, base: Run) -> None:
        search = Exhaustive()
        for _ in range(self._plan.exhaustive):
            if not search.next_run():
                self._report.complete.append("exhaustive")
                return
            self._run("exhaustive", search)

    def _pairs(self, base: Run) -> None:
        every = list(self._all_strikes(base))
        total = len(every) * (len(every) - 1) // 2
        if self._plan.pairs >= total:
            chosen: Sequence[Sequence[Strike]] = list(itertools.combinations(every, 2))
            self._report.complete.append("pair")
        else:
            chosen = [self._random.sample(every, 2) for _ in range(self._plan.pairs)]
        for pair in chosen:
            self._run("pair", Default(), pair)

    def _all_strikes(self, base: Run) -> Iterator[Strike]:
        for action in self._scenario.actions:
            if isinstance(action, Raise):
                yield from (Strike(action.name, n + 1, "entry") for n in range(base.entries.get(action.name, 0)))
            else:
                for step, phase in itertools.product(range(base.steps), PHASES):
                    yield Strike(action.name, step, phase)

    # -- one run --

    def _run(
        self, technique: str, schedule: Schedule, strikes: Sequence[Strike] = (), *, watch_states: bool = False
    ) -> Run:
        plan, report = self._plan, self._report
        if report.total >= plan.max_schedules or time.perf_counter() - self._started >= plan.seconds:
            raise _Done
        run = run_once(
            self._scenario,
            schedule,
            self._guard,
            strikes=strikes,
            has_scope=self._has_scope,
            watch_states=watch_states,
        )
        report.count(technique, run)
        report.coverage.update((state, strike.action) for state, strike in run.struck_in)
        if run.kind is not None:
            self._note(self._small(run, technique))
        if self._progress is not None:
            self._progress(report)
        return run

    def _small(self, run: Run, technique: str) -> Finding:
        tape = Tape(self._scenario.name, run.strikes, run.deviations, run.kind or "", run.message, run.steps)

        def again(candidate: Tape) -> Run:
            return _play(self._scenario, candidate, self._guard, self._has_scope)

        first = again(tape)
        if first.kind != run.kind:
            return Finding(
                "nondeterminism",
                f"{run.kind} ({run.message}) did not come again when its tape was played: "
                f"{first.kind or 'nothing'} did",
                technique,
                tape,
                error=run.error,
            )
        tape = shrink(tape, again)
        final = _play(self._scenario, tape, self._guard, self._has_scope, log=True)
        tape = attrs.evolve(tape, kind=final.kind or "", message=final.message, steps=final.steps)
        return _finding(final, technique, tape)

    def _note(self, finding: Finding) -> None:
        if any(finding.same_as(other) for other in self._report.findings):
            self._report.repeated += 1
            return
        self._report.findings.append(finding)
        if len(self._report.findings) >= self._plan.max_findings:
            raise _Done


def _stratified(every: list[Strike], base: Run, number: float, draw: random.Random) -> list[Strike]:
    """Return `number` strikes, evenly spread over the run, but at least one for each state and action."""
    if number >= len(every):
        return every
    cells: dict[tuple[str, str], list[Strike]] = {}
    for strike in every:
        state = base.states[strike.step] if strike.phase != "entry" else ""
        cells.setdefault((state, strike.action), []).append(strike)
    chosen = [draw.choice(cell) for cell in cells.values()]
    rest = [strike for strike in every if strike not in set(chosen)]
    more = max(0, int(number) - len(chosen))
    chosen += [rest[len(rest) * i // more] for i in range(min(more, len(rest)))]
    return chosen
