"""Entries as rows of the lake, rows as Firehose records, and what happens when Firehose refuses some."""

import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.ledger.entries import Key, LedgerEntry
from openai_proxy.ledger.lake import Firehose, Lake, Pack, json_line, lake_row, packed

ATTEMPTS, MOST_BYTES, MOST_RECORDS = 4, 1_000_000, 4

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def entry(name: str, **attributes: Any) -> LedgerEntry:
    return LedgerEntry(("client#shop#2026-11-23", name), {"client_id": "shop", **attributes}, (), {})


class FakeFirehose:
    """Takes records, but of each call those at the places that `refusals` names for it."""

    def __init__(self, *refusals: Sequence[int]) -> None:
        self.taken: list[str] = []
        self.calls: list[int] = []
        self._refusals = iter(refusals)

    def put_record_batch(
        self,
        *,
        DeliveryStreamName: str,  # noqa: N803
        Records: Sequence[Mapping[str, bytes]],  # noqa: N803
    ) -> Mapping[str, Any]:
        assert DeliveryStreamName == "stream"
        assert len(Records) <= 500
        assert sum(len(record["Data"]) for record in Records) <= 4 * 2**20
        self.calls.append(len(Records))
        refused = next(self._refusals, ())
        answers: list[dict[str, str]] = []
        for place, record in enumerate(Records):
            assert len(record["Data"]) <= 1000 * 1024
            if place in refused:
                answers.append({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."})
            else:
                answers.append({"RecordId": "1"})
                self.taken += [json.loads(line)["id"] for line in record["Data"].splitlines()]
        return {"FailedPutCount": len(refused), "RequestResponses": answers}


def lake(firehose: Firehose) -> tuple[Lake, list[int]]:
    pauses: list[int] = []
    return Lake(firehose, "stream", pauses.append, lambda: NOW), pauses


def test_a_row_keeps_what_an_analyst_needs() -> None:
    attributes = {
        "timestamp": "2026-11-23T09:31:23.947Z",
        "day": "2026-11-23",
        "month": "2026-11",
        "expires_at": 1830000000,
        "cost": Decimal("1E-15"),
        "cost_input": Decimal("0.10"),
        "duration": Decimal("1.902311"),
        "stream": True,
        "tags": {"team": "größe"},
        "finish_reasons": ["stop"],
        "input_tokens": 12,
    }
    row = lake_row("01M8", attributes, "2026-11-23T12:00:00.000Z", 3)
    assert row == {
        "id": "01M8",
        "occurred_at": "2026-11-23T09:31:23.947Z",
        "day": "2026-11-23",
        "cost": "0.000000000000001",
        "cost_input": "0.10",
        "duration": 1.902311,
        "stream": True,
        "tags": {"team": "größe"},
        "finish_reasons": ["stop"],
        "input_tokens": 12,
        "recorded_at": "2026-11-23T12:00:00.000Z",
        "revision": 3,
    }
    assert json.loads(json_line(row)) == row


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**12, places=18))
def test_money_survives_to_the_last_digit(amount: Decimal) -> None:
    text = json.loads(json_line(lake_row("id", {"cost": amount}, "now")))["cost"]
    assert Decimal(text) == amount
    assert "E" not in text


@given(st.lists(st.integers(1, 60)), st.integers(1, 100))
def test_every_line_is_in_one_pack_in_its_order(sizes: list[int], most_bytes: int) -> None:
    lines: list[tuple[Key, bytes]] = [(("pk", str(n)), b"x" * size) for n, size in enumerate(sizes)]
    packs = list(packed(lines, most_bytes))
    assert [key for pack in packs for key in pack.keys] == [key for key, _ in lines]
    assert b"".join(pack.data for pack in packs) == b"".join(line for _, line in lines)
    assert all(len(pack.data) <= most_bytes or len(pack.keys) == 1 for pack in packs)
    for pack, following in itertools.pairwise(packs):
        assert len(pack.data) + sizes[int(following.keys[0][1])] > most_bytes, "there was room for more"


def test_packs_are_full_to_the_last_byte() -> None:
    for size in (1, 2, 5, 10):
        lines = [(("a", str(number)), b"x" * size) for number in range(40)]
        assert {len(pack.data) for pack in packed(lines, 10)} == {10}


def test_counts_of_pieces_are_whole_numbers_however_they_were_read() -> None:
    row = lake_row("e", {"units": {"web_search": Decimal(2)}, "unpriced_units": Decimal(1)}, "now")
    assert (
        json_line(row) == b'{"id":"e","units":{"web_search":2},"unpriced_units":1,"recorded_at":"now","revision":0}\n'
    )


