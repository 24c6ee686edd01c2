"""The fault server does to the byte what a case says, and the suite's client sees it; on loopback, without a proxy."""

import gzip
import json
import socket
from collections.abc import Callable, Iterator

import pytest

from conformance.__main__ import main
from conformance.case import Seen
from conformance.cases import CASES
from conformance.chat import BEGINNING, DONE, STREAM, WITHOUT_USAGE
from conformance.client import Call, HttpClient, NoAnswerError
from conformance.runner import Deployment
from conformance.server import FaultServer
from conformance.wire import PLACE, Asked
from tests.fakes import Connection, Received, ScriptedServer

RUN = "0123456789abcdef"
OTHER_RUN = "c" * 16


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(CASES).running() as running:
        yield running


def of_run(*pieces: bytes) -> bytes:
    return b"".join(pieces).replace(PLACE, RUN.encode())


def body_for(case: str, **fields: object) -> bytes:
    return json.dumps({"model": f"conformance-{case}", "user": RUN, **fields}).encode()


def ask(
    server: FaultServer, case: str, on_body: Callable[[bytearray], bool] = lambda _: True, **fields: object
) -> Seen:
    call = Call("POST", "/v1/chat/completions", {}, body_for(case, **fields))
    return HttpClient(f"http://127.0.0.1:{server.port}", timeout=20).call(call, on_body)


def raw(server: FaultServer, case: str) -> bytes:
    """Everything that comes until the server closes."""
    body = body_for(case)
    with socket.create_connection(("127.0.0.1", server.port), 20) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        received = b""
        while piece := sock.recv(65536):
            received += piece
        return received


def test_a_stream_of_one_byte_chunks(server: FaultServer) -> None:
    seen = ask(server, "one-byte-chunks")
    assert (seen.status, seen.body, seen.whole) == (200, of_run(*STREAM), True)
    assert seen.values("content-type") == ["text/event-stream; charset=utf-8"]


@pytest.mark.parametrize(("asked", "body"), [(True, STREAM), (False, WITHOUT_USAGE)])
def test_usage_comes_when_it_is_asked_for(server: FaultServer, asked: bool, body: tuple[bytes, ...]) -> None:
    seen = ask(server, "usage-unasked", stream=True, stream_options={"include_usage": asked})
    assert seen.body == of_run(*body)


def test_stream_options_without_a_stream_are_refused_as_openai_does(server: FaultServer) -> None:
    assert ask(server, "usage-unasked", stream_options={"include_usage": True}).status == 400


def test_a_compressed_stream(server: FaultServer) -> None:
    seen = ask(server, "gzip-split")
    assert seen.values("content-encoding") == ["gzip"]
    assert gzip.decompress(seen.body) == of_run(*STREAM)


@pytest.mark.parametrize("case", ["cut-between-events", "reset", "cut-content-length", "chunk-without-size"])
def test_a_body_that_breaks_off_is_not_whole(server: FaultServer, case: str) -> None:
    call = Call("POST", "/v1/chat/completions", {}, body_for(case))
    server.runs.got(RUN.encode(), len(BEGINNING))
    seen = HttpClient(f"http://127.0.0.1:{server.port}", timeout=20).call(call)
    assert (seen.body, seen.whole) == (of_run(*BEGINNING), False)


@pytest.mark.parametrize("case", ["cut-before-status", "reset-before-status", "cut-in-status", "not-http"])
def test_what_is_no_answer(server: FaultServer, case: str) -> None:
    with pytest.raises(NoAnswerError):
        ask(server, case)


def test_the_bytes_of_a_broken_chunk(server: FaultServer) -> None:
    assert raw(server, "cut-in-chunk").endswith(b'40\r\ndata: {"i')


def test_a_large_request_that_is_refused_early_has_its_answer(server: FaultServer) -> None:
    seen = ask(server, "early-error", text="x" * 3_000_000)
    assert (seen.status, seen.whole) == (400, True)
    assert seen.values("connection") == ["close"]


def test_a_run_is_counted(server: FaultServer) -> None:
    assert [ask(server, "retry-503", user="d" * 16).status for _ in range(3)] == [503, 200, 200]


def test_events_wait_for_their_client(server: FaultServer) -> None:
    got: list[bytes] = []

    def tell(body: bytearray) -> bool:
        got.append(bytes(body))
        events = body.count(b"\n\n")
        target = f"/v1/models/conformance-progress?user={OTHER_RUN}&got={events}"
        HttpClient(f"http://127.0.0.1:{server.port}", timeout=20).call(Call("GET", target, {}))
        return True

    seen = ask(server, "as-they-come", tell, user=OTHER_RUN)
    assert [piece.count(b"\n\n") for piece in got] == list(range(1, len(STREAM) + 1))
    assert seen.body.endswith(DONE)


