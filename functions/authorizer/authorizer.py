"""A client key ─▶ who it is and what it may do, as an API Gateway REQUEST authorizer (payload 1.0) answers.

One rule: three answers that are never mixed up. A key that is good gives a policy; one that is not raises Unauthorized
(401); if it cannot be checked any other error leaves this function (503 at both doors), so that an outage of the key
table tells no client that its key is bad.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.client_keys import hash_client_key, is_well_formed

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from authorizer.keys_table import ClientKey


class Unauthorized(Exception):  # noqa: N818 - API Gateway answers 401 to exactly this message
    """The key is no client key, unknown, disabled or expired; which of these is in the log only."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class Keys(Protocol):
    """Where client keys are: KeysTable, or a fake of it."""

    def find(self, key_hash: str) -> "ClientKey | None":
        """The key with this hash, or None."""
        ...


class Authorizer:
    """Judges the client key of one request."""

    def __init__(self, keys: Keys, logger: "Logger", clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._logger = logger
        self._clock = clock

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The policy and context for a REQUEST authorizer event. Raises Unauthorized."""
        key = _bearer_token(event.get("headers") or {})
        if key is None or not is_well_formed(key):
            raise self._refused("no well-formed client key")
        client = self._keys.find(hash_client_key(key))
        if client is None:
            raise self._refused("unknown client key")
        if not client.enabled:
            raise self._refused("disabled client key", client_id=client.client_id)
        if client.expires_at is not None and client.expires_at <= self._clock():
            raise self._refused("expired client key", client_id=client.client_id)
        return _allow(client, event["methodArn"])

    def _refused(self, reason: str, client_id: str | None = None) -> Unauthorized:
        self._logger.info("refused", reason=reason, client_id=client_id)
        return Unauthorized()


def _bearer_token(headers: Mapping[str, str]) -> str | None:
    for name, value in headers.items():
        if name.lower() == "authorization":
            scheme, _, token = value.strip().partition(" ")
            return token.strip() if scheme.lower() == "bearer" else None
    return None


def _allow(client: "ClientKey", method_arn: str) -> dict[str, Any]:
    # API Gateway remembers a policy for the key, not for the path: it must cover everything that the key may call.
    api, stage, *_ = method_arn.split("/")
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{api}/{stage}/*/*"}
    return {
        "principalId": client.client_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {
            "client_id": client.client_id,
            "client_name": client.name,
            "servers": ",".join(client.servers),
            "models": ",".join(client.models),
        },
    }
