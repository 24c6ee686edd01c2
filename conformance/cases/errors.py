"""Errors of servers: those in OpenAI's form pass unchanged, others are put into it, and a status stays what it is."""

import re

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.faults import WHOLE
from conformance.cases.streams import CHAT, COMPLETED
from conformance.chat import STREAM, compact, completion, error_body
from conformance.wire import EVENT_STREAM, JSON, Reply

_HTML = b"<html><head><title>Oops</title></head><body><h1>nginx</h1></body></html>"
_RETRY = (("Retry-After", "7"), ("Retry-After-Ms", "7000"))


def _told(status: int) -> Told:
    return Told("InferenceThrottled") if status == 429 else Told("InferenceFailed", "upstream_error", "none")


def _passed(status: int) -> Case:
    body = error_body(f"This is a {status}.", "some_error", "some_code")
    reply = Reply((body,), status, JSON, _RETRY if status in (429, 503) else (), "length")
    headers = {"retry-after": "7", "retry-after-ms": "7000"} if status in (429, 503) else {}
    sees = Sees(status, body, headers={"content-type": "application/json.*", **headers})
    return Case(
        f"error-{status}", f"a {status} with an OpenAI error passes unchanged", reply, sees, _told(status), CHAT
    )


def _odd_pause(name: str, pause: str) -> Case:
    body = error_body("Slow down.", "rate_limit_error")
    reply = Reply((body,), 429, JSON, (("Retry-After", pause),), "length")
    sees = Sees(429, body, headers={"retry-after": re.escape(pause)})
    return Case(f"error-429-{name}", "Retry-After is passed on in whatever form", reply, sees, _told(429), CHAT)


def _replaced(name: str, about: str, status: int, body: bytes, content_type: str | None) -> Case:
    reply = Reply((body,) if body else (), status, content_type, _RETRY if status in (429, 503) else (), "length")
    headers = {"retry-after": "7"} if status in (429, 503) else {}
    sees = Sees(status, error="upstream_error", headers={"content-type": "application/json.*", **headers})
    return Case(f"error-{name}", about, reply, sees, _told(status), CHAT)


def _redirect(status: int) -> Case:
    reply = Reply(
        (_HTML,), status, "text/html", (("Location", "https://elsewhere.example/v1/chat/completions"),), "length"
    )
    sees = Sees(502, error="upstream_redirect", without=("location",))
    return Case(
        f"redirect-{status}",
        f"a {status} is not followed, and not passed on",
        reply,
        sees,
        Told("InferenceFailed", "upstream_redirect"),
        CHAT,
    )


_REFUSED_TOKEN = error_body("Incorrect API key provided: sk-prov*ider.", "invalid_request_error", "invalid_api_key")
_TOO_LARGE = error_body("This model takes at most 8 tokens.", "invalid_request_error", "context_length_exceeded")
_IN_BAND = compact({"error": {"message": "quota", "type": "server_error", "param": None, "code": "quota"}})

