"""The faults file: which calls to AWS go wrong, how, how many of them, and when.

    - call: dynamodb:UpdateItem     # as IAM writes it; * stands for anything
      resource: LimitsTable         # part of the name of the table, function, bucket, secret or bus; all by default
      of: proxy                     # or functions: who calls; both by default
      fault: late                   # what happens: a name of `FAULTS`
      seconds: 2                    # how late
      share: 0.2                    # of the calls; all by default
      skip: 1                       # so many calls that fit pass first; 0 by default
      times: 3                      # so many calls at most; no bound by default
      from: 10                      # seconds after the stack is ready, or after the file has changed; 0 by default
      for: 60                       # seconds; no bound by default

The first rule that fits a call decides. Until the stack is ready no rule applies. Reading the file is pure; `Faults`
remembers how many calls each rule has met.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import yaml

from local.faults.call import AwsCall

FAULTS: Mapping[str, str] = {
    "slow": "the call waits for `seconds`, then it is executed",
    "late": "the call is executed, and answered after `seconds`",
    "silent": "the call is not executed; nothing comes for `seconds`, then the connection is closed",
    "reset": "the connection is closed before the call is executed",
    "lost": "the call is executed, then the connection is closed without an answer",
    "cut": "the call is executed, and half of its answer comes",
    "drip": "the call is executed, and its answer comes byte by byte, four in a second",
    "empty": "the call is executed, and answered 200 with nothing",
    "object": "the call is executed, and answered 200 with {}",
    "html": "the call is executed, and answered 200 with a web page",
    "throttled": "refused: 400 ThrottlingException",
    "denied": "refused: 400 AccessDeniedException",
    "invalid": "refused: 400 ValidationException",
    "internal": "refused: 500 InternalServerError",
    "unavailable": "refused: 503 ServiceUnavailable",
}
_CALLERS = ("proxy", "functions")
_NAMES = ("call", "resource", "of", "fault", "seconds", "share", "skip", "times", "from", "for")
_LARGEST = 1_000_000.0


class FaultsFileError(Exception):
    """The faults file cannot be used. The message names file, rule, key and remedy."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the file, as the module's docstring tells it. `begin` and `end` are seconds."""

    call: str
    fault: str
    resource: str = ""
    of: str = ""
    seconds: float = 2.0
    share: float = 1.0
    skip: float = 0.0
    times: float = float("inf")
    begin: float = 0.0
    end: float = float("inf")

    def fits(self, call: AwsCall, caller: str, passed: float) -> bool:
        """Whether the rule is meant for a call of `caller`, `passed` seconds after the beginning."""
        return (
            fnmatchcase(call.action.lower(), self.call.lower())
            and self.resource.lower() in call.resource.lower()
            and self.of in ("", caller)
            and self.begin <= passed < self.end
        )


def rules_of(text: str, name: str) -> list[Rule]:
    """The rules in a faults file called `name`. Raises FaultsFileError."""
    try:
        listed: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FaultsFileError(f"{name} is not YAML: {error}") from error
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise FaultsFileError(f"{name} is not a list: begin each rule with '- call: …'")
    return [_rule(fields, f"{name}, rule {number}") for number, fields in enumerate(cast("list[Any]", listed), 1)]


def _rule(fields: Any, where: str) -> Rule:
    if not isinstance(fields, dict):
        raise FaultsFileError(f"{where} is not a mapping: write 'call:' and 'fault:'")
    found = cast("dict[str, Any]", fields)
    for name in found:
        if name not in _NAMES:
            raise FaultsFileError(f"{where}: there is no key '{name}'; the keys are {', '.join(_NAMES)}")
    begin = _number(found, "from", where, 0.0)
    return Rule(
        call=_text(found, "call", where),
        fault=_one_of(found, "fault", where, tuple(FAULTS)),
        resource=str(found.get("resource", "")),
        of=_one_of(found, "of", where, _CALLERS) if "of" in found else "",
        seconds=_number(found, "seconds", where, 2.0),
        share=_number(found, "share", where, 1.0, most=1.0),
        skip=_number(found, "skip", where, 0.0),
        times=_number(found, "times", where, float("inf")),
        begin=begin,
        end=begin + _number(found, "for", where, float("inf")),
    )


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    value = fields.get(name)
    if not value or not isinstance(value, str):
        raise FaultsFileError(f"{where}: '{name}' is missing, or is no text; an example is dynamodb:UpdateItem")
    return value


def _one_of(fields: Mapping[str, Any], name: str, where: str, allowed: tuple[str, ...]) -> str:
    if (value := fields.get(name)) not in allowed:
        raise FaultsFileError(f"{where}: '{name}' is {value!r}; choose one of {', '.join(allowed)}")
    return str(value)


def _number(fields: Mapping[str, Any], name: str, where: str, default: float, most: float = _LARGEST) -> float:
    value = fields.get(name, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 <= value <= most or value == default):
        raise FaultsFileError(f"{where}: '{name}' is {value!r}; write a number from 0 to {most:g}")
    return float(value)


class Faults:
    """The faults of one file, which is read again whenever it has changed.

    If the file cannot be read after a change, the rules stay as they were, and `report` is told why.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float],
        report: Callable[[str], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._path, self._clock, self._report, self._chance = path, clock, report, chance
        self._rules: list[Rule] = rules_of(_text_of(path), path.name)
        self._changed = _stamp(path)
        self._met = [0] * len(self._rules)
        self._began = float("inf")

    def begin(self) -> None:
        """Let the rules hold from now on: until the stack is ready nothing goes wrong."""
        self._began = self._clock()

    def strike(self, call: AwsCall, caller: str) -> Rule | None:
        """The rule by which this call goes wrong, if it does."""
        self._read_again()
        passed = self._clock() - self._began
        for number, rule in enumerate(self._rules):
            if rule.fits(call, caller, passed) and self._met[number] < rule.skip + rule.times:
                if self._chance() >= rule.share:
                    return None
                self._met[number] += 1
                return rule if self._met[number] > rule.skip else None
        return None

    def _read_again(self) -> None:
        changed = _stamp(self._path)
        if changed == self._changed:
            return
        self._changed = changed
        try:
            self._rules = rules_of(_text_of(self._path), self._path.name)
        except FaultsFileError as error:
            self._report(f"The faults stay as they were: {error}")
            return
        self._met = [0] * len(self._rules)
        if self._began < float("inf"):
            self.begin()
        self._report(f"{self._path.name} has changed: {len(self._rules)} rules")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultsFileError(f"{path} cannot be read ({type(error).__name__}): name a YAML file in UTF-8") from error


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
