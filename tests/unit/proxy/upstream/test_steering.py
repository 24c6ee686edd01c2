"""Which server is asked first, where it is known that one of them will refuse."""

import json
import time
from collections.abc import Mapping
from queue import Queue
from threading import Event
from typing import Any, cast

import pytest
from openai_proxy.dynamodb import to_item
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import parse_servers
from proxy.admission import Admission
from proxy.aws.client import NO_ANSWER, AwsError
from proxy.call import Call
from proxy.request.parse import InferenceRequest
from proxy.request.routing import Candidate, Routes
from proxy.timeline import Timeline
from proxy.upstream.steering import LOOK_SECONDS, Steering, _in_background

SERVERS = parse_servers(
    "a: {url: 'http://a.test/v1', token: t, model: m}\n"
    "b: {url: 'http://b.test/v1', token: t, model: n}\n"
    "c: {url: 'http://c.test/v1', token: t, model: o}"
)
CANDIDATES = [Candidate(SERVERS["a"]), Candidate(SERVERS["b"], "n"), Candidate(SERVERS["c"], "o")]
NOW = 1000.0


class World:
    """A table of forecasts, and a thread that runs when it is told to."""

    def __init__(self, **full_until: float) -> None:
        self.items = {f"{name}#{model}": until for name, model, until in self._named(full_until)}
        self.asked: list[str] = []
        self.threads = 0
        self.now = NOW
        self.fails = False
        self.steering = Steering(self, "costs", lambda: self.now, self._start)

    def _named(self, full_until: Mapping[str, float]) -> list[tuple[str, str, float]]:
        models = {"a": "gpt", "b": "n", "c": "o"}
        return [(name, models[name], until) for name, until in full_until.items()]

    def _start(self, look: Any) -> None:
        self.threads += 1

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        if self.fails:
            raise AwsError("dynamodb:GetItem", NO_ANSWER, "away")
        name = arguments["Key"]["sk"]["S"]
        key = {"pk": {"S": "weather"}, "sk": {"S": name}}
        assert (arguments, timeout) == ({"TableName": "costs", "Key": key}, 1.0)
        self.asked.append(name)
        return to_item({"full_until": self.items[name]}) if name in self.items else {}

    def order(self) -> str:
        return "".join(each.server.name for each in self.steering.ordered(CANDIDATES, "gpt"))


def test_nothing_is_asked_on_a_requests_way_and_one_thread_is_started() -> None:
    world = World(a=NOW + 60)
    assert [world.order(), world.order()] == ["abc", "abc"]
    assert (world.asked, world.threads) == ([], 1)


@pytest.mark.parametrize(
    ("full", "order"),
    [
        ({"a": 60.0}, "bca"),
        ({"b": 60.0}, "acb"),
        ({"a": 60.0, "c": 60.0}, "bac"),
        ({"a": 60.0, "b": 60.0, "c": 60.0}, "abc"),
        ({"a": -1.0}, "abc"),
        ({}, "abc"),
    ],
)
def test_who_will_refuse_is_asked_last(full: dict[str, float], order: str) -> None:
    world = World(**{name: NOW + seconds for name, seconds in full.items()})
    world.order()
    world.steering.look()
    assert world.order() == order
    world.now += 61
    assert world.order() == "abc"


def test_what_cannot_be_read_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(a=NOW + 60)
    world.order()
    world.steering.look()
    world.fails = True
    world.steering.look()
    assert world.order() == "bca"
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["level"] == "WARN"
    assert "trace" not in json.loads(line)


def test_what_is_looked_at_is_bounded_whatever_clients_name() -> None:
    world = World()
    for number in range(100):
        world.steering.ordered(CANDIDATES, f"made-up-{number}")
    world.steering.look()
    assert len(world.asked) == 32
    assert "a#made-up-99" in world.asked


class Known:
    """Lets everybody in."""

    def authorize(self, request: InferenceRequest) -> ClientKey:
        return ClientKey("team-a")


FALLING_BACK = parse_servers(
    "a: {url: 'http://a.test/v1', token: t, model: m, fallbacks: [b]}\nb: {url: 'http://b.test/v1', token: t, model: n}"
)


@pytest.mark.parametrize(("full", "order"), [(0.0, ["a", "b"]), (NOW + 60, ["b", "a"])])
def test_a_request_goes_first_to_the_server_that_will_take_it(full: float, order: list[str]) -> None:
    world = World(a=full)
    known, no_limits = cast("Any", Known()), cast("Any", None)
    admission = Admission(known, Routes(FALLING_BACK), no_limits, lambda: world.steering)
    headers, content = {"content-type": "application/json"}, b'{"model": "gpt", "messages": []}'
    request = InferenceRequest("function_url", "POST", "/a/v1/chat/completions", "", headers, content, None)
    timeline = Timeline()
    arrived = Call("i", timeline.started_at + 60, request)
    assert [each.server.name for each in admission.admit(arrived, timeline).candidates] == ["a", "b"], (
        "nothing is known"
    )
    world.steering.look()
    call = admission.admit(arrived, timeline)
    assert call.refused is None
    assert [each.server.name for each in call.candidates] == order


def test_it_looks_again_after_a_pause_though_a_look_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept, begun, sleep = Queue[float](), list[float](), time.sleep

    def pause(seconds: float) -> None:
        if seconds != LOOK_SECONDS:
            sleep(seconds)
            return
        begun.append(seconds)
        slept.put(seconds)
        if len(begun) == 2:
            Event().wait()  # this thread has done enough

    def look() -> None:
        raise KeyError("full_until")

    monkeypatch.setattr(time, "sleep", pause)
    _in_background(look)
    assert [slept.get(timeout=10) for _ in range(2)] == [LOOK_SECONDS] * 2
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["message"]) == ("ERROR", "The limits of servers were not read")
