"""The layout of a timeline: laws of its geometry, for any records in any order of names."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_acp._trace import MEANING
from trio_acp.cli._timeline_layout import Lane, lay_out, stack
from trio_acp.cli._timeline_scale import Scale
from trio_acp.cli._trace_read import Entry, Trace
from trio_acp.cli._turns import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

NEAR = 1e-6

PAUSES = st.one_of(st.just(0.0), st.floats(1e-6, 3.0), st.floats(3.0, 400_000.0))
DATA: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "cause": st.sampled_from(["response", "failure", "deadline", "caller", "user", "left", "shutdown", "?"]),
            "outcome": st.sampled_from(["Completed", "Stopped", "TimedOut", "Failed", "?"]),
            "limits": st.fixed_dictionaries(
                {}, optional={n: st.floats(0.01, 1e6) | st.just("inf") for n in ("turn", "grace", "cleanup")}
            ),
            "kind": st.text(max_size=4),
        },
    ),
)
ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([*MEANING, "unheard.of"]), PAUSES, st.sampled_from("ab"), st.sampled_from("123456"), DATA
    ),
    max_size=40,
)


def trace_of(told: Sequence[tuple[str, float, str, str, dict[str, Any]]]) -> Trace:
    """Return the trace of records, each so long after the one before."""
    times = itertools.accumulate(pause for _, pause, *_ in told)
    return Trace(
        wall="",
        entries=tuple(
            Entry(name=name, time=time, session=session, turn=turn, data=data)
            for (name, _, session, turn, data), time in zip(told, times, strict=True)
        ),
    )


@given(ENTRIES)
def test_bars_of_a_lane_never_overlap_and_nothing_leaves_the_canvas(
    told: list[tuple[str, float, str, str, dict[str, Any]]],
) -> None:
    """Whatever the records are: no model of a turn is needed for that."""
    chart = lay_out(tell(trace_of(told)))
    for lane in chart.lanes:
        for one, other in itertools.combinations(lane.bars, 2):
            apart = (
                one.x + one.width <= other.x + NEAR
                or other.x + other.width <= one.x + NEAR
                or one.y + one.height <= other.y + NEAR
                or other.y + other.height <= one.y + NEAR
            )
            assert apart, (one, other)
        for x, y in corners(lane):
            assert 0 <= x <= chart.scale.width + NEAR
            assert 0 <= y <= lane.height


def corners(lane: Lane) -> list[tuple[float, float]]:
    """Return every point that is drawn."""
    points = [(label.x, label.y) for label in lane.labels]
    for bar in (*lane.bars, *lane.shields):
        points += [(bar.x, bar.y), (bar.x + bar.width, bar.y + bar.height)]
    for line in lane.lines:
        points += [(line.x1, line.y1), (line.x2, line.y2)]
    return points


@given(ENTRIES)
def test_shields_are_inside_bars(told: list[tuple[str, float, str, str, dict[str, Any]]]) -> None:
    """A shield is drawn where its turn is."""
    for lane in lay_out(tell(trace_of(told))).lanes:
        for shield in lane.shields:
            assert any(bar.y == shield.y and bar.x < shield.x + shield.width for bar in lane.bars)


TIMES = st.lists(st.floats(0, 1e7), min_size=1, max_size=60)


@given(TIMES, TIMES, st.lists(st.floats(0, 1e7), min_size=2))
@example([0.0, 172_800.0], [0.5, 2.0], [0.0, 1.0, 172_800.0])
@example([0.0, 1e-300], [1e-300], [0.0, 1e-300])
def test_every_instant_is_mapped_monotonically(
    instants: list[float], durations: list[float], asked: list[float]
) -> None:
    """What is later is not further left; what is later and an instant of the trace is further right, if it can be."""
    scale = Scale(instants, durations)
    places = [scale.x(time) for time in sorted(asked)]
    assert sorted(places) == places
    assert all(0 <= place <= scale.width for place in places)
    for before, after in itertools.pairwise(sorted(set(instants))):
        if after - before >= 0.02:
            assert scale.x(after) - scale.x(before) >= 0.5


@given(TIMES.map(lambda times: [round(time, 4) for time in times]), TIMES)
def test_the_axis_tells_the_truth(instants: list[float], durations: list[float]) -> None:
    """A label stands where its time is, no two are too close, and there are not too many of them."""
    scale = Scale(instants, durations)
    labels = list(scale.labels())
    for (x, text), (after, _) in itertools.pairwise(labels):
        assert after - x >= 64
        assert x == pytest.approx(scale.x(float(text.removesuffix(" s"))), abs=1.0)
    assert len(labels) <= scale.width / 64 + 1
    assert all(0 <= x <= scale.width for x, _ in [*labels, *scale.cuts()])


def test_a_quiet_stretch_is_cut_short() -> None:
    """Two days of work leave room for the two seconds that matter, and the cut is marked."""
    scale = Scale([0, 1, 172_800, 172_801, 172_803], [1, 172_799, 1, 2])
    assert ["47 h 59 min"] == [text for _, text in scale.cuts()]
    assert scale.x(172_803) - scale.x(172_801) > 100


def test_without_quiet_stretches_the_scale_is_linear() -> None:
    """Twice as long is twice as wide."""
    scale = Scale([0, 1, 3, 4, 10], [1, 2, 1, 6])
    assert [] == list(scale.cuts())
    assert 2 * (scale.x(1) - scale.x(0)) == pytest.approx(scale.x(3) - scale.x(1))
    assert scale.x(10) - scale.x(0) == pytest.approx(1160)


def test_thousands_of_events_are_few_ticks() -> None:
    """Ticks that would stand in each other's place are one, which counts them."""
    told: list[tuple[str, float, str, str, dict[str, Any]]] = [
        ("dequeued", 0, "a", "1", {}),
        ("submitted", 1, "a", "1", {}),
    ]
    told += [("event", 0.001, "a", "1", {"kind": "TextDelta"})] * 20_000
    [lane] = lay_out(tell(trace_of(told))).lanes
    ticks = [line for line in lane.lines if line.kind == "event"]
    assert 100 < len(ticks) < 500
    assert 20_000 == sum(int(tick.says.split()[0]) for tick in ticks)


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda it: (it[0], it[0] + it[1])), max_size=20)


@given(SPANS)
def test_a_stack_has_as_few_rows_as_can_be(spans: list[tuple[int, int]]) -> None:
    """As many as there are things at the busiest instant; no two of a row overlap."""
    rows = stack(spans, lambda span: span)
    assert sorted(spans) == sorted(itertools.chain.from_iterable(rows))
    for row in rows:
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(row))
    busiest = max((sum(start <= t < end for start, end in spans) for t in range(30)), default=0)
    assert busiest == len(rows)


def test_infinite_limits_have_no_marks() -> None:
    """A limit that is off is nowhere."""
    [story] = tell(trace_of([("dequeued", 0, "a", "1", {"limits": {"turn": "inf"}}), ("settled", 9, "a", "1", {})]))
    assert () == story.bounds
    assert math.inf not in attrs.asdict(story)["limits"].values()
