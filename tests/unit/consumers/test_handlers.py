"""Each consumer's function is put together of its settings, under its own name in the log."""

import importlib
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aws_lambda_powertools
import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.streams import signature_of
from openai_proxy.events.ulid import new_ulid
from openai_proxy.limits import Windows
from proxy.aws.client import Aws

SAMPLES = Path(__file__).parents[3] / "events" / "samples"

PRICED = {"PRICES_FILE": "", "SERVERS_FILE": ""}
HANDLERS = {
    "record_cost": PRICED | {"COSTS_TABLE": "costs", "LAKE_STREAM": "lake", "METRICS_NAMESPACE": "ns"},
    "settle_limits": PRICED | {"LIMITS_TABLE": "limits", "EVENT_BUS_NAME": "bus"},
    "store_response": PRICED | {"CACHE_TABLE": "cache"},
    "record_throttles": {
        "COSTS_TABLE": "costs",
        "LAKE_STREAM": "lake",
        "EVENT_BUS_NAME": "bus",
        "METRICS_NAMESPACE": "ns",
    },
    "end_streams": {
        "STREAMS_TABLE": "streams",
        "STREAMS_QUEUE": "http://localhost/queue",
        "STREAM_WEBHOOK_SECRET": "secret",
        "EVENT_BUS_NAME": "bus",
    },
    "publish_again": {"EVENT_BUS_NAME": "bus", "PUBLISH_AGAIN_QUEUE": "http://localhost/queue"},
    "record_metrics": {"MARKERS_TABLE": "markers", "METRICS_NAMESPACE": "ns"},
    "apply_guards": PRICED
    | {
        "COSTS_TABLE": "costs",
        "KEYS_TABLE": "keys",
        "EVENT_BUS_NAME": "bus",
        "GUARDS_FILE": "guards.yaml",
        "ALARM_TOPIC": "topic",
        "STACK_NAME": "s",
        "ALARM_CHAT": "slack",
        "RUNBOOKS_URL": "docs/runbooks",
    },
}


