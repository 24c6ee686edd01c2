"""Streams that outlive their connection, in the whole application: cut, asked for by others, stopped, killed."""

import json
import os
import subprocess
import sys
from typing import Any

import httpx

from tests.e2e.harness import ROOT, WAIT_SECONDS, Client, LocalStack, new_client, wait_for


class Reader:
    """Reads one stream over any number of connections. It knows the last event that it has had."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._url, self._key = client.stack.url, {"authorization": f"Bearer {client.key}"}
        self.stream_id, self.last, self.data = "", "", list[str]()

    def ask(self, tokens: int, delay: float, most: int) -> None:
        """Ask, and go away after so many events."""
        messages = [{"role": "user", "content": "Hello there, proxy"}]
        shape = {"tokens": tokens, "delay": delay}
        body = {"model": "demo", "stream": True, "messages": messages, "demo": shape}
        self._read("POST", "demo/v1/chat/completions", most, {"x-resumable": "true"}, json=body)

    def come_back(self, most: int = 0) -> None:
        """Go on after the last event, for so many events more; for all of them where no number is given."""
        more = len(self.data) + most if most else 0
        self._read("GET", f"v1/streams/{self.stream_id}", more, {"last-event-id": self.last})

    def _read(self, method: str, path: str, most: int, headers: dict[str, str], **options: Any) -> None:
        url, headers = f"{self._url}{path}", self._key | headers
        with httpx.stream(method, url, headers=headers, timeout=WAIT_SECONDS, **options) as response:
            assert response.status_code == 200, response.read()
            self.stream_id, data = response.headers["x-inference-id"], ""
            for line in response.iter_lines():
                if line.startswith("data: "):
                    data = line.removeprefix("data: ")
                elif line.startswith("id: "):
                    self.last = line.removeprefix("id: ")
                    self.data.append(data)
                    if len(self.data) == most:
                        return

    def call(self, method: str, below: str = "", client: Client | None = None) -> httpx.Response:
        """Ask for, or change, the state of the stream."""
        headers = {"authorization": f"Bearer {client.key}"} if client else self._key
        return httpx.request(
            method, f"{self._url}v1/streams/{self.stream_id}{below}", headers=headers, timeout=WAIT_SECONDS
        )


def test_streams_are_picked_up_stopped_and_told_of_when_their_sandbox_is_killed(
    client: Client, stack: LocalStack
) -> None:
    """What is killed is known to be gone half a minute later: the rest is tried meanwhile. Nobody reads one of them."""
    killed, unread = Reader(client), Reader(new_client(stack))
    killed.ask(tokens=200, delay=0.2, most=12)
    unread.ask(tokens=200, delay=0.2, most=12)
    stack.end_sandboxes()
    is_picked_up_by_its_own_client_and_booked_once(new_client(stack), new_client(stack))
    is_stopped(new_client(stack))
    killed.come_back()

    assert json.loads(killed.data[-2])["error"]["code"] == "worker_killed"
    (entry,) = client.wait_for_entries(1)
    assert (entry["sk"], entry["outcome"]) == (killed.stream_id, "failed")
    (entry,) = unread.client.wait_for_entries(1)
    assert unread.call("GET", "/status").json()["events"] >= 1, "the last one that was written"
    assert (entry["sk"], entry["outcome"]) == (unread.stream_id, "failed")


def is_picked_up_by_its_own_client_and_booked_once(client: Client, stranger: Client) -> None:
    cut, whole = Reader(client), Reader(client)
    cut.ask(tokens=40, delay=0.05, most=3)
    for _ in range(4):
        cut.come_back(most=5)
    cut.come_back()
    whole.stream_id = cut.stream_id
    whole.come_back()

    assert cut.data == whole.data
    assert cut.data[-1] == "[DONE]"
    assert cut.last == f"{cut.stream_id}.{len(cut.data)}"
    status = cut.call("GET", "/status").json()
    assert (status["status"], status["events"]) == ("completed", len(cut.data))
    for method, below in (("GET", ""), ("GET", "/status"), ("DELETE", ""), ("POST", "")):
        refused = cut.call(method, below, stranger)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "stream_not_found")
    (entry,) = client.wait_for_entries(1)
    assert (entry["sk"], entry["outcome"], entry["output_tokens"]) == (cut.stream_id, "completed", 40)


def is_stopped(client: Client) -> None:
    stopped = Reader(client)
    stopped.ask(tokens=200, delay=0.2, most=5)
    assert stopped.call("DELETE").json()["status"] == "stopping"
    stopped.come_back()

    assert json.loads(stopped.data[-2])["error"]["code"] == "stream_stopped"
    assert 5 < len(stopped.data) < 100
    (entry,) = client.wait_for_entries(1)
    assert (entry["sk"], entry["outcome"]) == (stopped.stream_id, "failed")
    assert 0 < entry["output_tokens"] < 100


def test_who_does_not_wait_finds_the_answer_at_its_address_and_a_webhook_is_told(
    client: Client, stack: LocalStack
) -> None:
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello there, proxy"}]}
    url = f"{client.stack.url}demo/v1/chat/completions"
    headers = {"authorization": f"Bearer {client.key}", "x-respond-async": "true"}
    said = httpx.post(url, headers=headers, json=body, timeout=WAIT_SECONDS)
    assert said.status_code == 202
    reader = Reader(client)
    reader.stream_id = said.json()["id"]
    wait_for(lambda: reader.call("GET", "/status").json()["status"] == "completed", "the end of the answer")
    found = httpx.get(httpx.URL(url).join(said.headers["location"]), headers=headers, timeout=WAIT_SECONDS)

    answer = json.loads(found.text.splitlines()[0].removeprefix("data: "))
    assert answer["choices"][0]["message"]["content"].endswith("Hello there, proxy")
    (entry,) = client.wait_for_entries(1)
    assert (entry["sk"], entry["outcome"]) == (reader.stream_id, "completed")
    is_told(reader.stream_id, stack)


def is_told(stream_id: str, stack: LocalStack) -> None:
    """The receiver of the examples takes what it is sent, and nothing else. It was not there when it was told first."""
    port, secret = stack.ports["WEBHOOK_PORT"], stack.environment["STREAM_WEBHOOK_SECRET"]
    command = (sys.executable, str(ROOT / "examples/webhook/receiver.py"), str(port))
    environment = {"STREAM_WEBHOOK_SECRET": secret, "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout
            assert receiver.stdout.readline() == f"Listening on http://127.0.0.1:{port}/\n"
            forged = {
                "id": "X",
                "timestamp": "2999-01-01T00:00:00Z",
                "status": "completed",
                "signature": "v1,",
                "url": "",
            }
            assert httpx.post(f"http://127.0.0.1:{port}/", json=forged).status_code == 403
            assert receiver.stdout.readline() == f"completed: /v1/streams/{stream_id}\n"
        finally:
            receiver.terminate()
