"""What users are called whose issuer's `sub` is not to be kept: a keyed hash, with a secret of the stack.

Its one rule: without the secret nobody is let in under another name.
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
    """Names by the secret `secret_id` of Secrets Manager, which is read when the first name is wanted.

    What it returns raises KeysUnavailableError where there is no such secret, and botocore's errors.
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
