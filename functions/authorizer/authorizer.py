"""A client key ─▶ who it is and what it may do, as an API Gateway REQUEST authorizer (payload 1.0) answers.

One rule: three answers that are never mixed up. A key that is good gives a policy; one that is not raises Unauthorized
(401); if it cannot be checked any other error leaves this function (503 at both doors), so that neither an outage of
the key table nor a damaged item in it tells a client that its key is bad, or lets it in without its limits.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.client_keys import hash_client_key, is_well_formed, key_id_of

from authorizer.client_key import ClientKey, DamagedKeyError

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

# arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/POST/openai/v1/models: all before the method.
_STAGE = re.compile(r"(arn:[a-z0-9-]+:execute-api:[a-z0-9-]*:[0-9]*:[A-Za-z0-9-]+/[A-Za-z0-9_$-]+)/")


class Unauthorized(Exception):  # noqa: N818 - API Gateway answers 401 to exactly this message
    """The key is no client key, unknown, disabled or expired; which of these is in the log only."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class UnknownEventError(Exception):
    """The event does not say for which API a policy is wanted."""


class Keys(Protocol):
    """Where client keys are: KeysTable, or a fake of it."""

    def find(self, key_hash: str) -> Mapping[str, Any] | None:
        """The item of the key with this hash, in plain values, or None."""
        ...


class Authorizer:
    """Judges the client key of one request."""

    def __init__(self, keys: Keys, logger: "Logger", clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._logger = logger
        self._clock = clock

    def __call__(self, event: Any) -> dict[str, Any]:
        """The policy and context for a REQUEST authorizer event.

        Raises Unauthorized; DamagedKeyError, UnknownEventError and whatever `keys` raises when it cannot be checked.
        """
        key = _bearer_token(event)
        if key is None or not is_well_formed(key):
            raise self._refused("no well-formed client key")
        item = self._keys.find(hash_client_key(key))
        if item is None:
            raise self._refused("unknown client key")
        if item.get("enabled") is False:  # whatever else the item holds
            raise self._refused("disabled client key", item)
        client = self._client(item)
        if client.expires_at is not None and client.expires_at <= self._clock():
            raise self._refused("expired client key", item)
        return _allow(client, event.get("methodArn"))

    def _client(self, item: Mapping[str, Any]) -> ClientKey:
        try:
            return ClientKey.from_item(item)
        except DamagedKeyError as error:
            self._logger.error(  # noqa: TRY400 - the runtime logs the trace
                "damaged client key", problems=error.problems, **_named(item)
            )
            raise

    def _refused(self, reason: str, item: Mapping[str, Any] | None = None) -> Unauthorized:
        self._logger.info("refused", reason=reason, **_named(item or {}))
        return Unauthorized()


def _named(item: Mapping[str, Any]) -> dict[str, Any]:
    """Which key it is, as the console shows it; nothing of a key that is not known."""
    return {"client_id": item.get("client_id"), "key_id": key_id_of(item["key_hash"]) if item else None}


def _bearer_token(event: Any) -> str | None:
    """The token, if there is exactly one: with two, API Gateway might remember the answer for the other."""
    if not isinstance(event, dict):
        return None
    request: dict[str, Any] = event  # pyright: ignore[reportUnknownVariableType]
    single, multiple = (_authorizations(request.get(name)) for name in ("headers", "multiValueHeaders"))
    if len(single) > 1 or len(multiple) > 1 or len({*single, *multiple}) != 1:
        return None
    scheme, _, token = [*single, *multiple][0].strip(" \t").partition(" ")
    return token.strip(" \t") if scheme.lower() == "bearer" else None


def _authorizations(headers: Any) -> list[str]:
    """Every value of the header, of any kind: what is no text is no token, but counts."""
    values: list[str] = []
    for name, value in headers.items() if isinstance(headers, Mapping) else ():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(name, str) and name.lower() == "authorization":
            values += [str(each) for each in (value if isinstance(value, list | tuple) else [value])]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return values


def _allow(client: ClientKey, method_arn: Any) -> dict[str, Any]:
    # API Gateway remembers a policy for the key, not for the path: it must cover everything that the key may call.
    stage = _STAGE.match(method_arn) if isinstance(method_arn, str) else None
    if stage is None:
        raise UnknownEventError("methodArn is not the ARN of a method of an API")
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{stage[1]}/*/*"}
    return {
        "principalId": client.client_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": client.to_context(),
    }
