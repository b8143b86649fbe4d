"""Files for an agent: never outside of the root, whole or not at all, and nothing that is no text file."""

from __future__ import annotations

import io
import math
import os
import random
import resource
import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_acp import FileService, InvalidOption
from trio_acp.services import Refused
from trio_acp.services._replace import Gate, replace
from trio_acp.services.files import Files

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "what nobody inside may see"


def files(root: Path | str, **options: Any) -> Files:
    """Return the files below `root`; must be called in a Trio run."""
    return Files(FileService(**options), str(root))


async def refused(call: Any, reason: str) -> str:
    """Await a call that must be refused for this reason; return the message."""
    with pytest.raises(Refused) as caught:
        await call
    assert reason == caught.value.reason
    return str(caught.value)


# -- nothing outside -------------------------------------------------------------


def plant(base: Path) -> tuple[Path, Path]:
    """Make a root with every trap in it, and something outside that nobody may touch; return both."""
    root, outside = base / "root", base / "outside"
    (root / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (base / "rootless").mkdir()
    for file in (outside / "f", base / "rootless" / "f", base / "f"):
        file.write_text(SECRET)
    for file in (root / "f", root / "a" / "f", root / "a" / "b" / "f"):
        file.write_text(str(file))
    (root / "in").symlink_to("a")
    (root / "out").symlink_to(outside)
    (root / "up").symlink_to("..")
    (root / "gone").symlink_to(outside / "made by a dangling link")
    for link in (root / "file", root / "a" / "file"):
        link.symlink_to(outside / "f")
    (root / "a" / "loop").symlink_to("loop")
    return root, outside


def snapshot(base: Path) -> dict[str, bytes]:
    """Return all that is outside of the root, with its content."""
    root = base / "root"
    return {
        str(path): path.read_bytes() if path.is_file() else b"a directory"
        for path in sorted(base.rglob("*"))
        if root not in path.parents
    }


WAYS = ("a", "b", "in", "out", "up", "gone", "new", "..", ".", "", "outside", "root", "f")
PATHS = st.builds(
    lambda base, way, last: "/".join((base, *way, last)),
    st.sampled_from(("root", "root", "root", "outside", "rootless", "root/../root", ".")),
    st.lists(st.sampled_from(WAYS), max_size=2),
    st.sampled_from(("f", "f", "file", "new", "gone", "out", "..", "")),
)


def real(path: str) -> str:
    """Return where a path leads, by what the system says of it."""
    return os.path.realpath(path)


def oracle(root: Path, path: str) -> bool:
    """Whether a path means something below the root without any link or ``..``, by what the system says of it."""
    return real(path) == os.path.normpath(path) and real(path).startswith(f"{root}/") and ".." not in path.split("/")


@settings(max_examples=150, deadline=None)
@given(paths=st.lists(PATHS, min_size=1, max_size=20))
def test_reading_agrees_with_the_system_about_what_is_inside(paths: list[str]) -> None:
    """A file is read if and only if its real path is the path itself and below the root."""

    async def main(base: Path) -> None:
        root, _ = plant(base)
        service = files(root)
        for path in (f"{base}/{path}" for path in paths):
            wanted = oracle(root, path) and Path(path).is_file() and not path.endswith("/")
            try:
                content = await service.read(path)
            except Refused:
                assert not wanted
            else:
                assert wanted
                assert real(path) == content

    with tempfile.TemporaryDirectory() as base:
        trio.run(main, Path(base).resolve())


@settings(max_examples=100, deadline=None)
@given(paths=st.lists(PATHS, min_size=1, max_size=20))
def test_writing_changes_nothing_outside(paths: list[str]) -> None:
    """A file is written where its real path is, below the root, or else nothing is changed anywhere else."""

    async def main(base: Path) -> None:
        root, _ = plant(base)
        before = snapshot(base)
        service = files(root)
        for number, path in enumerate(f"{base}/{path}" for path in paths):
            inside = oracle(root, path)
            try:
                await service.write(path, f"number {number}")
            except Refused:
                # What stands in the way of an inside path is a directory in its place, or a file on its way.
                assert not inside or not (Path(path).parent.is_dir() and not Path(path).exists()) or path[-1] == "/"
            else:
                assert inside
                assert f"number {number}" == Path(real(path)).read_text()
        assert before == snapshot(base)
        assert [] == list(root.rglob(".trio-acp-*"))

    with tempfile.TemporaryDirectory() as base:
        trio.run(main, Path(base).resolve())


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("f", "invalid", "absolute"),
        ("{base}/f", "invalid", "not inside"),
        ("{base}/nothing-here", "invalid", "not inside"),
        ("{base}/rootless/f", "invalid", "not inside"),
        ("{root}/../f", "invalid", "'..'"),
        ("{root}/a/../f", "invalid", "'..'"),
        ("{root}/up/f", "invalid", "symbolic link"),
        ("{root}/in/f", "invalid", "symbolic link"),
        ("{root}/a/file", "invalid", "symbolic link"),
        ("{root}/gone", "invalid", "symbolic link"),
        ("{root}/a/loop", "invalid", "symbolic link"),
        ("{root}/f/g", "invalid", "not a directory"),
        ("{root}/a", "invalid", "not a regular file"),
        ("{root}", "invalid", "is a directory"),
        ("{root}/a/", "invalid", "is a directory"),
        ("{root}/f\0", "invalid", "absolute"),
        ("{root}/none", "missing", "no such file"),
        ("{root}/none/f", "missing", "there is no 'none'"),
        ("{root}/" + 300 * "n", "invalid", "too long"),
    ],
)
async def test_a_refusal_names_the_path_and_nothing_else(path: str, reason: str, words: str, tmp_path: Path) -> None:
    """Its message has the path as it was asked for, the reason, and nothing of where a link leads."""
    root, outside = plant(tmp_path)
    asked = path.format(base=tmp_path, root=root)
    message = await refused(files(root).read(asked), reason)
    assert words in message
    assert repr(asked) in message
    assert str(outside) not in message


