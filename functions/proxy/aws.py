"""The proxy's calls to AWS: signed JSON POSTs over the HTTP connections it has anyway.

boto3 would cost 300 ms and 36 MB at every cold start for what are five small requests; see
`docs/adr/0003-aws-calls-without-boto3.md`. The signer follows
https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html and is tested against botocore's.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from proxy.upstream import Answered, ConnectionFailedError, Post


class AwsError(Exception):
    """An AWS call failed. `code` is the service's error type, or what happened on the wire."""

    def __init__(self, call: str, code: str) -> None:
        super().__init__(f"{call}: {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the execution role gives a sandbox."""

    access_key: str
    secret_key: str
    session_token: str | None

    def __repr__(self) -> str:
        return "Credentials(…)"


def sign(
    credentials: Credentials,
    region: str,
    service: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    unix_time: float,
    method: str = "POST",
) -> dict[str, str]:
    """`headers` with those of AWS Signature Version 4 for a request with `body` to `url` (no query)."""
    # Not by strftime, which asks the system for its time zone every time.
    moment = "{:04}{:02}{:02}T{:02}{:02}{:02}Z".format(*time.gmtime(unix_time)[:6])
    parts = urlsplit(url)
    signed = {**headers, "host": parts.netloc, "x-amz-date": moment}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(signed))
    canonical_headers = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    # Every service but S3 signs the path encoded once more than it is sent.
    path = parts.path if service == "s3" else quote(parts.path or "/", safe="/~")
    digest = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    canonical = f"{method}\n{path}\n\n{canonical_headers}\n{names}\n{digest}"
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, moment[:8], region, service)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"Credential={credentials.access_key}/{scope}"
    authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": authorization}


@lru_cache(8)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The key of one day: most requests of a sandbox are to the same service."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class Aws:
    """The calls. Every one raises AwsError. `timeout` is in seconds and holds for each step of a call."""

    def __init__(
        self,
        post: Post,
        credentials: Callable[[], Credentials],
        region: str,
        endpoint: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._post = post
        self._credentials = credentials
        self._region = region
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self._timeout = timeout

    def invoke(self, function: str, payload: bytes) -> tuple[bytes, bool]:
        """Invoke a function and wait: its result, and whether that is an error report."""
        path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations"
        status, headers, body = self._call("lambda", path, {"content-type": "application/json"}, payload)
        if status != 200:
            raise AwsError("lambda:Invoke", _error_code(body, status))
        return body, "x-amz-function-error" in headers

    def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
        """PutEvents: the result of each entry, in order; a failed one has `ErrorCode`."""
        return self._json("events", "AWSEvents.PutEvents", {"Entries": entries}, "Entries", timeout=timeout)

    def update_item(self, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        """UpdateItem of DynamoDB: whether its condition held, and the item where the arguments ask for it."""
        status, body = self._dynamodb("UpdateItem", arguments, timeout)
        if status != 200:
            if _error_code(body, status) != "ConditionalCheckFailedException":
                raise AwsError("dynamodb:UpdateItem", _error_code(body, status))
            return False, _answer(body).get("Item")
        return True, _answer(body).get("Attributes")

    def put_item(self, arguments: Mapping[str, Any], timeout: float) -> bool:
        """PutItem of DynamoDB: whether its condition held."""
        return self._write_item("PutItem", arguments, timeout)

    def delete_item(self, arguments: Mapping[str, Any], timeout: float) -> bool:
        """DeleteItem of DynamoDB: whether its condition held."""
        return self._write_item("DeleteItem", arguments, timeout)

    def _write_item(self, operation: str, arguments: Mapping[str, Any], timeout: float) -> bool:
        status, body = self._dynamodb(operation, arguments, timeout)
        if status != 200 and _error_code(body, status) != "ConditionalCheckFailedException":
            raise AwsError(f"dynamodb:{operation}", _error_code(body, status))
        return status == 200

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """GetItem of DynamoDB: the item, empty when there is none."""
        status, body = self._dynamodb("GetItem", arguments, timeout)
        if status != 200:
            raise AwsError("dynamodb:GetItem", _error_code(body, status))
        return _answer(body).get("Item") or {}

    def _dynamodb(self, operation: str, arguments: Mapping[str, Any], timeout: float) -> tuple[int, bytes]:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{operation}"}
        status, _, body = self._call("dynamodb", "/", headers, json.dumps(arguments).encode(), timeout)
        return status, body

    def get_secret(self, secret_id: str) -> str:
        """The text of a Secrets Manager secret."""
        return self._json("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": secret_id}, "SecretString")

    def get_parameter(self, name: str) -> str:
        """The value of an SSM parameter, decrypted."""
        arguments = {"Name": name, "WithDecryption": True}
        return self._json("ssm", "AmazonSSM.GetParameter", arguments, "Parameter", "Value")

    def _json(
        self, service: str, target: str, arguments: Mapping[str, Any], *path: str, timeout: float | None = None
    ) -> Any:
        """What stands at `path` in the answer to one call of the JSON protocol."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        status, _, body = self._call(service, "/", headers, json.dumps(arguments).encode(), timeout)
        if status != 200:
            raise AwsError(target, _error_code(body, status))
        try:
            answer = json.loads(body)
            for name in path:
                answer = answer[name]
        except (ValueError, KeyError, TypeError) as error:
            raise AwsError(target, "an answer without what was asked for") from error
        return answer

    def _call(
        self, service: str, path: str, headers: dict[str, str], body: bytes, timeout: float | None = None
    ) -> Answered:
        url = (self._endpoint or self._service_endpoint(service)) + path
        signed = sign(self._credentials(), self._region, service, url, headers, body, time.time())
        try:
            return self._post(url, signed, body, timeout or self._timeout)
        except ConnectionFailedError as error:
            raise AwsError(service, str(error)) from error

    def _service_endpoint(self, service: str) -> str:
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        return f"https://{service}.{self._region}.{suffix}"


def _answer(body: bytes) -> dict[str, Any]:
    """An answer of DynamoDB. Raises AwsError when it is not JSON."""
    try:
        return dict(json.loads(body))
    except (ValueError, TypeError) as error:
        raise AwsError("dynamodb", "an answer that is no JSON object") from error


def _error_code(body: bytes, status: int) -> str:
    """The error type in a JSON error answer (`…#ResourceNotFoundException`), else the status."""
    try:
        answer: Any = json.loads(body)
        return str(answer["__type"] if "__type" in answer else answer["Type"]).rpartition("#")[2]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"


class ContainerCredentials:
    """Credentials from the address that Lambda gives SnapStart sandboxes, renewed five minutes before they expire."""

    _MARGIN = 300.0

    def __init__(self, get: Callable[[str, Mapping[str, str], float], Answered], url: str, token: str) -> None:
        self._get = get
        self._url = url
        self._token = token
        self._current: Credentials | None = None
        self._expires_at = 0.0

    def __call__(self) -> Credentials:
        """The current credentials. Raises AwsError."""
        if self._current is None or time.time() > self._expires_at - self._MARGIN:
            try:
                status, _, body = self._get(self._url, {"authorization": self._token}, 2.0)
                answer = json.loads(body)
                self._current = Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer.get("Token"))
                self._expires_at = _unix_time(answer["Expiration"])
            except (ConnectionFailedError, ValueError, KeyError) as error:
                raise AwsError("credentials", type(error).__name__) from error
            if status != 200:
                raise AwsError("credentials", f"HTTP {status}")
        return self._current


def _unix_time(rfc3339: str) -> float:
    return datetime.fromisoformat(rfc3339).timestamp()
