"""The data of the event that says what a guard has done. Only type checkers load this module, through `types`."""

from collections.abc import Mapping
from typing import Literal, TypedDict

from openai_proxy.events.throttle_types import MessageData


class GuardedClientData(TypedDict):
    """The client key that is held, or the user, by its id."""

    key_id: str
    name: str


class GuardActed(TypedDict):
    """The data of the event. `text` is what people were told, `message` the same as a chat's webhook takes it."""

    guard: str
    rule: Literal["repeat", "refused", "hours", "spend"]
    act: Literal["notify", "lower", "cache_only", "disable"]
    limits: Mapping[str, int]
    client: GuardedClientData
    reason: str
    since: str
    until: str
    undo: str
    text: str
    message: MessageData
