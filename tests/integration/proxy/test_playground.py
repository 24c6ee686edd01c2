"""The playground within the relay and the composition root: where it is switched on, and where it is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from proxy.endpoints.playground import Playground

from tests.fakes import Connection, Received
from tests.relays import error_of, proxy

ROOT = Path(__file__).parents[3]
LOADED = """
import json, sys
from proxy import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

answer = handler.handler(json.load(sys.stdin), Context())
loaded = [name in sys.modules for name in ("proxy.endpoints.playground", "gzip")]
print(json.dumps([answer["statusCode"], answer["headers"]["content-type"], *loaded]))
"""


def never(connection: Connection, request: Received) -> None:
    raise AssertionError("nobody is asked")


def test_nobody_is_asked_for_the_page_and_nothing_is_recorded():
    with proxy(never) as (proxied, _):
        proxied.use(playground=Playground())
        response = proxied.call(path="/", method="GET", headers={"authorization": ""})
        assert response.status == 200
        assert response.body.startswith(b"<!doctype html>")
        assert proxied.bus.details == []


def test_what_is_no_file_of_it_goes_on_to_the_servers():
    with proxy(never) as (proxied, _):
        proxied.use(playground=Playground())
        assert error_of(proxied.call(path="/playground/v1/models", method="GET"))["code"] == "unknown_server"
        refused = proxied.call(path="/playground/v1/models", method="GET", headers={"authorization": "Bearer bad"})
        assert error_of(refused)["code"] == "invalid_api_key"
        assert proxied.call(path="/", method="OPTIONS").headers["access-control-allow-origin"] == "*"


def test_without_it_there_is_no_page():
    with proxy(never) as (proxied, _):
        assert error_of(proxied.call(path="/", method="GET"))["code"] == "unknown_path"
        assert proxied.call(path="/", method="GET", headers={"authorization": ""}).status == 401


@pytest.mark.parametrize(("switch", "served"), [("on", True), ("off", False), (None, False)])
def test_the_switch(tmp_path: Path, switch: str | None, served: bool):
    servers = tmp_path / "servers.yaml"
    servers.write_text("up: {url: 'http://127.0.0.1:9/v1', token: t, model: m}\n")
    environment = {
        "AUTHORIZATION": "off",
        "AUTHORIZER_FUNCTION": "authorizer",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "CACHE_BUCKET": "cache",
        "CACHE_TABLE": "cache",
        "COSTS_TABLE": "costs",
        "EVENT_BUS_NAME": "bus",
        "LIMITS_TABLE": "limits",
        "SERVERS_FILE": str(servers),
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT / 'shared'}",
        "PATH": os.environ["PATH"],
        **({"PLAYGROUND": switch} if switch else {}),
    }
    event = {
        "version": "2.0",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": {},
        "requestContext": {"http": {"method": "GET"}},
    }
    command = [sys.executable, "-c", LOADED]
    run = subprocess.run(
        command, env=environment, input=json.dumps(event), capture_output=True, text=True, check=True, timeout=60
    )
    status, content_type, is_loaded, packs = json.loads(run.stdout.splitlines()[-1])
    assert (status, content_type) == ((200, "text/html; charset=utf-8") if served else (404, "application/json"))
    assert is_loaded is served
    assert packs is served, "a sandbox without a playground loads nothing for it"
