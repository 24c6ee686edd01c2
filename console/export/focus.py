"""The ledger in the columns of FOCUS 1.2, the FinOps Foundation's form for bills. Pure.

A row is what a client used on a day of one meter of a model at one price. Two rules: the rows' BilledCost is the sum of
the entries' cost to the last digit, and usage without a price is there with a cost of 0 and says so in
x_PricingStatus, because FOCUS has no word for an unknown cost.

Not in it are answers of the response cache, which nobody bills, and requests that used nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Context, Decimal, Inexact
from typing import Any, NamedTuple

from openai_proxy.pricing.rates import EXACT, exact_sum

from console.spreadsheets import Pointed

Entry = Mapping[str, Any]
Row = dict[str, Any]

_TOKENS, _REQUESTS, _SECONDS = "Tokens", "Requests", "Seconds"
_EXACT_PRICE = Context(prec=40, traps=[Inexact])
_MEAN_PRICE = Context(prec=40)


class Part(NamedTuple):
    """What an entry used of one meter. `cost` is USD."""

    meter: str
    unit: str
    quantity: Decimal
    cost: Decimal


class _Key(NamedTuple):
    day: str
    client: str
    server: str
    model: str
    meter: str
    unit: str
    price: Decimal | None
    rule: str
    status: str
    estimated: bool
    team: str
    tags: str


@dataclass(slots=True)
class _Sum:
    quantity: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)
    requests: int = 0


def focus_rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """The rows of entries that come day by day, each day's after its last entry."""
    day, sums = "", dict[_Key, _Sum]()
    for entry in entries:
        if entry["day"] != day:
            yield from map(_row, sums, sums.values())
            day, sums = entry["day"], {}
        for part in parts_of(entry):
            total = sums.setdefault(_key(entry, part), _Sum())
            total.quantity = EXACT.add(total.quantity, part.quantity)
            total.cost = EXACT.add(total.cost, part.cost)
            total.requests += 1
    yield from map(_row, sums, sums.values())


def parts_of(entry: Entry) -> list[Part]:
    """What an entry used, by meter, and what each cost. The costs add up to that of the entry."""
    if entry.get("cache_status") == "HIT":
        return []
    if entry["pricing"] == "reported":
        return [Part("stated cost", _REQUESTS, Decimal(1), entry["cost"])]
    found = [Part(*each) for each in _used(entry)]
    known = exact_sum({part.meter: part.cost for part in found})
    rest = EXACT.subtract(entry.get("cost", Decimal(0)), known)
    found = [part for part in found if part.quantity]
    return [*found, Part("other", _REQUESTS, Decimal(1), rest)] if rest else found


def _used(entry: Entry) -> Iterator[tuple[str, str, Decimal, Decimal]]:
    for meter, tokens in tokens_of(entry).items():
        # A part without tokens has a row only if it cost something.
        yield meter, _TOKENS, Decimal(tokens), _cost(entry, meter) if tokens else Decimal(0)
    if "cost_request" in entry:
        yield "request", _REQUESTS, Decimal(1), entry["cost_request"]
    if entry.get("cost_audio_duration") and entry.get("audio_duration"):
        yield "audio_duration", _SECONDS, Decimal(entry["audio_duration"]), entry["cost_audio_duration"]
    units: Mapping[str, Any] = entry.get("units") or {}
    if len(units) == 1:
        [(name, number)] = units.items()
        yield name, "Units", Decimal(number), _cost(entry, "units")
    elif units:
        yield "units", "Units", Decimal(sum(units.values())), _cost(entry, "units")


def tokens_of(entry: Entry) -> dict[str, int]:
    """The tokens of each class that has a price of its own in the entry, each token once; none is below 0.

    Images that cost what text costs are text. Of more special tokens than there are, so many were cached ones.
    """
    cached, written = int(entry["cache_read_input_tokens"]), int(entry["cache_creation_input_tokens"])
    heard, said = int(entry.get("input_audio_tokens", 0)), int(entry.get("output_audio_tokens", 0))
    seen = _images(entry, "input_image_tokens", "cost_image_input", "cost_cached_image_input")
    drawn = _images(entry, "output_image_tokens", "cost_image_output")
    thought = int(entry["reasoning_output_tokens"]) if "cost_reasoning" in entry else 0
    fresh = int(entry["input_tokens"]) - cached - written - heard - seen
    both = min(max(0, -fresh), cached)
    cached_heard = min(both, heard)
    counts = {
        "input": fresh,
        "cached_input": cached - both,
        "cache_write": written,
        "audio_input": heard - cached_heard,
        "cached_audio_input": cached_heard,
        "image_input": seen - (both - cached_heard),
        "cached_image_input": both - cached_heard,
        "output": int(entry["output_tokens"]) - thought - said - drawn,
        "reasoning": thought,
        "audio_output": said,
        "image_output": drawn,
    }
    return {name: max(0, count) for name, count in counts.items()}


