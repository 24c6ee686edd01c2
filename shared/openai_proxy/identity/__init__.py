"""`identity.yaml`: the issuers whose users may come with their own tokens, and the plans that say what each may do."""

from openai_proxy.identity.file import Identity, IdentityFileError, load_identity, parse_identity, warnings_of
from openai_proxy.identity.issuer import ALGORITHMS, Issuer, PlanChoice
from openai_proxy.identity.plan import Plan
from openai_proxy.identity.user import BLOCKED_PREFIX, blocked_key, is_pseudonym, pseudonym_of, user_id_of

__all__ = [
    "ALGORITHMS",
    "BLOCKED_PREFIX",
    "Identity",
    "IdentityFileError",
    "Issuer",
    "Plan",
    "PlanChoice",
    "blocked_key",
    "is_pseudonym",
    "load_identity",
    "parse_identity",
    "pseudonym_of",
    "user_id_of",
    "warnings_of",
]
