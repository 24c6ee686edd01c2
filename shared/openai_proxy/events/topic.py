"""The topic of alarms, through which people are told."""

from typing import Any, Protocol

from openai_proxy.aws_answers import NoAnswerError


class SnsClient(Protocol):
    """The part of boto3's SNS client that is used."""

    def publish(self, *, TopicArn: str, Subject: str, Message: str) -> Any:  # noqa: N803 - boto's names
        """Send a message to a topic."""
        ...


class Audience(Protocol):
    """Where people are told: a topic, or a fake of it."""

    def publish(self, subject: str, text: str) -> None:
        """Send a message. Raises NoAnswerError and botocore's errors."""
        ...


class Topic:
    """An SNS topic. The subject is used for mails."""

    def __init__(self, client: SnsClient, arn: str) -> None:
        self._client = client
        self._arn = arn

    def publish(self, subject: str, text: str) -> None:
        """Send a message. Raises NoAnswerError and botocore's errors."""
        answer = self._client.publish(TopicArn=self._arn, Subject=subject, Message=text)
        if not answer.get("MessageId"):
            raise NoAnswerError("SNS did not say that it has the message")
