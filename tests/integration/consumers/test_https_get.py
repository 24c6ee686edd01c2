"""The documents of an issuer, from servers that behave and from servers that do not."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from authorizer.https_get import FetchError, HttpsGet


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Generator[tuple[str, list[bytes]]]:
    """A server that answers each connection with `answer`; its address, and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                try:
                    answer(connection)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/keys", asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def sent(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    whole = f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
    return lambda connection: connection.sendall(whole)


def test_a_document_is_read() -> None:
    with server(sent("200 OK", json.dumps({"keys": []}).encode())) as (address, asked):
        assert HttpsGet()(address, 3) == {"keys": []}
    assert asked[0].startswith(b"GET /keys HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("head", "body", "why"),
    [
        ("302 Found\r\nlocation: http://169.254.169.254/latest", b"", "status 302"),
        ("404 Not Found", b"{}", "status 404"),
        ("500 Oops", b"{}", "status 500"),
        ("201 Created", b"{}", "status 201"),
        ("204 No Content", b"", "status 204"),
        ("200 OK", b"", "no JSON object"),
        ("200 OK", b"[]", "no JSON object"),
        ("200 OK", b"<html>", "no JSON object"),
        ("200 OK", b"\xff", "no JSON object"),
        ("200 OK", b"[" * 100_000, "no JSON object"),
        ("200 OK", b'{"keys": "' + b"x" * (256 * 1024 - 11) + b'"}', "more than 262144 bytes"),
        ("200 OK\r\ncontent-encoding: gzip", b"\x1f\x8b", "no JSON object"),
    ],
)
def test_everything_else_is_none_and_no_redirect_is_followed(head: str, body: bytes, why: str) -> None:
    with server(sent(head, body)) as (address, asked), pytest.raises(FetchError, match=f"^{why}$"):
        HttpsGet()(address, 3)
    assert len(asked) == 1


def test_a_document_of_exactly_the_largest_size_is_read_and_asked_for_as_it_is() -> None:
    with server(sent("200 OK", b'{"keys": "' + b"x" * (256 * 1024 - 12) + b'"}')) as (address, asked):
        assert len(HttpsGet()(address, 30)["keys"]) == 256 * 1024 - 12
    first, *lines = asked[0].decode().lower().removesuffix("\r\n\r\n").split("\r\n")
    assert (first, sorted(lines)) == (
        "get /keys http/1.1",
        [
            "accept-encoding: identity",
            "accept: application/json",
            "connection: close",
            address.replace("http://", "host: ").removesuffix("/keys"),
            "user-agent: openai-proxy-lambda",
        ],
    )


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        HEAD + b"x-a: ",
        HEAD + b"content-length: 100\r\n\r\n{",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n{",
        HEAD + b"\r\n{",
    ],
)
def test_a_server_that_drips_is_given_up_and_hung_up_on_when_its_time_is_over(begun: bytes) -> None:
    dripped = threading.Event()
    waited: list[tuple[threading.Thread, float]] = []

    def drip(connection: socket.socket) -> None:
        connection.sendall(begun)
        dripped.set()
        assert connection.recv(1) == b"", "the client has nothing more to say"

    def wait(thread: threading.Thread, seconds: float) -> None:
        waited.append((thread, seconds))
        assert dripped.wait(60)

    with server(drip) as (address, _), pytest.raises(FetchError, match="too slow"):
        HttpsGet(wait)(address, 60)
    [(thread, seconds)] = waited
    thread.join(60)
    assert (thread.is_alive(), seconds) == (False, 60)


@pytest.mark.parametrize(
    "address", ["file:///etc/hostname", "ftp://127.0.0.1/keys", "data:application/json,{}", "keys"]
)
def test_what_is_no_web_address_is_not_opened(address: str) -> None:
    with pytest.raises(FetchError, match=r"^no web address$"):
        HttpsGet()(address, 3)


def test_the_certificate_authorities_are_read_once_and_only_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make(*arguments: Any) -> ssl.SSLContext:
        made.append(context := create(*arguments))
        return context

    create = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", make)
    get = HttpsGet()
    with server(lambda connection: connection.close()) as (address, asked):
        for scheme, contexts in (("http", 0), ("https", 1), ("https", 1)):
            with pytest.raises(FetchError):
                get(address.replace("http", scheme, 1), 30)
            assert len(made) == contexts
    assert [first[:1] for first in asked] == [b"G", b"\x16", b"\x16"], "a request, and twice the beginning of TLS"


def test_no_thread_keeps_the_process_from_its_end() -> None:
    threads: list[threading.Thread] = []

    def wait(thread: threading.Thread, seconds: float) -> None:
        threads.append(thread)
        thread.join(seconds)

    with server(sent("200 OK", b"{}")) as (address, _):
        assert HttpsGet(wait)(address, 30) == {}
    assert [thread.daemon for thread in threads] == [True]


def test_a_server_that_is_not_there_or_says_nothing_is_told() -> None:
    with server(lambda connection: connection.close()) as (address, _), pytest.raises(FetchError):
        HttpsGet()(address, 3)
    with pytest.raises(FetchError):
        HttpsGet()(address, 3)
