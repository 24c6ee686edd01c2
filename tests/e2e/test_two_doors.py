"""The function URL and the REST API, side by side: the same request gets the same status, code and type at both.

Where AWS or the embedded one leaves no choice, the difference stands in the case, with its reason.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from openai_proxy.client_keys import hash_client_key, new_client_key

from tests.e2e.harness import WAIT_SECONDS, LocalStack

CHAT = "demo/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
JSON = {"content-type": "application/json"}
WAVE = {"files": {"file": ("a.wav", b"RIFF\x00\xff", "audio/wav")}, "data": {"model": "demo"}}

KEYS: dict[str, dict[str, Any]] = {
    "good": {},
    "disabled": {"enabled": False},
    "expired": {"expires_at": 1_700_000_000},
    "damaged": {"rpm": "many"},
    "of another server": {"servers": ["openai"]},
    "of this server": {"servers": ["demo"]},
    "of another model": {"models": ["gpt-5*"]},
    "of this model": {"models": ["demo/demo"]},
    "of one request a minute": {"rpm": 1},
}
"""Attributes of the keys beside those that every key has. Each door has a set of its own, for limits are shared."""


@dataclass(frozen=True)
class Answer:
    """What of an answer has to be alike. `code` and `type` are of an OpenAI error, be it a document or a frame."""

    status: int
    code: str | None = None
    type: str | None = None
    may_be_read: bool = True
    """In a browser, by any origin."""


INVALID_KEY = Answer(401, "invalid_api_key", "authentication_error")
UNKNOWN_PATH = Answer(404, "unknown_path", "invalid_request_error")
BAD_JSON = Answer(400, "invalid_json", "invalid_request_error")


@dataclass(frozen=True)
class Case:
    """A request, and what both doors answer; `at_rest_api` where the other one cannot help it, for a `reason`."""

    id: str
    answer: Answer
    method: str = "POST"
    path: str = CHAT
    key: str | None = "good"
    """A name of `KEYS`, or an Authorization header with {key} in the place of a good key; None for no such header."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Mapping[str, Any] = field(default_factory=lambda: {"json": HELLO})
    times: int = 1
    """So often it is asked, until an answer is not 200: of three requests, two lie in one minute."""
    at_rest_api: Answer | None = None
    reason: str = ""


NOTHING: dict[str, Any] = {}

