"""What a manager writes down besides metadata: the audit of its answers, and the transcript of its turns.

Both are handed over synchronously and written by one task each (`_appender.py`),
which lives longer than the runtimes: what an agent is answered while it is
hung up is on record too.  Neither slows a turn, and neither decides anything.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from ._appender import Appender
from ._audit import AuditRecord, sha256_of
from ._events import TextDelta, Thought
from ._service import ServiceScope, shielded
from ._transcript import TranscriptEntry, event_value, outcome_value, prompt_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ._audit import AuditEvent
    from ._events import Event
    from ._outcomes import Outcome
    from ._records import Owner
    from ._transcript import EntryKind
    from ._turn_state import TurnState
    from .abc import AuditLog, Instrument, Transcript

_log = logging.getLogger(__name__)

MAX_AUDITED: Final = 100_000
"""Records that may wait for the audit log."""
MAX_RECORDED: Final = 16 * 2**20
"""Characters of events that may wait for the transcript; prompts and outcomes may be as many again."""
MAX_TEXT: Final = 300
"""Characters of an audit record's rule, and of its session id."""
LINGER: Final = 0.25
"""Seconds that pieces of text are collected before they are written; so much of a turn is lost with the process."""

_OVERHEAD: Final = 128


class Recorder:
    """Takes what is to be written down.

    Attributes:
        audits: Writes into the audit log; None if there is none.
        entries: Writes into the transcript; None if there is none.
    """

    def __init__(self) -> None:
        self.audits: Appender[AuditRecord] | None = None
        self.entries: Appender[_Draft] | None = None

    @property
    def audit_failures(self) -> int:
        """Writes into the audit log that failed or exceeded their deadline."""
        return 0 if self.audits is None else self.audits.failures

    @property
    def transcript_failures(self) -> int:
        """Writes into the transcript that did."""
        return 0 if self.entries is None else self.entries.failures

    def audit(self, event: AuditEvent, owner: Owner, instrument: Instrument | None, now: float) -> None:
        """Record a decision at a wall-clock time, and tell the instrument, if there is one."""
        told = attrs.asdict(event)
        title = told.pop("title")
        for name in ("rule", "session_id"):  # an agent may call anything a session id
            told[name] = told[name] and told[name][:MAX_TEXT]
        record = AuditRecord(id=uuid.uuid4().hex, time=now, owner=owner, title_sha256=sha256_of(title), **told)
        if self.audits is not None:
            self.audits.add(record)
        if instrument is not None:
            try:
                instrument.audit(record)
            except Exception:  # noqa: BLE001 - an instrument only listens
                _log.exception("the instrument failed on an audit record")

    def begin(self, turn: TurnState, wall_clock: Callable[[], float]) -> None:
        """Have a turn written down from its prompt on, if there is a transcript."""
        if self.entries is not None:
            turn.record = TurnRecord(self.entries, turn, wall_clock)


@attrs.define(eq=False)
class _Draft:
    """An entry that may still grow: agents send a text in pieces, and one row for each would be many."""

    session: str
    turn: str
    seq: int
    time: float
    kind: EntryKind
    what: Event | dict[str, Any]
    more: list[str] = attrs.field(factory=list)
    closed: bool = False

    def entry(self) -> TranscriptEntry:
        """Return it as it is now; from now on it stays so."""
        self.closed = True
        body = dict(self.what) if isinstance(self.what, dict) else event_value(self.what)
        if self.more:
            body["text"] += "".join(self.more)
        return TranscriptEntry(
            session=self.session, turn=self.turn, seq=self.seq, time=self.time, kind=self.kind, body=body
        )


class TurnRecord:
    """One turn, as it goes into the transcript."""

    def __init__(self, entries: Appender[_Draft], turn: TurnState, wall_clock: Callable[[], float]) -> None:
        self._entries = entries
        self._session, self._turn = turn.key, turn.id
        self._wall_clock = wall_clock
        self._seq = 0
        self._last: _Draft | None = None
        self._missing = 0
        self._ended = False
        prompt = prompt_value(turn.prompt)
        # Without its beginning nothing of a turn is kept.
        self._kept = self._add("prompt", prompt, len(prompt["text"]))

    def saw(self, event: Event, size: int) -> None:
        """Write down an event of so many characters; a piece of text goes on where the last one ended."""
        if not self._kept:
            return
        last = self._last
        if (
            last is not None
            and not last.closed
            and isinstance(event, TextDelta | Thought)
            and type(event) is type(last.what)
            and event.message_id == last.what.message_id
            and self._entries.grow(len(event.text))
        ):
            last.more.append(event.text)
        else:
            self._add("event", event, size)

    def settle(self, outcome: Outcome) -> None:
        """Write down how the turn ended, and how much of it is not there; the first call counts."""
        if self._kept and not self._ended:
            self._ended = True
            missing = {"missing_events": self._missing} if self._missing else {}
            self._add("outcome", outcome_value(outcome) | missing, 0)

    def _add(self, kind: EntryKind, what: Event | dict[str, Any], size: int) -> bool:
        draft = _Draft(self._session, self._turn, self._seq, self._wall_clock(), kind, what)
        # Prompts and outcomes are few, and without them the rest says nothing.
        taken = self._entries.add(draft, size + _OVERHEAD, first=kind != "event")
        self._seq += taken
        self._missing += not taken
        self._last = draft if taken else None
        return taken


@asynccontextmanager
async def recording(
    audit: AuditLog | None, transcript: Transcript | None, *, patience: float
) -> AsyncIterator[Recorder]:
    """Write down what the recorder is given, for the time of the block.

    Leaving, also if cancelled, takes at most `patience` seconds for what is not
    written yet, and then what the two need to finish a write.
    """
    recorder = Recorder()
    if audit is None and transcript is None:
        yield recorder
        return
    appenders: list[Appender[Any]] = []
    async with AsyncExitStack() as stack:
        if audit is not None:
            log = await stack.enter_async_context(audit)
            recorder.audits = Appender("audit log", log.append, patience=patience, most=MAX_AUDITED)
            appenders.append(recorder.audits)
        if transcript is not None:
            kept = await stack.enter_async_context(transcript)

            async def write(drafts: Sequence[_Draft]) -> None:
                await kept.append([draft.entry() for draft in drafts])

            recorder.entries = Appender("transcript", write, patience=patience, most=MAX_RECORDED, linger=LINGER)
            appenders.append(recorder.entries)
        nursery = await stack.enter_async_context(ServiceScope("records"))
        for appender in appenders:
            nursery.start_soon(appender.run, name="trio_acp records")
        try:
            yield recorder
        finally:
            with shielded(patience):
                for appender in appenders:
                    appender.finish()
                for appender in appenders:
                    await appender.finished()
            for appender in appenders:
                appender.give_up()
