"""The README's picture of a chat: it shows what a chat shows today, and needs nothing from elsewhere."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import pyte
import pytest

from tests.readme_picture import PICTURE, ROOT, converse, draw

if TYPE_CHECKING:
    from pathlib import Path

SVG: Final = "{http://www.w3.org/2000/svg}"


def rows_of(picture: str) -> list[str]:
    """Return the rows of text that a picture shows."""
    return ["".join(text.itertext()) for text in ET.fromstring(picture).iter(f"{SVG}text")]  # noqa: S314 - made here


@pytest.mark.skipif(sys.platform != "linux", reason="setsid --ctty is of util-linux")
async def test_the_picture_shows_what_a_chat_shows(tmp_path: Path) -> None:
    """Each row of the picture is seen in a real run, and nothing else is; draw it again with tests.readme_picture."""
    seen = draw(await converse(tmp_path))
    assert rows_of(seen) == rows_of(PICTURE.read_text("utf-8"))


def test_the_picture_is_small_and_needs_nothing_else() -> None:
    """No font, image or script is loaded from anywhere, and the README shows it."""
    text = PICTURE.read_text("utf-8")
    assert len(text) < 40 * 1024
    assert {"svg", "title", "desc", "style", "rect", "circle", "text", "tspan"} == {
        element.tag.removeprefix(SVG)
        for element in ET.fromstring(text).iter()  # noqa: S314 - made here
    }
    assert [] == re.findall(r"href|url\(|@import|@font-face|https?://(?!www\.w3\.org/2000/svg)", text)
    assert PICTURE.relative_to(ROOT).as_posix() in (ROOT / "README.md").read_text("utf-8")


def test_what_is_on_the_screen_is_drawn() -> None:
    """Signs that mean something in XML, colours, and the spaces at the beginning of a row."""
    screen = pyte.Screen(20, 2)
    pyte.Stream(screen).feed("  a<b & \x1b[1;31mred\x1b[0m!")
    picture = draw([[screen.buffer[y][x] for x in range(20)] for y in range(2)])
    assert ["  a<b & red!"] == rows_of(picture)
    assert '<tspan class="red bold">red</tspan>!' in picture
