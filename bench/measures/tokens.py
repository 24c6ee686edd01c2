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
from authorizer.users import Users
from aws_lambda_powertools import Logger
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from openai_proxy.client_keys import new_client_key
from openai_proxy.identity import parse_identity
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.yaml_files import as_built
from proxy.access.authenticator import Authorizer
from proxy.request.parse import InferenceRequest

from bench.processes import ROOT

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
    """Median milliseconds: what an issuer adds to the start of the authorizer, and loading the library alone, both
    after what the authorizer has loaded.
    """

    issuer: float
    library: float


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


_STARTED = "import os; from authorizer import handler"
_WITH_ISSUER = "handler._users(handler._keys, handler._logger)"


def starts(rounds: int, folder: Path) -> Starts:
    """In fresh interpreters, one after the other. Nothing answers at the issuer's address.

    What an issuer adds is measured by itself: beside all that the authorizer loads it would be lost.
    """
    file = folder / "identity.yaml"
    file.write_text(as_built(_FILE.replace(_ISSUER, "http://127.0.0.1:1")))
    before = f"{_STARTED}; os.environ['IDENTITY_FILE'] = {str(file)!r}"
    works = (_WITH_ISSUER, "import jwt")
    found: dict[str, list[float]] = {work: [] for work in works}
    for number in range(rounds):
        for work in works if number % 2 else reversed(works):
            found[work].append(_child(work, before, str(folder / "none.yaml")))
    return Starts(*map(statistics.median, found.values()))


def _child(measured: str, before: str, identity_file: str) -> float:
    """Milliseconds that a fresh interpreter takes to run `measured`, after `before`."""
    script = f"import time; {before}; t = time.perf_counter(); {measured}; print(time.perf_counter() - t)"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "functions"), str(ROOT / "shared"))),
        "IDENTITY_FILE": identity_file,
        "KEYS_TABLE": "keys",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "LOG_LEVEL": "CRITICAL",
    }
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return float(ran.stdout.splitlines()[-1]) * 1000


def _users(private: rsa.RSAPrivateKey) -> Users:
    identity = parse_identity(_FILE)
    assert identity
    public = {**RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "kid": _KID, "use": "sig"}

    def fetch(address: str, seconds: float) -> dict[str, Any]:
        return {"issuer": _ISSUER, "jwks_uri": f"{_ISSUER}/keys", "keys": [public]}

    logger = Logger(service="bench", level="CRITICAL")
    return Users(identity, _Nobody(), fetch, logger, pseudonym=lambda issuer, sub: sub)


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
    authorizer = Authorizer(lambda function, payload: (answer, False), "authorizer", "us-east-1", ttl=_LIFE)
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
