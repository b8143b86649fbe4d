"""Takes pictures of what people look at, so that somebody does: ``python -m tests.pictures [DIRECTORY]``.

A timeline of real runs is rendered in headless Chromium, as wide as a phone
and as a desktop, and a chat on terminals of 40 and of 80 columns, all of them
light and dark.  Each picture is checked for one thing only, that it is not
blank; the rest is for eyes.  Without Chromium it says so, and
ends well.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import Final

import trio

from tests.browser import BROWSERS, WIDTHS, find_browser
from tests.readme_picture import converse, draw
from tests.trace_kit import write_demo

COLUMNS: Final = (40, 80)
HEIGHT: Final = 1900
_FRAME: Final = (
    '<!doctype html><body style="margin:0"><iframe src="{page}" style="width:{width}px;height:{height}px;border:0">'
)


def take(browser: str, page: Path, picture: Path, width: int, *, dark: bool) -> None:
    """Take a picture of a page."""
    with tempfile.TemporaryDirectory() as profile:
        # No window is as narrow as a phone, but a frame in it can be.
        frame = Path(profile) / "frame.html"
        frame.write_text(_FRAME.format(page=page.as_uri(), width=width, height=HEIGHT), "utf-8")
        scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",  # the page is ours, and build machines run as root
                "--disable-gpu",
                "--hide-scrollbars",
                *scheme,
                f"--user-data-dir={profile}",
                f"--window-size={max(width, 500)},{HEIGHT}",
                f"--screenshot={picture}",
                frame.as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=120,
        )


def different_rows(picture: Path) -> int:
    """Count the rows of pixels of a PNG that differ, in the form that it keeps them: a blank picture has hardly any."""
    data = picture.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    packed, at = b"", 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    pixels = zlib.decompress(packed)
    row = len(pixels) // HEIGHT
    return len({pixels[n : n + row] for n in range(0, len(pixels), row)})


def main(argv: list[str]) -> int:
    """Take all pictures; return 1 if one of them is blank."""
    browser = find_browser()
    if browser is None:
        print(f"Skipped: none of {', '.join(BROWSERS)} is installed, so there is nothing to take pictures with.")
        return 0
    directory = Path(argv[0] if argv else ".trio-acp/pictures").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    trace, page = directory / "timeline.jsonl", directory / "timeline.html"
    write_demo(trace)
    subprocess.run([sys.executable, "-m", "trio_acp", "timeline", str(trace), "--html", str(page)], check=True)
    pages = [(f"timeline-{name}", page, width) for name, width in WIDTHS.items()]
    for columns in COLUMNS:
        chat = directory / f"chat-{columns}.svg"
        with tempfile.TemporaryDirectory() as home:
            chat.write_text(draw(trio.run(partial(converse, Path(home), columns=columns, asked=True))), "utf-8")
        pages.append((chat.stem, chat, WIDTHS["desktop"]))
    blank = []
    for name, shown, width in pages:
        for dark in (False, True):
            picture = directory / f"{name}-{'dark' if dark else 'light'}.png"
            take(browser, shown, picture, width, dark=dark)
            if different_rows(picture) < 50:
                blank.append(picture)
            print(f"Took {picture}")
    for picture in blank:
        print(f"{picture} is blank", file=sys.stderr)
    return 1 if blank else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