CASES = [
    # What passes.
    Case("chat", Answer(200)),
    Case("stream", Answer(200), body={"json": {**HELLO, "stream": True}}),
    Case("default model", Answer(200), body={"json": {"messages": HELLO["messages"]}}),
    Case(
        "server in the model", Answer(200), path="v1/chat/completions", body={"json": {**HELLO, "model": "demo/demo"}}
    ),
    Case("models", Answer(200), "GET", "demo/v1/models", body=NOTHING),
    Case("models of all servers", Answer(200), "GET", "v1/models", body=NOTHING),
    Case("one model", Answer(200), "GET", "demo/v1/models/demo", body=NOTHING),
    Case("head", Answer(200), "HEAD", "demo/v1/models", body=NOTHING),
    Case("encoded path", Answer(200), "GET", "demo/v1/%6dodels", body=NOTHING),
    Case("query", Answer(200), "GET", "demo/v1/files?limit=2&purpose=a%20b&purpose=c", body=NOTHING),
    Case("upload", Answer(200), path="demo/v1/audio/transcriptions", body=WAVE),
    Case(
        "binary answer",
        Answer(200),
        path="demo/v1/audio/speech",
        body={"json": {"model": "demo", "input": "x", "voice": "v"}},
    ),
    Case("key in small letters", Answer(200), key="bearer {key}"),
    Case("key of this server", Answer(200), key="of this server"),
    Case("key of this model", Answer(200), key="of this model"),
    # Browsers ask first, without a key.
    Case(
        "preflight", Answer(200), "OPTIONS", key=None, headers={"access-control-request-method": "POST"}, body=NOTHING
    ),
    Case("preflight of nothing", Answer(200), "OPTIONS", "nowhere", key=None, body=NOTHING),
    Case(
        "preflight of the root",
        Answer(200),
        "OPTIONS",
        "",
        key=None,
        body=NOTHING,
        at_rest_api=UNKNOWN_PATH,
        reason="a REST API's {proxy+} is for paths of at least one segment",
    ),
    # Keys. Each other form of a header is judged in tests/unit/consumers/test_authorizer.py, as both doors send it.
    Case("no key", INVALID_KEY, key=None),
    Case("unknown", INVALID_KEY, key=f"Bearer {new_client_key()}"),
    Case("disabled", INVALID_KEY, key="disabled"),
    Case("expired", INVALID_KEY, key="expired"),
    Case("damaged", Answer(503, "authorization_unavailable", "server_error"), key="damaged"),
    Case("key of another server", Answer(403, "server_not_allowed", "permission_error"), key="of another server"),
    Case("key of another model", Answer(403, "model_not_allowed", "permission_error"), key="of another model"),
    Case(
        "limited key, again",
        Answer(429, "rate_limit_exceeded", "rate_limit_error"),
        key="of one request a minute",
        times=3,
    ),
    # What the proxy refuses.
    Case("root", UNKNOWN_PATH, "DELETE", "", body=NOTHING),  # GET is the playground, at the function URL
    Case("other version", UNKNOWN_PATH, "GET", "demo/v2/models", body=NOTHING),
    Case("dots", UNKNOWN_PATH, "GET", "demo/v1/%2e%2e/%2e%2e/models", body=NOTHING),
    Case("dots encoded twice and once more", UNKNOWN_PATH, "GET", "demo/v1/%2e%2e%2f%252e%252e/models", body=NOTHING),
    Case("empty segment", UNKNOWN_PATH, "GET", "demo/v1//models", body=NOTHING),
    Case("empty end", UNKNOWN_PATH, "GET", "demo/v1/models/", body=NOTHING),
    Case(
        "encoded slash",
        UNKNOWN_PATH,
        "GET",
        "demo/v1/models%2fdemo",
        body=NOTHING,
        at_rest_api=Answer(200),
        reason="the embedded AWS hands the path on decoded: the server sees the segments that were checked",
    ),
    Case("unknown server", Answer(404, "unknown_server", "invalid_request_error"), path="nowhere/v1/chat/completions"),
    Case(
        "unknown model",
        Answer(404, "model_not_found", "invalid_request_error"),
        path="v1/chat/completions",
        body={"json": {**HELLO, "model": "nothing"}},
    ),
    Case(
        "no model, no server",
        Answer(400, "model_required", "invalid_request_error"),
        path="v1/chat/completions",
        body={"json": {"messages": []}},
    ),
    Case("model of no kind", Answer(400, "invalid_model", "invalid_request_error"), body={"json": {"model": 5}}),
    Case("broken JSON", BAD_JSON, headers=JSON, body={"content": b'{"model": '}),
    Case("no object", BAD_JSON, headers=JSON, body={"content": b'["model"]'}),
    Case("field twice", BAD_JSON, headers=JSON, body={"content": b'{"model": "a", "model": "b"}'}),
    Case(
        "too large",
        Answer(413, "request_too_large", "invalid_request_error", may_be_read=False),
        body={"json": {**HELLO, "x": "x" * (6 * 1024 * 1024)}},
        at_rest_api=Answer(413, "request_too_large", "invalid_request_error"),
        reason="Lambda itself refuses at the function URL, in its own form",
    ),
    # What the server refuses, and how it fails.
    Case("path that the server has not", Answer(404, "unknown_url", "invalid_request_error"), "PUT", "demo/v1/models"),
    Case(
        "bad request", Answer(400, None, "invalid_request_error"), body={"json": {**HELLO, "model": "demo-error-400"}}
    ),
    Case(
        "throttled by the server",
        Answer(429, "rate_limit_exceeded", "rate_limit_error"),
        body={"json": {**HELLO, "demo": {"status": 429, "retry_after": 60}}},
    ),
    Case(
        "token refused",
        Answer(502, "upstream_authentication_failed", "upstream_error"),
        body={"json": {**HELLO, "model": "demo-error-401"}},
    ),
    Case(
        "no token",
        Answer(503, "server_not_configured", "server_error"),
        path="mistral/v1/chat/completions",
        body={"json": {**HELLO, "model": "x"}},
    ),
    Case(
        "web page",
        Answer(502, "upstream_no_answer", "upstream_error"),
        body={"json": {**HELLO, "model": "demo-not-json"}},
    ),
    Case(
        "stream that breaks off",
        Answer(200, "upstream_broken_off", "upstream_error"),
        body={"json": {**HELLO, "model": "demo-cut", "stream": True}},
    ),
    Case(
        "document that breaks off",
        Answer(502, "upstream_broken_off", "upstream_error"),
        body={"json": {**HELLO, "model": "demo-cut"}},
    ),
    Case(
        "sound that breaks off",
        Answer(200, "cut"),
        path="demo/v1/audio/speech",
        body={"json": {"model": "demo", "input": "a b c d e f g h", "voice": "v", "demo": {"cut_after": 1}}},
        at_rest_api=Answer(502, may_be_read=False),
        reason="the embedded AWS does not stream: it answers for the function that failed",
    ),
]


