"""The error of a command that cannot do what a person asked for."""

import errno
import os
from pathlib import Path
from typing import Literal


class ConsoleError(Exception):
    """The command failed. The message says what is wrong and what to do about it."""


def file_error(file: Path, error: Exception, done: Literal["read", "written"]) -> ConsoleError:
    """The error of a file that cannot be read or written."""
    reason = getattr(error, "strerror", None) or error
    may = "is there and may be read" if done == "read" else "lies in a folder that you may write to"
    return ConsoleError(f"{file}: cannot be {done} ({reason}). Remedy: name one that {may}.")


def no_file(file: Path) -> ConsoleError:
    """The error of a file that is named and is not there."""
    return file_error(file, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "read")
