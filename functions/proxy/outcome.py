"""`Outcome`: what came of a call when its client had the last byte. Pure."""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.usage import Usage

from proxy.call import Call
from proxy.delivery import NOTHING, OFF, CacheUse, Delivery
from proxy.errors import ProxyError
from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.limits.reservation import Reservation
from proxy.metering.estimate import ESTIMATED_PATHS, estimated_usage
from proxy.metering.meter import Meter
from proxy.timeline import Timeline

if TYPE_CHECKING:  # loaded only where content is logged
    from openai_proxy.events.stream_types import StreamData
    from openai_proxy.events.types import FetchedData, PartData

    from proxy.records.recorder import ResponseRecorder

NO_USAGE = Usage(source="none")
UNREADABLE = Usage(source="invalid", reason="unreadable")
"""Of an answer that cannot be read: nobody knows what was used."""
_LONGEST_KEPT = 30 * 86400.0
"""Seconds for which a server keeps an answer that it made in the background, at most."""
_CLOCKS_APART = 300.0
_COST_HEADER = "x-litellm-response-cost"
"""A decimal number (https://docs.litellm.ai/docs/proxy/response_headers), of documents alone: before a stream has
ended, nobody knows its cost."""


class Outcome(NamedTuple):
    """The `status` that the client got, and the `delivery` that it was for, or the `error` that ended it.

    `meter` knows what the answer says of itself, `content` is the answer where the key's owner wants it logged, and
    `reservation` is what is still held of the key's limits.
    """

    status: int = 0
    delivery: Delivery = NOTHING
    cache: CacheUse = OFF
    meter: Meter | None = None
    content: "ResponseRecorder | None" = None
    error: ProxyError | None = None
    usage: Usage = NO_USAGE
    reservation: Reservation | None = None
    stream: "StreamData | None" = None
    """How it ended as a stream that can be read again, where it is one."""

    def untold(self) -> Self:
        """The same without what its answer says of itself, if that cannot be told."""
        return self._replace(meter=None, content=None)


def usage_of(call: Call, outcome: Outcome, started_at: float) -> Usage:
    """The usage that the server reported, with its service tier and the cost from a header; or else an estimate."""
    usage, upstream = _usage_of(call, outcome, started_at), outcome.delivery.upstream
    stated = upstream.headers.get(_COST_HEADER, "") if upstream else ""
    if outcome.meter and not outcome.cache.usage and usage is not NO_USAGE:
        usage = usage._replace(service_tier=outcome.meter.service_tier)
        if _had_search(call, outcome, usage):
            usage = usage._replace(units=(("web_search", 1),))
    if not stated:
        return usage
    from proxy.metering.cost import with_cost_of_header  # noqa: PLC0415  # few servers state a cost

    return with_cost_of_header(usage, stated)


def _had_search(call: Call, outcome: Outcome, usage: Usage) -> bool:
    """Whether a chat searched the web without saying how often: a model that accepts this option searches for each
    answer.

    A cost that the server states includes the search.
    """
    asks = (
        call.body is not None
        and call.path == "/chat/completions"
        and call.body.fields.get("web_search_options") is not None
    )
    is_told = usage.units or usage.cost_reported is not None
    return asks and not is_told and outcome.error is None and usage.source in ("reported", "estimated")


