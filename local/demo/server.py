"""The demo server: it speaks the OpenAI API, and Anthropic's Messages, without a model, and fails on demand.

It takes only the proxy's token for it, never a client's key. What clients store is kept in memory, a bounded number of
each kind (`kept/`).

Faults come by the model's name (`demo-error-429`, `demo-cut`, `demo-hang`, `demo-not-json`) or, finer, by a field
`demo` of the body: `delay` (seconds between two tokens), `tokens`, `reasoning_tokens`, `cached_tokens`, `usage` (false:
none is ever reported), `status` (an error), `times` (only the first so many times that this request comes),
`retry_after`, `cut_after`, `hang_after` (a number of chunks), `not_json`.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from local.demo import audio, chat, embeddings, images, messages
from local.demo.faults import MODELS, broken_off, directions, events, ordered_error, pieces
from local.demo.kept.batches import Batches
from local.demo.kept.conversations import Conversations
from local.demo.kept.files import Files
from local.demo.kept.history import History
from local.demo.kept.shelf import Asked, Place
from local.demo.kept.uploads import Uploads
from local.demo.kept.vector_stores import VectorStores
from local.demo.multipart import parse_form
from local.demo.replies import INVALID, Body, Events, Json, RefusedError, Reply, Respond, error
from local.demo.responses import Responses

TOKEN_VARIABLE = "DEMO_SERVER_TOKEN"  # noqa: S105 (a name, not a token)
DEFAULT_DELAY = 0.04

_MOST_KEPT = 100
_UNKNOWN_URL = (
    "Unknown request URL: {method} {path}. Please check the URL for typos, or see the docs at "
    "https://platform.openai.com/docs/api-reference/."
)

_MALFORMED = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)
"""The errors that reading a request raises when a field has another form than OpenAI documents."""

Endpoint = Callable[[Request], Awaitable[Response]]


class DemoServer:
    """The endpoints. `delay` (seconds) is the pause before each token."""

    def __init__(self, token: str, delay: float) -> None:
        self._token = token
        self._delay = delay
        files, conversations = Files(), Conversations()
        history = History(conversations)
        kept = (files, Batches(files, self._ask, delay), Uploads(files), VectorStores(files), conversations, history)
        self._places = [place for each in kept for place in each.places()]
        self._failed: dict[bytes, int] = {}
        responses = Responses(history)
        self._of_json: dict[str, tuple[Sequence[str], Respond]] = {
            "/v1/chat/completions": (("model", "messages"), chat.chat),
            "/v1/completions": (("model", "prompt"), chat.completion),
            "/v1/responses": (("model", "input"), responses.respond),
            "/v1/responses/input_tokens": ((), responses.count),
            "/v1/responses/compact": (("model",), responses.compact),
            messages.PATH: (("model", "max_tokens", "messages"), messages.message),
            f"{messages.PATH}/count_tokens": (("model", "messages"), messages.count),
            "/v1/embeddings": (("model", "input"), embeddings.embeddings),
            "/v1/moderations": (("input",), embeddings.moderations),
            "/v1/images/generations": (("prompt",), images.generate),
            "/v1/audio/speech": (("model", "input", "voice"), audio.speak),
        }
        self._of_forms: dict[str, tuple[Sequence[str], Respond]] = {
            "/v1/images/edits": (("image", "prompt"), images.edit),
            "/v1/images/variations": (("image",), images.vary),
            "/v1/audio/transcriptions": (("file", "model"), audio.transcribe),
            "/v1/audio/translations": (("file", "model"), audio.translate),
        }

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [self._route("POST", path, self._generate) for path in (*self._of_json, *self._of_forms)]
        routes += [
            self._route("GET", "/v1/models", _models),
            self._route("GET", "/v1/models/{id}", _model),
        ]
        routes += [self._route(place.method, place.path, _answering(place)) for place in self._places]
        return Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found, RefusedError: _refused})

    def _route(self, method: str, path: str, endpoint: Endpoint) -> Route:
        async def guarded(request: Request) -> Response:
            sent = request.headers.get("authorization", "")
            if not hmac.compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
                return JSONResponse(error("Incorrect API key provided.", INVALID, "invalid_api_key"), 401)
            return await endpoint(request)

        return Route(path, guarded, methods=[method])

    async def _generate(self, request: Request) -> Response:
        """The endpoints whose answers a model would make."""
        content = await request.body()
        content_type = request.headers.get("content-type", "")
        if request.url.path in self._of_forms and "json" not in content_type:
            body = parse_form(content_type, content)
        else:
            body = _json_object(content)
        demo = directions(body)
        if (failure := await self._failure(request, demo, hashlib.sha256(content).digest())) is not None:
            return failure
        return await self._sent(self._reply(request.url.path, body, demo), demo)

    def _reply(self, path: str, body: Body, demo: Body) -> Reply:
        required, respond = self._of_json.get(path) or self._of_forms[path]
        _require(body, required)
        try:
            return respond(body, demo)
        except _MALFORMED as fault:
            raise _another_form(fault) from fault

    async def _sent(self, reply: Reply, demo: Body) -> Response:
        delay = float(demo.get("delay", self._delay))
        if isinstance(reply, Events):
            return StreamingResponse(events(reply, delay, demo), media_type="text/event-stream")
        await asyncio.sleep(delay)
        if isinstance(reply, Json):
            return broken_off(reply.content) if "cut_after" in demo else JSONResponse(reply.content)
        return StreamingResponse(pieces(reply.pieces, demo), media_type=reply.media_type)

    def _ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A request of a batch: answered without a pause; of the faults only an error is known here."""
        demo = directions(body)
        if (status := demo.get("status")) is not None:
            return status, ordered_error(status)
        try:
            reply = self._reply(path, {**body, "stream": False}, demo)
        except RefusedError as refusal:
            return refusal.status, refusal.to_json()
        assert isinstance(reply, Json)
        return 200, reply.content

    async def _failure(self, request: Request, demo: Body, digest: bytes) -> Response | None:
        """The failure that was ordered in place of an answer, if one was."""
        if demo.get("hang_after") == 0:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        if demo.get("not_json"):
            return Response("<html><body>This is not JSON.</body></html>", media_type="text/html")
        status = demo.get("status")
        if status is None or self._has_failed_enough(demo, digest):
            return None
        headers = {"retry-after": str(demo.get("retry_after", 1))} if status in (429, 503) else {}
        return _error_response(request, ordered_error(status), status, headers)

    def _has_failed_enough(self, demo: Body, digest: bytes) -> bool:
        """Whether a request has failed as often as it was to; then it may fail as often again."""
        if "times" not in demo:
            return False
        failed = self._failed.pop(digest, 0)
        if failed >= demo["times"]:
            return True
        self._failed[digest] = failed + 1
        if len(self._failed) > _MOST_KEPT:
            del self._failed[next(iter(self._failed))]
        return False


