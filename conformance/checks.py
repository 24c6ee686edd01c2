"""Holding what a client saw against what it must see: complaints in words. Pure.

Its one rule: everything that is wrong is said, not the first thing only.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from conformance.case import Case, Check, Seen, Sees, Sent
from conformance.chat import DONE
from conformance.wire import PLACE, fields_of, object_of

_KEEP_ALIVE = re.compile(rb"(?<![^\n\r]):[^\n\r]*(?:\n\n|\r\n\r\n)")
_FRAME = re.compile(
    rb"(?:event: response\.failed\ndata: [^\n]*\n\n)?(?:event: error\n)?data: (\{[^\n]*\})\n\n" + re.escape(DONE)
)
_ULID = "[0-9A-HJKMNP-TV-Z]{26}"
_HOP_BY_HOP = ("keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade")
_READABLE = ("retry-after", "server-timing", "x-attempts", "x-inference-id", "x-request-id", "x-served-by")


def complaints(case: Case, sent: Sent, seen: Seen) -> list[str]:
    """What is wrong with an answer; empty when nothing is."""
    sees = case.sees
    found = [*_of_status(sees, seen), *_of_headers(sees, seen), *_of_body(sees, sent, seen)]
    if sees.speaker == "proxy":
        found += _of_every_answer(sent, seen)
    if seen.whole == sees.cut:
        found.append("the transfer ended as if it were whole" if seen.whole else "the transfer broke off")
    found += [wrong for check in sees.also if (wrong := check(sent, seen))]
    return found


def _of_status(sees: Sees, seen: Seen) -> Iterator[str]:
    allowed = sees.status if isinstance(sees.status, tuple) else (sees.status,)
    if seen.status not in allowed:
        yield f"status {seen.status} instead of {' or '.join(map(str, allowed))}: {_shown(seen.body)}"


def _of_headers(sees: Sees, seen: Seen) -> Iterator[str]:
    for name, pattern in sees.headers.items():
        values = seen.values(name)
        if len(values) != 1 or not re.fullmatch(pattern, values[0]):
            yield f"header {name} is {values} instead of one {pattern!r}"
    for name in sees.without:
        if values := seen.values(name):
            yield f"header {name} is there: {values}"


def _of_every_answer(sent: Sent, seen: Seen) -> Iterator[str]:
    """What holds for every answer of the proxy, whatever the server does."""
    own_id = sent.header("x-request-id")
    expected = {"x-inference-id": _ULID, "access-control-allow-origin": r"\*|https?://[^,\s]+"}
    expected["x-content-type-options"] = "nosniff"
    if 0 < len(own_id) <= 128:
        expected["x-request-id"] = re.escape(own_id)
    yield from _of_headers(Sees(headers=expected, without=("set-cookie", *_HOP_BY_HOP)), seen)
    names = [name for name, _ in seen.headers]
    if repeated := sorted({name for name in names if names.count(name) > 1 and name != "vary"}):
        yield f"headers come more than once: {', '.join(repeated)}"
    exposed = {name.strip() for value in seen.values("access-control-expose-headers") for name in value.split(",")}
    if "*" not in exposed and (hidden := [name for name in _READABLE if name not in exposed]):
        yield f"a browser cannot read {', '.join(hidden)}"


def _of_body(sees: Sees, sent: Sent, seen: Seen) -> Iterator[str]:
    run, body = sent.run.encode(), seen.body
    if sees.keep_alive:
        body = _KEEP_ALIVE.sub(b"", body)
        if body == seen.body:
            yield "no comment came while the server was silent"
    if sees.begins is not None and not body.startswith(sees.begins.replace(PLACE, run)):
        yield _difference(sees.begins.replace(PLACE, run), body[: len(sees.begins)])
    if sees.broken_off:
        yield from _of_end(sees, run, body)
    elif sees.body is not None and body != sees.body.replace(PLACE, run):
        yield _difference(sees.body.replace(PLACE, run), body)
    if sees.error:
        yield from _of_error(_either(sees.error), seen.fields)


def _of_end(sees: Sees, run: bytes, body: bytes) -> Iterator[str]:
    """A stream that broke off: what came whole, an error frame, the end mark."""
    content = body[: max(0, body.rfind(b'data: {"error"'))] if sees.body is None else sees.body.replace(PLACE, run)
    if not body.startswith(content):
        yield _difference(content, body[: len(content)])
        return
    frame = _FRAME.fullmatch(body, len(content))
    if frame is None:
        yield f"no error frame and end mark behind what came whole, but {_shown(body[len(content) :])}"
        return
    yield from _of_error(_either(sees.broken_off), fields_of(frame[1]))


def _of_error(codes: tuple[str, ...], document: Mapping[str, Any]) -> Iterator[str]:
    error = object_of(document.get("error"))
    if not {"message", "type", "param", "code"} <= set(error):
        yield f"no OpenAI error object: {_shown(str(document).encode())}"
    elif error["code"] not in codes:
        yield f"error code {error['code']!r} instead of {' or '.join(codes)}"


def _either(codes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (codes,) if isinstance(codes, str) else codes


def _difference(expected: bytes, got: bytes) -> str:
    """Where two bodies part, and what stands there."""
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
    )
    sizes = f"{len(got)} bytes instead of {len(expected)}"
    return f"the body differs at byte {place} ({sizes}): {_shown(got[place:])} instead of {_shown(expected[place:])}"


def _shown(data: bytes, most: int = 120) -> str:
    return repr(data[:most]) + ("…" if len(data) > most else "")


def report_of(seen: Seen) -> dict[str, Any]:
    """What the fault server says that it received; empty when the answer holds no report."""
    return object_of(seen.fields.get("received"))


def received(**expected: Any) -> Check:
    """The server received these: `method`, `target`, `model`, `stream_options`, `size` …"""

    def check(_: Sent, seen: Seen) -> str | None:
        report = report_of(seen)
        wrong = [
            f"{key} {report.get(key)!r} instead of {value!r}"
            for key, value in expected.items()
            if report.get(key) != value
        ]
        return f"the server received {', '.join(wrong)}" if wrong else None

    return check


def lists_model(name: str) -> Check:
    """The list of models has one with this id (the server under test for `{server}`)."""

    def check(sent: Sent, seen: Seen) -> str | None:
        wanted = name.format(server=sent.server)
        models: Any = seen.fields.get("data")
        listed = isinstance(models, list) and any(
            object_of(model).get("id") == wanted for model in cast("list[Any]", models)
        )
        return None if listed else f"{wanted!r} is not in the list of models"

    return check


def received_target(target: str) -> Check:
    """The server received this target; `user=` and the run's id are filled in for `PLACE`."""

    def check(sent: Sent, seen: Seen) -> str | None:
        expected, got = target.replace(PLACE.decode(), sent.run), report_of(seen).get("target")
        return None if got == expected else f"the server received the target {got!r} instead of {expected!r}"

    return check


