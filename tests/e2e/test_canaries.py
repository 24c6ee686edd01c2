"""Canaries: texts that must stay where they were put, sent through a stack of their own in every good and bad way.

Afterwards everything that the run has left is searched: log files, log groups, events, queues, tables, metrics. What is
recorded on purpose is no canary: model names, paths, a client's own request id, the names of a key, and the answer's
id, model and finish reason.
"""

import base64
import contextlib
import functools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from openai_proxy.client_keys import hash_client_key, new_client_key

from tests.e2e.harness import WAIT_SECONDS, LocalStack, wait_for
from tests.e2e.snapshot import start_deployed
from tests.fakes import Connection, Received, ScriptedServer

KINDS = (
    *("literal token", "token of a secret", "token of a parameter", "other text of the secret", "unfit token"),
    *("good key", "wrong key", "expired key", "malformed key", "basic key", "foreign key", "key in the query"),
    *("prompt", "tool argument", "tool description", "user", "broken JSON", "form field", "file", "file name"),
    *("answer", "called tool argument", "reasoning", "usage", "answer header"),
    *("query", "header", "huge header", "cookie", "idempotency key", "unknown server", "strange path"),
    *("trace state", "logging key"),
)
"""What is put where; each is a text of its own."""

CONTROL = "control-4d0c2b7f19e83a56"
"""The name of a model: recorded on purpose. Where it is not found, nothing was searched."""

GOOD_KEYS = ("good key", "logging key")

AT_ONCE = 3
"""Requests under way: many of them wait for a server that says nothing or breaks off."""

PART = 16
"""Characters. So much of a canary in a row is a leak as well."""


@functools.cache
def encodings(text: str) -> frozenset[str]:
    """`text` in the forms in which it could be written down, but for the ends that depend on what stands beside it.

    They are in lower case, as a text is in which they are looked for.
    """
    data = text.encode()
    shifted = {base64.b64encode(b"\0" * shift + data).decode()[4:-4] for shift in range(3)}
    parts = {text[start : start + PART] for start in range(0, len(text) - PART + 1, 4)} | {text[-PART:]}
    url_safe = {each.replace("+", "-").replace("/", "_") for each in shifted}
    return frozenset(each.lower() for each in parts | shifted | url_safe | {data.hex(), text[::-1]})


def leaks(canaries: dict[str, str], text: str) -> set[str]:
    """The kinds of canaries that are in `text`, whole or in part, in whatever case."""
    searched = lowered(text)
    return {kind for kind, canary in canaries.items() if any(each in searched for each in encodings(canary))}


@functools.lru_cache(maxsize=256)
def lowered(text: str) -> str:
    """`text` in lower case: each place is searched for each kind."""
    return text.lower()


def new_canaries() -> dict[str, str]:
    texts = {kind: f"canary{secrets.token_hex(16)}" for kind in KINDS}
    return texts | {kind: new_client_key() for kind in ("good key", "wrong key", "expired key", "logging key")}


# ----------------------------------------------------------------------------------------------------- upstream server


