"""The parts of events that say what is throttled. Only type checkers load this module, through `types`."""

from typing import Literal, NotRequired, TypedDict


class SubjectData(TypedDict):
    """Whose limit it is: the id of a key or a user, or the name of a team or a server."""

    type: Literal["key", "user", "team", "server"]
    id: str


class ThrottleData(TypedDict):
    """Which limit had no room, and for how many seconds. Amounts are decimal numbers; a server does not say them."""

    source: str
    retry_after: float | None
    subject: NotRequired[SubjectData]
    span: NotRequired[Literal["minute", "moment", "day", "week", "month", "total"]]
    limit: NotRequired[str]
    used: NotRequired[str]
    asked: NotRequired[str]
