"""The package under its own explorer: whatever strikes a scenario wherever, in whatever order, the laws hold.

HYPOTHESIS_PROFILE decides how much is tried: ``deep`` strikes with everything
everywhere and draws 2,000 orders of each scenario; ``ci`` and ``dev`` take
samples in which every state meets every action.
"""

from __future__ import annotations

import functools
import logging
import os
import shlex
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.evidence import ROOT
from tests.guarantees.plans import SCENARIO, SMALLEST, plan_of
from trio_acp import ConnectionLost, Stopped
from trio_acp.explore import Case, Interrupt, Report, Strike, Tape, explore, replay
from trio_acp.testing import WILD
from trio_acp.testing._scenario_oracle import LAWS, check
from trio_acp.testing._scenario_world import ACTIONS, World
from trio_acp.testing.scenarios import SCENARIOS, SCENES
from trio_acp.testing.turn_model import EDGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trio_acp._trace import TraceName

pytestmark = [
    pytest.mark.timeout(4 * 3600),
    pytest.mark.breaks_the_model("the oracle of the scenarios checks each run, and knows when the clock has jumped"),
]

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
INSTANTS: Final = frozenset({"giving_up", "joining", "stopping", "suspect", "settled", "withdrawn"})
"""States of the model that this stack leaves in the very step in which it enters them: nothing can strike there."""
TAPES: Final = sorted((ROOT / "tests" / "tapes").glob("*.json"))


@pytest.fixture(autouse=True)
def _nothing_is_logged() -> Iterator[None]:
    """That a connection was lost is what the scenarios are about."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@functools.cache
def report_of(name: str) -> Report:
    """Explore a scenario as the profile says; once, for all tests that ask."""
    return explore(SCENARIO[name], plan_of(name, PROFILE))


def told(report: Report) -> str:
    """Return what is to be said of the findings, each with a command that plays it again."""
    lines = []
    for finding in report.findings:
        path = finding.tape.keep(report.scenario)
        command = shlex.join(["trio-acp", "explore", report.scenario, "--replay", str(path)])
        lines.append(f"{finding}\n\nits tape: {path}\nreplay it: {command}\n")
    return "\n".join(lines)


@pytest.mark.parametrize("name", SCENARIO)
def test_whatever_strikes_wherever_the_laws_hold(name: str) -> None:
    """No finding; and each action has struck in each state that the scenario goes through."""
    report = report_of(name)
    assert [] == report.findings, told(report)
    names = [action.name for action in SCENARIO[name].actions]
    empty = [(state, action) for state in report.states for action in names if not report.coverage[state, action]]
    assert [] == empty, str(report)


def test_every_state_of_the_model_meets_every_action() -> None:
    """All scenarios together: a cell of the table that stays empty is a promise that nobody has tried."""
    met = {
        (part, action) for name in SCENARIO for state, action in report_of(name).coverage for part in state.split(" + ")
    }
    states = {edge.source for edge in EDGES} - INSTANTS
    empty = sorted({(state, action.name) for state in states for action in ACTIONS} - met)
    assert [] == empty


@pytest.mark.parametrize("path", TAPES, ids=lambda path: path.stem)
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    """The tapes of faults that were mended find nothing any more."""
    tape = Tape.load(path)
    finding = replay(SCENARIO[tape.scenario], tape)
    assert finding is None, str(finding)


def test_there_are_scenarios_for_all_that_is_promised() -> None:
    """At least twelve, each with another name and told in its docstring; one for each misbehaviour; two with Ctrl-C."""
    assert len(SCENES) == len(SCENARIO) >= 12
    assert set(WILD) == {name.removeprefix("wild-") for name in SCENARIO if name.startswith("wild-")}
    assert {*ACTIONS} <= set.intersection(*({*scenario.actions} for scenario in SCENARIOS))
    assert 2 == sum(Interrupt() in scenario.actions for scenario in SCENARIOS)
    assert SMALLEST <= {*SCENARIO}


# -- the oracle can fail ------------------------------------------------------


def played(name: str) -> World:
    """Play a scenario, undisturbed and under Trio's own scheduler, and return all of it."""
    (scene,) = (scene for scene in SCENES if scene.name == name)
    world = World(scene, Case(lambda seconds: None))
    trio.run(world.live, clock=MockClock(autojump_threshold=0))
    return world


def receive(world: World, method: str, **params: Any) -> None:
    """Let the agent have received one more notification."""
    entry = attrs.evolve(world.agent.log[-1], kind="notification", method=method, params=params)
    world.agent.log.append(entry)


def first_record(world: World, name: TraceName) -> int:
    """Return where in the trace this happened first."""
    return [record.name for record in world.trace.records].index(name)


def move(world: World, name: TraceName, to: TraceName) -> None:
    """Let something have happened right after something else."""
    record = world.trace.records.pop(first_record(world, name))
    world.trace.records.insert(first_record(world, to) + 1, record)


def late(world: World, name: TraceName, seconds: float) -> None:
    """Let something have happened so much later."""
    at = first_record(world, name)
    world.trace.records[at] = attrs.evolve(world.trace.records[at], time=world.trace.records[at].time + seconds)


