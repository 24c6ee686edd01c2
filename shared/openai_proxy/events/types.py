"""The data of each detail-type, as its schema in `events/schemas/`; a contract test holds both together.

Only type checkers load this module: others import it under `TYPE_CHECKING`, so that it costs no cold start. A consumer
also reads older events, which lack later fields, and checks each value: a type guarantees nothing in a queue.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypedDict

from openai_proxy.events.envelope import Event
from openai_proxy.events.guard_types import GuardActed
from openai_proxy.events.stream_types import StreamData
from openai_proxy.events.throttle_types import AnnouncedData, IncidentReported, ThrottleData, ThrottleForecast
from openai_proxy.events.usage_types import UsageData

Encoding = Literal["identity", "zlib"]


class Named(TypedDict):
    """An object with a name."""

    name: str


class ServerData(TypedDict):
    """The server; `name` is null where several were asked at once, or none that is known."""

    name: str | None


class RequestData(TypedDict):
    """What was asked."""

    method: str
    path: str
    model: str | None
    stream: bool
    size: int
    digest: NotRequired[str]


class ResponseData(TypedDict):
    """What was answered. Times are in seconds, sizes in bytes."""

    status_code: int
    model: str | None
    id: str | None
    finish_reasons: Sequence[str]
    time_to_first_chunk: float | None
    size: int
    chunks: int
    time_per_output_token: float | None


class TimingsData(TypedDict):
    """Seconds."""

    total: float
    authorization: float
    upstream: float
    proxy: float


class CacheData(TypedDict):
    """What the response cache did."""

    status: Literal["BYPASS", "MISS", "HIT", "REFRESH"]
    reason: str | None


class AttemptData(TypedDict):
    """One call of a server."""

    server: str
    status_code: int | None
    error: str | None
    duration: float


class ClientData(TypedDict):
    """The client key, as its owner described it."""

    key_id: str
    name: str
    owner: str | None
    tags: Mapping[str, str]


class ReservedData(TypedDict):
    """What a request held of its key's limits at its end. `cost` is a decimal number."""

    cost: str
    tokens: int


class Identified(TypedDict):
    """What has an id: a lease, or a counter of limits."""

    id: str


class LeaseData(Identified):
    """A lease that the sandbox could not give back, or perhaps not."""

    in_doubt: bool


class LimitsData(Identified):
    """The limits of the key, and what the request took of them. Budgets are decimal numbers."""

    status: Literal["checked", "unchecked"]
    reserved: ReservedData | None
    has_budget: bool
    taken_at: int | None
    budget_day: str | None
    budget_month: str | None
    currency: str | None
    lease: NotRequired[LeaseData]
    budget_week: NotRequired[str]
    budget_total: NotRequired[str]
    reset_weekday: NotRequired[str]
    reset_day: NotRequired[int]
    shard: NotRequired[int]


class PartData(TypedDict):
    """What one model used."""

    model: str | None
    usage: UsageData


class FetchedData(TypedDict):
    """What is told apart from the request that had it made, by its `names`, and what `others` used."""

    names: Sequence[str]
    others: Sequence[PartData]
    digest: NotRequired[str]


class TeamData(Named):
    """A team, and what the request took of its limits."""

    limits: LimitsData | None


class InferenceCompleted(TypedDict):
    """The data of the event, which the other two terminal events share."""

    operation: Named
    door: Literal["function_url", "rest_api"]
    server: ServerData
    request: RequestData
    response: ResponseData
    usage: UsageData
    timings: TimingsData
    cache: CacheData
    attempts: Sequence[AttemptData]
    client: ClientData | None
    limits: LimitsData | None
    team: NotRequired[TeamData]
    end_user: str | None
    tags: Mapping[str, str]
    cold_start: bool
    fetched: NotRequired[FetchedData]
    stream: NotRequired[StreamData]
    announced: NotRequired[Sequence[AnnouncedData]]


class ErrorData(TypedDict):
    """Why it failed, and by whose fault."""

    type: str
    source: Literal["upstream", "client", "proxy"]
    upstream_status: int | None


class InferenceFailed(InferenceCompleted):
    """The data of the event."""

    error: ErrorData


class InferenceThrottled(InferenceCompleted):
    """The data of the event."""

    throttle: ThrottleData


class CapturedRequestData(TypedDict):
    """What was asked."""

    path: str
    model: str | None
    stream: bool


class CapturedResponseData(TypedDict):
    """The answer: either its `body`, in base64, or the `object` that holds it."""

    status_code: int
    model: NotRequired[str | None]
    content_type: str
    encoding: Encoding
    body: NotRequired[str]
    object: NotRequired[str]
    body_size: int
    body_sha256: str
    timing: NotRequired[Sequence[tuple[int, int]]]


class ResponseCaptured(TypedDict):
    """The data of the event. Moments are Unix seconds."""

    cache_key: str
    digest: str
    scope: str
    namespace: NotRequired[str]
    server: Named
    request: CapturedRequestData
    response: CapturedResponseData
    usage: UsageData
    created_at: int
    expires_at: int


class BudgetThresholdReached(TypedDict):
    """The data of the event. Amounts are decimal numbers."""

    client: ClientData
    limits: Identified
    team: NotRequired[str]
    end_user: NotRequired[str]
    period: Literal["day", "week", "month", "total"]
    period_start: str
    threshold: Literal[50, 80, 100]
    budget: str
    spent: str
    currency: str


CompletedEvent = Event[Literal["InferenceCompleted"], InferenceCompleted]
FailedEvent = Event[Literal["InferenceFailed"], InferenceFailed]
ThrottledEvent = Event[Literal["InferenceThrottled"], InferenceThrottled]
CapturedEvent = Event[Literal["ResponseCaptured"], ResponseCaptured]
ThresholdEvent = Event[Literal["BudgetThresholdReached"], BudgetThresholdReached]
GuardEvent = Event[Literal["GuardActed"], GuardActed]
ForecastEvent = Event[Literal["ThrottleForecast"], ThrottleForecast]
IncidentEvent = Event[Literal["IncidentReported"], IncidentReported]

TerminalEvent = CompletedEvent | FailedEvent | ThrottledEvent
InferenceEvent = CompletedEvent | FailedEvent  # what the ledger records
AnyEvent = TerminalEvent | CapturedEvent | ThresholdEvent | IncidentEvent | ForecastEvent | GuardEvent
"""`event.detail_type == "…"` tells a type checker which one it is."""
