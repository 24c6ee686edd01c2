"""The proxy's composition root: the only reader of its environment. Everything is built once per sandbox, in INIT.

`stream` serves the streaming runtime. `handler` is the same for callers that cannot stream: the console's test button,
`sam local invoke`, emulators. It gives the whole answer at once, as a proxy integration expects it.
"""

import functools
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai_proxy
from openai_proxy.servers import Server, load_servers, warnings_of

from proxy.access.authenticator import Authenticator, Authorizer, AuthorizerFunction
from proxy.admission import Admission, steering_of
from proxy.aws.client import Aws, ContainerCredentials
from proxy.aws.sigv4 import Credentials
from proxy.endpoints.cors import Cors
from proxy.endpoints.responder import Responder, Response
from proxy.endpoints.routes import MODELS, RECEIPTS, Endpoints
from proxy.http.transport import HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.renewal import Renewals
from proxy.limits.table import FailurePolicy, LimitsTable
from proxy.log import log, log_from
from proxy.records.publisher import Publisher, Queues
from proxy.records.records import Records
from proxy.relay import Relay
from proxy.request.parse import InferenceRequest
from proxy.request.routing import Routes
from proxy.upstream.attempts import Attempts
from proxy.upstream.breaker import Breakers
from proxy.upstream.provider_tokens import ProviderTokens

if TYPE_CHECKING:  # loaded only where they are switched on or asked for, or by the runtime
    from proxy.cache.response_cache import ResponseCache
    from proxy.endpoints.answer_cost import Prices
    from proxy.endpoints.models import ModelList
    from proxy.endpoints.receipts import Receipts
    from proxy.records.content_log import ContentLog
    from proxy.runtime_api import Invocation, ResponseStream
    from proxy.streams.streams import Streams
    from proxy.workers.memory import SharedText

_LAYER = Path(openai_proxy.__file__).parents[1]
"""Where the layer was unpacked: a relative SERVERS_FILE is one that it carries."""


