"""Checks that no page of the built documentation is wider than its window: ``python -m tests.page_widths DIRECTORY``.

Every page is loaded in headless Chromium, in frames as wide as a phone and as
a desktop; what is wide has to scroll in itself.  Without Chromium it says so,
and ends well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path
from typing import Final

from tests.browser import WIDTHS, find_browser

_FRAMES: Final = """<!doctype html><body><pre id="found"></pre><script>
const pages = %s, widths = %s, found = [];
async function measure(page, width) {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 800px; border: 0`;
  frame.src = page;
  const loaded = new Promise(resolve => frame.onload = resolve);
  document.body.append(frame);
  await loaded;
  found.push([page, width, frame.contentDocument.documentElement.scrollWidth]);
  frame.remove();
}
(async () => {
  for (const page of pages) for (const width of widths) await measure(page, width);
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""


def too_wide(browser: str, directory: Path) -> tuple[int, list[str]]:
    """Return how many pages were looked at, and what is to be said of those that are too wide."""
    pages = sorted(path.resolve().as_uri() for path in directory.rglob("*.html"))
    with tempfile.TemporaryDirectory() as profile:
        frames = Path(profile) / "frames.html"
        frames.write_text(_FRAMES % (json.dumps(pages), json.dumps(list(WIDTHS.values()))), "utf-8")
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",  # the pages are ours, and build machines run as root
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--allow-file-access-from-files",
                "--virtual-time-budget=600000",
                "--window-size=1400,1000",
                f"--user-data-dir={profile}",
                "--dump-dom",
                frames.as_uri(),
            ],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    measured = json.loads(unescape(found[1])) if found and found[1] else []
    if len(measured) != len(pages) * len(WIDTHS) or not pages:
        sys.exit(f"{directory}: {len(measured)} of {len(pages)} pages could be measured, {len(WIDTHS)} times each")
    return len(pages), [f"{page}: {wide} pixels in {width}" for page, width, wide in measured if wide > width]


def main(argv: list[str]) -> None:
    """Look at all pages; exit with 1 if one of them is too wide."""
    browser = find_browser()
    if browser is None:
        print("there is no Chromium here: the widths of the pages were not checked")
        return
    count, faults = too_wide(browser, Path(argv[0]))
    if faults:
        sys.exit("\n".join(["these pages are wider than their window:", *faults]))
    print(f"{count} pages fit into {' and '.join(map(str, WIDTHS.values()))} pixels")


if __name__ == "__main__":
    main(sys.argv[1:])