def received_exactly(sent: Sent, seen: Seen) -> str | None:
    """The server received the body byte for byte."""
    report = report_of(seen)
    if report.get("sha256") == sent.sha256:
        return None
    return f"the server received another body: {report.get('size')} bytes instead of {len(sent.body)}"


def received_no_client_key(sent: Sent, seen: Seen) -> str | None:
    """The server received an authorization, and not the client's."""
    digest = report_of(seen).get("authorization_sha256")
    clients = hashlib.sha256(sent.header("authorization").encode()).hexdigest()
    nobodys = hashlib.sha256(b"").hexdigest()
    return (
        f"the server received {'no token' if digest == nobodys else 'the client key'}"
        if digest in (clients, nobodys)
        else None
    )


def received_headers(**expected: str) -> Check:
    """The server received these headers (`_` for `-`)."""

    def check(_: Sent, seen: Seen) -> str | None:
        headers = report_of(seen).get("headers", {})
        named = {name.replace("_", "-"): value for name, value in expected.items()}
        wrong = [name for name, value in named.items() if headers.get(name) != value]
        return f"the server did not receive {', '.join(wrong)}" if wrong else None

    return check


def withheld(*names: str) -> Check:
    """The server did not receive these headers."""

    def check(_: Sent, seen: Seen) -> str | None:
        shown = [name for name in names if name in report_of(seen).get("header_names", ())]
        return f"the server received {', '.join(shown)}" if shown else None

    return check


def lists_in(header: str, *names: str) -> Check:
    """The header lists all of these names, whatever their case."""

    def check(_: Sent, seen: Seen) -> str | None:
        listed = {name.strip().lower() for value in seen.values(header) for name in value.split(",")}
        lacking = [name for name in names if name.lower() not in listed]
        return f"{header} does not list {', '.join(lacking)}" if lacking else None

    return check


def served_by(suffix: str, *attempts: int) -> Check:
    """The answer names the server under test (with this behind its name), and so many calls of servers (or so many)."""

    def check(sent: Sent, seen: Seen) -> str | None:
        name = sent.server + suffix
        if seen.values("x-served-by") != [name]:
            return f"x-served-by is {seen.values('x-served-by')} instead of {name}"
        if seen.values("x-attempts") not in [[str(number)] for number in attempts]:
            return f"x-attempts is {seen.values('x-attempts')} instead of {' or '.join(map(str, attempts))}"
        return None

    return check
