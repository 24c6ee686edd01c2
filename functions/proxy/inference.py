"""`Inference`: what is known of one request while it passes. Pure."""

import re
import time
from typing import TYPE_CHECKING, Any

from openai_proxy.events.ulid import new_ulid, ulid_of_fact
from openai_proxy.usage import Usage

from proxy.cache_use import OFF
from proxy.errors import ProxyError
from proxy.limits.reservation import Taken
from proxy.metering.cost import with_cost_of_header
from proxy.metering.estimate import ESTIMATED_PATHS, estimated_usage
from proxy.metering.meter import Meter
from proxy.request.body import OutgoingBody
from proxy.request.key_context import ClientKey
from proxy.request.parse import InferenceRequest, Target

if TYPE_CHECKING:  # loaded by the first request that has a cache policy, or whose content is logged
    from proxy.cache.fill import Flight
    from proxy.metering.recorder import WatchedAnswer

_WITHOUT_TOKENS = ("models", "files", "batches", "moderations", "other")
_STREAMS_WITH_AN_END = ("/chat/completions", "/completions", "/responses")
_QUESTIONS = (*_STREAMS_WITH_AN_END, "/embeddings")
_COUNTS_ONLY = "/responses/input_tokens"
_FETCHED = re.compile(r"/responses/[^/]+")
_LONGEST_KEPT = 30 * 86400.0
"""Seconds for which a server keeps an answer that it made in the background, at most."""
_CLOCKS_APART = 300.0


