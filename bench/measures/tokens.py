"""Access tokens beside client keys: what one costs the authorizer and the proxy, and what the library costs a start.

The two of a pair take turns, so that a busy moment hits both; medians count.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from authorizer.users import Users, keys_of_issuers
from aws_lambda_powertools import Logger
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from openai_proxy.client_keys import new_client_key
from openai_proxy.identity import parse_identity
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.yaml_files import as_built
from proxy.access.authenticator import Authorizer, AuthorizerFunction
from proxy.request.parse import InferenceRequest

from bench.processes import ROOT
from bench.servers.issuer import https_issuer

_ISSUER, _AUDIENCE, _KID = "https://id.example.com", "chat", "key-1"
_FILE = f"issuers: [{{issuer: '{_ISSUER}', audience: {_AUDIENCE}, plan: free}}]\nplans: {{free: {{rpm: 10}}}}\n"
_LIFE = 3600


class Tokens(NamedTuple):
    """Median microseconds of a new token (by the library's own `decode`, and by the authorizer) and of one that the
    authorizer remembers; of a key and a token that the proxy remembers.
    """

    decode: float
    judged: float
    remembered: float
    proxy_key: float
    proxy_token: float


class Starts(NamedTuple):
    """Median milliseconds of CPU, all after what the authorizer loads without an issuer: what an issuer adds to INIT,
    loading the library alone, and what fetching the issuer's keys takes in threads beside it.
    """

    issuer: float
    library: float
    fetch: float


class _Nobody:
    def find(self, key_hash: str) -> None:
        return None


def tokens(count: int) -> Tokens:
    """`count` new tokens of one issuer (RS256), each judged both ways."""
    private = rsa.generate_private_key(65537, 2048)
    users = _users(private)
    first, *new = _made(private, count + 1)
    key, options = private.public_key(), {"algorithms": ["RS256"], "audience": _AUDIENCE, "issuer": _ISSUER}
    users(first)  # the issuer's keys are fetched
    decode, judged = _in_turn(new, [lambda text: jwt.decode(text, key, leeway=60, **options), users])  # pyright: ignore[reportUnknownMemberType, reportUnknownLambdaType, reportArgumentType]
    (remembered,) = _in_turn(new[-500:], [users])
    proxy_key, proxy_token = _in_turn([""] * count, [_asks(new_client_key()), _asks(first)])
    return Tokens(decode, judged, remembered, proxy_key, proxy_token)


_BEFORE = """
import os, sys, time
sys.modules["OpenSSL"] = None  # botocore would load half of the library with it; no part of what is deployed
from authorizer import handler
os.environ["IDENTITY_FILE"] = sys.argv[1]
whole, began = time.process_time(), time.thread_time()
"""
_AFTER = """
taken = time.thread_time() - began
if users:
    [keys] = users._keys.values()
    keys.look()  # waits for them, and fails where they are not there
print(taken, time.process_time() - whole - taken)
"""
_WITH_ISSUER = "users = handler._users(handler._keys, handler._logger)"
_LIBRARY_ALONE = "import jwt; users = None"


def starts(rounds: int, folder: Path) -> Starts:
    """Measure starts in fresh interpreters, one after the other, with bytecode. An issuer over HTTPS has the keys.

    What an issuer adds is measured by itself: beside all that the authorizer loads it would be lost. CPU is counted, of
    the thread that INIT waits for and of all the others: what a busy machine lets wait is no part of it.
    """
    works = (_WITH_ISSUER, _LIBRARY_ALONE)
    found: dict[str, list[tuple[float, float]]] = {work: [] for work in works}
    public = {**RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key(), as_dict=True), "kid": _KID}
    with https_issuer([public], folder) as (issuer, authorities):
        file = folder / "identity.yaml"
        file.write_text(as_built(_FILE.replace(_ISSUER, issuer)))
        environment = _environment(folder, authorities)
        for number in range(-1, rounds):  # the first may write bytecode, and does not count
            for work in works if number % 2 else reversed(works):
                found[work].append(_child(work, file, environment))
    own, beside = zip(*found[_WITH_ISSUER][1:], strict=True)
    library, _ = zip(*found[_LIBRARY_ALONE][1:], strict=True)
    return Starts(statistics.median(own), statistics.median(library), statistics.median(beside))


def _environment(folder: Path, authorities: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "functions"), str(ROOT / "shared"))),
        "IDENTITY_FILE": str(folder / "none.yaml"),
        "SSL_CERT_FILE": str(authorities),
        "KEYS_TABLE": "keys",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "LOG_LEVEL": "CRITICAL",
    }


def _child(measured: str, file: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Milliseconds of CPU that a fresh interpreter takes for `measured`: its first thread, and the others."""
    command = [sys.executable, "-c", f"{_BEFORE}{measured}{_AFTER}", str(file)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    own, others = map(float, ran.stdout.split())
    return own * 1000, others * 1000


def _users(private: rsa.RSAPrivateKey) -> Users:
    identity = parse_identity(_FILE)
    assert identity
    public = {**RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": _KID, "use": "sig"}

    def fetch(address: str, seconds: float) -> dict[str, Any]:
        return {"issuer": _ISSUER, "jwks_uri": f"{_ISSUER}/keys", "keys": [public]}

    logger = Logger(service="bench", level="CRITICAL")
    return Users(identity, _Nobody(), keys_of_issuers(identity, fetch, logger), lambda issuer, sub: sub)


def _made(private: rsa.RSAPrivateKey, count: int) -> list[str]:
    now = int(time.time())
    claims = {
        "iss": _ISSUER,
        "aud": _AUDIENCE,
        "iat": now,
        "exp": now + _LIFE,
        "email": "ada@example.com",
        "scope": "chat",
    }
    made = ({**claims, "sub": f"user-{number}"} for number in range(count))
    return [jwt.encode(each, private, "RS256", {"kid": _KID}) for each in made]


def _asks(sent: str) -> Callable[[str], object]:
    """What the proxy does with a key or a token that it remembers."""
    user = ClientKey("free", key_id="u", name="Free", limits=Limits("u", rpm=10), line="u", expires_at=4_000_000_000)
    policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": user.to_context()}
    answer = json.dumps(policy).encode()

    def invoke(_function: str, _payload: bytes) -> tuple[bytes, bool]:
        return answer, False

    authorizer = Authorizer(AuthorizerFunction(invoke, "authorizer", "us-east-1"), ttl=_LIFE)
    headers = {"authorization": f"Bearer {sent}"}
    request = InferenceRequest("function_url", "POST", "/a/v1/chat/completions", "", headers, b"", None)
    return lambda _: authorizer.authorize(request)


def _in_turn(arguments: list[str], ways: list[Callable[[str], object]]) -> Iterator[float]:
    """Median microseconds of each way."""
    times: list[list[float]] = [[] for _ in ways]
    for argument in arguments:
        for way, found in zip(ways, times, strict=True):
            began = time.perf_counter()
            way(argument)
            found.append(time.perf_counter() - began)
    return iter([statistics.median(found) * 1e6 for found in times])
