"""`costs columns`: the data dictionary, as Markdown or JSON. docs/data-dictionary.md is what it prints."""

import argparse
from collections.abc import Mapping, Sequence

from console.export.columns import Column, columns, throttle_columns
from console.text import to_json

_HEAD = """# Data dictionary
This page is for whoever reads the ledger, with SQL or as a file. With it you can tell what each column holds, \
and what it says when something is not known.

Every column of the ledger: the view `inferences` of the [lake](analytics.md), and what \
`openai-proxy costs export` writes as Parquet, CSV and lines of JSON. \
There is one row for each inference.
This page is what `openai-proxy costs columns` prints.

| format | money | times | maps and lists | what is not there |
|---|---|---|---|---|
| view, Parquet | `decimal(38,18)` | `timestamp`, UTC | maps and lists | NULL |
| CSV | exact digits | as the ledger has them, such as `2026-11-23T09:30:39.315Z` | JSON | nothing |
| lines of JSON | text, exact | the same | objects and lists | null |

All money is USD. A sum of `cost` leaves out what has no price: count `pricing = 'unpriced'` beside it. \
Tokens of a class that is a part of another one are in both \
columns: `input_tokens` holds them all.
"""
_THROTTLES_HEAD = """## Throttled requests
They are rows of the table `entries` with the outcome `throttled`, and are neither in the view nor in an export: \
they used nothing. Besides the columns that say who asked what of whom they have these.
"""
_FOCUS_HEAD = """`costs export --format focus` sums the ledger up by day, client, model, meter and price, in these \
columns. It leaves out answers of the response cache and requests that used nothing.
"""
FOCUS: Sequence[tuple[str, str]] = (
    (
        "BilledCost, EffectiveCost, ContractedCost, ListCost, PricingCurrencyEffectiveCost",
        "the cost at the prices that the ledger used, whatever discount is in them; 0 where no price is known",
    ),
    (
        "ListUnitPrice, ContractedUnitPrice, PricingCurrencyListUnitPrice, PricingCurrencyContractedUnitPrice",
        "the price of one unit, exact; a mean where one meter had several prices",
    ),
    (
        "PricingQuantity, PricingUnit, ConsumedQuantity, ConsumedUnit",
        "what was used: `Tokens`, `Requests`, `Seconds` or `Units`",
    ),
    (
        "BillingCurrency, PricingCurrency",
        "USD",
    ),
    (
        "BillingPeriodStart, BillingPeriodEnd, ChargePeriodStart, ChargePeriodEnd",
        "the month and the day, UTC; ends are exclusive",
    ),
    (
        "BillingAccountId, BillingAccountName, ProviderName, PublisherName, InvoiceIssuerName",
        "`server`: who is behind it is known to openai_servers.yaml alone",
    ),
    (
        "SubAccountId, SubAccountName",
        "`client_id`",
    ),
    (
        "ServiceCategory, ServiceSubcategory, ServiceName",
        "AI and Machine Learning, Generative AI, the server",
    ),
    (
        "SkuId, SkuMeter, SkuPriceId",
        "server, model and meter; the meter; both with `price_rule`",
    ),
    (
        "ChargeCategory, ChargeFrequency, PricingCategory",
        "Usage, Usage-Based, Standard",
    ),
    (
        "ChargeClass, CommitmentDiscountStatus, InvoiceId, SkuPriceDetails",
        "nothing: the ledger knows no corrections of bills, no commitments and no invoices",
    ),
    (
        "ChargeDescription",
        "a sentence",
    ),
    (
        "Tags",
        "`tags`",
    ),
    (
        "x_Model, x_Team, x_Requests",
        "`model`, `team`, and how many inferences a row is of",
    ),
    (
        "x_PricingStatus, x_UsageIsEstimated",
        "`pricing`; whether the proxy counted the tokens",
    ),
)
"""The columns of FOCUS, and what they hold."""


def dictionary() -> str:
    """The page."""
    table = f"## Columns\n{_table(columns())}\n{_THROTTLES_HEAD}\n{_table(throttle_columns())}"
    focus = "\n".join(f"| {', '.join(f'`{name}`' for name in _names(cell))} | {what} |" for cell, what in FOCUS)
    return f"{_HEAD}\n{table}\n## FOCUS 1.2\n{_FOCUS_HEAD}\n| columns | hold |\n|---|---|\n{focus}\n"


def focus_columns() -> list[str]:
    """The columns of FOCUS that the page names."""
    return [name for cell, _ in FOCUS for name in _names(cell)]


def _table(described: Sequence[Column]) -> str:
    rows = "\n".join(map(_line, described))
    return f"| column | type | what it is | example |\n|---|---|---|---|\n{rows}\n"


def _names(cell: str) -> list[str]:
    return cell.split(", ")


def _line(column: Column) -> str:
    example = column.example.replace("|", "\\|")
    return f"| `{column.name}` | {column.type} | {column.what} | `{example}` |"


def add_columns(command: argparse.ArgumentParser) -> None:
    """Give `columns` its options."""
    command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    command.set_defaults(run=run_columns)


def run_columns(options: argparse.Namespace, _: Mapping[str, str]) -> int:
    """Run `costs columns`."""
    print(
        to_json([column._asdict() for column in (*columns(), *throttle_columns())])
        if options.json
        else dictionary().rstrip("\n")
    )
    return 0
