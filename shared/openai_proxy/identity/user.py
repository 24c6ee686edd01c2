"""The names of a signed-in user: in limits, events and the ledger, and in the item that blocks the user. Pure.

Its one rule: a user is an issuer and what it calls the user. The same `sub` at two issuers is two users. A user who
gets another plan keeps the same counters.
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
    """The pseudonym of a user whose `sub` must not be stored. Without the secret nobody can confirm a guess."""
    return _PSEUDONYM + hmac.new(secret.encode(), f"{issuer}\0{sub}".encode(), hashlib.sha256).hexdigest()[:32]


def is_pseudonym(text: str) -> bool:
    """Whether a name has the form of a pseudonym. The id of a user has another form."""
    return text.startswith(_PSEUDONYM) and len(text) == len(_PSEUDONYM) + 32


def blocked_key(user_id: str) -> str:
    """The key of the item that blocks the user. The user is blocked while there is one, whatever it holds."""
    return BLOCKED_PREFIX + user_id
