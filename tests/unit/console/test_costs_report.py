"""Charts and the report page: what they show, and that nothing in a name breaks out of them."""

import importlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import NoRegionError
from openai_proxy.events.ulid import new_ulid
from openai_proxy.throttles.advice import Throttled

from console.costs.summary import SUMS
from console.costs.text import entries_table
from console.errors import ConsoleError
from console.period import Period
from console.report import page
from console.report.figures import RollupFigures, Throttles, percentile, read_throttles, rollup_figures
from console.report.page import Chart, Drawn, Section, Table, Tile
from console.report.plot import GRID, SERIES, TEXT, Series, bars_chart, columns_chart, ranges_chart, svg, write_png
from console.report.report import Report, in_steps, money, page_of
from tests.fakes import no_picture

Item = dict[str, Any]

EVIL = "<script>alert(1)</script>$x_{$&\"'\x1b[31m中_"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HITS: Item = {"cache_hits": Decimal(1), "hits_priced": Decimal(1), "cost_saved": Decimal(3)}


def rollup(day: str = "2026-11-23", client: str = "a", model: str = "m", **sums: Any) -> Item:
    names = {"day": day, "month": day[:7], "client_id": client, "server": "openai", "model": model}
    return dict.fromkeys(SUMS, Decimal(0)) | names | {"requests": Decimal(1), **sums}


def entry(**changes: Any) -> Item:
    entry: Item = {
        "sk": new_ulid(NOON.timestamp()),
        "server": "openai",
        "model": "m",
        "outcome": "completed",
        "usage_source": "reported",
        "duration": Decimal(2),
        **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens"), 0),
        **dict.fromkeys(("reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens"), 0),
        "input_tokens": 1_000_000,
        "output_tokens": 100_000,
    }
    return entry | changes


def report(
    rollups: list[Item],
    figures: RollupFigures | None = None,
    days: Mapping[date, Any] | None = None,
    throttled: Sequence[Throttled] = (),
    drawn: Drawn = no_picture,
) -> str:
    page = page_of(
        Report(
            period=Period(date(2026, 11, 1), date(2026, 11, 30)),
            made_at=NOON,
            ledger=EVIL,
            rollups=rollups,
            figures=figures or rollup_figures(rollups),
            throttles=Throttles(days or {}, "" if days else "no such metric."),
            throttled=throttled,
        )
    )
    return page.to_html(drawn)