@dataclass
class Upstream:
    """A server that repeats whatever it was sent, its own token included, in the way that the model's name says."""

    canaries: dict[str, str]
    arrived: list[set[str]] = field(default_factory=list[set[str]])
    """What arrived with each request, by its kind: a canary that never got anywhere would prove nothing."""

    def __call__(self, connection: Connection, request: Received) -> None:
        sent = f"{request.target} {json.dumps(request.headers)} {request.body.decode(errors='replace')}"
        self.arrived.append(leaks(self.canaries, sent))
        way = request.headers["openai-beta"]
        error = {"error": {"message": f"Wrong: {sent}", "type": "t", "param": sent, "code": "c"}, "detail": sent}
        said = (json.dumps(error) + self.canaries["answer"]).encode()
        if way.isdecimal():
            more = f"location: http://127.0.0.1/{self.canaries['answer header']}\r\nretry-after: 60\r\n"
            connection.answer(json.dumps(error).encode(), f"{way} Wrong", more=more)
        elif way == "html":
            connection.answer(said, "500 Wrong", "text/html")
        elif way == "other error":
            connection.answer(json.dumps({"detail": sent}).encode(), "422 Wrong")
        elif way == "no http":
            connection.send(b"SSH-2.0-" + said + b"\r\n\r\n")
            connection.close()
        elif way == "bad head":
            connection.send(b"HTTP/1.1 200 OK\r\n" + said + b"\r\n\r\n")
            connection.close()
        elif way == "silence":
            connection.wait_for_end()
        elif way == "broken packing":
            connection.answer(said, more="content-encoding: gzip\r\n")
        elif way == "document":
            connection.answer(self.document())
        elif way == "cut document":
            connection.send(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999\r\n\r\n" + said
            )
            connection.close()
        else:
            self.stream(connection, way, error)

    def document(self) -> bytes:
        usage = {"prompt_tokens": 3, "completion_tokens": self.canaries["usage"], "other": self.canaries["usage"]}
        choice = {"index": 0, "message": self.message(), "finish_reason": "stop"}
        return json.dumps({"id": "c-1", "model": CONTROL, "choices": [choice], "usage": usage}).encode()

    def message(self) -> dict[str, Any]:
        function = {"name": "f", "arguments": json.dumps({"a": self.canaries["called tool argument"]})}
        called = [{"index": 0, "id": "call_1", "type": "function", "function": function}]
        reasoning = self.canaries["reasoning"]
        return {"content": self.canaries["answer"], "tool_calls": called, "reasoning_content": reasoning}

    def stream(self, connection: Connection, way: str, error: Any) -> None:
        choice = {"index": 0, "delta": self.message(), "finish_reason": None if way == "cut" else "stop"}
        frame = {"id": "c-1", "model": CONTROL, "choices": [choice], "usage": None}
        connection.start_chunked()
        connection.chunk(f"data: {json.dumps(frame)}\n\n".encode())
        if way == "error frame":
            connection.chunk(f"data: {json.dumps(error)}\n\n".encode())
        if way == "no JSON":
            connection.chunk(f"data: {error}\n\n".encode())
        if way == "cut":
            connection.chunk(f"data: {self.canaries['answer']}".encode())
            connection.close()
            return
        usage = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        connection.chunk(f"data: {json.dumps({**frame, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        connection.end_chunked()


def servers_file(url: str, canaries: dict[str, str]) -> str:
    tokens = {
        "literal": canaries["literal token"],
        "secret": "secretsmanager:openai-proxy/canary#token",
        "parameter": "ssm:/openai-proxy/canary",
        "keyless": "secretsmanager:openai-proxy/canary#nothing",
        "unfit": "secretsmanager:openai-proxy/unfit",
    }
    options = f"model: {CONTROL}, retries: 0, timeouts: {{first_byte: 5}}, breaker: {{failures: 0}}"
    options += f", aliases: {{nickname: {CONTROL}}}"
    return "".join(f"{name}: {{url: '{url}/v1', token: '{token}', {options}}}\n" for name, token in tokens.items())


# ----------------------------------------------------------------------------------------------------------- the run

TRIES = 10
"""On a busy machine the emulator takes longer to start another authorizer than the proxy waits for it."""


@dataclass
class Run:
    """A stack, what was sent through it, and where to look afterwards: place → everything that is there."""

    stack: LocalStack
    canaries: dict[str, str]
    upstream: Upstream
    pool: ThreadPoolExecutor
    asked: list[Future[None]] = field(default_factory=list[Future[None]])
    counting: threading.Lock = field(default_factory=threading.Lock)
    authorized: int = 0
    """How many requests of good keys have reached the proxy: each makes exactly one event."""
    logged: int = 0
    """How many of those the content log should have, redacted."""
    places: dict[str, str] = field(default_factory=dict[str, str])

    def _answer(self, address: str, headers: dict[str, Any], body: dict[str, Any]) -> httpx.Response:
        """The answer to a request, asked again while nobody can say whose its key is."""
        answer = httpx.post(address, headers=headers, timeout=WAIT_SECONDS, **body)
        for _ in range(TRIES):
            if "authorization_unavailable" not in answer.text:
                break
            answer = httpx.post(address, headers=headers, timeout=WAIT_SECONDS, **body)
        return answer

    def send(
        self,
        status: int | tuple[int, ...],
        *,
        path: str = "literal/v1/chat/completions",
        key: str | None = "good key",
        way: str = "document",
        headers: dict[str, Any] | None = None,
        both: bool = False,
        **body: Any,
    ) -> None:
        """Send one request through the function URL, or through both doors, while others are under way.

        `way` is how the server answers.
        """
        sent = {"openai-beta": way, **(headers or {})}
        if key is not None:
            sent["authorization"] = f"Bearer {self.canaries[key]}"
        expected = status if isinstance(status, tuple) else (status,)

        def ask(door: str) -> None:
            reached = key in GOOD_KEYS
            with contextlib.suppress(httpx.RemoteProtocolError):  # an answer that was cut
                answer = self._answer(self.stack.environment[door] + path, sent, body)
                assert answer.status_code in expected, f"{path} {way}: {answer.status_code} {answer.text[:500]}"
                reached = reached and "invalid_header" not in answer.text  # refused before anybody asks whose it is
            with self.counting:
                self.authorized += reached
                self.logged += key == "logging key"

        self.asked += [self.pool.submit(ask, door) for door in ("FUNCTION_URL", "REST_API_URL")[: 1 + both]]

    def wait(self) -> None:
        """Wait for the answers to all that was sent. Raises what went wrong with one."""
        while self.asked:
            self.asked.pop().result()

    def chat(self, status: int | tuple[int, ...] = 200, **options: Any) -> None:
        """A chat with canaries in every corner."""
        told = {name: self.canaries[name] for name in ("tool argument", "tool description", "user", "prompt")}
        tool = {"name": "f", "description": told["tool description"], "parameters": {"default": told["tool argument"]}}
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": told["prompt"]}],
            "tools": [{"type": "function", "function": tool}],
            "user": told["user"],
            **options.pop("body", {}),
        }
        self.send(status, json=body, **options)


