"""AWS Signature Version 4. Pure.

It follows https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html and is tested against botocore's.
"""

import hashlib
import hmac
import re
import time
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from proxy.http.wire import Outgoing

_EMPTY_SEGMENTS = re.compile("/{2,}")


class Credentials(NamedTuple):
    """The credentials of the function's role."""

    access_key: str
    secret_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return "Credentials(…)"


def sign(outgoing: Outgoing, credentials: Credentials, region: str, service: str, unix_time: float) -> dict[str, str]:
    """The headers of `outgoing` with those of AWS Signature Version 4.

    A query is signed as it stands in the URL: it has to be encoded as AWS does it.
    """
    method, url, headers, body = outgoing
    # Not made by strftime, which asks the system for its time zone every time.
    moment = "{:04}{:02}{:02}T{:02}{:02}{:02}Z".format(*time.gmtime(unix_time)[:6])
    parts = urlsplit(url)
    signed = {**headers, "host": parts.netloc, "x-amz-date": moment}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    canonical_headers = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    # Every service but S3 signs the path encoded once more than it is sent, and without empty segments.
    path = parts.path if service == "s3" else quote(_EMPTY_SEGMENTS.sub("/", parts.path or "/"), safe="/~")
    query = "&".join("=".join(pair) for pair in sorted(map(_pair, parts.query.split("&")))) if parts.query else ""
    digest = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    canonical = f"{method}\n{path}\n{query}\n{canonical_headers}\n{names}\n{digest}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, moment[:8], region, service)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"Credential={credentials.access_key}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": authorization}


def _pair(parameter: str) -> tuple[str, str]:
    name, _, value = parameter.partition("=")
    return name, value


@lru_cache(8)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The signing key of one day. It is remembered, because most requests of a sandbox go to the same service."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