TOLD_INCIDENTS = {
    "COSTS_TABLE": "costs",
    "MARKERS_TABLE": "markers",
    "ALARM_TOPIC": "topic",
    "EVENT_BUS_NAME": "bus",
    "STACK_NAME": "s",
    "ALARM_CHAT": "slack",
    "RUNBOOKS_URL": "docs/runbooks",
}
EVERY = {**HANDLERS, "tell_incidents": TOLD_INCIDENTS, "authorizer": {"KEYS_TABLE": "keys", "IDENTITY_FILE": "none"}}
TRACING = {"POWERTOOLS_TRACE_DISABLED": "false", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"}
"""What a function with tracing is set to; each has one of its own."""


class Environ(dict[str, str]):
    """An environment that knows what was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)


@pytest.mark.parametrize(("name", "settings"), HANDLERS.items(), ids=HANDLERS)
def test_a_handler_is_made_of_its_settings(
    name: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    environ = Environ(dict(os.environ) | settings)
    monkeypatch.setattr(os, "environ", environ)
    logging.Logger.manager.loggerDict.pop(name, None)
    try:
        handler = importlib.import_module(f"{name}.handler").handler
        assert handler({"Records": []}, None) == {"batchItemFailures": []}
    finally:
        sys.modules.pop(f"{name}.handler", None)
    assert {*settings, "LOG_LEVEL"} <= environ.asked
    assert logging.getLogger(name).level == logging.INFO


@pytest.mark.parametrize("name", HANDLERS)
def test_the_log_of_a_handler_has_the_level_that_is_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.Logger.manager.loggerDict.pop(name, None)
    clients_of(name, monkeypatch, LOG_LEVEL="ERROR")
    assert logging.getLogger(name).level == logging.ERROR


@pytest.mark.parametrize("without", ["", *TRACING])
@pytest.mark.parametrize("name", EVERY)
def test_a_handler_is_traced_under_its_name_where_tracing_is_on_and_there_is_a_daemon(
    name: str, without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[str] = []

    class Tracer:
        """As much of Powertools' as is asked for."""

        def __init__(self, service: str, patch_modules: list[str]) -> None:
            traced.extend([service, *patch_modules])

        def capture_lambda_handler(self, handler: Any, **_: bool) -> Any:
            return handler

    recorder = SimpleNamespace(configure=dict)
    monkeypatch.setattr(aws_lambda_powertools, "Tracer", Tracer, raising=False)
    monkeypatch.setitem(sys.modules, "aws_xray_sdk", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "aws_xray_sdk.core", SimpleNamespace(xray_recorder=recorder))
    for setting, value in {**EVERY[name], **TRACING}.items():
        monkeypatch.setenv(setting, value)
    if without:
        monkeypatch.delenv(without)
    try:
        importlib.import_module(f"{name}.handler")
    finally:
        sys.modules.pop(f"{name}.handler", None)
    assert traced == ([] if without else [name, "botocore"])


def test_the_handler_of_alarms_is_made_of_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TOLD_INCIDENTS.items():
        monkeypatch.setenv(name, value)
    try:
        assert importlib.import_module("tell_incidents.handler").handler({"Records": []}, None) is None
    finally:
        sys.modules.pop("tell_incidents.handler", None)


PROOF = {"TableName": "any"}
ANSWERS: dict[str, Any] = {
    "get_item": {"ConsumedCapacity": PROOF},
    "transact_write_items": {"ConsumedCapacity": [PROOF]},
    "put_record_batch": {"RequestResponses": [{"RecordId": "1"}]},
    "put_item": {"ConsumedCapacity": PROOF},
    "query": {"ConsumedCapacity": PROOF, "Items": []},
    "publish": {"MessageId": "1"},
}
"""What services answer when they have done something; others answer nothing."""
PLACES = ("TableName", "DeliveryStreamName", "Namespace", "QueueUrl", "EventBusName")


class Clients:
    """boto3, as far as handlers ask it for clients: their configurations, which places they were asked about, and what
    each operation was asked last.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []
        self.asked: set[tuple[str, str]] = set()
        self.requests: dict[str, dict[str, Any]] = {}

    def __call__(self, service: str, *, config: Any) -> Any:
        self.made.append((service, config))
        return Client(self, service)


class Client:
    """One of them."""

    def __init__(self, of: Clients, service: str) -> None:
        self.of, self.service = of, service

    def __getattr__(self, operation: str) -> Any:
        def asked(**request: Any) -> Any:
            self.of.asked |= {(self.service, place) for place in _places(request)}
            self.of.requests[operation] = request
            if isinstance(answer := ANSWERS.get(operation, {}), Exception):
                raise answer
            return answer

        return asked


def _places(request: Any) -> Iterator[str]:
    if isinstance(request, dict):
        for name, value in cast("dict[str, Any]", request).items():
            yield from [value] if name in PLACES else _places(value)
    elif isinstance(request, list | tuple):
        for each in cast("Sequence[Any]", request):
            yield from _places(each)


@contextmanager
def started(name: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Generator[tuple[Any, Clients]]:
    """A function's handler, and the clients that it has made."""
    clients = Clients()
    monkeypatch.setattr(boto3, "client", clients)
    for setting, value in {**EVERY[name], **settings}.items():
        monkeypatch.setenv(setting, value)
    try:
        yield importlib.import_module(f"{name}.handler").handler, clients
    finally:
        sys.modules.pop(f"{name}.handler", None)


def clients_of(name: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> list[tuple[str, Any]]:
    """The clients that a function makes when it starts, and their configurations."""
    with started(name, monkeypatch, **settings) as (_, clients):
        return clients.made


ASKED = {
    "record_cost": {("dynamodb", "costs"), ("firehose", "lake"), ("cloudwatch", "ns")},
    "settle_limits": {("dynamodb", "limits"), ("events", "bus")},
    "publish_again": {("events", "bus"), ("sqs", "http://localhost/queue")},
}


@pytest.mark.parametrize("name", ASKED)
def test_a_handler_asks_about_the_places_of_its_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    day = Windows.of(now).day
    monkeypatch.setitem(ANSWERS["get_item"], "Item", {"pk": {"S": "k"}, "day": {"S": day}, "day_spent": {"N": "9"}})
    envelope = json.loads((SAMPLES / "InferenceCompleted.chat-stream.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"] |= {"id": new_ulid(now), "timestamp": rfc3339(now)}
    envelope["detail"]["data"]["client"] = {"key_id": "k", "name": "Web", "owner": None, "tags": {}}
    envelope["detail"]["data"]["limits"] = {
        "id": "k",
        "status": "checked",
        "has_budget": True,
        "reserved": {"cost": "1", "tokens": 9},
        "taken_at": int(now),
        "budget_day": "5",
        "budget_month": None,
        "currency": "USD",
    }
    with started(name, monkeypatch) as (handler, clients):
        handler({"Records": [{"messageId": "m", "receiptHandle": "h", "body": json.dumps(envelope)}]}, None)
    assert clients.asked == ASKED[name]


def test_an_incident_is_told_of_the_stack_and_in_the_form_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "put_events", {"Entries": [{"EventId": "1"}]})
    alarm = {"AlarmName": "s-client-throttles", "NewStateValue": "ALARM", "StateChangeTime": "2026-11-23T09:38:06.5Z"}
    settings = {
        **TOLD_INCIDENTS,
        "STACK_NAME": "shop",
        "ALARM_CHAT": "teams",
        "RUNBOOKS_URL": "https://runbooks.example",
    }
    with started("tell_incidents", monkeypatch, **settings) as (handler, clients):
        handler({"Records": [{"Sns": {"Message": json.dumps(alarm)}}]}, None)
    assert clients.asked == {("dynamodb", "costs"), ("dynamodb", "markers"), ("events", "bus")}
    mail = clients.requests["publish"]
    assert (mail["TopicArn"], mail["Subject"][:7]) == ("topic", "[shop] ")
    assert "https://runbooks.example/client-throttles" in mail["Message"]
    [entry] = clients.requests["put_events"]["Entries"]
    assert "attachments" in json.loads(entry["Detail"])["data"]["message"], "as Teams has it"


FULL_BATCHES = ("record_cost", "record_throttles", "apply_guards")


@pytest.mark.parametrize("name", FULL_BATCHES)
def test_functions_of_full_batches_spare_a_check_that_dynamodb_makes_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = dict(clients_of(name, monkeypatch))
    assert configs["dynamodb"].parameter_validation is False
    assert configs["dynamodb"].retries["mode"] == "standard"


@pytest.mark.parametrize("name", [name for name, settings in EVERY.items() if "METRICS_NAMESPACE" in settings])
def test_a_call_that_cloudwatch_may_have_heard_is_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retries = [config.retries for service, config in clients_of(name, monkeypatch) if service == "cloudwatch"]
    assert [each["total_max_attempts"] for each in retries] == [1]


TIME_OF_AN_AUTHORIZER = 5.0
"""Seconds for which the proxy waits for one: what `Aws` has for a call that has no time of its own."""


def test_both_tries_of_the_authorizer_are_over_before_the_proxy_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    [(service, config)] = clients_of("authorizer", monkeypatch)
    assert (service, config.retries["mode"], config.retries["total_max_attempts"]) == ("dynamodb", "standard", 2)
    assert 2 * (config.connect_timeout + config.read_timeout) < TIME_OF_AN_AUTHORIZER
    assert inspect.signature(Aws).parameters["timeout"].default == TIME_OF_AN_AUTHORIZER


def test_an_emulator_has_more_time_for_the_authorizer(monkeypatch: pytest.MonkeyPatch) -> None:
    [(_, config)] = clients_of("authorizer", monkeypatch, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert config.connect_timeout == config.read_timeout == 5.0


def test_what_the_bus_does_not_take_is_put_again_by_the_queue_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clients_of("publish_again", monkeypatch)
    assert [service for service, _ in made] == ["events", "sqs"]
    assert {config.retries["total_max_attempts"] for _, config in made} == {1}


@pytest.mark.parametrize("file", ["PRICES_FILE", "SERVERS_FILE"])
def test_a_file_of_settings_is_the_one_that_is_named(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting, value in (HANDLERS["store_response"] | {file: "/no/such.yaml"}).items():
        monkeypatch.setenv(setting, value)
    with pytest.raises(Exception, match=r"/no/such\.yaml"):
        importlib.import_module("store_response.handler")


REFUSED = ClientError({"Error": {"Code": "AccessDenied"}}, "GetSecretValue")
SECRETS: list[Any] = [
    {"SecretString": "of the webhook"},
    {},
    REFUSED,
    EndpointConnectionError(endpoint_url="https://aws"),
]


@pytest.mark.parametrize("answer", SECRETS, ids=["there", "binary", "refused", "no answer"])
def test_a_webhook_is_signed_with_its_secret_or_not_at_all(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ANSWERS, "get_secret_value", answer)
    with started("end_streams", monkeypatch) as (_, clients):
        signed = sys.modules["end_streams.handler"]._sign("text")
    assert signed == (signature_of("of the webhook", "text") if answer is SECRETS[0] else "")
    assert clients.requests["get_secret_value"] == {"SecretId": "secret"}
