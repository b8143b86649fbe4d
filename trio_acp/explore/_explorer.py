"""`explore`: a scenario under every strike, in many orders, until a budget is used up."""

from __future__ import annotations

import itertools
import math
import random
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
import trio

from ._actions import Interrupt, Phase, Raise, Strike
from ._guard import Guard
from ._report import Finding, Report, gist
from ._run import run_once
from ._schedules import Default, Exhaustive, Priorities, RandomWalk, Schedule, Taped
from ._shrink import shrink
from ._tape import Tape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from ._run import Run
    from ._scenario import Scenario

PHASES: tuple[Phase, ...] = ("before", "after")
_SHRINK_RUNS = 500
_SHRINK_SECONDS = 20.0
_PCT_DEPTH = 3

Strategy: TypeAlias = Literal["random", "pct"]


@attrs.frozen(kw_only=True)
class Plan:
    """What to try, and how much of it.

    ``pct`` is probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi
    and Nagarakatte, ASPLOS 2010), for bugs that need three orderings; the
    exhaustive search is that of CHESS (Musuvathi and others, OSDI 2008) without
    its bound on preemptions.

    Attributes:
        strikes: How many single strikes, of all there are; evenly spread, but
            so that each state meets each action.  ``math.inf`` tries all.
        schedules: How many random orders; every other one also has a strike.
        strategy: How they are drawn: ``random`` walks, or ``pct`` (priorities).
        exhaustive: How many orders of an exhaustive search, at most.
        prune: Whether that search skips the alternatives of states it has met.
        pairs: How many pairs of strikes, in the default order; all, if there are no more.
        seed: Decides everything that is drawn.
        max_schedules: Runs in total, but for those that make a finding small: at most 500 each.
        seconds: Real seconds in total, checked between runs.
        max_findings: Stop after so many.
        check_determinism: Begin with two undisturbed runs, which must be
            equal, as must every run be up to what is done to it.
        shrink: Make findings small; else they are shown as they were met.
    """

    strikes: float = math.inf
    schedules: int = 0
    strategy: Strategy = "random"
    exhaustive: int = 0
    prune: bool = True
    pairs: int = 0
    seed: int = 0
    max_schedules: float = math.inf
    seconds: float = math.inf
    max_findings: int = 1
    check_determinism: bool = True
    shrink: bool = True


def explore(
    scenario: Scenario, plan: Plan | None = None, *, progress: Callable[[Report], None] | None = None
) -> Report:
    """Run a scenario again and again, as a plan says, and report what goes wrong.

    Synchronous; each run is a Trio run of its own, under virtual time.
    `KeyboardInterrupt` ends it; `progress` has the report until then.

    Args:
        progress: Called after each run, with the report as it is then.

    Raises:
        Forbidden: the scenario uses a thread, a process, or a real socket; or
            it is interrupted, and this is not the main thread.
        RuntimeError: called inside a Trio run.
        Unsteerable: this release of Trio cannot be steered.
    """
    return _Exploration(scenario, plan or Plan(), progress).explore()


def replay(scenario: Scenario, tape: Tape) -> Finding | None:
    """Play a tape; return what is found, or None if nothing is any more.

    The tape of the finding has the new fingerprint; if that is the old one,
    the same tasks made the same steps at the same times.

    Raises:
        KeyError: the tape uses an action that the scenario does not have.
        Forbidden, RuntimeError, Unsteerable: as `explore` does.
    """
    for strike in tape.strikes:
        scenario.action(strike.action)
    guard = Guard()
    with _watching(guard, scenario):
        base = run_once(scenario, Default(), guard)
        run = _play(scenario, tape, guard, base.has_scope, log=True)
    return None if run.kind is None else _finding(run, "replay", tape)


def _watching(guard: Guard, scenario: Scenario) -> AbstractContextManager[None]:
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("an exploration makes Trio runs of its own; call it from synchronous code")
    return guard.watching(interrupts=any(isinstance(action, Interrupt) for action in scenario.actions))


def _play(scenario: Scenario, tape: Tape, guard: Guard, has_scope: bool, *, log: bool = False) -> Run:
    schedule = Taped(tape.deviations)
    return run_once(scenario, schedule, guard, strikes=tape.strikes, has_scope=has_scope, watch_states=True, log=log)