def session_id(world: World) -> str:
    """Return the id of the session that got the first prompt."""
    return next(str(entry.params["sessionId"]) for entry in world.agent.log if entry.method == "session/prompt")


def twice(world: World) -> None:
    """Let the agent have received its first prompt again."""
    world.agent.log.append(next(entry for entry in world.agent.log if entry.method == "session/prompt"))


def outlast(world: World) -> None:
    """Let a cancelled caller have taken a minute."""
    world._hits.append(("call:shutdown", world.callers_ended - 60))


def miscount(world: World) -> None:
    """Let there have been one turn more than there was."""
    assert world.statistics is not None
    world.statistics = attrs.evolve(world.statistics, submitted=2)


def stop_in_silence(world: World) -> None:
    """Let a turn that took a second have been stopped at its beginning, and the agent not have been told."""
    records = world.trace.records
    at = first_record(world, "first_event")
    records.insert(at, attrs.evolve(records[at], name="ladder.cancel"))


def allow_after_a_cancel(world: World) -> None:
    """Let the agent have been cancelled, and then be told that it may do what it has asked for."""
    receive(world, "session/cancel", sessionId=session_id(world))
    allowed = {"outcome": {"outcome": "selected", "optionId": "allow"}}
    world.agent.log.append(attrs.evolve(world.agent.log[-1], kind="response", method=None, params=allowed))


def go_on_talking(world: World) -> None:
    """Let a turn have said something more after its caller went on."""
    seen = world.prompted[0]
    assert seen.reply is not None
    seen.reply = attrs.evolve(seen.reply, text="hell")


def cancel_twice(world: World) -> None:
    """Let the agent have received two cancels for its only prompt."""
    for _ in range(2):
        receive(world, "session/cancel", sessionId=session_id(world))


def cancel_before_submission(world: World) -> None:
    """Let a turn have been stopped before it was submitted."""
    at = first_record(world, "cause")
    world.trace.records[at] = attrs.evolve(world.trace.records[at], data={"cause": "user"})
    move(world, "submitted", "cause")


def cancel_early(world: World) -> None:
    """Let the callers have been cancelled before they came to their end."""
    world.case.strikes.append(Strike("cancel", 0, "before"))
    world.case.times.append(0.5)


def withdraw(world: World) -> None:
    """Let a turn that was sent have been withdrawn."""
    at = first_record(world, "dequeued")
    world.trace.records[at] = attrs.evolve(world.trace.records[at], name="withdrawn")


SPOILT: Final[dict[str, Callable[[World], object]]] = {
    "model": lambda world: move(world, "settled", "released"),
    "at_every_instant": lambda world: world.faults.append("I17: no"),
    "i2_wire": lambda world: world.agent.violations.append("a second prompt"),
    "i3_silence": go_on_talking,
    "i4_attribution": lambda world: world.prompted[0].texts.append("of another"),
    "i5_one_cancel": cancel_twice,
    "i6_targeted": lambda world: receive(world, "session/cancel", sessionId="another"),
    "i6_reached": stop_in_silence,
    "i7_bound": lambda world: late(world, "settled", 60),
    "i8_latency": outlast,
    "i9_queue": withdraw,
    "i10_coverage": cancel_before_submission,
    "i11_sticky": twice,
    "i12_propagation": cancel_early,
    "i13_truth": lambda world: setattr(world.prompted[0].turn._state, "_texts", []),
    "i14_outcome": lambda world: setattr(world.prompted[0].turn._state, "outcome", Stopped(by="user")),
    "i15_metadata": lambda world: setattr(world, "rows", [attrs.evolve(world.rows[0], state="running")]),
    "i16_settle_first": lambda world: setattr(world.prompted[0], "reply", None),
    "i18_closed": lambda world: world.agent.abandoned.append((1, "session-1", 0.5)),
    "i20_isolation": lambda world: world.errors.append(ConnectionLost("lost")),
    "i21_closure": lambda world: setattr(world.wire, "open", 1),
    "i22_reverse_requests": lambda world: world.trace.records.append(
        attrs.evolve(world.trace.records[first_record(world, "settled")], name="suspect")
    ),
    "i22_withdrawn": allow_after_a_cancel,
    "i24_frames": lambda world: world.wire.codes.append(1007),
    "i25_accounting": miscount,
}


@pytest.mark.parametrize("law", [law.__name__ for law in LAWS])
def test_each_law_can_be_broken(law: str) -> None:
    """A run that is right breaks no law; with a fault put into what is known of it, it breaks this one."""
    world = played("start-and-prompt")
    check(world)
    SPOILT[law](world)
    with pytest.raises(AssertionError, match=rf"(?m)^{law}: "):
        check(world)


def test_what_is_not_promised_is_not_asked_for() -> None:
    """An honest crossing on the wire is no violation, and a caller's error after a cut is none of isolation."""
    world = played("start-and-prompt")
    world.agent.violations.append("connection 1: session/cancel for the idle session s")
    check(world)
    world._hits.append(("call:cut", 0.0))
    assert world.is_peaceful


def test_the_state_is_that_of_the_model() -> None:
    """Before, while and after turns are open; of several, in order of admission."""
    states = report_of("two-queued").states
    assert "over" == states[-1]
    assert {"new", "queued", "running + queued", "running"} <= {*states}
