"""A client key or an access token ─▶ who it is and what it may do, as an API Gateway REQUEST authorizer answers
(payload 1.0).

One rule: three answers are never mixed up. A good key gets a policy that allows. A bad one gets a policy that denies
everything and says why, or, if it is a client key at the REST API, raises Unauthorized; both become a 401. When a key
cannot be checked, any other error leaves this function, and both doors answer 503. So an outage of the key table or of
an issuer, or a damaged item, never tells a client that its key is bad, and never lets it in without its limits.
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.client_keys import hash_client_key, is_well_formed, key_id_of
from openai_proxy.credentials import KEY_HEADERS, sent_key
from openai_proxy.key_context import ClientKey
from openai_proxy.key_refusals import CODE, INVALID_KEY, MESSAGE, TOKEN_REFUSALS, WRONG_KEY

from authorizer.client_key import DamagedKeyError, UnknownTeamError, client_key_of, with_team
from authorizer.refusal import TokenRefusedError
from authorizer.token import looks_like_token

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

NOT_CHECKED, REFUSED = "A client key was not checked", "A client was refused"
"""What the log says when the client gets a 503, and when it gets a 401; metric filters of the template count them."""

_NO_TEAM = (
    "Make it with `openai-proxy teams create`, or take its name out of the key (`keys update --unset team`) or of the "
    "plan in identity.yaml."
)

# arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/POST/openai/v1/models: everything before the method is
# kept.
_STAGE = re.compile(r"(arn:[a-z0-9-]+:execute-api:[a-z0-9-]*:[0-9]*:[A-Za-z0-9-]+/[A-Za-z0-9_$-]+)/")


class Unauthorized(Exception):  # noqa: N818 - API Gateway answers 401 to exactly this message
    """The key is no client key, unknown, disabled or expired; which of these is in the log only."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class UnknownEventError(Exception):
    """The event does not say which API the policy is for."""


class Keys(Protocol):
    """Where client keys are: KeysTable, or a fake of it."""

    def find(self, key_hash: str) -> Mapping[str, Any] | None:
        """The item of the key with this hash, in plain values, or None."""
        ...


OfToken = Callable[[str], ClientKey]
"""The shape of `Users`: the client key of an access token's user. Raises TokenRefusedError."""
Held = Callable[[ClientKey], ClientKey]
"""The shape of `Guards`: a client as guards hold it. Raises TokenRefusedError."""


class Authorizer:
    """Judges the client key of one request, or its access token where `users` can."""

    def __init__(
        self,
        keys: Keys,
        logger: "Logger",
        clock: Callable[[], float] = time.time,
        users: OfToken | None = None,
        guards: Held | None = None,
    ) -> None:
        self._keys = keys
        self._logger = logger
        self._clock = clock
        self._users = users
        self._guards = guards

    def __call__(self, event: Any) -> dict[str, Any]:
        """The policy and context for a REQUEST authorizer event.

        Raises Unauthorized; DamagedKeyError, UnknownEventError and whatever `keys` and `users` raise when it cannot be
        checked.
        """
        try:
            return self._judged(event)
        except Unauthorized:
            if _is_of_the_proxy(event):  # an error would count as a failed invocation
                return _deny(INVALID_KEY, WRONG_KEY)
            raise
        except Exception as error:
            self._logger.error(NOT_CHECKED, reason=type(error).__name__)  # noqa: TRY400 - the runtime logs the trace
            raise

    def _judged(self, event: Any) -> dict[str, Any]:
        key = sent_key(_key_headers(event))
        if key is not None and self._users is not None and looks_like_token(key):
            return self._of_token(key, event, self._users)
        if key is None or not is_well_formed(key):
            raise self._refused("no well-formed client key")
        item = self._keys.find(hash_client_key(key))
        if item is None:
            raise self._refused("unknown client key")
        if item.get("enabled") is False:  # a key that is off is refused, even if the rest of its item is damaged
            raise self._refused("disabled client key", item)
        client = self._client(item)
        if client.expires_at is not None and client.expires_at <= self._clock():
            raise self._refused("expired client key", item)
        return self._let_in(client, event)

    def _of_token(self, token: str, event: Any, users: OfToken) -> dict[str, Any]:
        try:
            client = users(token)
        except TokenRefusedError as refusal:
            return self._denied(refusal)
        return self._let_in(client, event)

    def _denied(self, refusal: TokenRefusedError, **named: Any) -> dict[str, Any]:
        issuer = refusal.issuer or None
        self._logger.warning(REFUSED, reason=refusal.code, issuer=issuer, remedy=refusal.remedy, **named)
        return _deny(refusal.code, TOKEN_REFUSALS[refusal.code])

    def _let_in(self, client: ClientKey, event: Any) -> dict[str, Any]:
        named: dict[str, Any] = {"client_id": client.client_id, "key_id": client.key_id, "team": client.team}
        try:
            held = self._guards(client) if self._guards else client
            return _allow(with_team(held, self._keys.find), event.get("methodArn"))
        except TokenRefusedError as refusal:
            return self._denied(refusal, **named)
        except UnknownTeamError:
            self._logger.error("A key names an unknown team", remedy=_NO_TEAM, **named)  # noqa: TRY400 - the runtime logs the trace
            raise
        except DamagedKeyError as error:
            self._logger.error("A team is damaged", problems=error.problems, **named)  # noqa: TRY400 - as above
            raise

    def _client(self, item: Mapping[str, Any]) -> ClientKey:
        try:
            return client_key_of(item)
        except DamagedKeyError as error:
            self._logger.error(  # noqa: TRY400 - the runtime logs the trace
                "A client key is damaged", problems=error.problems, **_named(item)
            )
            raise

    def _refused(self, reason: str, item: Mapping[str, Any] | None = None) -> Unauthorized:
        self._logger.warning(REFUSED, reason=reason, **_named(item or {}))
        return Unauthorized()


