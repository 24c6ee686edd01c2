"""The topic of alarms, through which people are told."""

from typing import Any, Protocol


class SnsClient(Protocol):
    """The part of boto3's SNS client that is used."""

    def publish(self, *, TopicArn: str, Subject: str, Message: str) -> Any:  # noqa: N803 - boto's names
        """Send a message to a topic."""
        ...


class Topic:
    """An SNS topic. The subject is used for mails."""

    def __init__(self, client: SnsClient, arn: str) -> None:
        self._client = client
        self._arn = arn

    def publish(self, subject: str, text: str) -> None:
        """Send a message. Raises botocore's errors."""
        self._client.publish(TopicArn=self._arn, Subject=subject, Message=text)
