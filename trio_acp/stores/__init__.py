"""Where session metadata and tasks are kept: in memory, or in an SQLite file that survives the process."""

from __future__ import annotations

from .memory import MemoryStore
from .memory_ledger import MemoryLedger
from .sqlite import SQLiteStore
from .sqlite_ledger import SQLiteLedger

__all__ = ["MemoryLedger", "MemoryStore", "SQLiteLedger", "SQLiteStore"]
