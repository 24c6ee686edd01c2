"""Where this machine's Chromium is, or a browser of its kind."""

import os
import shutil

_COMMANDS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
"""The shell renders as Chromium does, and has no windows: a page takes it a quarter of the time."""


def find_chromium() -> str | None:
    """The command that starts it: the one named in CHROMIUM, else the first that is installed, else None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _COMMANDS)), None)
