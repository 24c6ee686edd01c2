"""Which AWS call an HTTP request is. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import unquote, urlsplit

_INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
_RPC = re.compile(r"/service/GraniteServiceVersion20100801/operation/(\w+)")
"""The Smithy RPC protocol, which boto3 speaks with CloudWatch."""
_SERVICES = {
    "DynamoDB_20120810": "dynamodb",
    "AWSEvents": "events",
    "secretsmanager": "secretsmanager",
    "AmazonSSM": "ssm",
    "Firehose_20150804": "firehose",
    "GraniteServiceVersion20100801": "cloudwatch",
    "AmazonSQS": "sqs",
}
_RESOURCES = ("TableName", "SecretId", "Name", "DeliveryStreamName", "QueueUrl", "EventBusName")
_HOLDERS = ("TransactItems", "Update", "Put", "Delete", "ConditionCheck", "Entries")
_S3 = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}


@dataclass(frozen=True, slots=True)
class AwsCall:
    """A call: `action` as IAM writes it, the names of what it is about, and how its answers are written."""

    action: str
    resource: str = ""
    protocol: Literal["json", "cbor", "xml"] = "json"


def call_of(method: str, target: str, amz_target: str, body: bytes) -> AwsCall:
    """The call that a request makes. `amz_target` is its x-amz-target header; a request of none of these protocols
    calls S3.
    """
    path = urlsplit(target).path
    if invoked := _INVOKE.fullmatch(path):
        return AwsCall("lambda:Invoke", unquote(invoked[1]))
    if rpc := _RPC.fullmatch(path):
        return AwsCall(f"cloudwatch:{rpc[1]}", protocol="cbor")
    prefix, dot, operation = amz_target.rpartition(".")
    if dot:
        return AwsCall(f"{_SERVICES.get(prefix, prefix)}:{operation}", " ".join(_resources(body)))
    return AwsCall(f"s3:{_S3.get(method, method)}", unquote(path).lstrip("/"), "xml")


def _resources(body: bytes) -> list[str]:
    """The names in the top level of a JSON body, in the members of a transaction and in entries for a bus."""
    try:
        waiting: list[Any] = [json.loads(body)]
    except ValueError:
        return []
    found: list[str] = []
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, list):
            waiting += cast("list[Any]", value)
        elif isinstance(value, dict):
            for name, each in cast("dict[str, Any]", value).items():
                if name in _RESOURCES and isinstance(each, str):
                    found.append(each)
                elif name in _HOLDERS:
                    waiting.append(each)
    return list(dict.fromkeys(found))
