"""No socket of a sandbox may hold a chunk back to fill a segment: TCP_NODELAY, as the kernel has it in mid-stream."""

import contextlib
import json
import ssl
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai_proxy.client_keys import new_client_key

from tests.fakes import Connection, Received, ScriptedServer
from tests.integration.wire.test_runtime_wire import ROOT, ScriptedRuntimeApi, sandbox
from tests.integration.wire.test_tls import make_certificate

# A handler module: the proxy's own, with a response that looks at every socket of its process whenever it is used.
LOOKING = """
import json, os, socket, stat
from pathlib import Path
from proxy import handler

seen = {}

class Response:
    def __init__(self, response):
        self._response = response

    def __getattr__(self, name):
        for number in map(int, os.listdir("/proc/self/fd")):
            try:
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    with socket.socket(fileno=os.dup(number)) as sock:
                        seen[sock.getpeername()[1]] = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            except OSError:
                pass  # closed meanwhile, or connected to nobody
        return getattr(self._response, name)

def stream(invocation, response):
    handler.stream(invocation, Response(response))
    seen["runtime"] = seen.pop(int(os.environ["AWS_LAMBDA_RUNTIME_API"].rpartition(":")[2]))
    Path(os.environ["REPORT"]).write_text(json.dumps(seen))
"""


class Upstream(BaseHTTPRequestHandler):
    """Streams three chunks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"a\r\ndata: {}\n\n\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def upstream(scheme: str, certificate: Path) -> Generator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"{scheme}://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def aws(connection: Connection, request: Received) -> None:
    """An authorizer that allows everybody, and a bus that takes every event."""
    if request.target.endswith("/invocations"):
        policy = {"Statement": [{"Effect": "Allow"}]}
        connection.answer(json.dumps({"policyDocument": policy, "context": {"client_id": "team"}}).encode())
    else:
        connection.answer(b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}')


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_chunks_go_out_at_once(scheme: str, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    (tmp_path / "looking.py").write_text(LOOKING)
    api = ScriptedRuntimeApi()
    with upstream(scheme, certificate) as url, ScriptedServer(aws) as services:
        (tmp_path / "servers.yaml").write_text(f'up: {{url: "{url}", token: "", model: m}}')
        environment: dict[str, Any] = {
            "_HANDLER": "looking.handler",
            "PYTHONPATH": f"{ROOT / 'shared'}:{tmp_path}",
            "REPORT": str(tmp_path / "report.json"),
            "SSL_CERT_FILE": str(certificate),
            "SERVERS_FILE": str(tmp_path / "servers.yaml"),
            "AUTHORIZER_FUNCTION": "authorizer",
            "EVENT_BUS_NAME": "bus",
            "LIMITS_TABLE": "limits",
            "COSTS_TABLE": "costs",
            "AWS_ENDPOINT_URL": services.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        with sandbox(api, **environment):
            post = api.invoke(
                version="2.0",
                rawPath="/up/v1/chat/completions",
                rawQueryString="",
                headers={"authorization": f"Bearer {new_client_key()}"},
                requestContext={"http": {"method": "POST"}},
                body='{"stream": true}',
            )
            assert [api.asked.get(timeout=20), api.asked.get(timeout=20)] == ["next", "next"]
    assert post.body.count(b"data: {}\n\n") == 3
    seen = json.loads((tmp_path / "report.json").read_text())
    assert seen == {"runtime": 1, str(urlsplit(url).port): 1, str(services.port): 1}
