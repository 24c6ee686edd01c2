"""The upstream server of one very long stream: over a blocking socket, each chunk a write of its own.

A process of its own (`python -m bench.servers.upstream_long PORT`). Its one rule: it is never what the stream waits
for. The `model` of a request says how long the stream is and how many microseconds lie between two chunks:
`long-100000-150`.
"""

import re
import socket
import sys
import time

from bench.servers.upstream import STREAM_HEAD, chunks_of

_LONG = re.compile(rb'"long-(\d+)-(\d+)"')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def serve(listener: socket.socket) -> None:
    """One connection after the other, and on each one request after the other."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while body := _request(connection):
                _answer(connection, body)


def _request(connection: socket.socket) -> bytes:
    """The body of the next request; nothing when the client has gone."""
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if end and length and len(body) >= int(length[1]):
            return body
        data = connection.recv(65536)
        if not data:
            return b""
        received += data


def _answer(connection: socket.socket, body: bytes) -> None:
    wanted = _LONG.search(body)
    assert wanted is not None
    pause = int(wanted[2]) / 1e6
    connection.sendall(STREAM_HEAD)
    for chunk in chunks_of(body, int(wanted[1])):
        connection.sendall(chunk)
        if pause:
            time.sleep(pause)


if __name__ == "__main__":
    serve(socket.create_server(("127.0.0.1", int(sys.argv[1]))))
