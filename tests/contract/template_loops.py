"""`Fn::ForEach` as CloudFormation expands it, before SAM translates the template.

Strict where CloudFormation is: a loop's identifier is put in where it stands in a key of the loop's fragment, in the
text of an `Fn::Sub` and in a `Ref`, and nowhere else. `Fn::FindInMap` is answered everywhere, and a `Ref` or
`Fn::GetAtt` may be of a name that is computed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

Json = dict[str, Any]
_LOOP = "Fn::ForEach::"


def expand(template: Json) -> Json:
    """The template without loops and mappings."""
    mappings = template.get("Mappings", {})
    sections = {name: _expand(template[name], {}, mappings) for name in ("Resources", "Outputs")}
    return {name: value for name, value in template.items() if name != "Mappings"} | sections


def _expand(node: Any, items: Mapping[str, str], mappings: Json) -> Any:
    """`items` holds the loops that `node` stands in: identifier ─▶ item."""
    if isinstance(node, list):
        return [_expand(each, items, mappings) for each in cast("list[Any]", node)]
    if not isinstance(node, dict):
        return node
    mapping = cast("Json", node)
    match list(mapping.items()):
        case [("Ref", str(name))] if name in items:
            return items[name]
        case [("Fn::Sub", str(text))]:
            return _sub(_put(text, items), {})
        case [("Fn::Sub", [str(text), variables])]:
            return _sub(_put(text, items), _expand(variables, items, mappings))
        case [("Fn::FindInMap", arguments)]:
            table, row, column = found = _expand(arguments, items, mappings)
            return mappings[table][row][column] if isinstance(row, str) else {"Fn::FindInMap": found}
        case _:
            return dict(_members(mapping, items, mappings))


def _members(mapping: Json, items: Mapping[str, str], mappings: Json) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if not key.startswith(_LOOP):
            yield key, _expand(value, items, mappings)
            continue
        identifier, collection, fragment = value
        for item in collection:
            inner = {**items, identifier: item}
            for pattern, each in fragment.items():
                name = _put(pattern, inner)
                assert name != pattern, f"each item of {key} would make the same {pattern}"
                yield name, _expand(each, inner, mappings)


def _sub(text: str, variables: Json) -> Any:
    """A substitution, as short as what is known of it allows."""
    known = {name: str(value) for name, value in variables.items() if isinstance(value, str | int)}
    text = _put(text, known)
    left = {name: value for name, value in variables.items() if name not in known}
    if left:
        return {"Fn::Sub": [text, left]}
    return {"Fn::Sub": text} if "${" in text else text


def _put(text: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text