def go_through_everything(run: Run) -> None:
    send_good_requests(run)
    send_requests_to_bad_servers(run)
    send_bad_requests(run)
    run.wait()
    send_bad_keys(run)


def send_good_requests(run: Run) -> None:
    canaries = run.canaries
    run.chat(both=True)
    run.chat(body={"model": "nickname"}, path="secret/v1/chat/completions")
    run.chat(body={"model": f"parameter/{CONTROL}"}, path="v1/chat/completions")
    run.chat(way="stream", body={"stream": True}, both=True)
    hidden = {
        "x-canary": canaries["header"],
        "x-api-key": canaries["header"],
        "cookie": f"session={canaries['cookie']}",
        "idempotency-key": canaries["idempotency key"],
    }
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    run.chat(headers={"traceparent": trace, "tracestate": f"vendor={canaries['trace state']}"}, both=True)
    for way in ("document", "stream", "cut"):
        run.chat(key="logging key", way=way, body={"stream": way != "document"}, both=way == "stream")
    run.chat(500, key="logging key", way="500")
    query = f"api-version={canaries['query']}&key={canaries['key in the query']}"
    run.chat(headers=hidden, path=f"literal/v1/chat/completions?{query}", both=True)
    run.chat(headers={"accept": canaries["huge header"] * 200})
    file = (f"{canaries['file name']}.wav", canaries["file"].encode() + b"\xff\x00", "audio/wav")
    form = {"model": CONTROL, "prompt": canaries["form field"]}
    run.send(200, path="literal/v1/audio/transcriptions", files={"file": file}, data=form, both=True)


def send_requests_to_bad_servers(run: Run) -> None:
    for way in ("403", "404", "429", "500"):
        run.chat(int(way), way=way)
    run.chat(400, way="400", both=True)
    for way, status in {
        "401": 502,
        "302": 502,
        "html": 500,
        "other error": 422,
        "no http": 502,
        "bad head": 502,
    }.items():
        run.chat(status, way=way)
    run.chat(504, way="silence")
    for way in ("cut", "error frame", "no JSON"):
        run.chat(way=way, body={"stream": True}, both=way == "cut")
    for way in ("broken packing", "cut document"):
        run.chat((200, 502), way=way)
    for server in ("keyless", "unfit"):
        run.chat(503, path=f"{server}/v1/chat/completions")


def send_bad_requests(run: Run) -> None:
    """Those that fail before a server is asked, and two that a proxy may stumble over."""
    canaries, typed = run.canaries, {"content-type": "application/json"}
    run.chat(404, path=f"{canaries['unknown server']}/v1/chat/completions")
    run.chat(404, path=f"literal/v2/{canaries['strange path']}", both=True)
    run.chat(404, path="v1/chat/completions", body={"model": "nothing"})
    run.send(400, headers=typed, content=f'{{"model": {canaries["broken JSON"]}'.encode(), both=True)
    run.send(400, headers=typed, content=json.dumps([canaries["broken JSON"]]).encode())
    run.chat((200, 400, 500), headers={"accept": b"\xa0" + canaries["header"].encode()}, both=True)
    half = f'{{"model": "nickname", "user": "\\ud800", "messages": [{{"content": "{canaries["prompt"]}"}}]}}'
    run.send((200, 400, 500), headers=typed, content=half.encode())


