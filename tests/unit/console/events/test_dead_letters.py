"""`events dead-letters` and `events redrive`: what is shown, what is moved, and that nothing is lost on the way."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from console.command_line import main
from console.events.dead_letters import consumers, looked_at, moved
from tests.fakes import Connection, Received, ScriptedServer

NOW = 4_099_118_400.0
"""After whatever moto says that it is."""


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str, str]]:
    """SQS, a dead-letter queue and the queue of its consumer. moto is one server, which need not be waited for."""
    monkeypatch.setattr("console.events.dead_letters._WAIT_SECONDS", 0)
    with mock_aws():
        sqs: Any = boto3.client("sqs")  # pyright: ignore[reportUnknownMemberType]
        yield sqs, *(sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("dead", "queue"))


def bodies(sqs: Any, queue: str) -> list[str]:
    return sorted(each["Body"] for each in looked_at(sqs, queue, 1000))


def put(sqs: Any, queue: str, *texts: str) -> None:
    for text in texts:
        sqs.send_message(QueueUrl=queue, MessageBody=text, MessageAttributes={
            "of": {"DataType": "String", "StringValue": text}})  # fmt: skip


def test_all_are_moved_with_what_they_carry(queues: tuple[Any, str, str]) -> None:
    sqs, dead, queue = queues
    texts = [f"m{number}" for number in range(23)]
    put(sqs, dead, *texts)

    assert moved(sqs, dead, queue, NOW) == 23
    assert bodies(sqs, dead) == []
    found = looked_at(sqs, queue, 1000)
    assert sorted(each["MessageAttributes"]["of"]["StringValue"] for each in found) == sorted(texts)
    assert moved(sqs, dead, queue, NOW) == 0


def test_what_failed_again_meanwhile_stays(queues: tuple[Any, str, str]) -> None:
    """Else a consumer that refuses at once would be sent the same messages for ever."""
    sqs, dead, queue = queues
    put(sqs, dead, "a")
    assert moved(sqs, dead, queue, began=1.0) == 0
    assert bodies(sqs, queue) == []


def test_what_failed_before_is_moved_also_behind_what_failed_again() -> None:
    """A queue gives its messages in any order."""
    sent_at = {"old": "1", "new": "3000", "older": "0"}
    messages = [
        {"MessageId": name, "ReceiptHandle": name, "Body": name, "Attributes": {"SentTimestamp": moment}}
        for name, moment in sent_at.items()
    ]
    sent, deleted = list[str](), list[str]()

    class Queue:
        def receive_message(self, **_: Any) -> Any:
            return {"Messages": messages}

        def send_message(self, MessageBody: str, **_: Any) -> None:  # noqa: N803
            sent.append(MessageBody)

        def delete_message(self, ReceiptHandle: str, **_: Any) -> None:  # noqa: N803
            deleted.append(ReceiptHandle)

    assert moved(Queue(), "dead", "queue", began=2.0) == 2
    assert sent == deleted == ["old", "older"]


def test_a_message_is_in_one_queue_at_least(queues: tuple[Any, str, str]) -> None:
    sqs, dead, queue = queues
    put(sqs, dead, "a")

    class Deleting:
        def __getattr__(self, name: str) -> Any:
            return getattr(sqs, name)

        def delete_message(self, **_: Any) -> None:
            assert bodies(sqs, queue) == ["a"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moved(Deleting(), dead, queue, NOW)
    assert bodies(sqs, queue) == ["a"]


def test_to_look_takes_nothing_away_and_shows_each_once(queues: tuple[Any, str, str]) -> None:
    sqs, dead, _ = queues
    put(sqs, dead, *"abc")
    assert bodies(sqs, dead) == bodies(sqs, dead) == ["a", "b", "c"]
    assert len(looked_at(sqs, dead, 2)) == 2


def test_consumers_are_called_as_their_functions_are() -> None:
    outputs = {"RecordCostDeadLetterQueueUrl": "u", "EndStreamsDeadLetterQueueUrl": "v", "RecordCostQueueUrl": "w"}
    assert consumers(outputs) == {"record-cost": "RecordCost", "end-streams": "EndStreams"}


def test_what_a_person_sees(
    queues: tuple[Any, str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sqs, dead, queue = queues
    named = {"RecordCostDeadLetterQueueUrl": dead, "RecordCostQueueUrl": queue}

    def described(connection: Connection, _: Received) -> None:
        outputs = "".join(
            f"<member><OutputKey>{name}</OutputKey><OutputValue>{url}</OutputValue></member>"
            for name, url in named.items()
        )
        stack = f"<Stacks><member><StackName>s</StackName><Outputs>{outputs}</Outputs></member></Stacks>"
        answer = (
            f"<DescribeStacksResponse><DescribeStacksResult>{stack}</DescribeStacksResult></DescribeStacksResponse>"
        )
        connection.answer(answer.encode(), content_type="text/xml")

    def said(*words: str) -> tuple[int, str]:
        code = main(["events", *words], {"AWS_REGION": "us-east-1", "STACK_NAME": "s"})
        printed = capsys.readouterr()
        return code, printed.out or printed.err

    with ScriptedServer(described) as cloudformation:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", cloudformation.url)
        assert said("dead-letters") == (0, "record-cost: 0\n")
        put(sqs, dead, json.dumps({"detail-type": "InferenceCompleted\x1b[2J"}))
        assert said("dead-letters") == (1, "record-cost: 1\n")
        assert said("dead-letters", "record-cost") == (0, '{"detail-type": "InferenceCompleted\\u001b[2J"}\n')
        [found] = json.loads(said("dead-letters", "record-cost", "--json")[1])
        assert found["detail-type"].startswith("InferenceCompleted")
        code, text = said("redrive", "recordcost")
        assert (code, "Did you mean record-cost?" in text) == (2, True)
        assert said("redrive", "record-cost") == (0, "1 went through again.\n")
        assert said("redrive", "record-cost") == (0, "Nothing waits there.\n")
        assert said("dead-letters", "record-cost") == (0, "Nothing waits in the dead-letter queue of record-cost.\n")