class Page(HTMLParser):
    """The tags and texts of a page, and every address that it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")
        ]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def page_text() -> str:
    rollups = [
        rollup(client=EVIL, model=EVIL, cost=Decimal("12.5"), input_tokens=Decimal(90), output_tokens=Decimal(10)),
        rollup("2026-11-02", "b", "free", cost=Decimal(0)),
        rollup("2026-11-03", "c", "unknown", unpriced=Decimal(1)),
    ]
    figures = rollup_figures([rollup(model=EVIL, t9=Decimal(1), d12=Decimal(1)), rollup(**HITS)])
    return report(rollups, figures, {date(2026, 11, 3): {"key_rpm": 7}}, drawn=svg)


def test_a_page_has_no_scripts_and_loads_nothing(page_text: str):
    page = Page(page_text)

    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert all(address.startswith("#") for address in page.addresses)
    assert "url(http" not in page_text
    assert "\x1b" not in page_text
    assert any("<script>alert(1)</script>" in text for text in page.texts)  # as text


def a_page(text: str) -> str:
    """A page that says the same at every place."""
    chart = Chart(lambda _: None, text, lambda _: None)
    filled = Section(text, text, chart, Table(text, [text, text], [[text, text]]), wide=True, missing=text)
    nothing = Section(text, text, None, Table(text, [text], []))
    return page.Page(text, text, [Tile(text, text, text)], [text], [filled, nothing], text).to_html()


def test_whatever_a_page_says_is_text_at_every_place():
    evil, plain = a_page(EVIL), a_page("plain")

    assert Page(evil).tags == Page(plain).tags
    assert sum(map(EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}").__eq__, Page(evil).texts)) == Page(
        plain
    ).texts.count("plain")
    assert "\x1b" not in evil


def test_the_page_and_the_pictures_have_the_same_colours():
    css = Path(page.__file__).with_name("page.css").read_text()

    light = css[: css.index("@media")]
    assert re.findall(r"--series-\d: (#\w+);", light) == list(SERIES)
    assert f"--text: {TEXT};" in light
    assert f"--grid: {GRID};" in light
    assert "--card: #fff;" in light


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    whole = "".join(each * 2 for each in digits) if len(digits) == 3 else digits
    parts = [int(whole[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_series_stands_out_from_a_light_page_and_from_a_dark_one():
    css = Path(page.__file__).with_name("page.css").read_text()
    palettes = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[:2]
    for palette in palettes:
        colours = dict(re.findall(r"--([\w-]+): (#\w+);", palette))
        series = [colour for name, colour in colours.items() if name.startswith("series")]
        assert len(series) == len(SERIES)
        assert [each for each in series if contrast(each, colours["card"]) < 3] == []


def test_letters_of_a_chart_are_never_smaller_than_eleven_pixels(page_text: str):
    css = Path(page.__file__).with_name("page.css").read_text()
    [narrow] = re.findall(r"@container \(max-width: (\d+)px\)", css)
    room_on_a_phone = 320 - 2 * (12 + 14 + 1)
    for kind, room in (("screen", float(narrow)), ("phone", room_on_a_phone)):
        drawings = re.findall(rf'<div class="{kind}">(<svg.*?</svg>)', page_text, re.DOTALL)
        assert len(drawings) >= 6
        for drawing in drawings:
            [width] = re.findall(r'viewBox="0 0 ([\d.]+) ', drawing)
            sizes = [float(size) for size in re.findall(r"(?:font-size|font): ([\d.]+)px", drawing)]
            assert min(sizes) * room / float(width) >= 10.99


def test_points_that_coincide_are_told_apart():
    figure: Any = importlib.import_module("matplotlib.figure").Figure()
    ranges_chart(["m"], [Series(name, [1.0]) for name in ("p50", "p90", "p99")], "s")(figure)
    points = [each for each in figure.axes[0].collections if each.get_label().startswith("p")]
    sizes = [float(each.get_sizes()[0]) for each in points]
    assert [one > 2 * other for one, other in pairwise(sizes)] == [True, True]
    assert [each.get_zorder() for each in points] == sorted(each.get_zorder() for each in points)
    assert len({str(each.get_paths()[0].vertices) for each in points}) == 3


def test_nothing_on_a_page_is_a_landmark_but_its_sections(page_text: str):
    assert 'role="region"' not in page_text
    names = re.findall(r'<h2 id="h\d+">(.*?)</h2>', page_text)
    assert len(names) == len(set(names)) == page_text.count("<section")


def test_every_chart_has_a_table_beside_it(page_text: str):
    sections = re.findall(r"<section.*?</section>", page_text, re.DOTALL)

    assert len(sections) == 7
    for section in sections:
        assert section.count('role="img" aria-label="') == section.count("<table>") == 1
        assert re.findall(r'<div class="(screen|phone)"><svg', section) == ["screen", "phone"]


def test_ids_are_unique_on_the_page(page_text: str):
    ids = re.findall(r'\bid="([^"]+)"', page_text)

    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page_text)) <= set(ids)


def test_charts_take_the_colours_of_the_page(page_text: str):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page_text, re.DOTALL))

    assert "var(--series-1)" in drawings
    assert not any(colour in drawings for colour in SERIES)


def test_a_page_says_what_it_does_not_know(page_text: str):
    text = " ".join(Page(page_text).texts)

    assert "1 request without a price, in no amount here: unknown on openai (1)." in text
    assert "2026-11-23 was not over when this page was made." in text
    assert re.search(r"unknown</th><td>unpriced</td><td>1</td><td>1</td>", page_text)
    assert re.search(r"free</th><td>\$0.00</td><td>1</td><td>0</td>", page_text)


def test_what_has_a_price_needs_no_column_for_what_has_none():
    headings = re.findall(r'<th scope="col">([^<]*)</th>', report([rollup(cost=Decimal(1))]))

    assert headings[:3] == ["Day", "Spend", "Requests"]
    assert "Without a price" not in headings


def test_throttles_are_told_in_words_and_in_order():
    days = {date(2026, 11, 3): {"upstream": 2, "key_rpm": 7}, date(2026, 11, 4): {"a_new_one": 1}}
    page = report([rollup()], days=days)

    [table] = re.findall(r'aria-label="Throttled requests">(.*?)</table>', page, re.DOTALL)
    assert re.findall(r'<th scope="col">([^<]*)</th>', table) == ["Day", "Requests a minute", "The server", "a_new_one"]
    assert "<span>Throttled</span><b>10</b>" in page


def test_a_page_about_nothing():
    text = " ".join(Page(report([])).texts)

    assert "no such metric." in text
    assert "$0" not in text.replace("$0.00", "", 3)  # of the savings


class CloudWatch:
    """Sums by metric and source, each on one day; the part of a client that a report needs."""

    def __init__(self, **sums: float) -> None:
        self.sums = sums
        self.asked: list[tuple[datetime, datetime]] = []

    def get_metric_statistics(self, **request: Any) -> Any:
        self.asked.append((request["StartTime"], request["EndTime"]))
        name = "_".join([request["MetricName"], *(each["Value"] for each in request["Dimensions"])])
        inside = request["StartTime"] <= NOON < request["EndTime"]
        return {"Datapoints": [{"Timestamp": NOON, "Sum": self.sums[name]}] if inside and name in self.sums else []}


YEARS = Period(date(2022, 1, 1), date(2026, 11, 30))


def test_who_was_throttled_most_is_on_the_page_by_name_limit_and_model() -> None:
    row = Throttled("web-<b>shop", "key_rpm", "openai", "gpt-5", 1234, 0.0, "key", "aaaa", "minute", "60")
    page = report([rollup()], throttled=[row])
    [table] = re.findall(r'aria-label="Throttled clients">(.*?)</table>', page, re.DOTALL)
    assert "web-&lt;b&gt;shop, gpt-5" in table
    assert all(text in table for text in ("Requests a minute", "60 requests a minute", "1,234"))
    assert "Throttled clients" not in report([rollup()])


def throttles(**sums: float) -> Throttles:
    fake: Any = CloudWatch(**sums)
    return read_throttles(lambda: fake, YEARS)


def test_throttles_of_every_source_are_asked_for():
    found = throttles(Throttles_key_rpm=7, Throttles_upstream=2, Throttles_key_budget=0)

    assert found == Throttles({NOON.date(): {"key_rpm": 7, "upstream": 2}})


def test_no_throttles_are_told_from_no_metrics():
    assert throttles(Requests=5) == Throttles({})
    assert "no metrics OpenAIProxy/openai-proxy of" in throttles().problem


def test_long_periods_are_asked_for_in_parts_that_cloudwatch_answers():
    fake: Any = CloudWatch(Requests=1)
    read_throttles(lambda: fake, YEARS)

    assert all((end - start).days <= 1440 for start, end in fake.asked)
    assert min(fake.asked)[0] == datetime(2022, 1, 1, tzinfo=UTC)
    assert max(end for _, end in fake.asked) == datetime(2026, 12, 1, tzinfo=UTC)


def test_a_cloudwatch_out_of_reach_is_a_note():
    def unreachable() -> Any:
        raise NoRegionError

    assert "could not be asked" in read_throttles(unreachable, YEARS).problem


def test_what_caches_saved_and_how_long_answers_took_are_sums_of_rollups():
    cached: Item = {"cached_requests": Decimal(2), "cached_tokens": Decimal(800_000), "cached_saved": Decimal("0.6")}
    figures = rollup_figures(
        [
            rollup(**HITS),
            rollup(day="2026-11-24", cache_hits=Decimal(1)),
            rollup(**cached, cached_unpriced=Decimal(1), d3=Decimal(1)),
            rollup(day="2026-11-24", cached_unpriced=Decimal(-1), requests=Decimal(3), d3=Decimal(1), d4=Decimal(2)),
            rollup(client="b", failed=Decimal(1)),
            rollup(model="n", t1=Decimal(1), d3=Decimal(1)),
        ]
    )

    savings = figures.savings
    assert (savings.hits, savings.hits_saved, savings.hits_unpriced) == (2, 3, 1)
    assert (savings.cached_requests, savings.cached_tokens) == (2, 800_000)
    assert (savings.cached_saved, savings.cached_unpriced) == (Decimal("0.6"), 1)
    assert figures.untimed == 0
    assert {model: (each.durations, each.first_chunks) for (_, model), each in figures.latencies.items()} == {
        "m": ({3: 2, 4: 2}, {}),
        "n": ({3: 1}, {1: 1}),
    }


def test_rollups_of_before_there_were_steps_of_times_are_named_and_shown():
    older = [rollup(requests=Decimal(12), failed=Decimal(2), cache_hits=Decimal(3)), rollup(d3=Decimal(1))]
    text = " ".join(Page(report(older)).texts)

    assert "Not in it: 7 requests from before the ledger counted times" in text
    assert "Not in it" not in report([rollup(d3=Decimal(1))])


def test_percentiles_on_the_page_are_those_of_the_counted_steps():
    steps: Item = {"t12": Decimal(80), "t15": Decimal(15), "t30": Decimal(5), "d30": Decimal(99), "d36": Decimal(1)}
    page = report([rollup(requests=Decimal(100), **steps)])

    [row] = re.findall(r">m on openai</th>(.*?)</tr>", page)
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells == ["100", "0.45 s", "0.89 s", "28.51 s", "28.51 s", "28.51 s", "28.51 s"]
    assert "<span>Time to first chunk</span><b>0.45 s</b><small>median; p90 0.89 s</small>" in page


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [(0, 50, None), (1, 99, 1), (100, 50, 50), (100, 99, 99), (10, 99, 10), (4, 50, 2)],
)
def test_percentiles_are_values_that_were_measured(count: int, percent: int, expected: float | None):
    assert percentile([float(n) for n in range(1, count + 1)], percent) == expected


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unpriced"),
        ("0", "$0.00"),
        ("0.0000001", "<$0.000001"),
        ("0.0012", "$0.0012"),
        ("0.05", "$0.05"),
        ("1234.567", "$1,234.57"),
    ],
)
def test_money_of_a_report(amount: str | None, text: str):
    assert money(None if amount is None else Decimal(amount)) == text


@pytest.mark.parametrize(
    ("days", "kind", "steps"), [(62, "day", 62), (63, "week", 10), (434, "week", 63), (800, "month", 27)]
)
def test_long_periods_are_shown_in_steps(days: int, kind: str, steps: int):
    all_days = Period(date(2025, 1, 1), date.fromordinal(date(2025, 1, 1).toordinal() + days - 1)).days

    found, labels, rows = in_steps([{"day": str(day)} for day in all_days], all_days)

    assert (found, len(labels)) == (kind, steps)
    assert {row["day"] for row in rows} == set(labels)


@pytest.mark.parametrize(
    "draw",
    [
        columns_chart(["a", "b"], [Series(EVIL, [1.0, 0.0]), Series("_", [2.0, 3.0])], "USD", EVIL),
        columns_chart(["a"], [Series("", [0.0])], "USD"),
        bars_chart([EVIL], [Series("", [0.0])], "USD", ["unpriced"]),
        ranges_chart([EVIL], [Series("p50", [1.0]), Series("p99", [2.0])], "s"),
    ],
)
def test_a_chart_is_a_picture_whatever_the_names(draw: Any, tmp_path: Path):
    file = tmp_path / "chart.png"

    write_png(draw, file)
    root = ET.fromstring(svg(draw, "x"))  # raises unless it is well-formed

    assert file.read_bytes().startswith(b"\x89PNG\r\n")
    assert root.tag.endswith("svg")
    assert svg(draw, "x") == svg(draw, "x")


def test_a_narrow_chart_has_as_many_labels_as_have_room():
    days = [f"11-{day}" for day in range(10, 22)]

    def labels(*, narrow: bool) -> list[str]:
        chart = columns_chart(days, [Series("m", [1.0] * len(days))], "USD", narrow=narrow)
        return re.findall(r">(11-\d\d)<", svg(chart, "x"))

    assert labels(narrow=False) == days
    assert labels(narrow=True) == days[::3]


def test_a_picture_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(ConsoleError, match="cannot be written"):
        write_png(bars_chart(["a"], [Series("", [1.0])], "USD", [""]), tmp_path / "absent" / "x.png")


def test_an_entry_that_the_response_cache_answered_says_so():
    shown = {"timestamp": "2026-11-24T02:12:18.188Z", "finish_reasons": ["stop"], "status_code": 200}
    asked, cached = (
        entries_table([entry(**shown), entry(**shown, cache_status="HIT")]).split("\n\n")[0].splitlines()[2:]
    )
    assert "(cache)" not in asked
    assert "stop (cache)" in cached
