"""Why a client key or an access token lets nobody in: the stable codes, and what the client is told. Pure.

Its one rule: a message is the same for every key or token with the same fault. It holds nothing of the key or token.
"""

from collections.abc import Mapping

INVALID_KEY = "invalid_api_key"
WRONG_KEY = "The client key is not valid."

TOKEN_REFUSALS: Mapping[str, str] = {
    "token_too_large": "The access token is larger than 8192 bytes.",
    "token_malformed": "The access token is not a well-formed JSON Web Token.",
    "token_algorithm": "The access token is signed with an algorithm that is not allowed.",
    "token_issuer": "The access token is of an issuer that is not trusted here.",
    "token_key": "The access token is signed with a key that its issuer does not publish.",
    "token_signature": "The signature of the access token is not valid.",
    "token_expired": "The access token has expired. Get a new one.",
    "token_not_yet_valid": "The access token is not valid yet.",
    "token_audience": "The access token is for another audience.",
    "token_subject": "The access token names no user.",
    "token_bound": "The access token is bound to a key, which nobody can prove here.",
    "token_claims": "The access token lacks a claim that is required here.",
    "token_plan": "The access token gives its user no plan.",
    "user_blocked": "This user is blocked.",
    "client_paused": "This client is paused for a time. Its owner knows why.",
}
"""Messages by code. Each is a 401 at both doors, and is written into JSON as it stands."""

CODE, MESSAGE = "error_code", "error_message"
"""Their names in the context of the authorizer's answer; the REST API's response of ACCESS_DENIED has them too."""
