"""Taking the content coding off an answer whose server compresses although it was asked not to. Pure.

Usage can only be read, and an error frame only be added, in plain text. Its one rule: memory stays bounded, however
much a small piece unpacks to.
"""

import zlib
from collections.abc import Iterable, Iterator

from proxy.errors import UpstreamError

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_MOST_AT_ONCE = 1024 * 1024


def decompressed(pieces: Iterable[bytes], coding: str, server: str) -> Iterator[bytes]:
    """The content of `pieces`, each as far as it can be unpacked by now. Raises UpstreamError for what is no `coding`.

    A body that ends before its coding does was cut. A second packed part may follow; anything else is not content.
    """
    unpacking, parts, full, empty = zlib.decompressobj(_WINDOW_BITS[coding]), 0, False, True
    try:
        for piece in pieces:
            data, empty = piece, False
            while data or full:
                if unpacking.eof:
                    unpacking = zlib.decompressobj(_WINDOW_BITS[coding])
                content = unpacking.decompress(data, _MOST_AT_ONCE)
                full = len(content) == _MOST_AT_ONCE  # there may be more of it, without further input
                if content:
                    yield content
                data = unpacking.unused_data if unpacking.eof else unpacking.unconsumed_tail
                parts += unpacking.eof
    except zlib.error as error:
        if not parts:
            raise _broken(server) from error
        return
    if not (unpacking.eof or empty):
        raise _broken(server)


def _broken(server: str) -> UpstreamError:
    return UpstreamError(502, "upstream_broken_off", f"The server '{server}' sent an answer that cannot be unpacked.")
