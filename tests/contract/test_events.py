"""Schemas, samples, catalogue, code and consumers say the same about every event."""

import json
import re
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from openai_proxy.events.envelope import SOURCE, TERMINAL_DETAIL_TYPES, VERSION, DetailType
from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.entries import OUTCOMES, entry_of
from openai_proxy.limits import Windows
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.usage import Usage
from record_metrics.measurements import measurements_of
from settle_limits.settlement import Settlement, settlement_of
from settle_limits.thresholds import Crossing, event_of
from store_response.cached_response import cached_response_of

from tests.fakes import read_event
from tests.schemas import COMMON, schema_of, validator_of, written_out

EVENTS = Path(__file__).parents[2] / "events"
DETAIL_TYPES: tuple[DetailType, ...] = get_args(DetailType)
WITHOUT_USAGE = ["BudgetThresholdReached", "IncidentReported", "ThrottleForecast", "GuardActed"]
SAMPLES = sorted((EVENTS / "samples").glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def samples_of(*detail_types: str) -> list[Path]:
    return [path for path in SAMPLES if path.name.split(".")[0] in detail_types]


each_sample = pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)


def test_every_detail_type_has_schema_samples_and_catalogue_entry_and_there_are_no_others():
    catalogue = (EVENTS / "README.md").read_text(encoding="utf-8")

    assert {path.name for path in (EVENTS / "schemas").iterdir()} == {
        COMMON,
        *(f"{name}.v1.json" for name in DETAIL_TYPES),
    }
    assert {path.name.split(".")[0] for path in SAMPLES} == set(DETAIL_TYPES)
    assert set(re.findall(r"^## (\w+)$", catalogue, re.MULTILINE)) - {"Envelope"} == set(DETAIL_TYPES)
    assert re.findall(r"^\| \[`(\w+)`\]", catalogue, re.MULTILINE) == list(DETAIL_TYPES)
    assert all(len(samples_of(name)) > 1 for name in DETAIL_TYPES)
    assert set(TERMINAL_DETAIL_TYPES) == set(DETAIL_TYPES) - {*WITHOUT_USAGE, "ResponseCaptured"}


def test_the_catalogue_names_every_field_and_no_other():
    in_schemas = set[str]().union(*(fields_of(schema_of(name)) for name in DETAIL_TYPES))
    of_team = {name for name in in_schemas if name.startswith("team.limits.")}

    assert of_team == {f"team.{name}" for name in in_schemas if name.startswith("limits.")}, "they are said once"
    in_schemas = in_schemas - of_team | {"team.limits"}
    listed = catalogue_fields() - {"usage"}
    assert not in_schemas - listed, "these fields of the schemas have no row in events/README.md"
    assert not listed - in_schemas, "no schema has these fields, which events/README.md lists"


def fields_of(schema: Any) -> set[str]:
    """The paths of all leaves under `detail.data`."""

    def leaves(part: Any, path: str) -> set[str]:
        below: dict[str, Any] = part.get("properties", {})
        return set[str]().union(*(leaves(value, f"{path}.{name}") for name, value in below.items())) or {path[1:]}

    return leaves(schema["properties"]["detail"]["properties"]["data"], "")


def catalogue_fields() -> set[str]:
    """The first cells of the tables of fields. `.size` after `request.path` is short for `request.size`."""
    fields: set[str] = set()
    for table in re.findall(r"\| field \| what \|\n\|---\|---\|\n((?:\|.*\n)+)", (EVENTS / "README.md").read_text()):
        for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE):
            path = ""
            for name in re.findall(r"`(.+?)`", cell):
                path = path.rsplit(".", 1)[0] + name if name.startswith(".") else name
                fields.add(path)
    return fields


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_a_schema_is_valid_and_strict_about_what_may_not_change(detail_type: str):
    schema = schema_of(detail_type)
    detail = schema["properties"]["detail"]

    Draft202012Validator.check_schema(read(EVENTS / "schemas" / f"{detail_type}.v1.json"))
    assert schema["properties"]["detail-type"]["const"] == schema["title"] == detail_type
    assert schema["properties"]["source"]["const"] == SOURCE
    metadata = detail["properties"]["metadata"]
    assert re.fullmatch(metadata["properties"]["version"]["pattern"], VERSION)
    assert detail["additionalProperties"] is metadata["additionalProperties"] is False