def _credentials(environ: Mapping[str, str], transport: HttpTransport) -> Callable[[], Credentials]:
    if url := environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return ContainerCredentials(transport.get, url, environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
    fixed = Credentials(
        environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ.get("AWS_SESSION_TOKEN") or None
    )
    return lambda: fixed


def _timeouts(environ: Mapping[str, str]) -> Timeouts:
    return Timeouts(
        first_byte=float(environ.get("UPSTREAM_FIRST_BYTE_SECONDS", "300")),
        idle=float(environ.get("UPSTREAM_IDLE_SECONDS", "120")),
    )


def _failure_policy(text: str) -> FailurePolicy:
    if text == "open":
        return "open"
    return "closed"


def _limits(aws: Aws, environ: Mapping[str, str], timeout: float, another: Callable[[], Aws]) -> LimitsTable:
    """The table of limits. `another` makes an AWS client for another thread.

    All of it is loaded in INIT, although keys without limits need none of it: only a request shows what keys are like.
    It takes a fortieth of INIT; a first request that had to load it would have a seventh of a CPU for that, in a
    function of 256 MB.
    """
    policy, table = _failure_policy(environ.get("LIMITS_FAILURE_POLICY", "open")), environ["LIMITS_TABLE"]

    @functools.cache
    def renewals() -> Renewals:
        return Renewals(another(), table, timeout)

    return LimitsTable(TableAccess(aws, table, timeout=timeout), policy, renewals)


def _authenticator(
    environ: Mapping[str, str], authorizer: Authorizer, servers: dict[str, Server], tokens: ProviderTokens
) -> Authenticator:
    is_off = environ.get("AUTHORIZATION") == "off"
    if not is_off and environ.get("ACCEPT_PROVIDER_TOKENS") != "true":
        return authorizer
    from proxy.access.modes import Open, WithProviderTokens  # noqa: PLC0415  # most stacks have no other door

    if is_off:
        log("WARN", "Authorization is off: everybody may use the provider tokens")
        return Open()
    return WithProviderTokens(authorizer, servers, tokens)


def _playground(switch: str | None) -> Callable[[InferenceRequest, Response], bool] | None:
    if switch != "on":
        return None
    from proxy.endpoints.playground import Playground  # noqa: PLC0415  # no other sandbox needs it

    return Playground().serve


def _prices(environ: Mapping[str, str], servers_file: Path) -> "Callable[[], Prices]":
    """Computes the cost of an answer for a client that asks; the price book is read when the first one asks."""

    @functools.cache
    def prices() -> "Prices":
        from openai_proxy.pricing.price_book import PRICES_FILE, load_price_book  # noqa: PLC0415

        from proxy.endpoints.answer_cost import Prices  # noqa: PLC0415

        file = _LAYER / (environ.get("PRICES_FILE") or PRICES_FILE)
        return Prices(lambda: load_price_book(file, servers_file))

    return prices


class Application:
    """The wired proxy. Raises ServersFileError or KeyError where the sandbox could not serve a single request."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        log_from(environ)
        file = _LAYER / environ["SERVERS_FILE"]
        region = environ.get("AWS_REGION") or environ["AWS_DEFAULT_REGION"]
        servers = load_servers(file, region)
        for warning in warnings_of(servers, file.name):
            log("WARN", warning)
        self._transport = HttpTransport(_timeouts(environ))
        endpoint = environ.get("AWS_ENDPOINT_URL")
        patience, limits_patience = (20.0, 5.0) if endpoint else (5.0, 1.0)  # an emulator is slower
        credentials = _credentials(environ, self._transport)
        aws = Aws(self._transport.post, credentials, region, endpoint, patience)

        def of_a_thread() -> Aws:
            return Aws(self._transport.sibling().post, credentials, region, endpoint)

        self._tokens = ProviderTokens.from_environ(aws, environ)
        function = AuthorizerFunction(aws.invoke, environ["AUTHORIZER_FUNCTION"], region)
        authorizer = Authorizer(function, ttl=float(environ.get("AUTHORIZER_CACHE_SECONDS", "60")))
        self._authenticator = _authenticator(environ, authorizer, servers, self._tokens)
        costs, limits = environ["COSTS_TABLE"], _limits(aws, environ, limits_patience, of_a_thread)
        endpoints = self._endpoints(aws, servers, costs)
        cors, cache = Cors(environ.get("CORS_ALLOW_ORIGINS", "*")), self._cache(aws, environ, region)
        self.records = Records(
            Publisher(aws, environ["EVENT_BUS_NAME"], queues=Queues.from_environ(environ)),
            self._content_log(aws, environ, region),
            environ.get("AWS_XRAY_DAEMON_ADDRESS"),
            environ.get("AWS_LAMBDA_INITIALIZATION_TYPE"),
        )
        self.relay = Relay(
            Admission(self._authenticator, Routes(servers), limits, steering_of(of_a_thread, costs)),
            Attempts(self._transport, self._tokens, Breakers()),
            Responder(cors, endpoints, _playground(environ.get("PLAYGROUND")), _prices(environ, file)),
            self.records,
            cache,
            self._streams(aws, environ, region),
        )
        if cache and any(server.cache for server in servers.values()):
            cache()  # in INIT, which has the full CPU

    def _endpoints(self, aws: Aws, servers: Mapping[str, Server], costs_table: str) -> Endpoints:
        """What the proxy answers itself; few requests are for it."""

        @functools.cache
        def models() -> "ModelList":
            from proxy.endpoints.models import ModelList  # noqa: PLC0415

            return ModelList(servers, self._transport, self._tokens)

        @functools.cache
        def receipts() -> "Receipts":
            from proxy.endpoints.receipts import Receipts  # noqa: PLC0415

            return Receipts(aws, costs_table)

        return Endpoints({MODELS: models, RECEIPTS: receipts})

    def _content_log(self, aws: Aws, environ: Mapping[str, str], region: str) -> "ContentLog | None":
        """Where prompts and answers of keys go that ask for it; None where the stack has no place for them."""
        bucket, salt = environ.get("CONTENT_LOG_BUCKET"), environ.get("CONTENT_LOG_SALT")
        if not bucket or not salt:
            return None
        from proxy.aws.s3 import S3  # noqa: PLC0415
        from proxy.records.content_log import ContentLog  # noqa: PLC0415  # few stacks have it

        s3 = S3(self._transport, _credentials(environ, self._transport), region, environ.get("AWS_ENDPOINT_URL"))
        return ContentLog(s3, bucket, lambda: aws.get_secret(salt))

    def _cache(self, aws: Aws, environ: Mapping[str, str], region: str) -> "Callable[[], ResponseCache] | None":
        """The response cache, made when it is first asked for; None where the stack has no table for it."""
        if not (table := environ.get("CACHE_TABLE")):
            return None

        @functools.cache
        def cache() -> "ResponseCache":
            from proxy.aws.s3 import S3, Bucket  # noqa: PLC0415
            from proxy.cache.response_cache import ResponseCache, Settings  # noqa: PLC0415
            from proxy.cache.table import CacheTable  # noqa: PLC0415  # most stacks have no policy for it

            name, endpoint = environ.get("CACHE_BUCKET"), environ.get("AWS_ENDPOINT_URL")
            s3 = S3(self._transport, _credentials(environ, self._transport), region, endpoint)
            timeout, patience = (5.0, 2.0) if endpoint else (0.15, 0.5)  # an emulator is slower
            settings = Settings.from_environ(environ, patience)
            return ResponseCache(CacheTable(aws, table, timeout), Bucket(s3, name) if name else None, settings)

        return cache

    def _streams(self, aws: Aws, environ: Mapping[str, str], region: str) -> "Callable[[], Streams] | None":
        """Streams that can be read again, made when the first is asked for; None where there is no table for them."""
        if not environ.get("STREAMS_TABLE"):
            return None

        @functools.cache
        def streams() -> "Streams":
            from proxy.streams.wiring import from_environ  # noqa: PLC0415  # few clients ask for it

            return from_environ(environ, region, self._transport, aws.credentials, self.records)

        return streams

    def begin_worker(self, left: "SharedText") -> None:
        """Go on in a copy of the process that loaded this: `left` is what the copy before it has left."""
        self.after_restore()
        self.records.watch(left)

    def after_restore(self) -> None:
        """Drop what a SnapStart snapshot must not hand to its copies: connections, and answers of unknown age."""
        self._transport.close()
        self._authenticator.forget()
        self._tokens.forget()


_application = Application(os.environ)
after_restore = _application.after_restore
begin_worker = _application.begin_worker
tell_of = _application.records.tell_of


def stream(invocation: "Invocation", response: "ResponseStream") -> None:
    """Serve one invocation of the streaming runtime."""
    _application.relay.serve(invocation.event, response, invocation.deadline, invocation.trace_id)


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Serve one event without streaming."""
    from proxy.endpoints.buffered_response import BufferedResponse  # noqa: PLC0415  # no streaming sandbox needs it

    response = BufferedResponse()
    deadline = time.time() + context.get_remaining_time_in_millis() / 1000
    _application.relay.serve(event, response, deadline, os.environ.get("_X_AMZN_TRACE_ID"))
    return response.result()
