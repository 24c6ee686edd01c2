"""Why an access token is refused, and what the client can do about it. Pure.

Its one rule: neither the code nor the remedy holds anything of the token.
"""

from collections.abc import Mapping

_REMEDIES: Mapping[str, str] = {
    "token_too_large": "Have the issuer put fewer claims into the token.",
    "token_malformed": "Send an access token in the form of a signed JWT; some issuers give one only with an audience.",
    "token_algorithm": "Have the issuer sign with one of the issuer's `algorithms` in identity.yaml.",
    "token_issuer": "Add the issuer to identity.yaml, exactly as the token's `iss`.",
    "token_key": "If the issuer has just changed its keys, wait a moment; else compare `jwks_url` with its own.",
    "token_signature": "Nobody but the issuer can sign: somebody may be trying forged tokens.",
    "token_expired": "The page has to renew the token before it ends.",
    "token_not_yet_valid": "Compare the issuer's clock: it is more than a minute ahead.",
    "token_audience": "Compare `audience` in identity.yaml with the token's. An ID token has another one.",
    "token_subject": "Use a flow in which a user signs in: the token has no usable `sub`.",
    "token_bound": "Have the issuer give this application bearer tokens: not bound by DPoP or mutual TLS.",
    "token_claims": "Compare `require` in identity.yaml with the token's claims.",
    "token_plan": "Add the value of the claim, or a default, to `plans` of the issuer in identity.yaml.",
    "client_paused": "A guard has paused it: `openai-proxy guards list` says until when, `guards undo` ends it.",
    "user_blocked": "openai-proxy users unblock lets the user in again.",
}


class TokenRefusedError(Exception):
    """The token is refused. `code` is one of `TOKEN_REFUSALS`; `issuer` is one of the identity file, where it is
    known.
    """

    def __init__(self, code: str, issuer: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.issuer = issuer

    @property
    def remedy(self) -> str:
        """What the client, or the owner of the stack, can do."""
        return _REMEDIES[self.code]


class KeysUnavailableError(Exception):
    """The token cannot be checked now: the issuer's keys cannot be fetched, and none are remembered."""
