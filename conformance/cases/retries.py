"""Which calls of a server are repeated, by whom, and which are not."""

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.streams import CHAT, COMPLETED
from conformance.chat import BEGINNING, STREAM, error_body
from conformance.checks import served_by
from conformance.wire import JSON, Act, Answer, Reply

_RETRYING = "-retrying"
_LATER = Reply((error_body("Later."),), 503, JSON, framing="length")
_SLOW_DOWN = Reply((error_body("Slow down.", "rate_limit_error"),), 429, JSON, (("Retry-After", "1"),), "length")
_TOO_FAST = Reply((error_body("Too fast.", "rate_limit_error"),), 429, JSON, framing="length")


def _second_time(first: Reply, then: Reply) -> Answer:
    return lambda request: first if request.count == 1 else then


def _retried(name: str, about: str, first: Reply, *attempts: int) -> Case:
    return Case(
        name,
        about,
        _second_time(first, Reply(STREAM)),
        Sees(body=b"".join(STREAM), also=(served_by(_RETRYING, 2, *attempts),)),
        COMPLETED,
        Ask(fields=CHAT.fields, server=_RETRYING),
    )


CASES = (
    _retried("retry-503", "a 503 is tried again before the client sees anything", _LATER),
    _retried("retry-429", "a 429 that does not say when to come back is tried again", _TOO_FAST),
    _retried(
        "retry-cut",
        "a connection that is closed instead of an answer is made again, at once where it was an old one",
        Reply((Act.CUT,), head=b"", framing="none"),
        1,
    ),
    _retried(
        "retry-reset",
        "a connection that is reset instead of an answer is made again",
        Reply((Act.RESET,), head=b"HTTP/1.1 ", framing="none"),
    ),
    Case(
        "retry-not-before-its-time",
        "a 429 that says when to come back, be it soon, is the client's to wait for, and may be repeated",
        _second_time(_SLOW_DOWN, Reply(STREAM)),
        Sees(
            429,
            b"".join(_SLOW_DOWN.steps),  # pyright: ignore[reportArgumentType, reportCallIssue]
            headers={"retry-after": "1"},
            without=("x-should-retry",),
            also=(served_by(_RETRYING, 1),),
        ),
        Told("InferenceThrottled"),
        Ask(fields=CHAT.fields, server=_RETRYING),
    ),
    Case(
        "retry-in-vain",
        "what was repeated and failed again says so: an SDK does not repeat it once more",
        _LATER,
        Sees(
            503,
            b"".join(_LATER.steps),  # pyright: ignore[reportArgumentType, reportCallIssue]
            headers={"x-should-retry": "false"},
            also=(served_by(_RETRYING, 2),),
        ),
        Told("InferenceFailed", "upstream_error"),
        Ask(fields=CHAT.fields, server=_RETRYING),
    ),
    Case(
        "retry-of-a-retry",
        "a client that is repeating a call is not helped by more of it",
        _second_time(_LATER, Reply(STREAM)),
        Sees(
            503,
            b"".join(_LATER.steps),  # pyright: ignore[reportArgumentType, reportCallIssue]
            without=("x-should-retry",),
            also=(served_by(_RETRYING, 1),),
        ),
        Told("InferenceFailed", "upstream_error"),
        Ask(fields=CHAT.fields, server=_RETRYING, headers=(("x-stainless-retry-count", "1"),)),
    ),
    Case(
        "retry-not-after-the-first-byte",
        "what has begun is not begun again",
        _second_time(Reply((*BEGINNING, Act.CUT)), Reply(STREAM)),
        Sees(body=b"".join(BEGINNING), broken_off="upstream_broken_off", also=(served_by(_RETRYING, 1),)),
        Told("InferenceFailed", "upstream_broken_off"),
        Ask(fields=CHAT.fields, server=_RETRYING),
    ),
    Case(
        "retry-not-of-a-wrong-request",
        "a 400 is not tried again",
        _second_time(Reply((error_body("No."),), 400, JSON, framing="length"), Reply(STREAM)),
        Sees(400, error_body("No."), also=(served_by(_RETRYING, 1),)),
        Told("InferenceFailed", "upstream_error"),
        Ask(fields=CHAT.fields, server=_RETRYING),
    ),
)
