"""Who hands messages to webhooks in the local stack: as the template says, and as EventBridge does when one fails."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from local.stack.webhooks import Destination, Webhook, adapted

QUEUE, LETTERS = "http://aws/queue", "http://aws/letters"
TEMPLATE: dict[str, Any] = {
    "Parameters": {"Url": {"Type": "String"}},
    "Resources": {
        "Fn::ForEach::Queues": ["Name", ["A", "B"], {"${Name}Queue": {"Type": "AWS::SQS::Queue"}}],
        "Letters": {"Type": "AWS::SQS::Queue", "Properties": {"MessageRetentionPeriod": 5}},
        "Keys": {
            "Type": "AWS::Events::Connection",
            "Properties": {
                "AuthParameters": {"ApiKeyAuthParameters": {"ApiKeyName": "x-sender", "ApiKeyValue": "proxy"}}
            },
        },
        "Told": {
            "Type": "AWS::Events::ApiDestination",
            "Condition": "UrlIsGiven",
            "Properties": {
                "ConnectionArn": {"Fn::GetAtt": ["Keys", "Arn"]},
                "InvocationEndpoint": {"Ref": "Url"},
                "HttpMethod": "POST",
            },
        },
        "Other": {"Type": "AWS::Events::Rule", "Properties": {"Targets": [{"Arn": {"Ref": "Topic"}}]}},
        "Rule": {
            "Type": "AWS::Events::Rule",
            "Properties": {
                "Targets": [
                    {
                        "Id": "webhook",
                        "Arn": {"Fn::GetAtt": ["Told", "Arn"]},
                        "InputTransformer": {"InputTemplate": "{}"},
                        "DeadLetterConfig": {"Arn": {"Fn::GetAtt": ["Letters", "Arn"]}},
                        "RetryPolicy": {"MaximumRetryAttempts": 185, "MaximumEventAgeInSeconds": 3600},
                    }
                ]
            },
        },
    },
}
TOLD = Destination("Told", "Url", "POST", {"x-sender": "proxy"}, "Letters", 3600, 185)


def test_a_queue_takes_the_place_of_each_destination_and_all_else_stays() -> None:
    template, destinations = adapted(TEMPLATE)

    assert destinations == [TOLD]
    expected = {name: each for name, each in TEMPLATE["Resources"].items() if name != "Keys"}
    expected["Told"] = {"Type": "AWS::SQS::Queue", "Condition": "UrlIsGiven"}
    assert template == {**TEMPLATE, "Resources": expected}


class Queues:
    """As much of SQS as is needed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> None:
            self.calls.append((name, arguments))

        return call


class Receiver:
    """Answers with one status, and keeps what it was sent."""

    def __init__(self) -> None:
        received, outer = list[tuple[dict[str, str], bytes]](), self
        self.received, self.status = received, 204

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("location", "http://127.0.0.1:9/")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def handed_over(url: str, *, tries: int = 1, age: float = 0.0) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """What becomes of one message, and what is said of it."""
    queues, said = Queues(), list[str]()
    attributes = {"ApproximateReceiveCount": str(tries), "SentTimestamp": str(int((time.time() - age) * 1000))}
    message = {"Body": '{"id": "ä"}', "ReceiptHandle": "r", "Attributes": attributes}

    async def hand_over() -> None:
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            await Webhook(TOLD, url, queues, (QUEUE, LETTERS), said.append).hand_over(message, client)

    asyncio.run(hand_over())
    return queues.calls, said


DONE = ("delete_message", {"QueueUrl": QUEUE, "ReceiptHandle": "r"})
GIVEN_UP = ("send_message", {"QueueUrl": LETTERS, "MessageBody": '{"id": "ä"}'})


def again(seconds: int) -> tuple[str, dict[str, Any]]:
    return "change_message_visibility", {"QueueUrl": QUEUE, "ReceiptHandle": "r", "VisibilityTimeout": seconds}


def test_what_is_taken_is_done_and_is_posted_as_the_template_says(receiver: Receiver) -> None:
    assert handed_over(receiver.url) == ([DONE], [])
    [(headers, body)] = receiver.received
    assert body.decode() == '{"id": "ä"}'
    assert headers["x-sender"] == "proxy"
    assert headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize("status", [401, 407, 409, 429, 500, 503])
def test_a_failure_that_may_pass_has_it_come_again_and_is_said_once(receiver: Receiver, status: int) -> None:
    receiver.status = status
    said = f"Told: {receiver.url} answers {status}: it is asked again, for up to an hour."
    assert handed_over(receiver.url) == ([again(2)], [said])
    for tries, pause in ((2, 4), (5, 32), (6, 60), (185, 60)):
        assert handed_over(receiver.url, tries=tries) == ([again(pause)], [])


@pytest.mark.parametrize("status", [301, 308, 400, 403, 404])
def test_a_failure_that_stays_is_a_dead_letter_at_once(receiver: Receiver, status: int) -> None:
    receiver.status = status
    said = f"Told: {receiver.url} answers {status}: given up, in its dead-letter queue."
    assert handed_over(receiver.url) == ([GIVEN_UP, DONE], [said])
    assert len(receiver.received) == 1, "no redirect is followed"


@pytest.mark.parametrize(("tries", "age"), [(186, 10.0), (3, 3601.0)])
def test_what_nobody_takes_for_an_hour_is_a_dead_letter(tries: int, age: float) -> None:
    url = "http://127.0.0.1:9/hook"
    assert handed_over(url, tries=2, age=3000.0) == ([again(4)], [])
    said = f"Told: {url} does not answer (ConnectError): given up, in its dead-letter queue."
    assert handed_over(url, tries=tries, age=age) == ([GIVEN_UP, DONE], [said])
