"""Each consumer's function is put together of its settings, under its own name in the log."""

import importlib
import inspect
import logging
import os
import sys
from types import SimpleNamespace
from typing import Any

import aws_lambda_powertools
import boto3
import pytest
from proxy.aws.client import Aws

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


LEVELS = dict(zip(HANDLERS, ("", "WARNING", "", "", "", "", "ERROR", ""), strict=True))
"""The level of each one's log; "": nobody has set it."""
NUMBERS = {"": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


@pytest.mark.parametrize(("name", "settings"), HANDLERS.items(), ids=HANDLERS)
def test_a_handler_is_made_of_its_settings(
    name: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    level = {"LOG_LEVEL": LEVELS[name]} if LEVELS[name] else {}
    environ = Environ(dict(os.environ) | settings | level)
    monkeypatch.setattr(os, "environ", environ)
    logging.Logger.manager.loggerDict.pop(name, None)
    try:
        handler = importlib.import_module(f"{name}.handler").handler
        assert handler({"Records": []}, None) == {"batchItemFailures": []}
    finally:
        sys.modules.pop(f"{name}.handler", None)
    assert {*settings, "LOG_LEVEL"} <= environ.asked
    assert logging.getLogger(name).level == NUMBERS[LEVELS[name]]


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


class Clients:
    """boto3, as far as handlers ask it for clients: it keeps their configurations."""

    def __init__(self) -> None:
        self.made: list[tuple[str, Any]] = []

    def __call__(self, service: str, *, config: Any) -> Any:
        self.made.append((service, config))
        return SimpleNamespace()


def clients_of(name: str, monkeypatch: pytest.MonkeyPatch, **settings: str) -> list[tuple[str, Any]]:
    """The clients that a function makes when it starts, and their configurations."""
    clients = Clients()
    monkeypatch.setattr(boto3, "client", clients)
    for setting, value in {**EVERY[name], **settings}.items():
        monkeypatch.setenv(setting, value)
    try:
        importlib.import_module(f"{name}.handler")
    finally:
        sys.modules.pop(f"{name}.handler", None)
    return clients.made


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
