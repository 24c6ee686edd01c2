"""How the proxy signs in to a server, and what every call of it carries. Pure.

(no auth) authorization: Bearer <token> auth: {header: api-key} api-key: <token> auth: aws AWS Signature Version 4 by
the function's own role, without a token auth: {aws: bedrock, region: eu-west-1} the same where the address does not say
service and Region
"""

import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from openai_proxy.servers.option_error import OptionError

REGION = "{region}"
"""Stands in the `url` of a server for the Region of the stack."""

# Patterns are compiled when the first server needs them: most files need none.
_HEADER = r"[a-z0-9][a-z0-9-]{0,63}"
_RESERVED = (
    "host|content-length|content-type|content-encoding|accept-encoding|transfer-encoding|te|trailer|upgrade|connection|"
    "keep-alive|expect|cookie|proxy-.*|x-amz-.*"
)
"""Headers that the proxy itself, or what is between it and the server, has to set."""
_MOST_ENTRIES = 16
_LONGEST_VALUE = 1024
_AWS_REGION = r"[a-z]{2}(?:-[a-z]+){1,2}-[0-9]{1,2}|\{region\}"
_AWS_SERVICE = r"[a-z0-9-]{1,64}"
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".on.aws")
_SIGNING_NAMES = {
    "bedrock-runtime": "bedrock",
    "bedrock-runtime-fips": "bedrock",
    "bedrock-mantle": "bedrock-mantle",
    "execute-api": "execute-api",
    "lambda-url": "lambda",
}
"""What a service is called in its hosts, and in its signatures."""


class Auth(NamedTuple):
    """A token in a `header` behind a `prefix`, or a signature for an AWS `service` in a `region`."""

    header: str = "authorization"
    prefix: str = "Bearer "
    service: str = ""
    region: str = ""

    @property
    def is_aws(self) -> bool:
        """Whether requests are signed with the credentials of the function's role. There is no token then."""
        return self.service != ""


BEARER = Auth()
_FROM_HOST = Auth(service="?")
_REMEDY = "write aws, {header: api-key} or {aws: bedrock, region: eu-west-1}; leave it out for a bearer token"


def auth_of(value: Any) -> Auth:
    """Read `auth`. Raises OptionError."""
    if value == "aws":
        return _FROM_HOST
    given: dict[str, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    if set(given) == {"header"}:
        name = str(given["header"]).lower()
        if not _is_free(name):
            raise OptionError("auth", f"'{name[:64]}' is no header that can carry a token", "write {header: api-key}")
        return Auth(name, "")
    if set(given) in ({"aws"}, {"aws", "region"}):
        service, region = given["aws"], given.get("region", REGION)
        if not (isinstance(service, str) and re.fullmatch(_AWS_SERVICE, service)):
            raise OptionError("auth", "aws is not the name of a service", "write {aws: bedrock, region: eu-west-1}")
        if not (isinstance(region, str) and re.fullmatch(_AWS_REGION, region)):
            raise OptionError("auth", "region is no Region", "write one such as eu-west-1, or leave it out")
        return Auth(service=service, region=region)
    raise OptionError("auth", "not a way to sign in", _REMEDY)


def auth_at(auth: Auth, url: str, region: str) -> Auth:
    """`auth` for a server at `url`: where AWS signs, service and Region are those of its host. Raises OptionError.

    `region` is the stack's own.
    """
    if auth != _FROM_HOST:
        return auth._replace(region=auth.region.replace(REGION, region))
    host = urlsplit(url).hostname or ""
    labels = host.split(".") if host.endswith(_AWS_HOSTS) else []
    service = next((_SIGNING_NAMES[label] for label in labels if label in _SIGNING_NAMES), None)
    found = next((label for label in labels if re.fullmatch(_AWS_REGION, label)), None)
    if service is None or found is None:
        remedy = "write auth: {aws: <service>, region: <region>}"
        raise OptionError("auth", "the address says no AWS service and Region that are known here", remedy)
    return Auth(service=service, region=found)


def query_of(value: Any) -> str:
    """Read `query`: parameters of every call, encoded as they are sent. Raises OptionError."""
    remedy = "write {api-version: 2025-04-01-preview}: names and texts"
    given = _texts("query", value, remedy)
    return "&".join(f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in given.items())


def headers_of(value: Any) -> dict[str, str]:
    """Read `headers`: what every call carries, by their names in lower case. Raises OptionError."""
    remedy = "write {HTTP-Referer: https://example.com}: names and texts"
    given = {name.lower(): text for name, text in _texts("headers", value, remedy).items()}
    for name, text in given.items():
        if name == "authorization" or not _is_free(name):
            raise OptionError("headers", f"'{name[:64]}' is no header that a file may set", remedy)
        if not (text.isascii() and text.isprintable() and text == text.strip()):
            raise OptionError("headers", f"the value of '{name}' is none that a header can carry", remedy)
    return given


def _texts(key: str, value: Any, remedy: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise OptionError(key, "not a mapping", remedy)
    given: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    if len(given) > _MOST_ENTRIES:
        raise OptionError(key, f"more than {_MOST_ENTRIES} entries", "leave some out")
    for name, text in given.items():
        if not (name and isinstance(text, str) and text and len(text) <= _LONGEST_VALUE):
            raise OptionError(key, f"'{name[:64]}' has no text of up to {_LONGEST_VALUE} characters", remedy)
    return given


def _is_free(name: str) -> bool:
    return bool(re.fullmatch(_HEADER, name)) and not re.fullmatch(_RESERVED, name)
