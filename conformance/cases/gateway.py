"""What the proxy itself decides: keys, paths, servers, browsers and fallbacks."""

from typing import Any

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.faults import WHOLE
from conformance.cases.streams import CHAT, COMPLETED
from conformance.chat import STREAM, echo
from conformance.checks import lists_in, lists_model, received, served_by
from conformance.wire import JSON, Reply

DEFAULT = "default"
"""The case that the servers' default model chooses: an entry's `model` is `conformance-default`."""

_DOWN = "-down"
_NEVER = Reply((b'{"error": "this request should not have reached the server"}',), 418, JSON, framing="length")
_BROWSER = (("origin", "https://app.example"),)
_ANNOUNCED = (
    "authorization",
    "content-type",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
    "openai-beta",
    "x-request-id",
)
_EXPOSED = (
    "x-request-id",
    "x-inference-id",
    "x-upstream-request-id",
    "x-served-by",
    "x-attempts",
    "server-timing",
    "retry-after",
    "x-ratelimit-remaining-requests",
    "openai-processing-ms",
)


def _refused(name: str, about: str, status: int, code: str, ask: Ask) -> Case:
    """A request that does not reach the server."""
    told = Told("InferenceFailed", code, "none") if ask.key == "client" else None
    return Case(
        name, about, _NEVER, Sees(status, error=code), told, ask, url_only=ask.key != "client" or "%2F" in ask.path
    )


def _from_root(path: str, **more: Any) -> Ask:
    return Ask(path=path, fields=CHAT.fields, from_root=True, **more)


def _unrouted(model: str | None) -> Ask:
    return Ask(path="/v1/chat/completions", fields=WHOLE.fields, model=model, from_root=True)


_TWICE = b'{"model": "conformance-model-twice", "model": "conformance-other", "messages": []}'
_PREFLIGHT = Ask(
    "OPTIONS",
    key="none",
    headers=(
        *_BROWSER,
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", ",".join(_ANNOUNCED)),
        ("x-request-id", ""),
    ),
)

CASES = (
    Case(
        "preflight",
        "a browser's pre-flight needs no key, and may announce what the SDKs send",
        _NEVER,
        Sees(
            (200, 204),
            headers={"access-control-allow-origin": r"\*|https://app\.example", "x-content-type-options": "nosniff"},
            also=(
                lists_in("access-control-allow-headers", *_ANNOUNCED),
                lists_in("access-control-allow-methods", "POST", "GET", "DELETE"),
            ),
            speaker="preflight",
        ),
        None,
        _PREFLIGHT,
    ),
    Case(
        "browser",
        "a page of another origin can read the answer and its headers",
        Reply(STREAM, headers=(("x-ratelimit-remaining-requests", "5"), ("openai-processing-ms", "1"))),
        Sees(
            body=b"".join(STREAM),
            headers={"access-control-allow-origin": r"\*|https://app\.example"},
            also=(
                lambda sent, seen: (
                    None
                    if "*" in seen.values("access-control-expose-headers")
                    else lists_in("access-control-expose-headers", *_EXPOSED)(sent, seen)
                ),
            ),
        ),
        COMPLETED,
        Ask(fields=CHAT.fields, headers=_BROWSER),
    ),
    _refused(
        "browser-error",
        "a page of another origin can read an error too",
        401,
        "invalid_api_key",
        Ask(fields=CHAT.fields, headers=_BROWSER, key="none"),
    ),
    _refused("no-key", "no client key", 401, "invalid_api_key", Ask(fields=CHAT.fields, key="none")),
    _refused("wrong-key", "a client key that nobody has", 401, "invalid_api_key", Ask(fields=CHAT.fields, key="wrong")),
    _refused(
        "invalid-json",
        "a body that is no JSON",
        400,
        "invalid_json",
        Ask(body=b'{"model": "conformance-invalid-json", '),
    ),
    _refused("json-list", "a body that is no JSON object", 400, "invalid_json", Ask(body=b"[1]")),
    _refused(
        "unknown-server",
        "a server that the proxy does not list",
        404,
        "unknown_server",
        _from_root("/nobody-has-this-name/v1/chat/completions"),
    ),
    _refused(
        "path-without-version",
        "a path that is not below /v1",
        404,
        "unknown_path",
        _from_root("/{server}/v2/chat/completions"),
    ),
    _refused(
        "path-that-leaves",
        "a path that would leave the API",
        404,
        "unknown_path",
        _from_root("/{server}/v1/%2e%2e/admin"),
    ),
    _refused(
        "path-with-encoded-slash",
        "a path with an encoded slash that is in no model's name",
        404,
        "unknown_path",
        _from_root("/{server}/v1/files/a%2Fb"),
    ),
    Case(
        "request-too-large",
        "more than a function takes is refused; by Lambda itself in its own form",
        _NEVER,
        Sees(413, speaker="gateway"),
        None,
        Ask(fields={"messages": [{"role": "user", "content": "x" * 7_000_000}]}),
    ),
    Case(
        DEFAULT,
        "a request that names no model is for the server's own",
        echo,
        Sees(also=(received(model=f"conformance-{DEFAULT}"),)),
        COMPLETED,
        Ask(fields=WHOLE.fields, model=None),
    ),
    Case(
        "routed-by-model",
        "without a server in the path, the model's name says which: server/model",
        Reply(STREAM),
        Sees(body=b"".join(STREAM), also=(served_by("", 1),)),
        COMPLETED,
        _from_root("/v1/chat/completions", model="{server}/{case}"),
    ),
    Case(
        "alias",
        "an alias stands for a model of its server",
        echo,
        Sees(also=(received(model=f"conformance-{DEFAULT}"), served_by("", 1))),
        COMPLETED,
        Ask(fields=WHOLE.fields, model="{server}-alias"),
    ),
    Case(
        "alias-from-root",
        "without a server in the path an alias says which, too",
        echo,
        Sees(also=(received(model=f"conformance-{DEFAULT}"), served_by("", 1))),
        COMPLETED,
        Ask(path="/v1/chat/completions", fields=WHOLE.fields, model="{server}-alias", from_root=True),
    ),
    Case(
        "models-of-all-servers",
        "the list of all servers' models has this server's, whether or not the others answer",
        _NEVER,
        Sees(also=(lists_model("{server}/conformance-probe"), lists_model("{server}-alias"))),
        Told("InferenceCompleted", usage="none"),
        Ask("GET", "/v1/models", from_root=True),
    ),
    _refused(
        "model-unknown",
        "no server in the path, and a model that names none",
        404,
        "model_not_found",
        _unrouted("gpt-x"),
    ),
    _refused("model-missing", "no server in the path, and no model", 400, "model_required", _unrouted(None)),
    _refused(
        "model-twice", "two models in one body: servers disagree on which counts", 400, "invalid_json", Ask(body=_TWICE)
    ),
    _refused(
        "model-no-text", "a model that is a number", 400, "invalid_model", Ask(body=b'{"model": 7, "messages": []}')
    ),
    Case(
        "fallback",
        "a server that cannot be reached is stood in for by its fallback, asked for its own model",
        _NEVER,
        Sees(also=(received(model=f"conformance-{DEFAULT}"), served_by("", 2))),
        COMPLETED,
        Ask(fields=WHOLE.fields, server=_DOWN),
    ),
)
