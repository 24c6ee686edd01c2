"""What OpenAI refuses of a strict schema."""

from typing import Any

import pytest

from local.demo.schemas.strict import strict_fault

GOOD: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "array", "items": {"$ref": "#/$defs/B"}}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"B": {"type": "object", "properties": {}, "required": [], "additionalProperties": False}},
}
OPEN: dict[str, Any] = {"type": "object", "properties": {}}
OPTIONAL: dict[str, Any] = {"type": "object", "properties": {"c": {}}, "required": [], "additionalProperties": False}


def inside(inner: Any) -> Any:
    return GOOD | {"properties": {"a": inner}, "required": ["a"]}


@pytest.mark.parametrize("schema", [GOOD, inside({"anyOf": [{"type": "string"}, {"type": "null"}]}), inside({})])
def test_a_strict_schema_is_taken(schema: Any) -> None:
    assert strict_fault(schema) is None


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "array"}, "schema must be a JSON Schema of 'type: \"object\"', got 'type: \"array\"'."),
        (None, "got 'type: \"None\"'"),
        (OPEN, "In context=(), 'additionalProperties' is required to be supplied and to be false."),
        (OPTIONAL, "In context=(), 'required' is required to be supplied and to be an array including every key"),
        (inside(OPEN), "In context=('properties', 'a'), 'additionalProperties'"),
        (inside({"type": "array", "items": OPTIONAL}), "In context=('properties', 'a', 'items'), 'required'"),
        (inside({"anyOf": [{"type": "null"}, OPEN]}), "In context=('properties', 'a', 'anyOf', '1'), 'additional"),
        (GOOD | {"$defs": {"B": OPEN}}, "In context=('$defs', 'B'), 'additionalProperties'"),
        (inside({"type": ["object", "null"]}), "'additionalProperties'"),
    ],
)
def test_one_that_is_not_strict_is_refused_with_its_place(schema: Any, told: str) -> None:
    assert told in str(strict_fault(schema))


def test_a_missing_name_is_told() -> None:
    assert str(strict_fault(OPTIONAL)).endswith("Missing 'c'.")
