"""`trio-acp serve` over TLS: whom a client trusts, what ends a handshake, and what is wrong with files."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from tests.cli_kit import AGENT, ECHO, doorkeeper, read_all, read_until, run_cli, serving, started_cli
from tests.serve_kit import (
    TOKEN,
    Certificates,
    answer_to,
    make_certificates,
    no_agent,
    port_of,
    read_head,
    request_head,
    status,
    tls_stream,
    token_file,
)
from trio_acp._errors import BackendUnavailable, InvalidOption
from trio_acp.cli._accept import Doorkeeper
from trio_acp.cli._bearer import BearerToken
from trio_acp.cli._tls import client_context, server_context
from trio_acp.transports import dial_websocket

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.concurrency


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make an authority and a server's files, once."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


def open_descriptors() -> int:
    """Count this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only


def secure(certificates: Certificates) -> ssl.SSLContext:
    """Return the server's context."""
    return server_context(certificates.cert, certificates.key)


async def test_a_client_with_the_authority_is_served(certificates: Certificates) -> None:
    """Messages go both ways over TLS, large ones as well, and the token is asked for inside of it."""
    keeper = doorkeeper(ECHO, tls=secure(certificates), token=BearerToken(TOKEN.encode()))
    message = '["' + "x" * 2**20 + '"]'
    async with serving(keeper) as url, tls_stream(url, certificates.client()) as stream:
        await stream.send_all(request_head())
        assert 401 == status(await read_head(stream))
        dial = dial_websocket(
            f"wss://localhost:{port_of(url)}/acp",
            headers=[("Authorization", f"Bearer {TOKEN}")],
            ssl_context=client_context(certificates.ca),
        )
        with trio.fail_after(20):
            async with dial() as transport:
                await transport.send(message)
                assert message == await transport.receive()


