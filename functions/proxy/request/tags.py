"""Tags, to which a request is charged beside its key: `x-tags`, and OpenAI's `metadata` of its body. Pure.

Its one rule: a tag has a name and a value of up to 64 printable characters, and a request has no more than 16 tags. A
header that breaks the rule is refused, because it is meant for the proxy alone. `metadata` is meant for the server:
what does not fit is left out of the tags, and the body goes on as it is.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from proxy.errors import ClientError
from proxy.json_shapes import object_of

HEADER = "x-tags"
MOST_IN_HEADER = 8
MOST_TAGS = 16
"""As many pairs as OpenAI takes in `metadata`."""
LONGEST = 64
"""Characters of a name, and of a value, as JavaScript counts them: an emoji is two, and twelve bytes of an event."""
_MESSAGES = "/messages"
_FORM = "write name=value, and a comma between two tags; percent-encode commas and what is not ASCII"


def header_tags(header: str) -> dict[str, str]:
    """The tags of an `x-tags` header: `name=value, name=value`, percent-encoded as in W3C's baggage.

    Raises ClientError (400) for more than 8 tags, a repeated name, and anything that is no tag.
    """
    tags: dict[str, str] = {}
    for place, pair in enumerate((each for each in map(str.strip, header.split(",")) if each), 1):
        if place > MOST_IN_HEADER:
            raise _refused(f"has more than {MOST_IN_HEADER} tags")
        name, equals, value = (_decoded(part).strip() for part in pair.partition("="))
        if not name or not equals:
            raise _refused(f"has no name and value in pair {place}: {_FORM}")
        if not (_fits(name) and _fits(value)):
            rule = f"up to {LONGEST} printable characters each"
            raise _refused(f"has a name or value that does not fit in pair {place}: {rule}")
        if name in tags:
            raise _refused(f"names a tag twice, again in pair {place}")
        tags[name] = value
    return tags


def with_metadata(tags: Mapping[str, str], path: str, fields: Mapping[str, Any]) -> Mapping[str, str]:
    """`tags`, and then the fitting entries of the body's `metadata`, up to 16 in all. Of two with the same name, the
    one in `tags` counts.

    Anthropic's `metadata` has nothing but a user's name, which is never stored.
    """
    found = dict(tags)
    for name, value in object_of(fields.get("metadata") if path != _MESSAGES else None).items():
        if len(found) >= MOST_TAGS:
            break
        if name.strip() and isinstance(value, str) and _fits(name) and _fits(value):
            found.setdefault(name, value)
    return found


def _fits(text: str) -> bool:
    return text.isprintable() and len(text.encode("utf-16-le")) <= 2 * LONGEST


def _decoded(part: str) -> str:
    """Decode a part of a pair. Bytes that are not UTF-8 give a text that does not fit; a lone `%` stands for itself."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        return "\0"


def _refused(why: str) -> ClientError:
    return ClientError(400, "invalid_tags", f"The header {HEADER} {why}.", param=HEADER)
