"""Collects what a stream of Anthropic's Messages API says of its message, event by event. Pure.

    message_start  {"message": {id, model, usage}}             who answers, the input, and the first of the output
    message_delta  {"delta": {"stop_reason"}, "usage": {…}}    why it ended; usage counts everything before it
    message_stop                                               the end: what stops without it was cut

(https://docs.claude.com/en/docs/build-with-claude/streaming). Its one rule: usage is cumulative, so a later figure
replaces an earlier one, and a figure that is not repeated stays.
"""

from typing import Any

from proxy.json_shapes import object_of


class MessageEvents:
    """One message so far. `is_over`: the stream has said that it ends; `is_counted`: the final usage has come."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_counted = False
        self._container: Any = None
        self.usage: dict[str, Any] = {}
        """As it was told last; of the beginning until it is counted."""

    def read(self, event: dict[str, Any]) -> dict[str, Any]:
        """What `event` says, in the form of a message's fields."""
        kind = event.get("type")
        self.is_over = self.is_over or kind == "message_stop"
        if kind == "message_start":
            message = object_of(event.get("message"))
            self.usage = dict(object_of(message.get("usage")))
            self._container = message.get("container")
            return {**message, "usage": None, "container": None}  # the end of the message says it again
        if kind != "message_delta":
            return {}
        told = object_of(event.get("usage"))
        self.is_counted = self.is_counted or bool(told)
        self.usage |= {name: value for name, value in told.items() if value or name not in self.usage}
        delta = object_of(event.get("delta"))
        self._container = delta.get("container") or self._container
        found = {"type": "message", "stop_reason": delta.get("stop_reason"), "usage": self.usage}
        return found | ({"container": self._container} if self._container else {})
