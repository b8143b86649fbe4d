"""Where sessions, tasks, audit records and transcripts are kept: in memory, or in an SQLite file that survives."""

from __future__ import annotations

from .memory import MemoryStore
from .memory_audit import MemoryAudit
from .memory_ledger import MemoryLedger
from .sqlite import SQLiteStore
from .sqlite_audit import SQLiteAudit
from .sqlite_ledger import SQLiteLedger
from .sqlite_transcript import SQLiteTranscript

__all__ = [
    "MemoryAudit",
    "MemoryLedger",
    "MemoryStore",
    "SQLiteAudit",
    "SQLiteLedger",
    "SQLiteStore",
    "SQLiteTranscript",
]