async def test_what_is_outside_looks_the_same_whether_it_exists(tmp_path: Path) -> None:
    """The answer does not tell what there is outside."""
    root, outside = plant(tmp_path)
    there, nowhere = str(outside / "f"), str(outside / "g")
    for call in ("read", "write"):
        messages = [
            await refused(getattr(files(root), call)(path, *(["x"] if call == "write" else [])), "invalid")
            for path in (there, nowhere)
        ]
        assert messages[0].replace(there, nowhere) == messages[1]


@pytest.mark.concurrency
async def test_swapping_a_directory_for_a_link_while_files_are_used(tmp_path: Path) -> None:
    """Whenever on the way it happens, nothing outside is read or written."""
    root, outside = plant(tmp_path)
    inner, aside = root / "a", root / "aside"
    before = snapshot(tmp_path)
    stop = threading.Event()
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            shutil.rmtree(aside, ignore_errors=True)  # a write that found nothing has made the directory anew
            with suppress(OSError):
                inner.rename(aside)
            with suppress(OSError):
                inner.symlink_to(outside)
                swaps += 1
                inner.unlink()
            with suppress(OSError):
                aside.rename(inner)

    thread = threading.Thread(target=swap)
    thread.start()
    service, done, misses = files(root), 0, 0
    try:
        with trio.move_on_after(10):
            while done < 100 or not misses or swaps < 20:
                try:
                    await service.write(f"{root}/a/f", "ours")
                    assert SECRET != await service.read(f"{root}/a/f")
                    done += 1
                except Refused:
                    misses += 1
    finally:
        stop.set()
        await trio.to_thread.run_sync(thread.join)
    assert done
    assert misses
    assert before == snapshot(tmp_path)
    assert [] == list(tmp_path.rglob(".trio-acp-*"))


async def test_the_root_may_be_reached_through_a_link(tmp_path: Path) -> None:
    """Whoever opened the session chose it: it may be named as it was given, or as it really is."""
    root, _ = plant(tmp_path)
    (tmp_path / "link").symlink_to(root)
    service = files(tmp_path / "link")
    assert str(root / "f") == await service.read(str(tmp_path / "link" / "f")) == await service.read(str(root / "f"))
    assert "cannot be opened" in await refused(files(tmp_path / "nowhere").read(f"{tmp_path}/nowhere/f"), "failed")


# -- only text files -------------------------------------------------------------


@contextmanager
def unix_socket(path: Path) -> Iterator[None]:
    """Put a socket there."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        yield


async def test_nothing_but_regular_files(tmp_path: Path) -> None:
    """A FIFO, a socket and a directory are refused at once, for reading and for writing; none of them is waited for."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with trio.fail_after(5), unix_socket(tmp_path / "socket"):
        for name in ("fifo", "socket", "directory"):
            assert "regular file" in await refused(files(tmp_path).read(f"{tmp_path}/{name}"), "invalid")
            assert "regular file" in await refused(files(tmp_path).write(f"{tmp_path}/{name}", "x"), "invalid")
    for device in ("/dev/null", "/dev/zero"):
        assert "regular file" in await refused(files("/dev").read(device), "invalid")
        assert "regular file" in await refused(files("/dev").write(device, "x"), "invalid")
    assert {"fifo", "directory", "socket"} == {path.name for path in tmp_path.iterdir()}


