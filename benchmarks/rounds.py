"""Runs the sides, one after the other, round after round; keeps every value, and takes the medians."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .sides import Side
    from .sizes import Sizes

ROOT: Final = Path(__file__).parents[1]

LIMIT: Final = 600.0
"""Seconds for one side in one round."""


@dataclass
class Results:
    """What came out.

    Attributes:
        values: The values of every round, by table, side and measure.
        about: The versions of each side.
        absent: Who was not measured, or not to the end, and why.
    """

    values: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, side: Side, told: dict[str, dict[str, float]]) -> None:
        """Take up what a side told of a round."""
        column = self.values.setdefault(side.table, {}).setdefault(side.name, {})
        for name, value in told["found"].items():
            column.setdefault(name, []).append(value)

    def median(self, table: str, side: str, measure: str) -> float | None:
        """Return a value; None if there is none, or the side failed at it."""
        values = self.values.get(table, {}).get(side, {}).get(measure)
        return statistics.median(values) if values and not any(map(math.isnan, values)) else None

    def failed(self, table: str, side: str, measure: str) -> bool:
        """Whether a side could not do it, at least once."""
        return any(map(math.isnan, self.values.get(table, {}).get(side, {}).get(measure, ())))


@contextmanager
def agent() -> Iterator[str]:
    """Have the scripted agent for the block; give its address as JSON, with TLS if trustme is there."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        certificate, authority = [], Path(directory) / "authority.pem"
        if find_spec("trustme"):
            import trustme

            signer = trustme.CA()
            issued = signer.issue_cert("127.0.0.1")
            signer.cert_pem.write_to_path(str(authority))
            chain, key = Path(directory) / "certificate.pem", Path(directory) / "key.pem"
            issued.cert_chain_pems[0].write_to_path(str(chain))
            issued.private_key_pem.write_to_path(str(key))
            certificate = [str(chain), str(key)]
        command = [sys.executable, "-m", "benchmarks.wire.agent", *certificate]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                ports = json.loads(process.stdout.readline())
                address = {"plain": f"ws://127.0.0.1:{ports['ws']}/acp"}
                if "wss" in ports:
                    address |= {"secure": f"wss://127.0.0.1:{ports['wss']}/acp", "authority": str(authority)}
                yield json.dumps(address)
            finally:
                process.stdin.close()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()


def run(side: Side, sizes: Sizes, address: str) -> dict[str, dict[str, float]]:
    """Run a side once.

    Raises:
        RuntimeError: it failed; the message has its last words.
    """
    with tempfile.TemporaryDirectory(prefix="bench-home-") as home:
        environment = os.environ | {"HOME": home}  # what a peer writes at home is not for keeps
        try:
            done = subprocess.run(
                side.command(sizes.dump(), address),
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"it took more than {LIMIT:g} seconds") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"about"')]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-1000:]}")
    told: dict[str, dict[str, float]] = json.loads(lines[-1])
    return told


def run_all(sides: list[Side], sizes: Sizes, progress: Callable[[str], object]) -> Results:
    """Run all sides in turn, round after round.  One that fails is left out from then on, and named."""
    results = Results()
    with agent() as address:
        for number in range(1, sizes.rounds + 1):
            for side in sides:
                if side.name in results.absent:
                    continue
                progress(f"round {number} of {sizes.rounds}: {side.name}, {side.table.lower()}")
                try:
                    told = run(side, sizes, address)
                except RuntimeError as error:
                    results.absent[side.name] = str(error)
                    continue
                results.add(side, told)
                results.about[f"{side.name}, {side.table.lower()}"] = str(told["about"])
    return results
