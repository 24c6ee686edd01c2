"""The response cache of one sandbox: it has an answer for a request, or lets the request fetch one and keep it.

    policy ─▶ key ─▶ item ─▶ answer                                            HIT
                       └─▶ lease taken ─▶ the server ─▶ ResponseCaptured       MISS
                       └─▶ somebody has it ─▶ a bounded wait ─▶ HIT or MISS
                       └─▶ another one's would not do ─▶ the server            MISS

Its one rule: it never fails a request, and never delays one beyond a small bound. A table or a bucket that does not
answer is not asked again for a while. A request waits only for an answer that another request is fetching, and when it
has waited long enough it asks the server itself. Loaded by the first request that has a policy.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from openai_proxy.key_context import CACHE_ONLY
from openai_proxy.servers import Server

from proxy.aws.client import AwsError
from proxy.cache.capture import Capture
from proxy.cache.captured_event import captured_event
from proxy.cache.conversion import DOCUMENT, STREAM, converted, is_possible
from proxy.cache.fill import CacheFill, Lookup, Wanted, lease_of
from proxy.cache.item import CachedAnswer, Unusable, answer_of, header_of
from proxy.cache.key import SentRequest, Sharing, UnclearBodyError, keys_of
from proxy.cache.leases import SHORTEST_LIFE, Leases, Turn
from proxy.cache.policy import CacheDirectives, asked_of_cache, policy_of, refusal
from proxy.cache.replay import Replay
from proxy.cache.table import CacheTable, Lease
from proxy.call import Call
from proxy.delivery import CacheUse, Delivery
from proxy.log import log
from proxy.outcome import Outcome
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target, url_of
from proxy.request.routing import Candidate
from proxy.timeline import Timeline

if TYPE_CHECKING:
    from openai_proxy.events.types import CapturedEvent

_OUT_SECONDS = 5.0
"""How long a table or a bucket that failed is not asked."""
_SHARE_OF_TIME = 0.5
"""Of the time that is left to a request: as much as it may wait for somebody else's answer."""
_PUT_SECONDS = 2.0
_NO_FAULT_OF_THE_BUCKET = frozenset({"NoSuchKey", "AccessDenied", "TooLarge"})
"""Of one object: S3 denies access to what is not there, because the proxy may not list the bucket."""


class Objects(Protocol):
    """Holds bodies that are too large for an item: a bucket."""

    def get(self, key: str, timeout: float, largest: int) -> bytes: ...
    def put(self, key: str, body: bytes, timeout: float) -> None: ...


class Settings(NamedTuple):
    """`largest` is the size in bytes up to which answers are kept; `wait` is for how many seconds a request waits for
    an answer that another one fetches (0: it never waits).

    `patience` is how long, in seconds, reading an object may take; `first_byte` how long a server without a time of its
    own may take to begin: no request waits longer for another one.
    """

    largest: int = 4 * 1024 * 1024
    wait: float = 5.0
    patience: float = 0.5
    first_byte: float = 300.0

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], patience: float = patience) -> "Settings":
        """Read the settings from the environment, which the caller passes in."""
        default = cls()
        largest = int(environ.get("CACHE_LARGEST_ANSWER") or default.largest)
        wait = float(environ.get("CACHE_WAIT_SECONDS") or default.wait)
        first_byte = float(environ.get("UPSTREAM_FIRST_BYTE_SECONDS") or default.first_byte)
        return cls(largest, wait, patience, first_byte)


class _Miss(NamedTuple):
    """Why there is no answer. `may_come`: another request may be fetching one that will do."""

    reason: str
    may_come: bool = False


