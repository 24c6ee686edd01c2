"""The public keys of an issuer, from its JWKS document: fetched, remembered, and fetched again for a key that is new.

Its one rule: only the issuer's own document says which keys are the issuer's. What cannot be fetched is not guessed:
keys that are remembered stay good for a bounded time, and without any nobody is let in.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from openai_proxy.identity.issuer import Issuer, address_of, origin_of
from openai_proxy.identity.values import EntryError

from authorizer.https_get import FetchError
from authorizer.refusal import KeysUnavailableError, TokenRefusedError
from authorizer.signature import Jwk, fits, is_private, loaded
from authorizer.token import LONGEST_KID

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from jwt import PyJWK

FRESH = 600.0
"""Seconds for which a document is good without a second look."""
STALE = 6 * 3600.0
"""Seconds for which the latest document is good while the issuer cannot be asked."""
PAUSE = 30.0
"""Seconds between two tries while the issuer cannot be asked, and there are keys to go on with."""
SECONDS = 3.0
"""For one look at the issuer: description and keys."""
MOST_LOOKS = 3
"""Looks for a key that is not known, in `LOOKS_WITHIN` seconds: anybody can make up the name of a key."""
LOOKS_WITHIN = 30.0
_MOST_KEYS = 100
_MOST_NAMESAKES = 4
"""Keys with one name, each of which costs a check of the signature."""

_OF_PAIR = ("kty", "n", "crv", "x")
"""What says of which pair a key is."""

Fetch = Callable[[str, float], dict[str, Any]]
"""The shape of `HttpsGet`: an address and seconds ─▶ a JSON object. Raises FetchError."""


class IssuerKeys:
    """The keys of one issuer. `clock` counts seconds and never goes back."""

    def __init__(self, issuer: Issuer, fetch: Fetch, clock: Callable[[], float], logger: "Logger") -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._logger = logger
        self._keys: list[Jwk] = []
        self._loaded: dict[tuple[str | None, str], Sequence[PyJWK]] = {}
        self._fetched_at: float | None = None
        self._next_try = 0.0
        self._is_answering = False
        self._looks: deque[float] = deque(maxlen=MOST_LOOKS)
        self._address = issuer.jwks_url
        self._prefetching: threading.Thread | None = None
        """What comes meanwhile waits for its answer, and asks no second time."""
        self.version = 0
        """Grows whenever other keys than before are the issuer's."""

    def prefetch(self) -> None:
        """Begin to fetch the keys, without waiting. If the issuer cannot be asked now, its first token asks again."""
        self._prefetching = threading.Thread(target=self._refresh, daemon=True)
        self._prefetching.start()

    def look(self) -> None:
        """Fetch the keys again where that is due. Raises KeysUnavailableError when that fails and no remembered key is
        good any more.
        """
        if self._prefetching is not None:
            self._prefetching.join()
        age = self._age()
        if age is None or age > FRESH:
            if age is None or age > STALE or self._clock() >= self._next_try:
                self._refresh()
            age = self._age()
            if age is None or age > STALE:
                raise KeysUnavailableError(self._issuer.issuer)

    def find(self, kid: str | None, algorithm: str) -> "Sequence[PyJWK]":
        """The keys of which one has signed a token. Raises TokenRefusedError, and KeysUnavailableError where the keys
        cannot be had.
        """
        self.look()
        if keys := self._known(kid, algorithm):
            return keys
        now = self._clock()
        if len(self._looks) < MOST_LOOKS or now - self._looks[0] >= LOOKS_WITHIN:
            self._looks.append(now)
            self._refresh()
            if keys := self._known(kid, algorithm):
                return keys
        if not self._is_answering:
            raise KeysUnavailableError(self._issuer.issuer)
        raise TokenRefusedError("token_key", self._issuer.issuer)

    def _known(self, kid: str | None, algorithm: str) -> "Sequence[PyJWK]":
        """The usable keys with this name that fit the algorithm: a name may be that of several (RFC 7517, section 4.5).
        If a token names no key, there has to be exactly one that fits. A key that is listed twice is one key.
        """
        if keys := self._loaded.get((kid, algorithm)):
            return keys
        most, keys = 1 if kid is None else _MOST_NAMESAKES, list["PyJWK"]()
        for each in self._keys:
            named = kid in (None, each.get("kid")) and fits(each, algorithm)
            key = loaded(each, algorithm) if named else None
            if key is not None and all(key.key != other.key for other in keys):
                keys.append(key)
            if len(keys) > most:
                return ()
        if keys:
            self._loaded[kid, algorithm] = keys
        return keys

    def _age(self) -> float | None:
        return None if self._fetched_at is None else self._clock() - self._fetched_at

    def _refresh(self) -> None:
        """Ask the issuer which keys are its own."""
        end = self._clock() + SECONDS
        self._is_answering = False
        try:
            if not self._address:
                description = self._fetch(self._issuer.discovery_url, SECONDS)
                self._address = _address_in(description, self._issuer)
            keys, private = _keys_in(self._fetch(self._address, max(0.1, end - self._clock())))
        except FetchError as error:
            self._next_try = self._clock() + PAUSE
            self._logger.error(  # noqa: TRY400 - a fault of the issuer's
                "The keys of an issuer cannot be fetched", issuer=self._issuer.issuer, reason=str(error)
            )
            return
        if keys != self._keys:
            self._keys, self._loaded = keys, {}
            self.version += 1
        if private:
            self._logger.error(
                "An issuer publishes private keys, which are not used", issuer=self._issuer.issuer, count=private
            )
        self._fetched_at = self._clock()
        self._is_answering = True


def _address_in(description: dict[str, Any], issuer: Issuer) -> str:
    """The address of the keys in an issuer's own description; it must have the issuer's origin. Raises FetchError."""
    if description.get("issuer") != issuer.issuer:
        raise FetchError("its description is of another issuer: write `issuer` as it stands there")
    is_local = issuer.issuer.startswith("http:")
    try:
        address = address_of("jwks_uri", description.get("jwks_uri"), "", allow_loopback=is_local)
    except EntryError as error:
        raise FetchError(f"its jwks_uri is {error.problem}") from error
    if origin_of(address) != origin_of(issuer.issuer):
        raise FetchError("its jwks_uri is of another origin: if that is right, write it as `jwks_url`")
    return address


def _keys_in(document: dict[str, Any]) -> tuple[list[Jwk], int]:
    """The keys in a JWKS document that tokens may be signed with, and how many are not used because their private part
    is there for anybody to read, in whichever copy. Raises FetchError.
    """
    listed: Any = document.get("keys")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_KEYS:  # pyright: ignore[reportUnknownArgumentType]
        raise FetchError(f"it does not list 1 to {_MOST_KEYS} keys")
    keys: list[Jwk] = [each for each in listed if _is_key(each)]  # pyright: ignore[reportUnknownVariableType]
    told = [each for each in keys if is_private(each)]
    told_of = [{name: each.get(name) for name in _OF_PAIR} for each in told]
    good = [each for each in keys if {name: each.get(name) for name in _OF_PAIR} not in told_of]
    return good, len(told)


def _is_key(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    kid: Any = value.get("kid")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return kid is None or (isinstance(kid, str) and len(kid) <= LONGEST_KID)
