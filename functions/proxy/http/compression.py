"""Decompresses an answer whose server compresses although it was asked not to. Pure.

Usage can only be read, and an error event only be added, in plain text. Its one rule: memory stays bounded, however
much a small piece unpacks to.
"""

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence

from proxy.errors import UpstreamError

_MOST_AT_ONCE = 1024 * 1024
_GZIP = b"\x1f\x8b"
"""With what each part begins that gzip has packed."""


def decompressed(pieces: Iterable[bytes], codings: Sequence[str], server: str) -> Iterable[bytes]:
    """Unpack `pieces`, each as far as is possible so far. `codings` are in the order in which they were applied.

    Raises UpstreamError for bytes that are not in these codings, and for a body that ends before its coding does: it
    was cut. Parts packed with gzip may follow each other; anything else after a part is no content.
    """
    for coding in reversed(codings):
        pieces = _without(pieces, coding, server)
    return pieces


def _without(pieces: Iterable[bytes], coding: str, server: str) -> Iterator[bytes]:
    window, pieces = _window_of(coding, iter(pieces))
    unpacking, parts, full, empty = zlib.decompressobj(window), 0, False, True
    begins = b""
    try:
        for piece in pieces:
            data, empty = piece, False
            while data or full:
                if unpacking.eof:
                    if coding == "deflate":  # which has one part
                        break
                    unpacking, begins = zlib.decompressobj(window), b""
                begins = begins if len(begins) == len(_GZIP) else (begins + data)[: len(_GZIP)]
                content = unpacking.decompress(data, _MOST_AT_ONCE)
                # one input may give several outputs
                full = len(content) == _MOST_AT_ONCE and not unpacking.eof
                if content:
                    yield content
                data = unpacking.unused_data if unpacking.eof else unpacking.unconsumed_tail
                parts += unpacking.eof
    except zlib.error as error:
        if not parts or begins == _GZIP:
            raise _broken(server) from error
        return
    is_part = not parts or _GZIP.startswith(begins)
    if is_part and not (unpacking.eof or empty):
        raise _broken(server)


def _window_of(coding: str, pieces: Iterator[bytes]) -> tuple[int, Iterable[bytes]]:
    """The window size with which zlib reads the pieces, and the pieces. `deflate` should have zlib's header, but many
    servers send it without.
    """
    if coding != "deflate":
        return zlib.MAX_WBITS | 16, pieces
    head = b""
    for piece in pieces:
        head += piece
        if len(head) > 1:
            break
    is_bare = len(head) > 1 and (head[0] & 0x0F != 8 or int.from_bytes(head[:2], "big") % 31 != 0)
    return -zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS, itertools.chain([head] if head else [], pieces)


def _broken(server: str) -> UpstreamError:
    return UpstreamError(502, "upstream_broken_off", f"The server '{server}' sent an answer that cannot be unpacked.")
