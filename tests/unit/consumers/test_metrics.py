import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.cloudwatch import in_calls
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import MalformedEventError, from_envelope
from openai_proxy.metric_data import Measurement, ModelNames, measured, metric_data
from record_metrics.measurements import measurements_of

MOST_DATA, MOST_VALUES_IN_A_CALL, MOST_VALUES = 1000, 5000, 150

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
MINUTE = int(datetime(2026, 11, 23, 9, 30, tzinfo=UTC).timestamp())


def event(sample: str, **changes: Any) -> Event[Any, Any]:
    """A sample, with `changes` to its detail given as path__to__field=value."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    for path, value in changes.items():
        target = envelope["detail"]
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return from_envelope(envelope)


TTFT, PER_TOKEN = "gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"
DURATION, TOKENS = "gen_ai.server.request.duration", "gen_ai.client.token.usage"


def values(measurements: Sequence[Measurement], *dimensions: str) -> dict[str, float]:
    """Metric ─▶ value of the measurements with exactly these dimensions, given as "Name=value"."""
    wanted = tuple(tuple(dimension.split("=")) for dimension in dimensions)
    return {m.name: m.value for m in measurements if m.dimensions == wanted}


def tokens(measurements: Sequence[Measurement], *dimensions: str) -> dict[str, float]:
    """Token type ─▶ tokens, of the measurements with these dimensions and the type's."""
    wanted = tuple(tuple(dimension.split("=")) for dimension in dimensions)
    found = [m for m in measurements if m.name == TOKENS and m.dimensions[:-1] == wanted]
    assert all(m.dimensions[-1][0] == "TokenType" for m in found)
    return {m.dimensions[-1][1]: m.value for m in found}


def attempts(*asked: str) -> list[dict[str, Any]]:
    """Attempts, each given as a server's name or as "name:error"."""
    parts = [each.partition(":") for each in asked]
    return [
        {"server": server, "status_code": None if error else 200, "error": error or None, "duration": 0.1}
        for server, _, error in parts
    ]


def test_a_completed_inference_is_measured_in_total_by_server_and_by_model():
    measured = measurements_of(event("InferenceCompleted.chat-stream", data__response__time_per_output_token=0.0234))

    by_model = {"Requests": 1, TTFT: 0.4124, DURATION: 1.9023, PER_TOKEN: 0.0234}
    by_server = by_model | {"ProxyOverhead": 0.0182}
    used = {"input": 1830, "output": 64}
    model = ("Server=openai", "Model=gpt-4o-mini-2024-07-18")
    assert values(measured) == by_server
    assert values(measured, "Server=openai") == by_server
    assert values(measured, *model) == by_model
    assert values(measured, "Server=openai", "Outcome=completed") == {"Requests": 1}
    assert values(measured, "Consumer=record_metrics") == {"EventsRecorded": 1}
    assert tokens(measured) == tokens(measured, "Server=openai") == tokens(measured, *model) == used
    assert len(measured) == len(by_server) * 2 + len(by_model) + 2 + 3 * len(used)
    assert {m.minute for m in measured} == {MINUTE}


def test_tokens_of_each_type_that_was_used_are_measured():
    measured = measurements_of(
        event(
            "InferenceCompleted.chat-cached-and-reasoning",
            data__usage__audio={"input_tokens": 7, "output_tokens": 9},
            data__usage__cache_creation={"input_tokens": 11},
        )
    )

    assert tokens(measured, "Server=openai") == {
        "input": 12000,
        "output": 2400,
        "cache_read": 9984,
        "cache_creation": 11,
        "reasoning": 1920,
        "audio_input": 7,
        "audio_output": 9,
    }


def test_a_failed_inference_counts_as_request_and_as_failure_by_type_and_fault():
    measured = measurements_of(event("InferenceFailed.broken-off"))

    assert values(measured, "Server=openai")["Failures"] == values(measured)["Failures"] == 1
    assert values(measured, "Server=openai", "ErrorType=upstream_broken_off") == {"Failures": 1}
    assert values(measured, "ErrorSource=upstream") == {"Failures": 1}
    assert values(measured, "Server=openai", "Outcome=failed") == {"Requests": 1}
    assert tokens(measured)["output"] == 16
    assert {DURATION, TTFT, PER_TOKEN}.isdisjoint(m.name for m in measured)


@pytest.mark.parametrize(
    ("source", "kind"), [("key_rpm", "client"), ("key_budget", "client"), ("upstream", "upstream")]
)
def test_a_throttled_request_counts_by_who_throttled_it(source: str, kind: str):
    measured = measurements_of(event("InferenceThrottled.key-rpm", data__throttle__source=source))

    assert values(measured)["Throttles"] == values(measured, "Server=openai")["Throttles"] == 1
    assert values(measured, f"Source={source}") == {"Throttles": 1}
    assert values(measured, f"Kind={kind}") == {"Throttles": 1}
    assert "Failures" not in values(measured)
    assert tokens(measured) == {}


