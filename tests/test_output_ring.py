"""The end of a command's output: never above the limit, and never a torn character."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_acp.services._ring import OutputRing

TEXT = st.text(alphabet="aé€𝄞\n", max_size=40)


def ring_of(data: bytes, limit: int, sizes: list[int]) -> OutputRing:
    """Write the data in pieces of these sizes, and then the rest."""
    ring = OutputRing(limit)
    for size in sizes:
        ring.write(data[:size])
        data = data[size:]
    ring.write(data)
    return ring


@given(text=TEXT, limit=st.integers(0, 60), sizes=st.lists(st.integers(1, 7), max_size=20))
def test_text_loses_whole_characters_from_its_beginning(text: str, limit: int, sizes: list[int]) -> None:
    """What is left is the longest end of the text that the limit has room for."""
    ring = ring_of(text.encode(), limit, sizes)
    ends = [text[start:] for start in range(len(text) + 1)]
    expected = next(end for end in ends if len(end.encode()) <= limit)
    for complete in (True, False):
        assert (expected, len(text.encode()) > limit) == ring.text(complete=complete)


@given(data=st.binary(max_size=60), limit=st.integers(0, 40), sizes=st.lists(st.integers(1, 7), max_size=20))
def test_whatever_a_command_writes_stays_within_the_limit(data: bytes, limit: int, sizes: list[int]) -> None:
    """As bytes that are kept and as text; what is no UTF-8 is shown as such, and is the same however it came."""
    ring = ring_of(data, limit, sizes)
    text, truncated = ring.text(complete=True)
    assert len(ring) == min(limit, len(data))
    assert len(text.encode()) <= limit
    assert truncated or data.decode(errors="replace") == text
    assert (text, truncated) == ring_of(data, limit, []).text(complete=True)


@given(text=TEXT, cut=st.integers(0, 160))
def test_a_character_that_is_still_coming_is_left_out(text: str, cut: int) -> None:
    """Until its last byte is there; what is never completed is shown as broken in the end."""
    begun = text.encode()[:cut]
    ring = ring_of(begun, 1000, [])
    shown, _ = ring.text(complete=False)
    assert begun.decode(errors="ignore") == shown
    assert begun.decode(errors="replace") == ring.text(complete=True)[0]
