"""Values as DynamoDB has them, `{"S": "text"}`, `{"N": "1.5"}`, and as Python has them. Pure.

    text S   bool BOOL   int, float, Decimal N   None NULL   bytes B   list, tuple L   mapping M   set SS, NS, BS

Its one rule: numbers stay exact. They are read as Decimal, to the last digit, and a Decimal is written in plain digits.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast

Item = Mapping[str, Mapping[str, Any]]
"""An item in DynamoDB's JSON."""


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in DynamoDB's JSON."""
    return {name: to_attribute(value) for name, value in values.items()}


def to_attribute(value: Any) -> dict[str, Any]:
    """One value in DynamoDB's JSON. Raises TypeError for what it has no form for, and for an empty set."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return {"N": _digits(value)}
    if isinstance(value, Mapping):
        return {"M": to_item(cast("Mapping[str, Any]", value))}
    if value is None:
        return {"NULL": True}
    if isinstance(value, list | tuple):
        return {"L": [to_attribute(each) for each in cast("list[Any]", value)]}
    return _of_bytes_or_sets(value)


def from_item(item: Mapping[str, Any], number: Callable[[str], Any] = Decimal) -> dict[str, Any]:
    """The inverse of `to_item`. `number` makes numbers of their digits."""
    return {name: from_attribute(attribute, number) for name, attribute in item.items()}


def from_attribute(attribute: Mapping[str, Any], number: Callable[[str], Any] = Decimal) -> Any:
    """The inverse of `to_attribute`. Lists stay lists. B stays as it came: bytes from an SDK, base64 from the wire.

    Raises ValueError, TypeError, AttributeError or ArithmeticError if it is no attribute.
    """
    [(kind, value)] = attribute.items()
    if kind in ("S", "BOOL", "B"):
        return value
    if kind == "N":
        return number(value)
    if kind == "M":
        return from_item(value, number)
    if kind == "L":
        return [from_attribute(each, number) for each in value]
    if kind == "NULL":
        return None
    if kind in ("SS", "BS"):
        return set(value)
    if kind == "NS":
        return {number(each) for each in value}
    raise TypeError(f"{kind!r} is no type of DynamoDB")


def _digits(number: float | Decimal) -> str:
    return f"{number:f}" if isinstance(number, Decimal) else repr(number)


def _of_bytes_or_sets(value: Any) -> dict[str, Any]:
    if isinstance(value, bytes | bytearray):
        return {"B": bytes(value)}
    if isinstance(value, set | frozenset):
        each: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
        if each and all(isinstance(one, str) for one in each):
            return {"SS": sorted(each)}
        if each and all(isinstance(one, bytes) for one in each):
            return {"BS": sorted(each)}
        if each and all(isinstance(one, int | float | Decimal) and not isinstance(one, bool) for one in each):
            return {"NS": [_digits(one) for one in each]}
    raise TypeError("a value that has no form in DynamoDB")
