"""What a client asked for: a function URL event (payload 2.0) or a REST API event (1.0) as an `InferenceRequest`. Pure.

Its one rule: whatever goes from the client to an upstream server, a log or an event has been checked here.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote, unquote_to_bytes, urlencode

from openai_proxy.servers import Server

from proxy.errors import ClientError
from proxy.json_shapes import array_of, object_of
from proxy.request.trace_context import w3c_headers

Door = Literal["function_url", "rest_api"]

MAX_BODY_BYTES = 6 * 1024 * 1024
"""What Lambda accepts as one invocation's payload; a function URL refuses more before the function sees it."""

OPERATIONS = {
    "chat/completions": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "responses": "responses",
    "images": "images",
    "audio": "audio",
    "moderations": "moderations",
    "models": "models",
    "files": "files",
    "batches": "batches",
    "messages": "chat",
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FORWARDED_HEADERS = ("accept", "content-type", "idempotency-key", "openai-beta", "anthropic-version", "anthropic-beta")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""TRACE would have a server tell what it was sent, the provider's token too."""
_PATH_SAFE = "!$&'()*+,-.:;=@_~"
_QUERY_SAFE = _PATH_SAFE + "%/?"
_WORDS = frozenset(
    {
        *("chat", "completions", "responses", "messages", "embeddings", "moderations", "rerank", "ocr", "search"),
        *("images", "generations", "edits", "variations", "audio", "speech", "transcriptions", "translations"),
        *("models", "files", "uploads", "batches", "batch", "jobs", "vector_stores", "results", "content"),
        *("count_tokens", "input_tokens", "compact", "cancel", "tokenize", "detokenize", "conversations"),
    }
)
"""What the paths of the API consist of, beside ids."""
_HAVE_IDS = frozenset({"files", "uploads", "batches", "jobs", "responses", "conversations", "vector_stores"})
"""What is followed by an id, which some servers take from a file's name: `results.jsonl`."""
_MOST_DECODINGS = 3
_REMEDY_FOR_A_SPELLING = "Write the names in a path as the API does, as in /chat/completions."
_REMEDY_FOR_V1_TWICE = "This path has /v1 twice: end the base URL before /v1, or leave /v1 out of the path."
_REMEDY_FOR_AN_ENDPOINT_TWICE = "This path names its endpoint twice: end the base URL at /v1."
_REMEDY_FOR_A_SERVER_TWICE = "This path names its server twice: leave it out of the base URL, or out of the path."


class InferenceRequest(NamedTuple):
    """One call of the OpenAI API. Header names are lower case; `path` is as it was sent, and not checked yet."""

    door: Door
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    gateway_identity: Mapping[str, Any] | None
    """What the REST API's authorizer said of the client key; None at the function URL, which cannot have one."""

    @property
    def forwarded_headers(self) -> dict[str, str]:
        """The client's headers that an upstream server may see. The client's authorization is never among them."""
        found = {name: self.headers[name] for name in _FORWARDED_HEADERS if name in self.headers}
        return found | w3c_headers(self.headers)

    @property
    def own_id(self) -> str | None:
        """The id that the client gave its request, if it is fit for headers, logs and events."""
        own = self.headers.get("x-request-id", "")
        return own if _REQUEST_ID.fullmatch(own) else None

    @property
    def clean_query(self) -> str:
        """The query. Everything that could end a request line is encoded; what was encoded already stays as it is."""
        return quote(self.query, safe=_QUERY_SAFE, errors="replace")


class Target(NamedTuple):
    """Where a request goes: `/{server}/v1/{path}`. `path` is clean, percent-encoded and begins with a slash.

    `server` is None for `/v1/{path}`: there the model names it.
    """

    server: str | None
    path: str

    @property
    def operation(self) -> str:
        """The operation in OpenTelemetry's terms where it has one (`chat`, `embeddings`, …), else the API's own."""
        path = self.path[1:]
        if found := OPERATIONS.get(path):
            return found
        first, _, rest = path.partition("/")
        if first == "messages":  # other paths below it are no chats
            return "batches" if f"{rest}/".startswith("batches/") else "other"
        return OPERATIONS.get(first, "other")


def url_of(server: Server, target: Target, request: InferenceRequest) -> str:
    """The address of `target` at `server`, with the server's own parameters, and those of the client that have other
    names.
    """
    query = request.clean_query if request.query else ""
    if server.query:
        own = {pair.partition("=")[0] for pair in server.query.split("&")}
        theirs = (pair for pair in query.split("&") if _canonical(pair.partition("=")[0]) not in own)
        query = "&".join((server.query, *filter(None, theirs)))
    if query and server.auth.is_aws:
        query = "&".join("=".join(map(_canonical, pair.split("=", 1))) for pair in query.split("&") if pair)
    return server.url + target.path + (f"?{query}" if query else "")


def _canonical(part: str) -> str:
    """A name or value of a query in the form that AWS signs: everything is encoded that may be."""
    return quote(unquote_to_bytes(part.replace("+", " ")), safe="-_.~")


def parse(event: Any) -> InferenceRequest:
    """Read an event of either door. Raises ClientError for what is not an HTTP request, or not a readable one."""
    try:
        event = object_of(event)
        context = event["requestContext"]
        if event.get("version") == "2.0":
            door, identity = "function_url", None
            method, path, query = context["http"]["method"], event["rawPath"], event.get("rawQueryString") or ""
        else:
            door, identity = "rest_api", context.get("authorizer")
            method, path, query = event["httpMethod"], _path_of_rest_event(event), _query_of_rest_event(event)
        identity = None if identity is None else object_of(identity)
        headers = _headers(event)
        body = _body(event.get("body") or "", event.get("isBase64Encoded") in (True, "true"))
        if method not in _METHODS or not (isinstance(path, str) and isinstance(query, str)):
            raise ValueError(method)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ClientError(400, "unknown_event", "The event is no HTTP request of either door.") from error
    unclear = (not headers[name].isprintable() for name in _FORWARDED_HEADERS if name in headers)
    if any(unclear) or _CONTROL.search("".join(headers.values())):
        raise ClientError(400, "invalid_header", "A header contains a control character.")
    return InferenceRequest(door, method, path, query, headers, body, identity)


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    """The headers by their names in lower case.

    If a header came several times, a REST API's event has its last value in one field and all values in another. All
    are joined with commas here, which means the same in HTTP; the function URL does so itself.
    """
    sent = object_of(event.get("headers"))
    headers = {name.lower(): str(value) for name, value in sent.items() if value is not None}
    for name, values in object_of(event.get("multiValueHeaders")).items():
        if len(each := array_of(values)) > 1:
            headers[name.lower()] = ",".join(map(str, each))
    return headers


def _path_of_rest_event(event: Mapping[str, Any]) -> str:
    """The path below the base path of a custom domain, as it was sent. The value of `{proxy+}` would be decoded."""
    path = event["path"]
    if not isinstance(path, str):
        raise TypeError(path)
    below = object_of(event.get("pathParameters")).get("proxy")
    if isinstance(below, str) and path.rstrip("/").endswith(end := "/" + below.strip("/")):
        return path[len(path.rstrip("/")) - len(end) :]
    return path


def _query_of_rest_event(event: Mapping[str, Any]) -> str:
    """REST API events carry the query decoded: encode it again, repeated names included."""
    parameters = object_of(event.get("multiValueQueryStringParameters"))
    pairs = [(name, str(value)) for name, values in parameters.items() for value in array_of(values)]
    return urlencode(pairs, quote_via=quote, errors="replace")


def _body(body: str, is_base64: bool) -> bytes:
    if not is_base64:
        decoded = body.encode()
    else:
        try:
            decoded = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise ClientError(400, "invalid_body", "The body is not the base64 that the event says it is.") from error
    if len(decoded) > MAX_BODY_BYTES:
        raise ClientError(413, "request_too_large", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return decoded


@lru_cache(maxsize=64)  # the clients of a sandbox call few different paths
def target_of(path: str) -> Target:
    """Split `/{server}/v1/{path}` or `/v1/{path}`.

    Raises ClientError (404) for any other form, and for every path that leads out of the API. The path is decoded once,
    checked, and encoded again, so a server sees exactly the segments that were checked, however the client encoded
    them. An encoded slash stays encoded, but only in the name of a model, where SDKs send owner and name as one
    segment.
    """
    try:
        before, *segments = [unquote_to_bytes(segment).decode() for segment in path.split("/")]
    except UnicodeError as error:
        raise _unknown_path() from error
    server = segments.pop(0) if segments and segments[0] != "v1" else None
    if before or server == "" or "/" in (server or ""):
        raise _unknown_path()
    if server and segments[:2] == [server, "v1"]:
        raise _unknown_path(_REMEDY_FOR_A_SERVER_TWICE)
    if len(segments) < 2 or segments[0] != "v1":
        raise _unknown_path()
    called = segments[1:]
    if remedy := _remedy_for(called):
        raise _unknown_path(remedy)
    if not all(_is_safe(segment, is_model=place > 0 and called[0] == "models") for place, segment in enumerate(called)):
        raise _unknown_path()
    return Target(server, "".join("/" + quote(segment, safe=_PATH_SAFE) for segment in called))


def _remedy_for(called: list[str]) -> str:
    """What is wrong with a path that repeats its beginning, as happens when the base URL is too long."""
    again = "/".join(called[called.index("v1") + 1 :]) if "v1" in called else ""
    if called[0] == "v1" or again in OPERATIONS or (called[1:2] == ["v1"] and called[0] not in OPERATIONS):
        return _REMEDY_FOR_V1_TWICE
    after = zip(("", *called), called[: 1 if called[0] == "models" else None], strict=False)
    if any(before not in _HAVE_IDS and _is_misspelled(segment) for before, segment in after):
        return _REMEDY_FOR_A_SPELLING
    half = len(called) // 2
    if called[:half] == called[half:] and "/".join(called[:half]) in OPERATIONS:
        return _REMEDY_FOR_AN_ENDPOINT_TWICE
    return ""


def _is_misspelled(segment: str) -> bool:
    """Whether a server might take a segment for a word of the API that it is not: some ignore case, parameters, an
    extension, or blanks, or decode once more. What the proxy does not recognise, it would not meter.
    """
    if segment in _WORDS:
        return False
    for _ in range(_MOST_DECODINGS if "%" in segment else 0):
        segment = unquote(segment)
    return re.split(r"[;.]", segment)[0].strip().lower() in _WORDS


def _is_safe(segment: str, *, is_model: bool) -> bool:
    names = segment.split("/") if is_model else [segment]
    return not any(_leaves(name) or _CONTROL.search(name) or "\\" in name or "/" in name for name in names)


def _leaves(segment: str) -> bool:
    """Whether a server might take `segment` for a step up: some cut off what follows a semicolon."""
    return segment.partition(";")[0] in ("", ".", "..")


def _unknown_path(remedy: str = "") -> ClientError:
    message = "Unknown path. Call /{server}/v1/{path of the OpenAI API}, or /v1/... with a model named server/model."
    return ClientError(404, "unknown_path", f"{message} {remedy}".rstrip())
