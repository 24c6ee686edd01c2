"""Reads `guards.yaml`: `guards`, a mapping of names.

Its one rule: a file with any fault is refused whole, with the file, the guard, the key and the remedy.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, get_args

from openai_proxy.guards.rules import HOUR, Act, Counting, Doing, Guard, Hours, Spending
from openai_proxy.identity.values import EntryError, check_names, mapping, texts
from openai_proxy.limits import WEEKDAYS
from openai_proxy.yaml_files import YamlFileError, plain_values, read_text

GUARDS_FILE = "guards.yaml"
MOST_GUARDS = 20
MOST_TIMES = 200
LONGEST_WINDOW = HOUR
LONGEST_ACT = 30 * 86400
LOWERED = ("rpm", "tpm", "parallel")
"""The limits that a guard may lower."""
ACTS = get_args(Act)
_MOST_NAMES = 100
_OF_ALL = ("rule", "act", "limits", "for", "clients")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "repeat": ("times", "within", "models"),
    "refused": ("times", "within", "models", "statuses"),
    "hours": ("times", "within", "models", "days", "from", "to"),
    "spend": ("factor", "at_least"),
}
"""What each rule has beside `_OF_ALL`."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LENGTH = re.compile(r"[1-9][0-9]{0,6}[smhd]")
_WHOLE = re.compile(r"[0-9]{1,10}")
_AMOUNT = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_SECONDS = {"s": 1, "m": 60, "h": HOUR, "d": 86400}
_REMEDY = "write guards: {NAME: {rule: …, act: …, for: 1h}}"


class GuardsFileError(ValueError):
    """The file of guards cannot be used. The message names file, guard, key and remedy."""


def load_guards(path: Path) -> tuple[Guard, ...]:
    """Read and check the file at `path`; none where there is no file, or nothing but comments in it.

    Raises GuardsFileError.
    """
    if not path.exists():
        return ()
    try:
        text = read_text(path)
    except YamlFileError as fault:
        raise GuardsFileError(f"{path}: {fault.problem}. Remedy: {fault.remedy}.") from fault
    return parse_guards(text, str(path))


def parse_guards(text: str, file: str = GUARDS_FILE) -> tuple[Guard, ...]:
    """Check the text of a file of guards. Raises GuardsFileError."""
    place = ""
    try:
        document = plain_values(text)
        if document is None:
            return ()
        given = mapping("", document, _REMEDY)
        check_names(given, ("guards",))
        listed = mapping("guards", given.get("guards"), _REMEDY)
        if len(listed) > MOST_GUARDS:
            raise EntryError("guards", f"more than {MOST_GUARDS} guards", "leave some out")
        found: list[Guard] = []
        for name, value in listed.items():
            place = f" guard '{name[:64]}',"
            found.append(_guard(name, value))
        return tuple(found)
    except YamlFileError as fault:
        key = f" '{fault.name}'" if fault.name else ""
        raise GuardsFileError(f"{file}:{key} {fault.problem}. Remedy: {fault.remedy}.") from fault
    except EntryError as fault:
        where = f"{place} key '{fault.key}'" if fault.key else place.removesuffix(",")
        where = f":{where}" if where else ""
        raise GuardsFileError(f"{file}{where}: {fault.problem}. Remedy: {fault.remedy}.") from fault


def _guard(name: str, value: Any) -> Guard:
    if not _NAME.fullmatch(name):
        raise EntryError("", "no name of a guard", "use 1 to 32 lower-case letters, digits and '-'")
    given = mapping("", value, _REMEDY)
    kind = _one_of(given, "rule", tuple(_KEYS))
    check_names(given, (*_OF_ALL, *_KEYS[kind]))
    rule = _spending(given) if kind == "spend" else _counting(kind, given)
    window = HOUR if isinstance(rule, Spending) else rule.within
    models = _patterns(given, "models")
    if kind == "hours" and models is None:
        raise EntryError("models", "not said", "name the models whose hours these are, such as models: [gpt-5.4*]")
    return Guard(name, rule, _doing(given, window), _patterns(given, "clients"), models)


def _counting(kind: str, given: Mapping[str, Any]) -> Counting:
    within = _length(given, "within", LONGEST_WINDOW, "1m")
    if kind == "hours":
        return Counting("hours", _count(given, "times", 1, default="1"), within, hours=_hours(given))
    times = _count(given, "times", 2)
    if kind == "repeat":
        return Counting("repeat", times, within)
    remedy = "write statuses from 400 to 599, such as statuses: [401, 403]"
    listed = texts("statuses", given.get("statuses", "401"), 20, remedy)
    if not all(_WHOLE.fullmatch(each) and 400 <= int(each) <= 599 for each in listed):
        raise EntryError("statuses", "no statuses of failed answers", remedy)
    return Counting("refused", times, within, frozenset(map(int, listed)))


