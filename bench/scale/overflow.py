"""The bus as those see it that put events on it: the proxy, and publish_again with what the bus did not take at first.

One rule: publisher, overflow queue and consumer are the code's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from proxy.aws.client import AwsError
from proxy.records.publisher import Publisher, Queues
from publish_again.bus import EventBus
from publish_again.consumer import PublishAgain

from bench.scale.bus import Bus
from bench.scale.queues import Batches, Message, Queue
from bench.scale.simulation import Simulation

SEND_SECONDS = 0.01
"""Assumed, of a call of SendMessage."""
AGAIN = Batches(most=2, tries=100)
"""The mapping of publish_again in the template, and how often its messages come again."""
_OK = [{"EventId": "1"}]


class Overflow:
    """What the proxy calls of AWS for its events, and what is behind it."""

    def __init__(self, simulation: Simulation, bus: Bus) -> None:
        self._simulation, self._bus = simulation, bus
        self.queue = Queue(simulation, AGAIN, self._consume)
        client: Any = self
        self._again = PublishAgain(
            EventBus(_Client(bus), "bus"), self._hide, Logger(service="scale", level="CRITICAL"), simulation.sleep
        )
        self.publisher = Publisher(client, "bus", simulation.sleep, simulation.clock, Queues(terminal="again"))

    def put_events(self, entries: Sequence[Mapping[str, Any]], _timeout: float) -> list[dict[str, Any]]:
        """PutEvents. Raises AwsError for what is over the quota."""
        if not self._bus.put(entries):
            raise AwsError("AWSEvents.PutEvents", "ThrottlingException", status=400)
        return _OK * len(entries)

    def send_message(self, _queue: str, body: str, _delay: int, _timeout: float, _trace: str | None = None) -> None:
        """SendMessage, of which SQS takes as many as there are."""
        self._simulation.sleep(SEND_SECONDS)
        self.queue.send(Message(body, self._simulation.now))

    def _consume(self, batch: Sequence[Message]) -> Sequence[Message]:
        records = [
            {
                "messageId": str(place),
                "receiptHandle": message,
                "body": message.body,
                "attributes": {"ApproximateReceiveCount": str(message.receives)},
            }
            for place, message in enumerate(batch)
        ]
        failed = self._again({"Records": records})["batchItemFailures"]
        return [batch[int(each["itemIdentifier"])] for each in failed]

    def _hide(self, seconds: Mapping[Any, int]) -> None:
        for message, hidden in seconds.items():
            message.hidden = float(hidden)


class _Client:
    """As much of boto3's client as publish_again uses."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Raises ClientError for what is over the quota."""
        if not self._bus.put(Entries):
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "PutEvents")
        return {"Entries": _OK * len(Entries)}
