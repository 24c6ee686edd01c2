"""Provider tokens: from the reference in the servers file to the token, found when a server is first called.

Its one rule: a token goes into one header of its own server's requests, and nowhere else.

A known token is used until a newer one is found. So while Secrets Manager or SSM do not answer, a server that worked a
moment ago goes on working.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from openai_proxy.servers import Server, TokenReference

from proxy.aws.client import SECRET_IS_BINARY, Aws, AwsError
from proxy.clock import lasting
from proxy.errors import UnavailableError
from proxy.http.wire import Outgoing
from proxy.log import log
from proxy.upstream.sign_in import signed_by_role, with_token

UNAVAILABLE = "A server's token is unavailable"
"""What the log says, at most once for each look-up; metric filters of the template count it by its `cause`."""

Cause = Literal["not_set_up", "not_readable", "refused"]

_NOT_THERE = frozenset(
    {
        *("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"),
        *("InvalidRequestException", SECRET_IS_BINARY),
    }
)
"""Codes with which a service says for sure that there is no such token, or that it is deleted. Nothing else does."""

_MISSING_TTL = 10.0
"""Seconds for which a token that is not there is not looked for again: nobody may make the proxy ask and ask."""
_PAUSES_UNKNOWN, _PAUSES_KNOWN = (1.0, 8.0), (10.0, 60.0)
"""Seconds before what could not be read is asked for again, each time twice as many: the first and the longest."""
_RENEWAL_SECONDS = 1.0
"""The longest wait for a new token where the known one would do."""
_BETWEEN_REREADS = 10.0
"""Seconds between two looks for another token because a server has refused the known one."""


class TokenNotFoundError(Exception):
    """A reference to a token leads nowhere. The message is for the owner: it names the remedy and holds no token."""


class _Known:
    """What is known of one reference, until when it is not looked up again, and how often the look-up has failed."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.failure: AwsError | TokenNotFoundError | None = None
        self.until = 0.0
        self.failed = 0


