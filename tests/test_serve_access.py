"""Who may connect to `trio-acp serve`: tokens, where a server may listen, and how many clients it takes."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.cli_kit import AGENT, ECHO, doorkeeper, read_all, read_until, run_cli, serving, started_cli
from tests.serve_kit import TOKEN, answer_to, no_agent, port_of, read_head, request_head, status, token_file
from trio_acp._errors import InvalidOption
from trio_acp.cli._accept import Doorkeeper
from trio_acp.cli._bearer import BearerToken, choose_subprotocol, read_token_file
from trio_acp.cli._exposure import check_exposure
from trio_acp.cli._lobby import PATIENCE, Lobby
from trio_acp.transports import dial_websocket

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.concurrency

GOOD = ("Authorization", f"Bearer {TOKEN}")
OFFER = ("Sec-WebSocket-Protocol", f"acp.v1, acp.bearer.{TOKEN}")


def token_keeper(**options: Any) -> Doorkeeper:
    """Return a doorkeeper that wants the token."""
    return Doorkeeper(dial=no_agent, token=BearerToken(TOKEN.encode()), **options)


# -- tokens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 401),
        ([GOOD], 101),
        ([("authorization", f"bearer  {TOKEN}")], 101),
        ([("Authorization", TOKEN)], 401),
        ([("Authorization", f"Basic {TOKEN}")], 401),
        ([("Authorization", "Bearer")], 401),
        ([("Authorization", f"Bearer {TOKEN}x")], 401),
        ([("Authorization", f"Bearer {TOKEN[:-1]}")], 401),
        ([("Authorization", f"Bearer {TOKEN.upper()}")], 401),
        ([("Authorization", f"Bearer {TOKEN} {TOKEN}")], 401),
        ([("X-Authorization", f"Bearer {TOKEN}")], 401),
        ([("Cookie", f"token={TOKEN}")], 401),
        ([GOOD, ("Authorization", "Bearer no")], 401),
        ([GOOD, GOOD], 101),
        ([OFFER], 101),
        ([("Sec-WebSocket-Protocol", f"acp.bearer.{TOKEN}")], 101),
        ([("Sec-WebSocket-Protocol", f"acp.v1, {TOKEN}")], 401),
        ([("Sec-WebSocket-Protocol", f"acp.v1, acp.bearer.{TOKEN}x")], 401),
        ([GOOD, ("Sec-WebSocket-Protocol", "acp.v1, acp.bearer.no")], 401),
        ([GOOD, ("Origin", "https://evil.test")], 403),
        ([GOOD, ("Origin", "https://good.test")], 101),
        ([OFFER, ("Origin", "https://good.test")], 101),
        ([("Origin", "https://good.test")], 401),
    ],
)
async def test_who_has_the_token_gets_in(headers: list[tuple[str, str]], expected: int) -> None:
    """The right token in the right place opens; a wrong claim beside it, or no claim, does not."""
    async with serving(token_keeper(allowed_origins=frozenset({"https://good.test"}))) as url:
        head = await answer_to(url, *headers)
    assert expected == status(head)
    assert (expected == 401) == (b'WWW-Authenticate: Bearer realm="acp"' in head)
    assert TOKEN.encode() not in head


@pytest.mark.parametrize("path", [f"/acp?token={TOKEN}", f"/acp?access_token={TOKEN}", f"/{TOKEN}", "/"])
async def test_a_token_in_the_url_is_none(path: str) -> None:
    """What others log does not open; who has no token does not learn which paths there are."""
    async with serving(token_keeper()) as url:
        assert 401 == status(await answer_to(url, path=path))
        assert 404 == status(await answer_to(url, GOOD, path="/"))


async def test_a_browser_gets_its_other_offer_back() -> None:
    """A page offers the token and a name; the name is chosen, the token never, in whatever order they come."""
    async with serving(token_keeper()) as url:
        for offers in (f"acp.v1, acp.bearer.{TOKEN}", f"acp.bearer.{TOKEN}, acp.v1"):
            head = await answer_to(url, ("Sec-WebSocket-Protocol", offers))
            assert b"Sec-WebSocket-Protocol: acp.v1\r\n" in head
        head = await answer_to(url, ("Sec-WebSocket-Protocol", f"acp.bearer.{TOKEN}"))
        assert (101, False) == (status(head), b"Sec-WebSocket-Protocol" in head)


@given(st.lists(st.sampled_from(["acp.v1", "", "x", f"acp.bearer.{TOKEN}", "ACP.Bearer.x", "acp.bearer.", TOKEN])))
def test_the_chosen_subprotocol_is_an_offer_and_no_token(offered: list[str]) -> None:
    """Exactly one of the offers that are no tokens, if there is any."""
    harmless = [name for name in offered if name in ("acp.v1", "x")]
    assert (harmless[0] if harmless else None) == choose_subprotocol(offered)


CLAIMS = st.sampled_from([TOKEN, TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "", "no"]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), max_size=40
)
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["Authorization", "AUTHORIZATION"]), CLAIMS.map("Bearer {}".format)),
        st.tuples(st.just("Authorization"), CLAIMS),
        st.tuples(st.just("Sec-WebSocket-Protocol"), CLAIMS.map("acp.v1, acp.bearer.{}".format)),
        st.tuples(st.just("Sec-WebSocket-Protocol"), CLAIMS),
        st.tuples(st.sampled_from(["Proxy-Authorization", "X-Secret-Key", "Cookie"]), CLAIMS),
    ),
    max_size=3,
)


def means_the_token(headers: list[tuple[str, str]]) -> bool:
    """Say by the wording of the rule, not its code: something claims to be the token, and all that does is."""
    claims = []
    for name, value in headers:
        if name.lower() == "authorization":
            claims.append(value[6:].strip() if value[:7].lower() == "bearer " else None)
        if name == "Sec-WebSocket-Protocol":
            offers = [offer.strip() for offer in value.split(",")]
            claims += [offer[11:] for offer in offers if offer[:11].lower() == "acp.bearer."]
    return claims != [] and set(claims) == {TOKEN}


@given(headers=HEADERS)
@example(headers=[("Authorization", f"Bearer {TOKEN}")])
def test_only_the_right_token_ever_yields_101(headers: list[tuple[str, str]]) -> None:
    """Whatever a request has, its answer begins with 101 exactly if it claims the token, and else with 401."""

    async def ask() -> bytes:
        async with serving(token_keeper()) as url:
            return await answer_to(url, *headers)

    head = trio.run(ask)
    assert (101 if means_the_token(headers) else 401) == status(head)
    assert TOKEN.encode() not in head


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        ("", "it has 0 bytes, a token needs at least 32"),
        ("x" * 31, "it has 31 bytes, a token needs at least 32"),
        ("two words that are longer than thirty-two bytes", "in one word"),
        ("x" * 5000, "at most 4096 letters"),
        ("\u00fc" * 32, "letters, digits"),
    ],
)
def test_a_token_file_that_cannot_be_used(tmp_path: Path, content: str | None, words: str) -> None:
    """It is refused with its name, what is wrong, and the line that makes one; its content is not shown."""
    path = tmp_path / "to ken"
    if content is not None:
        path.touch(0o600)
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidOption) as caught:
        read_token_file(path)
    said = str(caught.value)
    assert f"--token-file {path}: " in said
    assert words in said
    assert said.endswith(f"to make one: (umask 077; openssl rand -hex 32 > '{path}')")
    assert not content or content[:20] not in said


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o601])
def test_a_token_file_that_others_can_use(tmp_path: Path, mode: int) -> None:
    """As for ssh, any right of others on a file of ours is too much; the message has the command that takes it away."""
    path = token_file(tmp_path)
    path.chmod(mode)
    with pytest.raises(InvalidOption) as caught:
        read_token_file(path)
    assert str(caught.value).endswith(f"other users may use it (mode {mode:04o}); to change that: chmod 600 {path}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_users_file_is_that_users_business(tmp_path: Path) -> None:
    """As for ssh, what an administrator or a mounted volume provides is not judged by its mode."""
    path = token_file(tmp_path)
    path.chmod(0o644)
    os.chown(path, 65534, 65534)
    assert read_token_file(path).admits([(b"authorization", f"Bearer {TOKEN}".encode())], [])


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
async def test_the_command_that_makes_a_token_makes_one(tmp_path: Path) -> None:
    """The line that messages and the help show yields a file that is taken."""
    path = tmp_path / "token"
    with pytest.raises(InvalidOption) as caught:
        read_token_file(path)
    await trio.run_process(["sh", "-c", str(caught.value).rpartition("to make one: ")[2]])
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    read_token_file(path)


def test_the_token_is_not_in_its_object() -> None:
    """Neither its repr nor its attributes have it."""
    token = BearerToken(TOKEN.encode())
    assert TOKEN not in repr(token)
    assert TOKEN.encode() not in vars(token).values()


# -- where a server may listen ------------------------------------------------------------

OPEN_ADDRESSES = ["0.0.0.0", "::", "10.1.2.3", "192.168.0.1", "fe80::1", "2001:db8::1", "169.254.1.1"]  # noqa: S104 - is refused
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1"]


@pytest.mark.parametrize("host", OPEN_ADDRESSES)
@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "--tls-cert and --tls-key (or --insecure-no-tls) and --token-file (or --insecure-no-token)"),
        ({"tls": True}, "--token-file (or --insecure-no-token)"),
        ({"token": True}, "--tls-cert and --tls-key (or --insecure-no-tls)"),
        ({"insecure_no_tls": True}, "--token-file (or --insecure-no-token)"),
        ({"insecure_no_token": True}, "--tls-cert and --tls-key (or --insecure-no-tls)"),
    ],
)
def test_an_address_that_others_reach_is_refused(host: str, options: dict[str, bool], missing: str) -> None:
    """Without TLS or without a token, unless the operator declines that very thing; the message says what to give."""
    with pytest.raises(InvalidOption) as caught:
        check_exposure(host, **{"tls": False, "token": False, **options})
    assert f"--host {host} can be reached from other machines: it needs {missing}" == str(caught.value)


@pytest.mark.parametrize(
    ("hosts", "options", "warnings"),
    [
        (OPEN_ADDRESSES, {"tls": True, "token": True}, []),
        (OPEN_ADDRESSES, {"tls": True, "insecure_no_token": True}, ["no token is asked for"]),
        (OPEN_ADDRESSES, {"token": True, "insecure_no_tls": True}, ["no TLS on"]),
        (OPEN_ADDRESSES, {"insecure_no_token": True, "insecure_no_tls": True}, ["no token is asked for", "no TLS on"]),
        (LOOPBACK, {}, ["without --token-file every user of this machine"]),
        (LOOPBACK, {"tls": True}, ["without --token-file every user of this machine"]),
        (LOOPBACK, {"token": True}, []),
        (LOOPBACK, {"insecure_no_token": True}, []),
    ],
)
def test_what_is_allowed_and_warned_of(hosts: list[str], options: dict[str, bool], warnings: list[str]) -> None:
    """Other machines: what was declined is warned of.  This machine: no token is, unless it was declined."""
    for host in hosts:
        said = check_exposure(host, **{"tls": False, "token": False, **options})
        assert len(warnings) == len(said)
        assert all(words in warning for words, warning in zip(warnings, said, strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines"),  # noqa: S104 - is refused
        (["--host", "::", "--insecure-no-tls"], "--host :: can be reached from other machines"),
        (["--token-file", "FILE", "--insecure-no-token"], "--token-file and --insecure-no-token do not go together"),
        (["--tls-cert", "FILE"], "--tls-cert and --tls-key go together"),
        (["--tls-key", "FILE"], "--tls-cert and --tls-key go together"),
        (["--token-file", "/no/such"], "--token-file /no/such: there is no such file; to make one: "),
        (["--token-file", "/"], "--token-file /: Is a directory"),
    ],
)
async def test_a_refusal_is_one_line(tmp_path: Path, options: list[str], words: str) -> None:
    """The command ends with code 2 before it listens or starts anything, and one line says what to do."""
    given = [option.replace("FILE", str(token_file(tmp_path))) for option in options]
    done = await run_cli("serve", "--port", "0", *given, "--", *AGENT)
    assert (2, b"") == (done.returncode, done.stdout)
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(f"trio-acp: {words}")


async def test_a_served_agent_with_a_token_is_used_by_its_file(tmp_path: Path) -> None:
    """Who has the file gets an answer, who has not is told what is missing, and nobody shows it."""
    path = token_file(tmp_path)
    async with started_cli("serve", "--port", "0", "--token-file", str(path), "-v", "--", *AGENT) as process:
        url = (await read_until(process.stdout, b"\n")).decode().strip()
        allowed = await run_cli("prompt", "say Hello", "--url", url, "--token-file", str(path))
        refused = await run_cli("prompt", "say Hello", "--url", url)
        process.terminate()
        said = await read_all(process.stderr)
    assert (0, "Hello") == (allowed.returncode, allowed.stdout.decode().strip())
    assert 1 == refused.returncode
    assert b"401" in refused.stderr
    assert b"--token-file" in refused.stderr
    assert b"refused 127.0.0.1 with HTTP status 401" in said
    assert TOKEN.encode() not in said + allowed.stderr + refused.stderr


async def test_a_wildcard_address_is_served_when_that_was_said() -> None:
    """Both kinds of wildcard, IPv4 and IPv6, under the same rules; what was declined is warned of on two lines."""
    for host, shown, connect in (("0.0.0.0", "0.0.0.0", "127.0.0.1"), ("::", "[::]", "::1")):  # noqa: S104 - the law
        options = ["--host", host, "--insecure-no-tls", "--insecure-no-token"]
        async with started_cli("serve", "--port", "0", *options, "--", *ECHO) as process:
            url = (await read_until(process.stdout, b"\n")).decode().strip()
            assert url.startswith(f"ws://{shown}:")
            async with dial_websocket(
                f"ws://{f'[{connect}]' if ':' in connect else connect}:{port_of(url)}/acp"
            )() as it:
                await it.send("[1]")
                assert "[1]" == await it.receive()
            process.terminate()
            said = (await read_all(process.stderr)).decode().splitlines()
        assert 2 == len(said)
        assert all(line.startswith("trio-acp: warning: no ") for line in said)


# -- how many clients -------------------------------------------------------------------


async def test_one_client_too_many_is_told_so_at_once() -> None:
    """Parallel clients up to the limit are served, the next gets 503; when one leaves, there is a place again."""
    async with serving(doorkeeper(ECHO, max_clients=3)) as url:
        heads: list[str | bytes] = []
        gone = [trio.Event() for _ in range(3)]

        async def client(number: int, task_status: trio.TaskStatus[None]) -> None:
            async with dial_websocket(url)() as transport:
                await transport.send("[1]")
                heads.append(await transport.receive())
                task_status.started()
                await gone[number].wait()

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    await nursery.start(client, number)
                head = await answer_to(url)
                assert 503 == status(head)
                assert b"Retry-After" in head
                gone[0].set()
                while status(head) != 101:  # each answer is waited for; the last client's agent has to end first
                    head = await answer_to(url)
                gone[1].set()
                gone[2].set()
        assert ["[1]"] * 3 == heads


async def test_handshakes_count_and_a_silent_one_is_cut(autojump_clock: MockClock) -> None:
    """A client in its handshake has a place; a newcomer is told 503 until that takes longer than one second."""
    keeper = Doorkeeper(dial=no_agent, max_clients=1)
    silent, theirs = memory_stream_pair()

    async def ask() -> int:
        mine, yours = memory_stream_pair()
        nursery.start_soon(keeper.serve, yours)
        await mine.send_all(request_head())
        head = await read_head(mine)
        await trio.aclose_forcefully(mine)
        return status(head)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.serve, theirs)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        assert 503 == await ask()
        assert began == trio.current_time()
        await trio.sleep(PATIENCE)
        assert 101 == await ask()
        assert b"" == await silent.receive_some()
        assert began + PATIENCE == trio.current_time()


async def test_a_client_that_dribbles_is_cut_at_the_deadline(autojump_clock: MockClock) -> None:
    """One byte a second does not prolong a handshake, and others are served meanwhile."""
    keeper = token_keeper(max_clients=2)
    slow, theirs = memory_stream_pair()
    began = trio.current_time()

    async def dribble() -> None:
        for byte in request_head(GOOD):
            try:
                await slow.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                return
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dribble)
        nursery.start_soon(keeper.serve, theirs)
        await trio.sleep(5)
        mine, yours = memory_stream_pair()
        nursery.start_soon(keeper.serve, yours)
        await mine.send_all(request_head(GOOD))
        assert 101 == status(await read_head(mine))
        await trio.aclose_forcefully(mine)
        assert b"" == await slow.receive_some()
        assert began + keeper.handshake_seconds == trio.current_time()


async def test_a_flood_of_silent_strangers_does_not_keep_anyone_out(autojump_clock: MockClock) -> None:
    """More silent connections than there are places: a second later a client is served, and none is kept for long."""
    keeper = Doorkeeper(dial=no_agent, max_clients=4)
    strangers, began = [], trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            ours, theirs = memory_stream_pair()
            strangers.append(ours)
            nursery.start_soon(keeper.serve, theirs)
            await trio.testing.wait_all_tasks_blocked()
        # Twelve were more than wait to be told; they were hung up on at once.
        for stranger in strangers[4:16]:
            assert b"" == await stranger.receive_some()
        assert began == trio.current_time()
        await trio.sleep(PATIENCE)
        mine, yours = memory_stream_pair()
        nursery.start_soon(keeper.serve, yours)
        await mine.send_all(request_head())
        assert 101 == status(await read_head(mine))
        await trio.aclose_forcefully(mine)


@given(st.data())
def test_the_lobby_never_has_more_than_its_places(data: st.DataObject) -> None:
    """Whoever comes, is admitted or leaves in whatever order: places are kept, and nobody admitted loses one."""

    async def come_and_go() -> None:
        await trio.lowlevel.checkpoint()
        places = data.draw(st.integers(1, 3))
        lobby, now = Lobby(places), 0.0
        inside: list[trio.CancelScope] = []
        placed: list[trio.CancelScope] = []
        admitted: list[trio.CancelScope] = []
        for _ in range(data.draw(st.integers(0, 25))):
            step = data.draw(st.sampled_from(["enter", "admit", "leave", "wait"]))
            if step == "wait":
                now += data.draw(st.sampled_from([PATIENCE / 2, PATIENCE]))
            elif step == "enter":
                client = trio.CancelScope()
                inside.append(client)
                if lobby.enter(client, now):
                    placed.append(client)
            elif inside:
                client = data.draw(st.sampled_from(inside))
                if step == "leave":
                    lobby.leave(client)
                    inside.remove(client)
                elif client not in admitted:
                    expected = client in placed and not client.cancel_called
                    assert expected == lobby.admit(client)
                    admitted += [client] if expected else []
            staying = [client for client in inside if not client.cancel_called]
            assert places >= len([client for client in staying if client in placed])
            assert places >= len([client for client in staying if client not in placed])
            assert not any(client.cancel_called for client in admitted)

    trio.run(come_and_go)


async def test_how_a_request_was_refused_is_logged_without_its_headers(caplog: pytest.LogCaptureFixture) -> None:
    """The address and the status; at any level, and from any library, nothing of what was claimed."""
    caplog.set_level(logging.DEBUG)
    async with serving(token_keeper()) as url:
        await answer_to(url, ("Authorization", "Bearer s3cret"), ("Sec-WebSocket-Protocol", "a, acp.bearer.s3cret"))
        await answer_to(url, ("Authorization", "Bearer s3cret\x01"))
        await answer_to(url, ("Sec-WebSocket-Protocol", "acp.bearer.s3cret\xff"))
        await answer_to(url, ("Authorization s3cret", "x"))
        await answer_to(url, GOOD, path="/acp?s3cret")
    assert "refused 127.0.0.1 with HTTP status 401" in caplog.text
    assert "s3cret" not in caplog.text
    assert TOKEN not in caplog.text
