"""What OpenAI's structured outputs ask of a schema that is `strict`. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from local.demo.replies import list_of, object_of

_MOST = 5000


def strict_fault(schema: Any) -> str | None:
    """Why a schema is refused, in OpenAI's words; None for one that is taken."""
    root = object_of(schema)
    kind = root.get("type")
    if kind != "object" and "$ref" not in root:
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for context, each in waiting:
        fields = object_of(each)
        if fault := _fault(fields):
            return f"In context={context}, {fault}"
        if len(waiting) < _MOST:
            waiting += [((*context, *way), inner) for way, inner in _inside(fields)]
    return None


def _fault(fields: Mapping[str, Any]) -> str | None:
    if fields.get("type") != "object" and "object" not in list_of(fields.get("type")):
        return None
    if fields.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false."
    required = list_of(fields.get("required"))
    missing = [name for name in object_of(fields.get("properties")) if name not in required]
    if missing:
        told = "'required' is required to be supplied and to be an array including every key in properties."
        return f"{told} Missing '{missing[0]}'."
    return None


def _inside(fields: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for place in ("properties", "$defs", "definitions"):
        for name, inner in object_of(fields.get(place)).items():
            yield (place, name), inner
    if "items" in fields:
        yield ("items",), fields["items"]
    for number, inner in enumerate(list_of(fields.get("anyOf"))):
        yield ("anyOf", str(number)), inner
