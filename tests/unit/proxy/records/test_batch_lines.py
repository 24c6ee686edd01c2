"""The lines of a batch are counted as they pass, wherever they are cut, and all of them or none."""

import json
from decimal import Decimal
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.usage import Usage, counted_units
from proxy.metering.usage import told_in
from proxy.records import batch_lines
from proxy.records.batch_lines import BatchLines, added

COUNTS = st.integers(0, 10**6)


def openai_line(model: str, prompt: int, completion: int, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "model": model, "usage": usage}
    return {
        "id": "batch_req_1",
        "custom_id": "a",
        "response": {"status_code": 200, "body": body},
        "error": None,
        **more,
    }


def anthropic_line(model: str, prompt: int, completion: int) -> dict[str, Any]:
    usage = {"input_tokens": prompt, "output_tokens": completion, "service_tier": "batch"}
    message = {"id": "msg_1", "type": "message", "model": model, "usage": usage}
    return {"custom_id": "a", "result": {"type": "succeeded", "message": message}}


FAILED: list[dict[str, Any]] = [
    {"custom_id": "b", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request"}}}},
    {"custom_id": "b", "result": {"type": "expired"}},
    {"id": "batch_req_2", "custom_id": "b", "response": None, "error": {"code": "batch_expired", "message": "late"}},
    openai_line(
        "a", 7, 7, response={"status_code": 400, "body": {"error": {"message": "no"}, "usage": {"input_tokens": 7}}}
    ),
]


def read(body: bytes, *cuts: int) -> BatchLines:
    meter, places = BatchLines(), [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places) if end > start]
    assert [meter.see(piece) for piece in pieces] == pieces  # the client's bytes are the server's
    meter.end()
    return meter


@given(
    answers=st.lists(st.tuples(st.sampled_from([openai_line, anthropic_line]), st.sampled_from("abc"), COUNTS, COUNTS)),
    failed=st.lists(st.sampled_from(FAILED)),
    cuts=st.lists(st.integers(0, 10**4), max_size=6),
    line_end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    has_last_end=st.booleans(),
)
def test_each_model_has_the_sum_of_its_answers_wherever_lines_are_cut(
    answers: Any, failed: Any, cuts: list[int], line_end: str, has_last_end: bool
) -> None:
    lines = [json.dumps(line) for line in [*failed, *(form(*told) for form, *told in answers)]]
    meter = read((line_end.join(lines) + (line_end if has_last_end else "")).encode(), *cuts)
    expected: dict[str, tuple[int, int]] = {}
    for _, model, prompt, completion in answers:
        before = expected.get(model, (0, 0))
        expected[model] = before[0] + prompt, before[1] + completion
    found = [(meter.model, meter.usage), *meter.others] if meter.model else []
    assert {used.source for _, used in found} <= {"reported", "missing"}
    told = {model: (used.input_tokens, used.output_tokens) for model, used in found if used.source == "reported"}
    assert told.items() <= expected.items()
    is_told = {model: all(p or c for _, each, p, c in answers if each == model) for model in expected}
    assert set(told) == {model for model, whole in is_told.items() if whole}
    assert {used.service_tier for _, used in found} <= {"batch"}


LINES = st.lists(st.tuples(st.sampled_from(["a", "b"]), COUNTS, COUNTS), min_size=1, max_size=6)


@given(answers=LINES, data=st.data(), failed=st.lists(st.sampled_from(FAILED), max_size=3), cut=st.integers(0, 10**4))
def test_a_copy_of_the_answers_has_their_digest_and_nothing_else_has(
    answers: Any, data: Any, failed: Any, cut: int
) -> None:
    lines = [json.dumps(openai_line(*told, id=f"batch_req_{n}")) for n, told in enumerate(answers)]
    original = read("\n".join(lines).encode()).digest
    copied = data.draw(
        st.permutations([*lines, *map(json.dumps, failed)])
    )  # those that failed may come from another file
    assert read(("\r\n".join(copied) + "\n").encode(), cut).digest == original
    other = data.draw(
        st.sampled_from([lines[1:], [*lines, lines[0]], [line.replace("batch_req_", "r") for line in lines]])
    )
    assert read("\n".join(other).encode()).digest != original


