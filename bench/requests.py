"""The requests of the bench: as bytes for a server, as function URL events for a sandbox. The same headers and body.

Each is made once: making it is no part of any measurement.
"""

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

CLIENT_KEY = "opx-4bNcVn2kQ8sXz0tLrYw6Hd3mPf7JgA9eUiToB1CxZqM000000"
_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "authorization": f"Bearer {CLIENT_KEY}",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.13.0",
    "x-stainless-async": "false",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}
_PATH = "/v1/chat/completions"
_SYSTEM = "You are a patient bookkeeper. Answer in one paragraph and name the accounts that you use. " * 10


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request. Its `model` tells the upstream server how to answer."""

    name: str
    model: str
    stream: bool
    image: int = 0
    """Bytes of an image in the question, as base64 has them; 0 for none."""
    resumable: bool = False

    @property
    def body(self) -> bytes:
        """A chat of 1.1 kB beside the image. It does not ask for usage: most clients do not."""
        question: Any = "What is a ledger, and why are there two columns in it?"
        if self.image:
            url = f"data:image/png;base64,{'QUFB' * (self.image // 4)}"
            question = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
        document: dict[str, Any] = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": _SYSTEM},
                {"role": "user", "content": question},
            ],
            "temperature": 0.2,
        }
        return json.dumps(document | ({"stream": True} if self.stream else {})).encode()

    @cache  # noqa: B019  # there are a handful of workloads
    def http(self, host: str, server: str = "openai", client_key: str = CLIENT_KEY) -> bytes:
        """This request on the wire of HTTP/1.1."""
        body = self.body
        own = {"host": host, "authorization": f"Bearer {client_key}", "content-length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in (_HEADERS | own).items())
        path = f"/{server}{_PATH}" if server else _PATH
        return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    @cache  # noqa: B019  # as above
    def event(self) -> bytes:
        """This request as the function URL gives it to a sandbox (payload 2.0)."""
        host = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws"
        forwarded = {
            "host": host,
            "x-amzn-tls-version": "TLSv1.3",
            "x-amzn-tls-cipher-suite": "TLS_AES_128_GCM_SHA256",
            "x-amzn-trace-id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
        }
        http = {
            "method": "POST",
            "path": f"/openai{_PATH}",
            "protocol": "HTTP/1.1",
            "sourceIp": "203.0.113.7",
            "userAgent": _HEADERS["user-agent"],
        }
        context = {
            "accountId": "anonymous",
            "apiId": host.partition(".")[0],
            "domainName": host,
            "domainPrefix": host.partition(".")[0],
            "http": http,
            "requestId": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "routeKey": "$default",
            "stage": "$default",
            "time": "23/Nov/2026:18:12:53 +0000",
            "timeEpoch": 1795457573042,
        }
        document = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": f"/openai{_PATH}",
            "rawQueryString": "",
            "headers": _HEADERS | forwarded | ({"x-resumable": "true"} if self.resumable else {}),
            "requestContext": context,
            "body": self.body.decode(),
            "isBase64Encoded": False,
        }
        return json.dumps(document).encode()


def paced(milliseconds: int) -> Workload:
    """A stream of 64 chunks, the first at once and another every so many milliseconds."""
    return Workload(f"64-chunk stream, a chunk every {milliseconds} ms", f"paced-{milliseconds}", stream=True)


STREAM = Workload("64-chunk stream, sent at once", "plain", stream=True)
SHORT = Workload("short answer, not streamed", "plain", stream=False)
LARGE = Workload("64-chunk stream, sent at once, for a question of 5 MB", "plain", stream=True, image=5_000_000)
