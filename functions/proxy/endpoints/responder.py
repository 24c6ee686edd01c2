"""What the proxy says itself: the headers of every answer, pre-flights, errors before and after the first byte."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from proxy.endpoints.cors import Cors
from proxy.errors import ProxyError, UnavailableError
from proxy.inference import Inference
from proxy.log import log, trace_of
from proxy.request.parse import InferenceRequest

_LONGEST_MODEL = 128
_RESPONSES = "/responses"


class Response(Protocol):
    """Where the answer goes: streamed by `runtime`, or collected by `handler`."""

    @property
    def started(self) -> bool: ...
    @property
    def broken(self) -> bool: ...
    @property
    def fault(self) -> ProxyError | None: ...
    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None: ...
    def flush(self) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class Answers:
    """Writes to a response what does not come from a server."""

    def __init__(self, cors: Cors) -> None:
        self._cors = cors

    def headers(self, inference: Inference, own: Mapping[str, str]) -> dict[str, str]:
        """Those of one answer, with what every answer says: ids, who served it, what it took, who may read it."""
        request, body = inference.request, inference.body
        origin = request.headers.get("origin") if request else None
        limits = inference.taken.headers if inference.taken else dict[str, str]()
        found = {**own, **limits, "x-request-id": inference.request_id, "x-inference-id": inference.id}
        found["cache-control"] = "no-cache"
        if inference.server:
            found["x-served-by"] = inference.server
            if body and body.model and body.model.isascii() and body.model.isprintable():
                found["x-served-model"] = body.model[:_LONGEST_MODEL]
        if inference.attempts:
            found["x-attempts"] = str(len(inference.attempts))
        if inference.target and request and request.method == "POST":
            found |= inference.cache.headers
        return {**found, "server-timing": inference.server_timing, **self._cors.headers(origin)}

    def preflight(self, request: InferenceRequest, response: Response) -> None:
        """Answer a browser that asks what it may send."""
        response.start(200, self._cors.preflight(request.headers))
        response.end()

    def document(self, inference: Inference, response: Response, body: bytes) -> None:
        """Answer with a JSON document of the proxy's own."""
        inference.status = 200
        response.start(200, self.headers(inference, {"content-type": "application/json"}))
        response.write(body)
        response.end()

    @staticmethod
    def receipt_comment(inference: Inference) -> bytes:
        """A comment for the end of a stream, with what is known of the inference by then. SDKs skip it."""
        return b": receipt " + json.dumps(inference.receipt(), separators=(",", ":")).encode() + b"\n\n"

    def error(self, inference: Inference, response: Response, error: ProxyError) -> None:
        """Before the first byte a status and an error body; after it an error frame where the format has room."""
        inference.error = error
        if response.broken:
            return
        if not response.started:
            inference.status = error.status
            response.start(error.status, self.headers(inference, {"content-type": "application/json", **error.headers}))
            response.write(error.to_json())
            response.end()
        elif inference.meter is not None and inference.meter.is_stream:
            response.write(_error_frame(inference, error) + b"data: [DONE]\n\n")
            response.end()
        else:
            response.fail(error)

    def internal_error(self, inference: Inference, response: Response, error: Exception) -> None:
        """The client learns that it was not its fault, the log what happened."""
        log("ERROR", "A request failed inside the proxy", request_id=inference.id, trace=trace_of(error))
        message = "The proxy failed. Its owner finds the reason in its log."
        self.error(inference, response, UnavailableError(500, "internal_error", message))


def _error_frame(inference: Inference, error: ProxyError) -> bytes:
    """The error as an event of its stream's own kind: SDKs of the Responses API know two, and need both."""
    meter, target = inference.meter, inference.target
    if meter is None or target is None or target.path != _RESPONSES:
        return b"data: " + error.to_json() + b"\n\n"
    number, said = meter.next_sequence_number, {"code": error.code, "message": error.message}
    failed: dict[str, Any] = {
        "id": meter.id or inference.id,
        "object": "response",
        "created_at": int(inference.started_at),
        "status": "failed",
        "model": meter.model or (inference.body.model if inference.body else None) or "",
        "output": [],
        "error": said,
    }
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.failed", {"type": "response.failed", "sequence_number": number, "response": failed}),
        ("error", {"type": "error", "sequence_number": number + 1, **said, "param": None, **error.to_object()}),
    ]
    return b"".join(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode() for name, data in events)
