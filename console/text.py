"""How the console writes values: amounts, counts and durations for people, JSON for programs."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, cast

SMALLEST_SHOWN = Decimal("0.000001")
_MONEY = re.compile(r"(?:^|_)(?:cost|budget|saved|saving|spent|reserved|price|usd)(?:_|$)")
"""Names of amounts in JSON. `costs_reported` and `hits_priced` are counts."""
NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
"""What Athena calls that which Python calls otherwise."""


def harmless(text: str) -> str:
    """`text` without what a terminal would obey, such as escape sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def plain(value: Decimal) -> str:
    """A number with all its digits, without zeros behind them and without an exponent."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usd(amount: Decimal | None) -> str:
    """An amount to a millionth of a dollar; what is smaller is shown as smaller, not as nothing."""
    if amount is None:
        return "unpriced"
    return "<0.000001" if 0 < amount < SMALLEST_SHOWN else f"{amount:.6f}"


def seconds(duration: Decimal | None) -> str:
    """A duration to a millisecond."""
    return "-" if duration is None else f"{duration:.3f}"


def count(number: int | Decimal) -> str:
    """A count with thousands separated."""
    return f"{int(number):,}"


def to_json(value: Any) -> str:
    """JSON with money as text, so that it stays exact, and other numbers as numbers.

    What a terminal would obey is escaped. JSON has no number for NaN and infinity, so these are text too.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    return "\n".join(line if line.isprintable() else _escaped(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    return "".join(character if character.isprintable() else json.dumps(character)[1:-1] for character in line)


def _plain(value: Any, *, is_money: bool = False) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: _plain(item, is_money=is_money or bool(_MONEY.search(key))) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_plain(item, is_money=is_money) for item in cast("list[Any]", value)]
    if isinstance(value, (float, Decimal)) and not isfinite(value):
        return NOT_FINITE[str(float(value))]
    if isinstance(value, Decimal):
        if is_money:
            return plain(value)
        return int(value) if value == value.to_integral_value() else float(value)
    return value
