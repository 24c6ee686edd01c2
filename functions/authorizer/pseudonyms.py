"""Pseudonyms for users whose `sub` must not be stored: a keyed hash of it, with a secret of the stack.

Its one rule: without the secret such a user is not let in, rather than under another name.
"""

from collections.abc import Callable
from typing import Any

from openai_proxy.identity import pseudonym_of

from authorizer.refusal import KeysUnavailableError

_SHORTEST = 32
"""Characters of the secret."""

Pseudonym = Callable[[str, str], str]
"""The shape of `pseudonym_of` with its secret: issuer, sub ─▶ what the user is called."""


def pseudonyms_of(client: Callable[[], Any], secret_id: str | None) -> Pseudonym:
    """A function that makes pseudonyms with the secret `secret_id` of Secrets Manager. The first call reads the secret.

    The function raises KeysUnavailableError where there is no such secret, and botocore's errors.
    """
    secrets: list[str] = []

    def pseudonym(issuer: str, sub: str) -> str:
        if not secrets:
            if not secret_id:
                raise KeysUnavailableError("pseudonyms need UserPseudonymsEnabled=true")
            secret = client().get_secret_value(SecretId=secret_id).get("SecretString")
            if not isinstance(secret, str) or len(secret) < _SHORTEST:
                raise KeysUnavailableError(f"the secret of pseudonyms has less than {_SHORTEST} characters")
            secrets.append(secret)
        return pseudonym_of(secrets[0], issuer, sub)

    return pseudonym
