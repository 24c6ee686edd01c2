"""The answers, states and messages are those that AWS's Runtime Interface Emulator gave to the same requests."""

import asyncio
import base64
import http.client
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.lambda_.invocation import Ended, Failed, Invocation, Part, Started
from local.lambda_.runtime_api import MAX_RESPONSE_BYTES, RuntimeApi

PATH = "/2018-06-01/runtime"
STREAMING = {
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Lambda-Runtime-Function-Response-Mode": "streaming",
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error_type(self) -> str:
        return json.loads(self.body)["errorType"]


class Runtime:
    """A runtime's side of the API, blocking in threads."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address, timeout=20)

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        def exchange() -> Answer:
            chunked = body is not None and not isinstance(body, (bytes, str))
            self.connection.request(method, PATH + path, body, headers or {}, encode_chunked=chunked)
            response = self.connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

        return await asyncio.to_thread(exchange)

    async def next(self) -> Answer:
        return await self.ask("GET", "/invocation/next")

    async def send_raw(self, data: bytes) -> Answer:
        """Send bytes as they are, read the answer."""

        def exchange() -> Answer:
            assert self.connection.sock is not None
            self.connection.sock.sendall(data)
            response = http.client.HTTPResponse(self.connection.sock, method="POST")
            response.begin()
            return Answer(response.status, dict(response.getheaders()), response.read())

        return await asyncio.to_thread(exchange)


@dataclass
class Bench:
    api: RuntimeApi
    runtime: Runtime
    parts: list[Part] = field(default_factory=list[Part])

    async def hand_over(self, event: bytes = b'{"a":1}') -> Invocation:
        """Give the runtime an invocation as soon as it waits for one."""
        invocation = Invocation("id-1", event, 1700000000.5, "arn:aws:lambda:us-east-1:0:function:f", "Root=1-a-b")
        async with asyncio.timeout(20):
            await self.api.idle.wait()
        self.api.hand_over(invocation)
        return invocation

    async def invoked(self, event: bytes = b'{"a":1}') -> Invocation:
        """An invocation that the runtime has got."""
        waiting = asyncio.create_task(self.runtime.next())
        invocation = await self.hand_over(event)
        assert (await waiting).status == 200
        return invocation


async def all_parts(invocation: Invocation) -> list[Part]:
    parts: list[Part] = []
    async with asyncio.timeout(20):
        while not parts or not isinstance(parts[-1], (Ended, Failed)):
            parts.append(await invocation.get())
    return parts


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        api = RuntimeApi()
        bench = Bench(api, Runtime(await api.start()))
        try:
            await test(bench)
        finally:
            bench.runtime.connection.close()
            await api.close()

    asyncio.run(main())


def test_next_gives_the_event_with_the_headers_of_lambda():
    async def test(bench: Bench) -> None:
        waiting = asyncio.create_task(bench.runtime.next())
        await bench.hand_over(b'{"a":"\xc3\xbc"}')
        answer = await waiting
        assert answer.body == b'{"a":"\xc3\xbc"}'
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert headers["lambda-runtime-aws-request-id"] == "id-1"
        assert headers["lambda-runtime-deadline-ms"] == "1700000000500"
        assert headers["lambda-runtime-invoked-function-arn"] == "arn:aws:lambda:us-east-1:0:function:f"
        assert headers["lambda-runtime-trace-id"] == "Root=1-a-b"
        assert headers["content-type"] == "application/json"
        again = await bench.runtime.next()
        assert again.body == answer.body, "a runtime that asks again before it has answered gets the same event"

    run(test)


def test_streamed_response_is_passed_on_piece_by_piece():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        more = asyncio.Event()
        loop = asyncio.get_running_loop()

        def body():
            yield b"prelude"
            yield b"first"
            asyncio.run_coroutine_threadsafe(more.wait(), loop).result(20)
            yield b"second"

        posting = asyncio.create_task(bench.runtime.ask("POST", "/invocation/id-1/response", body(), STREAMING))
        async with asyncio.timeout(20):
            parts = [await invocation.get()]
            while b"".join(part for part in parts if isinstance(part, bytes)) != b"preludefirst":
                parts.append(await invocation.get())
        assert parts[0] == Started(STREAMING["Content-Type"], streaming=True)
        more.set()
        rest = await all_parts(invocation)
        assert rest == [b"second", Ended()]
        answer = await posting
        assert (answer.status, json.loads(answer.body)) == (202, {"status": "OK"})
        assert not bench.api.idle.is_set(), "work after the response keeps the sandbox busy"
        waiting = asyncio.create_task(bench.runtime.next())
        await bench.hand_over()
        assert (await waiting).status == 200

    run(test)


def test_buffered_response():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        headers = {"Content-Type": "application/json"}
        answer = await bench.runtime.ask("POST", "/invocation/id-1/response", b'{"ok":1}', headers)
        assert answer.status == 202
        assert await all_parts(invocation) == [Started("application/json", streaming=False), b'{"ok":1}', Ended()]

    run(test)


@pytest.mark.parametrize(
    ("sent", "understood"),
    [("Function.Broken", "Function.Broken"), ("Function.bad type", "Function.Unknown"), ("x", "Runtime.Unknown")],
)
def test_trailers_are_a_failure_in_the_middle(sent: str, understood: str):
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        report = base64.b64encode(b'{"errorMessage":"m"}').decode()
        head = f"POST {PATH}/invocation/id-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in STREAMING.items())
        head += "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
        trailers = f"Lambda-Runtime-Function-Error-Type: {sent}\r\nLambda-Runtime-Function-Error-Body: {report}\r\n"
        answer = await bench.runtime.send_raw(f"{head}1\r\na\r\n0\r\n{trailers}\r\n".encode())
        assert answer.status == 202
        parts = await all_parts(invocation)
        assert parts[1:] == [b"a", Failed(understood, b'{"errorMessage":"m"}')]

    run(test)


def test_error_before_the_response():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        headers = {"Lambda-Runtime-Function-Error-Type": "Function.Oops"}
        answer = await bench.runtime.ask("POST", "/invocation/id-1/error", b'{"errorType":"Oops"}', headers)
        assert answer.status == 202
        assert await all_parts(invocation) == [Failed("Function.Oops", b'{"errorType":"Oops"}')]
        late = await bench.runtime.ask("POST", "/invocation/id-1/error", b"{}")
        assert (late.status, late.error_type) == (403, "InvalidStateTransition")

    run(test)


def test_second_answer_is_refused():
    async def test(bench: Bench) -> None:
        await bench.invoked()
        assert (await bench.runtime.ask("POST", "/invocation/id-1/response", b"{}")).status == 202
        for kind, state in (("response", "InvocationResponse"), ("error", "InvocationErrorResponse")):
            answer = await bench.runtime.ask("POST", f"/invocation/id-1/{kind}", b"{}")
            message = json.loads(answer.body)["errorMessage"]
            assert (answer.status, answer.error_type) == (403, "InvalidStateTransition")
            assert message == (
                f"State transition from RuntimeResponseSentState to {state} failed for runtime."
                " Error: State transition is not allowed"
            )

    run(test)


def test_answer_to_another_request_is_refused():
    async def test(bench: Bench) -> None:
        first = await bench.runtime.ask("POST", "/invocation/id-0/response", b"{}")
        assert (first.status, first.error_type) == (400, "InvalidRequestID"), "before any invocation"
        await bench.invoked()
        for kind in ("response", "error"):
            answer = await bench.runtime.ask("POST", f"/invocation/id-0/{kind}", b"{}")
            assert (answer.status, json.loads(answer.body)["errorMessage"]) == (400, "Invalid request ID")

    run(test)


def test_late_answer_to_an_earlier_invocation_of_the_same_id_is_gone():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        for kind in ("response", "error"):
            headers = {"lambda-runtime-invocation-id": "of-another"}
            late = await bench.runtime.ask("POST", f"/invocation/id-1/{kind}", b"{}", headers)
            assert (late.status, late.error_type) == (410, "ErrorRuntimeInvokeTimeout")
        headers = {"lambda-runtime-invocation-id": invocation.once}
        assert (await bench.runtime.ask("POST", "/invocation/id-1/response", b"{}", headers)).status == 202
        assert isinstance((await all_parts(invocation))[-1], Ended)

    run(test)


def test_response_that_is_too_large_is_refused():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        answer = await bench.runtime.ask("POST", "/invocation/id-1/response", b"x" * (MAX_RESPONSE_BYTES + 1))
        assert (answer.status, answer.error_type) == (413, "RequestEntityTooLarge")
        (failure,) = await all_parts(invocation)
        assert isinstance(failure, Failed)
        assert failure.error_type == "Function.ResponseSizeTooLarge"

    run(test)


def test_streamed_response_may_be_larger():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        body = (b"x" * 65536 for _ in range(120))
        posting = asyncio.create_task(bench.runtime.ask("POST", "/invocation/id-1/response", body, STREAMING))
        parts = await all_parts(invocation)
        assert sum(len(part) for part in parts if isinstance(part, bytes)) == 120 * 65536
        assert (await posting).status == 202

    run(test)


def test_unknown_response_mode_is_refused():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        headers = {"Lambda-Runtime-Function-Response-Mode": "Streaming"}
        answer = await bench.runtime.ask("POST", "/invocation/id-1/response", b"{}", headers)
        assert (answer.status, answer.error_type) == (400, "InvalidFunctionResponseMode")
        assert await all_parts(invocation) == [Failed("Runtime.InvalidResponseModeHeader")]
        after = await bench.runtime.next()
        assert (after.status, after.error_type) == (403, "InvalidStateTransition")

    run(test)


def test_response_that_breaks_off_is_a_failure():
    async def test(bench: Bench) -> None:
        invocation = await bench.invoked()
        head = f"POST {PATH}/invocation/id-1/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in STREAMING.items())
        assert bench.runtime.connection.sock is not None
        bench.runtime.connection.sock.sendall(f"{head}\r\n1\r\na\r\n".encode())
        bench.runtime.connection.close()
        assert (await all_parts(invocation))[1:] == [b"a", Failed("Runtime.TruncatedResponse")]

    run(test)


def test_init_error():
    async def test(bench: Bench) -> None:
        headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.ImportModuleError"}
        answer = await bench.runtime.ask("POST", "/init/error", b'{"errorMessage":"m"}', headers)
        assert answer.status == 202
        assert bench.api.init_error == Failed("Runtime.ImportModuleError", b'{"errorMessage":"m"}')
        again = await bench.runtime.ask("POST", "/init/error", b"{}")
        assert (again.status, again.error_type) == (403, "InvalidStateTransition")

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/restore/next", 404),
        ("POST", "/restore/error", 404),
        ("GET", "/nothing", 404),
        ("POST", "/invocation/next", 405),
        ("GET", "/invocation/id-1/response", 405),
    ],
)
def test_other_paths_and_methods(method: str, path: str, status: int):
    async def test(bench: Bench) -> None:
        assert (await bench.runtime.ask(method, path, b"")).status == status

    run(test)
