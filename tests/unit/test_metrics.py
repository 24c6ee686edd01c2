import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events import Event, MalformedEventError
from record_metrics.cloudwatch import MOST_DATA, MOST_VALUES_IN_A_CALL, in_calls
from record_metrics.measurements import MOST_VALUES, Measurement, ModelNames, measurements_of, metric_data

SAMPLES = Path(__file__).parents[2] / "events" / "samples"
MINUTE = int(datetime(2026, 11, 23, 9, 30, tzinfo=UTC).timestamp())


def event(sample: str, **changes: Any) -> Event:
    """A sample, with `changes` to its detail given as path__to__field=value."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    for path, value in changes.items():
        target = envelope["detail"]
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return Event.from_envelope(envelope)


def values(measurements: Sequence[Measurement], *dimensions: str) -> dict[str, float]:
    """Metric ─▶ value of the measurements with exactly these dimensions, given as "Name=value"."""
    wanted = tuple(tuple(dimension.split("=")) for dimension in dimensions)
    return {m.name: m.value for m in measurements if m.dimensions == wanted}


def test_a_completed_inference_is_measured_in_total_by_server_and_by_model():
    measured = measurements_of(event("InferenceCompleted.chat-stream"))

    by_model = {
        "Requests": 1,
        "TimeToFirstChunk": 0.4124,
        "Duration": 1.9023,
        "InputTokens": 1830,
        "OutputTokens": 64,
    }
    by_server = by_model | {"ProxyOverhead": 0.0182, "CachedInputTokens": 0, "ReasoningTokens": 0}
    assert values(measured) == by_server
    assert values(measured, "Server=openai") == by_server
    assert values(measured, "Server=openai", "Model=gpt-4o-mini-2024-07-18") == by_model
    assert values(measured, "Server=openai", "Outcome=completed") == {"Requests": 1}
    assert len(measured) == len(by_server) * 2 + len(by_model) + 1
    assert {m.minute for m in measured} == {MINUTE}


def test_a_failed_inference_counts_as_request_and_as_failure_by_type_and_fault():
    measured = measurements_of(event("InferenceFailed.broken-off"))

    assert values(measured, "Server=openai")["Failures"] == values(measured)["Failures"] == 1
    assert values(measured, "Server=openai", "ErrorType=upstream_broken_off") == {"Failures": 1}
    assert values(measured, "ErrorSource=upstream") == {"Failures": 1}
    assert values(measured, "Server=openai", "Outcome=failed") == {"Requests": 1}
    assert values(measured)["OutputTokens"] == 16
    assert {"Duration", "TimeToFirstChunk"}.isdisjoint(m.name for m in measured)


def test_a_throttled_request_counts_by_who_throttled_it():
    measured = measurements_of(event("InferenceThrottled.key-rpm"))

    assert values(measured)["Throttles"] == values(measured, "Server=openai")["Throttles"] == 1
    assert values(measured, "Source=key_rpm") == {"Throttles": 1}
    assert "Failures" not in values(measured)
    assert "InputTokens" not in values(measured)


def test_missing_usage_is_counted_and_not_measured_as_zero():
    measured = values(measurements_of(event("InferenceCompleted.usage-missing")))

    assert measured["UsageMissing"] == 1
    assert "InputTokens" not in measured


def test_a_request_without_a_known_server_has_one_all_the_same():
    assert values(measurements_of(event("InferenceFailed.unknown-server")), "Server=unknown")["Failures"] == 1


@pytest.mark.parametrize("model", ["x" * 101, "a b", "", "grüße", "-x", None, "a\nb"])
def test_a_model_name_that_is_none_is_counted_as_other(model: str | None):
    measured = measurements_of(event("InferenceCompleted.chat-stream", data__response__model=model))

    assert values(measured, "Server=openai", "Model=other")["Requests"] == 1


def test_a_model_that_no_server_confirmed_is_counted_as_other():
    measured = measurements_of(event("InferenceFailed.broken-off"))

    assert values(measured, "Server=openai", "Model=other")["Requests"] == 1


def test_made_up_model_names_cannot_make_more_metrics_than_the_limit():
    names = ModelNames(limit=3)

    given_names = [names("ollama", f"model-{n}") for n in range(10)]

    assert given_names == ["model-0", "model-1", "model-2"] + 7 * ["other"]
    assert names("ollama", "model-1") == "model-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata__id": "x"},
        {"metadata__timestamp": "yesterday"},
        {"metadata__timestamp": "2026-11-23T09:30:39.315"},
        {"metadata__timestamp": None},
        {"data__timings__total": float("nan")},
        {"data__timings__proxy": -0.1},
        {"data__timings__proxy": True},
        {"data__timings__proxy": 10**400},
        {"data__usage__input_tokens": "7"},
        {"data__usage": {}},
        {"data__server__name": 5},
        {"data": None},
    ],
    ids=str,
)
def test_an_event_that_does_not_follow_the_schema_is_malformed(changes: dict[str, Any]):
    with pytest.raises(MalformedEventError):
        measurements_of(event("InferenceCompleted.chat-stream", **changes))


measurement = st.builds(
    Measurement,
    name=st.sampled_from(["Requests", "Duration"]),
    unit=st.just("Count"),
    value=st.sampled_from([n / 10 for n in range(400)]),
    dimensions=st.sampled_from([(), (("Server", "a"),)]),
    minute=st.sampled_from([0, 60]),
)


@given(st.lists(measurement, max_size=500))
def test_data_hold_every_measurement_once(measurements: list[Measurement]):
    data: list[Any] = list(metric_data(measurements))

    held = sorted(
        (datum["MetricName"], len(datum["Dimensions"]), datum["Timestamp"].timestamp(), value)
        for datum in data
        for value, count in zip(datum["Values"], datum["Counts"], strict=True)
        for _ in range(int(count))
    )
    assert held == sorted((m.name, len(m.dimensions), m.minute, m.value) for m in measurements)
    assert all(0 < len(datum["Values"]) <= MOST_VALUES for datum in data)
    assert all(len(set(datum["Values"])) == len(datum["Values"]) for datum in data)


def test_a_batch_of_like_events_becomes_few_data():
    one = measurements_of(event("InferenceCompleted.chat-stream"))

    assert len(metric_data(one * 1000)) == len(one)


@pytest.mark.parametrize(("data", "values_each"), [(2500, 1), (200, 150), (1, 150), (0, 0)])
def test_calls_keep_the_limits_of_the_service(data: int, values_each: int):
    datum: Any = {"MetricName": "Duration", "Values": [1.0] * values_each}

    calls = list(in_calls([datum] * data))

    assert sum(len(call) for call in calls) == data
    assert all(len(call) <= MOST_DATA and len(call) * values_each <= MOST_VALUES_IN_A_CALL for call in calls)
    assert len(calls) == max(-(-data // MOST_DATA), -(-data * values_each // MOST_VALUES_IN_A_CALL)) or data == 200
