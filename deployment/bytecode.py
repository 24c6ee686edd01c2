"""Finds a Python of the functions' version, and compiles what is built with it.

Lambda's code folders are read-only: without bytecode in the package every cold start compiles every module anew, and
bytecode of another version is not used.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_ASK = "import sys; print('%d.%d' % sys.version_info[:2])"
_SECONDS = 20


class NoPythonError(Exception):
    """No Python of the version is on this machine. The message names the remedies."""


def python_of(version: str, chosen: str = "") -> str:
    """A Python of `version`, such as 3.13: the chosen one, or one that is found. Raises NoPythonError."""
    if chosen:
        if (found := _version_of(chosen)) != version:
            what = f"is Python {found}" if found else "does not run"
            raise NoPythonError(f"BYTECODE_PYTHON={chosen} {what}. Remedy: name a Python {version}, or none.")
        return chosen
    for candidate in _candidates(version):
        if _version_of(candidate) == version:
            return candidate
    raise NoPythonError(
        f"There is no Python {version} on this machine to compile the functions' bytecode with: each cold start would "
        f"compile every module. Remedy, one of: apt-get install python{version} (or your system's packages); "
        f".venv/bin/uv python install {version}; name one, as in make build BYTECODE_PYTHON=/path/to/python{version}; "
        "or do without, with BYTECODE_PYTHON=none."
    )


def _candidates(version: str) -> Iterator[str]:
    """Where one may be: this one, the PATH, and the folders of pyenv and uv, which are often not on it."""
    yield sys.executable
    if found := shutil.which(f"python{version}"):
        yield found
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or home / ".local/share/uv/python")
    for folder, pattern in ((pyenv, f"{version}.*"), (uv, f"cpython-{version}.*")):
        yield from (str(each / "bin" / f"python{version}") for each in sorted(folder.glob(pattern), reverse=True))


def _version_of(python: str) -> str | None:
    """The version of an interpreter; None for what does not run, such as a shim of pyenv for one that is not chosen."""
    try:
        ran = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None


def compile_in(folder: Path, python: str) -> None:
    """Compile every module below `folder`. It is never checked against its source, which does not change on Lambda."""
    command = [python, "-I", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "."]
    subprocess.run(command, cwd=folder, check=True)
