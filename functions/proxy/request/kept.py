"""Whether a request is about something that one server stores, so that no other server could answer it. Pure.

Its one rule: such a request goes to no other server, because the right server's error says more than another one's "not
found".
"""

import re
from collections.abc import Mapping
from typing import Any

from proxy.json_shapes import array_of, object_of
from proxy.request.body import RequestBody

_CONTINUED = ("previous_response_id", "conversation", "container", "cached_content", "thread_id", "thread")
_ID = re.compile(r"(?:file|vector_store|store|upload|asset|container)_?ids?|container")
"""Fields at any depth that name what was stored before; a `container` may also be described anew, as an object."""
_SCHEMAS_AND_NOTES = frozenset({"metadata", "parameters", "input_schema", "schema", "arguments"})
"""Where names are the client's own."""


def is_bound(body: RequestBody) -> bool:
    """Whether only one server can answer: the request is no question to a model, or it continues or names something
    that the server stores.
    """
    if not (body.is_posted and (body.model or body.takes_default)):
        return True
    fields = body.fields
    if any(fields.get(name) for name in _CONTINUED) or object_of(fields.get("prompt")):
        return True
    return any(is_reference(object_of(item)) for item in array_of(fields.get("input"))) or _names_stored(fields)


def is_reference(item: Mapping[str, Any]) -> bool:
    """Whether an item of `input` refers to one that the server stores."""
    if "id" not in item or "role" in item:
        return False
    kind = item.get("type")
    return kind in (None, "item_reference") or (kind == "reasoning" and not item.get("encrypted_content"))


def _names_stored(fields: Mapping[str, Any]) -> bool:
    waiting: list[Any] = [fields]
    for value in waiting:
        for name, each in object_of(value).items():
            if each and not isinstance(each, dict) and _ID.fullmatch(name):
                return True
            if isinstance(each, dict | list) and name not in _SCHEMAS_AND_NOTES:
                waiting.append(each)
        waiting += [each for each in array_of(value) if isinstance(each, dict | list)]
    return False