async def test_sizes_are_capped(tmp_path: Path) -> None:
    """As many bytes as are allowed pass, one more does not; bytes, not characters."""
    service, path = files(tmp_path, max_read=6, max_write=6), f"{tmp_path}/f"
    await service.write(path, "äöü")
    assert "äöü" == await service.read(path)
    assert "7 bytes" in await refused(service.write(path, "äöü."), "invalid")
    assert "äöü" == Path(path).read_text("utf-8")
    Path(path).write_bytes(b"1234567")
    assert "more bytes" in await refused(service.read(path), "invalid")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
async def test_a_file_that_hides_its_size_is_capped(tmp_path: Path) -> None:
    """What a file says of its size is not believed."""
    root = f"/proc/{os.getpid()}"
    assert "more bytes" in await refused(files(root, max_read=10).read(f"{root}/maps"), "invalid")


async def test_only_utf_8(tmp_path: Path) -> None:
    """Other bytes are no text, and half a surrogate pair is no content; both are said, and nothing is replaced."""
    (tmp_path / "f").write_bytes(b"abc\xff")
    assert "not UTF-8 text: see byte 3" in await refused(files(tmp_path).read(f"{tmp_path}/f"), "invalid")
    assert "surrogate" in await refused(files(tmp_path).write(f"{tmp_path}/f", "x\ud800"), "invalid")
    assert b"abc\xff" == (tmp_path / "f").read_bytes()
    (tmp_path / "g").write_bytes(b"\xef\xbb\xbfa\r\nb\0")
    assert "\ufeffa\r\nb\0" == await files(tmp_path).read(f"{tmp_path}/g")


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet="ab\n\r\f\u2028", max_size=12),
    line=st.none() | st.integers(0, 6),
    limit=st.none() | st.integers(0, 6),
)
def test_lines_are_those_of_an_editor(text: str, line: int | None, limit: int | None) -> None:
    """Lines end at newlines only, are counted from 1, and keep their ends."""

    async def main(base: str) -> None:
        service = files(base)
        await service.write(f"{base}/f", text)
        first = max((line or 1) - 1, 0)
        lines = io.StringIO(text, newline="\n").readlines()[first:]
        assert "".join(lines if limit is None else lines[:limit]) == await service.read(
            f"{base}/f", line=line, limit=limit
        )

    with tempfile.TemporaryDirectory() as base:
        trio.run(main, base)


async def test_lines_are_not_negative(tmp_path: Path) -> None:
    """A negative line or limit is refused."""
    assert "line must be" in await refused(files(tmp_path).read(f"{tmp_path}/f", line=-1), "invalid")
    assert "limit must be" in await refused(files(tmp_path).read(f"{tmp_path}/f", limit=-1), "invalid")


# -- whole or not at all ---------------------------------------------------------


async def test_writing_keeps_the_mode_and_breaks_hard_links(tmp_path: Path) -> None:
    """The permission bits stay, a new file gets the umask's, and what shares the old content keeps it."""
    old, new, other = tmp_path / "old", tmp_path / "x" / "y" / "new", tmp_path / "other"
    old.write_text("old")
    old.chmod(0o751)
    other.hardlink_to(old)
    umask = os.umask(0o027)
    try:
        await files(tmp_path).write(str(old), "changed")
        await files(tmp_path).write(str(new), "made")
    finally:
        os.umask(umask)
    assert ("changed", 0o751) == (old.read_text(), old.stat().st_mode & 0o7777)
    assert ("made", 0o640) == (new.read_text(), new.stat().st_mode & 0o7777)
    assert "old" == other.read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_a_file_that_we_may_not_write_is_not_replaced(tmp_path: Path) -> None:
    """Though the directory would allow it."""
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o444)
    await refused(files(tmp_path).write(f"{tmp_path}/f", "new"), "invalid")
    assert "old" == (tmp_path / "f").read_text()


