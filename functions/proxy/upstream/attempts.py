"""Gets one answer from servers that may fail: retries, then fallbacks, all before the client has its first byte.

The server is asked again after a short pause, once unless the owner says otherwise, when a connection fails or breaks,
when a status says "not now" (408, 429, 5xx), when an error comes as a success, and when the answer is no answer at all;
`repeats` decides when that is left to the client. Then the server's fallbacks get their turn. A server that fell silent
is not asked again: it may be working on the answer, and would bill it twice. A server whose circuit is open is not
asked at all. An error that no other server would avoid is passed on as it came. A server that refuses to report a
stream's usage, for which the proxy had asked and not the client, is asked once more without that; a server that refuses
its token is asked once more with a newer one, if there is one. Neither counts as a retry.
"""

import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.servers import Server

from proxy.call import Call
from proxy.delivery import Delivery
from proxy.errors import ProxyError, UnavailableError, UpstreamError
from proxy.http.transport import HttpTransport, UpstreamResponse
from proxy.http.wire import Outgoing
from proxy.request.body import OutgoingBody
from proxy.request.parse import url_of
from proxy.request.routing import Candidate
from proxy.timeline import Timeline
from proxy.upstream.breaker import ILL, Breakers
from proxy.upstream.opened import Expected, OpenedAnswer, opened
from proxy.upstream.provider_tokens import ProviderTokens
from proxy.upstream.repeats import ENOUGH, is_final, most_repeats, pause_after, retry_after
from proxy.upstream.response import content_type, error_body, returned_headers
from proxy.upstream.usage_refusal import UsageRefusals, refuses_usage

if TYPE_CHECKING:
    from proxy.upstream.failed_calls import FailedCalls

_OWN_HEADERS = {"user-agent": "openai-proxy", "accept-encoding": "identity"}
"""Compressed answers would be unpacked to be metered, and small chunks do not compress."""
_SILENCE_AT_GATEWAY = 290.0
"""Seconds: API Gateway ends a stream that says nothing for five minutes, and its client would learn nothing."""


Begin = Callable[[Delivery], None]
"""Gives the client status and headers of an answer whose first piece lets wait for itself."""


