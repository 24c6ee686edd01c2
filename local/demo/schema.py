"""Makes JSON values that satisfy a JSON Schema: the arguments of tools, and structured answers. Pure.

It reads what OpenAI's structured outputs know of JSON Schema, and answers with a small value. Its one rule: a schema
that it cannot satisfy is refused, never answered wrong.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from local.demo.replies import RefusedError, list_of, object_of

_DEEPEST = 32
_SHALLOW = 4
"""Down to this depth lists have an entry; below it they are as short as they may be, so that recursion ends."""

_FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PLAUSIBLE = {
    "city": "Paris",
    "country": "France",
    "location": "Paris",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "title": "An example",
    "description": "An example, made up by the demo server.",
    "summary": "An example, made up by the demo server.",
    "language": "en",
    "currency": "EUR",
    "date": "2000-01-01",
    "url": "https://example.com/",
}
"""Texts for properties of these names."""
_PLAIN = "example"
_TEXTS = (
    _PLAIN,
    "Example",
    "EXAMPLE",
    "e",
    "1",
    "0",
    "10",
    "1.0",
    "12345",
    "+15550100",
    "#000000",
    "a1",
    "A-1",
    "ex-1",
)
_TEXTS_FOR_PATTERNS = (*_TEXTS, *_FORMATS.values())


def value_for(schema: Any) -> Any:
    """A value that satisfies `schema`. Raises RefusedError (400) when none is found."""
    return _Values(schema).value(schema, 0)


class _Values:
    """Makes values for one schema document; `$ref` points into it."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def value(self, schema: Any, depth: int, name: str = "") -> Any:
        """A value for the property `name`, or for what has no name."""
        if schema is False or depth > _DEEPEST:
            raise _unsatisfiable(schema)
        fields = self._resolved(object_of(schema), depth)
        if "const" in fields:
            return fields["const"]
        if "enum" in fields:
            return fields["enum"][0]
        kind = _type_of(fields)
        if kind in ("object", "array"):
            return self._object(fields, depth) if kind == "object" else self._array(fields, depth)
        if kind in ("integer", "number"):
            number = _number(fields, whole=kind == "integer")
            return int(number) if number.denominator == 1 else float(number)
        return _text(fields, name) if kind == "string" else {"boolean": True, "null": None}.get(kind, _PLAIN)

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """`schema` with what it refers to, all of `allOf`, and one of its alternatives."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                rest = {name: value for name, value in schema.items() if name != "$ref"}
                schema = _merged(self._referred(schema["$ref"]), rest)
            elif schema.get("allOf"):
                first, *others = schema["allOf"]
                rest = {name: value for name, value in schema.items() if name != "allOf"}
                schema = _merged(object_of(first), rest | ({"allOf": others} if others else {}))
            elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
                rest = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
                schema = _merged(rest, self._alternative(alternatives, depth))
            else:
                return schema
        raise _unsatisfiable(schema)

    @staticmethod
    def _alternative(alternatives: list[Any], depth: int) -> Mapping[str, Any]:
        """The first alternative; deep inside a recursive schema one that needs no further values."""
        plain = [each for each in alternatives if "$ref" not in each and "items" not in each]
        return object_of((plain if depth > _SHALLOW and plain else alternatives)[0])

    def _referred(self, reference: str) -> Mapping[str, Any]:
        found = self._root
        for name in reference.removeprefix("#").split("/")[1:]:
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
        return made

    def _array(self, fields: Mapping[str, Any], depth: int) -> list[Any]:
        entries: list[Any] = list(fields.get("prefixItems") or ())
        fewest, most = int(fields.get("minItems", 0)), fields.get("maxItems", math.inf)
        rest = fields.get("items", {})
        wanted = fewest if rest is False or depth > _SHALLOW else max(fewest, 1)
        if fewest > most:
            raise _unsatisfiable(fields)
        count = int(min(max(wanted, len(entries)), most))
        values = [self.value(each, depth + 1) for each in entries[:count]]
        if fields.get("uniqueItems") and count > len(values) + 1:
            values += object_of(rest).get("enum", [])[: count - len(values)]
            if len(values) < count:
                raise _unsatisfiable(fields)
        return values + [self.value(rest, depth + 1) for _ in range(count - len(values))]


def _type_of(fields: Mapping[str, Any]) -> str:
    named = fields.get("type")
    if isinstance(named, list):
        return next((each for each in list_of(named) if each != "null"), "null")
    return named or ("object" if "properties" in fields else "any")


def _text(fields: Mapping[str, Any], name: str = "") -> str:
    shortest, longest = int(fields.get("minLength", 0)), fields.get("maxLength", math.inf)
    if "pattern" in fields:
        try:
            pattern = re.compile(fields["pattern"])
        except re.error:
            raise _unsatisfiable(fields) from None
        texts: tuple[str, ...] = tuple(each for each in _TEXTS_FOR_PATTERNS if pattern.search(each))
    elif fields.get("format") in _FORMATS:
        texts = (_FORMATS[fields["format"]],)
    else:
        usual = _PLAUSIBLE.get(name.lower(), _PLAIN)
        texts = (usual, _PLAIN.ljust(shortest, "e"), _PLAIN[: int(min(longest, len(_PLAIN)))])
    found = next((each for each in texts if shortest <= len(each) <= longest), None)
    if found is None:
        raise _unsatisfiable(fields)
    return found


def _number(fields: Mapping[str, Any], *, whole: bool) -> Fraction:
    for candidate in _candidates(fields):
        if _fits(candidate, fields) and (not whole or candidate.denominator == 1):
            return candidate
    raise _unsatisfiable(fields)


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


def _unsatisfiable(schema: Any) -> RefusedError:
    return RefusedError(400, f"The demo server finds no value for the schema {str(schema)[:200]}.", "schema")
