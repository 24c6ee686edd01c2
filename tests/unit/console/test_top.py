"""`top`: its figures, its screen in terminals of any size, and its keys."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.throttles.weather import Left, Weather

from bench.bill import READ_USD
from bench.units import units
from console.report.figures import SOURCES
from console.top.command import INTERVAL, Watch, run_live, toggled
from console.top.figures import (
    BUCKETS,
    DIMENSIONS,
    Dimension,
    Figures,
    Inference,
    Seen,
    Throttles,
    as_document,
    figures_of,
    inference_of,
)
from console.top.reading import PAGE, THROTTLES_EVERY
from console.top.screen import KEYS, screen

NOW = 1_795_000_000.0
WINDOW = 300
ALL_DIMENSIONS = [each for size in (1, 2, 3) for each in combinations(DIMENSIONS, size)]


def inference(**changes: Any) -> Inference:
    usual: dict[str, Any] = {
        "ended": NOW - 10,
        "client": "shop",
        "server": "openai",
        "model": "gpt-5",
        "failed": False,
        "cache_hit": False,
        "time_to_first_chunk": 0.5,
        "input_tokens": 100,
        "output_tokens": 30,
        "cost": Decimal("0.001"),
    }
    return Inference(**(usual | changes))


def figures(
    *inferences: Inference, by: tuple[Dimension, ...] = DIMENSIONS, throttles: Throttles | None = None
) -> Figures:
    return figures_of(Seen(inferences, throttles or Throttles(), NOW), by, WINDOW)


inferences = st.lists(
    st.builds(
        inference,
        ended=st.floats(NOW - 2 * WINDOW, NOW + 5),
        client=st.sampled_from(["shop", "lab", "a-client-with-a-rather-long-name-0123456789"]),
        server=st.sampled_from(["openai", "demo", "-"]),
        model=st.sampled_from(["gpt-5", "x" * 120, "\x1b[31mred", "-"]),
        failed=st.booleans(),
        cache_hit=st.booleans(),
        time_to_first_chunk=st.none() | st.floats(0, 900),
        output_tokens=st.integers(0, 10**9),
        cost=st.none() | st.decimals(0, 10**6, places=9),
    ),
    max_size=40,
)
throttles = st.builds(
    Throttles,
    by_source=st.dictionaries(st.sampled_from(["key_rpm", "upstream"]), st.integers(1, 10**6)),
    by_server=st.dictionaries(st.sampled_from(["openai", "demo"]), st.integers(1, 10**6)),
    problem=st.sampled_from(["", "CloudWatch could not be asked: \x1b[2Jno"]),
)


def test_sums_rates_and_percentiles_are_of_the_window():
    seen = figures(
        *(inference(time_to_first_chunk=number / 100) for number in range(1, 101)),
        inference(failed=True, time_to_first_chunk=70.0, cost=None),
        inference(cache_hit=True, time_to_first_chunk=0.001, cost=Decimal(0)),
        inference(ended=NOW - WINDOW - 1, time_to_first_chunk=80.0),
    )

    assert (seen.total.requests, seen.total.failed, seen.total.cache_hits, seen.total.unpriced) == (102, 1, 1, 1)
    assert seen.a_minute(seen.total.requests) == 20.4
    assert (seen.total.first_chunk(50), seen.total.first_chunk(95)) == (0.5, 0.95)
    assert seen.a_second(seen.total.output_tokens) == 10.2
    assert seen.total.cost == Decimal("0.1")


@given(inferences, st.sampled_from(ALL_DIMENSIONS))
def test_rows_and_buckets_hold_every_inference_of_the_window_once(seen: list[Inference], by: tuple[Dimension, ...]):
    shown = figures(*seen, by=by)

    wanted = [each for each in seen if NOW - each.ended < WINDOW]
    assert sum(sums.requests for _, sums in shown.rows) == shown.total.requests == sum(shown.buckets) == len(wanted)
    assert sum(sums.cost for _, sums in shown.rows) == shown.total.cost == sum(each.cost or 0 for each in wanted)
    assert {names for names, _ in shown.rows} == {tuple(getattr(each, name) for name in by) for each in wanted}
    assert [sums.requests for _, sums in shown.rows] == sorted((sums.requests for _, sums in shown.rows), reverse=True)
    assert len(shown.buckets) == BUCKETS


def test_the_screen():
    seen = figures(
        *[inference(ended=NOW - second) for second in range(0, 200, 2)],
        *[inference(client="lab", model="gpt-5-mini", failed=True, time_to_first_chunk=None)] * 3,
        inference(client="lab", cost=None, time_to_first_chunk=1.5),
        throttles=Throttles({"key_rpm": 10, "upstream": 2}, {"openai": 12}),
    )

    assert screen(seen, 110) == [
        "openai-proxy, last 5 minutes   11:06:40 UTC",
        "20.8 requests/min   101 completed, 3 failed, 0 from the cache   12 throttled: key_rpm 10, upstream 2",
        "TTFT 0.500 s p50, 0.500 s p95   10.4 tokens/s   0.103000 USD, 1.24 an hour, 1 unpriced",
        "▁▁▁▁▁▁▁▁▁▁▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅█▅ most 9",
        "",
        "CLIENT  SERVER  MODEL       REQ/MIN  FAILED  TTFT P50    P95  TOKENS/S  COST USD  CACHED",
        "----------------------------------------------------------------------------------------",
        "shop    openai  gpt-5          20.0       0     0.500  0.500      10.0  0.100000       0",
        "lab     openai  gpt-5-mini      0.6       3         -      -       0.3  0.003000       0",
        "lab     openai  gpt-5           0.2       0     1.500  1.500       0.1  unpriced       0",
    ]


def test_a_narrow_terminal_gets_what_matters_most():
    seen = figures(*[inference(client="a-long-client-name", model="a-very-long-model-name-2026")] * 5)

    lines = screen(seen, 50)
    assert lines[1:3] == ["1.0 requests/min", "5 completed, 0 failed, 0 from the cache"]
    assert lines[-1] == "a-long-cli…  openai  a-very-long…      1.0       0"


def test_throttles_by_server_have_a_column_where_servers_are_the_rows():
    lines = screen(figures(inference(), by=("server",), throttles=Throttles({"upstream": 7}, {"openai": 7})))

    assert lines[-3].split()[:4] == ["SERVER", "REQ/MIN", "FAILED", "THROTTLED"]
    assert lines[-1].split()[:4] == ["openai", "0.2", "0", "7"]


def test_throttles_of_the_busiest_have_a_column_where_clients_are_the_rows():
    throttles = Throttles({"key_rpm": 7}, by_client={"shop": 7})
    lines = screen(figures(inference(), inference(client="lab"), by=("client",), throttles=throttles))

    assert [line.split()[3] for line in (lines[-4], *lines[-2:])] == ["THROTTLED", "0", "7"]
    assert "THROTTLED" not in screen(figures(inference(), throttles=throttles))[-3]


def test_servers_that_refuse_or_soon_will_are_named():
    full = Weather("gemini", "flash", NOW, full_until=NOW + 21)
    going = Weather("openai", "gpt-5", NOW, {"requests": Left(120, 1000, None, 4.0)})
    seen = figures(inference(), throttles=Throttles(servers=[full, going]))
    lines = screen(seen)

    assert "gemini flash: refuses for 21 s" in lines
    assert "openai gpt-5: 120 of 1,000 requests left, gone in 30 s" in lines
    [first, second] = as_document(seen)["limits_of_servers"]
    assert (first["server"], first["resource"], second["remaining"], second["seconds"]) == ("gemini", None, 120, 30.0)


def test_nothing_is_said_to_be_nothing():
    lines = screen(figures(inference(ended=NOW - 301), throttles=Throttles({"key_budget": 3})), 120)

    assert lines[1] == "0.0 requests/min   0 completed, 0 failed, 0 from the cache   3 throttled: key_budget 3"
    assert lines[-2] == "Nothing ended in the last 5 minutes."


@given(inferences, throttles, st.sampled_from(ALL_DIMENSIONS), st.integers(1, 160), st.integers(1, 60), st.booleans())
def test_the_screen_fits_any_terminal_and_commands_none(
    seen: list[Inference],
    throttled: Throttles,
    by: tuple[Dimension, ...],
    width: int,
    height: int,
    blocks: bool,
):
    lines = screen(figures(*seen, by=by, throttles=throttled), width, height, problem="not of now", blocks=blocks)

    assert all(len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    assert blocks or all(line.isascii() for line in lines)
    head = next((number for number, line in enumerate(lines) if not line), len(lines))
    assert len(lines) <= max(height, head + 5)


def test_rows_without_room_are_counted():
    lines = screen(figures(*[inference(model=f"m{number}") for number in range(30)]), 100, 12)

    assert len(lines) == 12
    assert lines[-1] == "and 26 more"


@given(inferences, throttles)
def test_the_document_says_what_the_screen_says(seen: list[Inference], throttled: Throttles):
    shown = figures(*seen, by=("server",), throttles=throttled)
    document = as_document(shown)

    assert document["requests"] == sum(row["requests"] for row in document["rows"])
    assert Decimal(document["cost"] or 0) == shown.total.cost
    assert (document["cost"] is None) == bool(shown.total.unpriced and not shown.total.cost)
    assert (document["throttles"] is None) == bool(throttled.problem)
    assert [row["server"] for row in document["rows"]] == [names[0] for names, _ in shown.rows]


@pytest.mark.parametrize(
    ("by", "key", "then"),
    [
        (DIMENSIONS, "s", ("client", "model")),
        (("model",), "c", ("client", "model")),
        (("model",), "m", ("model",)),
        (("server",), "x", ("server",)),
        (("server",), "", ("server",)),
    ],
)
def test_keys_choose_the_rows(by: tuple[Dimension, ...], key: str, then: tuple[Dimension, ...]):
    assert toggled(by, key) == then


class Source:
    """Inferences and throttles as they are read: one more each time, or an error."""

    servers = frozenset[str]()

    def __init__(self) -> None:
        self.looks = 0
        self.fails = False

    def read(self, now: float) -> list[Inference]:
        self.looks += 1
        if self.fails:
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        return [inference(ended=now)] * self.looks

    def is_incomplete(self, now: float) -> bool:
        return False


class Quiet:
    def read(self, now: float, servers: frozenset[str]) -> Throttles:
        return Throttles()


class Keyboard:
    """A terminal whose user presses these keys, each at its second; between them time passes as `top` lets it."""

    def __init__(self, source: Source, keys: Sequence[tuple[float, str]]) -> None:
        self.now = 0.0
        self.screens: list[list[str]] = []
        self._source = source
        self._keys = list(keys)

    size = (100, 24)
    blocks = True

    def draw(self, lines: list[str]) -> None:
        assert len(lines) <= 24
        self.screens.append(lines)

    def key(self, seconds: float) -> str:
        assert 0 <= seconds <= 0.5
        at, key = self._keys[0]
        if at > self.now + seconds:
            self.now += seconds
            return ""
        self._keys.pop(0)
        self.now = max(at, self.now)
        if key == "!":
            self._source.fails = not self._source.fails
        return key


def played(*keys: tuple[float, str]) -> tuple[Keyboard, Source]:
    source: Any = Source()
    keyboard = Keyboard(source, keys)
    watch = Watch(source, Quiet(), WINDOW, clock=lambda: NOW + keyboard.now)  # pyright: ignore[reportArgumentType]
    watch.look()
    run_live(watch, keyboard, ("client",), 2, monotonic=lambda: keyboard.now)
    return keyboard, source


def test_it_looks_at_every_interval_and_ends_with_q():
    keyboard, source = played((7.9, "q"))

    assert source.looks == 1 + 3
    assert keyboard.screens[0][1].startswith("0.2 requests/min")
    assert keyboard.screens[-1][1].startswith("0.8 requests/min")
    assert all(lines[-1] == KEYS for lines in keyboard.screens)


def test_keys_act_at_once_and_without_a_look():
    keyboard, source = played((0.1, "m"), (0.2, "c"), (0.3, "q"))

    assert source.looks == 1
    assert [lines[5].split()[:2] for lines in keyboard.screens] == [
        ["CLIENT", "REQ/MIN"],
        ["CLIENT", "MODEL"],
        ["MODEL", "REQ/MIN"],
    ]


def test_a_look_that_fails_leaves_the_last_figures_and_says_so():
    keyboard, _ = played((1.0, "!"), (3.0, "!"), (5.0, "q"))

    troubled = [any(line.startswith("not of now: Could not connect") for line in lines) for lines in keyboard.screens]
    assert any(troubled)
    assert not troubled[0]
    assert not troubled[-1]
    assert all("requests/min" in lines[1] for lines in keyboard.screens)


@pytest.mark.parametrize(
    ("entry", "server", "model"),
    [
        ({"operation": "models", "path": "/models"}, "(proxy)", "(model list)"),
        ({"operation": "models", "path": "/models/gpt-5", "server": "openai"}, "openai", "(model list)"),
        ({"operation": "other", "path": "/receipts/01M8"}, "(proxy)", "(receipt)"),
        ({"operation": "files", "path": "/files", "server": "openai"}, "openai", "(files)"),
        ({"operation": "other", "outcome": "failed", "error_source": "client"}, "(proxy)", "(refused)"),
        ({"operation": "chat", "outcome": "failed", "error_source": "proxy"}, "(proxy)", "(failed)"),
        ({"operation": "chat", "outcome": "failed", "server": "openai", "model": "m"}, "openai", "m"),
    ],
)
def test_what_has_no_model_is_named_by_what_it_was(entry: dict[str, Any], server: str, model: str):
    usual = {"timestamp": "2026-11-26T05:00:00Z", "client_id": "shop", "outcome": "completed"}
    seen = inference_of(usual | {"input_tokens": Decimal(0), "output_tokens": Decimal(0), "cost": Decimal(0)} | entry)

    assert (seen.server, seen.model) == (server, model)


@pytest.mark.parametrize(
    ("others", "cell", "head", "document"),
    [
        ([], "unpriced", "cost unknown, 1 unpriced", None),
        ([Decimal(0)], "unpriced", "cost unknown, 1 unpriced", None),
        ([Decimal("0.003")], "0.003000+", "0.003000 USD, 0.036000 an hour, 1 unpriced", "0.003"),
    ],
)
def test_what_nobody_knows_the_price_of_is_never_free(
    others: list[Decimal], cell: str, head: str, document: str | None
):
    seen = figures(inference(cost=None), *(inference(cost=cost) for cost in others))

    lines = screen(seen, 120)
    assert cell in lines[-1].split()
    assert lines[2].endswith(head)
    assert as_document(seen)["cost"] == as_document(seen)["rows"][0]["cost"] == document


def test_the_page_says_what_an_hour_of_it_costs() -> None:
    """Of 50 rollups of half a KB, ten busy clients and three servers; DynamoDB bills 4 KB of a consistent read."""
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
    entries = -(-PAGE * units(1, 1).entry_bytes // 4096)
    reads = 3600 / INTERVAL * (50 * 512 / 4096 / 2 + 10 * entries) * READ_USD
    metrics = 3600 / THROTTLES_EVERY * (len(SOURCES) + 3 + 10) * 0.01 / 1000
    said = f"${reads + metrics:.2f} an hour: ${reads:.2f} for reads of DynamoDB"
    assert f"{said} ($0.125 for a million units), and ${metrics:.2f} for CloudWatch ($0.01 for 1,000 metrics)" in page
