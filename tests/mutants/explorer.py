"""Faults of the explorer itself: then it would find nothing, or something that is not there."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "nothing is done after a step",
        "explorer",
        "explore._run:_Player._end_step",
        "self._after.get(step)",
        "self._before.get(step)",
        "test_explore_runs.py::test_who_is_woken_by_a_strike_between_two_steps_may_go_on_at_once",
    ),
    Mutant(
        "a replay keeps to the default order",
        "explorer",
        "explore._schedules:Taped.choose",
        "self._deviations.get(number, 0)",
        "0",
        "test_explore_tapes.py::test_a_tape_replays_its_run_exactly",
    ),
    Mutant(
        "a tape loses its deviations in the file",
        "explorer",
        "explore._tape:_deviation",
        "return item[0], item[1]",
        "return item[0], 0",
        "test_explore_tapes.py::test_a_tape_is_the_same_after_writing_and_reading",
    ),
    Mutant(
        "a search ends after its first run",
        "explorer",
        "explore._schedules:Exhaustive.choose",
        "if not self._closed:",
        "if self._closed:",
        "test_explore_runs.py::test_every_order_is_had_once[2-1-6]",
    ),
)
