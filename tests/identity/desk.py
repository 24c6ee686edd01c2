"""An authorizer that judges access tokens, with an issuer, a clock and blocks of its own."""

import io
import itertools
from typing import Any

from authorizer.authorizer import Authorizer
from authorizer.pseudonyms import pseudonyms_of
from authorizer.refusal import TokenRefusedError
from authorizer.users import Users, keys_of_issuers
from aws_lambda_powertools import Logger
from openai_proxy.identity import parse_identity

from tests.identity.issuers import ISSUER, Clock, FakeIssuer, jwk

PLANS = (
    "plans: {free: {servers: [demo], models: [demo], rpm: 10, budget_day: 0.5}, pro: {client_id: paying, name: Pro}}"
)
FILE = f"issuers: [{{issuer: '{ISSUER}', audience: [chat, other], plan: free}}]\n{PLANS}"
EVENT = {"methodArn": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/POST/x"}


NUMBERS = itertools.count()
"""Powertools keeps the stream of a service's first logger."""


class FakeBlocks:
    def __init__(self) -> None:
        self.blocked: set[str] = set()
        self.asked: list[str] = []
        self.error: Exception | None = None

    def find(self, key_hash: str) -> dict[str, Any] | None:
        self.asked.append(key_hash)
        if self.error:
            raise self.error
        return {"key_hash": key_hash} if key_hash in self.blocked else None


class Desk:
    """Users with an issuer, a clock and blocks of their own."""

    def __init__(self, *keys: dict[str, Any], file: str = FILE, issuer: Any = None) -> None:
        identity = parse_identity(file, allow_loopback=True)
        assert identity
        self.issuer = issuer or FakeIssuer(*(keys or (jwk("RS256"),)))
        self.blocks, self.clock, self.log = FakeBlocks(), Clock(), io.StringIO()
        self.logger = Logger(service=f"desk {next(NUMBERS)}", stream=self.log)
        self.users = Users(
            identity,
            self.blocks,
            keys_of_issuers(identity, self.issuer, self.logger, self.clock),
            pseudonyms_of(lambda: None, None),
            self.clock,
        )

    def code(self, text: str) -> str:
        """Why a token is refused; "" where it is not."""
        try:
            self.users(text)
        except TokenRefusedError as refusal:
            return refusal.code
        return ""


def ask(desk: Desk, text: str) -> dict[str, Any]:
    return Authorizer(desk.blocks, desk.logger, desk.clock, desk.users)(
        EVENT | {"headers": {"Authorization": f"Bearer {text}"}}
    )
