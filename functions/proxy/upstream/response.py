"""The part of a server's answer that reaches the client, and its form. Its one rule: every error is an OpenAI error."""

import contextlib
import itertools
import re
from collections.abc import Iterable
from typing import Any

from proxy.delivery import SHORTEST_SECRET, without
from proxy.errors import UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.json_shapes import loads_or_none, object_of
from proxy.log import log
from proxy.metering.reported_error import ReportedError, message_of, reported_error
from proxy.metering.sse import BLANK, data_of, split_events

_RETURNED_HEADER = re.compile(
    r"content-(type|encoding|disposition)|retry-after(-ms)?|openai-(?!organization|project).+|x-(ratelimit-.+|should-retry)"
    r"|anthropic-(?!organization|workspace).+|request-id"
)
_OF_ERRORS = re.compile(
    r"retry-after(-ms)?|x-(ratelimit-.+|should-retry|upstream-request-id)|anthropic-ratelimit-.+|request-id"
)
_READABLE = ("text/event-stream", "application/json")
_KNOWN_CODINGS = ("gzip", "x-gzip", "deflate")
_NO_CODINGS = ("", "identity", "none", "utf-8", "utf8")
"""Some servers name the character encoding there."""
_MOST_CODINGS = 4
_LONGEST_ERROR = 64 * 1024
_LONGEST_QUOTE = 500
_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_-]{20,}")


def content_type(answer: UpstreamResponse) -> str:
    """The media type of `answer` in lower case, parameters and all."""
    return answer.headers.get("content-type", "").lower()


def returned_headers(answer: UpstreamResponse, token: str) -> dict[str, str]:
    """The server's headers that a client may see, its request id under a name of its own: clean text only, and none
    that quotes the server's `token`.
    """
    quoted = token if len(token) >= SHORTEST_SECRET else None
    renamed = {"x-request-id": "x-upstream-request-id"}
    dropped = "content-encoding" if _codings(answer) or not _named_codings(answer) else None
    return {
        renamed.get(name, name): value
        for name, value in answer.headers.items()
        if (name in renamed or _RETURNED_HEADER.fullmatch(name))
        and name != dropped
        and value.isprintable()
        and not (quoted and quoted in value)
    }


def error_body(answer: UpstreamResponse, server: str, token: str) -> Iterable[bytes]:
    """The body of an `answer` with the status of an error, if it is an OpenAI error.

    Raises UpstreamError for answers that must not reach the client as they are. A redirect could lead anywhere; a 401
    would tell the client that *its* key is wrong, and quotes part of the provider's; an error in another form than
    OpenAI's is one that no SDK can read.
    """
    status = answer.status
    if status < 400:
        message = f"The server '{server}' answered with a redirect, which the proxy does not follow."
        raise UpstreamError(502, "upstream_redirect", message, upstream_status=status)
    if status == 401:
        raise _token_refused(server, status)
    return [_openai_error(answer, server, token)]


def broken_off(server: str) -> UpstreamError:
    """The error of a stream that stops without its end."""
    message = f"The server '{server}' ended its answer before it was complete."
    return UpstreamError(502, "upstream_broken_off", message)


def no_answer(server: str, status: int, what: str) -> UpstreamError:
    """The error for a question whose answer is no answer."""
    message = f"The server '{server}' answered with {what[:_LONGEST_QUOTE]}"
    return UpstreamError(502, "upstream_no_answer", message, upstream_status=status)


def error_in_success(answer: UpstreamResponse, server: str, token: str, error: ReportedError) -> UpstreamError:
    """The error in an answer with a success status. It has the status that the error names; 502 if it names none."""
    if error.status == 401:
        return _token_refused(server, answer.status)
    message = f"The server '{server}' answered {answer.status} with an error"
    if said := _quoted(error.message, token):
        message += f": {said}"
    status, headers = error.status or 502, _error_headers(answer, token)
    return UpstreamError(status, "upstream_error", message, upstream_status=answer.status, headers=headers)


