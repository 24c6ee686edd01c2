"""Who is calling: a client key or an access token, judged by the authorizer function. Its one rule: nobody is let in
without a clear yes.

A function URL cannot have an authorizer, so the proxy sends the authorizer function the event that API Gateway would
have sent, and remembers a yes for a bounded time, as API Gateway does. A no is never remembered, so a new key works at
once; an authorizer that cannot be asked is a 503, and not remembered either.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from openai_proxy.credentials import has_key, sent_key
from openai_proxy.key_context import ClientKey
from openai_proxy.key_refusals import CODE, INVALID_KEY, WRONG_KEY

from proxy.aws.client import AwsError
from proxy.clock import lasting
from proxy.errors import ClientError, KeyRefusedError, TokenError, UnavailableError
from proxy.json_shapes import loads_or_none
from proxy.request.parse import InferenceRequest

_MAX_REMEMBERED = 1000

Invoke = Callable[[str, bytes], tuple[bytes, bool]]
"""The shape of `Aws.invoke`."""


class Authenticator(Protocol):
    """What authenticates a request: the authorizer, or one of the access modes."""

    def authorize(self, request: InferenceRequest) -> ClientKey: ...
    def forget(self) -> None: ...


class AuthorizerFunction(NamedTuple):
    """The authorizer function, as the proxy asks it. `region` is part of the ARN in its events."""

    invoke: Invoke
    name: str
    region: str

    def judge(self, request: InferenceRequest, sent: str) -> ClientKey:
        """The client key that `sent` is: a key's or an access token's text, which came with `request`.

        Raises ClientError (401) or UnavailableError (503).
        """
        event = authorizer_event(request, sent, self.region)
        try:
            result, failed = self.invoke(self.name, json.dumps(event).encode())
            answer: Any = loads_or_none(result)
            if failed:
                raise cannot_check()
            [statement] = answer["policyDocument"]["Statement"]
            effect = statement["Effect"]
            if effect == "Deny":
                code = answer["context"][CODE]
                raise _invalid() if code == INVALID_KEY else TokenError(code)
            if effect != "Allow":
                raise cannot_check()
            return ClientKey.from_context(answer["context"])
        except (AwsError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise cannot_check() from error


class Authorizer:
    """Asks the authorizer function, and remembers its yes for `ttl` seconds."""

    def __init__(
        self,
        function: AuthorizerFunction,
        ttl: float,
        clock: Callable[[], float] = lasting,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._function = function
        self._ttl = ttl
        self._clock = clock
        self._now = now
        self._remembered: OrderedDict[bytes, tuple[float, ClientKey]] = OrderedDict()

    def authorize(self, request: InferenceRequest) -> ClientKey:
        """The key that `request` came with. Raises ClientError (401) or UnavailableError (503)."""
        if request.gateway_identity is not None and "client_id" in request.gateway_identity:
            try:
                return self._still_good(ClientKey.from_context(request.gateway_identity))
            except ValueError as error:
                raise cannot_check() from error
        if not has_key(request.headers):
            raise _invalid("No client key. Send it as 'Authorization: Bearer <key>', in an SDK as its API key.")
        sent = sent_key(request.headers)
        if sent is None:
            raise _invalid()
        digest = hashlib.sha256(sent.encode(errors="surrogatepass")).digest()
        remembered = self._remembered.get(digest)
        if remembered and remembered[0] > self._clock() and not self._has_ended(remembered[1]):
            return self._still_good(remembered[1])
        key = self._function.judge(request, sent)
        self._remembered[digest] = (self._clock() + self._ttl, key)
        self._remembered.move_to_end(digest)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return key

    def _has_ended(self, key: ClientKey) -> bool:
        """Whether an access token has ended by this sandbox's clock. The authorizer is then asked again, which allows
        for the issuer's clock.
        """
        return key.end_user != "" and key.expires_at is not None and key.expires_at <= self._now()

    def _still_good(self, key: ClientKey) -> ClientKey:
        if key.end_user:  # it has not ended, or the authorizer has judged it a moment ago
            return key
        if key.expires_at is not None and key.expires_at <= self._now():
            raise _invalid()
        return key

    def forget(self) -> None:
        """Forget every answer: after a SnapStart restore nobody knows how old the answers are."""
        self._remembered.clear()


def _invalid(message: str = WRONG_KEY) -> ClientError:
    return KeyRefusedError(message)


def cannot_check() -> UnavailableError:
    """The error for a request that cannot be authenticated now."""
    message = "The client key cannot be checked at the moment."
    return UnavailableError(503, "authorization_unavailable", message, headers={"retry-after": "5"})


def authorizer_event(request: InferenceRequest, key: str, region: str) -> dict[str, Any]:
    """The REQUEST event (payload 1.0) that API Gateway would send to its authorizer for this request and its key."""
    return {
        "type": "REQUEST",
        "methodArn": f"arn:aws:execute-api:{region}:000000000000:function-url/url/{request.method}{request.path}",
        "resource": "/{proxy+}",
        "path": request.path,
        "httpMethod": request.method,
        "headers": {"Authorization": f"Bearer {key}"},
        "queryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"path": request.path, "httpMethod": request.method, "stage": "url", "apiId": "function-url"},
    }