def test_a_pack_knows_its_entries() -> None:
    assert list(packed([(("a", "1"), b"12"), (("a", "2"), b"34"), (("b", "3"), b"5")], 4)) == [
        Pack((("a", "1"), ("a", "2")), b"1234"),
        Pack((("b", "3"),), b"5"),
    ]


def test_a_batch_is_one_record_of_one_call() -> None:
    firehose = FakeFirehose()
    sent, pauses = lake(firehose)
    assert sent.put([entry(str(n)) for n in range(50)]) == {}
    assert firehose.taken == [str(n) for n in range(50)]
    assert (firehose.calls, pauses) == ([1], [])


def test_nothing_is_sent_of_nothing() -> None:
    firehose = FakeFirehose()
    assert lake(firehose)[0].put([]) == {}
    assert firehose.calls == []


def large(count: int) -> list[LedgerEntry]:
    """Entries so large that each fills a record."""
    return [entry(str(n), path="x" * (MOST_BYTES - 1000)) for n in range(count)]


def test_large_entries_take_several_calls() -> None:
    firehose = FakeFirehose()
    assert lake(firehose)[0].put(large(MOST_RECORDS + 1)) == {}
    assert firehose.calls == [MOST_RECORDS, 1]
    assert len(firehose.taken) == MOST_RECORDS + 1


def test_only_what_was_refused_is_sent_again() -> None:
    firehose = FakeFirehose([1, 2], [0])
    sent, pauses = lake(firehose)
    assert sent.put(large(3)) == {}
    assert firehose.calls == [3, 2, 1]
    assert sorted(firehose.taken) == ["0", "1", "2"]
    assert pauses == [1, 2]


def test_what_is_refused_to_the_end_is_named() -> None:
    firehose = FakeFirehose(*[[0]] * ATTEMPTS)
    sent, pauses = lake(firehose)
    entries = large(2)
    assert sent.put(entries) == {entries[0].key: "Firehose: ServiceUnavailableException"}
    assert firehose.taken == ["1"]
    assert (firehose.calls, pauses) == ([2, 1, 1, 1], [1, 2, 3])


def test_a_refused_record_is_all_entries_in_it() -> None:
    entries = [entry("1"), entry("2")]
    unsent = lake(FakeFirehose(*[[0]] * ATTEMPTS))[0].put(entries)
    assert set(unsent) == {each.key for each in entries}


def test_a_short_answer_is_no_success() -> None:
    class Forgetful(FakeFirehose):
        def put_record_batch(self, **_: Any) -> Mapping[str, Any]:
            return {"RequestResponses": []}

    [(_, reason)] = lake(Forgetful())[0].put([entry("1")]).items()
    assert reason == "Firehose: no answer"


def test_what_is_sent_says_when_and_which_revision_it_is() -> None:
    rows: list[dict[str, Any]] = []

    class Keeping(FakeFirehose):
        def put_record_batch(self, **request: Any) -> Mapping[str, Any]:
            rows.extend(json.loads(line) for record in request["Records"] for line in record["Data"].splitlines())
            return super().put_record_batch(**request)

    sent = lake(Keeping())[0]
    usual = {"client_id": "shop", "recorded_at": "2026-11-23T12:00:00.000Z"}
    assert sent.put([entry("1", cost=Decimal("0.10"))]) == {}
    again = [
        {"pk": "p", "sk": "2", "client_id": "shop", "revision": Decimal(3), "time_to_first_chunk": Decimal("0.5")},
        {"pk": "p", "sk": "3", "client_id": "shop", "audio_duration": Decimal(7), "month": "2026-11"},
    ]
    assert sent.put_again(again) == {}
    assert rows == [
        {"id": "1", **usual, "cost": "0.10", "revision": 0},
        {"id": "2", **usual, "time_to_first_chunk": 0.5, "revision": 3},
        {"id": "3", **usual, "audio_duration": 7.0, "revision": 0},
    ]


def test_an_answer_without_an_id_for_each_record_is_no_success() -> None:
    answers: list[Any] = [{}, {"RecordId": ""}, {"RecordId": 5}, {"ErrorCode": "Slow", "RecordId": "1"}]

    class Odd(FakeFirehose):
        def put_record_batch(self, **_: Any) -> Mapping[str, Any]:
            return {"RequestResponses": [answers[0]]}

    for reason in ("no answer", "no answer", "no answer", "Slow"):
        assert list(lake(Odd())[0].put([entry("1")]).values()) == [f"Firehose: {reason}"]
        answers.pop(0)
