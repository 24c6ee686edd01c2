"""How a test has each call to AWS made: a client of the right kind asks, and what it sees is told."""

import secrets
import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import yaml
from proxy.json_shapes import loads_or_none, object_of
from proxy.records.records import UNAUTHORIZED

from tests.e2e.harness import ROOT, Client, LocalStack, new_client, new_ports, start, wait_for
from tests.e2e.snapshot import start_deployed

SERVER_WITH_A_SECRET = "vault"
SECRET = "openai-proxy/vault"


@dataclass
class FaultyStack:
    """A running stack, and the file that says which of its calls to AWS go wrong."""

    stack: LocalStack
    faults: Path

    @contextmanager
    def going_wrong(self, *rules: Mapping[str, Any]) -> Generator[None]:
        """The calls that `rules` mean go wrong, for a while."""
        self.write(list(map(dict, rules)))
        try:
            yield
        finally:
            self.write([])

    def write(self, rules: list[dict[str, Any]]) -> None:
        """Let calls go wrong as `rules` say from now on."""
        new = self.faults.with_suffix(".new")
        new.write_text(yaml.safe_dump(rules))
        new.replace(self.faults)

    def forget(self) -> None:
        """End every sandbox: the next one remembers no key, no token, no price and no failure."""
        self.stack.end_sandboxes(signal.SIGTERM)

    def lines(self, name: str, since: int) -> list[dict[str, Any]]:
        """The lines of a log, from the byte `since` on."""
        lines = self.log(name).read_bytes()[since:].splitlines()
        return [object_of(loads_or_none(line[max(line.find(b"{"), 0) :])) for line in lines]

    def messages(self, name: str, since: int) -> set[str]:
        """The messages in a log, from the byte `since` on."""
        found = (line.get("message") for line in self.lines(name, since))
        return {message for message in found if isinstance(message, str)}

    def wait_for_a_quiet_log(self) -> None:
        """Until a sandbox may write a line again that it writes once a second at most."""
        lines = self.lines("proxy", 0)
        written = [str(line["timestamp"]) for line in lines if line.get("message") == UNAUTHORIZED]
        if written:
            latest = datetime.fromisoformat(max(written)).timestamp()
            wait_for(lambda: time.time() > latest + 1.1, "a second without that line")

    def log(self, name: str) -> Path:
        """The log file of one part of the stack."""
        return self.stack.folder / "logs" / f"{name}.log"


def started(folder: Path, policy: str, comes_again: int = 5, more: str = "", servers_too: str = "") -> FaultyStack:
    """Start a stack in `folder`. What a consumer fails at comes again after so many seconds, not minutes.

    `more` are other parameters of the template, `servers_too` more entries of the servers file.
    """
    ports = new_ports()
    faults, servers = folder / "faults.yaml", folder / "servers.yaml"
    faults.write_text("[]")
    url = f"http://127.0.0.1:{ports['DEMO_PORT']}/v1"
    vault = f"{SERVER_WITH_A_SECRET}:\n  {{url: '{url}', token: 'secretsmanager:{SECRET}', model: demo}}\n"
    servers.write_text((ROOT / "openai_servers.yaml").read_text() + vault + servers_too)
    options = ("--faults", str(faults), "--servers-file", str(servers))
    chosen = f"{'' if policy == 'open' else f'LimitsFailurePolicy={policy}'} {more}".strip()
    if chosen:
        stack = start(folder / "stack", *options, "--parameters", chosen, ports=ports)
    else:  # the template's own policy
        stack = start_deployed(folder / "stack", *options, ports=ports)
    queues = stack.aws("sqs")
    for queue in queues.list_queues()["QueueUrls"]:
        queues.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": str(comes_again)})
    stack.aws("secretsmanager").create_secret(Name=SECRET, SecretString=_demo_token(stack))
    return FaultyStack(stack, faults)


def _demo_token(stack: LocalStack) -> str:
    """The token that the demo server takes."""
    listed = (stack.folder / "openai_servers.yaml").read_text()
    return listed.rpartition("demo:")[2].partition("token: ")[2].split()[0]


def client_with(stack: LocalStack, **fields: Any) -> Client:
    """A new client whose key has these fields."""
    client = new_client(stack)
    if fields:
        stack.table("KEYS_TABLE").update_item(
            Key={"key_hash": client.key_hash},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in fields),
            ExpressionAttributeNames={f"#{name}": name for name in fields},
            ExpressionAttributeValues={f":{name}": value for name, value in fields.items()},
        )
    return client


def chat(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "demo", "temperature": 0, "messages": [{"role": "user", "content": text}]} | more


