"""The real proxy with its playground, between a function URL and a Runtime API of the local stack; no embedded AWS.

Its servers do what a test tells them, to the byte; the authorizer knows one key.
"""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.lambda_.sandboxes import Launch
from tests.fakes import Connection, Received, ScriptedServer, refused_key
from tests.relays import function_url

ROOT = Path(__file__).parents[3]
KEY = "opx-a-key-that-the-authorizer-knows"

MODELS = ("text", "gate", "long", "busy", "cut", "broken", "mute", "empty", "whole", "thinker", "wide", "hostile")
"""The names of the models. What they do is up to each test."""

Chat = Callable[[Connection, dict[str, Any]], None]
"""What a model does with a question: writes its answer to the connection. The second argument is the request's JSON."""

_ALLOW = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": {"client_id": "browser"}}
_ENTRY = {
    "client_id": {"S": "browser"},
    "server": {"S": "house"},
    "outcome": {"S": "completed"},
    "input_tokens": {"N": "1200"},
    "output_tokens": {"N": "34"},
    "cost": {"N": "0.00123"},
    "currency": {"S": "USD"},
    "pricing": {"S": "list"},
    "price_version": {"S": "1"},
}


def piece(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed chat."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta | more.pop("delta", {}), "finish_reason": finish}
    return f"data: {json.dumps({'id': 'chatcmpl-1', 'choices': [choice], **more})}\n\n".encode()


def end(connection: Connection) -> None:
    """The end of a streamed chat: its usage, its end mark."""
    usage = {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234}
    connection.chunk(piece(finish="stop"))
    connection.chunk(f"data: {json.dumps({'id': 'chatcmpl-1', 'choices': [], 'usage': usage})}\n\n".encode())
    connection.chunk(b"data: [DONE]\n\n")
    connection.end_chunked()


def saying(*words: str) -> Chat:
    """A model that streams these words."""

    def chat(connection: Connection, _question: dict[str, Any]) -> None:
        connection.start_chunked()
        for word in words:
            connection.chunk(piece(word))
        end(connection)

    return chat


def failing(status: str, code: str, message: str = "Not now.", more: str = "") -> Chat:
    """A model that answers an error; `more` are header lines."""
    error = {"message": message, "type": "error", "code": code, "param": None}
    return lambda connection, _: connection.answer(json.dumps({"error": error}).encode(), status, more=more)


@dataclass
class House:
    """What stands behind the proxy: the models, by name, and the AWS services that it asks."""

    chats: dict[str, Chat] = field(default_factory=dict[str, Chat])
    questions: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """What the models were asked."""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The details of the events that were published."""
    looks: dict[str, int] = field(default_factory=dict[str, int])
    """How often each receipt was looked for."""
    early_looks: int = 0
    """So many looks for a receipt come too early."""

    def upstream(self, connection: Connection, request: Received) -> None:
        """The server `house`."""
        if request.target == "/v1/models":
            connection.answer(json.dumps({"object": "list", "data": [{"id": name} for name in MODELS]}).encode())
            return
        question = json.loads(request.body)
        self.questions.append(question)
        self.chats[question["model"]](connection, question)

    def aws(self, connection: Connection, request: Received) -> None:
        """Lambda's Invoke, EventBridge's PutEvents, DynamoDB's GetItem."""
        body = json.loads(request.body)
        if request.target.endswith("/invocations"):
            allowed = body["headers"]["Authorization"] == f"Bearer {KEY}"
            connection.answer(json.dumps(_ALLOW if allowed else refused_key()).encode())
        elif request.headers["x-amz-target"] == "AWSEvents.PutEvents":
            self.events += [json.loads(entry["Detail"]) for entry in body["Entries"]]
            connection.answer(json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]}).encode())
        else:
            wanted = body["Key"]["sk"]["S"]
            self.looks[wanted] = self.looks.get(wanted, 0) + 1
            item = {"Item": _ENTRY} if self.looks[wanted] > self.early_looks else {}
            item = {"ConsumedCapacity": {"TableName": "costs", "CapacityUnits": 0.5}, **item}
            connection.answer(json.dumps(item).encode(), content_type="application/x-amz-json-1.0")


@dataclass(frozen=True)
class Rig:
    """A running proxy: its address, and what stands behind it."""

    url: str
    house: House


@contextmanager
def running(folder: Path, house: House, port: int = 0) -> Generator[Rig]:
    """The proxy, with its playground, before `house`."""
    servers, log = folder / "openai_servers.yaml", folder / "proxy.log"
    log.touch()
    with ScriptedServer(house.upstream) as upstream, ScriptedServer(house.aws) as aws:
        house_url = f"url: '{upstream.url}/v1', token: a-provider-token, model: text, retries: 0"
        servers.write_text(
            f"house: {{{house_url}, breaker: {{failures: 0}}}}\n"
            f"hasty: {{{house_url}, timeouts: {{idle: 0.5}}}}\n"
            "closed: {url: 'https://closed.example/v1', token: '${CLOSED_TOKEN}', model: m}\n"
        )
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "shared"),
            "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
            "_HANDLER": "proxy.handler.handler",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": aws.url,
            "AUTHORIZER_FUNCTION": "authorizer",
            "CACHE_TABLE": "cache",
            "CACHE_BUCKET": "cache",
            "COSTS_TABLE": "costs",
            "EVENT_BUS_NAME": "bus",
            "LIMITS_TABLE": "limits",
            "PLAYGROUND": "on",
            "SERVERS_FILE": str(servers),
        }
        launch = Launch((ROOT / "functions/proxy/bootstrap", sys.executable), environment, folder, log)
        with function_url(launch, port) as url:
            yield Rig(url, house)
