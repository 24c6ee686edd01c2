"""Pseudonyms for users whose `sub` must not be stored: a keyed hash of it, with a secret of the stack.

Its one rule: without the secret such a user is not let in, rather than under another name.
"""

from collections.abc import Callable
from functools import cache
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

    @cache
    def secret() -> str:
        if not secret_id:
            raise KeysUnavailableError("pseudonyms need UserPseudonymsEnabled=true")
        found = client().get_secret_value(SecretId=secret_id).get("SecretString")
        if not isinstance(found, str) or len(found) < _SHORTEST:
            raise KeysUnavailableError(f"the secret of pseudonyms has less than {_SHORTEST} characters")
        return found

    return lambda issuer, sub: pseudonym_of(secret(), issuer, sub)
