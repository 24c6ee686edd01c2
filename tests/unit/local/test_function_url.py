"""The function URL, sandboxes and Runtime API together, with a runtime of the test's own in real processes."""

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.lambda_.function_url import FunctionUrl
from local.lambda_.invocation import Failed
from local.lambda_.sandboxes import Bounds, Launch, SandboxError, SandboxPool
from local.lambda_.url_event import MAX_EVENT_BYTES, UrlIdentity

RUNTIME = r"""
import http.client, json, os, sys, time

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
base = "/2018-06-01/runtime/invocation/"
if os.environ.get("FAILS_IN_INIT") == "report":
    headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"}
    api.request("POST", "/2018-06-01/runtime/init/error", "{}", headers)
    api.getresponse().read()
if os.environ.get("FAILS_IN_INIT"):
    sys.exit(1)

def chunk(data):
    api.send(b"%x\r\n%b\r\n" % (len(data), data))

def start(request_id, prelude, content_type="application/vnd.awslambda.http-integration-response"):
    api.putrequest("POST", base + request_id + "/response")
    api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    api.putheader("Content-Type", content_type)
    api.putheader("Transfer-Encoding", "chunked")
    api.endheaders()
    if prelude is not None:
        chunk(prelude if isinstance(prelude, bytes) else json.dumps(prelude).encode())
        chunk(bytes(8))

def end(trailers=b""):
    api.send(b"0\r\n" + trailers + b"\r\n")
    api.getresponse().read()

while True:
    api.request("GET", base + "next")
    response = api.getresponse()
    event = json.loads(response.read())
    request_id = response.headers["Lambda-Runtime-Aws-Request-Id"]
    path = event["rawPath"]
    ok = {"statusCode": 200, "headers": {"content-type": "text/plain", "x-pid": str(os.getpid())}}
    if path == "/event":
        event["pid"] = os.getpid()
        start(request_id, ok); chunk(json.dumps(event).encode()); end()
    elif path == "/no-prelude":
        start(request_id, None, "text/html"); chunk(b"raw"); end()
    elif path == "/buffered":
        api.request("POST", base + request_id + "/response", b'{"plain": "result"}')
        api.getresponse().read()
    elif path == "/split":
        start(request_id, None, "application/vnd.awslambda.http-integration-response")
        for piece in (b'{"statusCode"', b": 201}" + bytes(3), bytes(5) + b"body"): chunk(piece)
        end()
    elif path == "/answer":
        start(request_id, json.loads(event["body"])); chunk(b"x"); end()
    elif path == "/bytes":
        start(request_id, event["body"].encode()); chunk(b"x"); end()
    elif path == "/endless-prelude":
        start(request_id, b" " * 20000); end()
    elif path == "/large":
        start(request_id, ok)
        for _ in range(200): chunk(b"x" * 65536)
        end()
    elif path == "/wait":
        start(request_id, ok); chunk(b"begin\n")
        while not os.path.exists(event["body"]): time.sleep(0.01)
        chunk(b"end\n"); end()
        open(event["body"] + ".done", "w").close()
    elif path == "/hang":
        time.sleep(3600)
    elif path == "/hang-in-stream":
        start(request_id, ok); chunk(b"begin\n"); time.sleep(3600)
    elif path == "/exit":
        os._exit(3)
    elif path == "/exit-in-stream":
        start(request_id, ok); chunk(b"begin\n"); os._exit(3)
    elif path == "/error":
        api.request("POST", base + request_id + "/error", "{}", {"Lambda-Runtime-Function-Error-Type": "Function.Oops"})
        api.getresponse().read()
    elif path == "/error-in-stream":
        start(request_id, ok); chunk(b"begin\n"); end(b"Lambda-Runtime-Function-Error-Type: Function.Oops\r\n")
"""


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error_code(self) -> str:
        return self.json["error"]["code"]

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


