"""The proxy's calls to AWS: signed JSON POSTs over the HTTP connections it has anyway.

boto3 would cost 300 ms and 36 MB at every cold start for small requests; see docs/adr/0003-aws-calls-without-boto3.md.

Its one rule: an answer counts only if it has the shape that AWS documents for its call.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard
from urllib.parse import quote

from openai_proxy.aws_answers import PROOF, code_in, is_item, is_proven, is_transient

from proxy.aws.sigv4 import Credentials, sign
from proxy.http.transport import Answered, ConnectionFailedError, Post
from proxy.http.wire import Outgoing
from proxy.json_shapes import array_of, loads_or_none, object_of

UNREACHABLE = "Unreachable"
"""The code of a call that was never sent."""
NO_ANSWER = "NoAnswer"
"""The code of a call that was sent, and not answered as AWS answers."""
SECRET_IS_BINARY = "SecretIsBinary"  # noqa: S105  # an error's code
_LONGEST_NAME = 256
_REFUSED = ("ConditionalCheckFailedException", "TransactionCanceledException")


class AwsError(Exception):
    """An AWS call failed. `code` is the service's error type, `HTTP <status>`, UNREACHABLE or NO_ANSWER."""

    def __init__(self, call: str, code: str, detail: str = "", *, status: int = 0) -> None:
        super().__init__(f"{call}: {code}, {detail}" if detail else f"{call}: {code}")
        self.code = code
        self._status = status

    @property
    def is_transient(self) -> bool:
        """Whether the same call may soon succeed: it was throttled, AWS had a fault, or there was no answer."""
        return self.code in (UNREACHABLE, NO_ANSWER) or is_transient(self.code, self._status)

    @property
    def may_be_done(self) -> bool:
        """Whether AWS may have carried the call out, although no answer said so."""
        return self.code == NO_ANSWER or self._status >= 500


