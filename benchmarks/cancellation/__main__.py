"""``python -m benchmarks.cancellation``: run the seven scenarios, show what came out."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from .page import markdown, text, written
from .sides import SIDES, run_all


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cancellation", description=__doc__)
    parser.add_argument("--only", choices=SIDES, help="run this side only")
    parser.add_argument(
        "--sdk-python", default=sys.executable, metavar="PYTHON", help="an interpreter that has the SDK (default: this)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="also write the tables into this page")
    return parser


def main() -> int:
    """Run everything that was asked for; return the exit code."""
    options = _parser().parse_args()
    pythons = {"sdk": options.sdk_python, "trio_acp": sys.executable}
    if options.only:
        pythons = {options.only: pythons[options.only]}
    elif subprocess.run([options.sdk_python, "-c", "import acp"], capture_output=True, check=False).returncode:
        print("The SDK is not installed: use `nox -s compare`, or --only trio_acp.", file=sys.stderr)
        return 2
    rows = []
    for some in run_all(pythons):
        rows += some
        print(text(some), flush=True)
    libraries = list(dict.fromkeys(row.library for row in rows))
    today = dt.datetime.now(dt.UTC).date().isoformat()
    about = [f"Python {platform.python_version()}; {'; '.join(libraries)}.", f"Run on {today}."]
    if options.json:
        result = {"version": 1, "about": about, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if options.write:
        options.write.write_text(written(options.write.read_text("utf-8"), markdown(rows, about)), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
