"""Where session metadata is kept: in memory, or in an SQLite file that survives the process."""

from __future__ import annotations

from .memory import MemoryStore
from .sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore"]
