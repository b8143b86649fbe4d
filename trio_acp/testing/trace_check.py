"""Checks the trace of any run against the model of a turn (`turn_model.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._limits import Limits
from .turn_model import LAWS, SLACK, Broken, Turn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._trace import TraceRecord

_OF_TURNS_ONLY: Final = frozenset({"admitted", "dequeued", "submitted", "decided", "settled"})


class Checker:
    """Checks the trace of one manager, as it comes; `finish` returns what broke the model.

    Args:
        limits: In force for every turn; default: what each turn's trace says.
        slack: Seconds that a record may come after its bound; ``math.inf``
            checks only the order, as on a real clock and a busy machine.
    """

    def __init__(self, limits: Limits | None = None, *, slack: float = SLACK) -> None:
        self._limits, self._slack = limits, slack
        self._open: dict[str, list[TraceRecord]] = {}
        self._over: set[str] = set()
        self._waiting: dict[str, list[str]] = {}
        self._running: dict[str, str] = {}
        self.broken: list[str] = []

    def record(self, record: TraceRecord) -> None:
        """Take one record."""
        turn = record.turn
        if turn in self._over:
            self._complain(record, "I16", "its turn was over")
        elif record.name == "admitted" and turn not in self._open:
            self._open[turn] = [record]
            self._waiting.setdefault(record.session, []).append(turn)
        elif turn in self._open:
            self._open[turn].append(record)
            self._check_lane(record)
            if record.name == "released" or [r.name for r in self._open[turn][-2:]] == ["withdrawn", "settled"]:
                self._over.add(turn)
                self._replay(self._open.pop(turn))
        elif record.name in _OF_TURNS_ONLY:
            self._complain(record, "I13", "its turn was not admitted")  # other records may be of a control

    def finish(self) -> list[str]:
        """Check what has not ended, and return everything that broke the model: every turn must have settled."""
        for records in self._open.values():
            turn = self._replay(records)
            if turn is not None and turn.state != "settled":
                self._complain(records[-1], "I13", f"its turn never settled; it is {turn.state}")
        self._open.clear()
        return self.broken

    def _check_lane(self, record: TraceRecord) -> None:
        waiting = self._waiting[record.session]
        if record.name == "withdrawn" and record.turn in waiting:
            waiting.remove(record.turn)
        elif record.name == "dequeued":
            if record.session in self._running:
                self._complain(record, "I1", f"{self._running[record.session]} is in the lane")
            if waiting[:1] != [record.turn]:
                self._complain(record, "I9", f"the next were {waiting}")
            self._running[record.session] = record.turn
            waiting[:] = [turn for turn in waiting if turn != record.turn]
        elif record.name == "released":
            self._running.pop(record.session, None)

    def _replay(self, records: list[TraceRecord]) -> Turn | None:
        limits = [record.data["limits"] for record in records if record.name == "decided"]
        turn = Turn(limits=self._limits or (limits[0] if limits else Limits()), slack=self._slack)
        try:
            for record in records:
                turn = turn.step(record)
        except Broken as error:
            story = " ".join(f"{record.name}@{record.time:g}" for record in records)
            self.broken.append(f"{error}\n    turn {records[0].turn} of {records[0].session!r}: {story}")
            return None
        return turn

    def _complain(self, record: TraceRecord, law: str, why: str) -> None:
        where = f"{record.name} at {record.time:g}, turn {record.turn} of {record.session!r}"
        self.broken.append(f"{law} ({LAWS[law]}): {where}: {why}")


def check(records: Iterable[TraceRecord], limits: Limits | None = None) -> list[str]:
    """Return what the whole trace of a manager does against the model; nothing, if all is well.

    Args:
        limits: In force for every turn; default: what each turn's trace says.
    """
    checker = Checker(limits)
    for record in records:
        checker.record(record)
    return checker.finish()