def test_where_nothing_was_answered_there_is_no_digest() -> None:
    assert read(json.dumps(FAILED[0]).encode()).digest is None
    assert read(b"").digest is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x01binary\n",
        b'{"messages": []}\n{"messages": []}\n',
        json.dumps(openai_line("a", 1, 1)).encode() + b'\n{"messages": []}\n',
        json.dumps({"error": {"message": "no such file"}}).encode(),
        json.dumps({"custom_id": "a", "method": "POST", "body": {"model": "a"}}).encode(),  # what is to be done
        b" " + json.dumps(openai_line("a", 1, 1)).encode(),
        b'{"custom_id": "a", "method": "POST"}\n' + json.dumps(openai_line("a", 1, 1)).encode(),
        b'{"error": null}\n' + json.dumps(openai_line("a", 1, 1)).encode(),
        b'{"response": {"body": {"model": "a"}}}\n' + json.dumps(openai_line("a", 1, 1)).encode(),
    ],
)
def test_what_is_no_output_of_a_batch_costs_nothing(body: bytes) -> None:
    meter = read(body, 3)
    assert (meter.usage.source, meter.model, meter.others) == ("none", None, [])


def test_an_answer_of_which_nobody_knows_what_it_used_leaves_the_sum_unknown() -> None:
    unknown = openai_line("a", 0, 0)
    del unknown["response"]["body"]["usage"]
    wrong = openai_line("b", 1, -1)
    lines = [openai_line("a", 1, 1), unknown, openai_line("b", 1, 1), wrong, openai_line("c", 2, 3)]
    meter = read(b"\n".join(json.dumps(line).encode() for line in lines))
    assert [used.source for used in (meter.usage, *(used for _, used in meter.others))] == [
        "missing",
        "invalid",
        "reported",
    ]


def test_a_line_that_is_too_long_is_not_kept_and_not_taken_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_lines, "_LONGEST_LINE", 400)
    long = json.dumps(openai_line("m" * 400, 1, 1)).encode()
    meter = read(json.dumps(openai_line("a", 1, 1)).encode() + b"\n" + long + b"\n", *range(0, 1200, 100))
    assert (meter.model, meter.usage.input_tokens) == ("a", 1)
    assert [(model, used.source, used.reason) for model, used in meter.others] == [(None, "invalid", "too_large")]


def test_there_are_no_more_models_than_an_event_may_tell_of() -> None:
    meter = read(b"\n".join(json.dumps(openai_line(f"m{number}", 1, 1)).encode() for number in range(40)))
    assert len(meter.others) == 15
    assert (meter.usage.source, meter.usage.reason) == ("invalid", "too_many_models")


FIGURES = st.tuples(COUNTS, COUNTS, st.none() | COUNTS, st.none() | COUNTS, st.integers(0, 3), st.integers(0, 3))


@given(ones=FIGURES, others=FIGURES)
def test_a_sum_is_of_every_figure_and_what_one_does_not_know_is_unknown(ones: Any, others: Any) -> None:
    one, other = usage_with(*ones), usage_with(*others)
    sums: Any = [None if None in pair else sum(pair) for pair in zip(ones, others, strict=True)]
    assert added(one, other) == added(other, one) == usage_with(*sums)


def usage_with(prompt: int, cached: int, images: int | None, seconds: int | None, pages: int, searches: int) -> Usage:
    units = counted_units({"page": pages, "web_search": searches})
    return Usage(
        prompt, 0, cached, source="reported", input_image_tokens=images, duration=seconds, units=units, reason="rounded"
    )


LARGEST = {"input_tokens": 10**12, "output_tokens": 10**12, "duration": 10**9, "cost_reported": Decimal(10**9)}


@pytest.mark.parametrize("name", LARGEST)
def test_a_sum_is_believed_up_to_its_bound(name: str) -> None:
    most = LARGEST[name]
    half, rest = Usage(source="reported")._replace(**{name: most - 1}), Usage(source="reported")._replace(**{name: 1})
    if name in ("duration", "cost_reported"):
        half, rest = half._replace(output_tokens=1), rest._replace(output_tokens=2)
    assert getattr(added(half, rest), name) == most
    assert added(half, rest).source == "reported"
    assert added(half, rest._replace(**{name: 2})) == Usage(source="invalid", reason="too_large")


