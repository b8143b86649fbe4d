"""The trace as a file: complete, private, never in the way."""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.test_steps import Steps
from tests.turn_kit import LIMITS, Recorder, installed, one_session
from trio_acp import InvalidOption, TextDelta, TraceFile, UsageError, _trace_file
from trio_acp.abc import TraceRecord
from trio_acp.testing import FakeRuntime

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file, one a line."""
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def a_record(n: int = 0, **data: Any) -> TraceRecord:
    """Return a record like any other."""
    return TraceRecord(name="cause", time=float(n), session="k", turn="t", data=data)


async def test_the_file_has_every_record_once_its_block_is_left(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What a recorder hears is in the file, in order, after a header that has both clocks."""
    path = tmp_path / "turns.jsonl"

    class Both(Recorder):
        events = True

        def record(self, record: TraceRecord) -> None:
            super().record(record)
            trace.record(record)

    recorder = Both()
    async with (
        TraceFile(path) as trace,
        one_session(FakeRuntime([TextDelta("a"), TextDelta("b")]), instrument=recorder) as (_manager, session),
    ):
        began = trio.current_time()
        await session.prompt("a secret thought")
    header, *records = lines(path)
    assert {"trace": "trio-acp", "version": 1, "clock": began} == {k: v for k, v in header.items() if k != "wall"}
    assert [(r.name, r.time, r.session, r.turn) for r in recorder.records] == [
        (r["name"], r["time"], r["session"], r["turn"]) for r in records
    ]
    assert [{"kind": "TextDelta"}] * 2 == [r["data"] for r in records if r["name"] == "event"]
    [decided] = [r["data"] for r in records if r["name"] == "decided"]
    assert LIMITS.turn == decided["limits"]["turn"]
    assert "secret" not in path.read_text("ascii")


