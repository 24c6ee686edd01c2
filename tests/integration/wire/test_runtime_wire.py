"""The streaming runtime's bytes: what the emulator does not show, read by a Runtime API that is a script."""

import base64
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import Connection, Received, ScriptedServer

ROOT = Path(__file__).parents[3]
API = "/2018-06-01/runtime"


class ScriptedRuntimeApi:
    """Hands out events from a queue, and keeps every post."""

    def __init__(self, **next_headers: str) -> None:
        self.events: queue.Queue[bytes] = queue.Queue()
        self.posts: queue.Queue[Received] = queue.Queue()
        self.asked: queue.Queue[str] = queue.Queue()
        self.next_headers = next_headers
        self._count = 0

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.method == "POST":
            self.posts.put(request)
            connection.answer(b'{"status":"OK"}', "202 Accepted")
        elif request.target == f"{API}/restore/next":
            self.asked.put("restore")
            connection.answer(b"")
        else:
            assert request.target == f"{API}/invocation/next"
            self.asked.put("next")
            event = self.events.get()
            self._count += 1
            self.hand_out(connection, event)

    def hand_out(self, connection: Connection, event: bytes) -> None:
        headers = {"Lambda-Runtime-Aws-Request-Id": f"id-{self._count}", **self.next_headers}
        connection.answer(event, more="".join(f"{name}: {value}\r\n" for name, value in headers.items()))

    def invoke(self, **event: object) -> Received:
        self.events.put(json.dumps(event).encode())
        return self.posts.get(timeout=20)


@contextmanager
def sandbox(
    api: ScriptedRuntimeApi, *, reads_bodies: bool = True, **environ: str
) -> Generator[subprocess.Popen[bytes]]:
    with ScriptedServer(api, reads_bodies=reads_bodies) as server:
        environment = {
            "PATH": os.environ["PATH"],
            "_HANDLER": "behaviours.handler",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}",
            "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
            "PYTHONPATH": f"{ROOT / 'shared'}:{ROOT / 'tests' / 'data' / 'sandbox'}",
            **environ,
        }
        process = subprocess.Popen(
            [str(ROOT / "functions/proxy/bootstrap"), sys.executable], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            api.events.put(b"")  # for the script that still waits for one


def test_a_streamed_response_is_chunked_with_prelude_and_delimiter_as_chunks_of_their_own() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api):
        post = api.invoke(do="stream", pieces=["one", "two"])
    prelude = b'{"statusCode": 200, "headers": {"content-type": "text/event-stream"}, "cookies": ["a=1", "b=2"]}'
    assert post.target == f"{API}/invocation/id-1/response"
    assert post.headers["content-type"] == "application/vnd.awslambda.http-integration-response"
    assert post.headers["lambda-runtime-function-response-mode"] == "streaming"
    framed = b"%x\r\n%b\r\n8\r\n%b\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n" % (len(prelude), prelude, b"\0" * 8)
    assert post.raw_body == framed
    assert post.trailers == {}


def test_a_failure_in_mid_stream_is_in_the_trailers_that_were_announced() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api):
        post = api.invoke(do="fail-after")
    names = "lambda-runtime-function-error-type", "lambda-runtime-function-error-body"
    assert post.headers["trailer"].lower() == ", ".join(names)
    assert post.body.endswith(b"half of ")
    assert post.trailers[names[0]] == "Function.ConnectionError"
    report = json.loads(base64.b64decode(post.trailers[names[1]]))
    assert report["errorType"] == "Function.ConnectionError"
    assert "secret" not in report["errorMessage"]


def test_a_failure_before_the_first_byte_is_posted_as_an_error() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api):
        post = api.invoke(do="fail-before")
    assert post.target == f"{API}/invocation/id-1/error"
    assert post.headers["lambda-runtime-function-error-type"] == "Function.LookupError"


def test_the_trace_of_an_invocation_is_in_its_environment_and_gone_in_the_next() -> None:
    api = ScriptedRuntimeApi(**{"Lambda-Runtime-Trace-Id": "Root=1-a-b;Sampled=1", "Lambda-Runtime-Deadline-Ms": "9"})
    with sandbox(api):
        assert b"id-1 False Root=1-a-b;Sampled=1" in api.invoke(do="context").body
        api.next_headers = {}
        assert b"id-2 True  2" in api.invoke(do="context").body


def test_an_event_that_is_not_json_fails_alone() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api):
        api.events.put(b"{")
        assert api.posts.get(timeout=20).target == f"{API}/invocation/id-1/error"
        assert api.invoke(do="stream", pieces=["b"]).body.endswith(b"b")


class Cutting(ScriptedRuntimeApi):
    """Resets the connection of the first response: after its head, or with `reads_bodies` instead of its answer."""

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.target.endswith("id-1/response"):
            connection.reset()
        else:
            super().__call__(connection, request)


