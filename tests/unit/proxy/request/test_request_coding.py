"""Packed bodies of requests: unpacked within bounds, or refused with the reason."""

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.coding import unpacked
from proxy.request.parse import MAX_BODY_BYTES, InferenceRequest

BODY = b'{"model": "m", "messages": []}'
PACKED = gzip.compress(BODY)


def request(body: bytes, encoding: str, door: str = "function_url") -> InferenceRequest:
    headers = {"content-type": "application/json", "content-encoding": encoding, "content-length": "7"}
    at_rest = door == "rest_api"
    return InferenceRequest("rest_api" if at_rest else "function_url", "POST", "/up/v1/x", "", headers, body, None)


def deflated(body: bytes, window: int = -zlib.MAX_WBITS) -> bytes:
    packing = zlib.compressobj(wbits=window)
    return packing.compress(body) + packing.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", PACKED),
        ("GZip", PACKED),
        (" x-gzip\t", PACKED),
        ("deflate", zlib.compress(BODY)),
        ("deflate", deflated(BODY)),
        ("identity", BODY),
        ("", BODY),
        (" , ", BODY),
        ("gzip, gzip", gzip.compress(PACKED)),
        ("gzip,identity , Deflate", zlib.compress(PACKED)),
        ("gzip", gzip.compress(BODY[:9]) + gzip.compress(b"") + gzip.compress(BODY[9:])),
    ],
    ids=range(11),
)
def test_a_packed_body_is_the_one_that_was_packed(encoding: str, body: bytes) -> None:
    found = unpacked(request(body, encoding))
    assert found.body == BODY
    assert found.headers == {"content-type": "application/json"}


def test_nothing_is_packed_to_nothing() -> None:
    assert unpacked(request(b"", "br")).body == b""


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        PACKED[:-1],
        PACKED[:-9],
        PACKED[:12],
        PACKED[1:],
        b"\x1f",
        PACKED + b"x",
        PACKED + PACKED[:-1],
        PACKED + b"\0\0",
        PACKED[:-8] + b"\0" * 8,
        gzip.compress(b"") * 100_000,
        PACKED.decode(errors="replace").encode(),
        zlib.compress(BODY),
    ],
    ids=range(13),
)
def test_a_broken_or_cut_body_is_the_clients_mistake(body: bytes) -> None:
    for door, hint in (("function_url", False), ("rest_api", True)):
        with pytest.raises(ClientError) as refused:
            unpacked(request(body, "gzip", door))
        assert (refused.value.status, refused.value.code) == (400, "invalid_body")
        assert ("function URL" in refused.value.message) == hint


@pytest.mark.parametrize("body", [zlib.compress(BODY) + b"x", zlib.compress(BODY)[:-1], b"x", b"\x78\x9c"])
def test_a_broken_deflate_body_is_one_too(body: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        unpacked(request(body, "deflate"))
    assert (refused.value.status, refused.value.code) == (400, "invalid_body")


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("br", "'br'"),
        ("zstd", "'zstd'"),
        ("compress", "'compress'"),
        ("gzip, BR", "'br'"),
        ("gzip;q=1", "'gzip;q=1'"),
        ("x" * 5000, "'" + "x" * 32 + "'"),
        ("g\u200bzip", "'g?zip'"),
        (",".join(["gzip"] * 5), "5 times"),
    ],
)
def test_another_coding_is_refused_by_its_name(encoding: str, named: str) -> None:
    with pytest.raises(ClientError) as refused:
        unpacked(request(PACKED, encoding))
    assert (refused.value.status, refused.value.code) == (415, "unsupported_encoding")
    assert named in refused.value.message
    assert refused.value.headers == {"accept-encoding": "gzip, deflate"}


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", lambda: gzip.compress(bytes(200 * 1024 * 1024), 1)),
        ("gzip", lambda: gzip.compress(bytes(MAX_BODY_BYTES)) + gzip.compress(b"x")),
        ("deflate", lambda: zlib.compress(bytes(MAX_BODY_BYTES + 1))),
        ("gzip, gzip", lambda: gzip.compress(gzip.compress(bytes(50 * 1024 * 1024)))),
    ],
    ids=["bomb", "members", "a byte too many", "in two layers"],
)
def test_a_bomb_is_refused_before_it_takes_memory(encoding: str, packed: Callable[[], bytes]) -> None:
    body = packed()
    tracemalloc.start()
    try:
        with pytest.raises(ClientError) as refused:
            unpacked(request(body, encoding))
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BODY_BYTES
    finally:
        tracemalloc.stop()
    assert (refused.value.status, refused.value.code) == (413, "request_too_large")


@pytest.mark.parametrize(("members", "is_read"), [(64, True), (65, False)])
def test_a_body_of_several_members_has_no_more_than_anybody_needs(members: int, is_read: bool) -> None:
    body = gzip.compress(b"") * (members - 1) + PACKED
    if is_read:
        assert unpacked(request(body, "gzip")).body == BODY
        return
    with pytest.raises(ClientError) as refused:
        unpacked(request(body, "gzip"))
    assert (refused.value.status, refused.value.code) == (400, "invalid_body")


def test_a_body_of_the_limit_is_not_too_large() -> None:
    assert len(unpacked(request(gzip.compress(bytes(MAX_BODY_BYTES)), "gzip")).body) == MAX_BODY_BYTES


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "gzip, deflate"]))
def test_whatever_it_is_it_unpacks_or_is_refused(body: bytes, encoding: str) -> None:
    with contextlib.suppress(ClientError):
        unpacked(request(body, encoding))
