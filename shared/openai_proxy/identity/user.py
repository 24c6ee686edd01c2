"""How a signed-in user is called: in limits, events and the ledger, and where one is blocked. Pure.

Its one rule: a user is an issuer and what it calls the user. The same `sub` of two issuers is two users, and one who
comes to have another plan keeps the counters of before.
"""

import hashlib
import hmac

BLOCKED_PREFIX = "user#"
"""The key of a user's item in the key table begins with it. That of a client key is a hash, and never does."""

_PSEUDONYM = "p-"

LONGEST_SUBJECT = 255
"""Characters of a `sub` (OpenID Connect Core 1.0, section 2)."""


def user_id_of(issuer: str, end_user: str) -> str:
    """32 hexadecimal digits: the id of the user's limits, and its `key_id`. `end_user` is a `sub` or a pseudonym."""
    return hashlib.sha256(f"{issuer}\0{end_user}".encode()).hexdigest()[:32]


def pseudonym_of(secret: str, issuer: str, sub: str) -> str:
    """What a user is called whose `sub` is not to be kept. Who has not the secret cannot confirm a guess."""
    return _PSEUDONYM + hmac.new(secret.encode(), f"{issuer}\0{sub}".encode(), hashlib.sha256).hexdigest()[:32]


def is_pseudonym(text: str) -> bool:
    """Whether it has the form of one. An id of a user has another."""
    return text.startswith(_PSEUDONYM) and len(text) == len(_PSEUDONYM) + 32


def blocked_key(user_id: str) -> str:
    """The key of the item that blocks the user. The user is blocked while there is one, whatever it holds."""
    return BLOCKED_PREFIX + user_id
