"""A function that is no proxy: it answers every event with a paced stream that it makes itself.

Behind the local stack's function URL it shows what that alone takes of a client's time. Its one rule: an answer has the
proxy's form, the same headers and each chunk a write of its own, but nothing is done for it. Started as a sandbox, it
speaks to the Runtime API over one socket.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import BinaryIO

from bench.servers.upstream import chunks_of, pace_of, stamped

_API = b"/2018-06-01/runtime/invocation/"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"lambda-runtime-aws-request-id: *(\S+)", re.IGNORECASE)
_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "openai-processing-ms": "180",
    "x-upstream-request-id": "req_8f2d6c0a41",
    "x-request-id": "01KAT3ZK8Q4J5V0W2N6RXMEC7D",
    "x-inference-id": "01KAT3ZK8Q4J5V0W2N6RXMEC7D",
    "cache-control": "no-cache",
    "x-served-by": "bench",
    "x-served-model": "plain",
    "x-attempts": "1",
    "server-timing": "upstream;dur=0.0, proxy;dur=0.0",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "*",
}
_PRELUDE = json.dumps({"statusCode": 200, "headers": _HEADERS}).encode()
_OPENING = (
    b"transfer-encoding: chunked\r\ncontent-type: application/vnd.awslambda.http-integration-response\r\n"
    b"lambda-runtime-function-response-mode: streaming\r\n\r\n%x\r\n%b\r\n8\r\n%b\r\n"
    % (len(_PRELUDE), _PRELUDE, b"\0" * 8)
)


def serve(address: str, answer: Callable[[socket.socket, bytes], None]) -> None:
    """Take one event after the other, begin its answer, and let `answer` send the body over the same connection."""
    with connect(address) as api:
        received = api.makefile("rb")
        while True:
            api.sendall(b"GET %bnext HTTP/1.1\r\nhost: runtime\r\n\r\n" % _API)
            head, event = _read(received)
            identifier = _REQUEST_ID.search(head)
            assert identifier is not None
            api.sendall(b"POST %b%b/response HTTP/1.1\r\nhost: runtime\r\n%b" % (_API, identifier[1], _OPENING))
            answer(api, event)
            _read(received)


def connect(address: str) -> socket.socket:
    """A connection to HOST:PORT that sends small pieces at once."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _answer(api: socket.socket, event: bytes) -> None:
    # What the upstream server would send is in HTTP chunks already, the last one included.
    chunks, pace = chunks_of(b""), pace_of(event)
    api.sendall(stamped(next(chunks)))
    for chunk in chunks:
        time.sleep(pace)
        api.sendall(stamped(chunk))


def _read(received: BinaryIO) -> tuple[bytes, bytes]:
    """The head of an answer, and its body. The process ends with the connection."""
    head = b""
    while (line := received.readline()) != b"\r\n":
        if not line:
            sys.exit(0)
        head += line
    length = _LENGTH.search(head)
    return head, received.read(int(length[1])) if length else b""


if __name__ == "__main__":
    serve(os.environ["AWS_LAMBDA_RUNTIME_API"], _answer)
