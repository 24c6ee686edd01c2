"""Each event's type and its schema say the same: names, what is required, and the types of JSON."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from openai_proxy.cache import types as cache_types
from openai_proxy.events import types
from openai_proxy.events.envelope import DetailType
from openai_proxy.usage import UsageSource

from tests.schemas import schema_of

DETAIL_TYPES: tuple[DetailType, ...] = get_args(DetailType)
WORDS = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}


def of_type(hint: Any) -> Any:
    """A type, as names of JSON's types: what is allowed, and of objects and arrays what is in them."""
    if is_typeddict(hint):
        fields = get_type_hints(hint, include_extras=True)
        return {"object": {name: (name in hint.__required_keys__, of_type(each)) for name, each in fields.items()}}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return of_type(arguments[0])
    if origin in (Union, UnionType):
        return merged([of_type(each) for each in arguments])
    if origin is Literal:
        return {WORDS[type(each)]: {"enum": set(arguments)} for each in arguments}
    if origin is tuple:
        return {"array": [of_type(each) for each in arguments]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"object": {"*": (False, of_type(arguments[1]))}}
    return {"array": of_type(arguments[0])} if origin else {WORDS[hint]: {}}


def of_schema(part: Any) -> Any:
    """A part of a schema, in the same form."""
    if "enum" in part:
        return {WORDS[type(each)]: {"enum": set(part["enum"])} for each in part["enum"]}
    names = part["type"] if isinstance(part["type"], list) else [part["type"]]
    return merged([one_of_schema(part, name) for name in names])


def one_of_schema(part: Any, name: str) -> Any:
    if name == "object" and "properties" not in part:
        return {"object": {"*": (False, of_schema(part["additionalProperties"]))}}
    if name == "object":
        required, fields = part.get("required", []), part["properties"]
        return {name: {key: (key in required, of_schema(each)) for key, each in fields.items()}}
    if name == "array" and "prefixItems" in part:
        return {name: [of_schema(each) for each in part["prefixItems"]]}
    return {name: of_schema(part["items"]) if name == "array" else {}}


def merged(parts: list[Any]) -> Any:
    return {name: each for part in parts for name, each in part.items()}


def differences(typed: Any, described: Any, path: str = "data") -> list[str]:
    """Where a type and a schema say different things. A type may leave the words of an enum open."""
    if isinstance(typed, list) or isinstance(described, list):
        return [] if typed == described else [f"{path}: {typed} and {described}"]
    if typed.keys() != described.keys():
        return [f"{path}: {sorted(typed)} in the type, {sorted(described)} in the schema"]
    found: list[str] = []
    for name, inner in typed.items():
        other = described[name]
        if name == "object":
            found += differences_of_fields(inner, other, path)
        elif name == "array":
            found += differences(inner, other, f"{path}[]")
        elif inner and inner != other:
            found.append(f"{path}: {inner} in the type, {other} in the schema")
    return found


def differences_of_fields(typed: Any, described: Any, path: str) -> list[str]:
    found = [f"{path}.{name} is only in the type" for name in typed.keys() - described.keys()]
    found += [f"{path}.{name} is only in the schema" for name in described.keys() - typed.keys()]
    for name in typed.keys() & described.keys():
        (is_required, inner), (must_be, other) = typed[name], described[name]
        if is_required != must_be:
            found.append(f"{path}.{name} is required in one of them alone")
        found += differences(inner, other, f"{path}.{name}")
    return found


def data_of(detail_type: str) -> Any:
    return schema_of(detail_type)["properties"]["detail"]["properties"]["data"]


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_a_type_says_what_its_schema_says(detail_type: str):
    assert differences(of_type(getattr(types, detail_type)), of_schema(data_of(detail_type))) == []


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_a_field_that_is_in_one_of_them_alone_is_found(detail_type: str):
    typed, data = of_type(getattr(types, detail_type)), data_of(detail_type)
    first = next(iter(data["properties"]))

    more = data | {"properties": data["properties"] | {"new": {"type": "string"}}}
    fewer = data | {"properties": {name: each for name, each in data["properties"].items() if name != first}}
    looser = data | {"required": [name for name in data["required"] if name != first]}
    other = data | {"properties": data["properties"] | {first: {"type": ["array", "null"], "items": {"type": "null"}}}}

    assert differences(typed, of_schema(more)) == ["data.new is only in the schema"]
    assert differences(typed, of_schema(fewer)) == [f"data.{first} is only in the type"]
    assert differences(typed, of_schema(looser)) == [f"data.{first} is required in one of them alone"]
    [found] = differences(typed, of_schema(other))
    assert found.startswith(f"data.{first}: ")


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_every_detail_type_has_an_event_with_its_data(detail_type: str):
    kinds = {get_args(kind)[0]: data for kind, data in map(get_args, events_of(types.AnyEvent))}

    assert set(kinds) == set(DETAIL_TYPES)
    assert kinds[detail_type] is getattr(types, detail_type)


def events_of(union: Any) -> tuple[Any, ...]:
    return get_args(union)


def test_the_sources_of_usage_are_those_of_usage():
    assert get_args(get_type_hints(types.UsageData)["source"]) == get_args(UsageSource)


def test_the_attributes_of_a_cached_answer_have_one_list():
    assert set(get_args(cache_types.Attribute)) == set(get_type_hints(cache_types.CachedItem))
