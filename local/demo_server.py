"""The demo server: speaks the OpenAI API without a model behind it, and fails on demand.

Its one rule: it takes only the proxy's token for it, never a client's key, and it keeps nothing of what it is sent.

Faults come by the model's name (`demo-error-429`, `demo-cut`, `demo-hang`, `demo-not-json`) or, finer, by a field
`demo` of the body: `delay` (seconds between two tokens), `tokens`, `reasoning_tokens`, `cached_tokens`, `usage` (false:
none is ever reported), `status` (an error), `retry_after`, `cut_after`, `hang_after` (a number of chunks), `not_json`.
"""

import argparse
import asyncio
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.demo_answers import MODELS, SILENCE, Shape, answer_chat, answer_completion, embeddings, error, model

TOKEN_VARIABLE = "DEMO_SERVER_TOKEN"  # noqa: S105 (a name, not a token)
DEFAULT_DELAY = 0.04

_ERROR_MODEL = re.compile(r"demo-error-(\d{3})")
_FOREVER = 24 * 3600.0
_INVALID = "invalid_request_error"


_BY_MODEL: dict[str, dict[str, Any]] = {
    "demo-slow": {"delay": 0.5},
    "demo-no-usage": {"usage": False},
    "demo-cut": {"cut_after": 6},
    "demo-hang": {"hang_after": 0},
    "demo-not-json": {"not_json": True},
}

Endpoint = Callable[[Request], Awaitable[Response]]


class CutError(Exception):
    """Ends a response in the middle: the server closes the connection."""


class RefusedError(Exception):
    """A request that OpenAI would refuse."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


class DemoServer:
    """The endpoints. `delay` (seconds) is the pause before each token."""

    def __init__(self, token: str, delay: float = DEFAULT_DELAY) -> None:
        self._token = token
        self._delay = delay

    def app(self) -> Starlette:
        """The ASGI application."""
        post = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embeddings,
            "/v1/audio/transcriptions": self._transcription,
            "/v1/audio/speech": self._speech,
        }
        routes = [Route(path, self._guarded(endpoint), methods=["POST"]) for path, endpoint in post.items()]
        routes.append(Route("/v1/models", self._guarded(self._models), methods=["GET"]))
        routes.append(Route("/v1/models/{name}", self._guarded(self._model), methods=["GET"]))
        return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found, RefusedError: _refused})

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            sent = request.headers.get("authorization", "")
            if not hmac.compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
                return JSONResponse(error("Incorrect API key provided.", _INVALID, "invalid_api_key"), 401)
            return await endpoint(request)

        return guarded

    async def _chat(self, request: Request) -> Response:
        return await self._generate(request, is_chat=True, required="messages")

    async def _completion(self, request: Request) -> Response:
        return await self._generate(request, is_chat=False, required="prompt")

    async def _generate(self, request: Request, *, is_chat: bool, required: str) -> Response:
        body = await _json_object(request)
        for name in ("model", required):
            if not body.get(name):
                raise RefusedError(400, f"You must provide the parameter '{name}'.", name)
        demo = directions(body)
        if (failure := await _failure(request, demo)) is not None:
            return failure
        answer = (answer_chat if is_chat else answer_completion)(body, demo)
        shape = Shape(
            is_chat, f"{'chatcmpl' if is_chat else 'cmpl'}-demo{secrets.token_hex(8)}", int(time.time()), body["model"]
        )
        reports_usage = demo.get("usage", True)
        delay = float(demo.get("delay", self._delay))
        if not body.get("stream"):
            await asyncio.sleep(delay)
            whole = shape.whole(answer)
            if not reports_usage:
                del whole["usage"]
            return _broken_off(whole) if "cut_after" in demo else JSONResponse(whole)
        options: dict[str, Any] = body.get("stream_options") or {}
        chunks = shape.chunks(answer, include_usage=reports_usage and options.get("include_usage") is True)
        return StreamingResponse(_events(chunks, delay, demo), media_type="text/event-stream")

    async def _embeddings(self, request: Request) -> Response:
        body = await _json_object(request)
        failure = await _failure(request, directions(body))
        return failure or JSONResponse(embeddings(body))

    async def _transcription(self, request: Request) -> Response:
        return JSONResponse(
            {"text": f"This is the demo server. It was sent {len(await request.body())} bytes of audio and form."}
        )

    async def _speech(self, request: Request) -> Response:
        await request.body()
        return Response(SILENCE, media_type="audio/wav")

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model(name) for name in MODELS]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in MODELS:
            raise RefusedError(404, f"The model '{name}' does not exist.", "model", "model_not_found")
        return JSONResponse(model(name))


def directions(body: Mapping[str, Any]) -> dict[str, Any]:
    """How to misbehave: what the model's name says, overridden by the field `demo`."""
    name = str(body.get("model"))
    by_name = dict(_BY_MODEL.get(name, {}))
    if match := _ERROR_MODEL.fullmatch(name):
        by_name["status"] = int(match[1])
    given = body.get("demo")
    return by_name | (given if isinstance(given, dict) else {})


async def _json_object(request: Request) -> dict[str, Any]:
    try:
        body: Any = json.loads(await request.body())
    except ValueError:
        raise RefusedError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "The body is not a JSON object.")
    return body  # pyright: ignore[reportUnknownVariableType]


async def _failure(request: Request, demo: Mapping[str, Any]) -> Response | None:
    """The failure that was ordered in place of an answer, if one was."""
    if demo.get("hang_after") == 0:
        while (await request.receive())["type"] != "http.disconnect":
            pass
    if demo.get("not_json"):
        return Response("<html><body>This is not JSON.</body></html>", media_type="text/html")
    status = demo.get("status")
    if status is None:
        return None
    kind, code = ("rate_limit_error", "rate_limit_exceeded") if status == 429 else ("server_error", None)
    headers = {"retry-after": str(demo.get("retry_after", 1))} if status in (429, 503) else {}
    return JSONResponse(error(f"The demo server answers {status}, as ordered.", kind, code), status, headers)


async def _events(chunks: Iterator[dict[str, Any]], delay: float, demo: Mapping[str, Any]) -> AsyncIterator[bytes]:
    """Server-sent events, one chunk each, `delay` seconds apart."""
    for number, chunk in enumerate(chunks):
        if number == demo.get("cut_after"):
            raise CutError
        if number == demo.get("hang_after"):
            await asyncio.sleep(_FOREVER)
        if number:
            await asyncio.sleep(delay)
        yield b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _broken_off(whole: dict[str, Any]) -> Response:
    content = json.dumps(whole).encode()

    async def half() -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        raise CutError

    return StreamingResponse(half(), media_type="application/json", headers={"content-length": str(len(content))})


async def _refused(_request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, RefusedError)
    return JSONResponse(error(str(refusal), _INVALID, refusal.code, refusal.param), refusal.status)


async def _not_found(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        error(f"Unknown request URL: {request.method} {request.url.path}.", _INVALID, "unknown_url"), 404
    )


def main() -> None:
    """Serve on 127.0.0.1. The token that it takes comes by the environment: arguments show in the process list."""
    parser = argparse.ArgumentParser(prog="python -m local.demo_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=DEFAULT_DELAY, help="seconds before each token")
    options = parser.parse_args()
    app = DemoServer(os.environ[TOKEN_VARIABLE], options.delay).app()
    # "critical": uvicorn reports each connection that is cut on demand as an error of the application.
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
