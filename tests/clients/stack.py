"""The proxy and the demo server in one process, for clients as they come. It counts the calls that the server gets."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn
from proxy.http.transport import HttpTransport, Timeouts

from local.demo.server import DemoServer
from tests.relays import Proxy

KEY, TOKEN = "good", "demo-token"
"""The client key that the relay of tests knows, and the demo server's token."""
SERVERS = f"demo: {{url: 'URL/v1', token: {TOKEN}, model: demo, breaker: {{failures: 0}}}}\n"
"""A server with the defaults; a breaker would make a client depend on the one before."""


class Stack:
    """What a client needs, of the proxy and of the server behind it, and how often the server was called."""

    key, server_key = KEY, TOKEN

    def __init__(self) -> None:
        self.base_url = self.server_url = ""
        self.turn = threading.Lock()
        """Who has it asks the proxy."""
        self.counted = 0

    @property
    def calls(self) -> int:
        """How often the server was called, once the proxy has nothing to do any more."""
        with self.turn:
            return self.counted


@contextmanager
def stack() -> Generator[Stack]:
    """A running proxy before a running demo server."""
    found = Stack()
    application = DemoServer(TOKEN, delay=0.0).app()

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        found.counted += scope["type"] == "http"
        await application(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(counted, log_level="critical", lifespan="off"))
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    transport = HttpTransport(Timeouts())
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    relay = Proxy(url, {}, transport, more_servers=SERVERS.replace("URL", url))
    front = ThreadingHTTPServer(("127.0.0.1", 0), _handler(relay, found.turn))
    found.server_url = f"{url}/v1"
    found.base_url = f"http://127.0.0.1:{front.server_port}/demo/v1"
    threading.Thread(target=front.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        front.shutdown()
        server.should_exit = True
        transport.close()


def _handler(relay: Proxy, lock: Any) -> type[BaseHTTPRequestHandler]:
    """Gives each HTTP request to the relay, one at a time as a sandbox takes them, and its whole answer back."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            path, _, query = self.path.partition("?")
            with lock:
                answer = relay.call(body, path=path, method=self.command, headers=headers, query=query)
            self.send_response_only(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = _serve  # noqa: N815 - the names of http.server

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    return Handler
