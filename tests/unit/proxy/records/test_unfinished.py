"""What is told of a request whose worker was killed, whole: as much as was known when it was let in."""

import json
from typing import Any, cast

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.admission import Admission
from proxy.call import Call
from proxy.errors import LimitError
from proxy.records.unfinished import told_at, unfinished, unfinished_event
from proxy.request.parse import InferenceRequest
from proxy.request.routing import Routes
from proxy.timeline import Clock, Timeline

SERVERS = parse_servers(
    "a: {url: 'http://a.test/v1', token: t, model: own, fallbacks: [b]}\n"
    "b: {url: 'http://b.test/v1', token: t, model: other}"
)
STARTED = 1_795_426_900.25
ID = "01M83WGP11MB25G2MG02P82HG0"
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793"


class Known:
    """Lets everybody in."""

    def authorize(self, request: InferenceRequest) -> ClientKey:
        return ClientKey("team-a")


def admitted(fields: Any, path: str = "/a/v1/chat/completions", method: str = "POST") -> tuple[Call, Timeline]:
    """A request that is let in at once."""
    timeline = Timeline(Clock(lambda: STARTED, lambda: 5.0))
    known, no_limits = cast("Any", Known()), cast("Any", None)
    content = json.dumps(fields).encode() if fields is not None else b""
    request = InferenceRequest("function_url", method, path, "", {"content-type": "application/json"}, content, None)
    return Admission(known, Routes(SERVERS), no_limits).admit(Call(ID, STARTED + 60, request), timeline), timeline


def told(fields: Any, *asked: str, seconds: float = 2.5) -> tuple[Any, Any]:
    """The event of a request that is let in at once, and its trace, `seconds` after it came."""
    return told_at(STARTED + seconds, unfinished(*admitted(fields, *asked), TRACE))


ASKED: dict[str, Any] = {
    "client": {"key_id": "", "name": "", "owner": None, "tags": {}},
    "end_user": None,
    "tags": {},
    "limits": None,
    "operation": {"name": "chat"},
    "door": "function_url",
    "server": {"name": "a"},
    "request": {"method": "POST", "path": "/chat/completions", "model": "gpt", "stream": True, "size": 48},
    "response": {
        "status_code": 502,
        "model": None,
        "id": None,
        "finish_reasons": [],
        "time_to_first_chunk": None,
        "size": 0,
        "chunks": 0,
        "time_per_output_token": None,
    },
    "usage": Usage().to_event(),
    "attempts": [],
    "cold_start": False,
    "timings": {"total": 2.5, "authorization": 0.0, "upstream": 2.5, "proxy": 0.0},
    "cache": {"status": "BYPASS", "reason": "off"},
    "error": {"type": "worker_killed", "source": "proxy", "upstream_status": None},
}


def test_the_server_that_is_asked_first_may_have_been_asked_and_nobody_knows_what_it_used() -> None:
    event, trace = told({"model": "gpt", "messages": [], "stream": True})
    assert ASKED["usage"]["source"] == "missing"
    assert (event.data, trace) == (ASKED, TRACE)
    envelope = ("InferenceFailed", ID, "2026-11-23T09:41:42.750Z", ID, "team-a")
    assert (event.detail_type, event.id, event.timestamp, event.request_id, event.client_id) == envelope


def test_the_model_is_the_servers_own_where_none_is_asked_for() -> None:
    event, _ = told({"messages": []})
    assert event.data["request"] == {**ASKED["request"], "model": "own", "stream": False, "size": 16}
    assert {**event.data, "request": ASKED["request"]} == ASKED


def test_what_was_refused_has_used_nothing_and_is_told_with_its_own_reason() -> None:
    event, _ = told({"model": "gpt"}, "/x/v1/chat/completions")
    request = {**ASKED["request"], "model": None, "stream": False, "size": 16}
    error = {"type": "unknown_server", "source": "client", "upstream_status": None}
    told_of = {"server": {"name": None}, "request": request, "usage": Usage(source="none").to_event(), "error": error}
    assert event.data == {**ASKED, **told_of}


def test_what_a_limit_refused_has_used_nothing_of_the_server_that_it_was_for() -> None:
    call, timeline = admitted({"model": "gpt", "stream": True})
    full = LimitError("rate_limit_exceeded", "", "requests", 7, {})
    event, _ = told_at(STARTED + 2.5, unfinished(call._replace(refused=full), timeline, TRACE))
    of_nothing = {
        "request": {**ASKED["request"], "stream": False, "size": 32},
        "usage": Usage(source="none").to_event(),
    }
    expected = {**ASKED, **of_nothing, "throttle": {"source": "requests", "retry_after": 7}}
    del expected["error"]
    assert (event.detail_type, event.data) == ("InferenceThrottled", expected)


def test_what_asks_no_model_has_used_nothing() -> None:
    event, _ = told(None, "/a/v1/files", "GET")
    assert (event.data["usage"]["source"], event.data["server"]) == ("none", {"name": "a"})
    assert event.data["error"] == ASKED["error"]


@pytest.mark.parametrize(("seconds", "total"), [(0.0, 0.0), (-1.0, 0.0), (0.1234567, 0.123457)])
def test_what_went_by_was_waiting(seconds: float, total: float) -> None:
    event, _ = told({"model": "gpt"}, seconds=seconds)
    assert event.data["timings"] == {"total": total, "authorization": 0.0, "upstream": total, "proxy": 0.0}


@pytest.mark.parametrize(("until", "proxy"), [(5.1234567, 0.123457), (4.0, 0.0), (0.0, 0.0)])
def test_where_it_is_made_later_the_proxy_has_worked_until_the_request_was_let_in(until: float, proxy: float) -> None:
    _, _, event = unfinished_event(*admitted({"model": "gpt"}), TRACE, until)
    assert event[-1]["timings"]["proxy"] == proxy
