"""Objects of S3: they hold what is too large for an event or an item.

A whole call, its body included, ends within its `timeout`. Its one rule: every failure is an AwsError. Request and
error forms are those of https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html and API_GetObject.html.
"""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from openai_proxy.servers import Server, TokenReference
from openai_proxy.servers.options import Timers

from proxy.aws.client import NO_ANSWER, UNREACHABLE, AwsError
from proxy.aws.sigv4 import Credentials, sign
from proxy.errors import UpstreamError
from proxy.http.transport import UpstreamResponse
from proxy.http.wire import Outgoing

_NOBODY = TokenReference("literal", "")
_CODE = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
_LONGEST_ERROR = 16 * 1024
_LARGEST = 16 * 1024 * 1024


class Transport(Protocol):
    """As much of `HttpTransport` as is needed."""

    def stream(self, server: Server, outgoing: Outgoing, deadline: float) -> UpstreamResponse:
        """Send a request and wait for the answer's status. Raises UpstreamError."""
        ...


class S3:
    """Puts and gets objects. Buckets are addressed by host name; at an `endpoint` (an emulator) by path."""

    def __init__(
        self, transport: Transport, credentials: Callable[[], Credentials], region: str, endpoint: str | None = None
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._region = region
        self._endpoint = endpoint.rstrip("/") if endpoint else None

    def put(
        self, bucket: str, key: str, body: bytes, timeout: float, content_type: str = "application/octet-stream"
    ) -> None:
        """PutObject, encrypted as the bucket says. `timeout` is in seconds. Raises AwsError."""
        put = Outgoing("PUT", self._url(bucket, key), {"content-type": content_type}, body)
        self._call(put, timeout, _LONGEST_ERROR)

    def get(self, bucket: str, key: str, timeout: float, largest: int = _LARGEST) -> bytes:
        """GetObject: the whole object. Raises AwsError, also for one of more than `largest` bytes."""
        return self._call(Outgoing("GET", self._url(bucket, key), {}), timeout, largest)

    def _call(self, outgoing: Outgoing, timeout: float, largest: int) -> bytes:
        """Sign a request and send it: the body of its answer. Raises AwsError."""
        name = f"s3:{outgoing.method.capitalize()}Object"
        digest = hashlib.sha256(outgoing.body).hexdigest()
        outgoing = outgoing._replace(headers={**outgoing.headers, "x-amz-content-sha256": digest})
        now = time.time()
        signed = outgoing._replace(headers=sign(outgoing, self._credentials(), self._region, "s3", now))
        timers = Timers(connect=timeout, first_byte=timeout, idle=timeout, keep_alive=timeout)
        server = Server("s3", "", _NOBODY, "", retries=1, timeouts=timers)
        try:
            with self._transport.stream(server, signed, now + timeout) as answer:
                content = _content(answer, name, largest if answer.status < 300 else _LONGEST_ERROR)
        except UpstreamError as error:
            code = UNREACHABLE if error.code == "upstream_unreachable" else NO_ANSWER
            raise AwsError(name, code, error.code) from error
        if answer.status >= 300:
            raise AwsError(name, _error_code(content, answer.status), status=answer.status)
        if "etag" not in answer.headers:
            # S3 sends an ETag with every object: without one, something between has answered
            raise AwsError(name, NO_ANSWER, "an answer without an entity tag")
        return content

    def _url(self, bucket: str, key: str) -> str:
        path = quote(key, safe="/-_.~")
        if self._endpoint:
            return f"{self._endpoint}/{bucket}/{path}"
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        return f"https://{bucket}.s3.{self._region}.{suffix}/{path}"


class Bucket:
    """The objects of one bucket."""

    def __init__(self, s3: S3, name: str) -> None:
        self._s3 = s3
        self._name = name

    def put(self, key: str, body: bytes, timeout: float) -> None:
        """As `S3.put`."""
        self._s3.put(self._name, key, body, timeout)

    def get(self, key: str, timeout: float, largest: int) -> bytes:
        """As `S3.get`."""
        return self._s3.get(self._name, key, timeout, largest)


def _content(answer: UpstreamResponse, name: str, largest: int) -> bytes:
    content = bytearray()
    for piece in answer:
        content += piece
        if len(content) > largest:
            raise AwsError(name, "TooLarge", status=answer.status)
    return bytes(content)


def _error_code(body: bytes, status: int) -> str:
    """The code in an error answer (`NoSuchKey`, `AccessDenied`, …), else the status."""
    found = _CODE.search(body)
    return found[1].decode() if found else f"HTTP {status}"
