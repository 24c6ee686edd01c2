"""`Inference`: what is known of one request while it passes, and the one event that states it in the end. Pure."""

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from openai_proxy.events import DetailType, Event, rfc3339
from openai_proxy.ulid import new_ulid, ulid_of_fact
from openai_proxy.usage import Usage

from proxy.body import OutgoingBody
from proxy.cache_use import OFF, CacheUse
from proxy.client_key import ClientKey
from proxy.errors import LimitError, ProxyError, UpstreamError
from proxy.estimate import ESTIMATED_PATHS, estimated_usage
from proxy.limits_item import Taken, nothing_taken
from proxy.meter import Meter
from proxy.request import InferenceRequest, Target
from proxy.watched_answer import WatchedAnswer

if TYPE_CHECKING:  # loaded by the first request that has a cache policy
    from proxy.cache_flight import Flight

_WITHOUT_TOKENS = ("models", "files", "batches", "moderations", "other")
_LONGEST_NAME = 256
_STREAMS_WITH_AN_END = ("/chat/completions", "/completions", "/responses")
_COUNTS_ONLY = "/responses/input_tokens"
_FETCHED = re.compile(r"/responses/[^/]+")
_LONGEST_KEPT = 30 * 86400.0
"""Seconds for which a server keeps an answer that it made in the background, at most."""
_CLOCKS_APART = 300.0


