"""`openai-proxy prices`: checks, shows and refreshes the price book."""

import argparse
import json
import resource
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.pricing.list_prices import PRICE_LIST_FILE, PriceList, load_price_list

from console.errors import ConsoleError
from console.prices.commands import add_prices
from console.prices.conversion import price_list_of, to_text
from console.prices.source import installed, read_file

Run = Callable[..., str]
ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns what it printed; warnings come after a line of their own."""
    parser = argparse.ArgumentParser()
    add_prices(parser)

    def run(*arguments: str) -> str:
        options = parser.parse_args(arguments)
        assert options.run(options, {}) == 0
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    servers = {"openai": "https://api.openai.com/v1", "mine": "https://m.example/v1", "rented": "https://r.example/v1"}
    text = "\n".join(f"{name}: {{url: '{url}', token: '', model: ''}}" for name, url in servers.items())
    (tmp_path / "servers.yaml").write_text(text)
    (tmp_path / "prices.yaml").write_text(
        """
        servers:
          openai:
            multiply: 0.5
            models: {gpt-mine: {like: gpt-5}, gpt-lost: {like: gpt-404}}
          mine:
            models:
              m*:
                - {input: 1, cached_input: 0.25, output: 4, audio_minute: 0.01, above: {input_tokens: 1000,
                   input: 2, cached_input: 0.5, output: 8, audio_minute: 0.01}}
                - {effective_from: 2026-12-01T12:00Z, free: true}
              n: {multiply: 2}
          typo: {free: true}
        """
    )
    return [str(tmp_path / "prices.yaml"), "--servers-file", str(tmp_path / "servers.yaml")]


def test_the_files_of_the_repository_are_fit(run: Run):
    out = run("check", str(ROOT / "prices.yaml"), "--servers-file", str(ROOT / "openai_servers.yaml"))

    assert "warning" not in out
    assert {"openai", "mistral", "gemini", "ollama"} <= {line.split(" ")[0] for line in out.splitlines()}


def test_check_says_where_prices_come_from_and_warns_of_what_is_hardly_meant(run: Run, files: list[str]):
    lines = run("check", *files).splitlines()

    assert [line.split() for line in lines[2:6]] == [
        ["mine", "-", "n", "m*"],
        ["openai", "openai", f"({load_price_list().providers['openai']}", "models)", "gpt-mine", "gpt-lost", "*"],
        ["rented", "-", "-", "unpriced"],
        ["typo", "-", "*"],
    ]
    assert lines[7].startswith(f"Price book: genai-prices-{load_price_list().version}+")
    assert [line.split(": ", 2)[2].split(". ")[0] for line in lines[8:]] == [
        "servers.openai.models.gpt-lost.like: openai has no listed model 'gpt-404'",
        "servers.mine: `n` refers to list prices, which it has not",
        "servers.typo: the servers file has no such server",
    ]
    assert all(line.startswith("warning: ") and ". Remedy: " in line for line in lines[8:])


def test_check_refuses_a_faulty_file(run: Run, files: list[str]):
    Path(files[0]).write_text("servers: {mine: {models: {m: {input: ten}}}}")

    with pytest.raises(ConsoleError, match=r"prices\.yaml: servers\.mine\.models\.m\.input: 'ten' is .* Remedy"):
        run("check", *files)


def test_show_a_model(run: Run, files: list[str]):
    at = ["--at", "2026-11-23"]

    text = run("show", "--server", "mine", "--model", "m1", *at, "--prices", *files).splitlines()
    [quoted] = json.loads(run("show", "--server", "mine", "--model", "m1", "--json", *at, "--prices", *files))

    assert text[2].split() == [
        "mine",
        "m1",
        "1",
        "0.25",
        "4",
        "audio_hour",
        "0.6,",
        "above",
        "1,000:",
        "2/8",
        "own:mine/m*",
    ]
    assert text[4].startswith("USD per million tokens at 2026-11-23 00:00 UTC. Price book: genai-prices-")
    assert quoted.pop("price_version").startswith("genai-prices-")
    assert quoted == {
        "server": "mine",
        "model": "m1",
        "rule": "own:mine/m*",
        "free": False,
        "usd": {"input": "1", "cached_input": "0.25", "output": "4", "audio_hour": "0.6"},
        "above": [
            {
                "input_tokens": 1000,
                "usd": {"input": "2", "cached_input": "0.5", "output": "8", "audio_hour": "0.6"},
            }
        ],
        "uncounted": [],
        "least_seconds": None,
    }


def test_show_a_model_at_another_time_and_on_every_server(run: Run, files: list[str]):
    later = run("show", "--model", "m1", "--at", "2026-12-01T13:00+01:00", "--prices", *files).splitlines()
    every = run("show", "--model", "gpt-mine", "--prices", *files).splitlines()

    assert [line.split() for line in later[2:4]] == [
        ["mine", "m1", "free", "free", "free", "own:mine/m*"],
        ["typo", "m1", "free", "free", "free", "own:typo/*"],
    ]
    listed = load_price_list().find("openai", "gpt-5")
    assert listed is not None
    assert [line.split()[0] for line in every[2:4]] == ["openai", "typo"]
    assert every[2].endswith("own:openai/gpt-mine 1x list:openai/gpt-5")


def test_show_a_server_lists_what_it_is_known_to_have(run: Run, files: list[str]):
    rows = json.loads(run("show", "--server", "openai", "--json", "--prices", *files))

    listed = {row["model"]: row for row in rows}
    assert len(listed) > 50
    assert listed["gpt-mine"]["rule"].endswith("1x list:openai/gpt-5")
    assert Decimal(listed["gpt-5"]["usd"]["input"]) * 2 == Decimal(listed["gpt-mine"]["usd"]["input"])
    assert listed["gpt-image-1"]["usd"]["image_input"] == "5"  # half of the list
    assert listed["tts-1"]["uncounted"]


def test_show_says_what_is_not_counted_and_what_the_least_is(run: Run):
    files = [str(ROOT / "prices.yaml"), "--servers-file", str(ROOT / "openai_servers.yaml")]

    text = run("show", "--server", "openai", "--model", "tts-1", "--prices", *files)

    assert "unpriced: input_mchars not counted" in text


def test_show_the_price_of_a_service_tier(run: Run):
    files = [str(ROOT / "prices.yaml"), "--servers-file", str(ROOT / "openai_servers.yaml")]
    asked = ["--server", "openai", "--model", "gpt-5", "--json", "--at", "2026-11-23", "--prices", *files]

    [standard], [dear] = (json.loads(run("show", *tier, *asked)) for tier in ([], ["--tier", "priority"]))

    assert (dear["rule"], Decimal(dear["usd"]["output"])) == (
        "list:openai/gpt-5 priority",
        2 * Decimal(standard["usd"]["output"]),
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--server", "mine", "--tier", "prioritee"], "Service tier 'prioritee' is not known. Did you mean priority"),
        (["--server", "minne"], "Server 'minne' is not known. Did you mean mine"),
        (["--tier", "priority"], "--tier and --at need --server or --model"),
        (["--at", "2026-07-01"], "--tier and --at need --server or --model"),
    ],
)
def test_show_takes_only_names_that_something_knows(run: Run, files: list[str], asked: list[str], told: str):
    with pytest.raises(ConsoleError, match="Remedy: ") as refused:
        run("show", *asked, "--prices", *files)
    assert told in str(refused.value)


def test_show_says_which_tier_has_no_price(run: Run, files: list[str]):
    with pytest.raises(ConsoleError, match="There is no price for 'm' of the service tier 'fast' on 'mine'"):
        run("show", "--server", "mine", "--model", "m", "--tier", "fast", "--prices", *files)


def test_show_knows_a_tier_that_only_the_owner_prices(run: Run, files: list[str]):
    prices = Path(files[0])
    text = "servers: {mine: {models: {m: {input: 1, output: 2, tiers: {turbo: {input: 3, output: 4}}}}}}"
    prices.write_text(text)
    [found] = json.loads(run("show", "--model", "m", "--tier", "turbo", "--json", "--prices", *files))
    assert found["usd"] == {"input": "3", "output": "4"}


@pytest.mark.parametrize("way", [[], ["--json"]])
def test_show_everything(run: Run, files: list[str], way: list[str]):
    out = run("show", *way, "--prices", *files)

    if way:
        document = json.loads(out)
        assert document["servers"] == {"mine": None, "openai": "openai", "rented": None, "typo": None}
        assert document["providers"] == load_price_list().providers
    else:
        assert f"openrouter ({load_price_list().providers['openrouter']})" in out


@pytest.mark.parametrize("asked", [["--server", "rented"], ["--server", "mine", "--model", "x"]])
def test_what_has_no_price_is_said_with_a_remedy(run: Run, files: list[str], asked: list[str]):
    with pytest.raises(ConsoleError, match=r"There is no price .* Remedy: .* recorded as unpriced"):
        run("show", *asked, "--prices", *files)


PYTHON = '''
"""Data."""
import datetime
from .types import *
providers: list[Provider] = [
    Provider(
        id='acme',
        api_pattern='https://api\\\\.acme\\\\.example',
        models=[
            ModelInfo(
                id='old',
                match=ClauseOr(or_=[ClauseEquals(equals='old'), ClauseStartsWith(starts_with='old-')]),
                prices=[
                    ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('1'), output_mtok=Decimal('2'))),
                    ConditionalPrice(
                        constraint=StartDateConstraint(start_date=datetime.date(2026, 7, 1)),
                        prices=ModelPrice(
                            input_mtok=TieredPrices(
                                base=Decimal('0.30000000000000004'), tiers=[Tier(start=1000, price=Decimal('6'))]
                            ),
                            output_video_mtok=Decimal('3'),
                            web_searches_kcount=Decimal('10'),
                        ),
                    ),
                    ConditionalPrice(
                        constraint=TimeOfDateConstraint(
                            start_time=datetime.time(16, 30, tzinfo=datetime.UTC),
                            end_time=datetime.time(0, 30, tzinfo=datetime.UTC),
                        ),
                        prices=ModelPrice(requests_kcount=Decimal('5'), audio_hours=Decimal('0.36')),
                    ),
                ],
            ),
            ModelInfo(
                id='tiered',
                match=ClauseEquals(equals='tiered'),
                prices=ModelPrice(input_mtok=Decimal('4'), output_mtok=Decimal('8')),
                price_variants=[
                    PriceVariant(
                        when={'processing': 'batch'},
                        prices=ModelPrice(
                            input_mtok=Decimal('2'), cache_write_1h_mtok=Decimal('3'), output_mtok=Decimal('4')
                        ),
                        constraint=StartDateConstraint(start_date=datetime.date(2026, 7, 1)),
                    ),
                    PriceVariant(when={'speed': 'fast'}, prices=ModelPrice(input_mtok=Decimal('9'))),
                    PriceVariant(when={'service_tier': 'Priority'}, prices=ModelPrice(input_mtok=Decimal('7'))),
                    PriceVariant(when={'search_type': 'web'}, prices=ModelPrice(input_mtok=Decimal('1'))),
                ],
            ),
            ModelInfo(id='x:free', match=ClauseEquals(equals='x:free'), prices=ModelPrice()),
            ModelInfo(id='unknown', match=ClauseEquals(equals='unknown'), prices=ModelPrice()),
        ],
    )
]
'''
SEARCHES = {"web_search": "0.01"}
MODELS: list[dict[str, Any]] = [
    {
        "id": "old",
        "match": {"or": [{"equals": "old"}, {"starts_with": "old-"}]},
        "prices": [
            {"input": "1", "output": "2"},
            {
                "from": "2026-07-01",
                "input": ["0.3", [1000, "6"]],
                "units": SEARCHES,
                "uncounted": ["output_video_mtok"],
            },
            {"hours": ["16:30", "00:30"], "request": "0.005", "audio_hour": "0.36"},
        ],
    },
    {
        "id": "tiered",
        "match": {"equals": "tiered"},
        "prices": [{"input": "4", "output": "8"}],
        "tiers": {
            "batch": [{"from": "2026-07-01", "input": "2", "cache_write_1h": "3", "output": "4"}],
            "fast": [{"input": "9"}],
            "priority": [{"input": "7"}],
        },
    },
    {"id": "x:free", "match": {"equals": "x:free"}, "prices": [{"free": True}]},
    {"id": "unknown", "match": {"equals": "unknown"}, "prices": []},
]


def wheel(folder: Path, version: str = "9.8.7", data: str = PYTHON) -> Path:
    """A wheel of a genai-prices with one provider."""
    info = f"genai_prices-{version}.dist-info"
    path = folder / f"genai_prices-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("genai_prices/data.py", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: genai-prices\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        archive.writestr(f"{info}/licenses/LICENSE", "A licence")
    return path


def test_refresh_from_a_wheel_reads_its_data_and_does_not_run_it(run: Run, tmp_path: Path):
    target = tmp_path / "prices.json"
    dangerous = PYTHON + f"\nopen({str(tmp_path / 'run')!r}, 'w')\n"

    out = run("refresh", "--from", str(wheel(tmp_path, data=dangerous)), "--into", str(target))

    document = json.loads(target.read_text())
    assert document == {
        "source": "genai-prices",
        "version": "9.8.7",
        "licence": "A licence",
        "standard_tiers": ["auto", "batch", "default", "flex", "on_demand", "scale", "standard"],
        "free_units": ["mcp", "tool_search", "web_fetch"],
        "providers": {"acme": {"url": "https://api\\.acme\\.example", "models": MODELS}},
    }
    assert not (tmp_path / "run").exists()
    assert f"genai-prices {load_price_list().version} > 9.8.7\nadded: 4\n  acme/old\n" in out
    assert "and " in out
    assert "costs reprice" in out


def test_refresh_tells_what_changed_and_a_dry_run_writes_nothing(run: Run, tmp_path: Path):
    target = tmp_path / "prices.json"
    run("refresh", "--from", str(wheel(tmp_path)), "--into", str(target))
    before = target.read_text()
    dearer = PYTHON.replace("output_mtok=Decimal('2')", "output_mtok=Decimal('3')").replace("'unknown'", "'new'")

    out = run("refresh", "--from", str(wheel(tmp_path, "9.9.0", dearer)), "--into", str(target), "--dry-run")

    assert out == (
        "genai-prices 9.8.7 > 9.9.0\nadded: 1\n  acme/new\nremoved: 1\n  acme/unknown\n"
        "changed: 1\n  acme/old\nNothing was written.\n"
    )
    assert target.read_text() == before


def test_refresh_downloads_with_pip_from_wherever_that_is_set_up_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wheel(tmp_path)
    wheel(tmp_path, "9.9.0")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    target = str(tmp_path / "prices.json")

    assert " > 9.9.0\n" in run("refresh", "--into", target)
    assert "9.9.0 > 9.8.7\n" in run("refresh", "--version", "9.8.7", "--into", target)
    with pytest.raises(ConsoleError, match=r"pip cannot download genai-prices==1\.2\.3"):
        run("refresh", "--version", "1.2.3", "--into", target)


def test_a_list_that_cannot_be_written_leaves_the_one_of_before(run: Run, tmp_path: Path):
    target = tmp_path / "prices.json"
    run("refresh", "--from", str(wheel(tmp_path)), "--into", str(target))
    before = target.read_bytes()
    source = str(wheel(tmp_path, "9.9.0"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))  # as a full disk does
    try:
        with pytest.raises(ConsoleError, match=r"prices\.json: cannot be written"):
            run("refresh", "--from", source, "--into", str(target))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_refresh_does_not_write_over_what_is_no_list(run: Run, tmp_path: Path):
    (notes := tmp_path / "notes.json").write_text('{"a": 1}')
    with pytest.raises(ConsoleError, match=r"notes\.json: is no list of prices\. Remedy: name another file"):
        run("refresh", "--from", str(wheel(tmp_path)), "--into", str(notes))
    assert notes.read_text() == '{"a": 1}'


def test_refresh_from_the_repositorys_data_file(run: Run, tmp_path: Path):
    def plain(value: Any) -> Any:
        return float(value) if isinstance(value, Decimal) else str(value)

    providers = read_file(wheel(tmp_path), None).providers
    source = tmp_path / "data.json"
    source.write_text(json.dumps(providers, default=plain))
    target = tmp_path / "prices.json"

    run("refresh", "--from", str(source), "--version", "0a1b2c3", "--into", str(target))

    document = json.loads(target.read_text())
    assert document["version"] == "0a1b2c3"
    assert document["providers"]["acme"]["models"] == MODELS
    assert document["licence"] == json.loads(PRICE_LIST_FILE.read_text())["licence"]
    with pytest.raises(ConsoleError, match="does not say its version"):
        run("refresh", "--from", str(source), "--into", str(target))


def test_the_list_that_ships_is_what_the_installed_package_becomes_if_it_is_of_that_version():
    shipped, package = json.loads(PRICE_LIST_FILE.read_text()), installed()
    document = price_list_of(package, shipped["licence"])

    assert json.loads(to_text(document)) == document
    assert package.version != shipped["version"] or PRICE_LIST_FILE.read_text() == to_text(document)


def with_price(price: object) -> str:
    model = {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": price}}
    return json.dumps([{"id": "a", "api_pattern": "", "models": [model]}])


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("absent.json", None, "cannot be read"),
        ("broken.json", "{", "holds no prices"),
        ("object.json", "{}", "is no list of providers"),
        ("other.json", '[{"id": "acme"}]', "is not in the form that this command reads"),
        ("negative.json", with_price(-1), "is not in the form that this command reads"),
        ("text.json", with_price("cheap"), "is not in the form that this command reads"),
    ],
)
def test_what_is_no_source_of_prices_is_refused(run: Run, tmp_path: Path, name: str, content: str | None, problem: str):
    if content is not None:
        (tmp_path / name).write_text(content)
    target = tmp_path / "prices.json"

    with pytest.raises(ConsoleError, match=f"{problem}.* Remedy: "):
        run("refresh", "--from", str(tmp_path / name), "--version", "1", "--into", str(target))

    assert not target.exists()


@pytest.mark.parametrize(
    "data", ["x = 1", "providers: list = [Provider(id=open('x'))]", "providers: list = [f()[0]]", "("]
)
def test_a_wheel_with_other_data_is_refused(run: Run, tmp_path: Path, data: str):
    with pytest.raises(ConsoleError, match=r"Remedy: "):
        run("refresh", "--from", str(wheel(tmp_path, data=data)), "--into", str(tmp_path / "prices.json"))


def test_a_rule_for_names_that_nobody_knows_is_an_error():
    models = [{"id": "m", "match": {"like": "m"}}]
    prices = PriceList({"source": "s", "version": "1", "providers": {"a": {"url": "", "models": models}}})

    with pytest.raises(ValueError, match="'like' is no way to match a name"):
        prices.find("a", "m")
