"""The answer in one piece: whole as it was written, base64 where it is no text, and none where it broke off."""

import base64

import pytest
from proxy.endpoints.buffered_response import BufferedResponse

HEADERS = {"content-type": "application/json", "x-request-id": "1"}


@pytest.mark.parametrize(
    ("pieces", "body", "is_base64"),
    [
        ([], "", False),
        ([b"{", b'"a": 1}'], '{"a": 1}', False),
        ([b"\xc3", b"\xa9"], "é", False),
        ([b"\xff", b"\x00"], base64.b64encode(b"\xff\x00").decode(), True),
    ],
    ids=["nothing", "text", "a character in two pieces", "bytes"],
)
@pytest.mark.parametrize("status", [200, 304, 503])
def test_an_answer_is_given_whole(status: int, pieces: list[bytes], body: str, is_base64: bool) -> None:
    response = BufferedResponse()
    assert not response.started
    response.start(status, HEADERS)
    response.flush()
    for piece in pieces:
        response.write(piece)
    response.end()
    assert (response.started, response.broken, response.fault) == (True, False, None)
    assert response.result() == {"statusCode": status, "headers": HEADERS, "body": body, "isBase64Encoded": is_base64}


def test_what_was_never_started_is_a_failure_and_what_broke_off_is_no_answer() -> None:
    response = BufferedResponse()
    assert response.result() == {"statusCode": 500, "headers": {}, "body": "", "isBase64Encoded": False}
    response.start(200, HEADERS)
    response.write(b"half")
    response.fail(fault := ValueError("gone"))
    with pytest.raises(ValueError, match="gone") as raised:
        response.result()
    assert raised.value is fault
