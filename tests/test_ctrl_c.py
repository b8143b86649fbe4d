"""Ctrl-C reaches the program's own task, alone, whatever task of a transport the signal interrupts."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from websockets.frames import Opcode

from tests.test_websockets_engine import Server, frame
from tests.turn_kit import run_virtual
from trio_acp.transports import dial_stdio, websocket_over_stream
from trio_acp.transports._engines import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio_acp.transports._engines import Engine

pytestmark = pytest.mark.concurrency

AGENT = Path(__file__).parent / "programs" / "agent.py"


class PressingStream(trio.abc.Stream):
    """Gets the signal at the next call of one method, in whatever task that is."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.presses_at = ""
        self._stream = stream

    def _come_to(self, method: str) -> None:
        if self.presses_at == method:
            self.presses_at = ""
            signal.raise_signal(signal.SIGINT)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._come_to("send_all")
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        self._come_to("receive_some")
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("doing", ["answers a ping", "sends a ping", "reads"])
def test_ctrl_c_while_a_websocket_is_served(engine: Engine, doing: str) -> None:
    """Whoever receives gets `KeyboardInterrupt`, not `Cancelled` because a task of the transport died of it."""
    raised: list[BaseException] = []
    sent = frame(Opcode.TEXT if doing == "reads" else Opcode.PING, b"{}")

    async def receive() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        stream, server = PressingStream(ours), Server(theirs)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.accept)
            async with websocket_over_stream(stream, "test", "/acp", engine=engine, ping_interval=20) as transport:
                stream.presses_at = "receive_some" if doing == "reads" else "send_all"
                if doing != "sends a ping":
                    await server.stream.send_all(sent)
                with note_what_is_raised(raised):
                    while True:
                        await transport.receive()

    with suppress_ctrl_c():
        run_virtual(receive)
    assert [KeyboardInterrupt] == list(map(type, raised))


class PressOnRecord(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("behaviour", "level"), [("banner", logging.INFO), ("chatter", logging.DEBUG)])
def test_ctrl_c_while_an_agent_is_read(behaviour: str, level: int, caplog: pytest.LogCaptureFixture) -> None:
    """The same of the tasks that read its output and its errors, and have something to log."""
    raised: list[BaseException] = []
    caplog.set_level(level, logger="trio_acp")

    async def receive() -> None:
        with trio.fail_after(20):
            async with dial_stdio([sys.executable, str(AGENT), behaviour])() as transport:
                with note_what_is_raised(raised):
                    while True:
                        await transport.receive()

    logger, handler = logging.getLogger("trio_acp"), PressOnRecord()
    logger.addHandler(handler)
    try:
        with suppress_ctrl_c():
            trio.run(receive)
    finally:
        logger.removeHandler(handler)
    assert [KeyboardInterrupt] == list(map(type, raised))


@contextmanager
def note_what_is_raised(raised: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        raised.append(error)
        raise


@contextmanager
def suppress_ctrl_c() -> Iterator[None]:
    """Let nothing but Ctrl-C come out, alone or in the groups of the test's own nurseries."""
    try:
        yield
    except* KeyboardInterrupt:
        pass
