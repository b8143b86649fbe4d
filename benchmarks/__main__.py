"""``python -m benchmarks``: measure trio_acp and its peers side by side, show what came out."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .page import page
from .peers import default_cache, prepare
from .rounds import Results, run_all
from .sides import OURS, sides
from .sizes import FULL, QUICK, TINY, Sizes

_SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        action="store_const",
        dest="size",
        const="quick",
        help="a look, for a minute; two if all peers are in the cache",
    )
    size.add_argument("--tiny", action="store_const", dest="size", const="tiny", help="once through; says nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often the sides take turns")
    parser.add_argument("--only", metavar="TEXT", action="append", help="only sides whose name or table has this text")
    parser.add_argument("--install", action="store_true", help="install peers that are not in the cache")
    parser.add_argument("--cache", type=Path, metavar="DIRECTORY", help=f"where peers are (default: {default_cache()})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every value as JSON")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also write the tables as Markdown")
    parser.set_defaults(size="full")
    return parser


def _as_json(results: Results, sizes: Sizes, today: str) -> str:
    medians = {
        table: {side: {name: results.median(table, side, name) for name in found} for side, found in columns.items()}
        for table, columns in results.values.items()
    }
    whole = {"version": 1, "date": today, "sizes": asdict(sizes), "medians": medians, **asdict(results)}
    return json.dumps(_told(whole), indent=2, allow_nan=False) + "\n"


def _told(value: Any) -> Any:
    """Replace what is no number, where a side failed, by None: JSON has no word for it."""
    if isinstance(value, dict):
        return {key: _told(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_told(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def main() -> int:
    """Measure what was asked for; return the exit code."""
    options = _parser().parse_args()
    sizes = _SIZES[options.size]
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    peers = prepare(options.cache or default_cache(), install=options.install)
    chosen = [
        side
        for side in sides(peers, sizes)
        if not options.only or any(text in f"{side.name} {side.table}".lower() for text in map(str.lower, options.only))
    ]
    results = run_all(chosen, sizes, lambda words: print(words, file=sys.stderr, flush=True))
    results.absent = peers.absent | results.absent
    today = dt.datetime.now(dt.UTC).date().isoformat()
    title = f"Cost beside the peers, {today}, Python {platform.python_version()}, medians of {sizes.rounds} rounds"
    text = page(results, sizes, title)
    print(text)
    if options.json:
        options.json.write_text(_as_json(results, sizes, today), "utf-8")
    if options.write:
        options.write.write_text(text, "utf-8")
    failed = [name for name in results.absent if name.startswith(OURS)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
