"""The event that a function URL makes of an HTTP request: payload format 2.0. Pure.

Its one rule: what AWS leaves alone stays as it was sent (the path's and query's percent-encoding), what AWS changes is
changed alike: header names in lower case, repeats joined by commas, cookies also listed, bytes that are no text in
base64. https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

import base64
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from local.http1 import Request
from local.http1_wire import Headers

MAX_EVENT_BYTES = 6 * 1024 * 1024
"""What Lambda takes as the payload of one invocation. The event counts, not the body alone: base64 adds a third."""

_TEXT_TYPES = ("application/json", "application/xml", "application/javascript")
_HOP_BY_HOP = (
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
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
    """The event, as the JSON that the function gets."""
    path, _, query = _origin_form(request.target).partition("?")
    headers = _joined(request.headers) | {
        "host": url.domain,
        "x-amzn-trace-id": trace_id,
        "x-forwarded-for": request.peer,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }
    if body:
        headers["content-length"] = str(len(body))
    moment = time.gmtime(unix_time)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": "anonymous",
            "apiId": url.id,
            "domainName": url.domain,
            "domainPrefix": url.id,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.peer,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", moment),
            "timeEpoch": int(unix_time * 1000),
        },
    }
    if "cookie" in headers:
        event["cookies"] = [cookie.strip() for cookie in headers["cookie"].split(";")]
    if query:
        event["queryStringParameters"] = _joined(parse_qsl(query, keep_blank_values=True))
    return json.dumps(event | _body(body, headers.get("content-type", ""))).encode()


def _origin_form(target: str) -> str:
    """The target's path and query. HTTP also allows the absolute form: `GET http://host/path`."""
    if target.startswith(("http://", "https://")):
        target = target.split("://", 1)[1].partition("/")[2]
    return target if target.startswith("/") else f"/{target}"


def _joined(pairs: Headers) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        if name in _HOP_BY_HOP:
            continue
        separator = "; " if name == "cookie" else ","
        joined[name] = f"{joined[name]}{separator}{value}" if name in joined else value
    return joined


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    if not body:
        return {"isBase64Encoded": False}
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in _TEXT_TYPES:
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
