"""The public keys of an issuer, from its JWKS document: fetched, remembered, and fetched again for a key that is new.

Its one rule: only the issuer's own document says which keys are the issuer's. What cannot be fetched is not guessed:
keys that are remembered stay good for a bounded time, and without any nobody is let in.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openai_proxy.identity.issuer import Issuer, address_of, origin_of
from openai_proxy.identity.values import EntryError

from authorizer.https_get import FetchError
from authorizer.refusal import KeysUnavailableError, TokenRefusedError
from authorizer.signature import Jwk, fits, loaded
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
        self._loaded: dict[tuple[str | None, str], PyJWK] = {}
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

    def find(self, kid: str | None, algorithm: str) -> "PyJWK":
        """The key that a token was signed with. Raises TokenRefusedError, and KeysUnavailableError where the keys
        cannot be had.
        """
        self.look()
        if (key := self._known(kid, algorithm)) is not None:
            return key
        now = self._clock()
        if len(self._looks) < MOST_LOOKS or now - self._looks[0] >= LOOKS_WITHIN:
            self._looks.append(now)
            self._refresh()
            if (key := self._known(kid, algorithm)) is not None:
                return key
        if not self._is_answering:
            raise KeysUnavailableError(self._issuer.issuer)
        raise TokenRefusedError("token_key", self._issuer.issuer)

    def _known(self, kid: str | None, algorithm: str) -> "PyJWK | None":
        """The one key with this name that fits the algorithm. If a token names no key, there has to be exactly one that
        fits.
        """
        if (key := self._loaded.get((kid, algorithm))) is not None:
            return key
        found = [each for each in self._keys if kid in (None, each.get("kid")) and fits(each, algorithm)]
        key = loaded(found[0], algorithm) if len(found) == 1 else None
        if key is not None:
            self._loaded[kid, algorithm] = key
        return key

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
            keys = _keys_in(self._fetch(self._address, max(0.1, end - self._clock())))
        except FetchError as error:
            self._next_try = self._clock() + PAUSE
            self._logger.error(  # noqa: TRY400 - a fault of the issuer's
                "the keys of an issuer cannot be fetched", issuer=self._issuer.issuer, reason=str(error)
            )
            return
        if keys != self._keys:
            self._keys, self._loaded = keys, {}
            self.version += 1
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


def _keys_in(document: dict[str, Any]) -> list[Jwk]:
    """The keys in a JWKS document that tokens may be signed with. Raises FetchError."""
    listed: Any = document.get("keys")
    if not isinstance(listed, list) or not 0 < len(listed) <= _MOST_KEYS:  # pyright: ignore[reportUnknownArgumentType]
        raise FetchError(f"it does not list 1 to {_MOST_KEYS} keys")
    return [each for each in listed if _is_key(each)]  # pyright: ignore[reportUnknownVariableType]


def _is_key(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    kid: Any = value.get("kid")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return kid is None or (isinstance(kid, str) and len(kid) <= LONGEST_KID)
