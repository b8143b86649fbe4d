"""How hard Hypothesis looks, and the trace of every manager that a test opens, checked against the model of a turn.

HYPOTHESIS_PROFILE is dev, ci or deep; on a build machine ci.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import Phase, settings
from trio.testing import MockClock

from trio_acp import _manager
from trio_acp._context import Context
from trio_acp.abc import Instrument
from trio_acp.testing.trace_check import Checker
from trio_acp.testing.turn_model import SLACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp._audit import AuditRecord
    from trio_acp._trace import TraceRecord

pytest_plugins = ["tests.schedule"]

# No deadline for a single example: it would measure the machine, not the code.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=150, deadline=None)
settings.register_profile("deep", max_examples=5000, deadline=None)
# For tests.mutants, where failing is the aim: no shrinking, and nothing is remembered.
settings.register_profile("mutants", max_examples=100, deadline=None, database=None, phases=[Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))

# A shell's background job begins with Ctrl-C ignored, and so do its children; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Commands that are run in the test's process decide where this package's log records go."""
    ours = logging.getLogger("trio_acp")
    level, handlers, propagate = ours.level, list(ours.handlers), ours.propagate
    yield
    ours.setLevel(level)
    ours.handlers, ours.propagate = handlers, propagate


class Checked(Instrument):
    """Hands each record to a checker, and then to the instrument that the test gave, if it did."""

    def __init__(self, checker: Checker, given: Instrument | None) -> None:
        self.checker, self.given = checker, given
        self.events = given is not None and given.events

    def record(self, record: TraceRecord) -> None:
        self.checker.record(record)
        if self.given is not None:
            self.given.record(record)

    def audit(self, record: AuditRecord) -> None:
        if self.given is not None:
            self.given.audit(record)


@pytest.fixture(autouse=True)
def every_turn_obeys_the_model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Assert that what the managers of this test did is a run of the model, and that every admitted turn settled.

    Bounds are checked under virtual time; a real clock only gives the order.
    Managers in subprocesses are not seen.  A test that breaks the code on
    purpose says so with ``@pytest.mark.breaks_the_model("why")``.
    """
    checkers: list[Checker] = []

    def context(**given: Any) -> Context:
        ctx = Context(**given)
        exact = isinstance(trio.lowlevel.current_clock(), MockClock)
        checkers.append(Checker(slack=SLACK if exact else math.inf))
        ctx.instrument = Checked(checkers[-1], ctx.instrument)
        return ctx

    if request.node.get_closest_marker("breaks_the_model") is None:
        monkeypatch.setattr(_manager, "Context", context)
    yield
    broken = "\n".join(line for checker in checkers for line in checker.finish())
    assert "" == broken, broken
