"""The list of models: what each server says, for how long that is believed, and what of it a key may see."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server, parse_servers
from proxy.aws.client import AwsError
from proxy.endpoints.models import ModelList, allowed_models
from proxy.errors import ProxyError, UpstreamError
from proxy.http.transport import ConnectionFailedError
from proxy.http.wire import Outgoing
from proxy.request.parse import Target
from proxy.timeline import Clock, Timeline
from proxy.upstream.provider_tokens import TokenNotFoundError

from tests.fakes import Clock as Watch

SERVERS = parse_servers(
    "one: {url: 'http://one.test/v1', token: t-one, model: def, query: {v: '1'}, aliases: {fast: one-fast, both: b1}}\n"
    "two: {url: 'http://two.test/v1', token: t-two, model: '', aliases: {both: b2}}\n"
    "duo: {pool: {one: 1, two: 1}, model: both}\n"
)
HEADERS = {"user-agent": "openai-proxy", "accept": "application/json", "accept-encoding": "identity"}
ONE = {"id": "x", "object": "odd", "created": 5, "owned_by": "them", "more": [1]}
LISTED: dict[str, Any] = {
    "http://one.test/v1/models?v=1": {"data": [ONE, {"id": "shared"}, {"id": 7}, "no object"]},
    "http://two.test/v1/models": {"data": [{"id": "shared"}, {"id": "only-two"}]},
}
ALL = ClientKey("team-a")


def entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


OF_ONE = [ONE | {"id": "one/x", "object": "model"}, entry("one/shared", "one"), entry("one/def", "one")]
OF_TWO = [entry("two/shared", "two"), entry("two/only-two", "two")]
OF_DUO = ["fast", "both", "def", "shared"]
WHOLE = [
    *OF_ONE,
    *(entry("fast", "one"), entry("both", "one")),
    *OF_TWO,
    *(entry(f"duo/{name}", "duo") for name in OF_DUO),
]


class Upstream:
    """Servers, tokens and a clock: what is asked is noted, and `says` has documents, statuses or faults by address."""

    def __init__(self, says: Mapping[str, Any] = LISTED) -> None:
        self.says = dict(says)
        self.tokens: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str], float]] = []
        self.closed = 0
        self.watch = Watch()
        self.list = ModelList(SERVERS, cast("Any", self), cast("Any", self), self.watch)

    def sibling(self) -> "Upstream":
        return self

    def close(self) -> None:
        self.closed += 1

    def find(self, server: Server) -> str:
        if isinstance(found := self.tokens.get(server.name), Exception):
            raise found
        return server.token.name

    def signed_in(self, server: Server, token: str, call: Outgoing) -> dict[str, str]:
        assert call == Outgoing("GET", call.url, HEADERS)
        assert token == f"t-{server.name}"
        return {**call.headers, "authorization": f"Bearer {token}"}

    def get(self, url: str, headers: dict[str, str], patience: float) -> tuple[int, dict[str, str], bytes]:
        self.asked.append((url, headers, patience))
        said = self.says[url]
        if isinstance(said, Exception):
            raise said
        return (
            (said, {}, b'{"data": [{"id": "not this"}]}')
            if isinstance(said, int)
            else (200, {}, json.dumps(said).encode())
        )

    def document(
        self, key: ClientKey = ALL, server: str | None = None, name: str = "", timeline: Timeline | None = None
    ) -> Any:
        path = f"/models/{name}" if name else "/models"
        return json.loads(self.list.document(Target(server, path), key, timeline or Timeline()))

    def names(self, key: ClientKey = ALL, server: str | None = None) -> list[str]:
        return [model["id"] for model in self.document(key, server)["data"]]


def test_all_models_of_all_servers_under_the_names_that_a_client_asks_for() -> None:
    upstream, timeline = Upstream(), Timeline(Clock(lambda: 0.0, lambda: 50.0))
    assert upstream.document(timeline=timeline) == {"object": "list", "data": WHOLE, "unavailable": []}
    asked = [(url, {**HEADERS, "authorization": f"Bearer t-{url[7:10]}"}, 4.0) for url in LISTED]
    assert sorted(upstream.asked) == sorted(asked)
    assert upstream.closed == 2
    attempts = [(each.server, each.status_code, each.error, each.duration) for each in timeline.attempts]
    assert sorted(attempts) == [("one", 200, None, 0.0), ("two", 200, None, 0.0)]


def test_a_pool_has_the_names_that_its_members_have() -> None:
    upstream = Upstream()
    assert upstream.document(server="duo")["data"] == [entry(name, "duo") for name in OF_DUO]
    only = ClientKey("a", servers=("one",))
    with pytest.raises(ProxyError) as caught:
        upstream.document(only, "duo")
    assert (caught.value.status, caught.value.code) == (403, "server_not_allowed")


def test_what_all_members_list_comes_in_the_order_of_the_first() -> None:
    listed = [{"data": [{"id": name} for name in names]} for names in ("cab", "ac")]
    assert Upstream(dict(zip(LISTED, listed, strict=True))).names(server="duo") == ["fast", "both", "def", "c", "a"]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (ClientKey("a", servers=("two",)), ["two/shared", "two/only-two", "both"]),
        (ClientKey("a", servers=("two",), models=("shared",)), ["two/shared"]),
        (ClientKey("a", models=("one/x",)), ["one/x"]),
        (ClientKey("a", servers=("one",), models=("fast", "one/d*")), ["one/def", "fast"]),
        (ClientKey("a", servers=("duo",), models=("duo/shared",)), ["duo/shared"]),
        (ClientKey("a", servers=()), []),
    ],
)
def test_a_key_sees_what_it_may_ask_for(key: ClientKey, names: list[str]) -> None:
    assert Upstream().names(key) == names


@pytest.mark.parametrize("name", ["one/x", "one%2Fx"])
def test_one_model_by_its_name(name: str) -> None:
    assert Upstream().document(name=name) == OF_ONE[0]


@pytest.mark.parametrize("name", ["x", "one/no", "m" * 200])
def test_a_model_that_is_not_there(name: str) -> None:
    with pytest.raises(ProxyError) as caught:
        Upstream().document(name=quote(name))
    error = caught.value
    message = f"There is no model '{name[:128]}' that this key may use."
    assert (error.status, error.code, error.message) == (404, "model_not_found", message)


@pytest.mark.parametrize(
    ("fault", "reason", "kept"),
    [
        ({"data": [ONE]}, None, 300.0),
        ({"data": 7}, None, 300.0),
        ([], None, 300.0),
        (404, None, 30.0),
        (ConnectionFailedError("refused", was_sent=False), "upstream_unreachable", 30.0),
        (AwsError("sts", "no"), "upstream_unreachable", 30.0),
    ],
)
def test_what_a_server_says_is_believed_for_a_while(fault: Any, reason: str | None, kept: float) -> None:
    upstream, key = Upstream(), ClientKey("a", servers=("one",))
    upstream.says["http://one.test/v1/models?v=1"] = fault
    told = [{"server": "one", "reason": reason}] if reason else []
    timeline = Timeline()
    first = upstream.document(key, timeline=timeline)
    assert first["unavailable"] == told
    ((server, status, error),) = [(each.server, each.status_code, each.error) for each in timeline.attempts]
    assert (server, error) == ("one", reason)
    assert status == (None if reason else fault if isinstance(fault, int) else 200)
    has_default = [] if reason else ["one/def", "fast", "both"]
    assert [model["id"] for model in first["data"]] == ["one/x"] * (fault == {"data": [ONE]}) + has_default
    upstream.watch.now += kept - 0.125
    assert upstream.document(key) == first
    assert len(upstream.asked) == 1
    upstream.watch.now += 0.125
    assert upstream.document(key) == first
    assert (len(upstream.asked), upstream.closed) == (2, 2)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(AwsError("ssm", "no"), "token_unavailable"), (TokenNotFoundError("no"), "server_not_configured")],
)
def test_without_its_token_a_server_is_not_asked_and_the_others_are(fault: Exception, reason: str) -> None:
    upstream, timeline = Upstream(), Timeline()
    upstream.tokens["one"] = fault
    found = upstream.document(timeline=timeline)
    assert found["unavailable"] == [{"server": "one", "reason": reason}]
    left = ["two/shared", "two/only-two", "duo/both", "duo/shared", "duo/only-two"]
    assert [model["id"] for model in found["data"]] == left
    assert [each.server for each in timeline.attempts] == ["two"]
    upstream.watch.now += 29.875
    upstream.document()
    assert len(upstream.asked) == 1
    upstream.tokens.clear()
    upstream.watch.now += 0.125
    assert upstream.document()["unavailable"] == []


def test_a_server_that_does_not_answer_costs_the_others_nothing_and_the_client_eight_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream, waits = Upstream(), list[float]()

    class Slow:
        """A thread: that of the first server does not come to its end."""

        def __init__(self, target: Callable[..., None], args: tuple[Any, ...], *, daemon: bool) -> None:
            assert daemon, "it keeps no sandbox from its end"
            self.run, self.args = target, args

        def start(self) -> None:
            if self.args[0].name != "one":
                self.run(*self.args)

        def join(self, seconds: float) -> None:
            waits.append(seconds)
            now[0] += seconds + 0.5

    now = [70.0]
    monkeypatch.setattr(threading, "Thread", Slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = upstream.document()
    assert found["unavailable"] == [{"server": "one", "reason": "upstream_timeout"}]
    assert [model["id"] for model in found["data"]][:2] == ["two/shared", "two/only-two"]
    assert waits == [8.0, 0.0]


def nested(depth: int, inside: Any = 1) -> Any:
    return [nested(depth - 1, inside)] if depth else inside


def test_of_an_entry_no_more_is_passed_on_than_can_be_written() -> None:
    """And of a list so many entries."""
    upstream, key = Upstream(), ClientKey("a", servers=("two",))
    deep = {"id": "deep", "a": nested(15), "b": nested(16), "c": {"d": nested(15)}}
    upstream.says["http://two.test/v1/models"] = {"data": [deep, *({"id": f"m{n}"} for n in range(2500))]}
    data = upstream.document(key)["data"]
    assert [model["id"] for model in data] == ["two/deep", *(f"two/m{n}" for n in range(1999)), "both"]
    assert (data[0]["a"], data[0]["b"], data[0]["c"]) == (nested(15), nested(15, None), {"d": nested(14, None)})


# ------------------------------------------------------------------------------ the list of one server, as it answers


def allowed(document: Any, names: Mapping[str, str]) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    half = len(body) // 2
    name_for = cast("Callable[[str], str | None]", names.get)
    return json.loads(allowed_models([body[:half], body[half:]], "up", name_for))


@pytest.mark.parametrize(
    ("document", "left"),
    [
        (["a", "b", {"id": "c"}], ["A", {"id": "c"}]),
        ({"data": [{"id": "a", "x": "a"}, {"id": "b"}]}, {"data": [{"id": "A", "x": "a"}]}),
        ({"data": [{"id": "a", "name": "a", "model": "b"}]}, {"data": [{"id": "A", "name": "A", "model": "b"}]}),
        ({"models": [{"name": "c"}], "data": [{"model": "c"}]}, {"models": [{"name": "c"}], "data": [{"model": "c"}]}),
        ({"data": [{"id": "", "model": "c"}, {"id": 7}, {}, 5, None, ""]}, {"data": [{"id": "", "model": "c"}]}),
        (
            {
                "object": "list",
                "data": [],
                "last_id": "b",
                "has_more": False,
                "n": 1,
                "f": 0.5,
                "z": None,
                "o": {"a": 1},
            },
            {"object": "list", "data": [], "has_more": False, "n": 1, "f": 0.5, "z": None},
        ),
    ],
)
def test_a_list_keeps_its_form_and_loses_what_a_key_may_not_ask_for(document: Any, left: Any) -> None:
    assert allowed(document, {"a": "A", "c": "c"}) == left


def test_what_is_as_long_as_a_list_may_be_is_one() -> None:
    empty = b'{"data": []}'
    assert allowed(empty.ljust(8 * 1024 * 1024), {}) == {"data": []}


@pytest.mark.parametrize(
    "document",
    [{"object": "list"}, {}, 7, "a", None, b"no JSON", b'{"data": []}'.ljust(8 * 1024 * 1024 + 1)],
    ids=lambda document: str(document)[:20],
)
def test_what_is_no_list_tells_nothing(document: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        allowed(document, {})
    error = caught.value
    message = "The server 'up' answered without a list of models."
    assert (error.status, error.code, error.message, error.upstream_status) == (502, "upstream_no_answer", message, 200)


def test_no_more_is_read_than_a_list_may_be_long() -> None:
    taken: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(len(taken))
            yield b" " * 1024 * 1024

    with pytest.raises(UpstreamError):
        allowed_models(endless(), "up", lambda name: name)
    assert len(taken) == 9


def test_the_time_that_servers_take_is_theirs() -> None:
    upstream, now = Upstream(), [50.0]
    answered = upstream.get

    def get(url: str, headers: dict[str, str], patience: float) -> tuple[int, dict[str, str], bytes]:
        now[0] += 1.5
        return answered(url, headers, patience)

    upstream.get = get
    timeline = Timeline(Clock(lambda: 0.0, lambda: now[0]))
    upstream.document(ClientKey("a", servers=("two",)), timeline=timeline)
    assert (timeline.upstream_waited, [each.duration for each in timeline.attempts]) == (1.5, [1.5])
    assert timeline.server_timing == "upstream;dur=1500.0, proxy;dur=0.0"