@dataclass(slots=True)
class Inference:
    """The record of one authorised request. Moments are readings of `time.perf_counter`, 0.0 when not reached."""

    started_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    id: str = ""
    key: ClientKey | None = None
    end_user: str | None = None
    """Whom the client says it asks for, as the client calls them."""
    request: InferenceRequest | None = None
    target: Target | None = None
    server: str | None = None
    token: str = field(default="", repr=False)
    """The server's, to be kept out of what is passed on; never told to anybody."""
    body: OutgoingBody | None = None
    taken: Taken | None = None
    meter: Meter | None = None
    cache: CacheUse = OFF
    flight: "Flight | None" = None
    status: int = 0
    ended: float = 0.0
    """When the client had its last byte, if there was more to do before the event."""
    authorized: float = 0.0
    waiting_since: float = 0.0
    upstream_waited: float = 0.0
    first_chunk: float = 0.0
    retry_after: float | None = None
    error: ProxyError | None = None
    content: WatchedAnswer | None = None
    """The answer, where the key's owner asked for content to be logged."""
    cold_start: bool = False
    """Whether the sandbox was started for this request."""
    _usage: Usage | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What each call of a server came to: `server`, `status_code` or `error`, and `duration` in seconds."""
    attempt_ends: list[tuple[dict[str, Any], float]] = field(default_factory=list[tuple[dict[str, Any], float]])
    """Each of `attempts`, and when it was over."""
    steps: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])
    """What the proxy did after the authorization and before the first attempt, and when it was done with it."""

    def __post_init__(self) -> None:
        self.id = new_ulid(self.started_at)

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

    def passed(self, step: str) -> None:
        """A step is done: the time since the one before was its."""
        self.steps.append((step, time.perf_counter()))

    def heard_chunk(self) -> None:
        """A chunk of the answer's body has come: `heard`, and when for the first time."""
        now = time.perf_counter()
        self.upstream_waited += now - self.waiting_since
        self.waiting_since = 0.0
        if not self.first_chunk:
            self.first_chunk = now

    @property
    def asked_stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.body is not None and self.body.stream

    @property
    def says_its_end(self) -> bool:
        """Whether a stream of this operation always ends in a finish reason, an end mark or a final event."""
        return self.target is not None and self.target.path in _STREAMS_WITH_AN_END

    @property
    def uses_tokens(self) -> bool:
        """Whether the operation uses tokens at all: an answer without usage is `missing` or `none` accordingly."""
        if self._fetches_answer:
            return True
        if self.request is None or self.target is None or self.request.method != "POST":
            return False
        return self._operation not in _WITHOUT_TOKENS and self.target.path != _COUNTS_ONLY

    @property
    def _fetches_answer(self) -> bool:
        """Whether it asks for an answer that was made before: of one made in the background the usage is told now."""
        request, target = self.request, self.target
        return bool(request and target and request.method == "GET" and _FETCHED.fullmatch(target.path))

    @property
    def _event_id(self) -> str:
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
    def _operation(self) -> str:
        return self.target.operation if self.target else "other"

    def to_event(self) -> Event:
        """The terminal event: throttled (an upstream 429), failed (an error, or an upstream refusal) or completed."""
        ended = self.heard() if self.waiting_since else self.ended or time.perf_counter()
        detail_type, outcome = self._outcome()
        data = self._facts(ended) | {"timings": self._timings(ended), "cache": self.cache.to_event()} | outcome
        return Event(
            detail_type=detail_type,
            id=self._event_id,
            timestamp=rfc3339(self.started_at + ended - self.started),
            request_id=self.request_id,
            client_id=self.key.client_id if self.key else "",
            data=data,
        )

    @property
    def server_timing(self) -> str:
        """The `Server-Timing` header, in milliseconds up to now: what the server took, and what the proxy took."""
        passed = time.perf_counter() - self.started
        upstream, proxy = self.upstream_waited * 1000, max(0.0, passed - self.upstream_waited) * 1000
        return f"upstream;dur={upstream:.1f}, proxy;dur={proxy:.1f}"

    def _outcome(self) -> tuple[DetailType, dict[str, Any]]:
        error = self.error
        if isinstance(error, LimitError):
            return "InferenceThrottled", {"throttle": {"source": error.source, "retry_after": error.retry_after}}
        if self.status == 429 and (error is None or error.fault == "upstream"):
            return "InferenceThrottled", {"throttle": {"source": "upstream", "retry_after": self.retry_after}}
        if error is None and (self.status >= 400 or (self.meter is not None and self.meter.has_error)):
            error = UpstreamError(self.status, "upstream_error", "", upstream_status=self.status)
        if error is None:
            return "InferenceCompleted", {}
        upstream_status = error.upstream_status if isinstance(error, UpstreamError) else None
        failure = {"type": error.code, "source": error.fault, "upstream_status": upstream_status}
        return "InferenceFailed", {"error": failure}

    def _facts(self, ended: float) -> dict[str, Any]:
        request, target, body, meter = self.request, self.target, self.body, self.meter
        usage, key = self.usage, self.key
        limits = self.taken.to_event() if self.taken else nothing_taken(key.limits) if key and key.limits else None
        if limits and self._fetches_answer:  # the estimate for the request that began it stays in the budget
            limits["has_budget"] = False
        return {
            "client": key.to_event() if key else None,
            "end_user": self._end_user,
            "limits": limits,
            "operation": {"name": self._operation},
            "door": request.door if request else "function_url",
            "server": {"name": self.server},
            "request": {
                "method": request.method if request else "",
                "path": target.path[:_LONGEST_NAME] if target else "",
                "model": body.model[:_LONGEST_NAME] if body and body.model else None,
                "stream": body.stream if body else False,
                "size": len(request.body) if request else 0,
            },
            "response": {
                "status_code": self.status,
                "model": meter.model if meter else None,
                "id": meter.id if meter else None,
                "finish_reasons": meter.finish_reasons if meter else [],
                "time_to_first_chunk": round(self.first_chunk - self.started, 6) if self.first_chunk else None,
                "size": meter.size if meter else 0,
                "chunks": meter.chunks if meter else 0,
                "time_per_output_token": self._time_per_output_token(usage, ended),
            },
            "usage": usage.to_event(),
            "attempts": self.attempts,
            "cold_start": self.cold_start,
        }

    @property
    def usage(self) -> Usage:
        """What the server reported; where it should have and did not, an estimate if there is anything to go by."""
        if self._usage is None:
            self._usage = self._find_usage()
        return self._usage

    @property
    def _end_user(self) -> str | None:
        """A pseudonym: the same person of the same client always has it, and it does not lead back to them."""
        if not self.end_user or self.key is None:
            return None
        return hashlib.sha256(f"{self.key.client_id}\0{self.end_user}".encode(errors="replace")).hexdigest()[:32]

    @property
    def spent(self) -> Usage:
        """As much of the usage as a server was asked for: nothing where the answer was there already."""
        return Usage(source="none") if self.cache.status == "HIT" or self._fetches_answer else self.usage

    def _find_usage(self) -> Usage:
        if self.cache.usage:
            return self.cache.usage
        meter, body, target = self.meter, self.body, self.target
        if meter is None:
            return Usage(source="none")
        if self._fetches_answer:
            return meter.usage if self._background_since else Usage(source="none")
        if (
            meter.usage.source != "missing"
            or meter.is_queued
            or body is None
            or target is None
            or target.path not in ESTIMATED_PATHS
        ):
            return meter.usage
        sample, factor = meter.sample
        return estimated_usage(body.content, sample, factor, is_stream=meter.is_stream)

    def _time_per_output_token(self, usage: Usage, ended: float) -> float | None:
        """Seconds from one token of a stream to the next, after the first chunk; None where there are no two."""
        if not (self.first_chunk and self.meter and self.meter.is_stream and usage.output_tokens > 1):
            return None
        return round((ended - self.first_chunk) / (usage.output_tokens - 1), 6)

    def _timings(self, ended: float) -> dict[str, float]:
        total = ended - self.started
        authorization = self.authorized - self.started if self.authorized else 0.0
        return {
            "total": round(total, 6),
            "authorization": round(authorization, 6),
            "upstream": round(self.upstream_waited, 6),
            "proxy": round(max(0.0, total - self.upstream_waited), 6),
        }