@pytest.mark.parametrize("reads_bodies", [False, True])
def test_a_connection_that_breaks_drops_the_rest_and_the_next_invocation_is_served(reads_bodies: bool) -> None:
    api = Cutting()
    with sandbox(api, reads_bodies=reads_bodies):
        api.events.put(b'{"do": "until-broken"}' if not reads_bodies else b'{"do": "stream", "pieces": ["a"]}')
        assert [api.asked.get(timeout=20), api.asked.get(timeout=20)] == ["next", "next"]
        assert api.invoke(do="context").target == f"{API}/invocation/id-2/response"


def test_a_restored_sandbox_waits_over_the_snapshot_and_then_serves() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start"):
        assert api.asked.get(timeout=20) == "restore"
        assert api.asked.get(timeout=20) == "next"
        assert api.invoke(do="stream", pieces=["a"]).body.endswith(b"a")


def test_a_sandbox_that_cannot_be_restored_says_so_and_ends() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start", FAIL_RESTORE="1") as process:
        post = api.posts.get(timeout=20)
        assert post.target == f"{API}/restore/error"
        assert post.headers["lambda-runtime-function-error-type"] == "Runtime.AfterRestoreError"
        assert process.wait(timeout=20) == 65


def test_sigterm_ends_a_waiting_sandbox_cleanly() -> None:
    api = ScriptedRuntimeApi()
    with sandbox(api) as process:
        api.asked.get(timeout=20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Request Entity Too Large"])
def test_a_response_that_is_refused_does_not_end_the_sandbox(status: str) -> None:
    class Refusing(ScriptedRuntimeApi):
        def __call__(self, connection: Connection, request: Received) -> None:
            if request.method == "POST":
                self.posts.put(request)
                connection.answer(b'{"errorType":"InvalidRequestID"}', status)
            else:
                super().__call__(connection, request)

    api = Refusing()
    with sandbox(api):
        api.invoke(do="stream", pieces=["a"])
        assert api.invoke(do="stream", pieces=["b"]).body.endswith(b"b")


def test_a_connection_that_was_closed_meanwhile_is_opened_again(tmp_path: Path) -> None:
    class Closing(ScriptedRuntimeApi):
        def __call__(self, connection: Connection, request: Received) -> None:
            super().__call__(connection, request)
            connection.close()
            if request.method == "GET":
                (tmp_path / f"closed-{self._count}").touch()

    api = Closing()
    with sandbox(api):
        for number in (1, 2, 3):
            post = api.invoke(do="stream", pieces=["a", "b"], after=str(tmp_path / f"closed-{number}"))
            assert post.target == f"{API}/invocation/id-{number}/response"


ODD_ANSWERS = [
    b"",
    b"SSH-2.0-x\r\n",
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a/../b\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\ncontent-length: 99\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}",
]


@pytest.mark.parametrize("odd", ODD_ANSWERS)
def test_a_next_that_gives_nothing_to_answer_is_asked_again(odd: bytes) -> None:
    class Odd(ScriptedRuntimeApi):
        def hand_out(self, connection: Connection, event: bytes) -> None:
            if self._count in (2, 3):
                connection.send(odd)
                connection.close()
            else:
                super().hand_out(connection, event)

    api = Odd()
    with sandbox(api):
        api.invoke(do="context")
        for _ in range(2):
            api.events.put(b"{}")
        post = api.invoke(do="context")
    assert post.target == f"{API}/invocation/id-4/response"
    assert b" 2 " in post.body, "it is still the same sandbox"


def test_a_runtime_api_that_gives_nothing_at_all_ends_the_sandbox() -> None:
    class Failing(ScriptedRuntimeApi):
        def __call__(self, connection: Connection, request: Received) -> None:
            connection.answer(b"{}", "500 Internal Server Error")

    with sandbox(Failing()) as process:
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("reads", [0, 100_000, None])
def test_a_response_that_is_not_taken_ends_in_its_time(reads: int | None) -> None:
    """Nothing, something or all of it is read, and nothing is acknowledged: the next invocation is served."""

    class Stalling(ScriptedRuntimeApi):
        def __call__(self, connection: Connection, request: Received) -> None:
            if not request.target.endswith("id-1/response"):
                super().__call__(connection, request)
            elif reads is None:
                connection.wait_for_end()
            else:
                connection.read(reads)
                over.wait(timeout=60)

    over = threading.Event()
    api = Stalling(**{"Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 4000)})
    with sandbox(api, reads_bodies=False):
        api.events.put(b'{"do": "stream", "pieces": ["a"]}' if reads is None else b'{"do": "until-broken"}')
        assert [api.asked.get(timeout=20), api.asked.get(timeout=20)] == ["next", "next"]
        over.set()