def _hours(given: Mapping[str, Any]) -> Hours:
    remedy = f"write one or several of {', '.join(WEEKDAYS)}"
    days = texts("days", given.get("days", list(WEEKDAYS)), len(WEEKDAYS), remedy)
    if not set(days) <= set(WEEKDAYS):
        raise EntryError("days", "no days of the week", remedy)
    start, end = (_minute(given, name) for name in ("from", "to"))
    if start == end:
        raise EntryError("to", "the same as `from`", "leave the guard out where every hour is usual")
    return Hours(frozenset(map(WEEKDAYS.index, days)), start, end)


def _minute(given: Mapping[str, Any], name: str) -> int:
    found = _TIME.fullmatch(given[name]) if isinstance(given.get(name), str) else None
    if not found:
        raise EntryError(name, "no time of the day", f'write {name}: "07:00", of UTC')
    return int(found[1]) * 60 + int(found[2])


def _spending(given: Mapping[str, Any]) -> Spending:
    factor = _amount(given, "factor", "10")
    if factor <= 1:
        raise EntryError("factor", "not more than 1", "write factor: 10")
    at_least = _amount(given, "at_least", "5")
    if not at_least:
        raise EntryError("at_least", "nothing", "write the USD in an hour from which it matters, as in at_least: 5")
    return Spending(factor, at_least)


def _doing(given: Mapping[str, Any], window: int) -> Doing:
    act: Any = _one_of(given, "act", ACTS)
    lasts = _length(given, "for", LONGEST_ACT, "1h")
    if lasts % window:
        remedy = "write a multiple of `within`; of the rule spend, of an hour"
        raise EntryError("for", "does not hold whole windows of the rule", remedy)
    if act != "lower":
        if "limits" in given:
            raise EntryError("limits", f"of no use to act: {act}", "write act: lower, or leave it out")
        return Doing(act, lasts, {})
    remedy = f"write at least one of {', '.join(LOWERED)}, as in limits: {{rpm: 5}}"
    limits = mapping("limits", given.get("limits"), remedy)
    check_names(limits, LOWERED)
    return Doing(act, lasts, {name: _count(limits, name, 1, 10**9) for name in LOWERED if name in limits})


def _one_of(given: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = given.get(key)
    if value not in known:
        raise EntryError(key, "not said" if value is None else "not known", f"write one of {', '.join(known)}")
    return str(value)


def _text(given: Mapping[str, Any], key: str, form: re.Pattern[str], remedy: str, default: str = "") -> str:
    value = given.get(key, default)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise EntryError(key, "not said" if key not in given else "not understood", remedy)
    return value


def _count(given: Mapping[str, Any], key: str, least: int, most: int = MOST_TIMES, default: str = "") -> int:
    remedy = f"write a whole number from {least} to {most}"
    value = int(_text(given, key, _WHOLE, remedy, default))
    if not least <= value <= most:
        raise EntryError(key, "too small" if value < least else "too large", remedy)
    return value


def _amount(given: Mapping[str, Any], key: str, example: str) -> Decimal:
    try:
        return Decimal(_text(given, key, _AMOUNT, f"write a plain number, as in {key}: {example}"))
    except InvalidOperation as error:  # pragma: no cover - the form leaves nothing else
        raise EntryError(key, "no number", f"write {key}: {example}") from error


def _length(given: Mapping[str, Any], key: str, longest: int, example: str) -> int:
    remedy = f"write a number of s, m, h or d, as in {key}: {example}"
    length = _text(given, key, _LENGTH, remedy, "1m" if key == "within" else "")
    seconds = int(length[:-1]) * _SECONDS[length[-1]]
    if seconds > longest:
        raise EntryError(key, f"longer than {longest // HOUR} h", remedy)
    return seconds


def _patterns(given: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    if key not in given:
        return None
    remedy = "write names, of which '*' may be the last character, as in [web-*, shop]"
    names = texts(key, given[key], _MOST_NAMES, remedy)
    if any("*" in name[:-1] for name in names):
        raise EntryError(key, "has '*' before the end of a name", remedy)
    return names