def _answering(place: Place) -> Endpoint:
    """Answers one kind of request for what is kept."""

    async def endpoint(request: Request) -> Response:
        content, content_type = await request.body(), request.headers.get("content-type", "")
        is_form = content_type.startswith("multipart/")
        body = parse_form(content_type, content) if is_form else _json_object(content) if content else {}
        _require_fields(body, place.required)
        try:
            answer = place.answer(Asked(request.path_params, request.query_params, body))
        except _MALFORMED as fault:
            raise _another_form(fault) from fault
        if isinstance(answer, bytes):
            return Response(answer, media_type="application/octet-stream")
        return JSONResponse(answer)

    return endpoint


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        body: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise RefusedError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise RefusedError(400, "The body is not a JSON object.")
    return body  # pyright: ignore[reportUnknownVariableType]


def _require(body: Body, names: Sequence[str]) -> None:
    for name in names:
        if not body.get(name):
            raise RefusedError(400, f"You must provide the parameter '{name}'.", name)


def _require_fields(body: Body, names: Sequence[str]) -> None:
    """As `_require`, where a field may be empty."""
    for name in names:
        if name not in body:
            raise RefusedError(400, f"Missing required parameter: '{name}'.", name, "missing_required_parameter")


def _another_form(fault: Exception) -> RefusedError:
    return RefusedError(400, f"The request has a field of another form than expected ({fault}).")


def _model_object(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1700000000, "owned_by": "demo"}


async def _models(_request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_model_object(name) for name in MODELS]})


async def _model(request: Request) -> Response:
    name = request.path_params["id"]
    if name not in MODELS:
        raise RefusedError(404, f"The model '{name}' does not exist.", "model", "model_not_found")
    return JSONResponse(_model_object(name))


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, RefusedError)
    return _error_response(request, refusal.to_json(), refusal.status)


def _error_response(
    request: Request, document: dict[str, Any], status: int, headers: dict[str, str] | None = None
) -> Response:
    """An error in the form of the API that the path belongs to."""
    if request.url.path.startswith(messages.PATH):
        document = messages.in_own_form(document, status)
    return JSONResponse(document, status, headers)


async def _not_found(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        error(_UNKNOWN_URL.format(method=request.method, path=request.url.path), INVALID, "unknown_url"), 404
    )


def main() -> None:
    """Serve on the socket that was inherited. The token comes by the environment, because arguments show in the process
    list.
    """
    parser = argparse.ArgumentParser(prog="python -m local.demo.server", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the descriptor of a listening socket")
    parser.add_argument("--delay", type=float, default=DEFAULT_DELAY, help="seconds before each token")
    options = parser.parse_args()
    app = DemoServer(os.environ[TOKEN_VARIABLE], options.delay).app()
    # "critical": uvicorn reports each connection that is cut on demand as an error of the application.
    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
