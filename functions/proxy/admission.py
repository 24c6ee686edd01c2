"""Letting a request in: who asks what, of which servers, within which limits. Its result is a `Call`.

Its one rule: it never raises. A call that is `refused` keeps what was known until then, because its event needs it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server
from openai_proxy.usage import Usage

from proxy.access.authenticator import Authenticator
from proxy.aws.client import Aws
from proxy.call import Call
from proxy.deadlines import for_servers
from proxy.endpoints.routes import is_own
from proxy.errors import ProxyError, UnavailableError
from proxy.json_shapes import object_of
from proxy.limits.reservation import Reservation
from proxy.limits.table import LimitsTable
from proxy.log import log, trace_of
from proxy.request.body import RequestBody
from proxy.request.parse import parse, target_of
from proxy.request.routing import Candidate, Routes
from proxy.timeline import Timeline

if TYPE_CHECKING:  # loaded only where a request may go to several servers
    from proxy.upstream.steering import Steering

_MOST_NAMES, _LONGEST_NAME = 8, 32


def received(event: Any, timeline: Timeline, deadline: float) -> Call:
    """The request that an invocation's `event` holds. `deadline` is the invocation's, in Unix seconds."""
    call = Call(new_ulid(timeline.started_at), for_servers(deadline, timeline.started_at))
    try:
        call = call._replace(request=parse(event))
    except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer
        call = refused(call, error)
        if call.refused and call.refused.code == "unknown_event":
            log("WARN", "An event is no request", id=call.id, event=_shape_of(event))
        return call
    object_of(event).pop("body", None)  # the request holds the same bytes: without this, megabytes would be held twice
    return call


def _shape_of(event: Any) -> str:
    """The shape of an event that is no request, such as a ping or a message of a queue, without any of its content."""
    if not isinstance(event, dict):
        return type(event).__name__
    names = [str(name)[:_LONGEST_NAME] for name in list(object_of(event))[:_MOST_NAMES]]
    return f"an object with {', '.join(map(repr, names)) or 'nothing in it'}"


def refused(call: Call, error: Exception) -> Call:
    """The call that goes no further."""
    return call._replace(refused=as_proxy_error(error, call.id))


def as_proxy_error(error: Exception, inference_id: str) -> ProxyError:
    """`error` in the form that the client is told. An error that the proxy does not know is its own failure, and is
    logged.
    """
    if isinstance(error, ProxyError):
        return error
    log("ERROR", "A request failed inside the proxy", request_id=inference_id, trace=trace_of(error))
    return UnavailableError(500, "internal_error", "The proxy failed. Its owner finds the reason in its log.")


def steering_of(another: Callable[[], Aws], table: str) -> "Callable[[], Steering]":
    """What puts servers in order; it is made for the first request that may go to several. `another` makes an AWS
    client for its thread; `table` is the costs table, which has the forecasts.
    """

    @functools.cache
    def steering() -> "Steering":
        from proxy.upstream.steering import Steering  # noqa: PLC0415  # most requests have one server to go to

        return Steering(another(), table)

    return steering


class Admission:
    """Authenticates, routes, and takes a request's share of its key's limits.

    `steering` puts the servers of a request in order where there are several.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        routes: Routes,
        limits: LimitsTable,
        steering: "Callable[[], Steering] | None" = None,
    ) -> None:
        self._steering = steering
        self._authenticator = authenticator
        self._routes = routes
        self._limits = limits

    def admit(self, call: Call, timeline: Timeline) -> Call:
        """The call with its key, its body and its candidate servers. If there are no candidates, the proxy answers the
        call itself.
        """
        if call.request is None:
            return call
        request = call.request
        try:
            call = call._replace(key=(key := self._authenticator.authorize(request)))
            timeline.authorize()
            if call.deadline <= timeline.unix(timeline.now()):
                raise UnavailableError(504, "deadline_exceeded", "The request arrived after its deadline.")
            call = call._replace(target=(target := target_of(request.path)))
            if "x-tags" in request.headers:
                from proxy.request.tags import header_tags  # noqa: PLC0415  # few clients tag their requests

                call = call._replace(tags=header_tags(request.headers["x-tags"]))
            if is_own(request, target, self._routes.pools):
                return call
            if "content-encoding" in request.headers:
                from proxy.request.coding import unpacked  # noqa: PLC0415  # few clients pack what they send

                call = call._replace(request=(request := unpacked(request)))
            call = call._replace(body=(body := RequestBody(request, target)))
            if "metadata" in body.fields:
                from proxy.request.tags import with_metadata  # noqa: PLC0415  # the same

                call = call._replace(tags=with_metadata(call.tags, target.path, body.fields))
            candidates: Sequence[Candidate] = self._routes.candidates(target, body, key)
            if len(candidates) > 1 and self._steering:
                candidates = self._steering().ordered(candidates, body.model or "")
            call = call._replace(candidates=candidates)
            if limits := key.limits_to_take:
                timeline.passed("request")
                taken = self._limits.take(limits, call.id, body, candidates, call.deadline)
                timeline.passed("limits")
                call = call._replace(reservation=taken, refused=taken.refused)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the client gets an answer, the bus its event
            return refused(call, error)
        return call

    def names(self, server: Server, key: ClientKey) -> Callable[[str], str | None]:
        """The name by which a key may ask for a model that `server` lists; None if it may not."""
        return lambda model: self._routes.name_for(model, server, key)

    def release(self, reservation: Reservation, spent: Usage, until: float) -> Reservation:
        """Give a reservation back, with what was `spent`, by `until` (Unix seconds). Returns what is still to be given
        back.
        """
        return self._limits.release(reservation, spent, until)
