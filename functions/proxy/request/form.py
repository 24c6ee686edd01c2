"""What a form asks for, as uploads of pictures and sound are: how many answers, and with which prompt. Pure.

Its one rule: a form counts as the most that any server may read in it. Where it is in doubt, because of its parts or
of a value, it counts as `UNCLEAR`: who writes a form in a way of their own reserves more, never less.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.request.asked_counts import ANSWERS, number_in
from proxy.request.multipart import LONGEST_NAME, decoded, find_models, parts_of

UNCLEAR = 10
"""Answers, where it is not clear how many a form asks for: OpenAI makes up to so many pictures."""
_MOST_FIELDS = 1000
_LONGEST_VALUE = 64
_LONGEST_ESCAPED = 3 * _LONGEST_VALUE
_PROMPTS = ("prompt", "input", "instructions")
_NOT_IN_A_NAME = re.compile(rb"[^a-z_]")
_BETWEEN_FIELDS = re.compile(rb"[&;]")


class Form(NamedTuple):
    """Where in the body a model is named, and the counts and the prompts, as JSON would have them."""

    models: list[slice]
    asked: dict[str, Any]


def form_of(body: bytes, content_type: str) -> Form:
    """What a form says; nothing for a body that is no form."""
    kind = content_type.lower()
    if "form-urlencoded" in kind:
        split = [pair.partition(b"=") for pair in _BETWEEN_FIELDS.split(body, _MOST_FIELDS)]
        is_clear = len(split) <= _MOST_FIELDS and all(len(name) <= LONGEST_NAME for name, _, _ in split)
        read = [(name, value) for name, _, value in split if len(name) <= LONGEST_NAME and _is_read(name)]
        return Form([], _asked([(name, _decoded_value(name, value)) for name, value in read], is_clear=is_clear))
    if "multipart" not in kind:
        return Form([], {})
    is_usual = kind.partition(";")[0].strip() == "multipart/form-data"
    parts = parts_of(body, content_type) if is_usual else None
    fields = [(part.name, body[part.place]) for part in parts or [] if _is_read(part.name, is_file=part.is_file)]
    return Form(find_models(parts), _asked(fields, is_clear=parts is not None))


def _is_read(name: bytes, *, is_file: bool = False) -> bool:
    return _count_in(name) != "" or (not is_file and decoded(name).decode(errors="replace") in _PROMPTS)


def _decoded_value(name: bytes, value: bytes) -> bytes:
    """A value without its escapes, unless it is too long for a count with them."""
    return value if _count_in(name) and len(value) > _LONGEST_ESCAPED else unquote_to_bytes(value)


def _asked(fields: list[tuple[bytes, bytes]], *, is_clear: bool) -> dict[str, Any]:
    asked: dict[str, Any] = {} if is_clear else {"n": UNCLEAR}
    for sent, value in fields:
        name = decoded(sent).decode(errors="replace")
        if name in _PROMPTS:
            asked[name] = asked.get(name, "") + value.decode(errors="replace")
        elif count := _count_in(sent):
            text = value.strip()
            found = number_in(text.decode(errors="replace")) if len(text) <= _LONGEST_VALUE else None
            asked[count] = max(asked.get(count, 0), UNCLEAR if found is None and text else found or 0)
    return asked


def _count_in(name: bytes) -> str:
    """The count that a server may find in a field, which some write `n[]` or `N`; "" for another field."""
    plain = _NOT_IN_A_NAME.sub(b"", decoded(name)).decode()
    return plain if plain in ANSWERS else ""
