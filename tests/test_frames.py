"""What is cut out before the library sees it, held against the library: any frames, cut into any reads."""

from __future__ import annotations

import struct

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from trio_acp.transports._frames import Incoming

LIMIT = 200
NOT_TEXT = Frame(Opcode.CLOSE, struct.pack("!H", 1007))


def protocol() -> ClientProtocol:
    """Make the library's part, as it is after a handshake."""
    uri = WebSocketURI(secure=False, host="localhost", port=80, path="/", query="")
    return ClientProtocol(uri, state=State.OPEN, max_size=LIMIT)


@attrs.define
class Got:
    """What came of some bytes: messages, pongs, what was answered, and whether there is an end to it."""

    messages: list[str | bytes] = attrs.field(factory=list)
    pongs: list[bytes] = attrs.field(factory=list)
    answers: list[Frame] = attrs.field(factory=list)
    ended: bool = False


def masked_answers(data: bytes) -> list[Frame]:
    """Read what a client sent, without the words of a close, which may differ."""
    frames, at = [], 0
    while at < len(data):
        length = data[at + 1] & 127
        assert length < 126, "a control frame is short"
        mask, payload = data[at + 2 : at + 6], data[at + 6 : at + 6 + length]
        plain = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
        opcode = Opcode(data[at] & 15)
        frames.append(Frame(opcode, plain[:2] if opcode is Opcode.CLOSE else plain))
        at += 6 + length
    return frames


def ours(reads: list[bytes]) -> Got:
    got = Got()
    client = protocol()
    incoming = Incoming(client, LIMIT, got.pongs.append)
    for read in reads:
        incoming.feed(read)
    got.messages = list(incoming.messages)
    got.answers = masked_answers(b"".join(client.data_to_send()))
    got.ended = incoming.end is not None
    return got


def the_librarys(reads: list[bytes]) -> Got:
    """Do the same with the library alone; what it leaves to its user is the text of a message."""
    got = Got()
    client = protocol()
    parts, is_text = bytearray(), False
    for read in reads:
        client.receive_data(read)
        for frame in client.events_received():
            assert isinstance(frame, Frame)
            if got.ended:
                continue
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
                parts, is_text = bytearray(frame.data), frame.opcode is Opcode.TEXT
            elif frame.opcode is Opcode.CONT:
                parts += frame.data
            elif frame.opcode is Opcode.PONG:
                got.pongs.append(bytes(frame.data))
                continue
            else:
                got.ended = frame.opcode is Opcode.CLOSE
                continue
            if frame.fin:
                try:
                    got.messages.append(parts.decode() if is_text else bytes(parts))
                except UnicodeDecodeError:
                    # It has answered what it read behind that text by now, so the answers cannot be compared.
                    got.ended = True
                    got.answers = [NOT_TEXT]
        if got.ended or client.parser_exc is not None:
            got.ended = True
            break
    if NOT_TEXT not in got.answers:
        got.answers = masked_answers(b"".join(client.data_to_send()))
    return got


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


texts = st.text(max_size=30).map(str.encode)
plain = texts.map(lambda data: frame(Opcode.TEXT, data))
longer = st.integers(100, LIMIT + 3).map(lambda n: frame(Opcode.TEXT, b"x" * n))
binary = st.binary(max_size=5).map(lambda data: frame(Opcode.BINARY, data))
controls = st.sampled_from([Opcode.PING, Opcode.PONG]).flatmap(
    lambda opcode: st.binary(max_size=125).map(lambda data: frame(opcode, data))
)


@st.composite
def fragmented(draw: st.DrawFn) -> bytes:
    """Draw a message in fragments, with control frames between."""
    data = draw(st.one_of(texts, st.binary(max_size=LIMIT + 10)))
    places = sorted(draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)))
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    opcodes = [draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY])), *[Opcode.CONT] * (len(pieces) - 1)]
    out = b""
    for n, (opcode, piece) in enumerate(zip(opcodes, pieces, strict=True)):
        out += draw(st.one_of(st.just(b""), controls)) + frame(opcode, piece, fin=n == len(pieces) - 1)
    return out


closes = st.sampled_from([1000, 1001, 4000]).map(lambda code: frame(Opcode.CLOSE, Close(code, "bye").serialize()))
wrong = st.sampled_from(
    [
        b"\x81\x02\xff\xff",  # text that is not UTF-8
        b"\xc1\x01x",  # a reserved bit
        b"\x83\x00",  # no such opcode
        b"\x81\x81\x00\x00\x00\x00x",  # masked
        b"\x80\x01x",  # continues nothing
        b"\x01\x01x\x81\x01y",  # a message within a message
        b"\x09\x00",  # a control frame in fragments
        b"\x89\x7e\x00\x7e" + b"x" * 126,  # a control frame that is too long
        b"\x81\x7f" + b"\xff" * 8,  # of more bytes than there are
        b"\x88\x01x",  # half a close code
    ]
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Draw what a server sends, as the reads in which it arrives."""
    parts = draw(st.lists(st.one_of(plain, plain, plain, longer, binary, controls, fragmented()), max_size=8))
    parts += draw(st.one_of(st.just([]), st.lists(st.one_of(wrong, closes, st.binary(max_size=20)), max_size=1)))
    parts += draw(st.lists(plain, max_size=2))
    data = b"".join(parts)
    places = sorted(draw(st.sets(st.integers(0, len(data)), max_size=6)))
    if draw(st.booleans()):
        places = list(range(len(data)))
    return [read for a, b in zip([0, *places], [*places, len(data)], strict=True) if (read := data[a:b])]


@given(conversations())
def test_any_conversation_is_read_as_the_library_reads_it(reads: list[bytes]) -> None:
    """The same messages, pongs and answers, and an end in the same cases, wherever the reads were cut."""
    expected, got = the_librarys(reads), ours(reads)
    if NOT_TEXT in expected.answers:
        got.answers = got.answers[-1:]
    assert expected == got


@pytest.mark.parametrize("size", [0, 1, 125, 126, 200])
def test_a_text_of_any_length_within_the_limit_is_taken_by_any_read(size: int) -> None:
    """Each way to write a length, and the limit itself; whole, and byte by byte."""
    text = "x" * size
    data = frame(Opcode.TEXT, text.encode()) * 3
    assert [text] * 3 == ours([data]).messages == ours([bytes([byte]) for byte in data]).messages


def test_nothing_is_taken_from_behind_the_end() -> None:
    """A close, and what came before it; what comes after it is not read."""
    got = ours([frame(Opcode.TEXT, b"1") + frame(Opcode.CLOSE, b"\x03\xe8") + frame(Opcode.TEXT, b"2")])
    assert (["1"], True, [Frame(Opcode.CLOSE, b"\x03\xe8")]) == (got.messages, got.ended, got.answers)
