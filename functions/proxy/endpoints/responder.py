"""What the proxy itself says: the headers of every answer, documents of its own, and errors before the first byte."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from proxy.call import Call
from proxy.delivery import CacheUse, Delivery
from proxy.endpoints.cors import Cors
from proxy.endpoints.routes import Endpoints
from proxy.errors import ProxyError
from proxy.outcome import Outcome, receipt_of
from proxy.request.parse import InferenceRequest
from proxy.timeline import Timeline
from proxy.upstream.repeats import told_of

if TYPE_CHECKING:  # loaded only where they are switched on or asked for
    from proxy.endpoints.answer_cost import Prices

_LONGEST_MODEL = 128
JSON = {"content-type": "application/json"}
Writing = tuple[Callable[[bytes], None], Callable[[], None]]


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


class Responder:
    """Answers what needs no server, and makes the headers that every answer gets from the proxy."""

    def __init__(
        self,
        cors: Cors,
        endpoints: Endpoints,
        playground: Callable[[InferenceRequest, Response], bool] | None = None,
        prices: "Callable[[], Prices] | None" = None,
    ) -> None:
        self._cors = cors
        self._endpoints = endpoints
        self._playground = playground
        self._prices = prices

    def serve(self, request: InferenceRequest, response: Response) -> bool:
        """Answer what needs no key: a browser's pre-flight, the playground. Returns whether it was one of these."""
        if request.method == "OPTIONS":
            response.start(200, self._cors.preflight(request.headers))
            response.end()
            return True
        return self._playground is not None and self._playground(request, response)

    def document(self, call: Call, timeline: Timeline) -> bytes | None:
        """The JSON with which the proxy itself answers a call; None if the call is for a server. Raises ProxyError."""
        return self._endpoints.document(call, timeline)

    def headers(self, call: Call, delivery: Delivery, cache: CacheUse, timeline: Timeline) -> dict[str, str]:
        """The headers of every answer: ids, which server gave it, how long it took, and which origins may read it."""
        request, model = call.request, delivery.model
        origin = request.headers.get("origin") if request else None
        found = dict(call.reservation.headers) if call.reservation else dict[str, str]()
        found |= {"x-request-id": call.request_id, "x-inference-id": call.id, "cache-control": "no-cache"}
        if delivery.server:
            found["x-served-by"] = delivery.server.name
            if model and model.isascii() and model.isprintable():
                found["x-served-model"] = model[:_LONGEST_MODEL]
        if timeline.attempts:
            found["x-attempts"] = str(timeline.calls_made)
        if call.target and call.is_post:
            found |= cache.headers
        if delivery.error or delivery.status >= 400:
            found |= told_of(delivery.error, timeline)
        return {**found, "server-timing": timeline.server_timing, **self._cors.headers(origin)}

    def error(self, error: ProxyError, call: Call, headers: Mapping[str, str], response: Response) -> None:
        """Answer with an error, where the client has nothing yet; `headers` are those that every answer has."""
        from proxy.endpoints.error_forms import error_document, error_headers  # noqa: PLC0415  # few requests fail

        response.start(error.status, {**JSON, **error_headers(call), **error.headers, **headers})
        response.write(error_document(error, call))
        response.end()

    def receipt(self, call: Call, outcome: Outcome, timeline: Timeline) -> bytes:
        """A comment for the end of a stream, with what is known of the inference so far. SDKs skip comments."""
        receipt = receipt_of(call, outcome, timeline)
        if self._prices:
            receipt |= self._prices().cost_of(call, outcome, timeline).to_receipt()
        return b": receipt " + json.dumps(receipt, separators=(",", ":")).encode() + b"\n\n"

    def writing(self, call: Call, outcome: Outcome, response: Response, timeline: Timeline) -> Writing:
        """The functions that write the body of an answer, and its end. They put the cost in if the client has asked for
        it.
        """
        meter, prices = outcome.meter, self._prices
        if not (call.wants_cost and prices and meter and meter.is_readable and outcome.status < 400):
            return response.write, _nothing
        from proxy.endpoints.cost_in_usage import CostWriter  # noqa: PLC0415  # few clients ask for it

        writer = CostWriter(response.write, meter, lambda: prices().cost_of(call, outcome, timeline).text)
        return writer.write, writer.end


def _nothing() -> None:
    """Most answers need nothing at their end."""