@pytest.mark.parametrize("detail_type", DETAIL_TYPES)
def test_data_may_grow(detail_type: str):
    sample = read(samples_of(detail_type)[0])
    data = sample["detail"]["data"]
    data["new"] = data.get("usage", data)["new"] = 1

    assert validator_of(detail_type).is_valid(sample)


def test_the_terminal_events_share_their_data():
    completed, *others = [
        schema_of(name)["properties"]["detail"]["properties"]["data"] for name in TERMINAL_DETAIL_TYPES
    ]
    own: list[set[str]] = []
    for other in others:
        assert other["properties"].items() >= completed["properties"].items()
        own.append(other["properties"].keys() - completed["properties"].keys())
        assert set(other["required"]) == {*completed["required"], *own[-1]}
    assert own == [{"error"}, {"throttle"}]


def test_what_schemas_have_in_common_is_a_valid_schema_and_usage_is_in_those_of_answers():
    Draft202012Validator.check_schema(read(EVENTS / "schemas" / COMMON))
    data = {name: schema_of(name)["properties"]["detail"]["properties"]["data"]["properties"] for name in DETAIL_TYPES}
    assert [name for name, fields in data.items() if "usage" not in fields] == WITHOUT_USAGE


@each_sample
def test_a_sample_follows_its_schema(path: Path):
    sample = read(path)

    validator_of(path.name.split(".")[0]).validate(sample)
    assert sample["detail-type"] == path.name.split(".")[0]


REFUSED: list[tuple[str, object]] = [
    ("metadata.id", "not-a-ulid"),
    ("metadata.version", "2.0"),
    ("metadata.timestamp", "2026-11-23 09:30:39"),
    ("metadata.client_id", "a b"),
    ("metadata.surprise", 1),
    ("surprise", 1),
]
REFUSED_IN_USAGE: list[tuple[str, object]] = [
    ("data.usage.input_tokens", -1),
    ("data.usage.input_tokens", 1.5),
    ("data.usage.source", "guessed"),
]
REFUSED_IN_THRESHOLDS: list[tuple[str, object]] = [
    ("data.period", "year"),
    ("data.threshold", 90),
    ("data.spent", 4.01),
    ("data.budget", "5,00"),
]
REFUSED_IN_INCIDENTS: list[tuple[str, object]] = [
    ("data.kind", "server"),
    ("data.state", "over"),
    ("data.since", "2026-11-23"),
    ("data.requests", -1),
]
REFUSED_IN = {"BudgetThresholdReached": REFUSED_IN_THRESHOLDS, "IncidentReported": REFUSED_IN_INCIDENTS}
REFUSED_IN["ThrottleForecast"] = [("data.resource", "money"), ("data.remaining", -1), ("data.runs_out_at", "soon")]
REFUSED_IN["GuardActed"] = [
    ("data.act", "delete"),
    ("data.rule", "mood"),
    ("data.limits", {"rpm": 0}),
    ("data.until", ""),
]


@pytest.mark.parametrize(
    ("detail_type", "field", "value"),
    [(name, *wrong) for name in DETAIL_TYPES for wrong in REFUSED + (REFUSED_IN.get(name, REFUSED_IN_USAGE))],
)
def test_a_schema_refuses_what_it_should(detail_type: str, field: str, value: object):
    sample = read(samples_of(detail_type)[0])
    *parents, last = field.split(".")
    target = sample["detail"]
    for name in parents:
        target = target[name]
    target[last] = value

    assert not validator_of(detail_type).is_valid(sample)


