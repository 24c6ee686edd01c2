"""Where this machine's Chromium is, or a browser of its kind."""

import os
import shutil

_COMMANDS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def find_chromium() -> str | None:
    """The command that starts it: the one named in CHROMIUM, else the first that is installed, else None."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _COMMANDS)), None)
