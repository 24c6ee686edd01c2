"""CPU that the client of a TLS handshake takes: the sandboxes of this bench speak plain HTTP, those on Lambda do not.

The server's certificate is of RSA with 2,048 bits and signed through one between, as most public ones are.
"""

import datetime as dt
import ssl
import statistics
import tempfile
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_HOST = "localhost"


def handshake(rounds: int) -> float:
    """Milliseconds of CPU of one whole handshake, at the client; the median."""
    with tempfile.TemporaryDirectory() as folder:
        client, server = contexts(Path(folder))
    return statistics.median(_handshake(client, server) for _ in range(rounds))


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> float:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=_HOST)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    taken, waiting = 0, [here, there]
    while waiting:
        for side in tuple(waiting):
            began = time.thread_time_ns()
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
            taken += time.thread_time_ns() - began if side is here else 0
    return taken / 1e6


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of the client and of the server. `folder` then has `root.pem`, the authority, and `server.pem`."""
    root, between, leaf = (rsa.generate_private_key(65537, 2048) for _ in range(3))
    chain = _certificate(_HOST, leaf, "between", between), _certificate("between", between, "root", root)
    pem = serialization.Encoding.PEM
    key = leaf.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key + b"".join(each.public_bytes(pem) for each in chain))
    (folder / "root.pem").write_bytes(_certificate("root", root, "root", root).public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return ssl.create_default_context(cafile=str(folder / "root.pem")), server


def _certificate(name: str, key: rsa.RSAPrivateKey, issuer: str, by: rsa.RSAPrivateKey) -> x509.Certificate:
    """The certificate of `name`, signed by `issuer`; all but the host's own may sign others."""
    now, authority = dt.datetime.now(dt.UTC), name != _HOST
    signer, subject = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in (issuer, name))
    number, end = x509.random_serial_number(), now + dt.timedelta(days=1)
    builder = x509.CertificateBuilder(signer, subject, key.public_key(), number, now, end)
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(by, hashes.SHA256())
