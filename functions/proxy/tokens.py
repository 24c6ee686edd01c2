"""Provider tokens: from the reference in the servers file to the token, found when a server is first called.

Its one rule: a token goes into the `Authorization` header of its own server's requests and nowhere else.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from openai_proxy.servers import Server, TokenReference

from proxy.aws import Aws, AwsError
from proxy.errors import UnavailableError
from proxy.log import log

_MISSING_TTL = 10.0
"""Seconds for which a token that is not there is not looked for again: nobody may make the proxy ask and ask."""


class TokenNotFoundError(Exception):
    """A reference leads nowhere. The message is for the owner: it names the remedy and holds no token."""


class ProviderTokens:
    """Looks tokens up, and again after `ttl` seconds, so that a rotated one is picked up without a deployment."""

    def __init__(
        self,
        aws: Aws,
        environment: Mapping[str, str],
        tokens_secret: str | None,
        ttl: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self._environment = environment
        self._tokens_secret = tokens_secret
        self._ttl = ttl
        self._clock = clock
        self._found: dict[TokenReference, tuple[float, str]] = {}
        self._missing: dict[TokenReference, tuple[float, TokenNotFoundError]] = {}

    def token_for(self, server: Server) -> str:
        """The token of `server`. Raises UnavailableError (503) and logs what the owner has to do."""
        try:
            return self.find(server)
        except (AwsError, TokenNotFoundError) as error:
            log("ERROR", "A server's token was not found", server=server.name, reason=str(error))
            message = f"The proxy's owner has not set up a token for the server '{server.name}'."
            raise UnavailableError(503, "server_not_configured", message) from error

    def find(self, server: Server) -> str:
        """The token of `server`. Raises TokenNotFoundError, or AwsError when it cannot be looked up."""
        reference = server.token
        if reference.kind == "literal":
            return reference.name
        found = self._found.get(reference)
        if found and found[0] > self._clock():
            return found[1]
        missing = self._missing.get(reference)
        if missing and missing[0] > self._clock():
            raise missing[1]
        try:
            token = self._look_up(reference)
        except TokenNotFoundError as error:
            self._missing[reference] = (self._clock() + _MISSING_TTL, error)
            raise
        self._found[reference] = (self._clock() + self._ttl, token)
        return token

    def forget(self) -> None:
        """Look every token up again: a snapshot must not keep one for its copies."""
        self._found.clear()
        self._missing.clear()

    def _look_up(self, reference: TokenReference) -> str:
        if reference.kind == "environment":
            token = self._environment.get(reference.name) or self._from_tokens_secret(reference.name)
        elif reference.kind == "ssm":
            token = self._aws.get_parameter(reference.name)
        else:
            secret = self._aws.get_secret(reference.name)
            token = _member(secret, reference.json_key, reference.name) if reference.json_key else secret
        if not token or not token.isascii() or not token.isprintable():
            raise TokenNotFoundError(f"{reference} is empty, or holds characters that no HTTP header can carry")
        return token

    def _from_tokens_secret(self, name: str) -> str:
        if not self._tokens_secret:
            raise TokenNotFoundError(f"the environment variable {name} is not set")
        return _member(self._aws.get_secret(self._tokens_secret), name, self._tokens_secret)


def _member(secret: str, key: str, secret_id: str) -> str:
    try:
        fields: Any = json.loads(secret)
        return str(fields[key])
    except (ValueError, KeyError, TypeError) as error:
        raise TokenNotFoundError(f'the secret {secret_id} has no key "{key}": add it') from error
