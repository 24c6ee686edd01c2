"""Builds one UpdateItem of DynamoDB. Pure.

Attributes are written `#name` and values `:name` in expressions; `#name` stands for the attribute `name` unless `names`
says otherwise, so an attribute may have the name of one of DynamoDB's reserved words.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from openai_proxy.dynamodb import to_attribute

Values = Mapping[str, Any]
"""Whole numbers, decimals, texts and maps."""

_NAME = re.compile(r"#(\w+)")


class Update:
    """Collects the parts of one update."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self._parts: dict[str, list[str]] = {"SET": [], "ADD": [], "REMOVE": []}
        self._names: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    @property
    def does_something(self) -> bool:
        """Whether anything would change."""
        return any(self._parts.values())

    def needs(self, condition: str, values: Values | None = None, names: Mapping[str, str] | None = None) -> None:
        """Only if `condition` holds."""
        self._conditions.append(condition)
        self._know(condition, values or {}, names or {})

    def sets(self, assignment: str, values: Values, names: Mapping[str, str] | None = None) -> None:
        """SET one attribute."""
        if assignment not in self._parts["SET"]:
            self._parts["SET"].append(assignment)
        self._know(assignment, values, names or {})

    def adds(self, amounts: Mapping[str, int | Decimal]) -> None:
        """ADD to counters; one that is not there begins with 0."""
        for name, amount in amounts.items():
            self._parts["ADD"].append(f"#{name} :add_{name}")
            self._know(f"#{name}", {f"add_{name}": amount}, {})

    def removes(self, path: str, names: Mapping[str, str] | None = None) -> None:
        """REMOVE one attribute."""
        self._parts["REMOVE"].append(path)
        self._know(path, {}, names or {})

    def _know(self, expression: str, values: Values, names: Mapping[str, str]) -> None:
        self._names |= {f"#{name}": names.get(name, name) for name in _NAME.findall(expression)}
        self._values |= {f":{name}": to_attribute(value) for name, value in values.items()}

    def request(self) -> dict[str, Any]:
        """The parts as the arguments of UpdateItem."""
        expression = " ".join(f"{verb} {', '.join(parts)}" for verb, parts in self._parts.items() if parts)
        found: dict[str, Any] = {"UpdateExpression": expression, "ExpressionAttributeNames": self._names}
        if self._values:
            found["ExpressionAttributeValues"] = self._values
        if self._conditions:
            found["ConditionExpression"] = " AND ".join(self._conditions)
        return found