@dataclass
class HeldStream:
    pid: int
    gate: Path
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def function_is_done(self) -> bool:
        return Path(f"{self.gate}.done").exists()

    async def rest(self) -> bytes:
        async with asyncio.timeout(20):
            return await self.reader.readuntil(b"0\r\n\r\n")


@dataclass
class Bench:
    port: int
    pool: SandboxPool
    folder: Path
    reports: list[str] = field(default_factory=list[str])

    async def ask(self, path: str, method: str = "POST", body: Any = None, **headers: str) -> Answer:
        def exchange() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request(method, path, body, {name.replace("_", "-"): headers[name] for name in headers})
                response = connection.getresponse()
                return Answer(response.status, response.getheaders(), response.read())
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)

    async def pid(self) -> int:
        """The process that served a request just now, and is free again."""
        pid = (await self.ask("/event")).json["pid"]
        await self.idle(pid)
        return pid

    async def idle(self, pid: int) -> None:
        """Wait until the sandbox with this process has asked for its next invocation."""
        await self.until(lambda: any(sandbox.pid == pid for sandbox in self.pool._warm))

    @asynccontextmanager
    async def held_stream(self) -> "AsyncGenerator[HeldStream]":
        """A response that has begun and ends when it is released."""
        gate = self.folder / secrets.token_hex(4)
        body = str(gate).encode()
        head = b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(head + body)
        async with asyncio.timeout(20):
            begin = await reader.readuntil(b"begin\n\r\n")
        pid = begin.decode().partition("x-pid: ")[2].partition("\r\n")[0]
        yield HeldStream(int(pid), gate, reader, writer)
        writer.transport.abort()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 (what is waited for happens in other processes)
                await asyncio.sleep(0.01)


def serve(
    folder: Path,
    test: Callable[[Bench], Awaitable[None]],
    environment: dict[str, str] | None = None,
    *,
    timeout: float = 20.0,
    bounds: Bounds | None = None,
) -> None:
    """Run `test` against a function URL whose sandboxes run RUNTIME."""
    (folder / "runtime.py").write_text(RUNTIME)
    launch = Launch((sys.executable, "-S", "runtime.py"), environment or {}, folder, folder / "sandbox.log")
    reports: list[str] = []

    async def main() -> None:
        pool = SandboxPool(launch, "arn:f", timeout=timeout, report=reports.append, bounds=bounds or Bounds())
        url = FunctionUrl(pool.invoke, UrlIdentity("abc.lambda-url.us-east-1.on.aws"))
        try:
            await pool.open()
            await test(Bench(await url.start("127.0.0.1", 0), pool, folder, reports))
        finally:
            await url.close()
            await pool.close()

    asyncio.run(main())
    assert "Traceback" not in (folder / "sandbox.log").read_text()


def test_request_becomes_an_event_and_the_answer_a_response(tmp_path: Path):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/event?a=1", body=b'{"x":1}', content_type="application/json", X_Own="y")
        assert answer.status == 200
        assert answer.header("content-type") == ["text/plain"]
        assert len(answer.header("x-amzn-requestid")) == len(answer.header("date")) == 1
        assert answer.json["body"] == '{"x":1}'
        assert answer.json["headers"]["x-own"] == "y"
        assert answer.json["rawQueryString"] == "a=1"

    serve(tmp_path, test)


def test_chunked_request_body(tmp_path: Path):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/event", body=iter([b"one ", b"two"]), content_type="text/plain")
        assert answer.json["body"] == "one two"
        assert answer.json["headers"]["content-length"] == "7"
        assert "transfer-encoding" not in answer.json["headers"]

    serve(tmp_path, test)


