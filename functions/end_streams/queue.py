"""The queue of `end_streams`, which sends itself a message about each stream that it has to look at again.

Its one rule: if the queue has not taken a message, that raises.
"""

import json
from typing import TYPE_CHECKING

from openai_proxy.aws_answers import NoAnswerError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class StreamsQueue:
    """Puts messages into a queue. Calls raise botocore's errors, and NoAnswerError."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self._client = client
        self._url = url

    def look_later(self, stream_id: str, seconds: int) -> None:
        """Have a stream looked at again after so many seconds."""
        body = json.dumps({"stream_id": stream_id})
        answer = self._client.send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=seconds)
        if not answer.get("MessageId"):
            raise NoAnswerError("SQS did not say that it has the message")
