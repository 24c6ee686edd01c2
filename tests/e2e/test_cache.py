"""The response cache through the whole stack: filled by an event, replayed byte for byte, never to another client.

Every answer of the demo server has an id of its own, so that the same bytes are the same answer.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import count
from typing import Any

import httpx
import pytest

from tests.e2e.command import openai_proxy
from tests.e2e.harness import WAIT_SECONDS, Client, LocalStack, new_client, wait_for

CHAT = "demo/v1/chat/completions"
EMBEDDINGS = "demo/v1/embeddings"


def question(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "temperature": 0, "messages": [{"role": "user", "content": text}]} | more


@pytest.fixture
def caching(stack: LocalStack) -> Iterator[Callable[..., Client]]:
    """Makes clients whose keys have a cache policy."""
    made: list[Client] = []

    def make(**policy: Any) -> Client:
        client = new_client(stack)
        made.append(client)
        stack.table("KEYS_TABLE").update_item(
            Key={"key_hash": client.key_hash},
            UpdateExpression="SET #cache = :cache",
            ExpressionAttributeNames={"#cache": "cache"},
            ExpressionAttributeValues={":cache": {"mode": "on", "ttl": 3600} | policy},
        )
        return client

    yield make
    for client in made:
        client.close()


def ask(client: Client, body: dict[str, Any], path: str = CHAT, **headers: str) -> httpx.Response:
    """An answer, and what the cache says of it; asked again while a busy machine keeps the table from answering."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url, authorization = f"{client.stack.url}{path}", {"authorization": f"Bearer {client.key}"}

    def look() -> httpx.Response | None:
        response = httpx.post(url, json=body, headers=authorization | named, timeout=WAIT_SECONDS)
        assert response.status_code == 200, response.text
        return response if said(response)[1] != "table_error" else None

    found = wait_for(look, "the cache's table")
    assert found is not None
    return found


def said(response: httpx.Response) -> tuple[str, str | None]:
    return response.headers.get("x-cache", ""), response.headers.get("x-cache-reason")


def fill(client: Client, body: dict[str, Any], path: str = CHAT) -> httpx.Response:
    """The first answer, once it is in the table."""
    first = ask(client, body, path)
    assert said(first) == ("MISS", "not_found")
    table = client.stack.table("CACHE_TABLE")
    wait_for(lambda: [item for item in table.scan()["Items"] if item.get("client_id") == client.id], "the answer")
    return first


def entry_of(client: Client, status: str) -> dict[str, Any]:
    """The ledger's entry with this status of the cache."""
    return wait_for(lambda: [each for each in client.entries() if each["cache_status"] == status], status)[0]


def console(stack: LocalStack, *arguments: str) -> Any:
    return json.loads(openai_proxy(stack, "cache", *arguments, "--json"))


def test_a_stream_is_replayed_byte_for_byte_and_costs_nothing(caching: Callable[..., Client]):
    client, body = caching(), question("Once", stream=True, stream_options={"include_usage": True})

    first = fill(client, body)
    again = ask(client, body)

    assert said(again) == ("HIT", None)
    assert again.content == first.content
    assert again.content.endswith(b"data: [DONE]\n\n")
    assert again.headers["content-type"] == first.headers["content-type"]
    assert int(again.headers["age"]) >= 0
    paid, free = entry_of(client, "MISS"), entry_of(client, "HIT")
    assert paid["cost"] > 0
    assert (free["cost"], free["cost_saved"], free["output_tokens"]) == (0, paid["cost"], paid["output_tokens"])
    assert again.headers["x-cache-saved"] == f"{paid['cost'].normalize():f} USD"


def test_nobody_else_is_answered_with_it(caching: Callable[..., Client], client: Client):
    one, other, body = caching(), caching(), question("Whose?")

    mine, others = fill(one, body), fill(other, body)

    assert others.json()["id"] != mine.json()["id"]
    assert ask(one, body).content == mine.content
    assert ask(other, body).content == others.content
    assert "x-cache" not in ask(client, body).headers, "a client without a policy is told nothing of a cache"


