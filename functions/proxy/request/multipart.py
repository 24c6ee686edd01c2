"""Finds the parts of a multipart/form-data body, the form of uploads of audio and images. Pure.

RFC 7578 over RFC 2046. Its one rule: the body is only searched, never split, so files pass without being copied.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

_MOST_DECODINGS = 3
_MOST_PARTS = 1000
"""An upload has some twenty."""
LONGEST_NAME = 256
_IN_BOUNDARY = r"!#$&-:<-\[\]-~"
"""What can be printed, but for what some readers decode: quotes, backslashes and percent signs."""
_BOUNDARY = re.compile(
    rf';[ \t]*boundary=(?:"([{_IN_BOUNDARY} ]{{0,69}}[{_IN_BOUNDARY}])"|([{_IN_BOUNDARY}]{{1,70}}))[ \t]*(?:;|$)',
    re.IGNORECASE,
)
_SAYS_BOUNDARY = re.compile(r"boundary[ \t*0-9]*=", re.IGNORECASE)
"""Also a part of one, or one with its own character encoding (RFC 2231), which some readers take instead."""
_DISPOSITION = re.compile(
    rb'content-disposition: *form-data; *name="([^"\\\r\n]*)"((?:; *filename(?:="[^"\r\n]*"|\*=[^;"\s]+))*)',
    re.IGNORECASE,
)
_OTHER_HEADER = re.compile(rb"(?!content-disposition)[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*", re.IGNORECASE)


class Part(NamedTuple):
    """A part of a form: its name as it was sent, and where in the body its value stands."""

    name: bytes
    is_file: bool
    place: slice


def parts_of(body: bytes, content_type: str) -> list[Part] | None:
    """Every part of a form; None if any has a form that clients do not use, if there are more, or longer names, than
    any client sends, or if the body is no form at all.

    Some readers take a delimiter behind any line end, or after the end, for one. So it may stand nowhere else.
    """
    boundaries = _BOUNDARY.findall(content_type)
    if len(boundaries) != 1 or len(_SAYS_BOUNDARY.findall(content_type)) != 1:
        return None
    delimiter = b"--" + "".join(*boundaries).encode()
    found: list[Part] = []
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    while body.startswith(delimiter, start):
        start += len(delimiter)
        if body.startswith(b"--", start):
            return found if body.count(delimiter) == len(found) + 1 else None
        end = body.find(b"\r\n" + delimiter, start)
        head_end = body.find(b"\r\n\r\n", start, end)
        named = _name_of(body[start:head_end]) if end >= 0 and head_end >= 0 else None
        if named is None or len(named[0]) > LONGEST_NAME or len(found) == _MOST_PARTS:
            return None
        found.append(Part(*named, slice(head_end + 4, end)))
        start = end + 2
    return None


def find_models(parts: list[Part] | None) -> list[slice]:
    """The positions of the values of the fields `model` that are no files.

    Nothing is found if a part has a name that is similar (`model[]`): two readers might then see two models.
    """
    named = [part for part in parts or [] if b"model" in decoded(part.name)]
    is_clear = all(not part.is_file and part.name.lower() == b"model" for part in named)
    return [part.place for part in named] if is_clear else []


def decoded(name: bytes) -> bytes:
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