def test_missing_usage_is_counted_and_not_measured_as_zero():
    measured = measurements_of(event("InferenceCompleted.usage-missing"))

    assert values(measured)["UsageMissing"] == 1
    assert tokens(measured) == {}


def test_an_answer_from_the_cache_is_no_measurement_of_a_server():
    measured = measurements_of(event("InferenceCompleted.cache-hit", data__response__time_per_output_token=0.001))

    assert values(measured)["CacheHitTimeToFirstChunk"] == 0.0098
    assert values(measured, "Server=openai")["CacheHits"] == values(measured)["CacheHits"] == 1
    assert {DURATION, TTFT, PER_TOKEN, "CacheMisses"}.isdisjoint(m.name for m in measured)
    assert tokens(measured) == {"input": 120, "output": 30}


@pytest.mark.parametrize(
    ("status", "name"),
    [("HIT", "CacheHits"), ("MISS", "CacheMisses"), ("REFRESH", "CacheMisses"), ("BYPASS", None), ("NEW", None)],
)
def test_the_cache_is_counted_only_when_it_was_asked(status: str, name: str | None):
    measured = measurements_of(event("InferenceCompleted.chat-stream", data__cache={"status": status, "reason": None}))

    assert {m.name for m in measured} & {"CacheHits", "CacheMisses"} == ({name} if name else set())


@pytest.mark.parametrize(
    ("asked", "retries", "fallbacks"),
    [
        ((), None, None),
        (("a",), None, None),
        (("a", "a", "a"), 2, None),
        (("a", "b"), None, 1),
        (("a", "a:upstream_unreachable", "b", "b", "c"), 2, 2),
        (("a:circuit_open", "b"), None, 1),
        (("a", "a:circuit_open"), None, None),
        (("a", "a:kept_out"), None, None),
    ],
)
def test_retries_and_fallbacks_are_told_by_the_attempts(asked: list[str], retries: int | None, fallbacks: int | None):
    measured = measurements_of(event("InferenceCompleted.chat-stream", data__attempts=attempts(*asked)))

    for sets in ((), ("Server=openai",)):
        assert values(measured, *sets).get("Retries") == retries
        assert values(measured, *sets).get("Fallbacks") == fallbacks


def test_servers_that_are_asked_for_their_models_at_once_are_no_fallbacks_of_each_other():
    changes: dict[str, Any] = {"data__attempts": attempts("a", "b"), "data__server__name": None}
    measured = measurements_of(event("InferenceCompleted.models-list", **changes))

    assert "Fallbacks" not in values(measured)


@pytest.mark.parametrize(("cold_start", "count"), [(True, 1), (False, None), (None, None)])
def test_cold_starts_are_counted(cold_start: bool | None, count: int | None):
    measured = measurements_of(event("InferenceCompleted.chat-stream", data__cold_start=cold_start))

    assert values(measured).get("ColdStarts") == count


@pytest.mark.parametrize("lacks", ["attempts", "cold_start"])
def test_events_of_before_are_measured_as_far_as_they_tell(lacks: str):
    old = event("InferenceCompleted.chat-stream")
    data = {name: value for name, value in old.data.items() if name != lacks}

    assert values(measurements_of(old._replace(data=data)))["Requests"] == 1


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
        {"data__usage__output_tokens": -7},
        {"data__cache": None},
        {"data__attempts": [{"server": "a"}]},
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
    name=st.sampled_from(["Requests", DURATION]),
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
    datum: Any = {"MetricName": DURATION, "Values": [1.0] * values_each}

    calls = list(in_calls([datum] * data))

    assert sum(len(call) for call in calls) == data
    assert all(len(call) <= MOST_DATA and len(call) * values_each <= MOST_VALUES_IN_A_CALL for call in calls)
    assert len(calls) == max(-(-data // MOST_DATA), -(-data * values_each // MOST_VALUES_IN_A_CALL)) or data == 200


@given(st.lists(st.decimals(0, 5, places=8, allow_nan=False), min_size=1, max_size=400))
def test_sums_of_money_are_those_of_the_ledger_to_a_millionth(costs: list[Decimal]):
    data: list[Any] = metric_data(m for cost in costs for m in measured("Cost", "None", cost, MINUTE, [()]))

    total = sum(value * count for datum in data for value, count in zip(datum["Values"], datum["Counts"], strict=True))
    assert total == pytest.approx(float(sum(costs)), abs=1e-6)
