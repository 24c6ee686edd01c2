"""docs/metrics.md lists exactly the metrics that the code and the template make, with unit and dimensions."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.events.envelope import TERMINAL_DETAIL_TYPES, Event
from openai_proxy.events.incoming import from_envelope
from openai_proxy.ledger.entries import OUTCOMES, entry_of
from openai_proxy.metric_data import Measurement, ModelNames
from openai_proxy.pricing.price_book import load_price_book
from record_cost.measurements import measurements_of as cost_measurements_of
from record_metrics.measurements import measurements_of
from record_throttles.busiest import MOST_NAMES
from record_throttles.consumer import FORECASTS, METRIC

from bench.units import event as ordinary_chat
from console.costs.reconcile_command import DRIFT
from tests.contract.template_stack import ROOT, deployed

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
SAMPLES = sorted((ROOT / "events" / "samples").glob("Inference*.json"))

VALUES = {"TokenType": 7, "Outcome": 3, "ErrorSource": 3, "Source": 5, "Kind": 2, "Consumer": 2, "Reason": 3}
VALUES["Client"] = MOST_NAMES + 1
"""How many values dimensions have that are neither Server, Model nor ErrorType."""

Metric = tuple[str, str, frozenset[str]]
"""Name, unit, names of dimensions."""

NAMESPACE = "OpenAIProxy/stack"
"""Of the stack `stack`."""


def documented() -> dict[str, set[Metric]]:
    """Who writes them ─▶ metrics of the page."""
    found: dict[str, set[Metric]] = {}
    rows = re.findall(r"^\| `([\w.]+)` \| (\w+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    for name, unit, sets, writers in rows:
        for writer in writers.split(", "):
            metrics = {(name, unit, frozenset(re.findall(r"`(\w+)`", each))) for each in sets.split(", ")}
            assert metrics.isdisjoint(found.setdefault(writer, set()))
            found[writer] |= metrics
    return found


def changed(envelope: Any, changes: Mapping[str, Any]) -> Event[Any, Any]:
    detail = envelope["detail"]
    return from_envelope(envelope | {"detail": detail | {"data": detail["data"] | changes}})


def events() -> Iterator[Event[Any, Any]]:
    """The samples, and what none of them shows."""
    usage = {
        "input_tokens": 9,
        "output_tokens": 9,
        "cache_read": {"input_tokens": 1},
        "cache_creation": {"input_tokens": 1},
        "reasoning": {"output_tokens": 1},
        "audio": {"input_tokens": 1, "output_tokens": 1},
        "duration": None,
        "source": "reported",
    }
    asked = ("a", "a", "b")
    attempts = [{"server": server, "status_code": 200, "error": None, "duration": 0.1} for server in asked]
    for path in SAMPLES:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        if envelope["detail-type"] not in TERMINAL_DETAIL_TYPES:
            continue
        yield from_envelope(envelope)
        for status in ("HIT", "MISS", "REFRESH"):
            cache = {"status": status, "reason": None}
            yield changed(envelope, {"cold_start": True, "usage": usage, "attempts": attempts, "cache": cache})
        yield changed(envelope, {"limits": {"status": "unchecked", "lease": {"id": "l", "in_doubt": True}}})


def metrics_of(measurements: Iterable[Measurement]) -> set[Metric]:
    return {(each.name, each.unit, frozenset(name for name, _ in each.dimensions)) for each in measurements}


def test_record_metrics_writes_what_is_documented():
    written = metrics_of(measurement for event in events() for measurement in measurements_of(event))

    assert written == documented()["record_metrics"]


def test_record_cost_writes_what_is_documented():
    prices, names = load_price_book(), ModelNames()
    recorded = [(event, entry_of(event, prices)) for event in events() if event.detail_type in OUTCOMES]
    written = metrics_of(each for event, entry in recorded for each in cost_measurements_of(event, entry, names))

    assert written == documented()["record_cost"]


def test_record_throttles_writes_what_is_documented():
    forecasts = {(FORECASTS, "Count", frozenset[str](names)) for names in ((), ("Server",))}
    assert documented()["record_throttles"] == {(METRIC, "Count", frozenset({"Client"}))} | forecasts


def test_the_console_writes_what_is_documented():
    assert documented()["console"] == {(DRIFT, "Percent", frozenset({"Server"}))}


def resources(kind: str) -> list[Any]:
    return list(deployed().of_type(kind).values())


def test_metric_filters_write_what_is_documented():
    transformations = [each for one in resources("AWS::Logs::MetricFilter") for each in one["MetricTransformations"]]
    written = {
        (each["MetricName"], each["Unit"], frozenset(name["Key"] for name in each.get("Dimensions", [])))
        for each in transformations
        if each["MetricNamespace"] == NAMESPACE
    }

    assert written == documented()["metric filter"]


def test_no_metric_is_documented_twice_or_written_by_somebody_unknown():
    assert documented().keys() == {"record_metrics", "record_cost", "record_throttles", "metric filter", "console"}


NAMES = {(name, dimensions) for metrics in documented().values() for name, _, dimensions in metrics}


def alarmed() -> Iterator[tuple[str, frozenset[str]]]:
    """The application's metrics that alarms look at."""
    for alarm in resources("AWS::CloudWatch::Alarm"):
        queries = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
        for metric in [alarm, *queries]:
            if metric.get("Namespace") == NAMESPACE:
                yield metric["MetricName"], frozenset(each["Name"] for each in metric.get("Dimensions", []))


