"""Publishes events. One rule: if the bus has not taken an event, that raises."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

    from openai_proxy.events.types import AnyEvent


class NotPublishedError(Exception):
    """The bus did not take an event."""


class Publisher(Protocol):
    """Where consumers publish what they have found out: the bus, or a fake of it."""

    def publish(self, event: "AnyEvent") -> None:
        """Put `event`. Raises NotPublishedError and botocore's errors."""
        ...


class Bus:
    """The bus on which consumers publish what they have found out."""

    def __init__(self, client: "EventBridgeClient", name: str) -> None:
        self._client = client
        self._name = name

    def publish(self, event: "AnyEvent") -> None:
        """Put `event`. Raises NotPublishedError and botocore's errors."""
        entry = event.to_entry(self._name)
        response = self._client.put_events(
            Entries=[
                {
                    "Source": entry["Source"],
                    "DetailType": entry["DetailType"],
                    "Detail": entry["Detail"],
                    "EventBusName": entry["EventBusName"],
                }
            ]
        )
        result: Any = (response.get("Entries") or [None])[0] or {}
        if not isinstance(result.get("EventId"), str) or result.get("ErrorCode"):
            raise NotPublishedError(result.get("ErrorCode") or "the bus did not say that it has the event")