CASES = (
    *(_passed(status) for status in (400, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529)),
    *(
        _replaced(
            f"{status}-html",
            f"a {status} with a page of HTML becomes an OpenAI error",
            status,
            _HTML,
            "text/html; charset=utf-8",
        )
        for status in (400, 403, 404, 408, 429, 500, 502, 503, 504)
    ),
    *(_odd_pause(*odd) for odd in (("date", "Fri, 01 Jan 2100 00:00:00 GMT"), ("words", "soon"), ("endless", "1e999"))),
    _replaced("500-empty", "an error without a body", 500, b"", None),
    _replaced("503-plain", "an error in plain text", 503, b"upstream connect error", "text/plain"),
    _replaced("500-empty-json", "an error that is called JSON and has no body", 500, b"", JSON),
    _replaced("502-broken-json", "an error that is called JSON and is none", 502, b"{oops", JSON),
    _replaced(
        "422-detail",
        "an error as FastAPI words it",
        422,
        compact({"detail": [{"loc": ["body"], "msg": "missing"}]}),
        JSON,
    ),
    _replaced("404-text", "an error that is a text in JSON", 404, compact({"error": "model not found"}), JSON),
    _replaced(
        "400-object",
        "an error that is not below 'error'",
        400,
        compact({"object": "error", "message": "bad", "code": 400}),
        JSON,
    ),
    _replaced("500-list", "an error that is a list", 500, b"[]", JSON),
    _replaced("500-stream", "an error that is called an event stream", 500, b'data: {"error": "x"}\n\n', EVENT_STREAM),
    Case(
        "error-401",
        "a refusal of the proxy's token is not the client's 401, and shows nothing of the token",
        Reply((_REFUSED_TOKEN,), 401, JSON, framing="length"),
        Sees(
            502,
            error="upstream_authentication_failed",
            also=(lambda _, seen: "a part of the token shows" if b"sk-prov" in seen.body else None,),
        ),
        Told("InferenceFailed", "upstream_authentication_failed"),
        CHAT,
    ),
    *(_redirect(status) for status in (301, 302, 303, 307, 308)),
    Case(
        "html-instead-of-stream",
        "a page of HTML with status 200 is no answer to a question",
        Reply((_HTML,), content_type="text/html", framing="length"),
        Sees(502, error="upstream_no_answer"),
        Told("InferenceFailed", "upstream_no_answer"),
        CHAT,
    ),
    Case(
        "json-instead-of-stream",
        "a document in answer to stream: true passes, and is metered",
        Reply((completion(),), content_type="application/json; charset=utf-8", framing="length"),
        Sees(body=completion(), headers={"content-type": "application/json.*"}),
        COMPLETED,
        CHAT,
    ),
    Case(
        "stream-instead-of-json",
        "a stream in answer to a request without stream passes, and is metered",
        Reply(STREAM),
        Sees(body=b"".join(STREAM), headers={"content-type": "text/event-stream.*"}),
        COMPLETED,
        WHOLE,
    ),
    Case(
        "gzip-document",
        "a document that is compressed although identity was asked for",
        Reply((completion(),), content_type=JSON, encoding="gzip", framing="length"),
        Sees(body=completion(), without=("content-encoding",)),
        COMPLETED,
        WHOLE,
    ),
    Case(
        "gzip-error",
        "an error that is compressed",
        Reply((_IN_BAND,), 400, JSON, encoding="gzip", framing="length"),
        Sees(400, _IN_BAND, without=("content-encoding",)),
        Told("InferenceFailed", "upstream_error"),
        WHOLE,
    ),
    Case(
        "unknown-encoding",
        "a coding that the proxy cannot take off: its bytes and its name pass together, or the answer is refused",
        Reply(
            (b"\x1b\x02\x00\xf8\n\ncoded",), content_type=JSON, headers=(("Content-Encoding", "br"),), framing="length"
        ),
        Sees(
            (200, 502),
            also=(lambda _, seen: _coded_or_refused(seen.status, seen.body, seen.values("content-encoding")),),
        ),
        Told(),
        WHOLE,
    ),
    Case(
        "error-in-200",
        "an error object with status 200 is an error",
        Reply((_IN_BAND,), content_type=JSON, framing="length"),
        Sees(502, error="upstream_error"),
        Told("InferenceFailed", "upstream_error"),
        WHOLE,
    ),
    Case(
        "early-error",
        "a server that refuses a large request before it has taken it",
        Reply((_TOO_LARGE,), 400, JSON, (("Connection", "close"),), "length"),
        Sees(400, _TOO_LARGE),
        Told("InferenceFailed", "upstream_error"),
        Ask(fields={"stream": True, "messages": [{"role": "user", "content": "x" * 3_000_000}]}),
        reads_body=False,
    ),
)


def _coded_or_refused(status: int, body: bytes, encoding: list[str]) -> str | None:
    if status == 502 or (body == b"\x1b\x02\x00\xf8\n\ncoded" and encoding == ["br"]):
        return None
    return f"bytes and coding were parted: {encoding} {body!r}"
