"""Clients that ask for a while, as calls to AWS go wrong at random and sandboxes are killed; and what each has seen.

The order of what goes wrong comes from a seed. Which call it meets depends on the machine.
"""

import contextlib
import json
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
from proxy.json_shapes import array_of, loads_or_none, object_of, text_of

from local.faults.rules import FAULTS
from tests.e2e.fault_drivers import SERVER_WITH_A_SECRET, FaultyStack, chat, client_with
from tests.e2e.faults_table import CALLS
from tests.e2e.harness import Client

SHARE = 0.2
"""Of all calls: every fifth goes wrong."""
_OTHER_CALLS = (("*", "", ""),)
_BETWEEN_FAULTS, _BETWEEN_KILLS = (2.0, 4.0), (8.0, 16.0)
"""Seconds: the least and the most."""
_LATE = (0.2, 6.0)
_PATIENCE = 120.0
KEYS: Mapping[str, Mapping[str, Any]] = {
    "no limits": {},
    "one place": {"parallel": 1},
    "two places": {"parallel": 2, "budget_day": 1000},
    "four places": {"parallel": 4, "rpm": 100_000, "tpm": 100_000_000},
    "a budget": {"budget_day": 1000, "budget_month": 10_000},
    "the cache": {"cache": {"mode": "on", "ttl": 3600}},
}
"""The keys of the clients, each of which asks as often at once as it may, or twice."""


@dataclass(frozen=True)
class Asked:
    """A request, and what its client has seen. `status` 0: the connection broke before an answer began."""

    key: str
    status: int
    id: str = ""
    code: str = ""
    """Of the error; "" where the answer is whole, "cut" where it is not, "?" where it is none that OpenAI gives."""
    retry_after: str = ""
    usage: tuple[int, int] | None = None
    """Tokens of the prompt and of the answer, where the answer says."""


@dataclass
class Soaked:
    """All that was asked, with which clients, and how many sandboxes were killed."""

    clients: Mapping[str, Client]
    asked: list[Asked] = field(default_factory=list[Asked])
    kills: int = 0


def soak(faulty: FaultyStack, seconds: float, seed: int) -> Soaked:
    """Let everybody ask for so many seconds. Afterwards nothing goes wrong any more."""
    soaked = Soaked({name: client_with(faulty.stack, **fields) for name, fields in KEYS.items()})
    is_over = threading.Event()
    chances = random.Random(seed)

    def repeat(between: tuple[float, float], work: Callable[[random.Random], None]) -> Callable[[], None]:
        own = random.Random(chances.random())

        def repeated() -> None:
            while not is_over.wait(own.uniform(*between)):
                work(own)

        return repeated

    def kill(own: random.Random) -> None:
        if sandboxes := sorted(faulty.stack.children("proxy.runtime")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(own.choice(sandboxes), signal.SIGKILL)
                soaked.kills += 1

    work = [
        repeat(_BETWEEN_FAULTS, lambda own: faulty.write(mishaps(own))),
        repeat(_BETWEEN_KILLS, kill),
        *(
            repeat((0.0, 0.1), lambda own, name=name: soaked.asked.append(ask(faulty, soaked, name, own)))
            for name, fields in KEYS.items()
            for _ in range(fields.get("parallel", 2))
        ),
    ]
    with ThreadPoolExecutor(len(work)) as pool:
        running = [pool.submit(each) for each in work]
        time.sleep(seconds)
        is_over.set()
        for each in running:
            each.result()
    faulty.write([])
    return soaked


def mishaps(own: random.Random) -> list[dict[str, Any]]:
    """How each call goes wrong for the next seconds."""
    named = ((each, call.resource, call.of) for call in CALLS for each in (call.action, call.too) if each)
    calls = [*dict.fromkeys(named), *_OTHER_CALLS]
    return [
        {
            "call": action,
            "resource": resource,
            "share": SHARE,
            "seconds": round(own.uniform(*_LATE), 1),
            **({"of": caller} if caller else {}),
            "fault": own.choice(list(FAULTS)),
        }
        for action, resource, caller in calls
    ]


def ask(faulty: FaultyStack, soaked: Soaked, key: str, own: random.Random) -> Asked:
    """One request of a key, of one kind or another."""
    client = soaked.clients[key]
    text = "the same again" if key == "the cache" and own.random() < 0.5 else secrets.token_hex(4)
    body: dict[str, Any] = chat(text)
    kinds = ["whole", "stream", "receipt", "large"]
    if "budget_day" not in KEYS[key]:  # what has no price is spent as if it were dear, and costs nothing in the ledger
        kinds.append("secret")
    path, kind = "demo/v1/chat/completions", own.choice(kinds)
    if kind == "stream":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    elif kind == "secret":
        path = f"{SERVER_WITH_A_SECRET}/v1/chat/completions"
    elif kind == "large" and key == "the cache":
        path = "demo/v1/embeddings"
        body = {"model": "demo", "dimensions": 1024, "input": [f"{text} {number}" for number in range(96)]}
    known = [each.id for each in soaked.asked[-100:] if each.key == key and each.usage]
    headers = {"authorization": f"Bearer {client.key}"}
    try:
        if kind == "receipt" and known:
            url = f"{faulty.stack.url}v1/receipts/{known[-1]}"
            answer = httpx.get(url, headers=headers, timeout=_PATIENCE)
        else:
            answer = httpx.post(f"{faulty.stack.url}{path}", headers=headers, json=body, timeout=_PATIENCE)
    except httpx.TransportError as error:
        return Asked(key, 0, code="timeout" if isinstance(error, httpx.TimeoutException) else "cut")
    return seen_of(key, answer)


def seen_of(key: str, answer: httpx.Response) -> Asked:
    """What an answer shows to its client."""
    request_id = answer.headers.get("x-inference-id", "")
    if answer.status_code != 200:
        error = object_of(object_of(loads_or_none(answer.content)).get("error"))
        is_openai = {"message", "type", "param", "code"} <= error.keys() and text_of(error.get("message"), 1000)
        code = str(error["code"]) if is_openai else "?"
        return Asked(key, answer.status_code, request_id, code, answer.headers.get("retry-after", ""))
    if answer.headers["content-type"].startswith("text/event-stream"):
        if not answer.content.endswith(b"data: [DONE]\n\n"):
            return Asked(key, 200, request_id, "cut")
        chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        usage = object_of(next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None))
    else:
        document = object_of(loads_or_none(answer.content))
        if document.get("object") == "receipt":
            return Asked(key, 200, request_id)
        if not (array_of(document.get("choices")) or array_of(document.get("data"))):
            return Asked(key, 200, request_id, "cut")
        usage = object_of(document.get("usage"))
    return Asked(key, 200, request_id, usage=(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)))
