"""Which requests the proxy answers itself, and with what."""

from typing import Any, cast

import pytest
from openai_proxy.key_context import ClientKey
from proxy.call import Call
from proxy.endpoints.routes import Endpoints, is_own
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Timeline

KEY = ClientKey("team-a")


def request(method: str = "GET") -> InferenceRequest:
    return InferenceRequest("function_url", method, "/v1/x", "", {}, b"", None)


@pytest.mark.parametrize(
    ("method", "server", "path", "answers"),
    [
        ("GET", None, "/models", True),
        ("GET", None, "/models/a/b", True),
        ("GET", "many", "/models", True),
        ("GET", "up", "/models", False),
        ("POST", None, "/models", False),
        ("GET", None, "/modelsX", False),
        ("GET", None, "/receipts/x", True),
        ("GET", None, "/receipts", False),
        ("GET", "many", "/receipts/x", False),
        ("POST", None, "/receipts/x", False),
        ("GET", None, "/files", False),
        ("GET", "up", "/streams/x", True),
        ("DELETE", None, "/streams/x", True),
        ("GET", None, "/streams", False),
    ],
)
def test_what_leads_to_no_server(method: str, server: str | None, path: str, answers: bool) -> None:
    assert is_own(request(method), Target(server, path), {"many"}) is answers


class Asked:
    """An endpoint that says what it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def document(self, *asked: object) -> Any:
        return self.name, *asked


def document(call: Call, timeline: Timeline) -> Any:
    given = {"/models": lambda: Asked("models"), "/receipts/": lambda: Asked("receipts")}
    return Endpoints(given).document(call, timeline)


def test_models_and_receipts_are_asked_for_with_what_they_depend_on() -> None:
    timeline, models, receipt = Timeline(), Target("many", "/models"), Target(None, "/receipts/x")
    call = Call("id", 0.0, request(), KEY, models)
    assert document(call, timeline) == ("models", models, KEY, timeline)
    assert document(call._replace(target=receipt), timeline) == ("receipts", receipt, KEY, timeline)


def test_a_stream_is_not_there_where_none_is_kept() -> None:
    with pytest.raises(ClientError) as caught:
        document(Call("id", 0.0, request(), KEY, Target(None, "/streams/x")), Timeline())
    error = caught.value
    assert (error.status, error.code, error.message) == (404, "stream_not_found", "This proxy keeps no streams.")


@pytest.mark.parametrize("lacks", ["request", "target", "key"])
def test_who_is_not_let_in_gets_no_document(lacks: str) -> None:
    whole: Any = Call("id", 0.0, request(), KEY, Target(None, "/models"))
    assert document(whole._replace(**{lacks: None}), Timeline()) is None


def test_what_is_passed_on_is_for_its_server() -> None:
    call = Call("id", 0.0, request(), KEY, Target(None, "/models"), body=cast("Any", object()))
    assert document(call, Timeline()) is None
