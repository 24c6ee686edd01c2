"""What is built for: the Python and the architecture of the functions, as the parameters of the stack say. Pure.

Its one rule: what is built is for what is deployed. A layer for another Python is not refused: its compiled modules are
silently not found.
"""

import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "arm64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64"),
    "x86_64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64"),
}
"""What Lambda's Amazon Linux 2023 runs, by architecture."""
OLD_PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "arm64": ("manylinux2014_aarch64",),
    "x86_64": ("manylinux2014_x86_64",),
}
"""What Amazon Linux 2 runs, which python3.11 has."""

_OVERRIDES = "--parameter-overrides"
_WORD = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
_PAIR = re.compile(r"""(?:ParameterKey=)?([A-Za-z0-9]+)(?:,ParameterValue)?=(?:"([^"]*)"|(.*))""")


class Target(NamedTuple):
    """A Python such as 3.13, and arm64 or x86_64."""

    python: str
    architecture: str

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms whose wheels fit, the newest first."""
        is_old = tuple(map(int, self.python.split("."))) < (3, 12)
        return (OLD_PLATFORMS if is_old else PLATFORMS)[self.architecture]

    @property
    def parameters(self) -> list[str]:
        """The stack's parameters that say so."""
        return [f"PythonVersion=python{self.python}", f"Architecture={self.architecture}"]


def target_of(parameters: Mapping[str, str]) -> Target:
    """The target that the stack's parameters name. Raises ValueError, which names the remedy."""
    python, architecture = parameters["PythonVersion"].removeprefix("python"), parameters["Architecture"]
    if not re.fullmatch(r"3\.\d{1,2}", python):
        raise ValueError(f"PythonVersion={python} is no Lambda runtime. Remedy: write it as python3.13.")
    if architecture not in PLATFORMS:
        raise ValueError(f"Architecture={architecture} is none of Lambda's. Remedy: {' or '.join(PLATFORMS)}.")
    return Target(python, architecture)


def overrides_in(arguments: Sequence[str]) -> list[str] | None:
    """The words after `--parameter-overrides`, one for each parameter; None where it is not there."""
    found: list[str] | None = None
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name == _OVERRIDES:
            found, taking = [value] if equals else [], True
        elif argument.startswith("-"):
            taking = False
        elif taking and found is not None:
            found.append(argument)
    return None if found is None else [word for each in found for word in _words(each)]


def without_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments but for `--parameter-overrides` and its words."""
    kept: list[str] = []
    taking = False
    for argument in arguments:
        if argument.partition("=")[0] == _OVERRIDES:
            taking = True
        elif argument.startswith("-") or not taking:
            taking = False
            kept.append(argument)
    return kept


def _words(text: str) -> list[str]:
    """The parameters in a text, which may stand in quotation marks; a value keeps its own."""
    return _WORD.findall(text)


def values_of(words: Sequence[str]) -> dict[str, str]:
    """Parameters by name, of words such as `Stage=prod` or `ParameterKey=Stage,ParameterValue=prod`."""
    found = [match for word in words if (match := _PAIR.fullmatch(word))]
    return {match[1]: match[2] if match[2] is not None else match[3] for match in found}


def overrides_of_samconfig(text: str, environment: str = "default") -> list[str]:
    """The `parameter_overrides` of a samconfig.toml, for `sam deploy` or for every command."""
    document = tomllib.loads(text).get(environment, {})
    for command in ("deploy", "global"):
        given = document.get(command, {}).get("parameters", {}).get("parameter_overrides")
        if isinstance(given, str):
            return _words(given)
        if isinstance(given, list):
            return [str(word) for word in given]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return []


def defaults_of(template: str) -> dict[str, str]:
    """The defaults of the two parameters in the template."""
    found: dict[str, str] = {}
    for name in ("PythonVersion", "Architecture"):
        match = re.search(rf"^  {name}:.*?Default: *([\w.]+)", template, re.MULTILINE | re.DOTALL)
        if not match:
            raise ValueError(f"template.yaml has no default of {name}")
        found[name] = match[1]
    return found


def this_machine(machine: str) -> Target:
    """The target of a build that this Python on this machine can run."""
    architecture = "arm64" if machine in ("arm64", "aarch64") else "x86_64"
    return Target(f"{sys.version_info.major}.{sys.version_info.minor}", architecture)
