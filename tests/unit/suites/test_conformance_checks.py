"""The suite sees what is wrong: an answer as it should be has no complaints, and each defect has one."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from conformance.case import Case, Seen, Sent
from conformance.cases import CASES
from conformance.chat import BEGINNING, DONE, STREAM, completion, error_body
from conformance.checks import (
    complaints,
    lists_in,
    lists_model,
    received,
    received_exactly,
    received_headers,
    received_no_client_key,
    received_target,
    served_by,
    withheld,
)
from conformance.wire import PLACE, Received

RUN = "0123456789abcdef"
SENT = Sent(RUN, b'{"a": 1}', (("x-request-id", f"conformance-{RUN}"), ("authorization", "Bearer key")), "server")
HEADERS = {
    "x-request-id": f"conformance-{RUN}",
    "x-inference-id": "01M83ZQ5W8X1T7Y2K4N6P9R0SA",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "*",
    "x-content-type-options": "nosniff",
}
BY_NAME = {case.name: case for case in CASES}


def of_run(*pieces: bytes) -> bytes:
    return b"".join(pieces).replace(PLACE, RUN.encode())


def frame(code: str) -> bytes:
    return b"data: " + error_body("Broken.", "upstream_error", code) + b"\n\n" + DONE


def seen(status: int = 200, content_type: str = "text/event-stream", body: bytes = b"", whole: bool = True) -> Seen:
    return Seen(status, (*HEADERS.items(), ("content-type", content_type)), body, whole)


GOOD = {
    "clean": seen(body=of_run(*STREAM)),
    "no-end": seen(body=of_run(*BEGINNING) + frame("upstream_broken_off")),
    "never-ends": seen(body=of_run(*(BY_NAME["never-ends"].sees.begins or b"",)) + frame("upstream_timeout")),
    "error-404": seen(404, "application/json", BY_NAME["error-404"].sees.body or b""),
    "error-404-html": seen(404, "application/json", error_body("Oops.", "upstream_error", "upstream_error")),
    "reset-binary": seen(content_type="application/json", body=of_run(completion())[:50], whole=False),
    "proxy-keeps-alive": seen(
        body=of_run(BY_NAME["proxy-keeps-alive"].sees.body or b"").replace(b"\n\n", b"\n\n: still there\n\n", 1)
    ),
    "request-too-large": Seen(413, (), b"", whole=True),
}
"""Answers as they should be."""

Defect = Callable[[Seen], Seen]


def status(code: int) -> Defect:
    return lambda good: replace(good, status=code)


def whole(is_whole: bool) -> Defect:
    return lambda good: replace(good, whole=is_whole)


def without(name: str) -> Defect:
    return lambda good: replace(good, headers=tuple(pair for pair in good.headers if pair[0] != name))


def with_(*pairs: tuple[str, str]) -> Defect:
    return lambda good: replace(good, headers=(*good.headers, *pairs))


def body(change: Callable[[bytes], bytes]) -> Defect:
    return lambda good: replace(good, body=change(good.body))


@pytest.mark.parametrize("name", GOOD)
def test_a_good_answer_has_no_complaints(name: str) -> None:
    assert complaints(BY_NAME[name], SENT, GOOD[name]) == []


@pytest.mark.parametrize(
    ("name", "defect", "complaint"),
    [
        ("clean", status(500), "status 500 instead of 200"),
        ("clean", whole(False), "broke off"),
        ("clean", body(lambda stream: stream.removesuffix(DONE)), "differs at byte 1541"),
        ("clean", body(lambda stream: stream + b"\n"), "instead of b''"),
        ("clean", body(lambda stream: stream.replace(RUN.encode(), b"f" * 16)), "differs at byte 22"),
        ("clean", without("x-inference-id"), "x-inference-id is []"),
        ("clean", without("x-request-id"), "x-request-id is []"),
        ("clean", without("x-content-type-options"), "x-content-type-options is []"),
        ("clean", without("access-control-allow-origin"), "access-control-allow-origin is []"),
        ("clean", without("access-control-expose-headers"), "a browser cannot read retry-after"),
        ("clean", with_(("access-control-allow-origin", "*")), "more than once: access-control-allow-origin"),
        ("clean", with_(("set-cookie", "a=1")), "set-cookie is there"),
        ("clean", with_(("keep-alive", "timeout=5")), "keep-alive is there"),
        ("clean", without("content-type"), "content-type is []"),
        ("no-end", body(lambda stream: of_run(*BEGINNING)), "no error frame"),
        ("no-end", body(lambda stream: stream.removesuffix(DONE)), "no error frame"),
        ("no-end", body(lambda stream: stream + DONE), "no error frame"),
        ("no-end", body(lambda stream: stream[20:]), "differs at byte"),
        ("no-end", body(lambda stream: stream.replace(b"upstream_broken_off", b"internal_error")), "error code"),
        ("no-end", body(lambda stream: stream.replace(b'"param":null,', b"")), "no OpenAI error object"),
        ("never-ends", body(lambda stream: stream[:-30]), "no error frame"),
        ("error-404", body(lambda _: b"{}"), "differs at byte 1"),
        ("error-404-html", body(lambda _: b"<html>"), "no OpenAI error object"),
        ("error-404-html", body(lambda _: b'{"error": "text"}'), "no OpenAI error object"),
        ("reset-binary", whole(True), "as if it were whole"),
        ("proxy-keeps-alive", body(lambda stream: stream.replace(b": still there\n\n", b"")), "no comment came"),
        (
            "proxy-keeps-alive",
            body(lambda stream: stream.replace(b": still there\n\n", b"").replace(b"slow", b"sl: x\n\now")),
            "differs",
        ),
        ("request-too-large", status(200), "status 200 instead of 413"),
    ],
)
def test_each_defect_has_its_complaint(name: str, defect: Defect, complaint: str) -> None:
    assert complaint in " ".join(complaints(BY_NAME[name], SENT, defect(GOOD[name])))


def reported(**fields: Any) -> Seen:
    request = Received("POST", "/v1/x?a=1", (("authorization", "Bearer token"), ("accept", "*/*")), b'{"a": 1}')
    return seen(body=json.dumps({"received": {**request.report(), **fields}}).encode())


NO_REPORT = seen(body=b"{}")
CLIENTS_KEY = hashlib.sha256(b"Bearer key").hexdigest()


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (received(method="POST", size=8), reported(), reported(size=9)),
        (received_target("/v1/x?a=1"), reported(), reported(target="/v1/x")),
        (received_exactly, reported(), reported(sha256="0" * 64)),
        (received_headers(accept="*/*"), reported(), reported(headers={})),
        (received_headers(accept="*/*"), reported(), NO_REPORT),
        (received_no_client_key, reported(), reported(authorization_sha256=CLIENTS_KEY)),
        (withheld("cookie"), reported(), reported(header_names=["cookie"])),
        (lists_in("vary", "origin", "Accept"), with_(("vary", "Origin, accept"))(NO_REPORT), NO_REPORT),
        (
            lists_model("{server}/m"),
            seen(body=b'{"data": [{"id": "server/m"}]}'),
            seen(body=b'{"data": [{"id": "m"}]}'),
        ),
        (served_by("-x", 1, 2), with_(("x-served-by", "server-x"), ("x-attempts", "2"))(NO_REPORT), NO_REPORT),
    ],
)
def test_special_checks_tell_good_from_bad(check: Any, good: Seen, bad: Seen) -> None:
    assert check(SENT, good) is None
    assert check(SENT, bad)


def test_a_client_key_is_known_by_its_digest() -> None:
    assert Received("GET", "/", (("authorization", "Bearer key"),)).report()["authorization_sha256"] == CLIENTS_KEY


def test_a_report_shows_no_secret() -> None:
    assert "token" not in json.dumps(reported().fields)


def test_cases_have_names_of_their_own_that_a_model_and_a_path_can_carry() -> None:
    assert len(BY_NAME) == len(CASES)
    assert [case.name for case in CASES if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", case.name)] == []


@pytest.mark.parametrize("case", [case for case in CASES if case.sees.speaker == "proxy"], ids=lambda case: case.name)
def test_no_case_is_content_with_just_anything(case: Case) -> None:
    assert complaints(case, SENT, Seen(200, (), b""))
