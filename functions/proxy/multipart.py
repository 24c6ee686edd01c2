"""Finding a field in a multipart/form-data body, as uploads of audio and images are sent. Pure.

RFC 7578 over RFC 2046. Its one rule: the body is looked at, never taken apart, so files pass without being copied.
"""

import re

_BOUNDARY = re.compile(r"boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*;[ \t]*name="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE)
_FILE_NAME = re.compile(rb"^content-disposition:[^\r\n]*;[ \t]*filename", re.IGNORECASE | re.MULTILINE)


def find_fields(body: bytes, content_type: str, name: bytes) -> list[slice]:
    """Where the values of the fields `name` that are no files stand in `body`."""
    boundary = _BOUNDARY.search(content_type)
    if not boundary:
        return []
    delimiter = b"--" + (boundary[1] or boundary[2]).encode()
    found: list[slice] = []
    start = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    while body.startswith(delimiter, start):
        start += len(delimiter)
        end = body.find(b"\r\n" + delimiter, start)
        head_end = body.find(b"\r\n\r\n", start, end)
        if end < 0 or head_end < 0:
            break
        head = body[start:head_end]
        named = _NAME.search(head)
        if named and named[1] == name and not _FILE_NAME.search(head):
            found.append(slice(head_end + 4, end))
        start = end + 2
    return found
