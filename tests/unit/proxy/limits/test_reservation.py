"""What an event says of a request's limits, whole, for every way in which a reservation can end."""

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from proxy.errors import LimitError
from proxy.limits.item import Share
from proxy.limits.reservation import LeaseState, Prices, Reservation, nothing_taken, share_of
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target

NOW = 1_800_000_000
BUDGETS: dict[str, Any] = {
    "budget_day": Decimal("1.50"),
    "budget_month": Decimal(30),
    "budget_week": Decimal("7.25"),
    "budget_total": Decimal(100),
}
KINDS: dict[str, dict[str, Any]] = {
    "rpm": {"rpm": 5},
    "tpm": {"tpm": 5000},
    "parallel": {"parallel": 2},
    **{name: {name: budget} for name, budget in BUDGETS.items()},
    "all": {"rpm": 5, "tpm": 5000, "parallel": 2, **BUDGETS, "reset_weekday": "sunday", "reset_day": 5},
    "reset of nothing": {"rpm": 5, "reset_weekday": "sunday", "reset_day": 5},
}
STATES: list[LeaseState] = ["held", "returned", "doubtful"]


@pytest.mark.parametrize(("kind", "state"), [*itertools.product(KINDS, STATES)])
@pytest.mark.parametrize("end", ["checked", "unchecked", "nothing to take", "refused"])
def test_what_an_event_says(kind: str, state: LeaseState, end: str) -> None:
    given, has_share = KINDS[kind], end in ("checked", "unchecked")
    limits = Limits(id="key-1", **given)
    reservation = Reservation(
        limits,
        Windows.of(NOW),
        Share("lease-1", NOW + 30, 700, Decimal("0.25")) if has_share else None,
        {},
        is_checked=end != "unchecked",
        refused=LimitError("rate_limit_exceeded", "no room", "rpm", 1, {}) if end == "refused" else None,
        lease=state,
        cost=Decimal("0.125"),
    )
    budgets = {name: str(budget) for name, budget in given.items() if name.startswith("budget_")}
    expected: dict[str, Any] = {
        "id": "key-1",
        "status": "unchecked" if end == "unchecked" else "checked",
        "reserved": None,
        "has_budget": bool(budgets) and end != "refused",
        "taken_at": None if end == "refused" else NOW,
        "budget_day": None,
        "budget_month": None,
        "currency": "USD" if budgets else None,
        **budgets,
    }
    expected |= {name: given[name] for name in ("reset_weekday", "reset_day") if name in given and budgets}
    if has_share and (budgets or "tpm" in given):
        expected["reserved"] = {"cost": "0.125", "tokens": 700}
    if has_share and (budgets or "tpm" in given or "parallel" in given) and state != "returned":
        expected["lease"] = {"id": "lease-1", "in_doubt": state == "doubtful"}
    assert reservation.to_event() == expected
    if end == "refused":
        assert expected == nothing_taken(limits)


def body_of(content_type: str, query: str, path: str) -> RequestBody:
    content = json.dumps({"model": "m", "messages": [{"content": "abc " * 1000}], "n": 5, "max_tokens": 700}).encode()
    request = InferenceRequest("function_url", "POST", "", query, {"content-type": content_type}, content, None)
    return RequestBody(request, Target("s", path))


@pytest.mark.parametrize("query", ["", "model=x", "a=1&models[]=m"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
def test_no_spelling_of_a_request_makes_its_share_smaller(path: str, content_type: str, query: str) -> None:
    limits, prices = Limits(id="key-1", tpm=100_000, budget_day=Decimal(10)), Prices(Decimal("1e-6"), Decimal("1e-5"))
    share = share_of(limits, body_of(content_type, query, path), prices, "lease-1", NOW)
    assert (share.tokens, share.cost) == (1004 + 5 * 700, Decimal("0.001004") + 5 * 700 * Decimal("1e-5"))
