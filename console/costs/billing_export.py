"""Reads cloud bills as usage exports: AWS's CUR 2.0 for Bedrock, Azure's cost details for Azure OpenAI. Pure.

A line of a bill is about a meter, so its text says what was counted: input, cached or output tokens, and the service
tier. Its one rule: what a meter or a unit does not say clearly is not counted, and only its cost is; and what is not
about models is left out. Meters call models by names of the bill, so figures are those of days.

Columns are those of AWS's CUR 2.0 dictionary and of Microsoft's cost details (EA and MCA, which differ in case and in
some names); patterns of meters are those of AWS's page on Bedrock's CUR data, and of meters that others have published.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

_UNIT = re.compile(
    r"(?P<number>\d[\d,]*)?\s*(?P<scale>k|m|thousand|million)?\s*(?P<tokens>tokens?)?\b.*", re.IGNORECASE
)
_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)(E[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_LONGEST_AMOUNT = 100
"""Characters of a cell with a unit or a quantity. A longer one is neither, and would take the patterns long."""
_SCALES = {"": 1, "k": 1000, "thousand": 1000, "m": 10**6, "million": 10**6}


@dataclass(frozen=True, slots=True)
class Bill:
    """How a kind of bill is read. Columns are named in lower case; of several the first that is there holds.

    `models` is what the text of a line has that is about models; `left_out` are kinds of lines that are no usage.
    """

    name: str
    date: Sequence[str]
    meter: Sequence[str]
    cost: Sequence[str]
    quantity: Sequence[str]
    unit: Sequence[str]
    currency: Sequence[str]
    about: Sequence[str]
    models: re.Pattern[str]
    kind: Sequence[str] = ()
    left_out: re.Pattern[str] = re.compile(r"(?!)")


BILLS = (
    Bill(
        name="AWS CUR 2.0",
        date=("line_item_usage_start_date",),
        meter=("line_item_usage_type",),
        cost=("line_item_net_unblended_cost", "line_item_unblended_cost"),
        quantity=("line_item_usage_amount",),
        unit=("pricing_unit",),
        currency=("line_item_currency_code",),
        about=("line_item_product_code", "product_servicecode", "line_item_line_item_description"),
        models=re.compile(r"bedrock", re.IGNORECASE),
        kind=("line_item_line_item_type",),
        left_out=re.compile(r"tax|credit|refund|fee", re.IGNORECASE),
    ),
    Bill(
        name="Azure cost details",
        date=("date", "usagedatetime"),
        meter=("metername",),
        cost=("costinusd", "costinbillingcurrency", "pretaxcost", "cost"),
        quantity=("quantity", "usagequantity"),
        unit=("unitofmeasure",),
        currency=("billingcurrency", "billingcurrencycode", "currency"),
        about=("metercategory", "metersubcategory", "consumedservice", "servicefamily"),
        models=re.compile(r"openai|cognitive ?services|foundry", re.IGNORECASE),
        kind=("chargetype",),
        left_out=re.compile(r"tax|refund", re.IGNORECASE),
    ),
)
_OUTPUT = re.compile(r"output[-_ ]?tokens?|outputtokencount|\b(batch)?(out|outp|outpt|opt|output)\b", re.IGNORECASE)
_CACHED = re.compile(r"cache[-_ ]?read|cacheread|\b(cached|cchd|cd)\b", re.IGNORECASE)
_WRITTEN = re.compile(r"cache[-_ ]?write|cachewrite|\bcd wr\b", re.IGNORECASE)
_INPUT = re.compile(r"input[-_ ]?tokens?|inputtokencount|\b(batch)?(in|inp|inpt|input)\b", re.IGNORECASE)
_TIER = re.compile(r"batch|flex|priority|provisioned", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a bill about models. `figures` has its cost, and its tokens where it says what they are."""

    day: str
    figures: Mapping[str, str | Decimal]
    currency: str
    has_tier: bool


def bill_of(headings: Iterable[str]) -> Bill | None:
    """The kind of bill that has these headings; None for other files."""
    known = {heading.strip().lower() for heading in headings}
    needed = ("date", "meter", "cost", "about")
    return next((bill for bill in BILLS if all(known.intersection(getattr(bill, name)) for name in needed)), None)


def line_of(bill: Bill, row: Mapping[str, str | None]) -> Line | None:
    """What a row says of models; None where it says nothing of them."""
    cells = {name.strip().lower(): (text or "").strip() for name, text in row.items()}
    about = " ".join(cells.get(name, "") for name in bill.about)
    if not bill.models.search(about) or bill.left_out.search(_first(cells, bill.kind)):
        return None
    meter, figures = _first(cells, bill.meter), dict[str, str | Decimal]()
    figures["cost"] = _first(cells, bill.cost)
    scale = _scale(_first(cells, bill.unit))
    tokens = "token" in meter.lower() or "token" in _first(cells, bill.unit).lower()
    quantity = _first(cells, bill.quantity)
    if scale and tokens and len(quantity) <= _LONGEST_AMOUNT and _QUANTITY.fullmatch(quantity):
        figures |= dict.fromkeys(_measures(meter), Decimal(quantity) * scale)
    in_usd = "costinusd" in cells and bill.cost[0] == "costinusd"
    currency = "USD" if in_usd else _first(cells, bill.currency)
    return Line(_iso(_first(cells, bill.date)), figures, currency, bool(_TIER.search(meter)))


def _measures(meter: str) -> Sequence[str]:
    """What the tokens of a meter count as: cached ones and those written to a cache are input too."""
    words = re.sub(r"[-_]", " ", meter)
    if _WRITTEN.search(meter) or _WRITTEN.search(words):
        return ("input_tokens",)
    if _CACHED.search(meter) or _CACHED.search(words):
        return ("input_tokens", "cached_tokens")
    if _OUTPUT.search(meter) or _OUTPUT.search(words):
        return ("output_tokens",)
    return ("input_tokens",) if _INPUT.search(meter) or _INPUT.search(words) else ()


def _scale(unit: str) -> Decimal:
    """How many tokens a unit such as "1K tokens" or "1M" is of; 0 where it does not say."""
    found = _UNIT.fullmatch(unit) if len(unit) <= _LONGEST_AMOUNT else None
    if not found or not any(found.groups()):
        return Decimal(0)
    return Decimal((found["number"] or "1").replace(",", "")) * _SCALES[(found["scale"] or "").lower()]


def _first(cells: Mapping[str, str], names: Sequence[str]) -> str:
    return next((cells[name] for name in names if cells.get(name)), "")


def _iso(text: str) -> str:
    """A date as ISO 8601: Azure writes 11/23/2026."""
    if re.fullmatch(r"\d\d?/\d\d?/\d{4}", text, re.ASCII):
        try:
            return datetime.strptime(text, "%m/%d/%Y").strftime("%Y-%m-%d")  # noqa: DTZ007 - a day has no zone
        except ValueError:
            return text
    return text
