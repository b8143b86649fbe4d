"""What is written about a background task, and how its end is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_acp import Completed, Failed, Limits, Stopped, TaskRecord, TimedOut, TurnFailed
from trio_acp._ledger import Progress, blocked_because, interrupted, prompt_summary, settled

if TYPE_CHECKING:
    from trio_acp import Outcome

TASK = TaskRecord(run_id="r", requester="parent", session="child", task="x", started=1.0, progress="so far")


def shown(*chunks: str) -> str:
    progress = Progress()
    for chunk in chunks:
        progress.add(chunk)
    return progress.text


# -- texts --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("  do\n\n  it ", "do\n\n  it"),
        (" \n", "ACP background task"),
        ("a" * 160, "a" * 160),
        ("a" * 161, "a" * 159 + "…"),
        (" " + "a" * 160 + " ", "a" * 160),
        ("\N{GRINNING FACE}" * 161, "\N{GRINNING FACE}" * 159 + "…"),
    ],
)
def test_a_prompt_is_shortened(prompt: str, expected: str) -> None:
    """A prompt is trimmed, keeps its inner white space, and has 160 characters at most, none of them cut."""
    assert expected == prompt_summary(prompt)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (["테", "스", "트 통", "과"], "테스트 통과"),
        (["/srv", "/notes", "/today", ".txt"], "/srv/notes/today.txt"),
        (["impl", "ement", "ing"], "implementing"),
        (["Hello", " world"], "Hello world"),
        (["Hello ", "world"], "Hello world"),
        (["  \n Hello"], "Hello"),
        (["  ", "\n", "Hello", " \t", "\n ", "", "world", "\n"], "Hello world"),
        (["a\r\n\r\nb\tc"], "a b c"),
        (["", "  "], ""),
        (["a" * 240], "a" * 240),
        (["a" * 240, " \n"], "a" * 240),
        (["a" * 240, "b"], "a" * 239 + "…"),
        (["a" * 240, " b"], "a" * 239 + "…"),
        (["a" * 10_000], "a" * 239 + "…"),
        (["\ud83d", "\ude00"], "\ud83d\ude00"),
    ],
)
def test_pieces_are_joined_as_they_are(chunks: list[str], expected: str) -> None:
    """No space is put in or lost between pieces; runs of white space are one space; 240 characters at most."""
    assert expected == shown(*chunks)


def naive(chunks: list[str]) -> str:
    text = " ".join("".join(chunks).split())
    return text if len(text) <= 240 else text[:239] + "…"


@given(chunks=st.lists(st.text(" \n\t\u2003\x1cab…") | st.text("ab \n", min_size=100) | st.text(), max_size=30))
def test_progress_is_the_collapsed_and_cut_text(chunks: list[str]) -> None:
    """After every piece, progress is what collapsing and cutting the whole text so far gives."""
    progress = Progress()
    for n, chunk in enumerate(chunks, 1):
        progress.add(chunk)
        assert naive(chunks[:n]) == progress.text


def test_a_full_progress_looks_at_nothing() -> None:
    """Once there is more than can be shown, further pieces are not even looked at."""
    progress = Progress()
    progress.add("word " * 100)
    before = progress.text
    progress.add(cast("str", None))
    assert before == progress.text


# -- ends ---------------------------------------------------------------------

READ_ONLY = "Writable session or apply_patch authorization required."


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ("Write failed: permission denied for /srv/x.txt.", "Permission denied for /srv/x.txt."),
        ("Well, PERMISSION DENIED for /a,b;:!? ok", "Permission denied for /a,b."),
        ("permission denied", "Permission denied."),
        ("permission denied for ...", "Permission denied."),
        ("It says permission denied. Too bad", "Permission denied."),
        ("I need a writable session to go on", READ_ONLY),
        ("Waiting for filesystem authorization.", READ_ONLY),
        ("use `apply_patch` for this", READ_ONLY),
        ("apply_patch: permission denied for /x", "Permission denied for /x."),
        ("nopermission denied", None),
        ("my_apply_patches", None),
        ("permission is denied", None),
        ("", None),
    ],
)
def test_an_agent_that_says_it_may_not_is_blocked(progress: str, expected: str | None) -> None:
    """The texts that mean `blocked`, the first rule before the second, and texts that only look like them."""
    assert expected == blocked_because(progress)
    record = settled(attrs.evolve(TASK, progress=progress), Completed(), 5.0)
    assert ("succeeded", expected, expected and "blocked") == (record.status, record.summary, record.outcome)


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Completed("refusal"), "succeeded", None),
        (Stopped(by="user", reason="enough"), "cancelled", "enough"),
        (Stopped(by="shutdown"), "cancelled", None),
        (TimedOut(limits=Limits(turn=7), cleanup="deadline"), "timed_out", "the turn timed out after 7 s"),
        (Failed(TurnFailed("it timed out", detail="adapter-error")), "failed", "it timed out"),
        (Failed(TurnFailed("permission denied")), "failed", "permission denied"),
    ],
)
def test_each_outcome_has_its_status(outcome: Outcome, status: str, error: str | None) -> None:
    """The status follows the type of the outcome, never its words; only a success can be blocked."""
    record = settled(attrs.evolve(TASK, progress="so far" if status == "succeeded" else "apply_patch"), outcome, 5.0)
    assert (status, error, 5.0, 5.0) == (record.status, record.error, record.ended, record.last_event)
    assert (None, None) == (record.summary, record.outcome)
    assert not record.is_open


def test_an_end_is_for_good() -> None:
    """A task that has ended stays as it is, however often it is settled again."""
    ended = settled(TASK, Completed(), 5.0)
    assert ended is settled(ended, Failed(TurnFailed("late")), 6.0)
    assert ended is interrupted(ended, 6.0)


def test_a_task_whose_owner_died_has_failed() -> None:
    """An interrupted task keeps what is known of it."""
    record = interrupted(TASK, 5.0)
    assert attrs.evolve(TASK, status="failed", ended=5.0, error="interrupted") == record
