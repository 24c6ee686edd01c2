"""Where the fields of an upload stand, and that nothing is read from one which two readers could read in two ways."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proxy.request.multipart import find_models, parts_of

from tests.examples import examples

FORM = "multipart/form-data; boundary=b"
MODEL = b'Content-Disposition: form-data; name="model"'


def part(head: bytes, value: bytes = b"m", boundary: bytes = b"b", padding: bytes = b"") -> bytes:
    return b"--%b%b\r\n%b\r\n\r\n%b\r\n" % (boundary, padding, head, value)


def named(name: str, more: str = "") -> bytes:
    return f'content-disposition: form-data; name="{name}"{more}'.encode()


def found(body: bytes, content_type: str = FORM) -> list[bytes]:
    return [body[place] for place in find_models(parts_of(body, content_type))]


texts = st.sampled_from([b"", b"m", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n\r\n", b"--\r\n", b"\n--b"])
parts = st.lists(st.tuples(st.sampled_from(["model", "MODEL", "file", "mode"]), texts), max_size=4)


@settings(max_examples=examples(40))
@example([("model", b"m"), ("file", b"\r\n--"), ("model", b"")], b"a preamble\r\n", b"\r\n")
@given(parts, st.sampled_from([b"", b"a preamble\r\n", b"--\r\n", b"\r\n"]), st.sampled_from([b"", b"\r\n", b"x--b"]))
def test_every_value_is_found_where_it_stands(fields: list[tuple[str, bytes]], before: bytes, after: bytes) -> None:
    body = before + b"".join(part(named(name), value) for name, value in fields) + b"--b--" + after
    is_clear = b"--b" not in after and all(b"--b" not in value for _, value in fields)
    assert found(body) == [value for name, value in fields if name.lower() == "model" and is_clear]
    assert found(body[: len(body) - len(b"--" + after)]) == [], "without its end there is more to come"


@pytest.mark.parametrize(
    "head",
    [
        MODEL,
        MODEL.upper().replace(b"MODEL", b"model"),
        b'Content-Disposition:form-data;name="model"',
        MODEL + b"\r\nContent-Type: text/plain\r\nx-y:",
        b"content-length: 1\r\n" + MODEL,
    ],
)
def test_a_field_is_found_however_clients_write_its_head(head: bytes) -> None:
    assert found(part(head) + b"--b--") == [b"m"]
    assert found(part(head, padding=b" \t") + b"--b--") == [b"m"]


@pytest.mark.parametrize(
    "other",
    [
        named("model[]"),
        named("a-model"),
        named("%6dodel"),
        named("%4DODEL"),
        named("%256dodel"),
        named("%25256dodel"),
        named("model", '; filename="a"'),
        named("model", "; filename*=utf-8''a"),
        named("x", '; charset="a"'),
        named("x").replace(b"form-data", b"attachment"),
        named("x") + b"\r\n" + named("y"),
        named("x") + b"\r\nno header",
        named("x") + b"\r\n folded: on",
        b"content-type: text/plain",
        b"",
    ],
)
def test_a_part_that_can_be_read_in_another_way_leaves_nothing_to_be_found(other: bytes) -> None:
    assert found(part(other) + part(MODEL) + b"--b--") == []
    assert found(part(MODEL) + part(other) + b"--b--") == []


@pytest.mark.parametrize(
    "other",
    [
        named("%2525256dodel"),  # nobody decodes four times
        named("mode%"),
        named("file", '; filename="model"'),
        named("file", "; filename*=utf-8''model"),
        named("file", "; filename=\"a\"; filename*=utf-8''a"),
        named(""),
    ],
)
def test_other_parts_hide_no_field(other: bytes) -> None:
    assert found(part(other) + part(MODEL) + b"--b--") == [b"m"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b--",
        b"--b\r\n" + MODEL + b"\r\nm\r\n--b--",
        b"--bx\r\n" + MODEL + b"\r\n\r\nm\r\n--b--",
        part(MODEL) + b"--b\r\n" + MODEL + b"\r\n--b--",
        part(MODEL) + b"--c--",
    ],
)
def test_a_body_that_is_none_of_parts_has_no_fields(body: bytes) -> None:
    assert found(body) == []


HIDDEN = b"--b\r\n" + MODEL + b"\r\n\r\nanother"


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b" ", b""])
def test_a_part_that_only_some_readers_see_leaves_nothing_to_be_found(line_end: bytes) -> None:
    """Flask's takes a delimiter behind any line end, Starlette's passes over line ends before the first one."""
    assert found(part(named("file"), b"x" + line_end + HIDDEN) + part(MODEL) + b"--b--") == []
    assert found(line_end + HIDDEN + b"\r\n" + part(MODEL) + b"--b--") == ([] if line_end else [b"another", b"m"])
    assert found(part(MODEL) + b"--b--" + line_end + HIDDEN + b"\r\n--b--") == []


@pytest.mark.parametrize(
    ("parameters", "boundary"),
    [
        ("; boundary=b", "b"),
        ('; BOUNDARY="b c"', "b c"),
        ("; charset=utf-8;\tboundary=b ; a=b", "b"),
        ("; boundary=" + "b" * 70, "b" * 70),
        ('; boundary="' + "b" * 70 + '"', "b" * 70),
        ("; boundary=" + "b" * 71, None),
        ('; boundary="' + "b" * 71 + '"', None),
        ('; boundary=""', None),
        ("; boundary=b; boundary=b", None),
        ("; boundary=b; x-boundary=c", None),
        ("; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW", "----WebKitFormBoundary7MA4YWxkTrZu0gW"),
        ('; boundary="\'()+_,-./:=?0"', "'()+_,-./:=?0"),
        ("; boundary=*****", "*****"),
        ('; boundary="b%63"', None),
        ("; boundary=bé", None),
        ('; boundary="b "', None),
        ('; boundary="b\\c"', None),
        ("; boundary=b\\c", None),
        ("; boundary=b; boundary*=utf-8''c", None),
        ("; boundary*0=c; boundary=b", None),
        ("; boundary=b; boundary =c", None),
        ("; boundary=b c", None),
        ("; boundary = b", None),
        ("", None),
    ],
)
def test_the_boundary_is_what_the_header_says_once(parameters: str, boundary: str | None) -> None:
    end = (boundary or "b").encode()
    body = part(MODEL, boundary=end) + b"--%b--" % end
    assert found(body, "multipart/form-data" + parameters) == ([] if boundary is None else [b"m"])


@pytest.mark.parametrize(("count", "expected"), [(999, [b"m"]), (1000, [])])
def test_a_form_has_at_most_a_thousand_parts(count: int, expected: list[bytes]) -> None:
    """Each part costs time, and six megabytes hold a hundred thousand."""
    assert found(part(MODEL) + part(named("x")) * count + b"--b--") == expected


@pytest.mark.parametrize(("length", "expected"), [(256, [b"m"]), (257, [])])
def test_a_name_has_at_most_256_characters(length: int, expected: list[bytes]) -> None:
    """Megabytes of a name would be decoded several times."""
    assert found(part(MODEL) + part(named("x" * length)) + b"--b--") == expected