def seen(answer: httpx.Response) -> str:
    """What a client sees: the status, and the code of an error."""
    if answer.status_code == 200:
        return "200"
    return f"{answer.status_code} {answer.json()['error']['code']}"


@dataclass
class Driven:
    """What a driver has prepared: the client, and the request during which the call goes wrong.

    `settled` says whether everything has come to its end that the request is to bring about later.
    """

    client: Client
    ask: Callable[[], httpx.Response]
    settled: Callable[[], bool] | None = None


def _with_key(faulty: FaultyStack, **fields: Any) -> Driven:
    client = client_with(faulty.stack, **fields)
    return Driven(client, lambda: client.post("demo/v1/chat/completions", json=chat()))


def _known_key(faulty: FaultyStack, **fields: Any) -> Driven:
    """A client that the authorizer has let in before."""
    driven = _with_key(faulty, **fields)
    client = driven.client

    def is_let_in() -> bool:
        """On a busy machine the emulator may need longer for a new process of the authorizer than the proxy waits."""
        answer = driven.ask()
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    wait_for(is_let_in, "a client that is let in")
    client.wait_for_entries(1)
    return driven


def _limited(faulty: FaultyStack) -> Driven:
    """A key that has been used early in this minute: the first take of a minute makes a call more."""
    driven = _known_key(faulty, rpm=100, parallel=2)
    client, minutes = driven.client, list[int]()

    def is_of_this_minute() -> bool:
        if time.time() % 60 > 25:
            return False
        minutes.append(int(time.time()) // 60)
        assert driven.ask().status_code == 200
        client.wait_for_entries(1 + len(minutes))
        return minutes[-1] == int(time.time()) // 60 and time.time() % 60 < 45

    wait_for(is_of_this_minute, "an early request of a minute")
    return driven


def _budgeted(faulty: FaultyStack) -> Driven:
    driven = _with_key(faulty, budget_day=1000)
    client = driven.client

    def settled() -> bool:
        """Whether the budget has what the ledger says, and nothing is reserved any more."""
        spent = sum((entry["cost"] for entry in client.entries()), Decimal(0))
        pk = f"limits#{client.key_hash[:12]}"
        counter = faulty.stack.table("LIMITS_TABLE").get_item(Key={"pk": pk}, ConsistentRead=True).get("Item", {})
        return spent > 0 and counter.get("day_cost") == counter.get("day_spent") == spent and not counter.get("live")

    return replace(driven, settled=settled)


def _caching(faulty: FaultyStack) -> Driven:
    driven = _known_key(faulty, cache={"mode": "on", "ttl": 3600})
    text = secrets.token_hex(8)

    def ask() -> httpx.Response:
        return driven.client.post("demo/v1/chat/completions", json=chat(text))

    return Driven(driven.client, ask, lambda: ask().headers.get("x-cache") == "HIT")


def _cached_object(faulty: FaultyStack) -> Driven:
    """An answer so large that its body is kept in the bucket."""
    driven = _large_answer(faulty)
    wait_for(lambda: driven.ask().headers.get("x-cache") == "HIT", "a hit")
    faulty.forget()
    return replace(driven, settled=None)


def _large_answer(faulty: FaultyStack) -> Driven:
    client = client_with(faulty.stack, cache={"mode": "on", "ttl": 3600})
    texts = [secrets.token_hex(8) for _ in range(96)]

    def ask() -> httpx.Response:
        return client.post("demo/v1/embeddings", json={"model": "demo", "dimensions": 1024, "input": texts})

    return Driven(client, ask, lambda: ask().headers.get("x-cache") == "HIT")


def _secret(faulty: FaultyStack) -> Driven:
    client = client_with(faulty.stack)
    return Driven(client, lambda: client.post(f"{SERVER_WITH_A_SECRET}/v1/chat/completions", json=chat()))


def _receipt(faulty: FaultyStack) -> Driven:
    driven = _known_key(faulty)
    client = driven.client
    (entry,) = client.wait_for_entries(1)
    url, headers = f"{faulty.stack.url}v1/receipts/{entry['sk']}", {"authorization": f"Bearer {client.key}"}
    return Driven(client, lambda: httpx.get(url, headers=headers, timeout=60))


DRIVERS: Mapping[str, Callable[[FaultyStack], Driven]] = {
    "new key": _with_key,
    "known key": _known_key,
    "limited key": _limited,
    "key with a budget": _budgeted,
    "key with a cache": _caching,
    "cached object": _cached_object,
    "large answer": _large_answer,
    "server with a secret": _secret,
    "receipt": _receipt,
}