@each_sample
def test_an_event_read_and_published_again_follows_the_schema(path: Path):
    sample = read(path)
    event = read_event(sample)
    entry = event.to_entry("bus")

    again = sample | {
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "detail": json.loads(entry["Detail"]),
    }
    validator_of(event.detail_type).validate(again)
    assert again["detail"] | {"metadata": None} == sample["detail"] | {"metadata": None}


def test_usage_is_written_as_the_schema_says():
    usage = Usage(1, 2, 3, 4, 5, "reported")
    definition = written_out(read(EVENTS / "schemas" / COMMON)["$defs"]["usage"])

    Draft202012Validator(definition).validate(usage.to_event())  # pyright: ignore[reportUnknownMemberType]
    assert usage.to_event().keys() == definition["properties"].keys()
    assert Usage.from_event(usage.to_event()) == usage


@each_sample
def test_a_samples_times_agree(path: Path):
    sample = read(path)
    metadata = sample["detail"]["metadata"]

    assert ulid_time(metadata["id"]).isoformat() < metadata["timestamp"]
    assert metadata["timestamp"].startswith(sample["time"].removesuffix("Z"))


def test_a_threshold_is_told_as_the_samples_say():
    for path in samples_of("BudgetThresholdReached"):
        event = read_event(path.read_text(encoding="utf-8"))
        data = event.data
        crossing = Crossing(
            data["limits"]["id"],
            data["period"],
            data["period_start"],
            data["threshold"],
            Decimal(data["budget"]),
            Decimal(data["spent"]),
        )
        taken_at = int(ulid_time(event.request_id).timestamp())
        settlement = Settlement(
            event_id=event.request_id,
            limits_id=crossing.limits_id,
            client_id=event.client_id,
            client=data["client"],
            taken_at=taken_at,
            windows=Windows.of(taken_at),
            budgets={crossing.period: crossing.budget},
            reserved=None,
            actual=Decimal(0),
            is_priced=True,
            hint=None,
            team=data.get("team", ""),
            end_user=data.get("end_user", ""),
        )

        told = event_of(crossing, settlement, datetime.fromisoformat(event.timestamp).timestamp())
        assert told == event


class TestConsumersParseEverySample:
    @pytest.mark.parametrize("path", samples_of(*OUTCOMES), ids=lambda path: path.stem)
    def test_record_cost(self, path: Path):
        event = read_event(path.read_text(encoding="utf-8"))
        entry = entry_of(event, load_price_book())

        assert entry.key == (f"client#{event.client_id}#2026-11-23", event.id)
        assert entry.attributes["input_tokens"] == event.data["usage"]["input_tokens"]

    @pytest.mark.parametrize("path", samples_of(*TERMINAL_DETAIL_TYPES), ids=lambda path: path.stem)
    def test_record_metrics(self, path: Path):
        event = read_event(path.read_text(encoding="utf-8"))
        names = {measurement.name for measurement in measurements_of(event)}

        assert "Requests" in names
        assert ("Failures" in names) == (event.detail_type == "InferenceFailed")
        assert ("Throttles" in names) == (event.detail_type == "InferenceThrottled")

    @pytest.mark.parametrize("path", samples_of(*TERMINAL_DETAIL_TYPES), ids=lambda path: path.stem)
    def test_settle_limits(self, path: Path):
        sample = read(path)
        limits = sample["detail"]["data"].get("limits")
        settlement = settlement_of(read_event(sample), load_price_book())

        assert (settlement is not None) == bool(limits and limits["has_budget"])
        assert settlement is None or settlement.limits_id == limits["id"]

    @pytest.mark.parametrize("path", samples_of("ResponseCaptured"), ids=lambda path: path.stem)
    def test_store_response(self, path: Path):
        event = read_event(path.read_text(encoding="utf-8"))
        response = cached_response_of(event, load_price_book())

        assert response.cache_key == event.data["cache_key"]
        assert response.scope in (f"client:{event.client_id}", "key-pool:docs")
        assert (response.body is None) == ("object" in event.data["response"])
