"""The HTTP client over TLS: verified, kept alive, and never without verification."""

import datetime as dt
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from authorizer.https_get import FetchError, HttpsGet
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openai_proxy.servers import Server, TokenReference
from proxy.errors import UpstreamError
from proxy.http.transport import ConnectionFailedError, HttpTransport, Timeouts
from proxy.http.wire import Outgoing

CONTENT = b"x" * 200_000


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(pem)
    return folder / "server.pem"


class Handler(BaseHTTPRequestHandler):
    """Answers with a long body, chunked; counts connections."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        type(self).connections += 1
        super().setup()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for start in range(0, len(CONTENT), 30_000):
            piece = CONTENT[start : start + 30_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    Handler.connections = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/v1/x"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_verified_server_is_read_to_its_end_and_kept(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    transport = HttpTransport(Timeouts())
    for _ in range(3):
        status, _, body = transport.post(url, {}, b"{}", 20.0)
        assert (status, body) == (200, CONTENT)
    assert Handler.connections == 1
    transport.close()


def test_a_server_that_nobody_vouches_for_is_not_talked_to(url: str) -> None:
    transport = HttpTransport(Timeouts())
    with pytest.raises(ConnectionFailedError):
        transport.post(url, {}, b"secret", 20.0)
    server = Server("s", url, TokenReference("literal", "t"), "")
    with pytest.raises(UpstreamError) as error:
        transport.stream(server, Outgoing("POST", url, {}, b"secret"), 4e9)
    assert error.value.code == "upstream_unreachable"


def test_a_certificate_for_another_name_is_refused(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(ConnectionFailedError):
        HttpTransport(Timeouts()).post(url.replace("127.0.0.1", "localhost"), {}, b"secret", 20.0)


def test_the_authorizer_has_no_keys_of_an_issuer_that_nobody_vouches_for(
    url: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FetchError, match="SSLCertVerificationError"):
        HttpsGet()(url, 10)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(FetchError, match="status 501"):  # this server answers no GET
        HttpsGet()(url, 10)
    with pytest.raises(FetchError, match="SSLCertVerificationError"):
        HttpsGet()(url.replace("127.0.0.1", "localhost"), 10)
