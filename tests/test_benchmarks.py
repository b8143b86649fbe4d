"""The benchmark runs, and what it makes of the values; what it measures is nobody's law here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.flame import ROW
from benchmarks.measures import tables
from benchmarks.page import page
from benchmarks.peers import OPENCLAW, Peers
from benchmarks.rounds import Results, run
from benchmarks.sides import DEFAULT, FAST, OURS, RAW, Side, engines, sides
from benchmarks.sizes import TINY, load
from benchmarks.targets import TARGETS, Target
from tests.evidence import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the whole plan once, with next to no work and no peer, as its user does; return what it wrote as JSON."""
    directory = tmp_path_factory.mktemp("benchmarks")
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--cache", str(directory / "empty")]
    done = subprocess.run(
        [*command, "--json", str(directory / "out.json"), "--write", str(directory / "out.md")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (0, True) == (done.returncode, done.stdout.startswith("# Cost beside the peers")), done.stderr
    assert done.stdout.rstrip() == (directory / "out.md").read_text("utf-8").rstrip()
    found: dict[str, Any] = json.loads((directory / "out.json").read_text("utf-8"))
    return found


def test_every_row_comes_out(told: dict[str, Any]) -> None:
    """Each measure has a value of ours, in each of its engines."""
    names = {table: {row.name for row in rows} for table, rows in tables(TINY).items()}
    assert set(names) == set(told["medians"])
    assert names["In memory"] == set(told["medians"]["In memory"][OURS])
    assert names["Start"] == set(told["medians"]["Start"][OURS])
    for column in [DEFAULT, *([FAST] if "websockets" in engines() else [])]:
        assert names["Over WebSocket"] == set(told["medians"]["Over WebSocket"][column])


def test_who_is_not_there_is_named(told: dict[str, Any]) -> None:
    """A peer that is not in the cache is named with the reason; the others are measured."""
    absent = {"Python SDK", "Node", "TypeScript SDK", *(f"OpenClaw {version}" for version in OPENCLAW)}
    assert absent <= set(told["absent"])
    assert RAW in told["medians"]["Over WebSocket"]


def test_no_time_is_negative_and_no_session_has_a_task(told: dict[str, Any]) -> None:
    """Every value is a sane one."""
    for columns in told["medians"].values():
        for found in columns.values():
            assert all(value >= 0 for value in found.values()), found
    assert 0 == told["medians"]["In memory"][OURS]["idle_tasks"]


def test_where_the_time_goes_is_drawn(tmp_path: Path) -> None:
    """Each picture is one tree: no bar is wider than the one that it stands on, and ours are among them."""
    command = [sys.executable, "-m", "benchmarks.flame", str(tmp_path), "600"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    for name in ("memory", "websocket"):
        root = ET.fromstring((tmp_path / f"flame-{name}.svg").read_text("utf-8"))  # noqa: S314 - it is our own
        bars = {
            (float(bar.attrib["y"]), float(bar.attrib["x"]), float(bar.attrib["width"]))
            for bar in root.iterfind(".//{*}g/{*}rect")
        }
        base = max(y for y, _, _ in bars)
        for y, x, width in bars:
            below = [(left, wide) for row, left, wide in bars if row == y + ROW]
            assert y == base or any(left - 0.2 <= x and x + width <= left + wide + 0.2 for left, wide in below)
        titles = [title.text or "" for title in root.iterfind(".//{*}title")]
        assert any(title.startswith("trio_acp._actor:Actor.serve: ") for title in titles)


def test_sizes_are_dumped_whole() -> None:
    """A side has the sizes that it was given."""
    assert TINY == load(TINY.dump())


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    """Its last words are in the error."""
    side = Side("broken", "In memory", (sys.executable, "-c", "raise SystemExit('no luck')"))
    with pytest.raises(RuntimeError, match="exit 1: no luck"):
        run(side, TINY, "")


def test_the_same_names_are_in_the_plan_and_in_the_targets() -> None:
    """Each target bounds a measure of the plan, on a side that is in it or may be."""
    names = {table: {row.name for row in rows} for table, rows in tables(TINY).items()}
    known = {(side.table, side.name) for side in sides(Peers(), TINY)} | {("Over WebSocket", FAST)}
    for target in TARGETS:
        assert (target.table, target.side) in known, target
        assert target.measure in names[target.table] or target.measure.endswith("grow_1000"), target


@pytest.mark.parametrize(
    ("value", "least", "verdict"),
    [
        (10.0, False, "moonshot"),
        (20.0, False, "met"),
        (22.0, False, "close: 10% off"),
        (40.0, False, "MISSED: 2 times the bound"),
        (40.0, True, "moonshot"),
        (10.0, True, "MISSED: 2 times the bound"),
    ],
)
def test_a_verdict_says_by_how_much(value: float, least: bool, verdict: str) -> None:
    """A bound is kept, nearly kept, or missed by a factor; the median of the rounds counts."""
    moonshot = 40.0 if least else 10.0
    target = Target("x", "In memory", OURS, "turn_1", 20.0, moonshot, "peer", least=least)
    results = Results()
    for name, values in ((OURS, (value, value, value * 9)), ("peer", (1.0, 1.0, 7.0))):
        for each in values:
            results.add(Side(name, "In memory", ()), {"found": {"turn_1": each}})
    assert verdict == target.verdict(target.reached(results))
    assert "not measured" == target.verdict(target.reached(Results()))
    assert f"({1 / value:.2f})" not in page(results, TINY, "x")
    assert f"({value:.2f})" in page(results, TINY, "x")