def test_a_sum_keeps_every_other_figure_and_why_one_of_them_was_changed() -> None:
    one = Usage(1, 2, 3, 4, 5, "reported", 6, 7, 8.5, 9, 10, None, Decimal("0.5"), "batch", 11, (("page", 1),))
    other = Usage(10, 20, 30, 40, 50, "reported", 60, 70, 80.5, 90, 100, "rounded", Decimal(2), "batch", 110)
    expected = Usage(
        *(11, 22, 33, 44, 55, "reported", 66, 77, 89.0, 99, 110, "rounded"),
        *(Decimal("2.5"), "batch", 121, (("page", 1),)),
    )
    assert added(one, other) == added(other, one) == expected
    assert added(one, one).reason is None
    for source in ("missing", "invalid", "estimated"):
        unknown = Usage(source=source, reason="r")
        assert added(one, unknown) == added(unknown, other) == unknown


@pytest.mark.parametrize("count", [15, 16, 17, 18])
def test_there_are_sixteen_models_and_of_more_the_first_is_not_known(count: int) -> None:
    lines = [openai_line(f"m{number}", number + 1, 1) for number in range(count)] + [openai_line("m1", 5, 1)]
    meter = read(b"\n".join(json.dumps(line).encode() for line in lines))
    assert meter.model == "m0"
    told = [(model, used.input_tokens) for model, used in meter.others]
    assert told == [("m1", 7), *((f"m{number}", number + 1) for number in range(2, min(count, 16)))]
    too_many = Usage(source="invalid", reason="too_many_models", service_tier="batch")
    assert (meter.usage == too_many) == (count > 16)


@pytest.mark.parametrize(
    ("status", "is_read"), [(200, True), (399, True), (400, False), (500, False), ("400", True), (None, True)]
)
def test_a_request_that_failed_used_nothing(status: Any, is_read: bool) -> None:
    line = openai_line("a", 3, 4)
    line["response"]["status_code"] = status
    meter = read(json.dumps(line).encode())
    assert (meter.usage.source, meter.model) == (("reported", "a") if is_read else ("none", None))
    assert (meter.digest is not None) == is_read


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "a", "duration": 1.5},
        {"meta": {"tokens": {"input_tokens": 3, "output_tokens": 4}}},
        {"choices": [{"message": {"executed_tools": [{"type": "search"}]}}], "usage": {"prompt_tokens": 3}},
    ],
    ids=["a transcription", "Cohere's", "with tools of the server"],
)
def test_an_answer_in_a_batch_is_metered_as_one_that_comes_alone(answer: Any) -> None:
    line = openai_line("a", 0, 0, response={"status_code": 200, "body": {"model": "a", **answer}})
    alone, _ = told_in({"model": "a", **answer}, is_whole=True)
    assert alone
    assert alone.source == "reported"
    assert read(json.dumps(line).encode()).usage == alone._replace(service_tier="batch")


@pytest.mark.parametrize(("size", "cut"), [(255, 255), (256, 256), (257, 256)])
def test_a_model_is_called_by_so_many_characters(size: int, cut: int) -> None:
    assert read(json.dumps(openai_line("m" * size, 1, 1)).encode()).model == "m" * cut


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_line_is_read_up_to_the_longest(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps(openai_line("a", 3, 4)).encode()
    monkeypatch.setattr(batch_lines, "_LONGEST_LINE", len(line) + more)
    for cuts in ((), (50, 100)):
        meter = read(line + b"\n" + line, *cuts)
        assert (meter.usage.source, meter.usage.input_tokens) == (("reported", 6) if more >= 0 else ("invalid", 0))


def test_a_copy_in_another_order_has_the_same_digest_and_other_answers_another() -> None:
    lines = [json.dumps(openai_line("a", number, 1)).encode() for number in range(1, 4)]
    digests = [read(b"\n".join(order)).digest for order in (lines, lines[::-1], lines[:2], [*lines, lines[0]])]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    sums = [int.from_bytes(blake2b(line, digest_size=16).digest()) for line in lines]
    assert digests[0] == f"{sum(sums) % 2**128:032x}", "events of another version must have the same"
    assert read(json.dumps(FAILED[0]).encode()).digest is None


def test_sizes_and_chunks_are_those_of_the_body() -> None:
    meter = BatchLines()
    for piece in (b'{"custom_id": 1,', b' "error": null}\n', b"x"):
        meter.see(piece)
    facts = vars(meter)
    assert (facts["size"], facts["chunks"]) == (33, 3)