async def test_a_client_that_trusts_another_authority_does_not_connect(
    certificates: Certificates, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets a typed error and sends no header; the server notes it at most in passing, and serves the next."""
    caplog.set_level("INFO", "trio_acp")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    async with serving(doorkeeper(ECHO, tls=secure(certificates))) as url:
        address = f"wss://localhost:{port_of(url)}/acp"
        for trust in (client_context(tmp_path / "other.pem"), None):
            with pytest.raises(BackendUnavailable) as caught:
                async with dial_websocket(address, ssl_context=trust)():
                    pass
            assert "tls" == caught.value.detail
        async with dial_websocket(address, ssl_context=certificates.client())() as transport:
            await transport.send("[1]")
            assert "[1]" == await transport.receive()
    assert [] == [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    """The authority is right and the name is not: no connection."""
    other = make_certificates(tmp_path, ["example.org"])
    async with serving(doorkeeper(ECHO, tls=secure(other))) as url:
        with pytest.raises(BackendUnavailable, match="Hostname mismatch") as caught:
            async with dial_websocket(f"wss://localhost:{port_of(url)}/acp", ssl_context=other.client())():
                pass
    assert "tls" == caught.value.detail


async def test_old_tls_is_refused(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing below TLS 1.2; 1.2 itself is served."""
    assert ssl.TLSVersion.TLSv1_2 == secure(certificates).minimum_version
    context = certificates.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(doorkeeper(ECHO, tls=secure(certificates))) as url, tls_stream(url, context) as stream:
        assert "TLSv1.2" == stream.version()
        await stream.send_all(request_head())
        assert 101 == status(await read_head(stream))


async def test_http_without_tls_is_told_what_to_do(certificates: Certificates) -> None:
    """A client that uses ws:// where wss:// is needed gets 400 and the words, not a hang-up; 101 never."""
    async with serving(doorkeeper(ECHO, tls=secure(certificates))) as url:
        assert 400 == status(await answer_to(url))
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
                await stream.send_all(request_head())
                assert (await read_all(stream)).endswith(b"connect to it with wss://.\n")


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
async def test_a_tls_handshake_has_the_deadline_too(
    first: bytes, certificates: Certificates, autojump_clock: MockClock
) -> None:
    """A client that stops in the middle of it is hung up on ten seconds after it connected, to the second."""
    ours, theirs = memory_stream_pair()
    began = trio.current_time()
    if first:
        await ours.send_all(first)
    await doorkeeper(ECHO, tls=secure(certificates)).serve(theirs)
    assert 10.0 == trio.current_time() - began
    assert b"" == await ours.receive_some()


async def test_a_request_that_never_comes_has_the_same_deadline(
    certificates: Certificates, autojump_clock: MockClock
) -> None:
    """TLS and the request share the ten seconds; dawdling in each does not add up."""
    ours, theirs = memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(doorkeeper(ECHO, tls=secure(certificates)).serve, theirs)
        await trio.sleep(6)
        client = trio.SSLStream(ours, certificates.client(), server_hostname="localhost", https_compatible=True)
        await client.do_handshake()
        await client.send_all(b"GET /acp HTT")
    assert 10.0 == trio.current_time() - began


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 100, b"SSH-2.0-x\r\n"])
async def test_what_is_neither_tls_nor_http_is_hung_up_on(
    garbage: bytes, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a word, and without a warning: strangers cannot fill a log."""
    ours, theirs = memory_stream_pair()
    await ours.send_all(garbage)
    await ours.send_eof()
    with trio.fail_after(20):
        await doorkeeper(ECHO, tls=secure(certificates)).serve(theirs)
    assert [] == [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]


async def test_a_client_that_no_longer_reads_is_left_in_time(
    certificates: Certificates, autojump_clock: MockClock
) -> None:
    """Neither the WebSocket's nor TLS's goodbye waits for a peer for longer than two seconds."""
    ours, theirs = lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Doorkeeper(dial=no_agent, tls=secure(certificates)).serve, theirs)
        client = trio.SSLStream(ours, certificates.client(), server_hostname="localhost", https_compatible=True)
        await client.send_all(request_head())
        assert 101 == status(await read_head(client))
        began = trio.current_time()
    assert began + 2.0 == trio.current_time()


async def test_strangers_leave_nothing_behind(certificates: Certificates) -> None:
    """After many that were refused, cut or gone in each phase, no descriptor is left, and silent ones starve nobody."""
    keeper = doorkeeper(ECHO, tls=secure(certificates), token=BearerToken(TOKEN.encode()), max_clients=8)
    context = certificates.client()
    bearer = [("Authorization", f"Bearer {TOKEN}")]
    with trio.fail_after(30):
        async with serving(keeper) as url:
            before = open_descriptors()
            silent = [await trio.open_tcp_stream("127.0.0.1", port_of(url)) for _ in range(4)]

            async def stranger(first: bytes) -> None:
                async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
                    await stream.send_all(first)
                    await read_head(stream)

            async def refused() -> None:
                async with tls_stream(url, context) as stream:
                    await stream.send_all(request_head())
                    assert 401 == status(await read_head(stream))

            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stranger, request_head())
                    nursery.start_soon(stranger, b"\x00" * 20)
                    nursery.start_soon(refused)
            dial = dial_websocket(f"wss://localhost:{port_of(url)}/acp", headers=bearer, ssl_context=context)
            async with dial() as transport:
                await transport.send("[1]")
                assert "[1]" == await transport.receive()
            for stream in silent:
                await stream.aclose()
            while True:  # the server's tasks see these ends in their own time
                if open_descriptors() <= before:
                    break
                await trio.sleep(0.01)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_command_serves_tls(host: str, tmp_path: Path) -> None:
    """With a certificate, a key and a token it prints a wss:// URL, of IPv6 too, with which a prompt works."""
    certificates = make_certificates(tmp_path)
    token = token_file(tmp_path)
    options = ["--tls-cert", certificates.cert, "--tls-key", certificates.key, "--token-file", token, "--host", host]
    async with started_cli("serve", "--port", "0", *map(str, options), "--", *AGENT) as process:
        url = (await read_until(process.stdout, b"\n")).decode().strip()
        assert url.startswith("wss://[::1]:" if ":" in host else "wss://127.0.0.1:")
        secrets = ["--token-file", str(token)]
        done = await run_cli("prompt", "say Hello", "--url", url, *secrets, "--ca-file", str(certificates.ca))
        untrusted = await run_cli("prompt", "say Hello", "--url", url, *secrets)
        process.terminate()
        assert b"" == await read_all(process.stderr)
    assert (0, "Hello") == (done.returncode, done.stdout.decode().strip())
    assert 1 == untrusted.returncode
    assert untrusted.stderr.endswith(b"get local issuer certificate; --ca-file names an authority to trust\n")


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("none", "key", "--tls-cert {cert}: No such file or directory"),
        ("cert", "none", "--tls-key {key}: No such file or directory"),
        ("key", "key", "--tls-cert {cert}: there is no certificate in PEM form in it"),
        ("empty", "key", "--tls-cert {cert}: there is no certificate in PEM form in it"),
        ("cert", "empty", "--tls-key {key}: there is no private key in PEM form in it"),
        ("cert", "other", "--tls-key {key}: it is not the key of the certificate in {cert}"),
        ("cert", "encrypted", "--tls-key {key}: the key is encrypted; a server needs one without a pass phrase"),
        ("cert", "open", "--tls-key {key}: other users may use it (mode 0644); to change that: chmod 600 {key}"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, cert: str, key: str, words: str) -> None:
    """Each of them at the start, by its option, its name and what is wrong with it; nobody asks for a pass phrase."""
    certificates = make_certificates(tmp_path)
    files = {"none": tmp_path / "none", "cert": certificates.cert, "key": certificates.key}
    for name in ("empty", "other", "encrypted", "open"):
        files[name] = tmp_path / name
        files[name].touch(0o600)
    other = certificates.authority.issue_cert("other.test")
    other.private_key_pem.write_to_path(files["other"])
    certificates.authority.private_key_pem.write_to_path(files["open"])
    files["open"].chmod(0o644)
    files["encrypted"].write_bytes(encrypted(certificates.key.read_bytes()))
    with pytest.raises(InvalidOption) as caught:
        server_context(files[cert], files[key])
    assert words.format(cert=files[cert], key=files[key]) == str(caught.value)


def encrypted(key: bytes) -> bytes:
    """Return a PEM key with a pass phrase on it."""
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass phrase"),
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "ws://localhost/acp", "--ca-file", "x"], "--ca-file needs a --url that begins with wss://"),
        (["--stdio", "true", "--ca-file", "x"], "--ca-file needs a --url that begins with wss://"),
        (["--url", "wss://localhost/acp", "--ca-file", "/none"], "--ca-file /none: No such file or directory"),
        (["--url", "wss://localhost/acp", "--ca-file", "/dev/null"], "--ca-file /dev/null: there is no certificate"),
        (["--url", "ws://192.0.2.1/acp", "--token-file", "x"], "a token is not sent to another machine unencrypted"),
    ],
)
async def test_a_client_option_that_cannot_be_used(options: list[str], words: str) -> None:
    """Wrong usage, told in one line before anything is connected."""
    done = await run_cli("prompt", "hello", *options)
    assert 2 == done.returncode
    assert words in done.stderr.decode().splitlines()[-1]
