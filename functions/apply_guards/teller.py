"""Tells of acts: the bus, and through it a chat, then the topic of alarms.

Its one rule: each message is complete. It says who is restricted, how and until when, why, and how to end that.
"""

from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.events.bus import Publisher
from openai_proxy.events.topic import Audience
from openai_proxy.guards.action import Action, event_of, subject_of, text_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger


class Words(NamedTuple):
    """The stack's name, where the runbooks are, and what the webhook of a chat takes."""

    stack: str
    runbooks: str
    form: str


class Teller:
    """`topic` is None where there are no alarms."""

    def __init__(self, bus: Publisher, topic: Audience | None, words: Words, logger: "Logger") -> None:
        self._bus = bus
        self._topic = topic
        self._words = words
        self._logger = logger

    def tell(self, action: Action) -> None:
        """Tell of an act. Raises NotPublishedError and botocore's errors."""
        stack, runbooks, form = self._words
        self._bus.publish(event_of(action, stack, runbooks, form))
        if self._topic:
            self._topic.publish(subject_of(action, stack), text_of(action, stack, runbooks))
        self._logger.warning(
            "A guard acted",
            guard=action.guard,
            act=action.doing.act,
            id=action.id,
            client_id=action.request.client_id,
            key_id=action.request.key_id,
            reason=action.reason,
        )
