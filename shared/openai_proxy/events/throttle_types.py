"""The parts of events that say what is throttled. Only type checkers load this module, through `types`."""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict


class SubjectData(TypedDict):
    """Whose limit it is: the id of a key or a user, or the name of a team or a server."""

    type: Literal["key", "user", "team", "server"]
    id: str


class ThrottleData(TypedDict):
    """Which limit had no room, and for how many seconds. Amounts are decimal numbers; a throttle by a server has
    none.
    """

    source: str
    retry_after: float | None
    subject: NotRequired[SubjectData]
    span: NotRequired[Literal["minute", "moment", "day", "week", "month", "total"]]
    limit: NotRequired[str]
    used: NotRequired[str]
    asked: NotRequired[str]


class LeftData(TypedDict):
    """What is left of a limit of a server's, of how much, and the seconds until it is full again."""

    remaining: int
    limit: int | None
    reset: float | None


class LeftsData(TypedDict):
    """What a server says that is left."""

    requests: NotRequired[LeftData]
    tokens: NotRequired[LeftData]


class AnnouncedData(LeftsData):
    """What an answer of a server said of its limits; `refused_for`: seconds of a refusal, null where it was none."""

    server: str
    model: str | None
    refused_for: float | None


class ForecastServerData(TypedDict):
    """The server."""

    name: str


class ThrottleForecast(TypedDict):
    """The data of the event: a limit of a server's is used up in so many `seconds` at the present pace."""

    server: ForecastServerData
    model: str
    resource: Literal["requests", "tokens"]
    remaining: int
    limit: int | None
    reset: float | None
    per_minute: float
    seconds: float
    runs_out_at: str


class HitClientData(TypedDict):
    """A client that was refused, how often, by which limit most, and the command that raises it ("": none does)."""

    client_id: str
    requests: int
    source: str
    limit: str
    command: str


class BlockData(TypedDict):
    """A text of a card."""

    type: str
    wrap: bool
    fontType: str
    text: str


class CardData(TypedDict):
    """An adaptive card."""

    type: str
    version: str
    body: Sequence[BlockData]


class AttachmentData(TypedDict):
    """A card, with its content type."""

    contentType: str
    content: CardData


class MessageData(TypedDict):
    """A message as a webhook takes it: Slack's has `text`, that of a workflow of Teams the others."""

    text: NotRequired[str]
    type: NotRequired[str]
    attachments: NotRequired[Sequence[AttachmentData]]


class IncidentReported(TypedDict):
    """The data of the event: what people were told. `message` is the same as a chat's webhook takes it."""

    kind: Literal["client", "upstream"]
    state: Literal["began", "ended"]
    since: str
    until: str | None
    requests: int
    clients: Sequence[HitClientData]
    text: str
    message: MessageData
