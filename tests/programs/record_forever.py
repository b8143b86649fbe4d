"""Append audit records and transcript entries to a file for ever; print the number of each batch that is committed.

Usage: record_forever.py FILE.  Whoever started it kills it.
"""

from __future__ import annotations

import sys

import trio

from trio_acp import Owner, SQLiteAudit, SQLiteTranscript
from trio_acp._audit import sha256_of
from trio_acp.abc import AuditRecord, TranscriptEntry

OWNER = Owner(pid=1, start_time=2, boot_id="b", manager_id="m")


async def main() -> None:
    """Batch `n` has records ``n.0`` to ``n.2``, and turn `n` with three entries."""
    async with SQLiteAudit(sys.argv[1]) as audit, SQLiteTranscript(sys.argv[1]) as kept:
        for number in range(10_000_000):
            records = [
                AuditRecord(
                    id=f"{number}.{part}",
                    time=1.0,
                    owner=OWNER,
                    event="permission",
                    decision="deny",
                    rule="r",
                    title_sha256=sha256_of(""),
                )
                for part in range(3)
            ]
            entries = [
                TranscriptEntry(
                    session="k", turn=str(number), seq=part, time=1.0, kind="event", body={"text": "x" * 300}
                )
                for part in range(3)
            ]
            await audit.append(records)
            await kept.append(entries)
            print(number, flush=True)


if __name__ == "__main__":
    trio.run(main)