def send_bad_keys(run: Run) -> None:
    """One after the other: the emulator ends a process of the authorizer that refuses a key."""
    canaries = run.canaries
    basic = base64.b64encode(canaries["basic key"].encode()).decode()
    ways: list[dict[str, Any]] = [
        *({"key": key, "both": key == "wrong key"} for key in ("wrong key", "expired key", "malformed key")),
        {"key": None, "headers": {"authorization": f"Basic {basic}"}},
        {"key": None, "headers": {"authorization": f"Bearer sk-{canaries['foreign key']}"}},
        {"key": None, "path": f"literal/v1/chat/completions?api_key={canaries['key in the query']}", "both": True},
    ]
    for way in ways:
        run.stack.ready_authorizers()
        run.chat(401, **way)
        run.wait()


def add_keys(stack: LocalStack, canaries: dict[str, str]) -> None:
    limits = {"rpm": 10_000, "tpm": 1_000_000_000, "parallel": 100, "budget_month": 1_000_000}
    for kind, attributes in {"good key": limits, "expired key": {"expires_at": int(time.time()) - 60}}.items():
        item = {"key_hash": hash_client_key(canaries[kind]), "client_id": "canaries", "name": kind, "enabled": True}
        stack.table("KEYS_TABLE").put_item(Item={**item, **attributes})
    item = {"key_hash": hash_client_key(canaries["logging key"]), "client_id": "logging", "name": "l", "enabled": True}
    stack.table("KEYS_TABLE").put_item(Item={**item, "log_content": True})


def add_tokens(stack: LocalStack, canaries: dict[str, str]) -> None:
    token = {"token": canaries["token of a secret"], "other": canaries["other text of the secret"]}
    stack.aws("secretsmanager").create_secret(Name="openai-proxy/canary", SecretString=json.dumps(token))
    stack.aws("secretsmanager").create_secret(Name="openai-proxy/unfit", SecretString=f"{canaries['unfit token']}\n")
    value = canaries["token of a parameter"]
    stack.aws("ssm").put_parameter(Name="/openai-proxy/canary", Value=value, Type="SecureString")


def tap(stack: LocalStack) -> str:
    """A queue that gets every event on the bus, whatever its type."""
    queue = stack.aws("sqs").create_queue(QueueName="every-event")["QueueUrl"]
    arn = stack.aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = {"Name": "every-event", "EventBusName": stack.environment["BUS_NAME"]}
    stack.aws("events").put_rule(**rule, EventPattern=json.dumps({"source": [{"prefix": ""}]}))
    target = {"Rule": rule["Name"], "EventBusName": rule["EventBusName"], "Targets": [{"Id": "queue", "Arn": arn}]}
    stack.aws("events").put_targets(**target)
    return queue


def messages(stack: LocalStack, queue: str) -> list[str]:
    """The messages of a queue, taken from it."""
    sqs, taken = stack.aws("sqs"), list[str]()
    while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for each in found:
            taken.append(json.dumps(each))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"])
    return taken


def objects(stack: LocalStack, bucket: str) -> list[str]:
    """Everything in a bucket, with its name."""
    s3 = stack.aws("s3")
    keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    return [f"{key} {s3.get_object(Bucket=bucket, Key=key)['Body'].read().decode(errors='replace')}" for key in keys]


def look_around(run: Run, queue: str) -> None:
    """Read every place, once the events of all requests have got everywhere."""
    stack, events = run.stack, list[str]()

    def enough_events() -> bool:
        events.extend(messages(stack, queue))
        return len(events) >= run.authorized

    wait_for(enough_events, f"{run.authorized} events")
    run.places["events"] = "\n".join(events)
    recorded = run.authorized - run.places["events"].count("InferenceThrottled")
    wait_for(lambda: ledger_entries(stack) >= recorded, f"{recorded} entries of the ledger")
    for each in stack.aws("dynamodb").list_tables()["TableNames"]:
        items = stack.aws("dynamodb").scan(TableName=each)["Items"]
        run.places[f"table {each.split('-')[-2]}"] = json.dumps(items, default=str)
    for each in stack.aws("sqs").list_queues()["QueueUrls"]:
        run.places[f"queue {each}"] = "\n".join(messages(stack, each))
    for each in stack.aws("s3").list_buckets()["Buckets"]:
        if any(name in each["Name"] for name in ("contentlog", "cachebucket")):
            run.places[f"bucket {each['Name']}"] = "\n".join(objects(stack, each["Name"]))
    run.places["metrics"] = json.dumps(stack.aws("cloudwatch").list_metrics()["Metrics"], default=str)
    logs = stack.aws("logs")
    for group in [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]]:
        found = [page["events"] for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group)]
        run.places[f"log group {group.rpartition('/')[2]}"] = "\n".join(
            each["message"] for page in found for each in page
        )
    assert stack.stop() == 0
    run.places["terminal"] = stack.said
    for file in (stack.folder / "logs").iterdir():
        run.places[f"log file {file.name}"] = file.read_text(errors="replace")


