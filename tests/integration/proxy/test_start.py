"""What a sandbox loads, and when: in INIT, which has a whole CPU, all that usual requests need, and nothing else.

The usual requests are chats of a key with limits, streamed and not. No module is named here: which ones they need is
watched.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Connection, Received, ScriptedServer
from tests.integration.proxy.test_handler import environment, event, services

WATCHED = """
import json, sys

OWN = ("proxy.", "openai_proxy.")
used = set()

def watch(frame, kind, argument):
    name = frame.f_globals.get("__name__", "")
    if kind == "call" and name.startswith(OWN) and not sys.modules[name].__spec__._initializing:
        used.add(name)

def holds_only_errors(module):
    made = [each for each in vars(module).values() if getattr(each, "__module__", None) == module.__name__]
    return all(isinstance(each, type) and issubclass(each, (Exception, tuple)) for each in made)  # and what they tell

sys.setprofile(watch)
from proxy import handler
import proxy.endpoints.buffered_response  # for `handler`, which stands in for the runtime here

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

loaded = [set(sys.modules)]
statuses = []
for line in sys.stdin:
    statuses.append(handler.handler(json.loads(line), Context())["statusCode"])
    loaded.append(set(sys.modules))
sys.setprofile(None)
own = {name for name in loaded[0] if name.startswith(OWN)}
print("RESULT " + json.dumps({
    "statuses": statuses,
    "late": [sorted(after - before) for before, after in zip(loaded, loaded[1:])],
    "idle": sorted(name for name in own - used if not holds_only_errors(sys.modules[name])),
}))
"""
DOCUMENT = b'{"id": "c", "model": "m", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}'
STREAM = (
    b'data: {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": null}]}\n\n'
    b'data: {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
    b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}\n\n'
    b"data: [DONE]\n\n"
)


def aws_and_server(connection: Connection, request: Received) -> None:
    """AWS, its limits table too, and a server that streams."""
    if request.target.endswith("/authorizer/invocations"):
        context = {"client_id": "team-a", "key_id": "a", "limits_id": "a", "rpm": "100", "tpm": "100000"}
        policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": context}
        connection.answer(json.dumps(policy).encode())
    elif request.headers.get("x-amz-target", "").endswith("GetItem"):
        connection.answer(b'{"ConsumedCapacity": {"TableName": "costs"}}')
    elif request.headers.get("x-amz-target", "").endswith("UpdateItem"):
        asked = json.loads(request.body)
        lease, values = asked["ExpressionAttributeNames"]["#lease"], asked["ExpressionAttributeValues"]
        item = {"minute": values[":minute"], "live": {"M": {lease: values.get(":lease", {"N": "0"})}}}
        answer = {"ConsumedCapacity": {"TableName": "limits"}, "Attributes": item}
        connection.answer(json.dumps(answer).encode())
    elif request.target == "/v1/chat/completions":
        is_stream = json.loads(request.body)["stream"]
        if is_stream:
            connection.answer(STREAM, content_type="text/event-stream")
        else:
            connection.answer(DOCUMENT)
    else:
        services(connection, request)


def watched(events: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Of what INIT loads that which serving `events` leaves `idle`, and what each of them loads `late`."""
    streams = {"STREAMS_TABLE": "streams", "STREAM_KEPT_SECONDS": "600"}
    with ScriptedServer(aws_and_server) as server:
        file = folder / "servers.yaml"
        file.write_text(f"up: {{url: '{server.url}/v1', token: '${{A_KEY}}', model: m}}")
        ran = subprocess.run(
            [sys.executable, "-c", WATCHED],
            input="".join(json.dumps(each) + "\n" for each in events),
            env=environment(server, file)
            | streams
            | {"CACHE_TABLE": "cache", "CONTENT_LOG_BUCKET": "", "PLAYGROUND": "off"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    [result] = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(result.removeprefix("RESULT "))


def chat(*, stream: bool) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    usual = event("/up/v1/chat/completions")
    headers = {name: value for name, value in usual["headers"].items() if name != "x-receipt"}
    return usual | {"body": json.dumps(body), "headers": headers}


@pytest.mark.parametrize("first_streams", [True, False])
def test_usual_requests_use_all_that_init_loads_and_load_nothing_more(tmp_path: Path, first_streams: bool) -> None:
    seen = watched([chat(stream=first_streams), chat(stream=not first_streams)], tmp_path)
    assert seen["statuses"] == [200, 200]
    assert seen["late"] == [[], []], "what every request needs is loaded in INIT, where there is a whole CPU for it"
    assert seen["idle"] == [], "what few requests need is loaded by the first of them"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/receipts/01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_the_others_load_what_they_need_once(tmp_path: Path, path: str) -> None:
    other = event(path) | {"body": "", "requestContext": {"http": {"method": "GET"}}}
    seen = watched([other, other], tmp_path)
    assert seen["late"][0]
    assert seen["late"][1] == []