async def test_without_events_there_is_the_first_one_only(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whoever does not want thousands of records says so."""
    path = tmp_path / "turns.jsonl"
    async with (
        TraceFile(path, events=False) as trace,
        one_session(FakeRuntime([TextDelta("x")] * 5), instrument=trace) as (_manager, session),
    ):
        await session.prompt("x")
    names = [line.get("name") for line in lines(path)]
    assert (1, 0) == (names.count("first_event"), names.count("event"))


async def test_listening_takes_no_task_steps(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A turn that is written down takes as many steps as one that is not, for a thousand events too."""

    async def count(trace: TraceFile | None) -> int:
        steps = Steps()
        async with one_session(FakeRuntime([TextDelta("x")] * 1000), instrument=trace) as (_manager, session):
            await session.prompt("warm")
            with installed(steps):
                await session.prompt("x")
        return steps.count

    async with TraceFile(tmp_path / "turns.jsonl") as trace:
        assert await count(None) == await count(trace)


async def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask, and of a file that was there before too; what that had is gone."""
    path = tmp_path / "turns.jsonl"
    path.write_text("a longer line of old times\n" * 100)
    path.chmod(0o644)
    async with TraceFile(path):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert ["trio-acp"] == [line["trace"] for line in lines(path)]


@pytest.mark.parametrize("kind", ["directory", "missing", "pipe", "null byte"])
async def test_a_file_that_cannot_be_written_is_an_error_at_once(kind: str, tmp_path: Path) -> None:
    """One typed error that names the file; a pipe that nobody reads is refused, not waited for."""
    path = tmp_path / {"missing": "no/such", "null byte": "a\0b"}.get(kind, kind)
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InvalidOption, match="cannot write the trace") as caught:
        async with TraceFile(path):
            pass
    assert "invalid-trace" == caught.value.detail


@pytest.mark.parametrize("number", [0, True, 1.5, "9"])
def test_how_many_may_wait_is_a_number(number: Any) -> None:
    """Anything else is refused when it is made."""
    with pytest.raises(InvalidOption) as caught:
        TraceFile("x", max_waiting=number)
    assert "invalid-max_waiting" == caught.value.detail


def test_one_that_was_not_entered_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The manager does not enter it, as it does its stores; what it would have had is lost."""
    trace = TraceFile(tmp_path / "turns.jsonl")
    trace.record(a_record())
    trace.record(a_record())
    assert [
        f"nothing is written to the trace {tmp_path}/turns.jsonl: it is entered first, with `async with`"
    ] == caplog.messages


async def test_it_is_entered_once(tmp_path: Path) -> None:
    """A second time would empty what it has just written."""
    trace = TraceFile(tmp_path / "turns.jsonl")
    async with trace:
        pass
    with pytest.raises(UsageError):
        await trace.__aenter__()
    trace.record(a_record())  # nobody listens any more
    assert 1 == len(lines(tmp_path / "turns.jsonl"))


async def test_a_full_disk_is_told_once_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the trace is lost, turns go on, and leaving does not fail."""

    def full(fd: int, text: str) -> None:
        raise OSError(28, "No space left on device")

    async with TraceFile(tmp_path / "x") as trace, one_session(FakeRuntime(), instrument=trace) as (_manager, session):
        monkeypatch.setattr(_trace_file, "_write", full)
        for _ in range(3):
            await session.prompt("x")
    [message] = [record.getMessage() for record in caplog.records]
    assert message.endswith("ends here: No space left on device")


async def test_a_slow_disk_holds_up_nothing_and_the_file_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Records that find no room are left out and counted; leaving waits for all the others."""
    goes_on, really_write = threading.Event(), _trace_file._write

    def slow(fd: int, text: str) -> None:
        assert goes_on.wait(30)
        really_write(fd, text)

    monkeypatch.setattr(_trace_file, "_write", slow)

    async def let_go() -> None:
        await trio.testing.wait_all_tasks_blocked()  # until it is being left
        goes_on.set()

    path = tmp_path / "x"
    async with trio.open_nursery() as nursery, TraceFile(path, max_waiting=10) as trace:
        for n in range(100):
            trace.record(a_record(n))
        nursery.start_soon(let_go)
    assert [] == caplog.records
    _, *told = lines(path)
    assert list(range(10)) == [line["time"] for line in told if "name" in line]
    assert [90] == [line["lost"] for line in told if "lost" in line]


async def test_leaving_gives_up_on_a_disk_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for so long by the real clock, cancelled or not, says so, and leaves."""
    goes_on, done = threading.Event(), threading.Event()

    def stuck(fd: int, text: str) -> None:
        goes_on.wait(30)
        done.set()

    monkeypatch.setattr(_trace_file, "_DISK_LIMIT", 0.05)
    monkeypatch.setattr(_trace_file, "_write", stuck)
    with trio.CancelScope() as scope:
        async with TraceFile(tmp_path / "x"):
            scope.cancel()
    assert ["is not complete: the disk does not answer"] == [r.getMessage()[-41:] for r in caplog.records]
    goes_on.set()
    assert await trio.to_thread.run_sync(done.wait, 30)


async def test_a_cancelled_leaver_has_the_whole_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Being cancelled loses nothing that was recorded, and the thread has ended."""
    path = tmp_path / "x"
    with trio.CancelScope() as scope:
        async with TraceFile(path) as trace:
            for n in range(5000):
                trace.record(a_record(n))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert 5001 == len(lines(path))
    assert trace._thread is not None
    assert not trace._thread.is_alive()
    assert [] == caplog.records


async def test_a_cancelled_enterer_leaves_no_thread(tmp_path: Path) -> None:
    """Entering in a cancelled scope raises `Cancelled`, and the thread ends."""
    with trio.CancelScope() as scope:
        scope.cancel()
        trace = TraceFile(tmp_path / "x")
        async with trace:
            raise AssertionError
    assert scope.cancelled_caught
    thread = trace._thread
    assert thread is not None
    await trio.to_thread.run_sync(thread.join, 30)
    assert not thread.is_alive()


async def test_any_data_becomes_json(tmp_path: Path) -> None:
    """Infinity, bytes, half characters, objects and long texts are told as well as JSON can; what resists is named."""

    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    circle: list[Any] = []
    circle.append(circle)
    path = tmp_path / "x"
    async with TraceFile(path) as trace:
        trace.record(a_record(reason="\ud800\x1b", bound=math.inf, raw=b"x", many={1: (2, None)}, long="y" * 9999))
        trace.record(a_record(circle=circle))
        trace.record(a_record(rude=Rude()))
    _, first, second, third = [line.get("data", {}) for line in lines(path)]
    assert {"reason": "\ud800\x1b", "bound": "inf", "raw": "b'x'", "many": {"1": [2, None]}} == {
        key: value for key, value in first.items() if key != "long"
    }
    assert 2000 == len(first["long"])
    assert [{"unprintable": "RecursionError"}, {"unprintable": "RuntimeError"}] == [second, third]
