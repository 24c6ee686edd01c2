"""Decompresses the body of a request, so that everything after it sees the original body. Pure.

Its one rule: neither memory nor time grows with the size that a small body unpacks to. RFC 9110, 8.4; RFC 7694.
"""

from proxy.errors import ClientError
from proxy.request.parse import MAX_BODY_BYTES, InferenceRequest

_GZIP = ("gzip", "x-gzip")
_MOST_CODINGS = 4
_MOST_MEMBERS = 64
"""A gzip body may be several one behind the other; thousands of empty ones would only take time."""
_LONGEST_NAME = 32
_OF_CODINGS = ("content-encoding", "content-length")


def unpacked(request: InferenceRequest) -> InferenceRequest:
    """`request` with its body unpacked, and without the headers that describe the packing.

    Raises ClientError: 415 for an unknown coding, 413 for a body that unpacks to more than the limit, 400 for one that
    is broken or cut.
    """
    if not request.body:
        return request
    named = [name.strip().lower() for name in request.headers.get("content-encoding", "").split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    for name in codings:
        if name not in (*_GZIP, "deflate"):
            raise _unsupported(f"The body has the encoding '{_shown(name)}'.")
    if len(codings) > _MOST_CODINGS:
        raise _unsupported(f"The body is packed {len(codings)} times.")
    body = request.body
    for name in reversed(codings):
        body = _without(name, body, request)
    headers = {name: value for name, value in request.headers.items() if name not in _OF_CODINGS}
    return request._replace(body=body, headers=headers)


def _without(coding: str, packed: bytes, request: InferenceRequest) -> bytes:
    """`packed` without its compression. Raises ClientError."""
    import zlib  # noqa: PLC0415  # few requests need it, and it takes time to load

    window = zlib.MAX_WBITS | 16 if coding in _GZIP else zlib.MAX_WBITS if _has_zlib_head(packed) else -zlib.MAX_WBITS
    pieces, size, members = list[bytes](), 0, 0
    while packed and members < _MOST_MEMBERS:
        unpacking = zlib.decompressobj(window)
        try:
            piece = unpacking.decompress(packed, MAX_BODY_BYTES + 1 - size)
        except zlib.error as error:
            raise _broken(coding, request) from error
        pieces.append(piece)
        size, members = size + len(piece), members + 1
        if size > MAX_BODY_BYTES:
            message = f"The body unpacks to more than {MAX_BODY_BYTES} bytes."
            raise ClientError(413, "request_too_large", message)
        packed = unpacking.unused_data
        if not unpacking.eof or (packed and coding not in _GZIP):
            raise _broken(coding, request)
    if packed:
        raise _broken(coding, request)
    return b"".join(pieces)


def _has_zlib_head(packed: bytes) -> bool:
    """Whether a `deflate` body has zlib's header, as the standard says. Many clients send it without."""
    return packed[0] & 0x0F == 8 and int.from_bytes(packed[:2], "big") % 31 == 0


def _shown(name: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in name[:_LONGEST_NAME])


def _unsupported(problem: str) -> ClientError:
    message = f"{problem} Send it as it is, or packed with gzip or deflate."
    return ClientError(415, "unsupported_encoding", message, headers={"accept-encoding": "gzip, deflate"})


def _broken(coding: str, request: InferenceRequest) -> ClientError:
    message = f"The body is not what its header 'content-encoding: {coding}' says: it is cut or broken."
    if request.door == "rest_api":
        message += " The REST API passes packed JSON on as broken text: send it as it is, or to the function URL."
    return ClientError(400, "invalid_body", message)