def _token_refused(server: str, status: int) -> UpstreamError:
    log("ERROR", "A server refused the proxy's token", server=server)
    message = f"The server '{server}' refused the proxy's token. The proxy's owner has to renew it."
    return UpstreamError(502, "upstream_authentication_failed", message, upstream_status=status)


def _quoted(said: str, token: str) -> str:
    """A server's text, without the token that it may quote, or anything like a token."""
    said = said.replace(token, "...") if token else said
    return _LIKE_A_SECRET.sub("...", said)[:_LONGEST_QUOTE]


def _error_headers(answer: UpstreamResponse, token: str) -> dict[str, str]:
    return {name: value for name, value in returned_headers(answer, token).items() if _OF_ERRORS.fullmatch(name)}


def coding_left(answer: UpstreamResponse) -> bool:
    """Whether the body is in a content coding that cannot be taken off."""
    return bool(_named_codings(answer) and not _codings(answer))


def codings_of(answer: UpstreamResponse) -> list[str]:
    """The content codings of `answer`, in the order in which they were applied; none if one of them is unknown."""
    named = _named_codings(answer)
    return named if len(named) <= _MOST_CODINGS and all(name in _KNOWN_CODINGS for name in named) else []


def _named_codings(answer: UpstreamResponse) -> list[str]:
    named = answer.headers.get("content-encoding")
    if not named:
        return []
    names = (name.strip().lower() for name in named.split(","))
    return [name for name in names if name not in _NO_CODINGS]


def _codings(answer: UpstreamResponse) -> list[str]:
    """The content codings that are taken off `answer`."""
    return codings_of(answer) if content_type(answer).startswith(_READABLE) else []


def unpacked(answer: UpstreamResponse, server: str) -> Iterable[bytes]:
    """The body as it comes, unpacked if needed: no server was asked for compression, but some compress."""
    if not (codings := _codings(answer)):
        return answer
    from proxy.http.compression import decompressed  # noqa: PLC0415  # few servers need it, and zlib takes time to load

    return decompressed(answer, codings, server)


def _openai_error(answer: UpstreamResponse, server: str, token: str) -> bytes:
    """The body of an error, unchanged if it is an OpenAI error. Else raises UpstreamError with what it says."""
    media_type = content_type(answer)
    body = b"" if "html" in media_type else _whole(answer, server)
    if token:
        body = without(token, body)  # some servers quote the request
    document: Any = loads_or_none(body.lstrip(BLANK))
    if "json" in media_type and object_of(object_of(document).get("error")).get("message"):
        return body
    message = f"The server '{server}' answered {answer.status} without an OpenAI error."
    if said := _quoted(_said(document) or _said_in_lines(body), token):
        message = f"The server '{server}' answered {answer.status}: {said}"
    headers = _error_headers(answer, token)
    raise UpstreamError(answer.status, "upstream_error", message, upstream_status=answer.status, headers=headers)


def _whole(answer: UpstreamResponse, server: str) -> bytes:
    """The body as far as it comes; nothing if it is too long for an error."""
    body = bytearray()
    with contextlib.suppress(UpstreamError):  # the part that came before it broke off may be a whole error
        for piece in unpacked(answer, server):
            body += piece
            if len(body) > _LONGEST_ERROR:
                return b""
    return bytes(body)


def _said_in_lines(body: bytes) -> str:
    """The text of an error that came as events of a stream, or as lines of JSON: that of the first one with a text."""
    documents = (data_of(event) for event in split_events(body.lstrip(BLANK)))
    for document in itertools.chain(documents, body.splitlines()):
        if said := _said(loads_or_none(document)):
            return said
    return ""


def _said(document: Any) -> str:
    """The text of an error, also if it stands where answers have theirs, as in `choices`."""
    if said := message_of(document):
        return said
    error = reported_error(document)
    return error.message if error else ""