def test_a_pool_shares_and_erasing_a_client_takes_its_part_of_it(stack: LocalStack, caching: Callable[..., Client]):
    giver, taker, body = caching(pool="docs"), caching(pool="docs"), question("Shared", n=2)
    given = fill(giver, body)
    assert ask(taker, body).content == given.content
    [shown] = console(stack, "list", "--scope", "key-pool:docs")
    assert (shown["client_id"], shown["server"], shown["stream"]) == (giver.id, "demo", False)

    assert console(stack, "erase", "--yes", "--client", taker.id)["answers"] == 0
    assert console(stack, "erase", "--yes", "--client", giver.id) == {
        "client_id": giver.id,
        "answers": 1,
        "objects": 0,
        "streams": 0,
    }

    assert said(ask(taker, body))[0] == "MISS"


def test_a_large_answer_takes_the_way_over_the_bucket(stack: LocalStack, caching: Callable[..., Client]):
    client = caching()
    body = {"model": "demo", "dimensions": 1024, "input": [f"text {number}" for number in range(96)]}
    bucket, prefix = stack.environment["CACHE_BUCKET"], f"captured/{client.id}/"

    first = fill(client, body, EMBEDDINGS)
    again = ask(client, body, EMBEDDINGS)

    assert said(again) == ("HIT", None)

    assert len(first.content) > 2_000_000
    assert again.content == first.content
    [kept] = stack.aws("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    sums = console(stack, "stats", "--by", "client")
    [row] = [row for row in sums["rows"] if row["client"] == client.id]
    assert (row["answers"], row["bytes"], row["stored_bytes"]) == (1, len(first.content), kept["Size"])
    assert console(stack, "erase", "--yes", "--client", client.id) == {
        "client_id": client.id,
        "answers": 1,
        "objects": 1,
        "streams": 0,
    }
    assert "Contents" not in stack.aws("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
    assert said(ask(client, body, EMBEDDINGS))[0] == "MISS"


def test_a_stored_stream_answers_who_wants_no_stream(caching: Callable[..., Client]):
    client = caching()
    first = fill(client, question("Form", stream=True, stream_options={"include_usage": True}))

    whole = ask(client, question("Form")).json()

    chunks = [json.loads(line[6:]) for line in first.text.splitlines() if line.startswith("data: {")]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert (whole["object"], whole["id"]) == ("chat.completion", chunks[0]["id"])
    assert whole["choices"][0]["message"]["content"] == text


def test_of_many_at_once_one_goes_to_the_server(caching: Callable[..., Client]):
    client, rounds = caching(), count()

    def look() -> bool:
        """Whether one fetched for all; on a machine too busy for that in time, others go too."""
        body = question(f"All at once, {next(rounds)}")
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(ask, [client] * 6, [body] * 6))
        paid = {answer.json()["id"] for answer in answers if said(answer)[0] != "HIT"}
        assert {answer.json()["id"] for answer in answers} == paid
        return sorted(said(answer)[0] for answer in answers) == ["HIT"] * 5 + ["MISS"]

    wait_for(look, "one call for six requests")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"cache_control": "no-store"}, ("BYPASS", "no_store")),
        ({"cache_control": "no-cache"}, ("REFRESH", "no_cache")),
        ({"x_cache_namespace": "another"}, ("MISS", "not_found")),
        ({"cache_control": "max-age=3600"}, ("HIT", None)),
    ],
    ids=str,
)
def test_what_a_client_asks_for(
    caching: Callable[..., Client], headers: dict[str, str], status: tuple[str, str | None]
):
    client, body = caching(), question("Headers")
    fill(client, body)

    assert said(ask(client, body, **headers)) == status


def test_an_answer_that_failed_in_the_middle_is_never_kept(stack: LocalStack, caching: Callable[..., Client]):
    client = caching()
    body = question("Cut", stream=True, demo={"cut_after": 5})

    first, second = ask(client, body), ask(client, body)

    assert (said(first)[0], said(second)[0]) == ("MISS", "MISS")
    client.wait_for_entries(2)
    assert console(stack, "list", "--client", client.id) == []


def test_stats_know_what_was_saved(stack: LocalStack, caching: Callable[..., Client]):
    client, body = caching(), question("Savings")
    fill(client, body)
    ask(client, body)
    saved = entry_of(client, "HIT")["cost_saved"]

    def look() -> Any:
        rows = console(stack, "stats", "--by", "client,server")["rows"]
        return [row for row in rows if row["client"] == client.id and row["cache_hits"]]

    [row] = wait_for(look, "the rollup")
    assert (row["server"], row["answers"]) == ("demo", 1)
    assert Decimal(row["cost_saved"]) == row["cache_hits"] * saved
