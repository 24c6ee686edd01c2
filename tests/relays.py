"""The relay between a recorded client and a scripted upstream server on real sockets, for tests."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

from openai_proxy.servers import parse_servers
from proxy.access.authenticator import Authenticator, Authorizer, AuthorizerFunction
from proxy.admission import Admission
from proxy.aws.sigv4 import Credentials
from proxy.cache.response_cache import ResponseCache
from proxy.endpoints.answer_cost import Prices
from proxy.endpoints.cors import Cors
from proxy.endpoints.models import ModelList
from proxy.endpoints.playground import Playground
from proxy.endpoints.receipts import Receipts
from proxy.endpoints.responder import Responder
from proxy.endpoints.routes import Endpoints
from proxy.http.transport import HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.records.content_log import ContentLog
from proxy.records.publisher import Publisher
from proxy.records.records import Records
from proxy.relay import Relay
from proxy.request.routing import Routes
from proxy.streams.streams import Streams
from proxy.upstream.attempts import Attempts
from proxy.upstream.breaker import Breakers
from proxy.upstream.provider_tokens import ProviderTokens

from local.lambda_.function_url import FunctionUrl
from local.lambda_.sandboxes import Launch, SandboxPool
from local.lambda_.url_event import UrlIdentity
from tests.fakes import Connection, Received, RecordedResponse, Script, ScriptedServer, envelope_of, refused_key
from tests.schemas import validator_of

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
TOKEN = "provider-token"
ROLE = Credentials("AKIDEXAMPLE", "role-secret", "role-session-token")


def sse(text: str = "", finish: str | None = None, usage: object = None, choices: bool = True) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    answer = {"id": "c-1", "model": "real-model", "choices": [choice] if choices else [], "usage": usage}
    return f"data: {json.dumps(answer)}\n\n".encode()


CONTENT = [sse("Hello"), sse(" world", "stop")]
USAGE_CHUNK = sse(usage=USAGE, choices=False)
DONE = b"data: [DONE]\n\n"


class RecordingBus:
    """Takes every entry, checked against its schema."""

    def __init__(self) -> None:
        self.details: list[tuple[str, dict[str, Any]]] = []

    @staticmethod
    def credentials() -> Credentials:
        return ROLE

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        for entry in entries:
            detail = json.loads(entry["Detail"])
            validator_of(entry["DetailType"]).validate(envelope_of(entry))
            self.details.append((entry["DetailType"], detail))
        return [{"EventId": "e"} for _ in entries]


class Parts(NamedTuple):
    """What a relay is made of."""

    authenticator: Authenticator
    routes: Routes
    limits: LimitsTable
    servers: Attempts
    endpoints: Endpoints
    playground: Playground | None
    records: Records
    cache: Callable[[], ResponseCache] | None
    prices: Callable[[], Prices] | None = None
    streams: Callable[[], Streams] | None = None

    def wired(self) -> Relay:
        return Relay(
            Admission(self.authenticator, self.routes, self.limits),
            self.servers,
            Responder(Cors("*"), self.endpoints, self.playground and self.playground.serve, self.prices),
            self.records,
            self.cache,
            self.streams,
        )


class Proxy:
    """A relay and what it did: one request at a time."""

    def __init__(
        self,
        url: str,
        allowed: dict[str, str],
        transport: HttpTransport,
        content_log: ContentLog | None = None,
        daemon: str | None = None,
        cache: Callable[[], ResponseCache] | None = None,
        bus: RecordingBus | None = None,
        more_servers: str = "",
    ) -> None:
        self.bus, self.transport = bus or RecordingBus(), transport
        self.slept: list[float] = []
        file = (
            f"up: {{url: '{url}/base/v1', token: {TOKEN}, model: default-model, retries: 0}}\n"
            "other: {url: 'http://127.0.0.1:9/v1', token: t, model: '', retries: 0}\n"
            f"again: {{url: '{url}/again', token: {TOKEN}, model: m, retries: 2}}\n"
            f"first: {{url: '{url}/first', token: one, model: m, retries: 1, fallbacks: [other, up]}}\n"
            "unset: {url: 'http://127.0.0.1:9/v1', token: '${UNSET}', model: m, fallbacks: [up]}\n"
            f"named: {{url: '{url}/named', token: t, model: real, retries: 0, fallbacks: [spare],"
            " aliases: {fast: real-fast, big: meta/real-big}}\n"
            f"spare: {{url: '{url}/spare', token: t, model: spare-model, retries: 0, aliases: {{fast: spare-fast}}}}\n"
            f"hasty: {{url: '{url}/hasty', token: t, model: m, retries: 0,"
            " timeouts: {first_byte: 1.5, idle: 1, total: 5}}\n"
            f"frail: {{url: '{url}/frail', token: t, model: m, retries: 3, breaker: {{failures: 2, seconds: 30}}}}\n"
            f"guarded: {{url: '{url}/frail', token: t, model: m, retries: 0, fallbacks: [up],"
            " breaker: {failures: 1, seconds: 30}}\n"
            f"{more_servers}"
        )
        context = {"client_id": "team-a", **allowed}
        policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": context}

        def invoke(_: str, payload: bytes) -> tuple[bytes, bool]:
            if json.loads(payload)["headers"]["Authorization"] == "Bearer good":
                return json.dumps(policy).encode(), False
            return json.dumps(refused_key()).encode(), False

        services: Any = self.bus
        servers, tokens = parse_servers(file), ProviderTokens(services, {"BEDROCK_ENABLED": "true"}, None)
        self.now = 0.0
        clock: Callable[[], float] = lambda: self.now  # noqa: E731
        models = ModelList(servers, transport, tokens, clock)
        endpoints = Endpoints({"/models": lambda: models, "/receipts/": lambda: Receipts(services, "costs")})
        authorizer = Authorizer(AuthorizerFunction(invoke, "authorizer", "eu-central-1"), 60)
        self._parts = Parts(
            authorizer,
            Routes(servers),
            LimitsTable(TableAccess(services, "limits"), "open"),
            Attempts(transport, tokens, Breakers(clock), self.slept.append, lambda: 0.5),
            endpoints,
            None,
            Records(Publisher(services, "bus"), content_log, daemon),
            cache,
        )
        self.relay = self._parts.wired()

    def use(self, **parts: Any) -> None:
        """Go on with other `Parts`."""
        self._parts = self._parts._replace(**parts)
        self.relay = self._parts.wired()

    @property
    def records(self) -> Records:
        """What its events go through."""
        return self._parts.records

    def call(
        self,
        body: object = None,
        *,
        path: str = "/up/v1/chat/completions",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        response: RecordedResponse | None = None,
        seconds: float = 60,
        query: str = "",
        trace: str | None = None,
    ) -> RecordedResponse:
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"authorization": "Bearer good", "content-type": "application/json", **(headers or {})},
            "requestContext": {"http": {"method": method}},
            "body": body if isinstance(body, str) else json.dumps(body) if body is not None else "",
        }
        response = response or RecordedResponse()
        self.relay.serve(event, response, time.time() + seconds, trace)
        assert response.ended or response.broken
        return response

    @property
    def event(self) -> tuple[str, dict[str, Any]]:
        """The one terminal event there is, and its data."""
        [(detail_type, detail)] = self.bus.details
        return detail_type, detail["data"]


@contextmanager
def proxy(
    script: Script,
    allowed: dict[str, str] | None = None,
    content_log: ContentLog | None = None,
    daemon: str | None = None,
    more_servers: str = "",
    **timeouts: float,
) -> Generator[tuple[Proxy, ScriptedServer]]:
    with ScriptedServer(script) as server:
        transport = HttpTransport(Timeouts(**timeouts))
        try:
            more = more_servers.replace("URL", server.url)
            yield Proxy(server.url, allowed or {}, transport, content_log, daemon, more_servers=more), server
        finally:
            transport.close()


def streaming(*pieces: bytes, end: Callable[[Connection], None] = Connection.end_chunked) -> Script:
    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        for piece in pieces:
            connection.chunk(piece)
        end(connection)

    return script


def error_of(response: RecordedResponse) -> dict[str, Any]:
    return json.loads(response.body)["error"]


def failing(times: int, status: str, more: str = "") -> Script:
    """Fails so many times, then answers."""
    served = iter(range(1000))

    def script(connection: Connection, request: Received) -> None:
        if next(served) < times:
            connection.answer(b'{"error": {"message": "not now"}}', status, more=more)
        else:
            connection.answer(json.dumps({"usage": USAGE}).encode())

    return script


@contextmanager
def function_url(launch: Launch, port: int = 0) -> Generator[str]:
    """The proxy behind a function URL, in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    pool = SandboxPool(launch, "arn:aws:lambda:us-east-1:000000000000:function:proxy", timeout=120, report=print)
    url = FunctionUrl(pool.invoke, UrlIdentity("proxy.lambda-url.us-east-1.on.aws"))
    try:
        wait(pool.open())
        yield f"http://127.0.0.1:{wait(url.start('127.0.0.1', port))}"
    finally:
        wait(url.close())
        wait(pool.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def scripted_proxy(
    script: Script, servers: str, allowed: dict[str, str] | None = None
) -> Generator[tuple[Proxy, ScriptedServer]]:
    """A proxy and the server behind it. `URL` in `servers` is the server's address."""
    with ScriptedServer(script) as server:
        transport = HttpTransport(Timeouts())
        try:
            yield Proxy(server.url, allowed or {}, transport, more_servers=servers.replace("URL", server.url)), server
        finally:
            transport.close()
