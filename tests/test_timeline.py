"""The command ``timeline``, its page and its Perfetto trace: well-formed, harmless, complete."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_kit import CLI, STDIO, run_cli
from tests.trace_kit import HOSTILE, encoded, entry, header, write_demo
from trio_acp.cli._text import one_line
from trio_acp.cli._timeline_html import page
from trio_acp.cli._timeline_layout import lay_out
from trio_acp.cli._timeline_perfetto import perfetto
from trio_acp.cli._timeline_text import summary
from trio_acp.cli._trace_read import read_trace
from trio_acp.cli._turns import in_seconds, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

X = "{http://www.w3.org/1999/xhtml}"
ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "div", "ol", "ul", "li"),
    *("b", "br", "small", "svg", "defs", "pattern", "marker", "path", "rect", "g", "text", "circle"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trace of real runs, one of each kind."""
    path = tmp_path_factory.mktemp("trace") / "demo.jsonl"
    write_demo(path)
    return path


def page_of(lines: list[bytes], name: str = "f") -> str:
    """Return the page of a trace."""
    trace = read_trace(lines, name)
    return page(lay_out(tell(trace)), name=name, wall=trace.wall, notes=trace.notes)


def parsed(text: str) -> ET.Element:
    """Read a page as XML, which it is too."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - made here


class Elements(HTMLParser):
    """Every element that a browser would find, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.attributes += attrs


def assert_harmless(text: str) -> None:
    """No element or attribute that could run, load or send anything, and a policy against it."""
    elements = Elements(text)
    assert set(elements.found) <= ELEMENTS
    assert len(list(parsed(text).iter())) == len(elements.found)  # both parsers see the same page
    names = {name for name, _ in elements.attributes}
    assert set() == {name for name in names if name in {"href", "src", "style", "xlink:href"} or name.startswith("on")}
    outside = [value for _, value in elements.attributes if "//" in (value or "")]
    assert {"http://www.w3.org/1999/xhtml"} == set(outside) - {one_line(HOSTILE)}
    style = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert 1 == len(style)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    assert ("content", policy) in elements.attributes
    assert "url(" not in style[0]
    assert "@import" not in style[0]


def test_the_page_is_harmless_and_complete(demo: Path) -> None:
    """One lane for each session, one entry for each turn, all text escaped."""
    with demo.open("rb") as file:
        text = page_of(list(file), "demo")
    assert_harmless(text)
    root = parsed(text)
    lanes = ["".join(found.itertext()) for found in root.iter(f"{X}h3") if found.get("class") == "lane"]
    assert 6 == len(lanes)
    assert one_line(HOSTILE) in lanes
    assert 11 == len(list(root.iter(f"{X}li"))) - len(list(root.findall(f".//{X}ul/{X}li")))
    said = "".join(root.itertext())
    for words in ("TimedOut", "the time was up: 10 s, and 1 s of grace", "Stopped by user", "+2 s cleanup", "T = 10 s"):
        assert words in said


def test_the_picture_has_what_the_legend_promises(demo: Path) -> None:
    """Each phase, shields, events, deadlines, and the arrows from the cause to the outcome."""
    with demo.open("rb") as file:
        root = parsed(page_of(list(file)))
    chart = [found for svg in root.iter(f"{X}svg") if svg.get("class") == "chart" for found in svg.iter()]
    classes = {name for found in chart for name in (found.get("class") or "").split()}
    # Scaled to a box, a lane would not stand below its axis any more.
    assert [] == [svg for svg in root.iter(f"{X}svg") if svg.get("viewBox")]
    assert {"queued", "preparing", "running", "cleaning", "shield", "event", "bound"} <= classes
    assert {"submitted", "cancel", "to-answer", "to-stop", "settled", "agent"} <= classes


def test_everybody_can_read_the_page(demo: Path) -> None:
    """Pictures have names, those for decoration are hidden, parts have tooltips, and only the chart scrolls."""
    with demo.open("rb") as file:
        text = page_of(list(file))
    root = parsed(text)
    assert "en" == root.get("lang")
    for svg in root.iter(f"{X}svg"):
        assert "true" == svg.get("aria-hidden") or ("img" == svg.get("role") and svg.get("aria-label"))
        if svg.get("class") == "chart":
            assert all(
                next(iter(bar)).tag == f"{X}title" for bar in svg.iter(f"{X}rect") if bar.get("class") != "shield"
            )
    [region] = [found for found in root.iter() if found.get("role") == "region"]
    assert ("0", "scroll") == (region.get("tabindex"), region.get("class"))
    assert 1 == text.count("overflow-x")
    assert "prefers-color-scheme:dark" in text


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_of_a_trace_becomes_markup(session: str, reason: str, outcome: str, name: str) -> None:
    """Whatever somebody named a session, gave as a reason, or wrote into the file."""
    lines = encoded(
        header(wall=name),
        entry("admitted", 0, session),
        entry("dequeued", 0, session),
        entry("submitted", 1, session),
        entry("event", 1, session, kind=name),
        entry(name, 1, session, x=reason),
        entry("cause", 2, session, cause=outcome, reason=reason),
        entry("settled", 3, session, outcome=outcome, by=name, detail=reason),
    )
    text = page_of(lines, one_line(name))
    root = parsed(text)
    assert {found.tag.removeprefix(X) for found in root.iter()} <= ELEMENTS
    assert set(Elements(text).found) <= ELEMENTS
    json.loads(perfetto(tell(read_trace(lines, "f")), wall=""))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((1.0, "1 s"), (0.742407083, "0.742 s"), (172800.0, "172800 s"), (3e7, "30000000 s"), (0.5, "0.5 s")),
        *((0.0, "0 s"), (-0.0001, "0 s"), (99.9996, "100 s"), (100.0, "100 s")),
    ],
)
def test_times_are_told_to_the_millisecond(seconds: float, words: str) -> None:
    """No digits that say nothing, and no exponents."""
    assert words == in_seconds(seconds)