def ledger_entries(stack: LocalStack) -> int:
    return len([item for item in stack.table("COSTS_TABLE").scan(ConsistentRead=True)["Items"] if "outcome" in item])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    canaries, folder = new_canaries(), tmp_path_factory.mktemp("canaries")
    upstream = Upstream(canaries)
    with ScriptedServer(upstream) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        file = folder / "servers.yaml"
        file.write_text(servers_file(server.url, canaries))
        stack = start_deployed(folder / "stack", "--servers-file", str(file))
        run = Run(stack, canaries, upstream, pool)
        try:
            add_keys(stack, canaries)
            add_tokens(stack, canaries)
            queue = tap(stack)
            go_through_everything(run)
            look_around(run, queue)
            yield run
        finally:
            if stack.process.poll() is None:
                stack.stop()


# ---------------------------------------------------------------------------------------------------------- the search


FORMS: list[Callable[[str], str]] = [
    lambda canary: canary,
    lambda canary: canary.upper(),
    lambda canary: canary[::-1],
    lambda canary: canary[:PART],
    lambda canary: canary[-PART:],
    lambda canary: canary[4 : PART + 8],
    lambda canary: canary.encode().hex(),
    lambda canary: json.dumps({"trace": [f"ValueError: {canary!r}"]}),
    lambda canary: base64.b64encode(canary.encode()).decode(),
    lambda canary: base64.b64encode(f"x{canary}y".encode()).decode(),
    lambda canary: base64.urlsafe_b64encode(f"xy{canary}".encode()).decode(),
    lambda canary: f"https://host/path?key={canary}",
]
"""Ways to write a canary down."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["good key", "prompt"])
def test_a_planted_canary_is_found(kind: str, form: Callable[[str], str]):
    canaries = new_canaries()
    assert leaks(canaries, f'{{"message": "before"}}\n{form(canaries[kind])}\nafter') == {kind}


def test_what_is_no_canary_is_not_found():
    canaries = new_canaries()
    hashes = [hash_client_key(canary) for canary in canaries.values()]
    assert leaks(canaries, " ".join([*new_canaries().values(), *hashes, "opx-", "canary"])) == set()


def test_every_place_was_filled(run: Run):
    kinds = [place.partition(" ")[0] for place in run.places]
    assert kinds.count("table") >= 5
    assert kinds.count("queue") >= 7
    for place in ("log group authorizer", "log group record-cost", "log group record-metrics"):
        assert len(run.places[place].splitlines()) > 3
    for place in ("events", "metrics", "log group proxy", "log file proxy.log", "log file ministack.log"):
        assert run.places[place]
    assert run.places["events"].count(CONTROL) >= run.authorized / 2
    for place in ("table CostsTable", "metrics"):
        assert CONTROL in run.places[place]
    assert "limits#" in run.places["table LimitsTable"]
    assert "A server refused the proxy's token" in run.places["log file proxy.log"]
    assert "A server's token is unavailable" in run.places["log file proxy.log"]
    assert hash_client_key(run.canaries["expired key"])[:12] in run.places["log group authorizer"]


def test_canaries_got_as_far_as_they_should(run: Run):
    """Tokens and prompts reach the server, and whatever a client must keep to itself does not."""
    to_server = {
        *("literal token", "token of a secret", "token of a parameter", "prompt", "tool argument", "tool description"),
        *("user", "form field", "file", "file name", "query", "idempotency key", "key in the query", "huge header"),
        "trace state",
    }
    assert set().union(*run.upstream.arrived) - {"huge header"} == to_server - {"huge header"}


@pytest.mark.parametrize("kind", KINDS)
def test_no_canary_is_left_anywhere(run: Run, kind: str):
    canary = {kind: run.canaries[kind]}
    assert [place for place, text in run.places.items() if leaks(canary, text)] == []


def test_content_is_logged_for_the_key_that_asks_for_it_alone(run: Run):
    [(_, text)] = [(place, text) for place, text in run.places.items() if "contentlog" in place]
    logged = [json.loads(line.partition(" ")[2]) for line in text.splitlines()]
    assert len(logged) == run.logged
    assert {each["client_id"] for each in logged} == {"logging"}
    for each in logged:
        assert each["request"]["content"]["messages"][0]["content"].startswith("[secret:")
    prompts = {each["request"]["content"]["messages"][0]["content"] for each in logged}
    assert len(prompts) == 1, "the same secret has the same hash"
    assert any("[secret:" in str(each["response"]["content"]) for each in logged)


def test_dead_letters_are_none(run: Run):
    assert [place for place, text in run.places.items() if "DeadLetter" in place and text] == []