def test_status_headers_and_cookies_of_the_prelude(tmp_path: Path):
    async def test(bench: Bench) -> None:
        prelude = {
            "statusCode": 418,
            "headers": {"X-Own": "a", "Content-Length": "99", "Date": "now"},
            "cookies": ["a=1", "b=2"],
        }
        answer = await bench.ask("/answer", body=json.dumps(prelude), content_type="application/json")
        assert (answer.status, answer.body) == (418, b"x")
        assert answer.header("x-own") == ["a"]
        assert answer.header("date") == ["now"]
        assert answer.header("content-length") == []
        assert answer.header("set-cookie") == ["a=1", "b=2"]
        assert answer.header("content-type") == ["application/octet-stream"]

    serve(tmp_path, test)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/no-prelude", 200, b"raw"), ("/buffered", 200, b'{"plain": "result"}'), ("/split", 201, b"body")],
)
def test_answers_of_other_forms(tmp_path: Path, path: str, status: int, body: bytes):
    async def test(bench: Bench) -> None:
        answer = await bench.ask(path)
        assert (answer.status, answer.body) == (status, body)

    serve(tmp_path, test)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE"])
def test_other_methods(tmp_path: Path, method: str):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/event", method)
        assert answer.status == 200
        assert (answer.body == b"") is (method == "HEAD")

    serve(tmp_path, test)


def test_status_without_a_body(tmp_path: Path):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/answer", body='{"statusCode": 204}', content_type="application/json")
        assert (answer.status, answer.body) == (204, b"")

    serve(tmp_path, test)


@pytest.mark.parametrize(
    "prelude",
    [
        '{"statusCode": 100}',
        '{"statusCode": "x"}',
        '{"headers": {"a b": "c"}}',
        '{"headers": {"a": "b\\r\\nc: d"}}',
        "[]",
        "no json",
    ],
)
def test_prelude_that_makes_no_response(tmp_path: Path, prelude: str):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/bytes", body=prelude, content_type="text/plain")
        assert (answer.status, answer.error_code) == (502, "invalid_function_response")
        assert (await bench.ask("/event")).status == 200

    serve(tmp_path, test)


def test_prelude_without_end(tmp_path: Path):
    async def test(bench: Bench) -> None:
        assert (await bench.ask("/endless-prelude")).error_code == "invalid_function_response"

    serve(tmp_path, test)


def test_large_answer_is_complete(tmp_path: Path):
    async def test(bench: Bench) -> None:
        assert len((await bench.ask("/large")).body) == 200 * 65536

    serve(tmp_path, test)


def test_chunks_arrive_before_the_answer_ends(tmp_path: Path):
    async def test(bench: Bench) -> None:
        async with bench.held_stream() as stream:
            stream.gate.touch()
            assert await stream.rest() == b"4\r\nend\n\r\n0\r\n\r\n"

    serve(tmp_path, test)


def test_client_that_leaves_does_not_interrupt_the_function(tmp_path: Path):
    async def test(bench: Bench) -> None:
        async with bench.held_stream() as stream:
            stream.writer.transport.abort()
            stream.gate.touch()
            await bench.until(lambda: stream.function_is_done)
        await bench.idle(stream.pid)
        assert await bench.pid() == stream.pid
        assert bench.reports == []

    serve(tmp_path, test)


def test_warm_sandbox_is_reused(tmp_path: Path):
    async def test(bench: Bench) -> None:
        assert len({await bench.pid() for _ in range(5)}) == 1

    serve(tmp_path, test)


def test_concurrent_requests_have_a_sandbox_each(tmp_path: Path):
    async def test(bench: Bench) -> None:
        async with AsyncExitStack() as held:
            streams = [await held.enter_async_context(bench.held_stream()) for _ in range(5)]
            assert len({*(stream.pid for stream in streams), await bench.pid()}) == 6
            for stream in streams:
                stream.gate.touch()
                assert b"end" in await stream.rest()

    serve(tmp_path, test)


