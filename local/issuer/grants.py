"""How the local stack's provider gives out tokens, on Authlib: for a code with PKCE, and for a password.

Its one rule: all that is signed or checked is the library's doing.
"""

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import authlib.oauth2.rfc6749 as authlib_oauth
import authlib.oauth2.rfc6749.grants as authlib_grants
import authlib.oauth2.rfc7636 as authlib_pkce
import authlib.oauth2.rfc9068 as authlib_tokens
import authlib.oidc.core as authlib_oidc
import authlib.oidc.core.grants as authlib_oidc_grants
from joserfc.jwk import RSAKey

from local.issuer.people import AUDIENCE, CLIENT_ID, PEOPLE, Person

GRANTS = ("authorization_code", "password")
SCOPES = ("openid", "profile", "email")
SECONDS = 900
"""How long a token is good."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

# The library has no types.
_oauth: Any = authlib_oauth
_grants: Any = authlib_grants
_pkce: Any = authlib_pkce
_tokens: Any = authlib_tokens
_oidc: Any = authlib_oidc
_oidc_grants: Any = authlib_oidc_grants


class User(NamedTuple):
    """Somebody who signs in, as the library wants them."""

    person: Person

    def get_user_id(self) -> str:
        return self.person.sub


class Client(_oauth.ClientMixin):
    """A page: it has no secret, and may send people back to any address of this machine."""

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> None:
        return None

    def get_allowed_scope(self, scope: str | None) -> str:
        return " ".join(word for word in (scope or "").split() if word in SCOPES)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        parts = urlsplit(redirect_uri)
        return parts.scheme == "http" and parts.hostname in _LOOPBACK

    def check_client_secret(self, client_secret: str) -> bool:
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "none"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in GRANTS


class _Code(NamedTuple):
    """A code that a page changes into tokens, once."""

    code: str
    person: Person
    redirect_uri: str
    scope: str
    nonce: str | None
    code_challenge: str | None
    code_challenge_method: str | None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str | None:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    def get_acr(self) -> None:
        return None

    def get_amr(self) -> None:
        return None


def claims_of(person: Person) -> dict[str, Any]:
    """The claims of a person's tokens."""
    return {
        "name": person.name,
        "email": f"{person.user_name}@example.com",
        "email_verified": True,
        "tier": person.tier,
    }


def named(user_name: str | None) -> Person | None:
    """The person with this user name."""
    return next((person for person in PEOPLE if person.user_name == user_name), None)


def register(server: Any, issuer: str, key: RSAKey) -> None:
    """Give the library's server its grants; what it gives out is of `issuer` and signed with `key`."""
    server.register_grant(_by_code(), [_pkce.CodeChallenge(required=True), _with_id_token(issuer, key)])
    server.register_grant(_ByPassword)
    server.register_token_generator("default", _access_tokens(issuer, key))


def _by_code() -> Any:
    codes: dict[str, _Code] = {}

    class ByCode(_grants.AuthorizationCodeGrant):
        TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

        def save_authorization_code(self, code: str, request: Any) -> None:
            payload, data = request.payload, request.payload.data
            challenge = data.get("code_challenge"), data.get("code_challenge_method")
            codes[code] = _Code(
                code, request.user.person, payload.redirect_uri, request.scope, data.get("nonce"), *challenge
            )

        def query_authorization_code(self, code: str, client: Any) -> _Code | None:
            return codes.get(code)

        def delete_authorization_code(self, authorization_code: _Code) -> None:
            codes.pop(authorization_code.code, None)

        def authenticate_user(self, authorization_code: _Code) -> User:
            return User(authorization_code.person)

    return ByCode


class _ByPassword(_grants.ResourceOwnerPasswordCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = ("none",)

    def authenticate_user(self, username: str, password: str) -> User | None:
        person = named(username)
        return User(person) if person and secrets.compare_digest(person.user_name, password) else None


def _with_id_token(issuer: str, key: RSAKey) -> Any:
    class WithIdToken(_oidc_grants.OpenIDCode):
        def exists_nonce(self, nonce: str, request: Any) -> bool:
            return False

        def resolve_client_private_key(self, client: Any) -> RSAKey:
            return key

        def get_client_claims(self, client: Any) -> dict[str, str]:
            return {"iss": issuer}

        def generate_user_info(self, user: User, scope: str) -> Any:
            return _oidc.UserInfo(sub=user.person.sub, **claims_of(user.person))

    return WithIdToken()


def _access_tokens(issuer: str, key: RSAKey) -> Any:
    class AccessTokens(_tokens.JWTBearerTokenGenerator):
        def get_jwks(self) -> RSAKey:
            return key

        def get_audiences(self, client: Any, user: Any, scope: str) -> str:
            return AUDIENCE

        def get_extra_claims(self, client: Any, grant_type: str, user: User, scope: str) -> Mapping[str, Any]:
            return claims_of(user.person)

    def seconds(_client: Any, _grant_type: str) -> int:
        return SECONDS

    return AccessTokens(issuer, expires_generator=seconds)
