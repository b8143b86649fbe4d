"""The line reader: what is a line, how long it may be, and that long ones cost no more than their length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_acp._errors import MessageTooLarge
from trio_acp.transports._lines import LineReader, MessageReader, frame


def all_lines(reader: LineReader) -> list[bytes]:
    """Take every whole line."""
    lines = []
    while (line := reader.next_line()) is not None:
        lines.append(line)
    return lines


@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))), st.integers(1, 9)
)
def test_lines_survive_any_cutting(lines: list[bytes], size: int) -> None:
    """However the bytes arrive, the same lines come out, with either line end."""
    data = b"".join(line + (b"\r\n" if n % 2 else b"\n") for n, line in enumerate(lines))
    reader = LineReader(20)
    found = []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        found += all_lines(reader)
    assert lines == found
    assert reader.pending == 0


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_limit_is_exact(end: bytes, whole: bool) -> None:
    """A line of the limit passes and one byte more does not, whether it comes at once or byte by byte."""

    def read(line: bytes) -> list[bytes]:
        reader = LineReader(10)
        found = []
        for piece in [line] if whole else [line[n : n + 1] for n in range(len(line))]:
            reader.feed(piece)
            found += all_lines(reader)
        return found

    assert read(b"x" * 10 + end) == [b"x" * 10]
    with pytest.raises(MessageTooLarge, match="10 bytes"):
        read(b"x" * 11 + end)


def test_an_endless_line_is_not_kept() -> None:
    """A line without an end is refused when it exceeds the limit, and its bytes are dropped."""
    reader = LineReader(10)
    reader.feed(b"x" * 12)
    with pytest.raises(MessageTooLarge):
        reader.next_line()
    assert reader.pending == 0


def test_the_scan_position_is_remembered() -> None:
    """Bytes in which no line end was found are not searched again."""
    reader = LineReader(1000)

    class Counting(bytearray):
        searched = 0

        def find(self, *args: object) -> int:
            start = args[1]
            assert isinstance(start, int)
            self.searched += len(self) - start
            return bytearray(self).find(b"\n", start)

    buffer = Counting()
    reader._buffer = buffer
    for _ in range(500):
        reader.feed(b"x")
        assert None is reader.next_line()
    assert buffer.searched == 500


def test_messages_and_noise() -> None:
    """Lines that begin with a brace or a bracket are messages; others but blank ones are counted."""
    reader = MessageReader(1000)
    reader.feed(b' {"a": 1} \r\n\r\nhello\n[1]\nnull\n{\xff}\n')
    assert [reader.next_message() for _ in range(4)] == ['{"a": 1}', "[1]", "{\ufffd}", None]
    assert (reader.skipped, reader.first_skipped) == (2, "hello")


@given(st.text())
def test_a_frame_is_one_line(text: str) -> None:
    """Whatever the message, its frame has one line end, which is last."""
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    assert frame(text).count(b"\n") == 1
    assert frame(text).endswith(b"\n")
