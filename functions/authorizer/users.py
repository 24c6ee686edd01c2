"""An access token ─▶ the client key of its user. Loaded only where identity.yaml names an issuer.

Its one rule: a token is believed only if the issuer that it names is in the file and has signed it. What is remembered
about a token ends with the token, and with the issuer's keys. Whether the user is blocked is looked up every time.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from openai_proxy.identity import Identity, blocked_key, user_id_of
from openai_proxy.key_context import ClientKey

from authorizer import claims
from authorizer.issuer_keys import Fetch, IssuerKeys
from authorizer.pseudonyms import Pseudonym
from authorizer.refusal import TokenRefusedError
from authorizer.signature import is_signed
from authorizer.token import Token, read_token

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_MOST_REMEMBERED = 1000
_REMEMBERED = 300.0
"""Seconds, at most."""


def _since_boot() -> float:
    """A clock in seconds that also counts the time for which a sandbox was frozen: what it knows about an issuer ages
    meanwhile.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))  # only Linux has CLOCK_BOOTTIME


class Blocks(Protocol):
    """Where blocked users are: KeysTable, or a fake of it."""

    def find(self, key_hash: str) -> Mapping[str, Any] | None: ...


class _Known(NamedTuple):
    """A user whose token was good: until when that is remembered, and with which version of the issuer's keys it was
    checked.
    """

    until: float
    version: int
    issuer: str
    key: ClientKey


def keys_of_issuers(
    identity: Identity, fetch: Fetch, logger: "Logger", clock: Callable[[], float] = _since_boot
) -> dict[str, IssuerKeys]:
    """The keys of every issuer in the file, by the issuer's name; nothing is fetched yet. `clock` never goes back."""
    return {name: IssuerKeys(each, fetch, clock, logger) for name, each in identity.issuers.items()}


class Users:
    """Judges access tokens by the `keys` of the issuers. `clock` is in Unix seconds."""

    def __init__(
        self,
        identity: Identity,
        blocks: Blocks,
        keys: Mapping[str, IssuerKeys],
        pseudonym: Pseudonym,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity = identity
        self._blocks = blocks
        self._pseudonym = pseudonym
        self._clock = clock
        self._keys = keys
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def prefetch(self) -> None:
        """Begin to fetch the keys of all issuers, side by side, without waiting; the first token of each issuer waits
        for its keys.
        """
        for each in self._keys.values():
            each.prefetch()

    def __call__(self, text: str) -> ClientKey:
        """The client key of a token's user.

        Raises TokenRefusedError; KeysUnavailableError and whatever `blocks` raises where the token cannot be checked.
        """
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
        known = self._remembered(digest)
        if known is None:
            token = read_token(text)
            known = self._judged(token)
            self._remember(digest, known)
        if self._blocks.find(blocked_key(known.key.key_id)) is not None:
            raise TokenRefusedError("user_blocked", known.issuer)
        return known.key

    def _judged(self, token: Token) -> _Known:
        named = token.claims.get("iss")
        issuer = self._identity.issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise TokenRefusedError("token_issuer")
        if token.algorithm not in issuer.algorithms:
            raise TokenRefusedError("token_algorithm", issuer.issuer)
        keys = self._keys[issuer.issuer]
        named = keys.find(token.kid, token.algorithm)
        if not any(is_signed(token.text, key, token.algorithm) for key in named):
            raise TokenRefusedError("token_signature", issuer.issuer)
        now = self._clock()
        claims.check(token.claims, issuer, now)
        plan = self._identity.plans[claims.plan_of(token.claims, issuer)]
        sub: str = token.claims["sub"]
        end_user = self._pseudonym(issuer.issuer, sub) if issuer.pseudonyms else sub
        end = claims.expires_at(token.claims)
        key = plan.key_of(user_id_of(issuer.issuer, end_user), end_user, end)
        return _Known(min(end, now + _REMEMBERED), keys.version, issuer.issuer, key)

    def _remembered(self, digest: bytes) -> _Known | None:
        known = self._known.get(digest)
        if known is None or known.until <= self._clock():
            return None
        keys = self._keys[known.issuer]
        keys.look()
        return known if keys.version == known.version else None

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        self._known.move_to_end(digest)
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