class ResponseCache:
    """Finds answers, and says what is to be kept. `objects` is None where there is no bucket."""

    def __init__(
        self,
        table: CacheTable,
        objects: Objects | None,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._objects = objects
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._leases = Leases(table, clock, sleep)
        self._out_until = 0.0
        self._bucket_out_until = 0.0

    def find(self, call: Call, timeline: Timeline) -> Lookup | None:
        """What the cache has for `call`, or why it has nothing, and whether the answer is to be kept; None where no
        policy is on.
        """
        request, target, asked, key = call.request, call.target, call.body, call.key
        if request is None or target is None or asked is None or key is None:
            return None
        candidate = call.candidates[0]
        if (policy := policy_of(key, candidate.server)) is None:
            return None
        model = candidate.replacement or asked.model or candidate.server.model
        reason = refusal(request, target, asked.fields, model, policy)
        if reason or self._clock() < self._out_until:
            return Lookup(CacheUse("BYPASS", reason or "table_error"))
        directives = asked_of_cache(request, policy.ttl)
        if key.guards == CACHE_ONLY:
            directives = directives._replace(only_if_cached=True)
        try:
            keys = keys_of(
                Sharing(policy.sharers, directives.namespace, candidate.server.name, policy.ignored),
                _sent(request, target, asked, candidate),
            )
        except UnclearBodyError:
            return Lookup(CacheUse("BYPASS", "unclear"))
        wanted = Wanted(target.path, candidate.server.name, asked.fields, asked.fields.get("stream") is True)
        capture, lease = Capture(self._settings.largest), lease_of(keys, wanted)
        fill = CacheFill(keys, policy, wanted, capture, directives.namespace, lease)
        try:
            return self._look(fill, directives, call, timeline)
        except AwsError as error:
            return self._without_table(error)

    def _look(self, fill: CacheFill, directives: CacheDirectives, call: Call, timeline: Timeline) -> Lookup:
        """The answer that is stored, or that arrives while this waits for a bounded time."""
        if directives.is_refresh:
            return Lookup(CacheUse("REFRESH", "no_cache"), fill)
        found, reason = self._read(fill, directives), None
        patience = self._patience(call.candidates[0].server)
        if isinstance(found, _Miss) and found.may_come and patience > 0 and not directives.only_if_cached:
            turn = self._leases.take(fill, call.id, patience, call.deadline)
            if turn.held:
                timeline.wait()
                try:
                    (found, turn), reason = self._wait(turn.held, fill, directives, call, patience), "waited"
                finally:
                    timeline.heard()
            fill = fill._replace(since=turn.since)
            if turn.failure:
                return self._without_table(turn.failure, fill)
        if isinstance(found, _Miss):
            return Lookup(CacheUse("MISS", found.reason), fill)
        replay = Replay(found, directives.original_pacing, call.deadline, self._sleep, self._clock)
        use = CacheUse("HIT", reason, found.age, found.saved, found.usage)
        return Lookup(use, delivery=_delivery(call, replay))

    def _without_table(self, error: AwsError, fill: CacheFill | None = None) -> Lookup:
        """The table is not asked again for a while. `fill` is of a lease that may be taken, and is then given back."""
        self._out_until = self._clock() + _OUT_SECONDS
        log("WARN", "The response cache does not answer", reason=str(error))
        return Lookup(CacheUse("BYPASS", "table_error"), fill)

    def _patience(self, server: Server) -> float:
        """Seconds for which another request's answer is waited for, at most."""
        return min(self._settings.wait, server.timeouts.first_byte or self._settings.first_byte)

    def _read(
        self, fill: CacheFill, directives: CacheDirectives, *, is_consistent: bool = False
    ) -> CachedAnswer | _Miss:
        """The answer that is stored, in the form that is asked for; else why there is none."""
        item = self._table.get(fill.keys.key, is_consistent=is_consistent)
        wanted, is_worth_waiting = fill.wanted, min(fill.policy.ttl, directives.max_age) >= SHORTEST_LIFE
        if not item:
            return _Miss("not_found", is_worth_waiting)
        try:
            header = header_of(item, fill.keys.digest, self._clock(), fill.policy.ttl, directives.max_age)
            if header.is_stream != wanted.is_stream and not is_possible(wanted.path, to_stream=wanted.is_stream):
                return _Miss("form")
            packed = header.packed if header.packed is not None else self._object(header.object)
            stored = answer_of(header, packed)
        except Unusable as unusable:
            if unusable.is_damaged:
                log("ERROR", "A cached answer was refused", reason=unusable.reason, cache_key=fill.keys.key)
            return _Miss(unusable.reason, is_worth_waiting and unusable.may_be_renewed)
        return stored if stored.is_stream == wanted.is_stream else _in_form(stored, wanted)

    def _object(self, name: str) -> bytes:
        if self._objects is None or self._clock() < self._bucket_out_until:
            raise Unusable("object")
        try:
            return self._objects.get(name, self._settings.patience, self._settings.largest)
        except AwsError as error:
            if error.code not in _NO_FAULT_OF_THE_BUCKET:
                self._bucket_out_until = self._clock() + _OUT_SECONDS
            log("WARN", "The object of a cached answer cannot be read", reason=str(error))
            raise Unusable("object") from error

    def _wait(
        self, lease: Lease, fill: CacheFill, directives: CacheDirectives, call: Call, patience: float
    ) -> tuple[CachedAnswer | _Miss, Turn]:
        """Wait for the answer that the owner of `lease` fetches. Returns it, or the miss `waited` if it did not come;
        and whether it is this request's turn now.
        """
        now = self._clock()
        until = min(now + patience, now + _SHARE_OF_TIME * (call.deadline - now))
        leaders = frozenset[str]()
        while True:
            seen, leaders = self._leases.wait(fill, lease, until, leaders)
            if seen == "in_vain":
                return _Miss("waited"), Turn()
            found = self._read(fill, directives, is_consistent=True)
            if isinstance(found, CachedAnswer) or not found.may_come or seen == "stored":
                return found, Turn()
            turn = self._leases.take(fill, call.id, patience, call.deadline)
            if turn.held is None:
                return found, turn
            lease = turn.held

    def captured(self, fill: CacheFill, call: Call, outcome: Outcome, deadline: float) -> "list[CapturedEvent]":
        """The event with the answer, if it may be kept. If it may not, the lease is given back, so that nobody waits
        for it.
        """
        event = None
        try:
            if outcome.cache.status != "BYPASS":
                event = self._event(fill, call, outcome, deadline)
        finally:
            if event is None and fill.since is not None:
                self._leases.give_back(fill, call.id)
        return [event] if event else []

    def published(self, fill: CacheFill, call: Call, events: "Sequence[CapturedEvent]") -> None:
        """The events that `captured` made are on the bus, so those who wait will find the answer in a moment."""
        if fill.since is not None:
            for event in events:
                self._leases.published(fill, fill.since, call.id, event)

    def _event(self, fill: CacheFill, call: Call, outcome: Outcome, deadline: float) -> "CapturedEvent | None":
        if fill.capture.is_too_large:
            log("INFO", "An answer is too large for the response cache", id=call.id, size=fill.capture.size)
            return None
        if outcome.error:
            return None
        if flaw := fill.flaw(outcome):
            log("INFO", "An answer is not kept in the response cache", id=call.id, reason=flaw)
            return None
        now = self._clock()
        event, packed = captured_event(fill, call, outcome, now, has_bucket=self._objects is not None)
        if event is None or packed is None:
            return event
        if self._objects is None or now < self._bucket_out_until:
            return None
        try:
            timeout = max(0.05, min(_PUT_SECONDS, (deadline - now) / 2))
            self._objects.put(event.data["response"].get("object", ""), packed, timeout)
        except AwsError as error:
            self._bucket_out_until = self._clock() + _OUT_SECONDS
            log("WARN", "An answer was not cached: its object was not put", reason=str(error))
            return None
        return event


def _delivery(call: Call, replay: Replay) -> Delivery:
    """A stored answer as if its server had given it."""
    server, content_type = call.candidates[0].server, replay.content_type
    sent = call.body.outgoing(server.model, call.candidates[0].replacement) if call.body else None
    headers = {"content-type": content_type}
    return Delivery(server, sent, 200, headers, content_type.lower(), replay.pieces())


def _sent(request: InferenceRequest, target: Target, asked: RequestBody, candidate: Candidate) -> SentRequest:
    """The request as the server will get it."""
    server = candidate.server
    content = asked.outgoing(server.model, candidate.replacement).content
    headers = {**request.forwarded_headers, **server.headers}
    return SentRequest(request.method, url_of(server, target, request), headers, content)


def _in_form(stored: CachedAnswer, wanted: Wanted) -> CachedAnswer | _Miss:
    """The answer in the other form, if it can be converted exactly."""
    body = converted(wanted.path, stored.body, to_stream=wanted.is_stream)
    if body is None:
        return _Miss("form")
    content_type = STREAM if wanted.is_stream else DOCUMENT
    return stored._replace(body=body, is_stream=wanted.is_stream, content_type=content_type, timing=())
