"""The browser that shows pages as people see them, if there is one, and how wide their windows are."""

from __future__ import annotations

import shutil
from typing import Final

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS: Final = {"phone": 375, "desktop": 1280}


def find_browser() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)
