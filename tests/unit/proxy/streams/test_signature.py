"""What a webhook is told is signed, and a receiver that does what the documents say accepts it."""

import base64
import hmac
import json
import re
from pathlib import Path

import pytest
from proxy.aws.client import AwsError
from proxy.streams.signature import Signer

from tests.fakes import Clock

DOCS = (Path(__file__).parents[4] / "docs" / "streams.md").read_text()


def test_the_receiver_of_the_documents_accepts_it_and_nothing_else() -> None:
    [check] = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
    told = {"id": "01M8N9AYMW0CYZ6R6NYRBAE5WY", "timestamp": "2026-11-30T09:30:39.315Z", "status": "completed"}
    signature = Signer(lambda: "the secret")("01M8N9AYMW0CYZ6R6NYRBAE5WY.2026-11-30T09:30:39.315Z.completed")
    names = {"base64": base64, "hmac": hmac, "secret": "the secret", "signature": signature, **told}

    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}=", signature)
    exec(check, dict(names))
    for name in ("id", "timestamp", "status", "secret"):
        try:
            exec(check, names | {name: "other"})
        except AssertionError:
            continue
        raise AssertionError(f"another {name} is accepted")


def test_a_secret_is_looked_up_again_and_what_cannot_be_had_signs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    answers = iter(["", "one", "two"])
    clock = Clock()

    def get_secret() -> str:
        if secret := next(answers):
            return secret
        raise AwsError("secretsmanager", "AccessDeniedException")

    sign = Signer(get_secret, clock)
    assert sign("x") == ""
    line = json.loads(capsys.readouterr().out)
    assert {name: line[name] for name in ("level", "message", "reason")} == {
        "level": "ERROR",
        "message": "A webhook is not told of a stream: its secret is unavailable",
        "reason": str(AwsError("secretsmanager", "AccessDeniedException")),
    }
    first = sign("x")
    clock.now += 299.5
    assert first == sign("x")
    clock.now += 0.5
    assert sign("x") not in ("", first)
