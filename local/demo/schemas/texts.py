"""Texts that satisfy a JSON Schema: usual ones, of a format, or made for a pattern. Pure."""

import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from local.demo.replies import RefusedError
from local.demo.schemas.patterns import texts_for

_FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PLAUSIBLE = {
    "city": "Paris",
    "country": "France",
    "location": "Paris",
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "title": "An example",
    "description": "An example, made up by the demo server.",
    "summary": "An example, made up by the demo server.",
    "language": "en",
    "currency": "EUR",
    "date": "2000-01-01",
    "url": "https://example.com/",
}
"""Texts for properties of these names."""
PLAIN = "example"
_TEXTS = (
    PLAIN,
    "Example",
    "EXAMPLE",
    "e",
    "1",
    "0",
    "10",
    "1.0",
    "12345",
    "+15550100",
    "#000000",
    "a1",
    "A-1",
    "ex-1",
)
_TEXTS_FOR_PATTERNS = (*_TEXTS, *_FORMATS.values())


def text_for(fields: Mapping[str, Any], name: str) -> str:
    """A text for the property `name`. Raises RefusedError."""
    shortest, longest = int(fields.get("minLength", 0)), fields.get("maxLength", math.inf)
    if "pattern" in fields:
        texts: tuple[str, ...] = tuple(islice(matching(fields), 1))
    elif fields.get("format") in _FORMATS:
        texts = (_FORMATS[fields["format"]],)
    else:
        usual = _PLAUSIBLE.get(name.lower(), PLAIN)
        texts = (usual, PLAIN.ljust(shortest, "e"), PLAIN[: int(min(longest, len(PLAIN)))])
    found = next((each for each in texts if shortest <= len(each) <= longest), None)
    if found is None:
        raise unsatisfiable(fields)
    return found


def matching(fields: Mapping[str, Any]) -> Iterator[str]:
    """Texts that match the pattern of `fields`: usual ones, then those that are made for it. Raises RefusedError."""
    shortest, longest = int(fields.get("minLength", 0)), fields.get("maxLength", math.inf)
    try:
        pattern = re.compile(fields["pattern"])
        usual = (each for each in _TEXTS_FOR_PATTERNS if pattern.search(each) and shortest <= len(each) <= longest)
        yield from chain(usual, texts_for(fields["pattern"], shortest, longest))
    except re.error:
        raise unsatisfiable(fields) from None


def unsatisfiable(schema: Any) -> RefusedError:
    """The refusal of a schema."""
    return RefusedError(400, f"The demo server finds no value for the schema {str(schema)[:200]}.", "schema")