def test_limit_of_concurrency(tmp_path: Path):
    async def test(bench: Bench) -> None:
        async with bench.held_stream() as stream:
            refused = await bench.ask("/event")
            assert (refused.status, refused.error_code) == (429, "too_many_requests")
            assert refused.header("retry-after") == ["1"]
            stream.gate.touch()
            assert b"end" in await stream.rest()
            await bench.until(lambda: stream.function_is_done)

    serve(tmp_path, test, bounds=Bounds(most=1))


@pytest.mark.parametrize(("path", "code"), [("/exit", "sandbox_crashed"), ("/error", "function_failed")])
def test_failure_before_the_answer(tmp_path: Path, path: str, code: str):
    async def test(bench: Bench) -> None:
        answer = await bench.ask(path)
        assert (answer.status, answer.error_code) == (502, code)
        assert (await bench.ask("/event")).status == 200, "the next request is served"
        await bench.until(lambda: len(bench.reports) == (path == "/exit"))

    serve(tmp_path, test)


@pytest.mark.parametrize("path", ["/exit-in-stream", "/error-in-stream"])
def test_failure_in_the_middle_cuts_the_answer(tmp_path: Path, path: str):
    async def test(bench: Bench) -> None:
        with pytest.raises(http.client.IncompleteRead) as cut:
            await bench.ask(path)
        assert cut.value.partial == b"begin\n", "what the function sent arrives"
        assert (await bench.ask("/event")).status == 200

    serve(tmp_path, test)


def test_timeout_before_the_answer(tmp_path: Path):
    async def test(bench: Bench) -> None:
        answer = await bench.ask("/hang")
        assert (answer.status, answer.error_code) == (502, "function_timeout")
        await bench.until(lambda: len(bench.reports) == 1)
        assert (await bench.ask("/event")).status == 200

    serve(tmp_path, test, timeout=3.0)


def test_timeout_in_the_middle(tmp_path: Path):
    async def test(bench: Bench) -> None:
        with pytest.raises(http.client.IncompleteRead):
            await bench.ask("/hang-in-stream")

    serve(tmp_path, test, timeout=3.0)