def _finding(run: Run, technique: str, tape: Tape) -> Finding:
    """Make a finding of a run that has played `tape`; its own tape says what really happened."""
    assert run.kind is not None
    tape = Tape(
        tape.scenario, tape.strikes, run.deviations, run.kind, run.message, run.steps, fingerprint=run.fingerprint
    )
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
        self._base: Run | None = None
        self._known: set[tuple[str | None, str]] = set()

    def explore(self) -> Report:
        report = self._report
        with _watching(self._guard, self._scenario):
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
        self._base = base
        self._report.steps = base.steps
        self._report.states = list(dict.fromkeys(base.states))
        if self._plan.check_determinism:
            self._run("undisturbed", Default())
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
                schedule = Priorities(seed, depth=_PCT_DEPTH, choices=base.steps)
            strikes = [self._random.choice(every)] if every and number % 2 else []
            self._run("schedule", schedule, strikes)

    def _exhaust(self, base: Run) -> None:
        if not self._plan.exhaustive:
            return
        search = Exhaustive(prune=self._plan.prune)
        for _ in range(self._plan.exhaustive):
            search.next_run()
            self._run("exhaustive", search)
            if search.done:
                self._report.complete.append("exhaustive")
                return

    def _pairs(self, base: Run) -> None:
        if not self._plan.pairs:
            return
        every = list(self._all_strikes(base))
        if self._plan.pairs < math.comb(len(every), 2):
            for _ in range(self._plan.pairs):
                self._run("pair", Default(), self._random.sample(every, 2))
            return
        for pair in itertools.combinations(every, 2):
            self._run("pair", Default(), pair)
        self._report.complete.append("pair")

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
        if report.total - report.schedules["shrink"] >= plan.max_schedules or self._seconds_left() <= 0:
            raise _Done
        run = run_once(
            self._scenario,
            schedule,
            self._guard,
            strikes=strikes,
            has_scope=self._base is not None and self._base.has_scope,
            watch_states=watch_states,
        )
        report.count(technique, run)
        report.coverage.update((state, strike.action) for state, strike in run.struck_in)
        if self._base is not None and plan.check_determinism and isinstance(schedule, Default):
            self._compare(self._base, run, technique)
        if run.kind is not None:
            self._found(run, technique)
        if self._progress is not None:
            self._progress(report)
        return run

    def _compare(self, base: Run, run: Run, technique: str) -> None:
        """Up to its first strike, a run in the default order is the undisturbed one; if it is not, say so."""
        if not run.strikes:
            same = base.fingerprint == run.fingerprint
        elif any(strike.phase == "entry" for strike in run.strikes):
            return
        else:
            first = min(strike.step for strike in run.strikes)
            same = base.trail[:first] == run.trail[:first]
        if not same:
            self._differs(f"two runs differ before anything was done, at {_first_difference(base, run)}", technique)

    def _found(self, run: Run, technique: str) -> None:
        if gist(run.kind, run.message) in self._known:
            self._report.repeated += 1
            return
        self._known.add(gist(run.kind, run.message))
        tape = Tape(self._scenario.name, run.strikes, run.deviations, run.kind or "", run.message, run.steps)
        first = self._again(tape)
        if first.kind != run.kind:
            came = first.kind or "nothing"
            self._differs(f"{run.kind} ({run.message}) did not come again from its tape: {came} did", technique, tape)
            return
        small = shrink(tape, self._holder(run)) if self._plan.shrink else tape
        self._note(_finding(self._again(small, log=True), technique, small))

    def _holder(self, found: Run) -> Callable[[Tape], bool]:
        runs, started = itertools.count(), time.perf_counter()
        what = found.message.partition(":")[0]

        def holds(tape: Tape) -> bool:
            spent = time.perf_counter() - started
            if next(runs) >= _SHRINK_RUNS or spent > _SHRINK_SECONDS or self._seconds_left() <= 0:
                return False
            run = self._again(tape)
            return run.kind == found.kind and run.message.partition(":")[0] == what

        return holds

    def _again(self, tape: Tape, *, log: bool = False) -> Run:
        run = _play(self._scenario, tape, self._guard, self._base is not None and self._base.has_scope, log=log)
        self._report.count("shrink", run)
        return run

    def _seconds_left(self) -> float:
        return self._plan.seconds - (time.perf_counter() - self._started)

    def _differs(self, message: str, technique: str, tape: Tape | None = None) -> None:
        message += "; something besides the order of tasks decides: a clock, random numbers, a hash, or an earlier run"
        tape = attrs.evolve(tape or Tape(self._scenario.name), kind="nondeterminism", message=message)
        self._note(Finding("nondeterminism", message, technique, tape))

    def _note(self, finding: Finding) -> None:
        what = gist(finding.kind, finding.message)
        if any(what == gist(other.kind, other.message) for other in self._report.findings):
            self._report.repeated += 1
            return
        self._report.findings.append(finding)
        if len(self._report.findings) >= self._plan.max_findings:
            raise _Done


def _first_difference(one: Run, other: Run) -> str:
    for step, (here, there) in enumerate(zip(one.trail, other.trail, strict=False)):
        if here != there:
            return f"step {step} ({one.tasks[here[1]]} at {here[0]:g} s, {other.tasks[there[1]]} at {there[0]:g} s)"
    if one.steps != other.steps:
        return f"their ends (steps: {one.steps}, {other.steps})"
    return "the names of their tasks"


def _stratified(every: list[Strike], base: Run, number: float, draw: random.Random) -> list[Strike]:
    """Return `number` strikes, evenly spread over the run, but at least one for each state and action."""
    if number >= len(every):
        return every
    cells: dict[tuple[str, str], list[Strike]] = {}
    for strike in every:
        state = "" if strike.phase == "entry" else base.states[strike.step + (strike.phase == "after")]
        cells.setdefault((state, strike.action), []).append(strike)
    chosen = [draw.choice(cell) for cell in cells.values()]
    taken = set(chosen)
    rest = [strike for strike in every if strike not in taken]
    more = max(0, int(number) - len(chosen))
    chosen += [rest[len(rest) * i // more] for i in range(min(more, len(rest)))]
    return chosen
