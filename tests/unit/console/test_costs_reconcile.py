"""Usage exports of providers, read and compared with the ledger."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.costs.reconcile import Comparison, compare, stated_by_server, totals, without_hits, worst
from console.costs.summary import SUMS
from console.costs.usage_export import Export, read_exports
from console.errors import ConsoleError

DAY = date(2026, 11, 23)

# Headings as these consoles write them; the figures are invented.
OPENAI_USAGE = (
    "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,batch,"
    "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens\n"
    "1795305600,1795392000,2026-11-22T00:00:00+00:00,2026-11-23T00:00:00+00:00,,,,,,,,,,,\n"
    "1795392000,1795392060,2026-11-23T00:00:00+00:00,2026-11-23T00:01:00+00:00,p,10.0,u,k,gpt-5-2025-08-07,FALSE,"
    "default,59200.0,10646.0,5760.0,53440.0\n"
    "1795392060,1795392120,2026-11-23T00:01:00+00:00,2026-11-23T00:02:00+00:00,p,1.0,u,k2,gpt-5-2025-08-07,FALSE,"
    "default,800.0,54.0,0.0,800.0\n"
)
OPENAI_COSTS = (
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,"
    "organization_id,organization_name\n"
    '1795392000,1795478400,2026-11-23T00:00:00,2026-11-24T00:00:00,0.25,usd,"gpt-5-2025-08-07, input",,o,O\n'
    '1795392000,1795478400,2026-11-23T00:00:00,2026-11-24T00:00:00,0.5,usd,"gpt-5-2025-08-07, output",,o,O\n'
)
ANTHROPIC_USAGE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
    "2026-11-23,claude-sonnet-4-20250514,k,Default,standard,≤ 200k,100,20,3,4000,50,0,not_available,\n"
)
ANTHROPIC_COSTS = (
    "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type\n"
    "2026-11-23,Sonnet 4,Default,k,message,≤ 200k,input_no_cache,0.01,0.01,token\n"
    "2026-11-23,Sonnet 4,Default,k,message,≤ 200k,output,0.02,0.02,token\n"
)


def read(tmp_path: Path, *texts: str, **columns: str) -> Export:
    paths = [tmp_path / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return read_exports(paths, columns)


def row(model: str = "gpt-5-2025-08-07", day: str = "2026-11-23", **sums: Any) -> dict[str, Any]:
    return dict.fromkeys(SUMS, Decimal(0)) | {"requests": Decimal(1), "day": day, "model": model} | sums


def test_openai_usage_and_costs_together(tmp_path: Path):
    export = read(tmp_path, OPENAI_USAGE, OPENAI_COSTS)

    key = (DAY, "gpt-5-2025-08-07")
    assert export.days == {date(2026, 11, 22), DAY}
    assert export.figures == {
        "input_tokens": {key: 60000},
        "cached_tokens": {key: 5760},
        "output_tokens": {key: 10700},
        "cost": {key: Decimal("0.75")},
        "requests": {key: 11},
    }


def test_anthropic_input_is_the_sum_of_its_classes(tmp_path: Path):
    export = read(tmp_path, ANTHROPIC_USAGE, ANTHROPIC_COSTS)

    key = (DAY, "claude-sonnet-4-20250514")
    assert export.figures["input_tokens"] == {key: 4123}
    assert export.figures["cached_tokens"] == {key: 4000}
    assert export.figures["output_tokens"] == {key: 50}
    assert export.figures["cost"] == {(DAY, None): Decimal("0.03")}


def test_columns_can_be_named(tmp_path: Path):
    text = "\ufeffTag;Modell;Ein;Zwischen;Aus;Euro\n23.11.2026;m;1;2;3;4\n"

    with pytest.raises(ConsoleError, match="Remedy: name them"):
        read(tmp_path, text)
    with pytest.raises(ConsoleError, match="neither a date"):
        read(tmp_path, text, date="Tag", input_tokens="Ein")
    export = read(
        tmp_path, text.replace("23.11.2026", "2026-11-23"), date="Tag", model="Modell", input_tokens="Ein+Zwischen"
    )
    assert export.figures == {"input_tokens": {(DAY, "m"): 3}}


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2026-11-23", DAY),
        ("2026-11-24T01:00:00+02:00", DAY),
        ("2026-11-23T23:59:59Z", DAY),
        ("20261123", DAY),
        ("1795392000", DAY),
    ],
)
def test_days_are_those_of_utc(tmp_path: Path, moment: str, day: date):
    assert read(tmp_path, f"date,cost\n{moment},1\n").days == {day}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,cost\n2026-11-23,many\n", "line 2: 'many' is no number of cost"),
        ("date,cost\n2026-11-23,nan\n", "is no number"),
        ("date,input_tokens\n2026-11-23,-1\n", "is no number of input_tokens"),
        ("date,cost,currency\n2026-11-23,1,EUR\n", "amounts are in EUR"),
        ("date,colour\n2026-11-23,red\n", "none with figures"),
        ("", "none with figures"),
        ("start_time,end_time,start_time_iso,end_time_iso\n1,2,3,4\n", "none with figures"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path: Path, text: str, message: str):
    with pytest.raises(ConsoleError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"], ids=ascii)
@pytest.mark.parametrize("odd", ["\u2028", "\x85", "\x0b"], ids=ascii)
def test_a_row_ends_where_csv_ends_it(tmp_path: Path, ends: str, odd: str):
    file = tmp_path / "a.csv"
    file.write_bytes(ends.join(["date,model,cost", f"2026-11-23,m{odd}n,1", f'2026-11-23,"k{odd}l",2', ""]).encode())
    assert read_exports([file], {}).figures == {"cost": {(DAY, f"m{odd}n"): 1, (DAY, f"k{odd}l"): 2}}


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(ConsoleError, match="cannot be read"):
        read_exports([tmp_path / "absent.csv"], {})


def test_equal_figures_do_not_drift(tmp_path: Path):
    rows = [
        row(
            input_tokens=Decimal(60000),
            cache_read_input_tokens=Decimal(5760),
            output_tokens=Decimal(10700),
            cost=Decimal("0.75"),
        )
    ]

    found = compare(rows, read(tmp_path, OPENAI_USAGE, OPENAI_COSTS), [DAY], ["input_tokens", "output_tokens", "cost"])

    assert [each.drift for each in found] == [0, 0, 0]
    assert worst(totals(found)) == 0


def test_what_only_one_side_has_drifts_wholly(tmp_path: Path):
    rows = [row("only-here", input_tokens=Decimal(60000))]

    found = compare(rows, read(tmp_path, OPENAI_USAGE), [DAY], ["input_tokens"])

    assert [(each.model, each.drift) for each in found] == [("gpt-5-2025-08-07", 1), ("only-here", 1)]
    assert worst(totals(found)) == 1  # although the sums are equal


def test_amounts_without_models_are_compared_by_day(tmp_path: Path):
    rows = [row("a", cost=Decimal("0.02")), row("b", cost=Decimal("0.01"))]

    assert compare(rows, read(tmp_path, ANTHROPIC_COSTS), [DAY], ["cost"]) == [
        Comparison("2026-11-23", "*", "cost", Decimal("0.03"), Decimal("0.03"))
    ]


def test_a_cost_that_is_not_known_drifts_if_it_was_charged(tmp_path: Path):
    export = read(tmp_path, OPENAI_COSTS)

    [charged] = compare([row(unpriced=Decimal(1))], export, [DAY], ["cost"])
    [_, free] = compare([row(unpriced=Decimal(1)), row("x", unpriced=Decimal(1))], export, [DAY], ["cost"])

    assert (charged.ledger, charged.difference, charged.drift) == (None, None, 1)
    assert (free.model, free.drift) == ("x", 0)


def test_other_days_are_not_compared(tmp_path: Path):
    found = compare(
        [row(day="2026-11-22", input_tokens=Decimal(1))], read(tmp_path, OPENAI_USAGE), [], ["input_tokens"]
    )

    assert found == []
    assert worst(totals(found)) == 0


def test_answers_from_the_response_cache_are_taken_off():
    rollup = row(requests=Decimal(3), input_tokens=Decimal(30), cache_hits=Decimal(1))
    hit = row(requests=Decimal(1), input_tokens=Decimal(10), cache_hits=Decimal(1))

    [left] = without_hits([rollup], [hit])

    assert (left["requests"], left["input_tokens"], left["cache_hits"]) == (2, 20, 0)


def entry(**more: Any) -> dict[str, Any]:
    counts = {"input_tokens": 1, "output_tokens": 1, "duration": Decimal(1), "usage_source": "reported"}
    known = {"server": "openrouter", "model": "m", "day": "2026-11-23", "outcome": "completed", "pricing": "priced"}
    return {**counts, **known, "cost": Decimal("0.02"), "cost_reported": Decimal("0.02"), **more}


def test_costs_that_the_server_stated_are_compared_with_the_books():
    entries = [
        entry(),
        entry(cost=Decimal("0.01"), cost_reported=Decimal("0.03")),
        entry(model="free", pricing="free", cost=Decimal(0), cost_reported=Decimal(0)),
        entry(server="another"),
        entry(cache_status="HIT", pricing="free"),
        entry(pricing="reported", model="unknown"),
        {name: value for name, value in entry().items() if name != "cost_reported"},
    ]

    rows, export, unpriced = stated_by_server(entries, "openrouter")

    assert compare(rows, export, [DAY], ["cost"]) == [
        Comparison("2026-11-23", "m", "cost", Decimal("0.03"), Decimal("0.05"))
    ]
    assert unpriced == 1


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)), max_size=20))
def test_drift_is_between_0_and_1_and_0_only_if_all_agree(figures: list[tuple[int, int]]):
    found = [Comparison(str(n), "m", "input_tokens", Decimal(a), Decimal(b)) for n, (a, b) in enumerate(figures)]

    drift = worst(totals(found))

    assert 0 <= drift <= 1
    assert all(0 <= each.drift <= 1 for each in found)
    assert (drift == 0) == all(a == b for a, b in figures)
    assert drift == worst(
        totals([Comparison("d", "m", "input_tokens", each.provider, each.ledger or Decimal(0)) for each in found])
    )
