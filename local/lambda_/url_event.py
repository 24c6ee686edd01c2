"""The event that a function URL makes of an HTTP request: payload format 2.0. Pure.

Its one rule: what AWS leaves alone stays as it was sent (the percent-encoding of path and query), and what AWS changes
is changed in the same way: header names in lower case, repeats joined by commas, cookies also listed, bytes that are no
text in base64. https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from urllib.parse import parse_qsl, urlsplit

from local.http.server import Request
from local.http.wire import Headers
from local.lambda_ import ids

MAX_EVENT_BYTES = 6 * 1024 * 1024
"""What Lambda takes as the payload of one invocation. The event counts, not the body alone: base64 adds a third."""

_TEXT_TYPES = ("application/json", "application/xml", "application/javascript")
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
)


@dataclass(frozen=True, slots=True)
class UrlIdentity:
    """The function URL as deployed: `domain` is `<id>.lambda-url.<region>.on.aws`."""

    domain: str

    @classmethod
    def from_url(cls, url: str) -> "UrlIdentity":
        """Read the FunctionUrl output of the stack."""
        return cls(urlsplit(url).netloc)

    @property
    def id(self) -> str:
        """The first label of the domain."""
        return self.domain.partition(".")[0]


def build_event(request: Request, body: bytes, url: UrlIdentity, trace_id: str, unix_time: float) -> bytes:
    """The event, as the JSON that the function gets.

    It is written as JSON from the beginning: that takes a third of the time of nested dicts, and every client waits for
    it.
    """
    path, _, query = _origin_form(request.target).partition("?")
    headers = _joined([header for header in request.headers if header[0] not in _HOP_BY_HOP]) | {
        "host": url.domain,
        "x-amzn-trace-id": trace_id,
        "x-forwarded-for": request.peer,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    if body:
        headers["content-length"] = str(len(body))
    optional = ""
    if "cookie" in headers:
        optional += f',"cookies":{_array(cookie.strip() for cookie in headers["cookie"].split(";"))}'
    if query:
        optional += f',"queryStringParameters":{_object(_joined(parse_qsl(query, keep_blank_values=True)))}'
    json_path, domain, identifier = quoted(path), quoted(url.domain), quoted(url.id)
    event = (
        f'{{"version":"2.0","routeKey":"$default","rawPath":{json_path},"rawQueryString":{quoted(query)},'
        f'"headers":{_object(headers)},'
        f'"requestContext":{{"accountId":"anonymous",'
        f'"apiId":{identifier},"domainName":{domain},"domainPrefix":{identifier},'
        f'"http":{{"method":{quoted(request.method)},"path":{json_path},"protocol":"HTTP/1.1",'
        f'"sourceIp":{quoted(request.peer)},"userAgent":{quoted(headers.get("user-agent", ""))}}},'
        f'"requestId":"{ids.uuid4()}","routeKey":"$default","stage":"$default",'
        f'"time":"{_moment(int(unix_time))}","timeEpoch":{int(unix_time * 1000)}}}'
        f"{optional},{_body(body, headers.get('content-type', ''))}}}"
    )
    return event.encode()


@lru_cache(maxsize=1)
def _moment(unix_seconds: int) -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(unix_seconds))


def _object(members: dict[str, str]) -> str:
    return f"{{{','.join([f'{quoted(name)}:{quoted(value)}' for name, value in members.items()])}}}"


def _array(values: Iterable[str]) -> str:
    return f"[{','.join(map(quoted, values))}]"


def _origin_form(target: str) -> str:
    """The target's path and query. HTTP also allows the absolute form: `GET http://host/path`."""
    if target.startswith(("http://", "https://")):
        target = target.split("://", 1)[1].partition("/")[2]
    return target if target.startswith("/") else f"/{target}"


def _joined(pairs: Headers) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        separator = "; " if name == "cookie" else ","
        joined[name] = f"{joined[name]}{separator}{value}" if name in joined else value
    return joined


def _body(body: bytes, content_type: str) -> str:
    """The members of the event that hold the body."""
    if not body:
        return '"isBase64Encoded":false'
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in _TEXT_TYPES:
        try:
            return f'"body":{quoted(body.decode())},"isBase64Encoded":false'
        except UnicodeDecodeError:
            pass
    return f'"body":"{base64.b64encode(body).decode()}","isBase64Encoded":true'
