"""Finds a field in a multipart/form-data body, the form of uploads of audio and images. Pure.

RFC 7578 over RFC 2046. Its one rule: the body is only searched, never split, so files pass without being copied.
"""

import re
from urllib.parse import unquote_to_bytes

_MOST_DECODINGS = 3
_BOUNDARY = re.compile(r';[ \t]*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))[ \t]*(?:;|$)', re.IGNORECASE)
_DISPOSITION = re.compile(
    rb'content-disposition: *form-data; *name="([^"\\\r\n]*)"((?:; *filename(?:="[^"\r\n]*"|\*=[^;"\s]+))*)',
    re.IGNORECASE,
)
_OTHER_HEADER = re.compile(rb"(?!content-disposition)[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*", re.IGNORECASE)


def find_fields(body: bytes, content_type: str, name: bytes) -> list[slice]:
    """The positions in `body` of the values of the fields `name` that are no files.

    Nothing is found if any part has a form that clients do not use, or a name that is similar (`model[]`): two readers
    might then see two models.
    """
    boundaries = _BOUNDARY.findall(content_type)
    if len(boundaries) != 1 or content_type.lower().count("boundary=") != 1:
        return []
    delimiter = b"--" + "".join(*boundaries).encode(errors="replace")
    found: list[slice] = []
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    while body.startswith(delimiter, start):
        start += len(delimiter)
        if body.startswith(b"--", start):
            return found
        end = body.find(b"\r\n" + delimiter, start)
        head_end = body.find(b"\r\n\r\n", start, end)
        named = _name_of(body[start:head_end]) if end >= 0 and head_end >= 0 else None
        if named is None:
            return []
        if name in _decoded(named[0]):
            if named[1] or named[0].lower() != name:
                return []
            found.append(slice(head_end + 4, end))
        start = end + 2
    return []


def _decoded(name: bytes) -> bytes:
    """A name as any reader might read it, in lower case."""
    for _ in range(_MOST_DECODINGS if b"%" in name else 0):
        name = unquote_to_bytes(name)
    return name.lower()


def _name_of(head: bytes) -> tuple[bytes, bool] | None:
    """The name of a part, and whether it is a file; None when that is not clear."""
    blank, *lines = head.split(b"\r\n")
    found = [match for line in lines if (match := _DISPOSITION.fullmatch(line))]
    others = [line for line in lines if _OTHER_HEADER.fullmatch(line)]
    if blank.strip() or len(found) != 1 or len(others) + 1 != len(lines):
        return None
    return found[0][1], bool(found[0][2])