class _Turn(NamedTuple):
    """The request that one server gets, and its token."""

    server: Server
    sent: OutgoingBody
    token: str = ""

    def __repr__(self) -> str:
        return f"_Turn(server={self.server.name!r})"  # without the token


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
        self._failed: FailedCalls | None = None
        self._sleep = sleep
        self._chance = chance

    def ask(self, call: Call, timeline: Timeline, begin: Begin) -> Delivery:
        """The first good answer of the call's candidates, asked in their order; else the error of the last one.

        `begin` is called, once, for an answer whose server then falls silent. Every attempt is noted in `timeline`.
        """
        turn, outcome = None, None
        now = timeline.unix(timeline.now())
        timeline.comes_again = self._failed is not None and self._failed.has(call, now)
        for candidate in call.candidates:
            if isinstance(outcome, OpenedAnswer):
                outcome.answer.close()
            turn, outcome = self._turn(candidate, call, timeline, begin)
            if is_final(outcome):
                break
        if turn is None or outcome is None:
            raise ValueError("no server to ask")
        delivery = _delivery(turn, outcome)
        if timeline.has_repeated and (delivery.error or delivery.status >= 400):
            self._remember(call, now)
        return delivery

    def judge(self, server: Server, status: int) -> None:
        """Tell the breaker of `server` how an answer ended: with the status of its error, or well (0)."""
        if status in ILL:
            self._breakers.failed(server)
        else:
            self._breakers.succeeded(server)

    def _remember(self, failed: Call, now: float) -> None:
        if self._failed is None:
            from proxy.upstream.failed_calls import FailedCalls  # noqa: PLC0415  # few sandboxes see one

            self._failed = FailedCalls()
        self._failed.add(failed, now)

    def _turn(
        self, candidate: Candidate, call: Call, timeline: Timeline, begin: Begin
    ) -> tuple[_Turn, OpenedAnswer | ProxyError]:
        """The answer of one server. If it refuses to report usage, it is asked once more without that."""
        server = candidate.server
        turn = _Turn(server, _outgoing(call, candidate, asks_usage=self._usage.may_ask(server)))
        if refusal := self._refusal(server, timeline):
            return turn, refusal
        turn, outcome = self._ask(turn, call, timeline, begin)
        is_opened = isinstance(outcome, OpenedAnswer)
        if turn.sent.asks_usage_unasked and refuses_usage(outcome.answer if is_opened else outcome):
            if is_opened:
                outcome.answer.close()
            timeline.attempt_failed("stream_options_refused")
            turn = turn._replace(sent=_outgoing(call, candidate, asks_usage=False))
            turn, outcome = self._ask(turn, call, timeline, begin)
            if isinstance(outcome, OpenedAnswer) and outcome.status < 300:
                self._usage.learn(server)
        return turn, outcome

    def _refusal(self, server: Server, timeline: Timeline) -> UpstreamError | None:
        """The reason why `server` is not asked; None if it is."""
        if not (wait := self._breakers.out_for(server)):
            return None
        timeline.wait()
        timeline.attempted(server.name, None, "circuit_open")
        message = f"The server '{server.name}' has failed several times in a row and is not asked for a moment."
        # with this header an SDK would wait longer than for a server that fails
        told = {"retry-after": str(math.ceil(wait)), **ENOUGH}
        return UpstreamError(503, "upstream_unavailable", message, headers=told)

    def _ask(
        self, turn: _Turn, call: Call, timeline: Timeline, begin: Begin
    ) -> tuple[_Turn, OpenedAnswer | ProxyError]:
        """The final answer of one server, which is asked again while that makes sense and there is time."""
        server, tried = turn.server, 0
        most = most_repeats(server.retries, call.request.headers if call.request else {})
        most = 0 if timeline.comes_again else most
        turn = turn._replace(server=server._replace(retries=most)) if most < server.retries else turn
        timeline.wait()
        try:
            turn = turn._replace(token=self._tokens.token_for(server))
        except UnavailableError as error:
            timeline.attempted(server.name, None, error.code)
            return turn, error
        while True:
            outcome = self._attempt(turn, call, timeline, begin)
            if token := self._newer_token(turn, outcome):
                turn = turn._replace(token=token)
                continue
            if isinstance(outcome, UpstreamError) or outcome.status >= 300:
                self.judge(server, outcome.status)  # an answer that begins well is judged when it ends
            pause = pause_after(outcome, tried, self._chance)
            now = timeline.unix(timeline.now())
            if pause is None or tried >= most or now + pause >= call.deadline:
                return turn, outcome
            if self._breakers.out_for(server):
                return turn, outcome
            if isinstance(outcome, OpenedAnswer):
                outcome.answer.close()
            timeline.wait()
            self._sleep(pause)
            timeline.heard()
            tried += 1

    def _newer_token(self, turn: _Turn, outcome: OpenedAnswer | UpstreamError) -> str | None:
        """A newer token than the one that the server has refused, if there is one by now."""
        if not isinstance(outcome, OpenedAnswer) or outcome.status != 401:
            return None
        if token := self._tokens.changed(turn.server, turn.token):
            outcome.answer.close()
        return token

    def _attempt(self, turn: _Turn, call: Call, timeline: Timeline, begin: Begin) -> OpenedAnswer | UpstreamError:
        """One call of one server, up to the point where its answer is known to be good or the client gets the first of
        it.
        """
        server, request, target = turn.server, call.request, call.target
        if request is None or target is None:
            raise ValueError("a call that was not let in")
        url, headers = url_of(server, target, request), {**request.forwarded_headers, **_OWN_HEADERS}
        method, content = request.method, turn.sent.content
        headers = self._tokens.signed_in(server, turn.token, Outgoing(method, url, headers, content))
        timeline.wait()
        try:
            at_gateway = request.door == "rest_api"
            transport = self._transport.patient_for(_SILENCE_AT_GATEWAY) if at_gateway else self._transport
            answer = transport.stream(server, Outgoing(method, url, headers, content), call.deadline)
        except ProxyError as error:
            timeline.attempted(server.name, None, error.code)
            if isinstance(error, UpstreamError):
                return error
            raise  # the request was stopped
        timeline.attempted(server.name, answer.status, None)
        timeline.is_repeated |= answer.was_repeated
        timeline.announced(server.name, turn.sent.model, answer.status, answer.headers)

        def begin_now() -> None:
            timeline.waited(answer.waited())
            begin(_begun(turn, answer))

        try:
            return opened(answer, server, turn.token, _expected(call, turn.sent), begin_now)
        except ProxyError as error:
            answer.close()
            timeline.attempt_failed(error.code)
            if isinstance(error, UpstreamError):
                return error
            raise  # the request was stopped
        finally:
            timeline.waited(answer.waited())


def _outgoing(call: Call, candidate: Candidate, *, asks_usage: bool) -> OutgoingBody:
    if call.body is None:
        raise ValueError("a call that was not let in")
    return call.body.outgoing(candidate.server.model, candidate.replacement, asks_usage=asks_usage)


def _expected(call: Call, sent: OutgoingBody) -> Expected:
    return Expected(call.is_question, call.is_post, sent.stream, call.has_terminator)


def _begun(turn: _Turn, answer: UpstreamResponse) -> Delivery:
    """An answer whose body has not been looked at yet."""
    return Delivery(
        turn.server,
        turn.sent,
        answer.status,
        returned_headers(answer, turn.token),
        content_type(answer),
        upstream=answer,
        retry_after=retry_after(answer.headers),
        token=turn.token,
    )


def _delivery(turn: _Turn, outcome: OpenedAnswer | ProxyError) -> Delivery:
    """The answer of the last server. An error that the client must not see as it is becomes one of the proxy's own."""
    if isinstance(outcome, ProxyError):
        wait = retry_after(outcome.headers)
        return Delivery(turn.server, turn.sent, error=outcome, retry_after=wait, token=turn.token)
    found, answer = _begun(turn, outcome.answer), outcome.answer
    if answer.status < 300:
        body, document = outcome.body, outcome.document
        return found._replace(content_type=outcome.content_type, chunks=body, document=document)
    try:
        return found._replace(chunks=error_body(answer, turn.server.name, turn.token))
    except UpstreamError as error:
        return found._replace(error=error)
