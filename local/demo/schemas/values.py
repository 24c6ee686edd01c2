"""Makes JSON values that satisfy a JSON Schema: the arguments of tools, and structured answers. Pure.

It reads what OpenAI's structured outputs know of JSON Schema, and answers with a small value. Its one rule: a schema
that it cannot satisfy is refused, never answered wrong.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import islice
from typing import Any
from urllib.parse import unquote

from local.demo.replies import RefusedError, list_of, object_of
from local.demo.schemas.texts import PLAIN, matching, text_for, unsatisfiable

_DEEPEST = 32
_MOST_VALUES = 5000
"""Values that are tried for one schema, those of alternatives that fail included."""
_SHALLOW = 4
"""Down to this depth lists have an entry; below it they are as short as they may be, so that recursion ends."""


def value_for(schema: Any) -> Any:
    """A value that satisfies `schema`. Raises RefusedError (400) when none is found."""
    made = _Values(schema).value(schema, 0)
    if not _satisfies(made, schema):  # it has a keyword that this module does not know, such as `not`
        raise unsatisfiable(schema)
    return made


def _satisfies(value: Any, schema: Any) -> bool:
    # It is imported here because it takes as long to load as the rest of the demo server.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.exceptions import UnknownType  # noqa: PLC0415
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        kind: Any = validator_for(schema, default=Draft202012Validator)
        return kind(schema).is_valid(value)
    except (UnknownType, Unresolvable, re.error):
        return False


class _Values:
    """Makes values for one schema document; `$ref` points into it."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = _MOST_VALUES

    def value(self, schema: Any, depth: int, name: str = "") -> Any:
        """A value for the property `name`, or for what has no name."""
        self._left -= 1
        if schema is False or depth > _DEEPEST or self._left < 0:
            raise unsatisfiable(schema)
        fields = self._resolved(object_of(schema))
        if alternatives := fields.get("anyOf") or fields.get("oneOf"):
            rest = {name: value for name, value in fields.items() if name not in ("anyOf", "oneOf")}
            for each in self._in_turn(alternatives, depth):
                with contextlib.suppress(RefusedError):
                    return self.value(_merged(rest, object_of(each)), depth + 1, name)
            raise unsatisfiable(schema)
        if "const" in fields:
            return fields["const"]
        if "enum" in fields:
            return _of_enum(fields)[0]
        kind = _type_of(fields)
        if kind in ("object", "array"):
            return self._object(fields, depth) if kind == "object" else self._array(fields, depth)
        if kind in ("integer", "number"):
            number = _number(fields, whole=kind == "integer")
            return int(number) if number.denominator == 1 else float(number)
        return text_for(fields, name) if kind == "string" else {"boolean": True, "null": None}.get(kind, PLAIN)

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """`schema` with what it refers to, and all of `allOf`."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                rest = {name: value for name, value in schema.items() if name != "$ref"}
                schema = _merged(self._referred(schema["$ref"]), rest)
            elif schema.get("allOf"):
                first, *others = schema["allOf"]
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                schema = _merged(object_of(first), rest | ({"allOf": others} if others else {}))
            else:
                return schema
        raise unsatisfiable(schema)

    @staticmethod
    def _in_turn(alternatives: list[Any], depth: int) -> list[Any]:
        """The alternatives; deep inside a recursive schema those first that need no further values."""
        if depth <= _SHALLOW:
            return alternatives
        return sorted(alternatives, key=lambda each: "$ref" in each or "items" in each or "properties" in each)

    def _referred(self, reference: str) -> Mapping[str, Any]:
        found = self._root
        for name in unquote(reference).removeprefix("#").split("/")[1:]:
            found = object_of(found).get(name.replace("~1", "/").replace("~0", "~"))
        if not reference.startswith("#") or not isinstance(found, dict):
            raise RefusedError(400, f"The schema refers to '{reference[:200]}', which it does not contain.", "schema")
        return object_of(found)

    def _object(self, fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties, required = object_of(fields.get("properties")), fields.get("required") or ()
        made: dict[str, Any] = {}
        for name in dict.fromkeys([*properties, *required]):
            if name in required:
                made[name] = self.value(properties.get(name, {}), depth + 1, name)
            elif depth <= _SHALLOW:  # optional ones too, so that an answer shows what it may have
                with contextlib.suppress(RefusedError):
                    made[name] = self.value(properties[name], depth + 1, name)
        for number in range(int(fields.get("minProperties", 0)) - len(made)):
            made[f"{PLAIN}_{number + 1}"] = self.value(fields.get("additionalProperties", {}), depth + 1)
        return made

    def _array(self, fields: Mapping[str, Any], depth: int) -> list[Any]:
        entries: list[Any] = list(fields.get("prefixItems") or ())
        fewest, most = int(fields.get("minItems", 0)), fields.get("maxItems", math.inf)
        rest = fields.get("items", {})
        wanted = fewest if rest is False or depth > _SHALLOW else max(fewest, 1)
        if fewest > most:
            raise unsatisfiable(fields)
        count = int(min(max(wanted, len(entries)), most))
        values = [self.value(each, depth + 1) for each in entries[:count]]
        while len(values) < count:
            values.append(self.value(rest, depth + 1))
            if fields.get("uniqueItems") and values[-1] in values[:-1]:
                values[-1] = self._another(rest, values, depth)
        return values

    def _another(self, schema: Any, taken: list[Any], depth: int) -> Any:
        """A value that is not among those that are `taken`."""
        fields = self._resolved(object_of(schema))
        last = taken[-1]
        if "enum" in fields:
            candidates: list[Any] = _of_enum(fields)
        elif isinstance(last, bool):
            candidates = [not last]
        elif isinstance(last, int | float):
            step = fields.get("multipleOf", 1)
            candidates = [last + step * number for number in range(-len(taken), len(taken) + 1)]
        elif isinstance(last, str) and "pattern" in fields:
            candidates = list(islice(matching(fields), len(taken) + 1))
        elif isinstance(last, str):
            candidates = [
                f"{last[: int(fields.get('maxLength', len(last) + 9)) - 2]}{number}" for number in range(10, 99)
            ]
        elif isinstance(last, dict):
            fields_of_last = object_of(last)
            candidates = [
                {
                    **fields_of_last,
                    name: self._another(fields["properties"][name], [each[name] for each in taken], depth + 1),
                }
                for name in fields.get("required", ())
                if depth < _SHALLOW
            ][:1]
        else:
            candidates = []
        for each in candidates:
            if each not in taken and _satisfies(each, {**fields, "$defs": object_of(self._root).get("$defs", {})}):
                return each
        raise unsatisfiable(schema)


def _type_of(fields: Mapping[str, Any]) -> str:
    named = fields.get("type")
    if isinstance(named, list):
        return next((each for each in list_of(named) if each != "null"), "null")
    return named or ("object" if "properties" in fields else "any")


def _of_enum(fields: Mapping[str, Any]) -> list[Any]:
    """The values of `enum` that have the right type, as far as there is one."""
    kinds = fields.get("type")
    if kinds is None:
        return fields["enum"]
    found = [each for each in fields["enum"] if _satisfies(each, {"type": kinds})]
    if not found:
        raise unsatisfiable(fields)
    return found


def _number(fields: Mapping[str, Any], *, whole: bool) -> Fraction:
    for candidate in _candidates(fields):
        if _fits(candidate, fields) and (not whole or candidate.denominator == 1):
            return candidate
    raise unsatisfiable(fields)


def _candidates(fields: Mapping[str, Any]) -> Iterator[Fraction]:
    """Small numbers, then those beside the limits that a schema sets, and their middle."""
    yield from (Fraction(1), Fraction(0))
    bounds = [_exact(fields[name]) for name in (*_LOWER, *_UPPER) if _is_number(fields.get(name))]
    step = _exact(fields.get("multipleOf", 1))
    for bound in bounds:
        multiple = math.floor(bound / step) * step
        yield from (bound, Fraction(math.floor(bound)), Fraction(math.ceil(bound)))
        yield from (multiple, multiple - step, multiple + step)
    yield step
    if bounds:
        yield (min(bounds) + max(bounds)) / 2


_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")


def _fits(number: Fraction, fields: Mapping[str, Any]) -> bool:
    limit = {name: _exact(fields[name]) for name in (*_LOWER, *_UPPER, "multipleOf") if _is_number(fields.get(name))}
    return (
        limit.get("minimum", number) <= number <= limit.get("maximum", number)
        and ("exclusiveMinimum" not in limit or number > limit["exclusiveMinimum"])
        and ("exclusiveMaximum" not in limit or number < limit["exclusiveMaximum"])
        and ("multipleOf" not in limit or number % limit["multipleOf"] == 0)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _exact(number: float) -> Fraction:
    """The number that the digits of the schema say: 0.1 is a tenth, not the nearest float."""
    return Fraction(repr(number))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Both schemas in one; where both speak, the other wins."""
    merged = {**one, **other}
    if "properties" in one and "properties" in other:
        merged["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        merged["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return merged