async def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Neither the temporary file nor the directories that were made for it; the old file is as it was."""
    (tmp_path / "f").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for name in ("f", "x/y/z"):
            assert "File too large" in await refused(files(tmp_path).write(f"{tmp_path}/{name}", 5000 * "x"), "failed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ["f"] == [path.name for path in tmp_path.rglob("*")]
    assert "old" == (tmp_path / "f").read_text()


def test_what_is_withdrawn_never_happens(tmp_path: Path) -> None:
    """Once withdrawn, the thread that comes later replaces nothing and tidies up; too late, it is said."""
    (tmp_path / "f").write_text("old")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        gate = Gate()
        assert gate.withdraw()
        with pytest.raises(Refused, match="withdrawn"):
            replace(directory, "f", "f", b"new", gate)
        assert ["f"] == [path.name for path in tmp_path.iterdir()]
        assert "old" == (tmp_path / "f").read_text()
        replace(directory, "f", "f", b"new", gate := Gate())
        assert not gate.withdraw()
        assert "new" == (tmp_path / "f").read_text()
    finally:
        os.close(directory)


@pytest.mark.concurrency
async def test_a_cancelled_write_happens_wholly_or_not(tmp_path: Path) -> None:
    """Cancelled at any time, the file has the old content or the new, also later, and nothing else is there."""
    service, path = files(tmp_path), tmp_path / "f"
    path.write_text("start")
    chance, seen = random.Random(5), set()  # noqa: S311 - nothing secret
    for number in range(150):
        before, new = path.read_text(), f"{number}:" + 200_000 * "x"
        # Some never and some at once, whatever the speed of the machine; the others in the middle.
        with trio.move_on_after(chance.choice([0, math.inf, *[chance.uniform(0, 0.003) for _ in range(8)]])) as scope:
            await service.write(str(path), new)
        seen.add(scope.cancelled_caught)
        # All threads are over once nobody holds a place.
        for place in range(4):
            await service._limiter.acquire_on_behalf_of(place)
        for place in range(4):
            service._limiter.release_on_behalf_of(place)
        assert path.read_text() in ({before, new} if scope.cancelled_caught else {new})
        assert [path] == list(tmp_path.iterdir())
    assert {True, False} == seen


async def test_a_file_system_that_hangs_is_not_waited_for(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """After `timeout` seconds the request fails, and a write that has not happened by then never will."""
    service = files(tmp_path, timeout=7)
    for place in range(4):  # as if four threads hung
        await service._limiter.acquire_on_behalf_of(place)
    assert "within 7 s" in await refused(service.write(f"{tmp_path}/f", "x"), "failed")
    assert "within 7 s" in await refused(service.read(f"{tmp_path}/f"), "failed")
    assert 14.0 == trio.current_time()
    assert [] == list(tmp_path.iterdir())


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Whether a request is served or refused, and wherever on the way."""
    root, _ = plant(tmp_path)
    service = files(root, max_read=100, max_write=100)

    async def all_ways() -> None:
        for path in ("f", "a/b/f", "new/new/f", "none", "in/f", "a/file", "f/f", "a", "a/b", "../f", ""):
            for call in (service.read(f"{root}/{path}"), service.write(f"{root}/{path}", "x")):
                with suppress(Refused):
                    await call

    await all_ways()  # what Trio itself opens once is open by now
    before = sorted(Path("/proc/self/fd").iterdir())
    await all_ways()
    assert before == sorted(Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"max_read": 0}, "invalid-max_read"),
        ({"max_write": True}, "invalid-max_write"),
        ({"max_write": "1"}, "invalid-max_write"),
        ({"timeout": 0}, "invalid-timeout"),
        ({"timeout": float("inf")}, "invalid-timeout"),
        ({"read": False, "write": False}, "invalid-files"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], detail: str) -> None:
    """Each is refused by its name."""
    with pytest.raises(InvalidOption) as caught:
        FileService(**options)
    assert detail == caught.value.detail


async def test_a_long_path_takes_few_descriptors(tmp_path: Path) -> None:
    """However deep a path is: it is walked with a few at a time, and only so many directories are made for it."""
    deep = str(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        for _ in range(10):
            deep += "/d" * 30
            await files(tmp_path).write(f"{deep}/f", "x")
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 60, hard))  # noqa: PTH208 - numbers
        assert "x" == await files(tmp_path).read(f"{deep}/f")
        await files(tmp_path).write(f"{deep}/g", "y")
        message = await refused(files(tmp_path).write(f"{tmp_path}/{'e/' * 999}f", "x"), "invalid")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    longer = await refused(files(tmp_path).write(f"{tmp_path}/{'e/' * 9999}f", "x"), "invalid")
    assert "32 directories" in message
    assert len(longer) < 100
    assert [tmp_path / "d"] == sorted(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["\ud800", "new/\ud800", "\ud800/new"])
async def test_half_a_surrogate_pair_is_no_path(name: str, tmp_path: Path) -> None:
    """What the system has no name for is refused like any other path that cannot be, and nothing is made for it."""
    opened = files(tmp_path)
    assert "surrogate" in await refused(opened.read(f"{tmp_path}/{name}"), "invalid")
    assert "surrogate" in await refused(opened.write(f"{tmp_path}/{name}", "x"), "invalid")
    assert [] == list(tmp_path.iterdir())
