"""The proxy's calls to AWS: signed JSON POSTs over the HTTP connections it has anyway.

boto3 would cost 300 ms and 36 MB at every cold start for what are five small requests; see
`docs/adr/0003-aws-calls-without-boto3.md`. The signer follows
https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html and is tested against botocore's.

Its one rule: an answer has the shape that AWS documents for its call, or it is none.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeGuard
from urllib.parse import quote, urlsplit

from openai_proxy.aws_answers import PROOF, is_item, is_proven, is_transient

from proxy.http1_wire import ConnectError
from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.upstream import Answered, ConnectionFailedError, Post

UNREACHABLE = "Unreachable"
"""The code of a call that was never sent."""
NO_ANSWER = "NoAnswer"
"""The code of a call that was sent, and not answered as AWS answers."""
SECRET_IS_BINARY = "SecretIsBinary"  # noqa: S105  # an error's code
_LONGEST_NAME = 256


class AwsError(Exception):
    """An AWS call failed. `code` is the service's error type, `HTTP <status>`, UNREACHABLE or NO_ANSWER."""

    def __init__(self, call: str, code: str, detail: str = "", *, status: int = 0) -> None:
        super().__init__(f"{call}: {code}, {detail}" if detail else f"{call}: {code}")
        self.code = code
        self._status = status

    @property
    def is_transient(self) -> bool:
        """Whether the same call may well succeed in a moment: too much at once, a fault of AWS, or no answer."""
        return self.code in (UNREACHABLE, NO_ANSWER) or is_transient(self.code, self._status)

    @property
    def may_be_done(self) -> bool:
        """Whether the call may have been carried out, although nobody said so."""
        return self.code == NO_ANSWER or self._status >= 500


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
    """The calls. Every one raises AwsError. `timeout` is in seconds and holds for a whole call."""

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
            raise _error("lambda:Invoke", status, body)
        return body, "x-amz-function-error" in headers

    def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
        """PutEvents: the result of each entry, in order: either its `EventId`, or its `ErrorCode`."""
        answer = self._json("events", "AWSEvents.PutEvents", {"Entries": entries}, timeout)
        results = [object_of(each) for each in array_of(answer.get("Entries"))]
        failed = sum(_is_name(each.get("ErrorCode")) for each in results)
        told = all(_is_name(each.get("ErrorCode") or each.get("EventId")) for each in results)
        if len(results) != len(entries) or not told or failed != answer.get("FailedEntryCount", failed):
            raise _odd("AWSEvents.PutEvents")
        return results

    def update_item(self, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        """UpdateItem of DynamoDB: whether its condition held, and the item where the arguments ask for it."""
        held, answer = self._dynamodb("UpdateItem", arguments, timeout)
        if held and arguments.get("ReturnValues") == "ALL_NEW" and "Attributes" not in answer:
            raise _odd("dynamodb:UpdateItem")
        return held, _item("dynamodb:UpdateItem", answer, "Attributes" if held else "Item")

    def put_item(self, arguments: Mapping[str, Any], timeout: float) -> bool:
        """PutItem of DynamoDB: whether its condition held."""
        return self._dynamodb("PutItem", arguments, timeout)[0]

    def delete_item(self, arguments: Mapping[str, Any], timeout: float) -> bool:
        """DeleteItem of DynamoDB: whether its condition held."""
        return self._dynamodb("DeleteItem", arguments, timeout)[0]

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """GetItem of DynamoDB: the item, empty when there is none."""
        return _item("dynamodb:GetItem", self._dynamodb("GetItem", arguments, timeout)[1], "Item") or {}

    def _dynamodb(self, operation: str, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, Mapping[str, Any]]:
        """Whether the call's condition held, and what it was answered."""
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{operation}"}
        status, _, body = self._call("dynamodb", "/", headers, json.dumps({**arguments, **PROOF}).encode(), timeout)
        answer = object_of(loads_or_none(body))
        if status == 200 and is_proven(answer):
            return True, answer
        error = _error(f"dynamodb:{operation}", status, body)
        if status != 400 or error.code != "ConditionalCheckFailedException":
            raise error
        return False, answer

    def get_secret(self, secret_id: str, timeout: float | None = None) -> str:
        """The text of a Secrets Manager secret."""
        call = "secretsmanager.GetSecretValue"
        answer = self._json("secretsmanager", call, {"SecretId": secret_id}, timeout)
        if "SecretString" not in answer and "SecretBinary" in answer:
            raise AwsError(call, SECRET_IS_BINARY)
        return _text(call, answer.get("SecretString"))

    def get_parameter(self, name: str, timeout: float | None = None) -> str:
        """The value of an SSM parameter, decrypted."""
        answer = self._json("ssm", "AmazonSSM.GetParameter", {"Name": name, "WithDecryption": True}, timeout)
        return _text("AmazonSSM.GetParameter", object_of(answer.get("Parameter")).get("Value"))

    def _json(
        self, service: str, target: str, arguments: Mapping[str, Any], timeout: float | None = None
    ) -> dict[str, Any]:
        """The object that answers one call of the JSON protocol; an empty one where something else did."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        status, _, body = self._call(service, "/", headers, json.dumps(arguments).encode(), timeout)
        if status != 200:
            raise _error(target, status, body)
        return object_of(loads_or_none(body))

    def _call(
        self, service: str, path: str, headers: dict[str, str], body: bytes, timeout: float | None = None
    ) -> Answered:
        url = (self._endpoint or self._service_endpoint(service)) + path
        signed = sign(self._credentials(), self._region, service, url, headers, body, time.time())
        try:
            return self._post(url, signed, body, timeout or self._timeout)
        except ConnectionFailedError as error:
            code = UNREACHABLE if isinstance(error.__cause__, ConnectError) else NO_ANSWER
            raise AwsError(service, code, str(error)) from error

    def _service_endpoint(self, service: str) -> str:
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        return f"https://{service}.{self._region}.{suffix}"


def _error(call: str, status: int, body: bytes) -> AwsError:
    """What an answer that is no success says: the error type in it (`…#ResourceNotFoundException`), else its status."""
    if status < 400:
        return _odd(call)
    answer = object_of(loads_or_none(body))
    code = answer.get("__type") or answer.get("Type")
    return AwsError(call, code.rpartition("#")[2] if _is_name(code) else f"HTTP {status}", status=status)


def _odd(call: str) -> AwsError:
    return AwsError(call, NO_ANSWER, "an answer of another shape")


def _item(call: str, answer: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The item of an answer, if it has one. Raises AwsError."""
    if name not in answer:
        return None
    if not is_item(answer[name]):
        raise _odd(call)
    return answer[name]


def _text(call: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _odd(call)
    return value


def _is_name(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


class ContainerCredentials:
    """Credentials from the address that Lambda gives SnapStart sandboxes, renewed five minutes before they expire.

    While they cannot be renewed, those that are still good are used.
    """

    _MARGIN = 300.0
    _PAUSE = 10.0
    """Seconds between two tries to renew what is still good."""

    def __init__(self, get: Callable[[str, Mapping[str, str], float], Answered], url: str, token: str) -> None:
        self._get = get
        self._url = url
        self._token = token
        self._current: tuple[Credentials, float] | None = None
        self._next_try = 0.0

    def __call__(self) -> Credentials:
        """The current credentials. Raises AwsError."""
        now = time.time()
        current = self._current
        if current and (now < current[1] - self._MARGIN or now < self._next_try < current[1]):
            return current[0]
        try:
            current = self._current = self._renewed()
        except AwsError:
            if not current or now >= current[1]:
                raise
            self._next_try = now + self._PAUSE
        return current[0]

    def _renewed(self) -> tuple[Credentials, float]:
        """New ones, and when they expire (Unix seconds)."""
        try:
            status, _, body = self._get(self._url, {"authorization": self._token}, 2.0)
        except ConnectionFailedError as error:
            raise AwsError("credentials", UNREACHABLE, str(error)) from error
        if status != 200:
            raise AwsError("credentials", f"HTTP {status}")
        answer = object_of(loads_or_none(body))
        access_key, secret_key, expiration = (
            answer.get(name) for name in ("AccessKeyId", "SecretAccessKey", "Expiration")
        )
        token = answer.get("Token")
        try:
            if _is_header(access_key) and _is_header(secret_key) and (token is None or _is_header(token)):
                return Credentials(access_key, secret_key, token), datetime.fromisoformat(str(expiration)).timestamp()
        except (ValueError, OverflowError):
            pass
        raise AwsError("credentials", UNREACHABLE, "an answer without credentials")


def _is_header(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()
