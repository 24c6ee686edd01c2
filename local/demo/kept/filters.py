"""Filters of a search: whether the attributes of a file are what a client wants. Pure."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

from local.demo.replies import RefusedError, list_of, object_of

_DEEPEST = 8
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "in": lambda value, wanted: value in list_of(wanted),
    "nin": lambda value, wanted: value not in list_of(wanted),
}


def fits(attributes: Mapping[str, Any], wanted: Any, depth: int = 0) -> bool:
    """Whether a file with these attributes is `wanted`; no filter wants all. Raises RefusedError."""
    fields = object_of(wanted)
    if wanted is None:
        return True
    kind = str(fields.get("type"))
    if kind in ("and", "or") and depth < _DEEPEST:
        found = [fits(attributes, each, depth + 1) for each in list_of(fields.get("filters"))]
        return all(found) if kind == "and" else any(found)
    if kind not in _COMPARED or not isinstance(fields.get("key"), str) or "value" not in fields:
        allowed = ", ".join(f"'{each}'" for each in (*_COMPARED, "and", "or"))
        message = f"Invalid filter. It has a 'type' of {allowed}, with a 'key' and a 'value', or with 'filters'."
        raise RefusedError(400, message, "filters", "invalid_value")
    value = attributes.get(fields["key"])
    if value is None:
        return kind in ("ne", "nin")
    try:
        return _COMPARED[kind](value, fields["value"])
    except TypeError:  # a text cannot be compared with a number
        return False
