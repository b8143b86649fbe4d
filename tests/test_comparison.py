"""The half of the comparison that needs nothing but trio_acp, and what is made of the rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from benchmarks.cancellation.measure import Row, measure
from benchmarks.cancellation.page import BEGIN, END, cells, markdown, text, written
from benchmarks.cancellation.plan import CLEANUP, GRACE, RESIST, SCENARIOS, TIDY_UP
from benchmarks.cancellation.sides import run
from benchmarks.cancellation.telling import Told, load
from benchmarks.cancellation.wire import Connection, Passed
from tests.evidence import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = [pytest.mark.concurrency, pytest.mark.timeout(180)]

SLACK: Final = 1.5
"""Seconds that a busy machine may add to a time."""


@pytest.fixture(scope="module")
def rows() -> Mapping[str, Row]:
    """Return a row of trio_acp for each scenario; two run at a time."""
    with ThreadPoolExecutor(2) as pool:
        return {row.scenario: row for row in pool.map(lambda scenario: run("trio_acp", scenario), SCENARIOS)}


def test_nothing_is_stale_overlaps_is_swallowed_or_repeated(rows: Mapping[str, Row]) -> None:
    """In no scenario."""
    assert [scenario.name for scenario in SCENARIOS] == list(rows)
    for row in rows.values():
        assert (0, 0, 0, 1) == (row.stale, row.swallowed, row.repeated, row.in_flight), row
        assert row.orphan is not None, row
        assert row.orphan < SLACK, row


def test_a_cancelled_caller_stops_the_agent(rows: Mapping[str, Row]) -> None:
    """One `session/cancel`; `Cancelled` comes out once the agent has stopped; the next prompt follows at once."""
    assert (["`session/cancel`"], "`Cancelled`") == (rows["caller"].wire, rows["caller"].ended_as)
    assert ["`session/cancel`", "`session/prompt`"] == rows["next"].wire
    assert (1, "`end_turn`") == (rows["next"].connections, rows["next"].next_as)
    for name in ("caller", "next"):
        settle = rows[name].settle
        assert settle is not None
        assert settle < CLEANUP + SLACK


def test_a_time_limit_drains_and_then_leaves_the_connection(rows: Mapping[str, Row]) -> None:
    """An agent that ignores the cancel is given `cleanup`; its session is resumed on another connection."""
    row = rows["timeout"]
    assert row.wire.count("`session/cancel`") == 1
    assert ("`session/cancel`", "`session/prompt`") == (row.wire[0], row.wire[-1])
    assert "`session/resume`" in row.wire
    assert (2, "`TurnTimedOut`", "`end_turn`") == (row.connections, row.ended_as, row.next_as)
    assert row.settle is not None
    assert CLEANUP + GRACE - 0.1 <= row.settle <= CLEANUP + GRACE + SLACK


def test_leaving_propagates_its_callers_cancellation(rows: Mapping[str, Row]) -> None:
    """`Cancelled` comes out, after the handler's clean-up, and nothing is left."""
    row = rows["close"]
    assert ("`Cancelled`", True) == (row.ended_as, row.tidied_up)
    assert row.leave is not None
    assert row.leave < TIDY_UP + SLACK


def test_a_handler_that_resists_holds_up_nobody_but_the_end(rows: Mapping[str, Row]) -> None:
    """Closing the session does not wait for it; leaving the manager does, and reports it."""
    row = rows["resist"]
    assert row.settle is not None
    assert row.settle < SLACK
    assert row.leave is not None
    assert RESIST - 0.1 <= row.leave <= RESIST + SLACK
    assert row.warnings > 0


def test_a_request_that_was_taken_back_is_answered_so(rows: Mapping[str, Row]) -> None:
    """With -32800, at once; the turn goes on."""
    row = rows["peer"]
    assert (["error -32800 to `session/request_permission`"], "`end_turn`") == (row.wire, row.ended_as)


def test_a_backend_that_dies_of_a_cancel_is_not_run_again(rows: Mapping[str, Row]) -> None:
    """What the user stopped is stopped, whatever became of the agent."""
    row = rows["dies"]
    assert (1, '`Stopped(by="user")`') == (row.prompts, row.ended_as)
    assert ["`session/cancel`"] == row.wire


def test_every_row_is_shown(rows: Mapping[str, Row]) -> None:
    """In the text for a terminal, and in the page, which keeps what people wrote in it."""
    shown = text(list(rows.values()))
    part = markdown(list(rows.values()), ["about it"])
    for scenario in SCENARIOS:
        assert scenario.title.replace("`", "") in shown
        assert f"| {' | '.join(cells(rows[scenario.name]))} |" in part
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert f"before\n{BEGIN}\n\n{part}\n\n{END}\nafter\n" == written(page, part)
    with pytest.raises(ValueError, match="once"):
        written("no marks", part)


def test_the_page_was_written_by_a_run_of_these_scenarios() -> None:
    """Each scenario has a row for each side, and none has another name."""
    page = (ROOT / "docs/comparison.md").read_text("utf-8")
    table = page.partition(BEGIN)[2].partition("\n## ")[0]
    found = [
        tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table.splitlines() if line.startswith("|")
    ]
    assert [(each.title, side) for each in SCENARIOS for side in ("SDK", "trio_acp")] == found[2:]


def passed(at: float, to: str, **message: Any) -> Passed:
    """Return a message as `tee` notes it."""
    return Passed(at, to, {"jsonrpc": "2.0", **message})


def test_what_is_measured_can_be_bad() -> None:
    """From a recording with every fault, every fault is read."""
    prompt = {"sessionId": "s", "prompt": [{"type": "text", "text": "work"}]}
    connection = Connection(
        [
            passed(1, "agent", id=1, method="session/prompt", params=prompt),
            passed(2, "client", id=7, method="session/request_permission", params={}),
            passed(3, "agent", id=2, method="session/prompt", params=prompt),
            passed(4, "client", id=2, error={"code": -32600}),
            passed(5, "agent", id=7, result={"outcome": {"outcome": "selected"}}),
            passed(6, "client", id=1, result={"stopReason": "end_turn"}),
        ],
        ended_at=9,
    )
    told = Told("a library 1", 2.5, ended_at=2.75, ended_as="`X`", cancelled=True, swallowed=True, watched_until=8)
    told.delivered = [(2.6, "old 1"), (3.5, "old 2"), (5.5, "old 3"), (5.6, "new 1")]
    row = measure(SCENARIOS[0], load(told.dump()), [connection])
    assert ["`session/prompt`", "`selected` to `session/request_permission`"] == row.wire
    assert (2, 1, 2, 1) == (row.prompts, row.repeated, row.in_flight, row.connections)
    assert (3.25, 2, 1, 0.25) == (row.orphan, row.stale, row.swallowed, row.settle)


def test_a_request_that_nobody_told_the_handler_about_counts_as_swallowed() -> None:
    """The strike is the agent's, and what settles it is the answer to its request."""
    connection = Connection(
        [
            passed(1, "agent", id=1, method="session/prompt", params={"prompt": []}),
            passed(2, "client", id=7, method="session/request_permission", params={}),
            passed(3, "client", method="$/cancel_request", params={"requestId": 7}),
            passed(4, "agent", id=7, result={"outcome": {"outcome": "selected"}}),
        ]
    )
    row = measure(SCENARIOS[0], Told("a library", ended_at=6, handler_cancelled=False, left_at=7), [connection])
    assert (1, 1.0, 1.0) == (row.swallowed, row.settle, row.orphan)
