"""What the command line writes down of a session besides its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..stores import SQLiteAudit, SQLiteTranscript

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def add_record_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--record``."""
    parser.add_argument("--record", action="store_true", help="keep what is said, for: trio-acp sessions export")


def make_transcript(options: argparse.Namespace, store: Path) -> SQLiteTranscript | None:
    """Return the transcript in the store's file, if ``--record`` was given."""
    return SQLiteTranscript(store) if options.record else None


def make_audit(store: Path) -> SQLiteAudit:
    """Return the audit log in the store's file: sessions that are stored are always audited."""
    return SQLiteAudit(store)
