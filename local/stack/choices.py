"""What a person chooses for the local stack by a variable: a switch, or parameters of the template.

Its one rule: what is not understood is refused, because a mistyped setting would run another stack than is meant.
"""

import argparse
import difflib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

_OFF = {"AUTHORIZATION": ("off", "on"), "ISSUER": ("off", "on"), "KEEP_STATE": ("0", "1")}
"""Variables that are switches, with what stands for off and for on."""


def switch(name: str, environ: Mapping[str, str], run: argparse.ArgumentParser) -> bool | None:
    """Whether a switch is on; None where nobody says. Ends the process for anything else."""
    if not (value := environ.get(name, "")):
        return None
    off, on = _OFF[name]
    if value not in (off, on):
        run.error(f"{name}={value} is neither {on} nor {off}")
    return value == on


def parameters(text: str, template: Path, run: argparse.ArgumentParser) -> dict[str, str]:
    """Parameters of the template, written NAME=VALUE. Ends the process for one that it does not have."""
    section = template.read_text(encoding="utf-8").partition("\nParameters:\n")[2]
    known = re.findall(r"^  (\w+):", re.split(r"^\w", section, maxsplit=1, flags=re.MULTILINE)[0], re.MULTILINE)
    found: dict[str, str] = {}
    for name, equals, value in (pair.partition("=") for pair in shlex.split(text)):
        if not (name.isalnum() and equals):
            run.error(f"PARAMETERS: write NAME=VALUE, not {name!r}")
        if name not in known:
            alike = difflib.get_close_matches(name, known, 1)
            run.error(f"PARAMETERS: the template has no parameter {name}" + (f"; perhaps {alike[0]}" if alike else ""))
        found[name] = value
    return found
