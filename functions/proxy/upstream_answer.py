"""What of a server's answer reaches the client, and in which form. Its one rule: every error is an OpenAI error."""

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from proxy.errors import UpstreamError
from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.log import log
from proxy.upstream import Answer

_RETURNED_HEADER = re.compile(
    r"content-(type|encoding|disposition)|retry-after(-ms)?|openai-(?!organization|project).+|x-(ratelimit-.+|should-retry)"
)
_OF_ERRORS = re.compile(r"retry-after(-ms)?|x-(ratelimit-.+|should-retry|upstream-request-id)")
_READABLE = ("text/event-stream", "application/json")
_CODINGS = ("gzip", "x-gzip", "deflate")
_LONGEST_ERROR = 64 * 1024
_LONGEST_QUOTE = 500
_LONGEST_HELD = 4 * 1024 * 1024
_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_-]{20,}")
_ERROR = re.compile(rb'"error"\s*:\s*\{')


def content_type(answer: Answer) -> str:
    """The media type of `answer` in lower case, parameters and all."""
    return answer.headers.get("content-type", "").lower()


def returned_headers(answer: Answer) -> dict[str, str]:
    """The server's headers that a client may see, its request id under a name of its own; clean text only."""
    renamed = {"x-request-id": "x-upstream-request-id"}
    dropped = "content-encoding" if _coding(answer) else None
    return {
        renamed.get(name, name): value
        for name, value in answer.headers.items()
        if (name in renamed or _RETURNED_HEADER.fullmatch(name)) and name != dropped and value.isprintable()
    }


def usable_body(answer: Answer, server: str, token: str, *, must_be_json: bool, asked_stream: bool) -> Iterable[bytes]:
    """The body of `answer` as it comes, a JSON document when it is whole.

    Raises UpstreamError for answers that must not reach the client as they are. A redirect could lead anywhere; a 401
    would tell the client that *its* key is wrong, and quotes part of the provider's; an error in another form than
    OpenAI's is one that no SDK can read.
    """
    status = answer.status
    if 300 <= status < 400:
        message = f"The server '{server}' answered with a redirect, which the proxy does not follow."
        raise UpstreamError(502, "upstream_redirect", message, upstream_status=status)
    if status == 401:
        log("ERROR", "A server refused the proxy's token", server=server)
        message = f"The server '{server}' refused the proxy's token. The proxy's owner has to renew it."
        raise UpstreamError(502, "upstream_authentication_failed", message, upstream_status=status)
    if status >= 400:
        return [_openai_error(answer, server, token)]
    if must_be_json and "html" in content_type(answer):
        message = f"The server '{server}' answered with a web page. Is its url the base of an OpenAI API?"
        raise UpstreamError(502, "upstream_no_answer", message, upstream_status=status)
    return _whole_document(answer, server) if must_be_json and not asked_stream else _unpacked(answer, server)


def _coding(answer: Answer) -> str:
    """The content coding that is taken off `answer`, or ""."""
    coding = answer.headers.get("content-encoding", "").strip().lower()
    return coding if coding in _CODINGS and content_type(answer).startswith(_READABLE) else ""


def _unpacked(answer: Answer, server: str) -> Iterable[bytes]:
    """The body as it comes, or unpacked: no server was asked for a compressed one, some send it."""
    if not (coding := _coding(answer)):
        return answer
    from proxy.compression import decompressed  # noqa: PLC0415  # few servers need it, and zlib takes time to load

    return decompressed(answer, coding, server)


def _whole_document(answer: Answer, server: str) -> Iterable[bytes]:
    """A JSON answer, held back until it is complete: half of it is of no use, and now its cut is still an error.

    Raises UpstreamError when it does not come whole, or is an error that calls itself a success. What is too long to be
    held goes on as it comes.
    """
    pieces = iter(_unpacked(answer, server))
    held: list[bytes] = []
    if not content_type(answer).startswith("application/json"):
        return pieces
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > _LONGEST_HELD:
            return itertools.chain(held, pieces)
    if size < _LONGEST_ERROR and _ERROR.search(held[0] if held else b""):
        fields = object_of(loads_or_none(b"".join(held)))
        if object_of(fields.get("error")) and not fields.get("choices") and "object" not in fields:
            message = f"The server '{server}' answered {answer.status} with an error: {_said(fields)[:_LONGEST_QUOTE]}"
            raise UpstreamError(502, "upstream_error", message, upstream_status=answer.status)
    return held


def _openai_error(answer: Answer, server: str, token: str) -> bytes:
    """The body of an error, unchanged if it is an OpenAI error. Else raises UpstreamError with what it says."""
    media_type = content_type(answer)
    body = b"" if "html" in media_type else _whole(answer, server)
    if token:
        body = body.replace(token.encode(), b"...")  # some servers quote what they were sent
    document: Any = loads_or_none(body)
    if "json" in media_type and object_of(object_of(document).get("error")).get("message"):
        return body
    message = f"The server '{server}' answered {answer.status} without an OpenAI error."
    if said := _said(document):
        message = f"The server '{server}' answered {answer.status}: {said[:_LONGEST_QUOTE]}"
    headers = {name: value for name, value in returned_headers(answer).items() if _OF_ERRORS.fullmatch(name)}
    raise UpstreamError(answer.status, "upstream_error", message, upstream_status=answer.status, headers=headers)


def _whole(answer: Answer, server: str) -> bytes:
    """The body, or nothing when it does not come whole, or is too long to be an error."""
    body = bytearray()
    try:
        for piece in _unpacked(answer, server):
            body += piece
            if len(body) > _LONGEST_ERROR:
                return b""
    except UpstreamError:
        return b""
    return bytes(body)


def _said(document: Any) -> str:
    """What an error in a form of its own says: Ollama's text, Mistral's and vLLM's message, FastAPI's detail."""
    if array := array_of(document):
        document = array[0]  # Gemini puts its error into an array
    fields = object_of(document)
    for said in (fields.get("error"), fields.get("message"), fields.get("detail")):
        inner = object_of(said).get("message") or said
        if inner:
            text = inner if isinstance(inner, str) else json.dumps(inner)
            return _LIKE_A_SECRET.sub("...", text)
    return ""
