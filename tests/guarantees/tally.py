"""Explores one scenario, and counts for each property and cause in how many runs it was judged, and broken."""

from __future__ import annotations

import functools
import logging
import math
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from tests.guarantees.plans import SCENARIO, SCENE, plan_of
from tests.guarantees.properties import ENDS, broken_in, cause_of, judged
from trio_acp.explore import explore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio_acp.explore import Case, Report, Scenario
    from trio_acp.testing._scenario_world import Scene

_BETWEEN_LINES: Final = 30.0
"""Real seconds."""


@attrs.define
class Result:
    """What the exploration of one scenario counted.

    Attributes:
        steps: Of the undisturbed run.
        schedules: Runs by technique.
        complete: Techniques that tried everything.
        strikes: How many single strikes there are; of pairs, `pairs`.
        runs: By cause.
        cut_short: Of these, the runs that Ctrl-C ended.
        judged: By property and cause.
        broken: Likewise; only what was.
        wrong: By cause, the runs in which anything was broken.
        findings: With the tape of each.
        commit: Which was run, if it was run again, after the others.
    """

    scenario: str
    steps: int
    schedules: dict[str, int]
    complete: list[str]
    strikes: int
    pairs: int
    task_steps: int
    seconds: float
    runs: dict[str, int]
    cut_short: dict[str, int]
    judged: dict[str, dict[str, int]]
    broken: dict[str, dict[str, int]]
    wrong: dict[str, int]
    findings: list[dict[str, str]]
    commit: str = ""

    @property
    def total(self) -> int:
        """All runs, but for those that made findings small."""
        return sum(self.runs.values())


@attrs.define
class _Played:
    case: Case
    ended: bool = False
    cut_short: bool = False
    broken: frozenset[str] = frozenset()


class Tally:
    """Is told of every run by the scenario itself, and that it counts by the explorer's progress."""

    def __init__(self, scene: Scene, lines: Callable[[str], None]) -> None:
        self.runs: Counter[str] = Counter()
        self.cut_short: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.judged: dict[str, Counter[str]] = {}
        self.broken: dict[str, Counter[str]] = {}
        self._judged = functools.cache(functools.partial(judged, scene))
        self._lines = lines
        self._said = time.monotonic()
        self._played: list[_Played] = []
        self._found = 0

    def watching(self, scenario: Scenario) -> Scenario:
        """Return the same scenario, whose runs are noted."""
        return attrs.evolve(scenario, function=functools.partial(self._play, scenario.function))

    async def _play(self, function: Callable[[Case], Awaitable[object]], case: Case) -> None:
        played = _Played(case)
        self._played.append(played)
        try:
            await function(case)
        except AssertionError as error:
            played.broken = broken_in(str(error))
            played.ended, played.cut_short = bool(played.broken), error.__context__ is not None
            raise
        except (KeyboardInterrupt, BaseExceptionGroup):
            played.ended = played.cut_short = True
            raise
        played.ended = True

    def progress(self, report: Report) -> None:
        """Count the run that was made; those after it were made to have its finding small."""
        found = len(report.findings) + report.repeated
        self._count(found > self._found)
        self._found = found
        if time.monotonic() - self._said > _BETWEEN_LINES:
            self._said = time.monotonic()
            self._lines(f"{self.runs.total()} runs, {len(report.findings)} findings")

    def finish(self) -> None:
        """Count the run whose finding has ended the exploration, if one did."""
        if self._played:
            self._count(found=True)

    def _count(self, found: bool) -> None:
        played = self._played[0]
        self._played.clear()
        causes = [cause_of(strike.action) for strike in played.case.strikes]
        cause = "pairs" if len(causes) > 1 else (causes or ["none"])[0]
        self.runs[cause] += 1
        self.cut_short[cause] += played.cut_short
        self._add(self.judged, cause, ENDS)
        if played.ended:
            for name in self._judged(frozenset(causes), cut_short=played.cut_short):
                self._add(self.judged, cause, name)
        broken = played.broken or ({ENDS} if found else frozenset())
        self.wrong[cause] += bool(broken)
        for name in broken:
            self._add(self.broken, cause, name)

    def _add(self, table: dict[str, Counter[str]], cause: str, name: str) -> None:
        table.setdefault(name, Counter())[cause] += 1


def run(name: str, profile: str, seed: int) -> Result:
    """Explore a scenario as a profile says; progress goes to stderr."""
    logging.disable()  # that a connection was lost is what the scenarios are about
    scenario, plan = SCENARIO[name], plan_of(name, profile, seed)
    tally = Tally(SCENE[name], lambda text: print(f"{name}: {text}", file=sys.stderr, flush=True))
    report = explore(tally.watching(scenario), plan, progress=tally.progress)
    tally.finish()
    strikes = 2 * report.steps * len(scenario.actions)
    return Result(
        scenario=name,
        steps=report.steps,
        schedules=dict(report.schedules),
        complete=report.complete,
        strikes=strikes,
        pairs=math.comb(strikes, 2),
        task_steps=report.task_steps,
        seconds=round(report.seconds, 1),
        runs=dict(tally.runs),
        cut_short=dict(+tally.cut_short),
        judged={key: dict(counts) for key, counts in tally.judged.items()},
        broken={key: dict(counts) for key, counts in tally.broken.items()},
        wrong=dict(+tally.wrong),
        findings=list(_findings(name, report)),
    )


def _findings(name: str, report: Report) -> Iterator[dict[str, str]]:
    for number, finding in enumerate(report.findings, 1):
        path = finding.tape.keep(f"{name}-{number}")
        what = finding.message.partition("\n")[0]
        properties = ", ".join(sorted(broken_in(finding.message.removeprefix("AssertionError: "))) or [ENDS])
        yield {"properties": properties, "what": f"{finding.kind}: {what}", "tape": str(path)}


def as_json(result: Result) -> dict[str, Any]:
    """Return it as JSON values."""
    return attrs.asdict(result)
