"""The JSON Schemas of the events, as who validates with them sees them, and as who reads them would write each out."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parents[1] / "events" / "schemas"
COMMON = "common.v1.json"


@lru_cache
def read(name: str) -> Any:
    """A file of the schemas. Nobody may change it."""
    return json.loads((SCHEMAS / name).read_text(encoding="utf-8"))


@lru_cache
def validator_of(detail_type: str) -> Any:
    """What checks events of this type. It is made once: to check the schema itself takes longer than all else."""
    common: Any = Resource.from_contents(read(COMMON))  # pyright: ignore[reportUnknownMemberType]
    made: Any = Draft202012Validator
    return made(read(f"{detail_type}.v1.json"), registry=Registry[Any]().with_resource(COMMON, common))


def schema_of(detail_type: str) -> Any:
    """The schema of a detail-type with all that it refers to in its place."""
    return written_out(read(f"{detail_type}.v1.json"))


def written_out(part: Any) -> Any:
    """A part of a schema with what it refers to, and what it says besides."""
    if type(part) is list:
        return [written_out(each) for each in cast("list[Any]", part)]
    if type(part) is not dict:
        return part
    given = cast("dict[str, Any]", part)
    own = {name: written_out(each) for name, each in given.items() if name != "$ref"}
    if "$ref" not in given:
        return own
    return _together(written_out(read(COMMON)["$defs"][given["$ref"].rpartition("/")[2]]), own)


def _together(one: Any, other: Any) -> Any:
    """What two parts say of the same value."""
    if type(one) is not dict:
        return [*one, *other] if type(one) is list else other
    first, more = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
    return {**first, **{name: _together(first[name], each) if name in first else each for name, each in more.items()}}