@dataclass(frozen=True)
class Door:
    """One of the two, with keys of its own: name → key."""

    url: str
    keys: Mapping[str, str]

    def ask(self, case: Case) -> Answer:
        """The answer to the last of the case's requests."""
        answers = [self._ask(case)]
        while answers[-1].status == 200 and len(answers) < case.times:
            answers.append(self._ask(case))
        assert len(answers) > 1 or case.times == 1, "the first of several passes"
        return answers[-1]

    def _ask(self, case: Case) -> Answer:
        headers = {**case.headers, "origin": "https://app.example"}
        if case.key is not None:
            named = f"Bearer {self.keys[case.key]}" if case.key in self.keys else case.key
            headers["authorization"] = named.replace("{key}", self.keys["good"])
        request = httpx.Request(case.method, f"{self.url}{case.path}", headers=headers, **case.body)
        with httpx.Client(timeout=WAIT_SECONDS) as client:
            response = client.send(request, stream=True)
            try:
                content = response.read()
            except httpx.RemoteProtocolError:
                return Answer(response.status_code, "cut")
        error = error_in(content)
        may_be_read = response.headers.get("access-control-allow-origin") == "*"
        if may_be_read:  # not what the embedded AWS says itself
            assert response.headers["x-content-type-options"] == "nosniff"
        if response.status_code in (429, 503) and error.get("code") != "server_not_configured":
            assert float(response.headers["retry-after"]) > 0
        return Answer(response.status_code, error.get("code"), error.get("type"), may_be_read)


def error_in(content: bytes) -> dict[str, Any]:
    """The OpenAI error in a document, or in the frames of a stream; nothing if there is none."""
    documents = [line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data: {")]
    for document in [content, *documents]:
        try:
            error: Any = json.loads(document).get("error")
        except (ValueError, AttributeError):
            continue
        if error:
            assert error.keys() == {"message", "type", "param", "code"}
            return error
    return {}


def new_keys(stack: LocalStack) -> dict[str, str]:
    """One key of each kind, in the key table."""
    table, client_id = stack.table("KEYS_TABLE"), f"doors-{secrets.token_hex(4)}"
    keys = {name: new_client_key() for name in KEYS}
    for name, attributes in KEYS.items():
        item = {"key_hash": hash_client_key(keys[name]), "client_id": client_id, "name": "A door's key"}
        table.put_item(Item={**item, "enabled": True, **attributes})
    return keys


@pytest.fixture(scope="module")
def function_url(stack: LocalStack) -> Door:
    return Door(stack.url, new_keys(stack))


@pytest.fixture(scope="module")
def rest_api(stack: LocalStack) -> Door:
    return Door(stack.environment["REST_API_URL"], new_keys(stack))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_both_doors_answer_alike(stack: LocalStack, function_url: Door, rest_api: Door, case: Case):
    stack.ready_authorizers()
    assert function_url.ask(case) == case.answer
    assert rest_api.ask(case) == (case.at_rest_api or case.answer)


def test_every_difference_has_a_reason():
    assert len(CASES) >= 40
    for case in CASES:
        assert bool(case.reason) == (case.at_rest_api is not None)
        assert case.at_rest_api != case.answer
