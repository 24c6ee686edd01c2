"""What a server says an answer cost: at the exact bounds of an amount, and in each place where one may stand."""

from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.usage import MOST_COST, Usage
from proxy.metering.cost import cost_of, with_cost_of_header

MOST = Decimal(MOST_COST)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({}, None),
        ({"cost": None, "total_cost": None}, None),
        ({"cost": None, "total_cost": 2}, 2),
        ({"total_cost": 3, "estimated_cost": 4}, 3),
        ({"cost": 1, "total_cost": 3, "cost_in_usd_ticks": 5}, 1),
        ({"cost": 0, "total_cost": 3}, 0),
        ({"cost_in_usd_ticks": 1}, "1e-10"),
        ({"cost_in_usd_ticks": MOST_COST * 10**10}, MOST_COST),
        ({"cost": MOST_COST}, MOST_COST),
        ({"cost": "1e-18"}, "1e-18"),
        ({"cost": "0.5e-18"}, 0),
        ({"cost": "1.5e-18"}, "2e-18"),
        ({"cost": 0.1}, "0.1"),
        ({"cost": "1" + "0" * 9}, MOST_COST),
        ({"cost": "1." + "0" * 398 + "x"}, 1),
        ({"cost": {"total": 2, "currency": "usd"}}, 2),
        ({"cost": {"total": 2, "total_cost": 1, "currency": None}}, 1),
        ({"cost": {"total_cost": None, "total": 0}}, 0),
        ({"cost": 1, "is_byok": True}, 1),
        ({"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, 1),
        ({"cost": 1, "is_byok": 1, "cost_details": {"upstream_inference_cost": 2}}, 1),
        ({"cost": MOST_COST - 1, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}}, MOST_COST),
    ],
    ids=range(22),
)
def test_an_amount_is_the_one_that_was_said(usage: Any, cost: Any) -> None:
    assert cost_of(usage) == (None if cost is None else Decimal(cost))


@pytest.mark.parametrize(
    "usage",
    [
        {"cost": str(MOST + Decimal("1e-18"))},
        {"cost_in_usd_ticks": MOST_COST * 10**10 + 1},
        {"cost": MOST_COST, "is_byok": True, "cost_details": {"upstream_inference_cost": 1}},
        {"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": -1}},
        {"cost": 1, "is_byok": True, "cost_details": {"upstream_inference_cost": "much"}},
        {"cost": "1." + "0" * 397 + "x"},
        {"cost": -1e-30},
        {"cost": True},
        {"cost": {}},
        {"cost": {"total": 2, "currency": "EUR"}},
        {"cost_in_usd_ticks": [1]},
    ],
    ids=range(11),
)
def test_what_is_no_amount_is_refused(usage: Any) -> None:
    with pytest.raises(ValueError, match="cost_invalid"):
        cost_of(usage)


def test_a_header_is_read_within_the_same_bounds() -> None:
    usage = Usage(1, 1, source="reported")
    assert with_cost_of_header(usage, str(MOST_COST)) == usage._replace(cost_reported=MOST)
    assert with_cost_of_header(usage, f"{MOST_COST}.1") == usage._replace(reason="cost_invalid")
    rounded = usage._replace(reason="rounded")
    assert with_cost_of_header(rounded, "much") == rounded, "what was wrong first is what is told"
    assert with_cost_of_header(usage, "1e-19") == usage, "a zero says nothing"
