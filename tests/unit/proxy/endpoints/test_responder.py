"""What the proxy says in the headers of each answer, compared whole on a clock that stands."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai_proxy.servers import parse_servers
from proxy.call import Call
from proxy.delivery import OFF, CacheUse, Delivery
from proxy.endpoints.cors import Cors
from proxy.endpoints.responder import Responder
from proxy.errors import ClientError, UpstreamError
from proxy.metering.meter import AnswerTraits, Meter
from proxy.outcome import NO_USAGE, Outcome
from proxy.request.body import OutgoingBody
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Clock, Timeline

from tests.fakes import RecordedResponse

ORIGIN = "https://app.example"
UP = parse_servers("up: {url: 'http://127.0.0.1:1/v1', token: t, model: m}")["up"]
HIT = CacheUse("HIT", "waited", 7, "0.001 USD")
ALWAYS = {
    "x-request-id": "own",
    "x-inference-id": "id-1",
    "cache-control": "no-cache",
    "server-timing": "upstream;dur=0.0, proxy;dur=0.0",
    "x-content-type-options": "nosniff",
    "access-control-allow-origin": ORIGIN,
    "access-control-expose-headers": "*",
    "vary": "origin",
}


def nothing(*_: object) -> Any:
    raise AssertionError("nothing is asked for")


def responder(prices: Any = None, playground: Any = None) -> Responder:
    return Responder(Cors(ORIGIN), cast("Any", nothing), playground, prices)


def call_of(method: str = "POST", **headers: str) -> Call:
    found = {
        "origin": ORIGIN,
        "x-request-id": "own",
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    request = InferenceRequest("function_url", method, "/v1/chat/completions", "", found, b"", None)
    return Call("id-1", 0.0, request, target=Target(None, "/chat/completions"))


def timeline_of(*attempts: tuple[str, int | None, str | None]) -> Timeline:
    timeline = Timeline(Clock(lambda: 1_900_000_000.0, lambda: 50.0))
    for attempt in attempts:
        timeline.attempted(*attempt)
    return timeline


def sent(model: str | None) -> OutgoingBody:
    return OutgoingBody(b"", model, False, False)


def without(headers: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: text for name, text in headers.items() if name not in names}


@pytest.mark.parametrize(
    ("delivery", "cache", "attempts", "more"),
    [
        (Delivery(status=200), OFF, [], {}),
        (
            Delivery(UP, sent("m" * 130), 200),
            HIT,
            [],
            {
                "x-served-by": "up",
                "x-served-model": "m" * 128,
                "x-cache": "HIT",
                "x-cache-reason": "waited",
                "age": "7",
                "x-cache-saved": "0.001 USD",
            },
        ),
        (Delivery(UP, sent("größe"), 200), OFF, [], {"x-served-by": "up"}),
        (Delivery(UP, sent("a\nb"), 200), OFF, [], {"x-served-by": "up"}),
        (Delivery(UP, sent(None), 200), OFF, [("up", 200, None)], {"x-served-by": "up", "x-attempts": "1"}),
        (Delivery(status=200), OFF, [("up", None, "circuit_open")], {"x-attempts": "0"}),
        (Delivery(status=399), OFF, [("up", 500, None), ("up", 399, None)], {"x-attempts": "2"}),
        (
            Delivery(status=400),
            OFF,
            [("up", 500, None), ("up", 400, None)],
            {"x-attempts": "2", "x-should-retry": "false"},
        ),
        (Delivery(status=400), OFF, [("up", 500, None), ("other", 400, None)], {"x-attempts": "2"}),
        (Delivery(error=UpstreamError(502, "upstream_redirect", "")), OFF, [], {"x-should-retry": "false"}),
        (Delivery(error=UpstreamError(502, "upstream_unreachable", "")), OFF, [], {}),
    ],
)
def test_the_headers_of_every_answer(
    delivery: Delivery, cache: CacheUse, attempts: list[Any], more: dict[str, str]
) -> None:
    assert responder().headers(call_of(), delivery, cache, timeline_of(*attempts)) == ALWAYS | more


def test_what_limits_say_is_there_and_never_in_the_place_of_ours() -> None:
    held: Any = SimpleNamespace(headers={"x-ratelimit-limit-requests": "5", "x-request-id": "not ours"})
    found = responder().headers(call_of()._replace(reservation=held), Delivery(status=200), OFF, timeline_of())
    assert found == ALWAYS | {"x-ratelimit-limit-requests": "5"}


def test_the_cache_has_nothing_to_say_of_what_is_fetched_or_not_understood() -> None:
    for call in (call_of("GET"), call_of()._replace(target=None)):
        assert responder().headers(call, Delivery(status=200), HIT, timeline_of()) == ALWAYS


def test_of_a_request_that_could_not_be_read_there_is_no_origin() -> None:
    found = responder().headers(Call("id-1", 0.0), Delivery(status=200), OFF, timeline_of())
    readable = ("access-control-allow-origin", "access-control-expose-headers")
    assert found == without(ALWAYS, *readable) | {"x-request-id": "id-1"}


def test_an_error_is_said_in_its_form_with_its_headers_and_those_of_every_answer() -> None:
    response, error = RecordedResponse(), ClientError(429, "c", "m", headers={"retry-after": "5", "x-a": "error's"})
    call = call_of()._replace(request=call_of().request._replace(path="/v1/messages"))  # pyright: ignore[reportOptionalMemberAccess]
    responder().error(error, call, {"x-a": "every answer's", "x-b": "2"}, response)
    assert (response.status, response.headers, response.ended) == (
        429,
        {
            "content-type": "application/json",
            "request-id": "own",
            "retry-after": "5",
            "x-a": "every answer's",
            "x-b": "2",
        },
        True,
    )
    assert b'"rate_limit_error"' in response.body


def test_a_pre_flight_needs_no_key_and_other_requests_are_for_the_playground_where_there_is_one() -> None:
    response = RecordedResponse()
    request = call_of("OPTIONS").request
    assert request
    assert responder().serve(request, response)
    assert (response.status, response.ended, response.body) == (200, True, b"")
    assert response.headers == Cors(ORIGIN).preflight(request.headers)
    other = request._replace(method="GET")
    assert responder().serve(other, response) is False
    for answer in (True, False):
        asked: list[object] = []

        def page(*of: object, into: list[object] = asked, answer: bool = answer) -> bool:
            into += of
            return answer

        assert responder(playground=page).serve(other, response) is answer
        assert asked == [other, response]


# ------------------------------------------------------------------------------------------------------------- the cost


class Priced:
    """Says what an answer cost, and for what it was asked."""

    text = "0.5"

    def cost_of(self, *asked: object) -> "Priced":
        self.asked = asked
        return self

    def to_receipt(self) -> dict[str, str]:
        return {"cost": self.text}


@pytest.mark.parametrize("has_prices", [True, False])
def test_a_receipt_is_a_comment(has_prices: bool) -> None:
    priced, call, outcome, timeline = Priced(), call_of(), Outcome(200, Delivery(UP, sent("m"))), timeline_of()
    found = responder((lambda: priced) if has_prices else None).receipt(call, outcome, timeline)
    usage = json.dumps(NO_USAGE.to_event(), separators=(",", ":")).encode()
    cost = b',"cost":"0.5"' if has_prices else b""
    known = b'"id":"id-1","server":"up","model":"m","usage":%b,"time_to_first_chunk":null' % usage
    assert found == b": receipt {%b,%b%b}\n\n" % (known, b'"duration":0.0,"attempts":0', cost)
    assert not has_prices or priced.asked == (call, outcome, timeline)


@pytest.mark.parametrize("lacks", ["", "wish", "prices", "meter", "form", "success"])
def test_the_cost_is_in_the_answer_for_who_asks_where_it_can_be(lacks: str) -> None:
    response, priced = RecordedResponse(), Priced()
    call = call_of(x_receipt="" if lacks == "wish" else "usage")
    meter = Meter("audio/mpeg" if lacks == "form" else "application/json", True, AnswerTraits(has_terminator=False))
    outcome = Outcome(400 if lacks == "success" else 399, meter=None if lacks == "meter" else meter)
    timeline = timeline_of()
    write, end = responder(None if lacks == "prices" else lambda: priced).writing(call, outcome, response, timeline)
    response.start(200, {})
    write(b'{"usage":{"a":1}}')
    end()
    assert response.body == (b'{"usage":{"a":1}}' if lacks else b'{"usage":{"cost":"0.5","a":1}}')
    assert lacks or priced.asked == (call, outcome, timeline)
