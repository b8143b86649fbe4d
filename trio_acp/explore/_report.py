"""What an exploration found: `Finding`, `Report`, and their text."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._run import Run, Step
    from ._tape import Tape


_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")


def gist(kind: str | None, message: str) -> tuple[str | None, str]:
    """Return what makes two findings one: all but the numbers in their text."""
    return kind, _NUMBER.sub("", message)


@attrs.frozen
class Finding:
    """A run that went wrong, made small.

    Attributes:
        kind: ``failure`` (an exception left the scenario), ``deadlock``,
            ``livelock``, ``leak``, or ``nondeterminism``.
        message: What exactly.
        technique: What found it: ``strike``, ``schedule``, ``pair`` …
        tape: Replays it.
        steps: What the run did, step by step.
        error: The exception, if there was one.
    """

    kind: str
    message: str
    technique: str
    tape: Tape
    steps: tuple[Step, ...] = ()
    error: BaseException | None = None

    def __str__(self) -> str:
        return "\n".join([f"{self.kind}: {self.message}", "", *program(self.tape, self.steps)])


def program(tape: Tape, steps: Sequence[Step]) -> list[str]:
    """Return the lines that tell what a run did: one for each step, with what was done to it in between."""
    marks: dict[tuple[str, int], list[str]] = {}
    for strike in tape.strikes:
        marks.setdefault((strike.phase, strike.step), []).append(strike.action)
    order = f"in another order at {len(tape.deviations)} choices" if tape.deviations else "in the default order"
    lines = [f"scenario {tape.scenario}, {order}"]
    for (phase, number), names in marks.items():
        if phase == "entry":
            lines.append(f"       >>>>  {', '.join(names)}, at entry {number}")
    width = max((len(step.task) for step in steps), default=0)
    for step in steps:
        lines += [f"       >>>>  {name}, before this step" for name in marks.get(("before", step.number), ())]
        state = f"  [{step.state}]" if step.state else ""
        where = step.where or "(begins)"
        instead = f"  <<<< instead of {step.instead}" if step.instead else ""
        lines.append(f"{step.number:5}  t={step.time:<8g} {step.task:{width}}  {where}{state}{instead}")
        lines += [f"       >>>>  {name}, after this step" for name in marks.get(("after", step.number), ())]
    return lines


@attrs.define
class Report:
    """What an exploration did.

    Attributes:
        scenario: The scenario's name.
        steps: Task steps of the undisturbed run.
        schedules: Runs, by technique; ``shrink`` are those that made findings small.
        findings: What was found, each thing once.
        repeated: How often one of these was found again.
        task_steps: Task steps of all runs together.
        states: The states that the scenario named in the undisturbed run, in order.
        coverage: How often each action struck in each state.
        complete: Techniques that tried everything they could (strikes and
            pairs in the default order; exhaustive without strikes, and all but
            what was pruned); the others are samples.
        seconds: How long it took, in real time.
    """

    scenario: str
    steps: int = 0
    schedules: Counter[str] = attrs.field(factory=Counter)
    findings: list[Finding] = attrs.field(factory=list)
    repeated: int = 0
    task_steps: int = 0
    states: list[str] = attrs.field(factory=list)
    coverage: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    complete: list[str] = attrs.field(factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        """All runs."""
        return self.schedules.total()

    def count(self, technique: str, run: Run) -> None:
        """Count a run."""
        self.schedules[technique] += 1
        self.task_steps += run.steps

    def as_json(self) -> Mapping[str, object]:
        """Return it as JSON values."""
        return {
            "scenario": self.scenario,
            "steps": self.steps,
            "schedules": dict(self.schedules),
            "complete": list(self.complete),
            "task_steps": self.task_steps,
            "seconds": round(self.seconds, 3),
            "repeated": self.repeated,
            "findings": [
                {"kind": f.kind, "message": f.message, "technique": f.technique, "tape": json.loads(f.tape.dumps())}
                for f in self.findings
            ],
            "coverage": [{"state": s, "action": a, "count": n} for (s, a), n in sorted(self.coverage.items())],
        }

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {name}" for name, count in self.schedules.items())
        findings = "1 finding" if len(self.findings) == 1 else f"{len(self.findings)} findings"
        head = f"{self.scenario}: {findings} in {self.total} runs of about {self.steps} steps ({parts})"
        if self.complete:
            head += f"\ncomplete: {', '.join(self.complete)}"
        return "\n\n".join([head, *_table(self.states, self.coverage), *map(str, self.findings)])


def _table(states: Sequence[str], coverage: Mapping[tuple[str, str], int]) -> list[str]:
    """Return how often each action struck in each state, as a table; nothing if no state has a name."""
    rows = list(dict.fromkeys([*states, *(state for state, _ in coverage)]))
    actions = sorted({action for _, action in coverage})
    if not any(rows):
        return []
    width = max(len(row) for row in [*rows, "(none)"])
    lines = ["  ".join([f"{'state':{width}}", *actions])]
    for row in rows:
        cells = [f"{coverage.get((row, action), 0) or '-':>{len(action)}}" for action in actions]
        lines.append("  ".join([f"{row or '(none)':{width}}", *cells]))
    return ["\n".join(lines)]