def test_no_time_has_more_digits_than_milliseconds() -> None:
    """Neither the text nor the page tells what is left of a deadline to the nanosecond, or in powers of ten."""
    limits = {"turn": 0.7124070830165874, "grace": 1234567.8912, "cleanup": 0.2 + 0.1}
    lines = encoded(
        header(),
        entry("admitted", 0.1 + 0.2),
        entry("dequeued", 0.1 + 0.2, limits=limits),
        entry("submitted", 1 / 3),
        entry("cause", 1.1234567, cause="deadline"),
        entry("ladder.cancel", 1.1234567),
        entry("settled", 1.7654321, outcome="TimedOut"),
    )
    trace = read_trace(lines, "f")
    text = "\n".join(summary(tell(trace), wall="", notes=()))
    assert "the time was up: 0.712 s, and 1234567.891 s of grace" in text
    for told in (text, re.sub(r'="[^"]*"', "", page_of(lines))):
        assert "0.712 s" in told
        assert [] == re.findall(r"\d+\.\d{4,} s|\de[+-]\d+ s|\.\d*0 s", told)


def test_many_events_make_no_large_page() -> None:
    """Twenty thousand events of one turn are drawn in as few ticks as there is room for."""
    events = [entry("event", 1 + n / 1000, kind="TextDelta") for n in range(20_000)]
    lines = encoded(header(), entry("admitted", 0), entry("dequeued", 0), entry("submitted", 1), *events)
    assert len(b"".join(lines)) > 1_000_000
    assert len(page_of(lines)) < 150_000


def test_an_empty_trace_has_a_page() -> None:
    """A manager whose sessions did nothing."""
    text = page_of(encoded(header()))
    assert_harmless(text)
    assert "0 sessions, 0 turns" in text


# -- Perfetto -----------------------------------------------------------------


