"""Items of conversations and responses, as OpenAI keeps what a client sent. Pure."""

from typing import Any

from local.demo.kept.shelf import Object
from local.demo.replies import RefusedError, list_of, new_id, object_of

_ROLES = ("user", "assistant", "system", "developer")
_PREFIXES = {"message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_"}
_WITH_STATUS = ("message", "function_call", "function_call_output")


def items_of(given: Any, name: str) -> list[Object]:
    """What a client sent in a field of that `name`: a text, or a list of items. Raises RefusedError."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    items = [object_of(item) for item in list_of(given)]
    if given is not None and (not isinstance(given, list) or not all(items)):
        raise RefusedError(400, f"'{name}' is neither a text nor a list of items.", name)
    return items


def as_kept(item: Object, place: str) -> Object:
    """An item with an id, a type and its content in parts. Raises RefusedError."""
    kind = item.get("type") or ("message" if "role" in item else None)
    if not isinstance(kind, str):
        raise RefusedError(
            400, f"Missing required parameter: '{place}.type'.", f"{place}.type", "missing_required_parameter"
        )
    kept = {"id": new_id(_PREFIXES.get(kind, "item_")), **item, "type": kind}
    if kind in _WITH_STATUS:
        kept.setdefault("status", "completed")
    if kind == "message":
        if item.get("role") not in _ROLES:
            allowed = ", ".join(f"'{role}'" for role in _ROLES)
            message = f"Invalid value: '{str(item.get('role'))[:50]}'. Supported values are: {allowed}."
            raise RefusedError(400, message, f"{place}.role", "invalid_value")
        kept["content"] = _parts(item.get("content"), kept["role"], place)
    return kept


def _parts(content: Any, role: str, place: str) -> list[Object]:
    if isinstance(content, str):
        if role == "assistant":
            return [{"type": "output_text", "text": content, "annotations": [], "logprobs": []}]
        return [{"type": "input_text", "text": content}]
    parts = [object_of(part) for part in list_of(content)]
    if not isinstance(content, list) or not all(isinstance(part.get("type"), str) for part in parts):
        message = f"Invalid type for '{place}.content': expected a string or an array of content parts."
        raise RefusedError(400, message, f"{place}.content", "invalid_type")
    return parts
