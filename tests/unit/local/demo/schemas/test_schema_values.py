"""Values for schemas: whatever is answered is valid, as jsonschema says."""

from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from local.demo.replies import RefusedError
from local.demo.schemas.values import value_for

TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value", "children"],
}
CHAIN = {
    "$defs": {
        "link": {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]}},
            "required": ["next"],
        }
    },
    "$ref": "#/$defs/link",
}

UNIQUE = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

SATISFIABLE: list[Any] = [
    True,
    {},
    {"type": "object"},
    {"const": {"a": 1}},
    {"enum": ["celsius", "fahrenheit"]},
    {"type": ["null", "string"]},
    {"type": "string", "minLength": 9},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "number", "exclusiveMinimum": 0.25, "exclusiveMaximum": 0.5},
    {"type": "number", "maximum": -3},
    {"type": "number", "multipleOf": 0.1, "minimum": 0.15},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 3},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
    {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "maxItems": 0},
    {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "null"}}, "required": ["a"]}]},
    {"properties": {"a": {"anyOf": [{"type": "number"}]}}, "required": ["a"], "additionalProperties": False},
    TREE,
    CHAIN,
    {"type": "string", "pattern": "^unheard of$"},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    {"type": "string", "pattern": "^[a-z]+$", "minLength": 12, "maxLength": 14},
    {"type": "string", "enum": [1, "a"]},
    {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"type": "string", "maxLength": 3}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"type": "string", "pattern": "^a+$"}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 6}, "uniqueItems": True, "minItems": 4},
    {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2},
    {"type": "array", "items": UNIQUE, "uniqueItems": True, "minItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    {"anyOf": [{"type": "string", "minLength": 5, "maxLength": 2}, {"type": "integer"}]},
    {"definitions": {"A b": {"type": "integer"}}, "properties": {"a": {"$ref": "#/definitions/A%20b"}}},
    {"type": "object", "properties": {"a": {"type": "string"}}, "dependentRequired": {"a": ["a"]}},
]


@pytest.mark.parametrize("schema", SATISFIABLE, ids=str)
def test_value_satisfies_its_schema(schema: Any):
    jsonschema.validate(value_for(schema), schema)


UNSATISFIABLE: list[Any] = [
    False,
    {"type": "string", "pattern": "^(?=x)y$"},
    {"type": "string", "pattern": "("},
    {"type": "string", "format": "date", "maxLength": 3},
    {"type": "integer", "minimum": 0.2, "maximum": 0.8},
    {"type": "array", "items": {"type": "null"}, "uniqueItems": True, "minItems": 2},
    {"type": "array", "minItems": 1, "maxItems": 0},
    {"type": "array", "contains": {"const": 7}},
    {"type": "string", "not": {"const": "example"}},
    {"type": "integer", "enum": ["a"]},
    {"type": "object", "minProperties": 1, "additionalProperties": False},
    {"type": "nonsense"},
    {"$ref": "#/nowhere"},
    {"$ref": "https://example.com/schema"},
    {"$ref": "#"},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
]


@pytest.mark.parametrize("schema", UNSATISFIABLE, ids=str)
def test_what_cannot_be_satisfied_is_refused(schema: Any):
    with pytest.raises(RefusedError) as refused:
        value_for(schema)
    assert refused.value.status == 400


numbers = st.integers(-20, 20) | st.sampled_from([-2.5, -0.1, 0.1, 0.3, 7.75])
scalars = st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"enum": [3, "x"]}, {"const": None}])
strings = st.fixed_dictionaries(
    {"type": st.just("string")}, optional={"minLength": st.integers(0, 30), "maxLength": st.integers(0, 30)}
)
numeric = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={
        "minimum": numbers,
        "maximum": numbers,
        "exclusiveMinimum": numbers,
        "exclusiveMaximum": numbers,
        "multipleOf": st.integers(1, 9),
    },
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "c"])
    objects: st.SearchStrategy[Any] = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, inner)},
        optional={"required": st.lists(names, unique=True)},
    )
    arrays: st.SearchStrategy[Any] = st.fixed_dictionaries(
        {"type": st.just("array"), "items": inner},
        optional={"minItems": st.integers(0, 3), "maxItems": st.integers(0, 3)},
    )
    return objects | arrays | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)})


@settings(deadline=None)
@given(st.recursive(scalars | strings | numeric, _larger, max_leaves=8))
def test_value_is_valid_whenever_there_is_one(schema: Any):
    try:
        value = value_for(schema)
    except RefusedError:
        assume(False)
    else:
        jsonschema.validate(value, schema)