class Aws:
    """The calls. Every one raises AwsError. `timeout` is in seconds and bounds the whole of a call."""

    def __init__(
        self,
        post: Post,
        credentials: Callable[[], Credentials],
        region: str,
        endpoint: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        self._post = post
        self.credentials = credentials
        """Those of the function's role. Calling it raises AwsError."""
        self._region = region
        self._endpoint = endpoint.rstrip("/") if endpoint else None
        self._timeout = timeout

    def invoke(self, function: str, payload: bytes) -> tuple[bytes, bool]:
        """Invoke a function and wait: its result, and whether that is an error report."""
        path = f"/2015-03-31/functions/{quote(function, safe='')}/invocations"
        answered = self._call("lambda", path, {"content-type": "application/json"}, payload)
        if answered[0] != 200:
            raise _error("lambda:Invoke", answered)
        return answered[2], "x-amz-function-error" in answered[1]

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
        """UpdateItem of DynamoDB. Returns whether its condition held, and the item where the arguments ask for it."""
        held, answer = self._dynamodb("UpdateItem", arguments, timeout)
        if held and arguments.get("ReturnValues") == "ALL_NEW" and "Attributes" not in answer:
            raise _odd("dynamodb:UpdateItem")
        return held, _item("dynamodb:UpdateItem", answer, "Attributes" if held else "Item")

    def put_item(self, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        """PutItem of DynamoDB. Returns whether its condition held, and else the item if the arguments ask for it."""
        held, answer = self._dynamodb("PutItem", arguments, timeout)
        return held, None if held else _item("dynamodb:PutItem", answer, "Item")

    def delete_item(self, arguments: Mapping[str, Any], timeout: float) -> bool:
        """DeleteItem of DynamoDB. Returns whether its condition held."""
        return self._dynamodb("DeleteItem", arguments, timeout)[0]

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """GetItem of DynamoDB. Returns the item, empty when there is none."""
        return _item("dynamodb:GetItem", self._dynamodb("GetItem", arguments, timeout)[1], "Item") or {}

    def query(self, arguments: Mapping[str, Any], timeout: float) -> list[dict[str, Any]]:
        """Query of DynamoDB. Returns the items of one page, in their order."""
        items = self._dynamodb("Query", arguments, timeout)[1].get("Items")
        if not isinstance(items, list) or not all(map(is_item, array_of(items))):
            raise _odd("dynamodb:Query")
        return array_of(items)

    def batch_get_item(self, table: str, keys: Sequence[Any], timeout: float) -> list[dict[str, Any]]:
        """BatchGetItem of DynamoDB, consistent: the items of `keys`, in their order, empty where there is none."""
        call, wanted = "dynamodb:BatchGetItem", {table: {"Keys": keys, "ConsistentRead": True}}
        answer = self._dynamodb("BatchGetItem", {"RequestItems": wanted}, timeout)[1]
        if answer.get("UnprocessedKeys"):
            raise AwsError(call, "ProvisionedThroughputExceededException", status=400)
        responses = object_of(answer.get("Responses"))
        found = array_of(responses.get(table))
        # Only an answer of DynamoDB names the table.
        if table not in responses or "UnprocessedKeys" not in answer or not all(map(is_item, found)):
            raise _odd(call)
        nothing: dict[str, Any] = {}
        return [
            next((item for item in found if all(item.get(name) == key[name] for name in key)), nothing) for key in keys
        ]

    def transact_updates(self, updates: Sequence[Any], timeout: float) -> list[dict[str, Any] | None] | None:
        """TransactWriteItems of updates: None if all are done. Else none is done, and it returns the item of each
        update whose condition failed. Raises AwsError with the code of the first other reason.
        """
        from openai_proxy.refusals import CONDITION, DONE  # noqa: PLC0415  # few keys have two counters

        call, asked = "dynamodb:TransactWriteItems", {"TransactItems": [{"Update": update} for update in updates]}
        held, answer = self._dynamodb("TransactWriteItems", asked, timeout)
        if held:
            return None
        reasons = [object_of(reason) for reason in array_of(answer.get("CancellationReasons"))]
        codes = [reason.get("Code") for reason in reasons]
        if others := [code for code in codes if code not in (DONE, CONDITION)]:
            raise AwsError(call, str(others[0])[:_LONGEST_NAME], status=400)
        if len(reasons) != len(updates) or CONDITION not in codes:
            raise _odd(call)
        return [(_item(call, each, "Item") or {}) if each["Code"] == CONDITION else None for each in reasons]

    def _dynamodb(self, operation: str, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, Mapping[str, Any]]:
        """Call DynamoDB. Returns whether the call's conditions held, and the answer."""
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{operation}"}
        answered = self._call("dynamodb", "/", headers, json.dumps({**arguments, **PROOF}).encode(), timeout)
        status, answer = answered[0], object_of(loads_or_none(answered[2]))
        # `batch_get_item` looks for the table's name itself; several tables each say what they used.
        if status == 200 and (
            operation == "BatchGetItem" or is_proven(answer, several=operation == "TransactWriteItems")
        ):
            return True, answer
        error = _error(f"dynamodb:{operation}", answered)
        if status != 400 or error.code not in _REFUSED:
            raise error
        return False, answer

    def send_message(self, queue: str, body: str, delay: int, timeout: float, trace: str | None = None) -> None:
        """SendMessage of SQS to the address `queue`, hidden for `delay` seconds, with X-Ray's header in `trace`."""
        call, message = "AmazonSQS.SendMessage", {"QueueUrl": queue, "MessageBody": body, "DelaySeconds": delay}
        header = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
        asked = {**message, "MessageSystemAttributes": header} if trace else message
        if not _is_name(self._json("sqs", call, asked, timeout).get("MessageId")):
            raise _odd(call)

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
        """The JSON object that answers one call; an empty one if the answer is something else."""
        version = "1.0" if service == "sqs" else "1.1"
        headers = {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target}
        answered = self._call(service, "/", headers, json.dumps(arguments).encode(), timeout)
        if answered[0] != 200:
            raise _error(target, answered)
        return object_of(loads_or_none(answered[2]))

    def _call(
        self, service: str, path: str, headers: dict[str, str], body: bytes, timeout: float | None = None
    ) -> Answered:
        url = (self._endpoint or self._service_endpoint(service)) + path
        outgoing = Outgoing("POST", url, headers, body)
        signed = sign(outgoing, self.credentials(), self._region, service, time.time())
        repeats = service != "events"  # the publisher of events counts its tries itself
        try:
            return self._post(url, signed, body, timeout or self._timeout, repeats=repeats)
        except ConnectionFailedError as error:
            raise AwsError(service, NO_ANSWER if error.was_sent else UNREACHABLE, str(error)) from error

    def _service_endpoint(self, service: str) -> str:
        suffix = "amazonaws.com.cn" if self._region.startswith("cn-") else "amazonaws.com"
        return f"https://{service}.{self._region}.{suffix}"


def _error(call: str, answered: Answered) -> AwsError:
    """The error type in an answer that is no success, wherever it stands, else its status."""
    status, headers, body = answered
    if status < 400:
        return _odd(call)
    fields = object_of(loads_or_none(body))
    code = code_in(fields.get("__type") or fields.get("code") or headers.get("x-amzn-errortype"))
    return AwsError(call, code or f"HTTP {status}", status=status)


def _odd(call: str) -> AwsError:
    return AwsError(call, NO_ANSWER, "an answer of another shape")


def _item(call: str, answer: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The item in an answer; empty if it has none. Raises AwsError."""
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

    While they cannot be renewed, the old ones are used for as long as they are valid.
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
        now, current = time.time(), self._current
        if current and (now < current[1] - self._MARGIN or now < self._next_try < current[1]):
            return current[0]
        try:
            renewed = self._renewed()
        except AwsError:
            if not current or now >= current[1]:
                raise
            renewed = current
        if current:  # the answer may be what it was, or be over already
            self._next_try = now + self._PAUSE
        if not current or now < renewed[1] or now >= current[1]:
            current = self._current = renewed
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
        names = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
        access_key, secret_key, token, expiration = map(answer.get, names)
        try:
            if _is_header(access_key) and _is_header(secret_key) and _is_header(token):
                return Credentials(access_key, secret_key, token), datetime.fromisoformat(str(expiration)).timestamp()
        except (ValueError, OverflowError):
            pass
        raise AwsError("credentials", UNREACHABLE, "an answer without credentials")


def _is_header(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isascii() and value.isprintable()
