"""An issuer over HTTPS: how it describes itself, and its keys. It answers in threads of the process that measures."""

import json
import shutil
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore

from bench.measures.handshake import contexts


@contextmanager
def https_issuer(keys: list[dict[str, Any]], folder: Path) -> Generator[tuple[str, Path]]:
    """Its address, and a file of authorities: as many as a system trusts, and the one that signed its certificate."""
    _, tls = contexts(folder)
    authorities = folder / "authorities.pem"
    shutil.copy(Path(botocore.__file__).parent / "cacert.pem", authorities)
    with authorities.open("a") as file:
        file.write((folder / "root.pem").read_text())
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    issuer = f"https://localhost:{server.server_port}"
    server.RequestHandlerClass = _answering({"issuer": issuer, "jwks_uri": f"{issuer}/keys", "keys": keys})
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield issuer, authorities
    finally:
        server.shutdown()
        server.server_close()


def _answering(document: dict[str, Any]) -> type[BaseHTTPRequestHandler]:
    body = json.dumps(document).encode()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Answering
