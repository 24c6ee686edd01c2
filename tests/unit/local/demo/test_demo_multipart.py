"""Forms that clients send to the demo server: read byte for byte, and refused when they are none."""

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.demo.multipart import Upload, parse_form
from local.demo.replies import RefusedError

FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n'


def sent(**parts: Any) -> tuple[str, bytes]:
    """The content type and the body of a form, as httpx writes it."""
    request = httpx.Request("POST", "http://demo", **parts)
    return request.headers["content-type"], request.read()


@given(
    content=st.binary(max_size=200),
    name=st.text(st.characters(exclude_categories=["C"], exclude_characters='"\\%'), min_size=1),
    text=st.text(),
)
def test_a_form_is_read_as_it_was_sent(content: bytes, name: str, text: str):
    form = parse_form(*sent(data={"prompt": text, "tag[]": ["1", "2"]}, files={"file": (name, content, "audio/wav")}))

    assert form == {"prompt": text, "tag": ["1", "2"], "file": Upload(name, content, "audio/wav")}


def test_what_comes_again_is_a_list():
    files = [("image[]", ("1.png", b"1", "image/png")), ("image[]", ("2.png", b"2", "image/png"))]

    assert parse_form(*sent(files=files))["image"] == [
        Upload("1.png", b"1", "image/png"),
        Upload("2.png", b"2", "image/png"),
    ]
    assert parse_form(FORM, PART + PART + b"--x--") == {"a": ["1", "1"]}


def test_a_file_without_a_type_is_bytes():
    body = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n\r\n--x--\r\n'

    assert parse_form(FORM, body) == {"file": Upload("a", b"", "application/octet-stream")}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("", PART + b"--x--"),
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"a=1"),
        ("application/octet-stream", b"1"),
        ("multipart/form-data", PART + b"--x--"),
        ("multipart/mixed; boundary=x", PART + b"--x--"),
        (FORM, b""),
        (FORM, PART),
        (FORM, PART[:30]),
        (FORM, b"--y--"),
        (FORM, b"--x\r\ncontent-disposition: form-data\r\n\r\n1\r\n--x--"),
        (FORM, b"--x\r\n\r\n1\r\n--x--"),
    ],
)
def test_what_is_no_form_is_refused(content_type: str, body: bytes):
    with pytest.raises(RefusedError) as refused:
        parse_form(content_type, body)

    assert refused.value.status == 400
