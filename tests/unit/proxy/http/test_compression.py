"""Packed bodies: unpacked they are the same however they arrive, and a cut one is never whole."""

import random
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.errors import UpstreamError
from proxy.http.compression import decompressed

from tests.examples import examples

WINDOWS = {"gzip": [31], "deflate": [15, -15]}
"""The forms in which each coding comes, as zlib calls them."""
CONTENTS = st.sampled_from([b"", b"x", b"data: {}\n\n", bytes(range(256)) * 30, b"a" * 300_000])
AT_ONCE = 1024 * 1024
"""Bytes that are unpacked in one step."""


def packed(content: bytes, window: int) -> bytes:
    packing = zlib.compressobj(wbits=window)
    return packing.compress(content) + packing.flush()


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def collect(came: bytearray, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        came += piece


CUTS = st.lists(st.sampled_from([1, 2, 3, 11, 300]), max_size=4)
FORMS = st.sampled_from([(coding, window) for coding, windows in WINDOWS.items() for window in windows])


@settings(max_examples=examples(25))
@given(CONTENTS, st.lists(FORMS, min_size=1, max_size=2), CUTS)
def test_what_was_packed_comes_out_however_it_arrives(
    content: bytes, forms: list[tuple[str, int]], cuts: list[int]
) -> None:
    data = content
    for _, window in forms:
        data = packed(data, window)
    codings = [coding for coding, _ in forms]
    assert b"".join(decompressed(chunked(data, cuts), codings, "s")) == content


@settings(max_examples=examples(25))
@given(CONTENTS, FORMS, CUTS, st.integers(1, 8))
def test_a_cut_body_has_broken_off_and_gives_what_came(
    content: bytes, form: tuple[str, int], cuts: list[int], missing: int
) -> None:
    coding, window = form
    data = packed(content, window)
    rest = data[: max(1, len(data) - missing)] if len(data) > 1 else data
    came = bytearray()
    with pytest.raises(UpstreamError) as broken:
        collect(came, decompressed(chunked(rest, cuts), [coding], "s"))
    assert content.startswith(came)
    said = "The server 's' sent an answer that cannot be unpacked."
    assert (broken.value.status, broken.value.code, str(broken.value)) == (502, "upstream_broken_off", said)


def test_parts_packed_one_after_another_are_one_content_and_what_follows_them_is_none() -> None:
    parts = packed(b"one", 31) + packed(b"two", 31)
    for cuts in ([], [1], [len(packed(b"one", 31))]):
        assert b"".join(decompressed(chunked(parts, cuts), ["gzip"], "s")) == b"onetwo"


@pytest.mark.parametrize(("coding", "window"), [(coding, each) for coding, of in WINDOWS.items() for each in of])
@pytest.mark.parametrize("after", [b"\n", b"\0", b"x", b"\0" * 512, b"not packed", b"data: {}\n\n" * 40])
def test_what_follows_and_is_no_part_is_no_content(coding: str, window: int, after: bytes) -> None:
    data = packed(b"one", window)
    for pieces in ([data + after], [data, after], [bytes([byte]) for byte in data + after]):
        assert b"".join(decompressed(pieces, [coding], "s")) == b"one"


@pytest.mark.parametrize(("coding", "window"), [(coding, each) for coding, of in WINDOWS.items() for each in of])
@pytest.mark.parametrize("size", [AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE])
def test_a_body_may_end_where_a_step_of_unpacking_does(coding: str, window: int, size: int) -> None:
    data = packed(b"a" * size, window)
    assert [sum(map(len, decompressed(chunked(data, cuts), [coding], "s"))) for cuts in ([], [9])] == [size, size]
    with pytest.raises(UpstreamError):
        list(decompressed([data[:-1]], [coding], "s"))


@pytest.mark.parametrize("coding", WINDOWS)
def test_a_body_without_a_byte_is_empty_and_one_of_something_else_is_broken(coding: str) -> None:
    assert b"".join(decompressed([], [coding], "s")) == b""
    with pytest.raises(UpstreamError):
        list(decompressed([b"plain text, and more of it"], [coding], "s"))


@pytest.mark.parametrize(("coding", "window"), [(coding, each) for coding, of in WINDOWS.items() for each in of])
def test_a_piece_is_passed_on_before_the_next_one_is_waited_for(coding: str, window: int) -> None:
    packing = zlib.compressobj(wbits=window)
    taken: list[int] = []

    def arriving() -> Iterator[bytes]:
        for number in range(3):
            taken.append(number)
            yield packing.compress(b"piece %d " % number) + packing.flush(zlib.Z_SYNC_FLUSH)
        yield packing.flush()

    for number, content in enumerate(decompressed(arriving(), [coding], "s")):
        assert content == b"piece %d " % number
        assert taken == list(range(number + 1))


@pytest.mark.parametrize(("coding", "window"), [(coding, each) for coding, of in WINDOWS.items() for each in of])
@pytest.mark.parametrize("content", [b"", b"x", b"data: {}\n\n" * 40])
def test_a_body_that_comes_byte_by_byte_is_read_in_the_form_that_it_has(
    coding: str, window: int, content: bytes
) -> None:
    pieces = [bytes([byte]) for byte in packed(content, window)]
    assert b"".join(decompressed(pieces, [coding], "s")) == content


def test_a_bare_form_is_told_whatever_its_first_bytes_are() -> None:
    contents = [b"%d" % number * 3 for number in range(200)]
    heads = [packed(content, -15)[:2] for content in contents]
    assert any(int.from_bytes(head, "big") % 31 == 0 for head in heads), "half of what marks zlib's own"
    for content in contents:
        assert b"".join(decompressed([packed(content, -15)], ["deflate"], "s")) == content


@settings(max_examples=examples(25))
@given(st.integers(1, 20_000), CUTS, st.integers(1, 3))
def test_a_later_part_that_is_spoiled_has_broken_off(spoiled: int, cuts: list[int], parts: int) -> None:
    coding, window = "gzip", 31
    noise = random.Random(7).randbytes(40_000)  # what does not shrink is unpacked as it comes
    one = packed(noise, window)
    data = bytearray(one * (parts + 1))
    data[-spoiled:] = b"\xff" * spoiled
    came = bytearray()
    with pytest.raises(UpstreamError) as broken:
        collect(came, decompressed(chunked(bytes(data), cuts), [coding], "s"))
    assert broken.value.code == "upstream_broken_off"
    assert came.startswith(noise * parts)