def faults(told: dict[str, Any]) -> Iterator[str]:
    """Yield what breaks the rules of the Trace Event Format, of those kinds of events that are used here."""
    slices: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    flows: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in told["traceEvents"]:
        if not all(type(event.get(key)) is int for key in ("ts", "pid", "tid")) or not isinstance(event["name"], str):
            yield f"a required member is missing: {event}"
        match event["ph"]:
            case "X":
                if type(event["dur"]) is not int or event["dur"] < 0:
                    yield f"no duration: {event}"
                slices[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
            case "i":
                if event["s"] not in {"g", "p", "t"}:
                    yield f"no scope: {event}"
            case "M":
                if event["name"] not in {"process_name", "thread_name"} or not isinstance(event["args"]["name"], str):
                    yield f"no such metadata: {event}"
            case "s" | "t" | "f":
                flows[event["cat"], event["name"], event["id"]].append(event)
            case other:
                yield f"unknown phase {other}"
    for thread, spans in slices.items():
        open_spans: list[tuple[int, int]] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while open_spans and open_spans[-1][1] <= start:
                open_spans.pop()
            if open_spans and end > open_spans[-1][1]:
                yield f"slices of {thread} cross: {open_spans[-1]} and {(start, end)}"
            open_spans.append((start, end))
    for flow in flows.values():
        if not re.fullmatch("st*f", "".join(event["ph"] for event in flow)):
            yield f"not a flow: {flow}"
        if sorted(event["ts"] for event in flow) != [event["ts"] for event in flow]:
            yield f"a flow goes back: {flow}"
        for event in flow:  # an arrow is bound to the slice around it
            spans = slices[event["pid"], event["tid"]]
            if not any(start <= event["ts"] <= end for start, end in spans):
                yield f"an arrow without a slice: {event}"


def test_the_perfetto_trace_keeps_the_rules_of_its_format(demo: Path) -> None:
    """Slices are nested, arrows start and finish, every thread has a name."""
    with demo.open("rb") as file:
        told = json.loads(perfetto(tell(read_trace(file, "f")), wall="today"))
    assert [] == list(faults(told))
    events = told["traceEvents"]
    assert 6 == sum(event["name"] == "process_name" for event in events)
    named = {(event["pid"], event["tid"]) for event in events if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in events if event["ph"] != "M"} == named
    assert 10 == sum(event["ph"] == "s" for event in events)
    [timed_out] = [event for event in events if event["name"] == "turn 1: TimedOut"]
    assert (13_000_000, "the time was up: 10 s, and 1 s of grace") == (timed_out["dur"], timed_out["args"]["why"])


@pytest.mark.parametrize(
    "broken",
    [
        [
            {"ph": "X", "name": "a", "ts": 0, "dur": 5, "pid": 1, "tid": 1},
            {"ph": "X", "name": "b", "ts": 3, "dur": 5, "pid": 1, "tid": 1},
        ],
        [{"ph": "X", "name": "a", "ts": 0, "dur": -1, "pid": 1, "tid": 1}],
        [{"ph": "i", "name": "a", "ts": 0, "s": "x", "pid": 1, "tid": 1}],
        [{"ph": "s", "name": "a", "cat": "c", "id": 1, "ts": 0, "pid": 1, "tid": 1}],
        [{"ph": "B", "name": "a", "ts": 0, "pid": 1, "tid": 1}],
        [{"ph": "i", "name": "a", "ts": 0.5, "s": "t", "pid": 1, "tid": 1}],
    ],
)
def test_the_rules_of_the_format_bite(broken: list[dict[str, Any]]) -> None:
    """Each kind of fault is found."""
    assert [] != list(faults({"traceEvents": broken}))


# -- the command --------------------------------------------------------------


async def test_from_a_prompt_to_a_picture(tmp_path: Path) -> None:
    """`prompt --trace` writes what `timeline` shows; what is written is for its owner only."""
    trace, html, perf = (str(tmp_path / name) for name in ("turns.jsonl", "turns.html", "turns.json"))
    done = await run_cli("prompt", "say Hello; sleep 0.1", "--stdio", STDIO, "--trace", trace)
    assert (0, b"") == (done.returncode, done.stderr)
    shown = await run_cli("timeline", trace)
    assert (0, b"") == (shown.returncode, shown.stderr)
    assert b"turn 1: Completed: the agent answered: end_turn" in shown.stdout
    done = await run_cli("timeline", trace, "--html", html, "--perfetto", perf)
    assert (0, f"Wrote {html}\nWrote {perf}\n".encode()) == (done.returncode, done.stdout)
    assert_harmless(Path(html).read_text("utf-8"))
    assert [] == list(faults(json.loads(Path(perf).read_text("utf-8"))))
    assert {0o600} == {stat.S_IMODE(Path(path).stat().st_mode) for path in (trace, html, perf)}


async def test_a_prompt_that_timed_out_tells_why(tmp_path: Path) -> None:
    """The trace is complete although the command failed."""
    trace = str(tmp_path / "turns.jsonl")
    done = await run_cli("prompt", "say x; hang", "--stdio", STDIO, "--trace", trace, "--timeout", "1.5")
    assert 3 == done.returncode
    shown = (await run_cli("timeline", trace)).stdout.decode()
    assert "turn 1: TimedOut: the time was up: " in shown
    assert "it answered: cancelled." in shown


BAD = [
    (b"", 2, "the file is empty"),
    (b"not a trace\n", 2, "line 1: this is not a JSON object"),
    (None, 1, "No such file"),
]


@pytest.mark.parametrize(("content", "code", "message"), BAD)
def test_a_bad_file_is_told_in_one_line(content: bytes | None, code: int, message: str, tmp_path: Path) -> None:
    """No traceback, and nothing on standard output."""
    path = tmp_path / "trace"
    if content is not None:
        path.write_bytes(content)
    done = subprocess.run([*CLI, "timeline", str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert (code, "", 1) == (done.returncode, done.stdout, len(done.stderr.splitlines()))
    assert message in done.stderr


@pytest.mark.parametrize("option", ["--html", "--perfetto"])
def test_the_trace_itself_is_not_written_over(option: str, demo: Path, tmp_path: Path) -> None:
    """Nor through a link; nor is one written where there is no directory."""
    before = demo.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(demo)
    for out, code in ((link, 2), (tmp_path / "no" / "such", 1)):
        argv = [*CLI, "timeline", str(demo), option, str(out)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert (code, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert before == demo.read_bytes()


async def test_a_trace_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    """Told before an agent is started."""
    done = await run_cli("prompt", "x", "--stdio", "no-such-agent", "--trace", str(tmp_path))
    assert 2 == done.returncode
    assert b"cannot write the trace" in done.stderr
    assert b"no-such-agent" not in done.stderr


def test_the_help_fits_on_a_screen() -> None:
    """At most 24 lines of at most 80 columns, with an example."""
    done = subprocess.run(
        [*CLI, "timeline", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={"COLUMNS": "80", "PATH": ""},
    )
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert "trio-acp timeline turns.jsonl" in done.stdout


def test_the_summary_survives_a_pipe_that_closes(demo: Path) -> None:
    """As with `| head`: nothing is told."""
    argv = [*CLI, "timeline", str(demo)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert b"" == process.stderr.read()


def test_without_a_browser_no_pictures_are_taken(tmp_path: Path) -> None:
    """`nox -s pictures` says so, and ends well."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.pictures", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("Skipped: none of chromium")
    assert [] == list(tmp_path.iterdir())
