"""``trio-acp explore``: what cancellation, faults and the order of tasks can break."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import shlex
import sys
import time
from pathlib import Path

from ..explore import BadTape, Forbidden, Plan, Report, Scenario, Tape, explore, replay
from ..explore._tape import tape_name
from ._exits import ERROR, INTERRUPTED, OK, USAGE
from ._options import Commands, add_command, seconds
from ._output import complain
from ._scenarios import BadTarget, built_in, find
from ._text import one_line, safe_text

_DESCRIPTION = """\
Run a scenario again and again, each time with a cancellation or a fault in the
middle of a step, or with its tasks in another order; show what goes wrong.
TARGET is a built-in scenario (listed without one) or FILE.py::NAME: a Scenario,
a test with @explored, or an async function, which is cancelled at every step.
"""
_EXAMPLES = """\
examples:
  trio-acp explore examples/explore_pool.py::pool --schedules 1000 --seed 7
  trio-acp explore tests/test_pool.py::test_it --replay failure.json
exit codes: 0 nothing was found   1 something was   2 it cannot be explored
"""
_REFRESH_SECONDS = 0.1
_PLAIN_SECONDS = 5.0


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    parser = add_command(
        commands,
        "explore",
        run,
        usage="trio-acp explore [TARGET ...] [options]",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    option = parser.add_argument
    option("targets", nargs="*", metavar="TARGET", help=argparse.SUPPRESS)
    option("--list", action="store_true", help="list the built-in scenarios")
    option("--all", action="store_true", help="explore all built-in scenarios")
    option("--schedules", type=_count, default=100, metavar="N", help="random orders (default: 100)")
    option("--strategy", choices=("random", "pct"), default="random", metavar="WORD", help="random (default) or pct")
    option("--pairs", type=_count, default=0, metavar="N", help="pairs of strikes")
    option("--exhaustive", type=_count, default=0, metavar="N", help="orders of an exhaustive search")
    option("--seed", type=int, default=0, metavar="N", help="decides what is drawn")
    option("--seconds", type=seconds, default=math.inf, metavar="S", help="seconds that each target may take")
    option("--max-schedules", type=_count, default=math.inf, metavar="N", help="runs that each target may take")
    option("--findings", type=_count, default=1, metavar="N", help="stop a target after so many")
    option("--replay", type=Path, metavar="TAPE", help="play a tape instead")
    option("--json", action="store_true", help="write one line of JSON for each target")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    if options.all and options.targets:
        options.parser.error("--all takes no target")
    try:
        known = built_in()
        targets = list(known) if options.all else options.targets
        if options.list or not (targets or options.all or options.replay):
            return _list(known, as_json=options.json)
        if options.all and not known:
            raise BadTarget("there are no built-in scenarios")
        scenarios = [(target, known.get(target) or find(target, known)) for target in targets]
        if options.replay is not None:
            if len(scenarios) != 1:
                raise BadTarget("--replay plays a tape on one TARGET")
            return _replay(scenarios[0][1], options.replay, as_json=options.json)
        return max(_explore(target, scenario, options) for target, scenario in scenarios)
    except (BadTarget, BadTape, Forbidden) as error:
        complain(one_line(str(error)))
        return USAGE


def _list(known: dict[str, Scenario], *, as_json: bool) -> int:
    if as_json:
        _say(json.dumps(list(known)))
    else:
        width = max(map(len, known), default=0)
        lines = [f"{name:{width}}  {_told(scenario)}".rstrip() for name, scenario in known.items()]
        _say("\n".join(lines) or "There are no built-in scenarios; name one of yours: FILE.py::NAME")
    return OK


def _told(scenario: Scenario) -> str:
    """Return the first line of a scenario's docstring."""
    return (inspect.getdoc(scenario.function) or "").partition("\n")[0]


def _explore(target: str, scenario: Scenario, options: argparse.Namespace) -> int:
    plan = Plan(
        schedules=options.schedules,
        strategy=options.strategy,
        pairs=options.pairs,
        exhaustive=options.exhaustive,
        seed=options.seed,
        max_schedules=options.max_schedules,
        seconds=options.seconds,
        max_findings=max(1, options.findings),
    )
    progress = _Progress(scenario.name)
    try:
        report = explore(scenario, plan, progress=progress.show)
    except KeyboardInterrupt:
        progress.end()
        _show(target, progress.report, as_json=options.json)
        return INTERRUPTED
    progress.end()
    if not report.total:
        raise BadTarget(f"{target}: nothing was explored")
    _show(target, report, as_json=options.json)
    return ERROR if report.findings else OK


def _show(target: str, report: Report, *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps({"target": target, **report.as_json()}))
        return
    file, colons, function = target.partition("::")
    name = tape_name(file, function) if colons else report.scenario
    _say(str(report))
    for finding in report.findings:
        path = finding.tape.keep(name)
        command = shlex.join(["trio-acp", "explore", target, "--replay", str(path)])
        _say(f"\nits tape: {path}\nreplay it: {command}")


def _replay(scenario: Scenario, path: Path, *, as_json: bool) -> int:
    try:
        tape = Tape.load(path)
        if tape.scenario != scenario.name:
            raise BadTape(f"it is of scenario {tape.scenario}, not {scenario.name}")
        finding = replay(scenario, tape)
    except OSError as error:
        raise BadTarget(f"cannot read the tape {path}: {error.strerror}") from error
    except BadTape as error:
        raise BadTarget(f"bad tape {path}: {error}") from error
    except KeyError as error:
        raise BadTarget(f"bad tape {path}: {error.args[0]}") from error
    same = finding is not None and finding.tape.fingerprint == tape.fingerprint
    if as_json:
        found = None if finding is None else {"kind": finding.kind, "message": finding.message}
        _say(json.dumps({"scenario": scenario.name, "found": found, "same_run": same}))
    elif finding is None:
        _say(f"{scenario.name}: nothing is found any more")
    else:
        _say(
            f"{finding}\n\n"
            + ("It is the run of the tape." if same else "It is not the run of the tape: something changed.")
        )
    return OK if finding is None else ERROR


class _Progress:
    """How far an exploration is: one line that is written over on a terminal, else a line now and then."""

    def __init__(self, name: str) -> None:
        self.report = Report(name)
        self._started = self._shown = time.perf_counter()
        self._live = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0

    def show(self, report: Report) -> None:
        """Take notice of a run."""
        self.report = report
        now = time.perf_counter()
        report.seconds = now - self._started
        if now - self._shown < (_REFRESH_SECONDS if self._live else _PLAIN_SECONDS):
            return
        self._shown = now
        rate = report.total / report.seconds
        line = one_line(f"{report.scenario}: {report.total} runs, {rate:.0f}/s, {len(report.findings)} found", 79)
        self._width = max(self._width, len(line))
        self._write(f"\r{line:{self._width}}" if self._live else f"{line}\n")

    def end(self) -> None:
        """Take the line away."""
        if self._width and self._live:
            self._write(f"\r{'':{self._width}}\r")

    def _write(self, text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()


def _say(text: str) -> None:
    print(safe_text(text, multiline=True), flush=True)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"not a number of runs: {text!r}")
    return int(text)