class Inference:
    """The record of one authorised request. Moments are readings of `time.perf_counter`, 0.0 when not reached."""

    def __init__(self, *, cold_start: bool = False) -> None:
        self.started_at = time.time()
        self.started = time.perf_counter()
        self.id = new_ulid(self.started_at)
        self.key: ClientKey | None = None
        self.end_user: str | None = None
        """Whom the client says it asks for, as the client calls them."""
        self.request: InferenceRequest | None = None
        self.target: Target | None = None
        self.server: str | None = None
        self.token = ""
        """The server's, to be kept out of what is passed on; never told to anybody."""
        self.body: OutgoingBody | None = None
        self.taken: Taken | None = None
        self.meter: Meter | None = None
        self.cache = OFF
        self.flight: Flight | None = None
        self.status = 0
        self.ended = 0.0
        """When the client had its last byte, if there was more to do before the event."""
        self.authorized = 0.0
        self.waiting_since = 0.0
        self.upstream_waited = 0.0
        self.first_chunk = 0.0
        self.retry_after: float | None = None
        self.stated_cost = ""
        """What a header of the answer says that it cost."""
        self.error: ProxyError | None = None
        self.content: WatchedAnswer | None = None
        """The answer, where the key's owner asked for content to be logged."""
        self.cold_start = cold_start
        """Whether the sandbox was started for this request."""
        self._usage: Usage | None = None
        self.attempts: list[dict[str, Any]] = []
        """What each call of a server came to: `server`, `status_code`, `error`, and seconds to the first of them."""
        self.attempt_ends: list[tuple[dict[str, Any], float]] = []
        """Each of `attempts`, and when it was over."""
        self.steps: list[tuple[str, float]] = []
        """What the proxy did after the authorization and before the first attempt, and when it was done with it."""

    @property
    def request_id(self) -> str:
        """The client's own id for the request, or ours."""
        return (self.request.own_id if self.request else None) or self.id

    @property
    def wants_receipt(self) -> bool:
        """Whether the client asked for a receipt at the end of its stream."""
        return self.request is not None and self.request.headers.get("x-receipt") == "comment"

    def receipt(self) -> dict[str, Any]:
        """What is known at the end of a stream, its cost aside: that is in the ledger a moment later."""
        body, usage = self.body, self.usage
        return {
            "id": self.id,
            "server": self.server,
            "model": body.model if body else None,
            "usage": usage.to_event(),
            "time_to_first_chunk": round(self.first_chunk - self.started, 6) if self.first_chunk else None,
            "duration": round(time.perf_counter() - self.started, 6),
            "attempts": len(self.attempts),
        }

    def wait(self) -> None:
        """From now on the proxy waits for the server."""
        self.waiting_since = time.perf_counter()

    def heard(self) -> float:
        """The server has spoken: the wait is over."""
        now = time.perf_counter()
        self.upstream_waited += now - self.waiting_since
        self.waiting_since = 0.0
        return now

    def attempted(self, server: str, status: int | None, error: str | None, duration: float | None = None) -> None:
        """A call of a server has brought a status, or failed: its wait is over. Parallel ones give their `duration`."""
        if duration is None:
            since = self.waiting_since
            duration = self.heard() - since
        attempt = {"server": server, "status_code": status, "error": error, "duration": round(duration, 6)}
        self.attempts.append(attempt)
        self.attempt_ends.append((attempt, time.perf_counter()))

    def attempt_failed(self, error: str) -> None:
        """The latest attempt brought a status and then no answer."""
        self.attempts[-1]["error"] = error

    def passed(self, step: str) -> None:
        """A step is done: the time since the one before was its."""
        self.steps.append((step, time.perf_counter()))

    @property
    def asked_stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.body is not None and self.body.stream

    @property
    def hides_usage(self) -> bool:
        """Whether the proxy asked for usage where the client did not."""
        return self.body is not None and self.body.asks_usage_unasked

    @property
    def one_choice(self) -> bool:
        """Whether the client asked for one answer rather than several to choose from."""
        return self.body is not None and self.body.one_choice

    @property
    def says_its_end(self) -> bool:
        """Whether a stream of this operation always ends in a finish reason, an end mark or a final event."""
        return self.target is not None and self.target.path in _STREAMS_WITH_AN_END

    @property
    def is_post(self) -> bool:
        """Whether the request has something done, rather than fetched."""
        return self.request is not None and self.request.method == "POST"

    @property
    def is_question(self) -> bool:
        """Whether the request asks a model, which answers with JSON or a stream and nothing else."""
        return self.is_post and self.target is not None and self.target.path in _QUESTIONS

    @property
    def uses_tokens(self) -> bool:
        """Whether the operation uses tokens at all: an answer without usage is `missing` or `none` accordingly."""
        if self.fetches_answer:
            return True
        if self.request is None or self.target is None or self.request.method != "POST":
            return False
        return self.operation not in _WITHOUT_TOKENS and self.target.path != _COUNTS_ONLY

    @property
    def fetches_answer(self) -> bool:
        """Whether it asks for an answer that was made before: of one made in the background the usage is told now."""
        request, target = self.request, self.target
        return bool(request and target and request.method == "GET" and _FETCHED.fullmatch(target.path))

    @property
    def event_id(self) -> str:
        """Its own; for an answer made in the background that answer's, so that whoever fetches it, it counts once."""
        meter, began = self.meter, self._background_since
        return ulid_of_fact(began, f"{self.server}\0{meter.id}") if meter and began else self.id

    @property
    def _background_since(self) -> float | None:
        """When the answer was begun (Unix seconds), if in the background, and if its usage is told here."""
        began = self.meter.background_since if self.meter else None
        if began is None or not -_CLOCKS_APART < self.started_at - began < _LONGEST_KEPT:
            return None
        return began if self.meter and self.meter.usage.source == "reported" else None

    @property
    def operation(self) -> str:
        """What kind of request it is, as events call it."""
        return self.target.operation if self.target else "other"

    @property
    def server_timing(self) -> str:
        """The `Server-Timing` header, in milliseconds up to now: what the server took, and what the proxy took."""
        passed = time.perf_counter() - self.started
        upstream, proxy = self.upstream_waited * 1000, max(0.0, passed - self.upstream_waited) * 1000
        return f"upstream;dur={upstream:.1f}, proxy;dur={proxy:.1f}"

    @property
    def usage(self) -> Usage:
        """What the server reported; where it should have and did not, an estimate if there is anything to go by."""
        if self._usage is None:
            usage = self._find_usage()
            self._usage = with_cost_of_header(usage, self.stated_cost) if self.stated_cost else usage
        return self._usage

    @property
    def spent(self) -> Usage:
        """As much of the usage as a server was asked for: nothing where the answer was there already."""
        return Usage(source="none") if self.cache.status == "HIT" or self.fetches_answer else self.usage

    def _find_usage(self) -> Usage:
        if self.cache.usage:
            return self.cache.usage
        meter, body, target = self.meter, self.body, self.target
        if meter is None:
            return Usage(source="none")
        if self.fetches_answer:
            return meter.usage if self._background_since else Usage(source="none")
        if (
            meter.usage.source != "missing"
            or meter.is_queued
            or not meter.is_readable
            or body is None
            or target is None
            or target.path not in ESTIMATED_PATHS
        ):
            return meter.usage
        sample, factor = meter.sample
        usage = estimated_usage(body.content, sample, factor, is_stream=meter.is_stream)
        if not usage.output_tokens and (meter.error or (self.error and self.error.fault == "upstream")):
            return Usage(source="none")  # it failed before the model said anything
        # For an answer that its server calls failed nothing is charged that the server has not reported.
        return meter.usage if meter.error else usage