def _is_of_the_proxy(event: Any) -> bool:
    """Whether the proxy asks, for its function URL: in the place where API Gateway names the API, the proxy names
    itself.
    """
    return isinstance(event, dict) and ":function-url/" in str(event.get("methodArn"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


def _named(item: Mapping[str, Any]) -> dict[str, Any]:
    """The key's id, as the console shows it; nothing for a key that is not known."""
    return {"client_id": item.get("client_id"), "key_id": key_id_of(item["key_hash"]) if item else None}


def _key_headers(event: Any) -> dict[str, str]:
    """The headers that may carry a key, by their names in lower case.

    If a header has several values, they are joined, and the result is no key: nobody knows which one is meant.
    """
    request: dict[str, Any] = event if isinstance(event, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    single, multiple = (_values(request.get(name)) for name in ("headers", "multiValueHeaders"))
    found: dict[str, str] = {}
    for name in single.keys() | multiple.keys():
        one, all_of_it = single.get(name, []), multiple.get(name, [])
        is_clear = len(one) <= 1 and len(all_of_it) <= 1 and len({*one, *all_of_it}) == 1
        found[name] = (one or all_of_it)[0] if is_clear else ",".join([*one, *all_of_it, ""])
    return found


def _values(headers: Any) -> dict[str, list[str]]:
    """Every value of these headers. One that is no text cannot be a key, but it counts as a value."""
    values: dict[str, list[str]] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else ():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(name, str) and name.lower() in KEY_HEADERS:
            each = value if isinstance(value, list | tuple) else [value]  # pyright: ignore[reportUnknownVariableType]
            values.setdefault(name.lower(), []).extend(map(str, each))  # pyright: ignore[reportUnknownArgumentType]
    return values


def _allow(client: ClientKey, method_arn: Any) -> dict[str, Any]:
    # API Gateway remembers a policy by key, not by path. So it has to cover all that the key may call.
    stage = _STAGE.match(method_arn) if isinstance(method_arn, str) else None
    if stage is None:
        raise UnknownEventError("methodArn is not the ARN of a method of an API")
    return _policy(client.client_id, "Allow", f"{stage[1]}/*/*", client.to_context())


def _deny(code: str, message: str) -> dict[str, Any]:
    """A policy that denies, with the reason in its context: both doors answer it with a 401 that says why. A raised
    error could carry no reason.
    """
    return _policy("nobody", "Deny", "*", {CODE: code, MESSAGE: message})


def _policy(principal: str, effect: str, resource: str, context: Mapping[str, str]) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return {"principalId": principal, "policyDocument": document, "context": context}
