"""Fetches the wheels of a requirement file for Lambda, whatever Python and processor this machine has.

Its one rule: nothing is built here. What has no wheel for the target is refused, and so is what is not the file's hash.
"""

import re
import subprocess
import sys
from pathlib import Path

from deployment.target import Target


class PackagesError(Exception):
    """The packages cannot be fetched, or what came does not fit the target. The message names what and the remedy."""


def pip_command(requirements: Path, into: Path, target: Target) -> list[str]:
    """The command that installs the wheels of the target."""
    platforms = [word for platform in target.platforms for word in ("--platform", platform)]
    return [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-qq"),
        *("--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-compile", "--ignore-installed"),
        *("--implementation", "cp", "--python-version", target.python, *platforms),
        *("--target", str(into), "--requirement", str(requirements)),
    ]


def install(requirements: Path, into: Path, target: Target) -> None:
    """Install the wheels of the target into a folder. Raises PackagesError."""
    if subprocess.run(pip_command(requirements, into, target), check=False).returncode:
        wanted = f"Python {target.python} on {target.architecture}"
        raise PackagesError(
            f"pip could not fetch the packages of {requirements} for {wanted}; it says why above. Remedy: see that "
            "this machine reaches a package index, and that each package has a wheel for it (make requirements)."
        )
    if wrong := misfits(into, target):
        raise PackagesError(
            f"{', '.join(wrong)} would not be loaded by Python {target.python} on {target.architecture}."
        )


def misfits(folder: Path, target: Target) -> list[str]:
    """Compiled modules that the target's Python would not load, by their names."""
    machine = {"arm64": "aarch64", "x86_64": "x86_64"}[target.architecture]
    own = rf"\.cpython-{target.python.replace('.', '')}-{machine}-linux-gnu\.so"
    # Libraries that modules load, such as those in *.libs, carry no tag; wheels of the platform alone bring them.
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.so")
        if re.search(r"\.cpython-|\.pypy", path.name) and not re.search(f"{own}$", path.name)
    )
