"""Getting one answer out of servers that fail: retries, then fallbacks, all before the client has its first byte.

A connection that fails or breaks, a status that says "not now" (408, 429, 5xx), an error that comes as a success and
what is no answer at all are tried again, after a pause with jitter or the one that `Retry-After` asks for; then the
server's fallbacks get their turn. A server that fell silent is not asked again: it may be working on the answer, and
would bill it twice. One that its breaker keeps out is not asked at all. What nobody can do better is passed on as it
came. A server that refuses the question for a stream's usage, which its client did not ask, is asked once more without
it, whatever its retries; one that refuses its token once more with a newer one, if there is one.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from openai_proxy.servers import Server

from proxy.errors import ProxyError, UnavailableError, UpstreamError
from proxy.http.transport import HttpTransport
from proxy.inference import Inference
from proxy.request.body import OutgoingBody, RequestBody
from proxy.request.parse import InferenceRequest, Target, url_of
from proxy.request.routing import Candidate
from proxy.upstream.breaker import ILL, Breakers
from proxy.upstream.opened import Begin, OpenedAnswer, opened
from proxy.upstream.provider_tokens import ProviderTokens
from proxy.upstream.usage_refusal import UsageRefusals, refuses_usage

_NOT_NOW = frozenset({408, 429, 500, 502, 503, 504, 529})
_TOKEN_REFUSED = 401
_OF_THE_WIRE = frozenset({"upstream_unreachable", "upstream_broken_off"})
_OF_THE_ANSWER = frozenset({"upstream_error", "upstream_no_answer"})
"""Codes of what a server answered as a success: their status says what it is worth."""
_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
"""Seconds. A server that asks for more is not waited for: the client can do that without a sandbox being billed."""


class Call(NamedTuple):
    """What is asked, of whichever server, until `deadline` (Unix seconds). `begin` gives the client its status."""

    request: InferenceRequest
    target: Target
    body: RequestBody
    deadline: float
    begin: Begin


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

    def answer(self, call: Call, candidates: Sequence[Candidate], inference: Inference) -> OpenedAnswer:
        """The first good answer of `candidates`, asked in their order; else what the last one has to say.

        Raises UpstreamError when the last has nothing to say, UnavailableError when it has no token. `inference` learns
        of every attempt, and of the server and the body of the last.
        """
        outcome: OpenedAnswer | ProxyError | None = None
        for candidate in candidates:
            if isinstance(outcome, OpenedAnswer):
                outcome.answer.close()
            server = candidate.server
            inference.server = server.name
            asks = self._usage.may_ask(server)
            inference.body = sent = call.body.outgoing(server.model, candidate.replacement, asks_usage=asks)
            outcome = self._refusal(server, inference) or self._ask(server, call, sent, inference)
            if sent.asks_usage_unasked and refuses_usage(
                outcome.answer if isinstance(outcome, OpenedAnswer) else outcome
            ):
                if isinstance(outcome, OpenedAnswer):
                    outcome.answer.close()
                inference.attempt_failed("stream_options_refused")
                inference.body = sent = call.body.outgoing(server.model, candidate.replacement, asks_usage=False)
                outcome = self._ask(server, call, sent, inference)
                if isinstance(outcome, OpenedAnswer) and outcome.status < 300:
                    self._usage.learn(server)
            if _is_final(outcome):
                break
        if isinstance(outcome, OpenedAnswer):
            return outcome
        inference.retry_after = retry_after(outcome.headers) if outcome else None
        raise outcome or ValueError("no server to ask")

    def judge(self, server: Server, status: int) -> None:
        """Tell the breaker of `server` how an answer ended: with the status of its error, or in good health."""
        if status in ILL:
            self._breakers.failed(server)
        else:
            self._breakers.succeeded(server)

    def _refusal(self, server: Server, inference: Inference) -> UpstreamError | None:
        """Why `server` is not even asked, if it is not."""
        if not (wait := self._breakers.out_for(server)):
            return None
        inference.wait()
        inference.attempted(server.name, None, "kept_out")
        message = f"The server '{server.name}' has failed several times in a row and is not asked for a moment."
        return UpstreamError(503, "upstream_unavailable", message, headers={"retry-after": str(math.ceil(wait))})

    def _ask(self, server: Server, call: Call, body: OutgoingBody, inference: Inference) -> OpenedAnswer | ProxyError:
        """What one server says in the end, asked again while that makes sense and there is time."""
        inference.wait()
        try:
            inference.token = self._tokens.token_for(server)
        except UnavailableError as error:
            inference.attempted(server.name, None, error.code)
            return error
        tried = 0
        while True:
            outcome = self._attempt(server, call, body, inference)
            if self._has_another_token(server, outcome, inference):
                continue
            if isinstance(outcome, UpstreamError) or outcome.status >= 300:
                self.judge(server, outcome.status)  # an answer that begins well is judged by its end
            pause = _pause_after(outcome, tried, self._chance)
            if pause is None or tried >= server.retries or time.time() + pause >= call.deadline:
                return outcome
            if self._breakers.out_for(server):
                return outcome
            if isinstance(outcome, OpenedAnswer):
                outcome.answer.close()
            inference.wait()
            self._sleep(pause)
            inference.heard()
            tried += 1

    def _has_another_token(self, server: Server, outcome: OpenedAnswer | UpstreamError, inference: Inference) -> bool:
        """Whether the server has refused the token, and there is a newer one by now, which `inference` has then."""
        if not isinstance(outcome, OpenedAnswer) or outcome.status != _TOKEN_REFUSED:
            return False
        if (token := self._tokens.changed(server, inference.token)) is None:
            return False
        outcome.answer.close()
        inference.token = token
        return True

    def _attempt(
        self, server: Server, call: Call, body: OutgoingBody, inference: Inference
    ) -> OpenedAnswer | UpstreamError:
        """One call of one server, as far as its answer can be told to be good before the client has any of it."""
        request, target = call.request, call.target
        url = url_of(server.url, target, request)
        headers = {**request.forwarded_headers, **_headers_with(inference.token)}
        inference.wait()
        try:
            answer = self._transport.stream(server, request.method, url, headers, body.content, call.deadline)
        except UpstreamError as error:
            inference.attempted(server.name, None, error.code)
            return error
        inference.attempted(server.name, answer.status, None)
        try:
            return opened(answer, server, inference, call.begin)
        except UpstreamError as error:
            answer.close()
            inference.attempt_failed(error.code)
            return error
        finally:
            inference.upstream_waited += answer.waited()


def _is_final(outcome: OpenedAnswer | ProxyError) -> bool:
    """Whether no other server would do better."""
    if isinstance(outcome, ProxyError) and outcome.code not in _OF_THE_ANSWER:
        return False
    return outcome.status not in _NOT_NOW and outcome.status != _TOKEN_REFUSED


def _pause_after(outcome: OpenedAnswer | UpstreamError, tried: int, chance: Callable[[], float]) -> float | None:
    """Seconds before it makes sense to ask again; None when it does not, or not soon enough."""
    if isinstance(outcome, UpstreamError) and outcome.code in _OF_THE_WIRE:
        asked = 0.0
    elif isinstance(outcome, UpstreamError) and outcome.code not in _OF_THE_ANSWER:
        return None
    elif outcome.status in _NOT_NOW:
        asked = retry_after(outcome.headers) or 0.0
    else:
        return None
    pause = max(asked, _FIRST_PAUSE * 2**tried * (0.5 + chance()))
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
