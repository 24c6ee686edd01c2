"""One call stays one call: the real SDKs with their defaults, a server with its, and what is counted at the server.

The same faults are met twice: by an SDK that calls the server itself, and by one that calls it through the proxy. No
pause is slept: those of the SDKs and those of the proxy are written down.
"""

import importlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.fakes import Connection, Received, ScriptedServer
from tests.relays import Proxy, proxy
from tests.sdks import anthropic, openai

PLAIN = "plain: {url: 'URL/v1', token: t, model: m, breaker: {failures: 0}}\n"
"""A server with the defaults; a breaker would make one case depend on the one before."""
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
STATUSES = (400, 401, 402, 403, 404, 408, 409, 422, 425, 429, 500, 501, 502, 503, 504, 520, 529, 599)
TOLD = ((("retry-after", "1"),), (("x-should-retry", "true"),), (("x-should-retry", "false"),))
FORMS = ((("retry-after", "0"),), (("retry-after-ms", "100"),), (("retry-after", DATE),), (("retry-after", "600"),))


class Fault(NamedTuple):
    """What a server answers to every call: a status with these headers; 0 closes the connection."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


PLAINLY = [Fault(status) for status in (0, *STATUSES)]
TELLING = [
    *(Fault(status, headers) for status in (400, 429, 503) for headers in TOLD),
    *(Fault(429, headers) for headers in FORMS),
]


class Faulty:
    """Answers with one of its faults after the other, the last one for ever, and counts."""

    def __init__(self) -> None:
        self.faults: list[Fault] = [Fault(0)]
        self.calls = 0

    def __call__(self, connection: Connection, request: Received) -> None:
        status, headers = self.faults[min(self.calls, len(self.faults) - 1)]
        self.calls += 1
        if not status:
            connection.reset()
            return
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        connection.answer(b'{"error": {"message": "not now", "type": "a"}}', f"{status} No", more=more)


class Rig(NamedTuple):
    """A server, a proxy before it, and the pauses of whoever waits."""

    faulty: Faulty
    server: ScriptedServer
    relay: Proxy
    waits: list[float]

    def sdk(self, name: str, url: str, send: Callable[[Any], Any] | None) -> Any:
        """The SDK of this `name` with its own defaults; its pauses are written down. `send` stands for the network."""
        module: Any = {"openai": openai, "anthropic": anthropic}[name]
        base, waits = module.OpenAI if name == "openai" else module.Anthropic, self.waits

        def pause(client: Any, *, retries_taken: int, max_retries: int, options: Any, response: Any) -> None:
            told = response.headers if response is not None else None
            waits.append(client._calculate_retry_timeout(max_retries - retries_taken, options, told))

        kind = type("Impatient", (base,), {"_sleep_for_retry": pause})
        transport: Any = importlib.import_module("httpx2").MockTransport(send) if send else None
        http = module.DefaultHttpxClient(transport=transport) if send else None
        return kind(api_key="good", base_url=url, http_client=http)

    def through(self, request: Any) -> Any:
        """One request of an SDK, served by the proxy."""
        headers = {**request.headers, "authorization": "Bearer good"}
        path = urlsplit(str(request.url)).path
        response = self.relay.call(request.content.decode(), path=path, headers=headers)
        kind: Any = importlib.import_module("httpx2").Response
        return kind(response.status, headers=dict(response.headers), content=response.body)

    def met(self, call: Callable[[], Any], *faults: Fault) -> tuple[int, float]:
        """How often the server was called for one call, and how long its caller waited in all."""
        self.faulty.faults, self.faulty.calls = list(faults), 0
        self.waits.clear()
        self.relay.slept.clear()
        random.seed(7)  # an SDK's jitter is the same both times
        with pytest.raises((openai.APIError, anthropic.APIError)):
            call()
        return self.faulty.calls, sum(self.waits) + sum(self.relay.slept)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    faulty = Faulty()
    with proxy(faulty, more_servers=PLAIN) as (relay, server):
        yield Rig(faulty, server, relay, [])


class Calls(NamedTuple):
    """A call of the server itself, and one through the proxy."""

    direct: Callable[[], Any]
    proxied: Callable[[], Any]


@pytest.fixture(scope="module")
def chats(rig: Rig) -> Calls:
    direct = rig.sdk("openai", f"{rig.server.url}/v1", None)
    proxied = rig.sdk("openai", "http://proxy.test/plain/v1", rig.through)
    return Calls(
        lambda: direct.chat.completions.create(model="m", messages=[]),
        lambda: proxied.chat.completions.create(model="m", messages=[]),
    )


@pytest.fixture(scope="module")
def messages(rig: Rig) -> Calls:
    direct = rig.sdk("anthropic", rig.server.url, None)
    proxied = rig.sdk("anthropic", "http://proxy.test/plain", rig.through)
    return Calls(
        lambda: direct.messages.create(model="m", messages=[], max_tokens=1),
        lambda: proxied.messages.create(model="m", messages=[], max_tokens=1),
    )


def assert_one_call(rig: Rig, calls: Calls, fault: Fault) -> None:
    """A server is called no more often because of the proxy, and nobody waits longer."""
    direct, waited_directly = rig.met(calls.direct, fault)
    proxied, waited = rig.met(calls.proxied, fault)
    assert 1 <= proxied <= direct <= 3, fault
    assert waited <= waited_directly, fault
    assert rig.relay.slept == [] or not any(name.startswith("retry-after") for name, _ in fault.headers), fault


def test_whatever_a_server_answers_one_call_stays_one_call(rig: Rig, chats: Calls) -> None:
    for fault in (*PLAINLY, *TELLING):
        assert_one_call(rig, chats, fault)


def test_so_it_is_with_the_sdk_of_anthropic(rig: Rig, messages: Calls) -> None:
    for fault in (Fault(0), Fault(401), Fault(409), Fault(529), Fault(429, TOLD[0])):
        assert_one_call(rig, messages, fault)


@settings(max_examples=examples(25), deadline=None)
@given(faults=st.lists(st.sampled_from((*PLAINLY, *TELLING)), min_size=1, max_size=4))
def test_faults_that_change_from_call_to_call_are_at_most_three_calls(
    rig: Rig, chats: Calls, faults: list[Fault]
) -> None:
    proxied, _ = rig.met(chats.proxied, *faults)
    assert 1 <= proxied <= 3
