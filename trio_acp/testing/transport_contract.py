"""What `trio_acp.abc.Transport` demands, as tests for one of your own: see `TransportContract`."""

from __future__ import annotations

import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from .._errors import ConnectionLost, InvalidMessage
from ._contract import Contract, LawBroken, already_cancelled, demand, law

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ..abc import Transport

_TEXTS = ("\u2028\u2029\x85", "\0", "line\nbreak\r\n", "é \U0001f600 漢", "\ufeff", "")


class TransportContract(Contract):
    """The laws of `trio_acp.abc.Transport`: a subclass in a test module is a test of each for your transport.

    ::

        class TestMine(trio_acp.testing.TransportContract):
            @asynccontextmanager
            async def connect(self):
                async with my_echo_server() as server, my_dial(server.address) as transport:
                    yield transport, server.kill

    They need no plugin of the test runner.  Every method that tests is a Trio
    run of its own, and raises an `AssertionError`, which cites the law.

    Attributes:
        large: How many characters a large message has.
        seconds: How long one step of the transport may take.
        leaves: Seconds in which a call that was cancelled must have ended.
    """

    large: int = 8 * 2**20

    def connect(self) -> AbstractAsyncContextManager[tuple[Transport, Callable[[], object]]]:
        """Open a transport to a peer that sends every message back, and a function that ends the peer suddenly.

        Raises:
            NotImplementedError: the subclass does not say how.
        """
        raise NotImplementedError(f"{type(self).__name__} must say how it connects to a peer that echoes: connect")

    # -- messages -------------------------------------------------------------

    @law
    async def test_order_is_kept(self) -> None:
        """Messages arrive whole, each once, in the order in which they were sent."""
        sent = [json.dumps({"n": n}) for n in range(200)]

        async def send() -> None:
            for message in sent:
                await self._send(transport, message)

        async with self._connected() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = [await self._receive(transport) for _ in sent]
        demand(sent == received, f"{sent} was sent, and received {received}")

    @law
    async def test_many_at_once(self) -> None:
        """`send_many` and `receive_many` lose nothing and keep the order; at least one message is received."""
        sent = [json.dumps({"n": n}) for n in range(1000)]
        received: list[str | bytes] = []
        async with self._connected() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(self._step, "send_many", transport.send_many, sent)
            while len(received) < len(sent):
                some = await self._step("receive_many", transport.receive_many)
                demand(len(some) > 0, "receive_many returned no message")
                received += some
        demand(sent == received, f"{sent} was sent, and received {received}")

    @law
    async def test_a_large_message(self) -> None:
        """A large message goes there and back, while it is received."""
        message = json.dumps({"text": "x" * self.large})
        async with self._connected() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(self._send, transport, message)
            demand(message == await self._receive(transport), f"{self.large} characters did not come back as they were")

    @law
    async def test_every_character(self) -> None:
        """Every character that JSON can carry arrives as it was, escaped or not."""
        async with self._connected() as transport:
            for text in _TEXTS:
                for escaped in (True, False):
                    message = json.dumps({"text": text}, ensure_ascii=escaped)
                    await self._send(transport, message)
                    received = await self._receive(transport)
                    demand(message == received, f"{message!r} came back as {received!r}")

    @law
    async def test_what_is_no_text_is_refused(self) -> None:
        """A lone surrogate is an `InvalidMessage` that tells where, nothing is sent, and the connection goes on."""
        async with self._connected() as transport:
            try:
                await self._step("send", transport.send, '["\ud800"]', expects=(InvalidMessage,))
            except InvalidMessage as error:
                demand("character 2" in str(error), f"the error does not say that it is character 2: {error}")
            else:
                raise LawBroken("a lone surrogate was sent")
            await self._echoes(transport)

    @law
    async def test_send_and_receive_are_checkpoints(self) -> None:
        """Each method is a checkpoint also when it succeeds at once."""
        async with self._connected() as transport:
            with assert_checkpoints():
                await self._send(transport, "{}")
            with assert_checkpoints():
                await self._receive(transport)

    @law
    async def test_one_receives_at_a_time(self) -> None:
        """A second task in `receive` gets `trio.BusyResourceError`, and the first goes on."""
        async with self._connected() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(self._receive, transport)
            await wait_all_tasks_blocked()
            await self._raises(trio.BusyResourceError, "a second receive", transport.receive)
            await self._send(transport, "{}")

    # -- cancellation ---------------------------------------------------------

    @law
    async def test_a_receive_cancelled_before_it_starts_takes_nothing(self) -> None:
        """A `receive` in a scope that is cancelled already takes no message."""
        async with self._connected() as transport:
            await self._send(transport, "{}")
            raised = await self._step("receive in a cancelled scope", already_cancelled, transport.receive)
            demand(raised, "receive swallowed trio.Cancelled")
            demand(await self._receive(transport) == "{}", "a message was lost")

    @law
    async def test_a_receive_cancelled_while_it_waits_takes_nothing(self) -> None:
        """A `receive` cancelled while nothing has arrived leaves the next message for the next one."""
        async with self._connected() as transport:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(transport.receive)
                    await wait_all_tasks_blocked()
                    scope.cancel(reason="test")
            await self._echoes(transport)

    @law
    async def test_a_receive_cancelled_at_delivery_loses_nothing(self) -> None:
        """However a cancellation and a message meet, the message is received exactly once."""
        sent = [json.dumps({"n": n}) for n in range(60)]
        received: list[str | bytes] = []

        async def receive() -> None:
            received.append(await transport.receive())

        async def receive_many() -> None:
            received.extend(await transport.receive_many())

        async with self._connected() as transport:
            for n, message in enumerate(sent):
                await self._send(transport, message)
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon((receive, receive_many)[n % 2])
                        for _ in range(n // 2):
                            await trio.lowlevel.checkpoint()
                        scope.cancel(reason="test")
                if len(received) <= n:
                    received.append(await self._receive(transport))
        demand(sent == received, f"{sent} was sent, and received {received}")

    # -- the end --------------------------------------------------------------

    @law
    async def test_closing_ends_a_receive(self) -> None:
        """A `receive` that waits while its transport is closed raises `ConnectionLost`, detail ``closed``."""
        async with self._connected() as transport, trio.open_nursery() as nursery:
            nursery.start_soon(self._is_lost, "receive while it is closed", transport.receive)
            await wait_all_tasks_blocked()
            await self._step("aclose", transport.aclose)

    @law
    async def test_after_close(self) -> None:
        """After `aclose`, calls raise `ConnectionLost`, detail ``closed``; closing again does nothing."""
        async with self._connected() as transport:
            for _ in range(2):
                with assert_checkpoints():
                    await self._step("aclose", transport.aclose)
            with assert_checkpoints():
                await self._is_lost("send after aclose", transport.send, "{}")
            with assert_checkpoints():
                await self._is_lost("receive after aclose", transport.receive)

    @law
    async def test_two_close_at_once(self) -> None:
        """Two tasks may close at once: both return, and the transport is closed."""
        async with self._connected() as transport:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(self._step, "aclose", transport.aclose)
            await self._is_lost("receive after aclose", transport.receive)

    @law
    async def test_a_cancelled_close_closes(self) -> None:
        """A cancelled `aclose` raises `trio.Cancelled` without delay, and has closed by force."""
        async with self._connected() as transport:
            name = "aclose in a cancelled scope"
            raised = await self._step(name, already_cancelled, transport.aclose, seconds=self.leaves)
            demand(raised, "aclose swallowed trio.Cancelled")
            await self._raises(ConnectionLost, "receive after a cancelled aclose", transport.receive)

    @law
    async def test_the_peers_sudden_end(self) -> None:
        """When the peer vanishes, `receive` raises `ConnectionLost`, again and again, and so does `send` then."""
        async with self.connect() as (transport, end_peer):
            await self._echoes(transport)
            end_peer()
            for _ in range(2):
                await self._raises(ConnectionLost, "receive after the peer's end", transport.receive)
            await self._raises(ConnectionLost, "send after the peer's end", transport.send, "{}")

    # -- helpers --------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Transport]:
        async with self.connect() as (transport, _):
            yield transport

    async def _send(self, transport: Transport, message: str) -> None:
        await self._step("send", transport.send, message)

    async def _receive(self, transport: Transport) -> str | bytes:
        return await self._step("receive", transport.receive)

    async def _echoes(self, transport: Transport) -> None:
        await self._send(transport, "{}")
        received = await self._receive(transport)
        demand(received == "{}", f"'{{}}' came back as {received!r}")

    async def _raises(
        self, kind: type[Exception], what: str, async_fn: Callable[..., Awaitable[object]], *args: object
    ) -> Exception:
        try:
            value = await self._step(what, async_fn, *args, expects=(kind,))
        except kind as error:
            return error
        raise LawBroken(f"{what} returned {value!r}: it must raise {kind.__name__}")

    async def _is_lost(self, what: str, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        error = await self._raises(ConnectionLost, what, async_fn, *args)
        detail = getattr(error, "detail", None)
        demand(detail == "closed", f"{what} raised ConnectionLost with the detail {detail!r}, not 'closed'")
