"""Reading a trace: what is wrong with a file is told with its line, and little is enough to go on."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trace_kit import encoded, entry, header
from trio_acp import InvalidOption
from trio_acp.cli._trace_read import read_trace


def test_records_are_timed_from_the_header() -> None:
    """Trio's clock has any origin; a reader wants zero."""
    trace = read_trace(encoded(header(), entry("admitted", 0.5, "k", "t", x=1)), "f")
    [found] = trace.entries
    assert ("admitted", 0.5, "k", "t", {"x": 1}) == (found.name, found.time, found.session, found.turn, found.data)
    assert ("2026-01-02T03:04:05+00:00", ()) == (trace.wall, trace.notes)


def test_an_unknown_name_and_unknown_members_are_kept() -> None:
    """A newer writer may say more."""
    [found] = read_trace(encoded(header(more=1), {**entry("brand.new", 1), "more": 2}), "f").entries
    assert "brand.new" == found.name


@pytest.mark.parametrize("torn", [b'{"name": "cau', b"\xff\xfe", b'{"name":"cause"}', b"7"])
def test_a_last_line_that_was_cut_off_is_a_note(torn: bytes) -> None:
    """Whoever was killed while writing has left a trace that can be read."""
    trace = read_trace([*encoded(header(), entry("admitted", 0)), torn], "f")
    assert (1, 1) == (len(trace.entries), len(trace.notes))
    assert "line, 3, was cut off" in trace.notes[0]


def test_lost_records_are_a_note() -> None:
    """What is missing is told, however often it was."""
    trace = read_trace(encoded(header(), {"lost": 3}, entry("admitted", 0), {"lost": 4}), "f")
    assert ("7 records are missing: the disk was too slow for them.",) == trace.notes


WRONG: dict[str, tuple[list[bytes], str]] = {
    "empty": ([], "f: the file is empty"),
    "a torn header": ([b'{"trace": "tri'], "f, line 1: this is not a JSON object"),
    "no header": (encoded(entry("admitted", 0)), "f, line 1: this is not a trace"),
    "another format": ([b"\x89PNG\r\n", b"\x1a\n"], "f, line 1: this is not a JSON object"),
    "another version": (encoded(header(version=2)), "f, line 1: this version of trio-acp reads traces of version 1"),
    "no clock": (encoded(header(clock=None)), "f, line 1: 'clock' is no number"),
    "garbage": ([*encoded(header()), b"garbage\n"], "f, line 2: this is not a JSON object"),
    "an empty line": ([*encoded(header()), b"\n", *encoded(entry("x", 0))], "f, line 2: this is not a JSON object"),
    "a list": (encoded(header(), [1]), "f, line 2: this is not a JSON object"),
    "deep": ([*encoded(header()), b"[" * 100_000 + b"\n"], "f, line 2: this is not a JSON object"),
    "no turn": (encoded(header(), {**entry("x", 0), "turn": None}), "f, line 2: 'turn' is missing, or no text"),
    "no name": (encoded(header(), {**entry("x", 0), "name": 7}), "f, line 2: 'name' is missing, or no text"),
    "data": (encoded(header(), {**entry("x", 0), "data": []}), "f, line 2: 'data' is no object"),
    "true": (encoded(header(), {**entry("x", 0), "time": True}), "f, line 2: 'time' is no number of seconds"),
    "a huge time": (encoded(header(), {**entry("x", 0), "time": 1e300}), "f, line 2: 'time' is no number of seconds"),
    "NaN": (encoded(header(), {**entry("x", 0), "time": float("nan")}), "f, line 2: 'time' is no number of seconds"),
    "backwards": (encoded(header(), entry("x", 2), entry("x", 1)), "f, line 3: its time is before that of the record"),
    "two traces": (encoded(header(), entry("x", 2), header()), "f, line 3: another trace begins here"),
    "lost": (encoded(header(), {"lost": -1}), "f, line 2: 'lost' is no number"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_line(what: str) -> None:
    """One typed error that names the file and the line."""
    lines, message = WRONG[what]
    with pytest.raises(InvalidOption) as caught:
        read_trace(lines, "f")
    assert str(caught.value).startswith(message)
    assert "invalid-trace" == caught.value.detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("name", "time", "session", "turn", "data", "lost", "trace", "version", "clock"), JSON),
)


@given(
    st.lists(
        st.binary(max_size=20)
        | JSON.map(lambda v: json.dumps(v).encode())
        | MEMBERS.map(lambda v: json.dumps(v).encode()),
        max_size=5,
    ),
    st.booleans(),
)
def test_any_file_is_read_or_refused(lines: list[bytes], begins_well: bool) -> None:
    """Nothing but the one typed error comes out, whatever is in a file."""
    first: list[Any] = encoded(header()) if begins_well else []
    with suppress(InvalidOption):
        trace = read_trace([*first, *(line + b"\n" for line in lines)], "f")
        assert sorted(trace.entries, key=lambda found: found.time) == list(trace.entries)
