"""In how many shards the requests of a key are counted: in one up to 500 a second."""

from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.key_limits import Limits


@pytest.mark.parametrize(
    ("limits", "shards"),
    [
        ({}, 1),
        ({"rpm": 1}, 1),
        ({"rpm": 30_000}, 1),
        ({"rpm": 30_001}, 2),
        ({"rpm": 600_000}, 20),
        ({"rpm": 3_000_000}, 100),
        ({"rpm": 10**12}, 100),
        ({"tpm": 30_000_999}, 1),
        ({"tpm": 30_001_000}, 3),
        ({"rpm": 60, "tpm": 10**12}, 1),
        ({"rpm": 600_000, "tpm": 1}, 40),
        ({"rpm": 600_000, "parallel": 1000}, 40),
        ({"rpm": 600_000, "budget_total": Decimal(1)}, 20),
        ({"parallel": 10**6, "budget_day": Decimal(10**6)}, 1),
    ],
)
def test_shards_are_as_many_as_the_limits_call_for(limits: dict[str, Any], shards: int):
    assert Limits("k", **limits).shards == shards


@pytest.mark.parametrize(
    ("limits", "shards"),
    [
        ({"rpm": 1}, 2),
        ({"tpm": 1}, 2),
        ({"rpm": 30_000, "tpm": 10**9}, 2),
        ({"rpm": 90_000}, 3),
        ({"rpm": 600_000, "tpm": 1}, 40),
        ({"rpm": 60, "parallel": 1000}, 2),
        ({"rpm": 60, "budget_total": Decimal(1)}, 2),
        ({"parallel": 5}, 16),
        ({"budget_day": Decimal(1)}, 16),
    ],
)
def test_a_busy_key_is_counted_in_two_shards_at_least(limits: dict[str, Any], shards: int):
    assert Limits("k", **limits).shards_if_busy == shards