def test_killed_sandbox_ends_its_request_only(tmp_path: Path):
    async def test(bench: Bench) -> None:
        async with bench.held_stream() as killed, bench.held_stream() as other:
            os.kill(killed.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                assert await killed.reader.read() == b"", "the connection ends without the end of the body"
            other.gate.touch()
            assert b"end" in await other.rest()
        await bench.until(lambda: any(f"sandbox {killed.pid} ended" in report for report in bench.reports))
        await bench.idle(other.pid)
        assert await bench.pid() == other.pid

    serve(tmp_path, test)


def test_idle_sandbox_that_is_killed_is_replaced(tmp_path: Path):
    async def test(bench: Bench) -> None:
        pid = await bench.pid()
        os.kill(pid, signal.SIGKILL)
        await bench.until(lambda: bool(bench.reports))
        assert f"idle sandbox {pid} ended" in bench.reports[0]
        assert await bench.pid() != pid

    serve(tmp_path, test)


def end_at_once(pid: int) -> None:
    """End a child process before the loop has its turn again."""
    os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # its status may have been collected before
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_sandbox_that_has_just_ended_is_given_no_request(tmp_path: Path):
    """Before the loop has heard of its end."""

    async def test(bench: Bench) -> None:
        pid = await bench.pid()
        end_at_once(pid)
        event = {"rawPath": "/error", "requestContext": {"http": {"method": "POST"}}}
        invocation = await bench.pool.invoke(json.dumps(event).encode(), "")
        assert await invocation.get() == Failed("Function.Oops", b"{}"), "another one has served it"

    serve(tmp_path, test)


def test_idle_sandboxes_are_stopped(tmp_path: Path):
    async def test(bench: Bench) -> None:
        pid = (await bench.ask("/event")).json["pid"]

        def is_gone() -> bool:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return False

        await bench.until(is_gone)
        assert bench.reports == [], "that is no news"
        assert (await bench.ask("/event")).json["pid"] != pid

    serve(tmp_path, test, bounds=Bounds(idle_seconds=0.1))


@pytest.mark.parametrize(
    ("how", "error_type"), [("report", "Runtime.ImportModuleError"), ("exit", "Runtime.ExitError")]
)
def test_proxy_that_cannot_start_is_known_at_once(tmp_path: Path, how: str, error_type: str):
    async def test(bench: Bench) -> None:
        raise AssertionError(bench)

    with pytest.raises(SandboxError, match=rf"did not start \({error_type}\); see .*sandbox\.log") as refused:
        serve(tmp_path, test, {"FAILS_IN_INIT": how})
    assert refused.value.error_type == error_type


def test_proxy_that_cannot_be_executed(tmp_path: Path):
    async def main() -> None:
        launch = Launch((tmp_path / "bootstrap",), {}, tmp_path, tmp_path / "sandbox.log")
        pool = SandboxPool(launch, "arn:f", timeout=20.0, report=print)
        with pytest.raises(SandboxError, match="No such file") as refused:
            await pool.open()
        assert refused.value.error_type == "Runtime.InvalidEntrypoint"
        await pool.close()

    asyncio.run(main())


def test_old_client_gets_the_end_of_the_connection_as_the_end_of_the_body(tmp_path: Path):
    async def test(bench: Bench) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(b"GET /split HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(20):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 201 Created")
        assert b"chunked" not in head
        assert body == b"body"

    serve(tmp_path, test)


def test_body_as_large_as_lambda_takes(tmp_path: Path):
    async def test(bench: Bench) -> None:
        fits = await bench.ask("/buffered", body=b"x" * (MAX_EVENT_BYTES - 4096), content_type="text/plain")
        assert fits.status == 200
        too_large = b"x" * (MAX_EVENT_BYTES + 1)
        declared = await bench.ask("/buffered", body=too_large, content_type="text/plain")
        chunked = await bench.ask("/buffered", body=iter([too_large]), content_type="text/plain")
        encoded = await bench.ask("/buffered", body=b"x" * (MAX_EVENT_BYTES - 4096), content_type="audio/wav")
        assert [answer.status for answer in (declared, chunked, encoded)] == [413] * 3
        assert declared.error_code == "request_too_large"

    serve(tmp_path, test)


def test_client_that_waits_for_100_continue(tmp_path: Path):
    async def test(bench: Bench) -> None:
        def exchange() -> bytes:
            with socket.create_connection(("127.0.0.1", bench.port), timeout=20) as client:
                client.sendall(
                    b"POST /buffered HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
                )
                assert client.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
                client.sendall(b"{}")
                return client.recv(1000)

        assert (await asyncio.to_thread(exchange)).startswith(b"HTTP/1.1 200 OK\r\n")

    serve(tmp_path, test)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 400_000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http_request(tmp_path: Path, request_bytes: bytes):
    async def test(bench: Bench) -> None:
        def exchange() -> bytes:
            with socket.create_connection(("127.0.0.1", bench.port), timeout=20) as client:
                client.sendall(request_bytes)
                answer = b""
                while piece := client.recv(65536):
                    answer += piece
                return answer

        head, _, body = (await asyncio.to_thread(exchange)).partition(b"\r\n\r\n")
        assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
        assert json.loads(body)["error"]["code"] == "invalid_http"
        assert (await bench.ask("/event")).status == 200

    serve(tmp_path, test)


def test_connection_serves_request_after_request(tmp_path: Path):
    async def test(bench: Bench) -> None:
        def exchange() -> list[int]:
            connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=20)
            statuses: list[int] = []
            for path in ("/event", "/exit", "/buffered", "/answer"):
                connection.request("POST", path, '{"statusCode": 204}', {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
                assert connection.sock is not None, "the connection is kept"
            connection.close()
            return statuses

        assert await asyncio.to_thread(exchange) == [200, 502, 200, 204]

    serve(tmp_path, test)
