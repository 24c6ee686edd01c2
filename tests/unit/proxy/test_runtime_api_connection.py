"""The connection to the Runtime API: what goes over it, whole, and how long each step may take, on a clock of the test.

Both sides are in one thread, but where much is said: the kernel keeps what is said until the other side reads it.
"""

import json
import math
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from proxy.http.wire import BrokenError, Head, HttpError, SilenceError
from proxy.runtime_api import RuntimeApi

NOW = 1000.0
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok"


class Other:
    """The Runtime API's side."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, 0), family=family)
        self.address = f"[{host}]" if ":" in host else host
        self.address += f":{self._listening.getsockname()[1]}"
        self.taken: list[socket.socket] = []

    def take(self) -> socket.socket:
        """The next connection that was opened."""
        self.taken.append(self._listening.accept()[0])
        return self.taken[-1]

    def has_none(self) -> bool:
        """Whether no other connection was opened."""
        self._listening.setblocking(False)
        try:
            self.take()
        except BlockingIOError:
            return True
        finally:
            self._listening.setblocking(True)
        return False

    def close(self) -> None:
        for each in (self._listening, *self.taken):
            each.close()


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[Other]:
    monkeypatch.setattr(time, "monotonic", lambda: NOW)
    other = Other()
    yield other
    other.close()


@pytest.fixture
def api(other: Other) -> Iterator[RuntimeApi]:
    api = RuntimeApi(other.address)
    api.until = NOW + 500
    yield api
    api.close()


def limit(api: RuntimeApi) -> float:
    assert api._connection
    return api._connection.until - NOW


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data))
    return data


@pytest.mark.parametrize("more", [0, 3, 65_535, 65_536, 100_000])
@pytest.mark.parametrize("length", [None, 2])
def test_a_request_goes_out_whole(other: Other, api: RuntimeApi, more: int, length: int | None) -> None:
    announced = "" if length is None else f"content-length: {length}\r\n"
    head = f"POST /2018-06-01/runtime/x HTTP/1.1\r\nhost: {other.address}\r\na: b\r\n{announced}\r\n".encode()
    whole = head + b"{}" + bytes(more) + b"rest"
    with ThreadPoolExecutor(1) as reading:
        came = reading.submit(lambda: read(other.take(), len(whole)))
        api.start("/x", {"a": "b"}, length, b"{}", bytes(more))(b"rest")
        assert came.result() == whole
    assert limit(api) == 500
    (sock,) = other.taken
    sock.sendall(ACCEPTED)
    assert api.answer("POST") == ((202, {"content-length": "2"}, True), b"ok")
    assert limit(api) == 30, "seconds for what comes once it has begun"
    api.until = NOW + 9
    api.ask("/y")
    assert limit(api) == 9
    sock.sendall(ACCEPTED)
    api.answer("GET")
    assert limit(api) == 9
    assert other.has_none(), "the connection is kept"


@pytest.mark.parametrize(("more", "sends"), [(0, 1), (65_535, 1), (65_536, 2)])
def test_what_is_not_long_goes_out_with_its_head_and_what_is_long_is_not_copied(
    other: Other, api: RuntimeApi, more: int, sends: int
) -> None:
    api.ask("/x")
    other.take().sendall(ACCEPTED)
    api.answer("GET")
    called: list[str] = []

    def count(_frame: object, event: str, argument: object) -> None:
        if event == "c_call":
            called.append(getattr(argument, "__name__", ""))

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        api.start("/x", {}, None, b"{}", bytes(more))
    finally:
        sys.setprofile(before)
    assert called.count("send") == sends
    assert len(read(other.taken[0], 2 + more)) >= 2 + more


def test_who_says_that_it_will_not_go_on_is_not_asked_over_the_same_connection(other: Other, api: RuntimeApi) -> None:
    api.ask("/x")
    other.take().sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert api.answer("GET")[1] == b""
    assert api._connection is None
    api.ask("/x")
    other.take().sendall(ACCEPTED)
    api.answer("GET")
    other.taken[-1].close()
    api.ask("/x")
    other.take()


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (b"", BrokenError),
        (b"SSH\r\n", BrokenError),
        (ACCEPTED[:-1], BrokenError),
    ],
)
def test_a_connection_on_which_something_went_wrong_is_given_up(
    other: Other, api: RuntimeApi, said: bytes, fault: type[HttpError]
) -> None:
    api.ask("/x")
    sock = other.take()
    sock.sendall(said)
    sock.shutdown(socket.SHUT_WR)
    with pytest.raises(fault):
        api.answer("GET")
    assert api._connection is None
    with pytest.raises(HttpError, match=r"^not connected$"):
        api.answer("GET")


def test_nobody_is_waited_for_beyond_the_moment(other: Other, api: RuntimeApi) -> None:
    api.ask("/x")
    assert api._connection
    api._connection.until = NOW
    with pytest.raises(SilenceError):
        api.answer("GET")


def test_an_address_of_the_sixth_version_is_one() -> None:
    try:
        other = Other("::1")
    except OSError:
        pytest.skip("this machine has no such addresses")
    api = RuntimeApi(other.address)
    api.ask("/x")
    assert f"host: {other.address}".encode() in other.take().recv(1000)
    api.close()
    other.close()


# --------------------------------------------------------------------------------------------------------------- errors


class Judging(RuntimeApi):
    """Keeps what is begun, and until when it may take; answers with a status or a fault."""

    def __init__(self, status: int = 202, fault: HttpError | None = None) -> None:
        super().__init__("host:1")
        self.status, self.fault = status, fault
        self.begun: list[tuple[Any, ...]] = []
        self.closed = 0

    def start(self, path: str, headers: Mapping[str, str], length: int | None, body: bytes, more: bytes = b"") -> Any:
        self.begun.append((path, dict(headers), length, body, self.until - NOW))

    def answer(self, method: str) -> Any:
        if self.fault:
            raise self.fault
        return Head(self.status, {}, True), bytearray(b"why\xff")

    def close(self) -> None:
        self.closed += 1


REPORT: dict[str, Any] = {"errorType": "Function.X", "errorMessage": "m", "stackTrace": []}


@pytest.mark.parametrize(("until", "lasts"), [(NOW - 5, 1.0), (NOW + 0.5, 1.0), (NOW + 1.5, 1.5), (math.inf, math.inf)])
@pytest.mark.parametrize("more", [None, {"lambda-runtime-invocation-id": "3f"}])
def test_an_error_is_reported_whole_and_has_a_second_at_least(
    other: Other, until: float, lasts: float, more: dict[str, str] | None
) -> None:
    api = Judging()
    api.until = until
    api.post_error("/init/error", REPORT, more)
    headers = {
        "content-type": "application/vnd.aws.lambda.error+json",
        "lambda-runtime-function-error-type": "Function.X",
        **(more or {}),
    }
    body = json.dumps(REPORT).encode()
    assert api.begun == [("/init/error", headers, len(body), body, lasts)]
    assert api.closed == 0


@pytest.mark.parametrize(
    ("status", "fault", "level", "message", "more"),
    [
        (202, None, "", "", []),
        (299, None, "", "", []),
        (300, None, "ERROR", "The Runtime API refused an error", [("status", 300), ("answer", "why\ufffd")]),
        (410, None, "WARN", "An error came too late: its invocation was over", []),
        (202, BrokenError("x"), "ERROR", "The Runtime API did not take an error", [("error", "BrokenError('x')")]),
    ],
)
def test_what_became_of_a_report_is_in_the_log(
    status: int,
    fault: HttpError | None,
    level: str,
    message: str,
    more: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = Judging(status, fault)
    api.post_error("/init/error", REPORT)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(line.pop("timestamp") for line in lines)
    assert lines == ([{"level": level, "message": message, **dict(more)}] if message else [])
    assert api.closed == (fault is not None)
