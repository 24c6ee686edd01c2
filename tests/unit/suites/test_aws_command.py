"""The AWS CLI's commands as the tests of pages carry them out: values, answers, and what is refused."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.e2e.aws_command import aws


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    sdk: Any = boto3
    with mock_aws():
        yield sdk.client("sqs").create_queue(QueueName="letters")["QueueUrl"]


def test_an_answer_comes_as_text_or_json(queue: str) -> None:
    asked = ["sqs", "get-queue-attributes", "--queue-url", queue, "--attribute-names", "QueueArn", "VisibilityTimeout"]
    arn = "arn:aws:sqs:us-east-1:123456789012:letters"
    assert json.loads(aws(asked).out) == {"Attributes": {"QueueArn": arn, "VisibilityTimeout": "30"}}
    assert aws([*asked, "--query", "Attributes.QueueArn", "--output", "text"]).out == f"{arn}\n"
    both = [*asked, "--query", "Attributes.[QueueArn,VisibilityTimeout]", "--output", "text"]
    assert aws(both).out == f"{arn}\t30\n"


def test_values_are_json_or_short_forms_of_it(queue: str) -> None:
    assert aws(["sqs", "set-queue-attributes", "--queue-url", queue, "--attributes", "DelaySeconds=7"]).code == 0
    assert aws(["sqs", "tag-queue", "--queue-url", queue, "--tags", '{"team": "web"}']).code == 0
    asked = ["sqs", "get-queue-attributes", "--queue-url", queue, "--attribute-names", "DelaySeconds"]
    assert json.loads(aws(asked).out)["Attributes"] == {"DelaySeconds": "7"}
    assert json.loads(aws(["sqs", "list-queue-tags", "--queue-url", queue]).out) == {"Tags": {"team": "web"}}


@pytest.mark.parametrize(
    "words",
    [
        ["sqs"],
        ["sqs", "make-queue"],
        ["nosuch", "list-queues"],
        ["sqs", "get-queue-attributes", "--queue", "x"],
        ["sqs", "get-queue-attributes", "--queue-url", "http://localhost/nobody"],
    ],
)
def test_what_it_does_not_know_is_an_error(words: list[str]) -> None:
    done = aws(words)
    assert (done.code, done.out) == (255, "")
    assert done.err.startswith("aws: ")
