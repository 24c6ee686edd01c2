"""Where entries and sums of a divided day are."""

from collections import Counter
from datetime import timedelta

import pytest
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.ledger.entries import LedgerEntry, Rollup
from openai_proxy.ledger.shards import (
    FIRST,
    LAST,
    divided,
    group_of,
    in_lane,
    is_asked,
    is_divided,
    is_sign,
    lane_keys,
    shard_key,
    shard_keys,
    signs_of,
)

LANES, SHARDS = 32, 64

PK, ID = "client#shop#2026-11-27", "01M8558AXTR9M5E4B7N3QK2VWC"
NAMES = {"client_id": "shop", "server": "a#b", "model": "m"}
ROLLUPS = (Rollup(("day#2026-11-27", "shop#a#b#m"), NAMES), Rollup(("month#2026-11", "shop#a#b#m"), NAMES))
ENTRY = LedgerEntry((PK, ID), {"day": "2026-11-27"}, ROLLUPS, {})


def test_a_shard_follows_from_the_id_and_all_are_used_alike() -> None:
    assert shard_key(PK, ID) == f"{PK}#28", "what is written stays where it is looked for"
    ids = [first_ulid_of(1_795_780_800 + number / 1000) for number in range(6400)]
    found = Counter(shard_key(PK, each) for each in ids)
    assert set(found) == set(shard_keys(PK))
    assert max(found.values()) < 150
    assert [shard_key(PK, each) for each in ids] == [shard_key(PK, each) for each in ids]


def test_the_partitions_of_a_divided_day() -> None:
    assert shard_keys(PK)[:2] == [f"{PK}#00", f"{PK}#01"]
    assert len(set(shard_keys(PK))) == SHARDS
    assert lane_keys("day#2026-11-27")[-1] == f"day#2026-11-27#{LANES - 1}"


def test_an_entry_goes_to_its_shard_and_its_sums_to_a_lane() -> None:
    placed = divided(ENTRY, 7)
    assert placed.key == (shard_key(PK, ID), ID)
    assert [each.key for each in placed.rollups] == [
        ("day#2026-11-27#07", "shop#a#b#m"),
        ("month#2026-11#07", "shop#a#b#m"),
    ]
    assert (is_divided(placed), is_divided(ENTRY)) == (True, False)
    assert in_lane(placed, 31) == divided(ENTRY, 31)
    assert group_of(placed) is None
    assert [is_asked(each.key[0]) for each in (*ENTRY.rollups, *placed.rollups)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("entry", "group"),
    [
        (ENTRY, ROLLUPS[0].key),
        (LedgerEntry((PK, ID), {}, ROLLUPS, {}, claims=(("fetched#1", "fetched"),)), None),
        (LedgerEntry(("throttled#shop#2026-11-27", ID), {}, ROLLUPS, {}), None),
        (LedgerEntry((PK, ID), {}, ROLLUPS[1:], {}), None),
        (LedgerEntry((PK, ID), {}, (), {}), None),
    ],
    ids=["an entry", "of a batch", "of a throttle", "without a day", "without sums"],
)
def test_what_is_divided_at_all(entry: LedgerEntry, group: tuple[str, str] | None) -> None:
    assert group_of(entry) == group


def test_signs_are_before_and_after_all_entries_and_outlive_them() -> None:
    first, last = signs_of(ENTRY, timedelta(days=400))
    assert first["sk"] == FIRST < "0" < ID < "8" < LAST == last["sk"]
    assert {each["pk"] for each in (first, last)} == {PK}
    assert {each["expires_at"] for each in (first, last)} == {1_795_824_000 + 400 * 86400}
    assert [is_sign(each) for each in (first, last, {"sk": ID})] == [True, True, False]