def test_alarms_look_at_metrics_that_there_are():
    assert set() < set(alarmed()) <= NAMES


def shown() -> Iterator[tuple[str, frozenset[str]]]:
    """The application's metrics that dashboards show: ["OpenAIProxy", name, dimension, value, …], and searches."""
    for dashboard in resources("AWS::CloudWatch::Dashboard"):
        body = json.loads(dashboard["DashboardBody"])
        for widget in body["widgets"]:
            name, names = "", list[str]()
            for metric in widget["properties"].get("metrics", []):
                texts = [each for each in metric if isinstance(each, str)]
                options: dict[str, Any] = metric[-1] if isinstance(metric[-1], dict) else {}
                if "expression" in options:
                    yield from searched(options["expression"])
                    continue
                place = [("." if text == "..." else text) for text in texts]
                if place[0] not in (NAMESPACE, "."):
                    name, names = "", []
                    continue
                name = place[1] if place[1] != "." else name
                names = [new if new != "." else names[number] for number, new in enumerate(place[2::2])]
                if name:
                    yield name, frozenset(names)


def searched(expression: str) -> Iterator[tuple[str, frozenset[str]]]:
    """The metrics that a SEARCH finds: SEARCH('{OpenAIProxy,Server,Model} MetricName="Requests"', …)."""
    for schema, rest in re.findall(rf"{{\s*\"?{NAMESPACE}\"?\s*([^}}]*)}}([^']*)", expression):
        dimensions = frozenset(re.findall(r"[\w.]+", schema))
        for name in re.findall(r"MetricName\s*=\s*\"?([\w.]+)", rest):
            yield name, dimensions


def test_dashboards_show_metrics_that_there_are():
    assert set() < set(shown()) <= NAMES


@pytest.mark.parametrize(
    ("row", "has_server", "has_model"),
    [("the deployment", False, False), ("each server", True, False), ("each model of a server", True, True)],
)
def test_the_page_knows_how_many_there_are(row: str, has_server: bool, has_model: bool):
    every = {
        (name, dimensions)
        for writer in documented().keys() - {"console"}
        for name, _, dimensions in documented()[writer]
    }
    number = 0
    for _, dimensions in every:
        if ("Server" in dimensions, "Model" in dimensions) == (has_server, has_model) and "ErrorType" not in dimensions:
            [*more] = dimensions - {"Server", "Model"}
            number += VALUES[more[0]] if more else 1

    assert f"| for {row} | {number}" in PAGE


def test_the_page_knows_how_many_an_ordinary_chat_makes_and_what_they_cost():
    """Of a first chat, whose sandbox has just begun, and whose events are published. A metric is $0.30 a month."""
    chat, prices = ordinary_chat(0), load_price_book()
    chat = chat._replace(data={**chat.data, "cold_start": True})
    made = {(each.name, each.dimensions) for each in measurements_of(chat)}
    made |= {
        (each.name, each.dimensions) for each in cost_measurements_of(chat, entry_of(chat, prices), ModelNames())
    } | {("EventsPublished", ())}
    of = Counter("Model" if "Model" in dict(each) else "Server" if "Server" in dict(each) else "" for _, each in made)
    most: list[int] = []
    for row, kind in (("the deployment", ""), ("each server", "Server"), ("each model of a server", "Model")):
        [(number, usual)] = re.findall(rf"^\| for {row} \| (\d+)[^|]* \| (\d+) \|$", PAGE, re.MULTILINE)
        most.append(int(number))
        assert int(usual) == of[kind], row

    def cost(metrics: int) -> str:
        return f"{0.3 * metrics:.2f}"

    two_models, everything = of[""] + of["Server"] + 2 * of["Model"], most[0] + 3 * (most[1] + 5) + 8 * most[2]
    assert f"one server and two models in every hour of a month: {two_models} metrics, ${cost(two_models)}." in PAGE
    assert f"server: {everything} metrics, ${cost(everything)}; in office hours" in PAGE
    one, many = of.total(), of[""] + 5 * of["Server"] + 25 * of["Model"]
    scale = " ".join((ROOT / "docs" / "scale.md").read_text(encoding="utf-8").split())
    assert f": {one} of completed chats with one server and one model, ${cost(one)}; {many} with five" in scale
    assert f"servers of five models each, ${cost(many)}." in scale


def test_the_screen_of_the_page_is_the_one_that_is_tested():
    [screen] = re.findall(r"```\n(openai-proxy, last.*?)\n```", PAGE, re.DOTALL)
    tested = (Path(ROOT) / "tests" / "unit" / "console" / "test_top.py").read_text(encoding="utf-8")

    assert all(f'"{line}"' in tested for line in screen.split("\n"))