def _images(entry: Entry, tokens: str, *costs: str) -> int:
    return int(entry.get(tokens) or 0) if any(name in entry for name in costs) else 0


def _cost(entry: Entry, meter: str) -> Decimal:
    return entry.get(f"cost_{meter}", Decimal(0))


def _key(entry: Entry, part: Part) -> _Key:
    tags = json.dumps(entry.get("tags") or {}, sort_keys=True, ensure_ascii=False)
    names = (entry["client_id"], entry.get("server", "-"), entry.get("model", "-"))
    status, rule = str(entry["pricing"]), str(entry.get("price_rule") or entry.get("unpriced_reason") or "-")
    estimated = entry["usage_source"] == "estimated"
    price = _exact_price(part)
    meter = (part.meter, part.unit)
    return _Key(entry["day"], *names, *meter, price, rule, status, estimated, entry.get("team", ""), tags)


def _exact_price(part: Part) -> Decimal | None:
    """The price of one; None where the cost is of several prices, so that no number of digits is enough."""
    try:
        return _EXACT_PRICE.divide(part.cost, part.quantity).normalize()
    except Inexact:
        return None


def _row(key: _Key, total: _Sum) -> Row:
    day = date.fromisoformat(key.day)
    month = day.replace(day=1)
    after = (month + timedelta(days=32)).replace(day=1)
    cost, quantity = Pointed(total.cost), Pointed(total.quantity)
    price = Pointed(_MEAN_PRICE.divide(total.cost, total.quantity) if key.price is None else key.price)
    sku = f"{key.server}/{key.model}/{key.meter}"
    unknown = " (no price is known)" if key.status == "unpriced" else ""
    return {
        "BilledCost": cost,
        "BillingAccountId": key.server,
        "BillingAccountName": key.server,
        "BillingCurrency": "USD",
        "BillingPeriodEnd": _midnight(after),
        "BillingPeriodStart": _midnight(month),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": f"{key.model} of {key.server}: {key.meter.replace('_', ' ')}{unknown}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        "ChargePeriodStart": _midnight(day),
        "CommitmentDiscountStatus": None,
        "ConsumedQuantity": quantity,
        "ConsumedUnit": key.unit,
        "ContractedCost": cost,
        "ContractedUnitPrice": price,
        "EffectiveCost": cost,
        "InvoiceId": None,
        "InvoiceIssuerName": key.server,
        "ListCost": cost,
        "ListUnitPrice": price,
        "PricingCategory": "Standard",
        "PricingCurrency": "USD",
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyEffectiveCost": cost,
        "PricingCurrencyListUnitPrice": price,
        "PricingQuantity": quantity,
        "PricingUnit": key.unit,
        "ProviderName": key.server,
        "PublisherName": key.server,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"Inference of {key.server}",
        "ServiceSubcategory": "Generative AI",
        "SkuId": sku,
        "SkuMeter": key.meter,
        "SkuPriceDetails": None,
        "SkuPriceId": f"{sku}@{key.rule}",
        "SubAccountId": key.client,
        "SubAccountName": key.client,
        "Tags": key.tags,
        "x_Model": key.model,
        "x_PricingStatus": key.status,
        "x_Requests": total.requests,
        "x_Team": key.team or None,
        "x_UsageIsEstimated": key.estimated,
    }


def _midnight(day: date) -> str:
    return f"{day}T00:00:00Z"


_NONE = _Key("2026-01-01", "", "", "", "", "", Decimal(0), "", "", estimated=False, team="", tags="{}")
FOCUS_COLUMNS: tuple[str, ...] = tuple(_row(_NONE, _Sum()))
"""In the order of the specification; what begins with x_ is not of it."""
