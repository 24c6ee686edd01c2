"""Getting one answer out of servers that fail: retries, then fallbacks, all before the client has its first byte.

A connection that fails and a status that says "not now" (408, 429, 5xx) are tried again, after a pause with jitter or
the one that `Retry-After` asks for; then the server's fallbacks get their turn. A server that fell silent is not asked
again: it may be working on the answer, and would bill it twice. One that its breaker keeps out is not asked at all.
What nobody can do better is passed on as it came. A server that refuses the question for a stream's usage, which its
client did not ask, is asked once more without it, whatever its retries.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence

from openai_proxy.servers import Server

from proxy.body import OutgoingBody, RequestBody
from proxy.breaker import ILL, Breakers
from proxy.errors import ProxyError, UnavailableError, UpstreamError
from proxy.inference import Inference
from proxy.request import InferenceRequest, Target, url_of
from proxy.routing import Candidate
from proxy.tokens import ProviderTokens
from proxy.upstream import Answer, HttpTransport
from proxy.usage_refusal import UsageRefusals, refuses_usage

_NOT_NOW = frozenset({408, 429, 500, 502, 503, 504, 529})
_TOKEN_REFUSED = 401
_WORTH_RETRYING = frozenset({"upstream_unreachable", "upstream_broken_off"})
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
"""Seconds. A server that asks for more is not waited for: the client can do that without a sandbox being billed."""


class Attempts:
    """Calls servers in turn until one gives an answer worth passing on."""

    def __init__(
        self,
        transport: HttpTransport,
        tokens: ProviderTokens,
        breakers: Breakers,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._transport = transport
        self._tokens = tokens
        self._breakers = breakers
        self._usage = UsageRefusals()
        self._sleep = sleep
        self._chance = chance

    def answer(
        self,
        request: InferenceRequest,
        target: Target,
        body: RequestBody,
        candidates: Sequence[Candidate],
        deadline: float,
        inference: Inference,
    ) -> Answer:
        """The first good answer of `candidates`, asked in their order; else what the last one has to say.

        Raises UpstreamError when the last has nothing to say, UnavailableError when it has no token. `inference` learns
        of every attempt, and of the server and the body of the last.
        """
        outcome: Answer | ProxyError | None = None
        for candidate in candidates:
            if isinstance(outcome, Answer):
                outcome.close()
            server = candidate.server
            inference.server = server.name
            asks = self._usage.may_ask(server)
            inference.body = sent = body.outgoing(server.model, candidate.replacement, asks_usage=asks)
            outcome = self._refusal(server, inference) or self._ask(server, request, target, sent, deadline, inference)
            if sent.asks_usage_unasked and refuses_usage(outcome):
                if isinstance(outcome, Answer):
                    outcome.close()
                inference.attempts[-1]["error"] = "stream_options_refused"
                inference.body = sent = body.outgoing(server.model, candidate.replacement, asks_usage=False)
                outcome = self._ask(server, request, target, sent, deadline, inference)
                if isinstance(outcome, Answer) and outcome.status < 300:
                    self._usage.learn(server)
            if isinstance(outcome, Answer) and outcome.status not in _NOT_NOW and outcome.status != _TOKEN_REFUSED:
                return outcome
        if isinstance(outcome, Answer):
            return outcome
        raise outcome or ValueError("no server to ask")

    def _refusal(self, server: Server, inference: Inference) -> UpstreamError | None:
        """Why `server` is not even asked, if it is not."""
        if not (wait := self._breakers.out_for(server)):
            return None
        inference.wait()
        inference.attempted(server.name, None, "kept_out")
        message = f"The server '{server.name}' has failed several times in a row and is not asked for a moment."
        return UpstreamError(503, "upstream_unavailable", message, headers={"retry-after": str(math.ceil(wait))})

    def _ask(
        self,
        server: Server,
        request: InferenceRequest,
        target: Target,
        body: OutgoingBody,
        deadline: float,
        inference: Inference,
    ) -> Answer | ProxyError:
        """What one server says in the end, asked again while that makes sense and there is time."""
        url = url_of(server.url, target, request)
        inference.wait()
        try:
            inference.token = token = self._tokens.token_for(server)
        except UnavailableError as error:
            inference.attempted(server.name, None, error.code)
            return error
        headers = {**request.forwarded_headers, **_headers_with(token)}
        tried = 0
        while True:
            inference.wait()
            try:
                outcome = self._transport.stream(server, request.method, url, headers, body.content, deadline)
                inference.attempted(server.name, outcome.status, None)
            except UpstreamError as error:
                outcome = error
                inference.attempted(server.name, None, error.code)
            self._judge(server, outcome)
            pause = self._pause_after(outcome, tried)
            if pause is None or tried >= server.retries or time.time() + pause >= deadline:
                return outcome
            if self._breakers.out_for(server):
                return outcome
            if isinstance(outcome, Answer):
                outcome.close()
            inference.wait()
            self._sleep(pause)
            inference.heard()
            tried += 1

    def _judge(self, server: Server, outcome: Answer | UpstreamError) -> None:
        if isinstance(outcome, UpstreamError) or outcome.status in ILL:
            self._breakers.failed(server)
        else:
            self._breakers.succeeded(server)

    def _pause_after(self, outcome: Answer | UpstreamError, tried: int) -> float | None:
        """Seconds before it makes sense to ask again; None when it does not, or not soon enough."""
        asked = 0.0
        if isinstance(outcome, UpstreamError):
            if outcome.code not in _WORTH_RETRYING:
                return None
        elif outcome.status in _NOT_NOW:
            asked = retry_after(outcome.headers) or 0.0
        else:
            return None
        pause = max(asked, _FIRST_PAUSE * 2**tried * (0.5 + self._chance()))
        return pause if pause <= _LONGEST_PAUSE else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """A `Retry-After` in seconds; its other form, a date, is not used by OpenAI's servers."""
    try:
        seconds = float(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _headers_with(token: str) -> dict[str, str]:
    # Compressed answers are unpacked to be metered, and small chunks do not compress.
    headers = {"user-agent": "openai-proxy", "accept-encoding": "identity"}
    return headers | ({"authorization": f"Bearer {token}"} if token else {})
