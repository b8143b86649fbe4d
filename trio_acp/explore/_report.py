"""What an exploration found: `Finding`, `Report`, and their text."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._run import Run, Step
    from ._tape import Tape


_NUMBER = re.compile(r"\d+")


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

    def same_as(self, other: Finding) -> bool:
        """Whether this is the same finding, found again elsewhere."""
        return (self.kind, _NUMBER.sub("", self.message)) == (other.kind, _NUMBER.sub("", other.message))

    def __str__(self) -> str:
        return "\n".join([f"{self.kind}: {self.message}", "", *program(self.tape, self.steps)])


def program(tape: Tape, steps: tuple[Step, ...]) -> list[str]:
    """Return the lines that tell what a run did: one for each step, with what was done to it in between."""
    marks: dict[tuple[str, int], list[str]] = {}
    for strike in tape.strikes:
        marks.setdefault((strike.phase, strike.step), []).append(strike.action)
    order = "default order"
    if tape.deviations:
        changes = ", ".join(f"choice {number} takes {taken}" for number, taken in sorted(tape.deviations.items()))
        order += f", except: {changes}"
    lines = [f"scenario {tape.scenario}, {order}"]
    for (phase, number), names in marks.items():
        if phase == "entry":
            lines.append(f"  {', '.join(names)}, at entry {number}")
    width = max((len(step.task) for step in steps), default=0)
    for step in steps:
        lines += [f"       >>>>  {name}, before this step" for name in marks.get(("before", step.number), ())]
        state = f"  [{step.state}]" if step.state else ""
        lines.append(f"{step.number:5}  t={step.time:<8g} {step.task:{width}}  {step.where}{state}")
        lines += [f"       >>>>  {name}, after this step" for name in marks.get(("after", step.number), ())]
    return lines


@attrs.define
class Report:
    """What an exploration did.

    Attributes:
        scenario: The scenario's name.
        steps: Task steps of the undisturbed run.
        schedules: Runs, by technique.
        findings: What was found, each thing once.
        repeated: How often one of these was found again.
        task_steps: Task steps of all runs together.
        coverage: How often each action struck in each state of the scenario.
        complete: Techniques that tried everything they could, within the
            default order; the others are samples.
        seconds: How long it took, in real time.
    """

    scenario: str
    steps: int = 0
    schedules: Counter[str] = attrs.field(factory=Counter)
    findings: list[Finding] = attrs.field(factory=list)
    repeated: int = 0
    coverage: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    complete: list[str] = attrs.field(factory=list)
    task_steps: int = 0
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
            "seconds": round(self.seconds, 3),
            "findings": [
                {"kind": f.kind, "message": f.message, "technique": f.technique, "tape": f.tape.dumps()}
                for f in self.findings
            ],
            "coverage": [{"state": s, "action": a, "count": n} for (s, a), n in sorted(self.coverage.items())],
        }

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {name}" for name, count in self.schedules.items())
        head = f"{self.scenario}: {len(self.findings)} findings in {self.total} runs of about {self.steps} steps"
        head += f" ({parts})"
        return "\n\n".join([head, *map(str, self.findings)])