class ProviderTokens:
    """Looks tokens up, and again after `ttl` seconds, so that a rotated one is picked up without a deployment."""

    def __init__(
        self,
        aws: Aws,
        environment: Mapping[str, str],
        tokens_secret: str | None,
        ttl: float = 300.0,
        clock: Callable[[], float] = lasting,
    ) -> None:
        self._aws = aws
        self._environment = environment
        self._tokens_secret = tokens_secret
        self._ttl = ttl
        self._clock = clock
        self._calls_bedrock = environment.get("BEDROCK_ENABLED") == "true"
        self._known: dict[TokenReference, _Known] = {}
        self._refused: dict[tuple[str, str], float] = {}

    @classmethod
    def from_environ(cls, aws: Aws, environ: Mapping[str, str]) -> Self:
        """The tokens of a sandbox, with the settings in its environment."""
        return cls(aws, environ, environ.get("PROVIDER_TOKENS_SECRET"))

    def token_for(self, server: Server) -> str:
        """The token of `server`. Raises UnavailableError (503) if it is not set up, or cannot be read now."""
        try:
            return self.find(server)
        except TokenNotFoundError as error:
            message = f"The proxy's owner has not set up a token for the server '{server.name}'."
            raise UnavailableError(503, "server_not_configured", message) from error
        except AwsError as error:
            message = f"The token of the server '{server.name}' cannot be read at the moment."
            known = self._known.get(server.token)
            wait = known.until - self._clock() if known else 0.0
            headers = {"retry-after": str(max(1, math.ceil(wait)))}
            raise UnavailableError(503, "token_unavailable", message, headers=headers) from error

    def find(self, server: Server) -> str:
        """The token of `server`. Raises TokenNotFoundError, or AwsError when it cannot be read and is not known.

        For a server with AWS signatures it is the session token of the function's role, which is kept out of answers
        too.
        """
        if server.auth.is_aws:
            if "bedrock" in server.auth.service and not self._calls_bedrock:
                raise TokenNotFoundError("the stack's parameter BedrockEnabled is not true")
            return self._aws.credentials().session_token or ""
        if server.token.kind == "literal":
            return server.token.name
        known = self._known.setdefault(server.token, _Known())
        if known.until <= self._clock():
            self._renew(server, known)
        if known.token is None:
            assert known.failure is not None  # a token that was not found has a reason
            raise known.failure.with_traceback(None)
        return known.token

    def signed_in(self, server: Server, token: str, outgoing: Outgoing) -> Mapping[str, str]:
        """The headers of a request, with those that sign in to `server` with its `token`. Raises AwsError."""
        if server.auth.is_aws:
            return signed_by_role(server, outgoing, self._aws.credentials())
        return with_token(server, outgoing, token)

    def changed(self, server: Server, refused: str) -> str | None:
        """The current token of `server`, if it is not the one that the server has `refused`.

        It is looked up at once, but no more than once in ten seconds.
        """
        if server.token.kind == "literal":
            return None
        known = self._known.setdefault(server.token, _Known())
        if self._is_due(server.name, "read"):
            self._renew(server, known)
        if known.token != refused:
            return known.token
        if self._is_due(server.name, "told"):
            _log(server, "refused", "the server refuses it, and there is no other one: set a new one")
        return None

    def _is_due(self, server: str, what: str) -> bool:
        """Whether `what` has not been done for a while after `server` refused its token. If so, it counts as done
        now.
        """
        now = self._clock()
        if now - self._refused.get((server, what), -math.inf) < _BETWEEN_REREADS:
            return False
        self._refused[server, what] = now
        return True

    def forget(self) -> None:
        """Forget every token, so that a snapshot holds none for its copies."""
        self._known.clear()
        self._refused.clear()

    def _renew(self, server: Server, known: _Known) -> None:
        """Look the token up. The known one stays until it is certain that it no longer exists."""
        try:
            known.token, known.failure = self._look_up(server.token, known.token is not None), None
            known.until, known.failed = self._clock() + self._ttl, 0
        except TokenNotFoundError as error:
            known.token, known.failure, known.failed = None, error, 0
            known.until = self._clock() + _MISSING_TTL
            _log(server, "not_set_up", str(error))
        except AwsError as error:
            known.failure = error
            first, longest = _PAUSES_KNOWN if known.token else _PAUSES_UNKNOWN
            known.until = self._clock() + min(longest, first * 2.0**known.failed)
            known.failed = min(known.failed + 1, 10)
            _log(server, "not_readable", str(error), still_used=known.token is not None)

    def _look_up(self, reference: TokenReference, is_known: bool) -> str:
        timeout = _RENEWAL_SECONDS if is_known else None
        try:
            if reference.kind == "environment":
                token = self._environment.get(reference.name) or self._from_tokens_secret(reference.name, timeout)
            elif reference.kind == "ssm":
                token = self._aws.get_parameter(reference.name, timeout)
            else:
                secret = self._aws.get_secret(reference.name, timeout)
                token = _member(secret, reference.json_key, reference.name) if reference.json_key else secret
        except AwsError as error:
            if error.code in _NOT_THERE:
                raise TokenNotFoundError(f"{reference} cannot be found: {error}") from error
            raise
        if not token or not token.isascii() or not token.isprintable():
            raise TokenNotFoundError(f"{reference} is empty, or holds characters that no HTTP header can carry")
        return token

    def _from_tokens_secret(self, name: str, timeout: float | None) -> str:
        if not self._tokens_secret:
            raise TokenNotFoundError(f"the environment variable {name} is not set")
        return _member(self._aws.get_secret(self._tokens_secret, timeout), name, self._tokens_secret)


def _member(secret: str, key: str, secret_id: str) -> str:
    try:
        value: Any = json.loads(secret)[key]
        if type(value) not in (str, int):
            raise TypeError(key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TokenNotFoundError(f'the secret {secret_id} has no text under the key "{key}": add it') from error
    return str(value)


def _log(server: Server, cause: Cause, reason: str, *, still_used: bool = False) -> None:
    level = "WARN" if still_used else "ERROR"
    log(level, UNAVAILABLE, server=server.name, cause=cause, reason=reason, still_used=still_used)