def _usage_of(call: Call, outcome: Outcome, started_at: float) -> Usage:
    """The usage that the server reported. If it should have reported one and did not, an estimate, if there is anything
    to estimate from.
    """
    meter, sent, error = outcome.meter, outcome.delivery.sent, outcome.error
    if outcome.cache.usage:
        return outcome.cache.usage
    if meter is None:
        return NO_USAGE
    if call.fetches_answer:
        return meter.usage if _is_told(call, outcome, meter, started_at) else NO_USAGE
    is_whole_document = meter.is_readable and not meter.is_stream
    if call.is_free_unless_reported and is_whole_document and meter.usage.source == "missing":
        return NO_USAGE
    is_told = meter.usage.source != "missing" and (meter.error is not None or not meter.is_half_counted)
    is_known = is_told or meter.is_queued or not meter.is_readable
    is_written = call.path in ESTIMATED_PATHS or any(meter.finish_reasons)  # by a model, whatever the path is called
    if is_known or sent is None or not is_written:
        return meter.usage
    sample, factor = meter.sample
    usage = estimated_usage(sent.content, sample, factor, is_stream=meter.is_stream)
    if meter.usage.source == "reported":  # the input as reported; the output was not counted any more
        output = max(usage.output_tokens, meter.usage.output_tokens)
        return meter.usage._replace(output_tokens=output, source="estimated")
    if not usage.output_tokens and (meter.error or (error and error.fault == "upstream")):
        return NO_USAGE  # it failed before the model said anything
    # An answer that its server calls failed is charged only with what the server has reported.
    return meter.usage if meter.error else usage


def _is_told(call: Call, outcome: Outcome, meter: Meter, started_at: float) -> bool:
    """Whether an answer reports usage of something that was made earlier; the lines of a batch do so when all have
    come.
    """
    if call.lines_of:
        return outcome.status == 200 and outcome.error is None and meter.usage.source != "none"
    return background_since(meter, started_at) is not None


def spent_of(call: Call, outcome: Outcome) -> Usage:
    """The part of the usage that a server was asked for in this request: nothing where the answer was made earlier."""
    return NO_USAGE if outcome.cache.status == "HIT" or call.fetches_answer else outcome.usage


def background_since(meter: Meter, started_at: float) -> float | None:
    """When a background answer or a batch was begun (Unix seconds), if this request reports its usage.

    The usage of a batch that has ended without reporting any is `missing`.
    """
    began = meter.background_since
    if began is None or not -_CLOCKS_APART < started_at - began < _LONGEST_KEPT:
        return None
    return began if meter.batch_file is not None or meter.usage.source == "reported" else None


def event_id_of(call: Call, outcome: Outcome, started_at: float) -> str:
    """The id of the request's event. For an answer made in the background it is derived from that answer, so that the
    answer counts once, whoever fetches it.
    """
    meter = outcome.meter
    began = background_since(meter, started_at) if meter else None
    return ulid_of_fact(began, f"{outcome.delivery.server_name}\0{meter.id}") if meter and began else call.id


def tells_batch(call: Call, outcome: Outcome) -> bool:
    """Whether the request reports what a batch used. Nothing was reserved for that when the batch was made."""
    is_batch = call.lines_of is not None or (outcome.meter is not None and outcome.meter.batch_file is not None)
    return call.fetches_answer and is_batch and outcome.usage.source == "reported"


def fetched_of(call: Call, outcome: Outcome, started_at: float) -> "FetchedData | None":
    """The names by which the server knows the answer or batch that this request reports, or that will be reported
    later: it is booked once.
    """
    meter = outcome.meter
    if meter is None or outcome.usage.source == "none":
        return None
    if not (call.fetches_answer or meter.is_queued or background_since(meter, started_at)):
        return None
    names = [call.lines_of] if call.lines_of else [meter.id, meter.batch_file]
    others: list[PartData] = [{"model": model, "usage": used.to_event()} for model, used in meter.others]
    found: FetchedData = {
        "names": [name for each in names if (name := text_of(each, LONGEST_NAME))],
        "others": others,
    }
    return {**found, "digest": meter.digest} if meter.digest else found


def receipt_of(call: Call, outcome: Outcome, timeline: Timeline) -> dict[str, Any]:
    """The receipt at the end of a stream, without the cost, which is in the ledger a moment later."""
    moments = timeline.moments()
    return {
        "id": call.id,
        "server": outcome.delivery.server_name,
        "model": outcome.delivery.model,
        "usage": usage_of(call, outcome, timeline.started_at).to_event(),
        "time_to_first_chunk": moments.time_to_first_chunk,
        "duration": round(moments.total, 6),
        "attempts": timeline.calls_made,
    }