@pytest.mark.parametrize(
    ("target", "body", "case"),
    [
        ("/v1/x", b'{"model":"conformance-clean","user":"0123456789abcdef"}', "clean"),
        ("/v1/x", b'{"user": "0123456789abcdef", "model" : "conformance-usage-asked/more"}', "usage-asked"),
        ("/v1/x", b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nconformance-speech\r\n--b', "speech"),
        ("/v1/files/conformance-files-get/content?user=0123456789abcdef", b"", "files-get"),
        ("/v1/models/conformance-probe", b'{"model": "conformance-clean"}', "clean"),
        ("/v1/models", b'{"model": "gpt"}', None),
    ],
)
def test_which_case_a_request_chooses(target: str, body: bytes, case: str | None) -> None:
    asked = Asked.by(target, body)
    assert (asked.case if asked else None) == case


def answered(answer: bytes, method: str = "GET", *, leave: bool = False) -> Seen:
    """What the client makes of an answer behind which the server closes."""
    with ScriptedServer(lambda connection, _: (connection.send(answer), connection.close())[0]) as server:
        return HttpClient(server.url, timeout=5).call(Call(method, "/", {}), lambda _: not leave)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "body", "whole"),
    [
        (OK + b"content-length: 3\r\n\r\nabc", b"abc", True),
        (OK + b"content-length: 4\r\n\r\nabc", b"abc", False),
        (OK + b"\r\nabc", b"abc", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n", b"abc", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n", b"abc", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", b"abc", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"abc", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ],
)
def test_how_an_answer_ended(answer: bytes, body: bytes, whole: bool) -> None:
    seen = answered(answer)
    assert (seen.body, seen.whole) == (body, whole)


def test_an_answer_to_head_has_no_body() -> None:
    assert answered(OK + b"content-length: 9\r\n\r\n", "HEAD").whole


def test_a_client_that_left_has_not_seen_the_end() -> None:
    seen = answered(OK + b"content-length: 3\r\n\r\nabc", leave=True)
    assert (seen.body, seen.whole) == (b"abc", False)


def test_a_header_that_comes_twice_is_seen_twice() -> None:
    assert answered(OK + b"A: 1\r\na: 2\r\ncontent-length: 0\r\n\r\n").values("a") == ["1", "2"]


@pytest.mark.parametrize("url", ["127.0.0.1:1/x", "ftp://127.0.0.1/x", "http:///x"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match="no http"):
        HttpClient(url)


def run(server: FaultServer, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command against the fault server itself, which is no proxy."""
    environ = {"URL": f"http://127.0.0.1:{server.port}/nobody", "KEY": "key"}
    status = main(["run", *arguments], environ)
    out, err = capsys.readouterr()
    return status, out, err


def test_without_a_proxy_every_stream_fails(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(server, capsys, "--only", "streams")
    lines = out.splitlines()
    assert status == 1
    assert len(lines) > 30
    assert all("  fail  " in line for line in lines)
    assert "x-inference-id" in out
    assert err == f"0 pass, {len(lines)} fail, 0 skip\n"


def test_results_for_programs(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(server, capsys, "--only", "proxy-keeps-alive", "--only", "clea?", "--json")
    clean, slow = json.loads(out)
    assert status == 1
    assert (clean["case"], clean["verdict"]) == ("clean", "fail")
    assert (slow["verdict"], slow["why"]) == ("skip", "takes 17 seconds: allow it with --longest")


def test_what_passes_is_no_failure(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, capsys, "--only", "proxy-keeps-alive")[0] == 0


def test_a_name_that_no_case_has(server: FaultServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, capsys, "--only", "nothing")[0] == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/conformance", "http://127.0.0.1:1"])
def test_where_nobody_listens(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--url", url, "--key", "k"], {}) == 2
    assert capsys.readouterr().err


def test_a_deployment_without_the_fault_server(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(connection: Connection, _: Received) -> None:
        connection.answer(b'{"error": {"code": "unknown_server"}}', "404 Not Found")

    with ScriptedServer(refuse) as server:
        assert main(["run", "--url", f"{server.url}/conformance", "--key", "k"], {}) == 2
    assert "The fault server is not behind 'conformance'" in capsys.readouterr().err


def test_a_server_that_is_not_listed_leaves_its_cases_out(capsys: pytest.CaptureFixture[str]) -> None:
    def probe(connection: Connection, request: Received) -> None:
        listed = "-impatient" not in request.target
        connection.answer(b'{"received": {}}' if listed else b"{}", "200 OK" if listed else "404 Not Found")

    with ScriptedServer(probe) as server:
        assert main(["run", "--url", f"{server.url}/x", "--key", "k", "--only", "stall"], {}) == 0
    assert "needs the server 'x-impatient' (404)" in capsys.readouterr().out


def test_the_command_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"], {}) == 2
    assert "--url" in capsys.readouterr().err


def test_the_cases_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--only", "usage"], {}) == 0
    assert "usage-unasked " in capsys.readouterr().out


def test_a_key_that_cannot_be_looked_at_just_then_is_no_answer_to_a_case() -> None:
    def busy_once(connection: Connection, request: Received) -> None:
        if len(server.received) == 1:
            connection.answer(b'{"error": {"code": "authorization_unavailable"}}', "503 Service Unavailable")
        else:
            connection.answer(b'{"received": {}}')

    with ScriptedServer(busy_once) as server:
        Deployment(f"{server.url}/conformance", "key").look([])
        assert len(server.received) == 2
