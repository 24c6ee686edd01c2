"""Tags from a client to the event: at both doors, for every kind of body, and never to a server."""

import json
from typing import Any

import pytest
from openai_proxy.ledger.entries import entry_of
from openai_proxy.pricing.price_book import parse_price_book

from tests.fakes import Connection, Received, RecordedResponse, envelope_of, read_event
from tests.relays import Proxy, error_of, proxy

KEY = {"key_id": "0123456789ab", "tags": '{"tenant": "of-the-key"}'}
HEADERS = {"x-tags": "feature=search, tenant=acme"}
UPLOAD = {"content-type": "multipart/form-data; boundary=b"}
FORM = '--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'


def answer(connection: Connection, _: Received) -> None:
    connection.answer(b'{"id": "a"}')


def tags_of(relay: Proxy) -> Any:
    return [detail["data"]["tags"] for _, detail in relay.bus.details]


def at_rest_api(relay: Proxy, body: dict[str, Any], headers: dict[str, list[str]], **context: str) -> RecordedResponse:
    event: dict[str, Any] = {
        "httpMethod": "POST",
        "path": "/up/v1/chat/completions",
        "headers": {"content-type": "application/json", **{name: values[-1] for name, values in headers.items()}},
        "multiValueHeaders": headers,
        "requestContext": {"authorizer": {"client_id": "team-a", **context}},
        "body": json.dumps(body),
    }
    response = RecordedResponse()
    relay.relay.serve(event, response, 9e9)
    return response


@pytest.mark.parametrize(
    ("path", "body", "more", "expected"),
    [
        ("/chat/completions", {"metadata": {"feature": "x", "run": "7"}}, {}, {"feature": "search", "run": "7"}),
        ("/responses", {"input": "a", "metadata": {"run": "7", "n": 7}}, {}, {"feature": "search", "run": "7"}),
        ("/embeddings", {"input": "a"}, {}, {"feature": "search"}),
        ("/messages", {"messages": [], "metadata": {"user_id": "ada@example.com"}}, {}, {"feature": "search"}),
        ("/chat/completions", {"metadata": ["a", 7]}, {}, {"feature": "search"}),
        ("/audio/transcriptions", FORM, UPLOAD, {"feature": "search"}),
    ],
)
def test_tags_are_in_the_event_and_the_body_goes_on_as_it_is(
    path: str, body: Any, more: dict[str, str], expected: dict[str, str]
) -> None:
    with proxy(answer, KEY) as (relay, server):
        assert relay.call(body, path=f"/up/v1{path}", headers=HEADERS | more).status == 200
    assert tags_of(relay) == [expected]
    assert "example.com" not in json.dumps(relay.bus.details)
    [received] = server.received
    assert "x-tags" not in received.headers
    sent = received.body.decode()
    assert sent == body if isinstance(body, str) else body.items() <= json.loads(sent).items()


def test_both_doors_and_a_header_that_comes_twice() -> None:
    with proxy(answer, KEY) as (relay, _):
        relay.call({}, headers=HEADERS)
        at_rest_api(relay, {}, {"x-tags": ["feature=search", "tenant=acme"]}, **KEY)
    assert tags_of(relay) == [{"feature": "search"}] * 2


def test_a_tag_of_the_key_holds_in_the_ledger() -> None:
    with proxy(answer, KEY) as (relay, _):
        relay.call({"metadata": {"tenant": "other", "run": "7"}}, headers=HEADERS)
    [(detail_type, detail)] = relay.bus.details
    event = read_event(envelope_of({"DetailType": detail_type, "Source": "openai-proxy", "Detail": json.dumps(detail)}))
    entry = entry_of(event, parse_price_book("servers: {}"))
    assert entry.attributes["tags"] == {"tenant": "of-the-key", "feature": "search", "run": "7"}
    event.data["tags"]["tenant"] = "of-a-producer-that-forgot"
    assert entry_of(event, parse_price_book("servers: {}")).attributes["tags"]["tenant"] == "of-the-key"


def test_what_does_not_fit_is_refused_before_any_server_is_asked() -> None:
    with proxy(answer, KEY) as (relay, server):
        refused = relay.call({}, headers={"x-tags": "a=1, a=2"})
        models = relay.call(path="/v1/models", method="GET", headers={"x-tags": "nothing"})
        nobody = relay.call({}, headers={"x-tags": "a=1, a=2", "authorization": "Bearer bad"})
    assert [each.status for each in (refused, models, nobody)] == [400, 400, 401]
    assert error_of(refused)["code"] == "invalid_tags"
    assert error_of(refused)["param"] == "x-tags"
    assert server.received == []
    assert [(name, detail["data"]["error"]["type"]) for name, detail in relay.bus.details] == [
        ("InferenceFailed", "invalid_tags")
    ] * 2
