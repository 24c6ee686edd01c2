"""The servers file: what it may say, and how each fault is named."""

from pathlib import Path

import pytest
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.servers import Server, ServersFileError, TokenReference, load_servers, parse_servers, warnings_of
from openai_proxy.servers.options import IGNORABLE, OPTIONS, Caching

GOOD = "a: {url: 'https://api.example/v1/', token: '${A_KEY}', model: m}\n"


def test_the_shipped_file_is_the_documented_example() -> None:
    servers = load_servers(Path(__file__).parents[3] / "openai_servers.yaml")
    assert list(servers) == [
        "proxy",
        "openai",
        "mistral",
        "replicate",
        "predibase",
        "ollama",
        "gemini",
        "bedrock",
        "azure",
        "anthropic",
    ]
    assert servers["predibase"].model == ""
    assert warnings_of(servers) == []


def test_each_setting_is_explained_in_the_file_and_on_its_page() -> None:
    root = Path(__file__).parents[3]
    page, file = (root / "docs/servers.md").read_text(), (root / "openai_servers.yaml").read_text()
    assert {key for key in OPTIONS if f"| `{key}" not in page and f", `{key}" not in page} == set()
    assert {key for key in OPTIONS if f"#   {key} " not in file} == set()


def test_one_server() -> None:
    expected = Server("a", "https://api.example/v1", TokenReference("environment", "A_KEY"), "m")
    assert parse_servers(GOOD) == {"a": expected}


@pytest.mark.parametrize(
    ("token", "reference"),
    [
        ("plain-token", TokenReference("literal", "plain-token")),
        ("", TokenReference("literal", "")),
        ("${NAME_1}", TokenReference("environment", "NAME_1")),
        ("secretsmanager:a/b", TokenReference("secretsmanager", "a/b")),
        ("secretsmanager:a/b#key", TokenReference("secretsmanager", "a/b", "key")),
        ("ssm:/a/b", TokenReference("ssm", "/a/b")),
    ],
)
def test_tokens(token: str, reference: TokenReference) -> None:
    assert parse_servers(f"a: {{url: 'https://x/v1', token: '{token}', model: ''}}")["a"].token == reference


def test_retries_and_fallbacks_may_be_given() -> None:
    servers = parse_servers(
        GOOD.replace("model: m", "model: m, retries: 0, fallbacks: [b]") + GOOD.replace("a:", "b:", 1)
    )
    assert (servers["a"].retries, servers["a"].fallbacks) == (0, ("b",))
    assert (servers["b"].retries, servers["b"].fallbacks) == (1, ())


B = GOOD.replace("a:", "b:", 1)
C = GOOD.replace("a:", "c:", 1)


def test_a_pool_has_members_and_neither_address_nor_token() -> None:
    servers = parse_servers(GOOD + "p: {pool: {b: 1000, a: 1}, model: m, fallbacks: [c]}\nq: {pool: {a: 2}}\n" + B + C)
    assert servers["p"] == Server(
        "p", "", TokenReference("literal", ""), "m", fallbacks=("c",), pool={"b": 1000, "a": 1}
    )
    assert (servers["q"].pool, servers["q"].model, servers["q"].fallbacks) == ({"a": 2}, "", ())
    assert servers["a"].pool == {}
    assert warnings_of(servers) == []


def test_a_pool_has_no_prices_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "servers.yaml").write_text(GOOD + "p: {pool: {a: 1}}\n")
    (tmp_path / "prices.yaml").write_text("servers:\n")
    assert load_price_book(tmp_path / "prices.yaml", tmp_path / "servers.yaml").servers == ("a",)


def test_a_literal_token_is_not_shown() -> None:
    assert "plain-token" not in repr(parse_servers("a: {url: 'https://x', token: plain-token, model: ''}"))


def test_warnings_name_server_key_and_remedy() -> None:
    servers = parse_servers(
        "a: {url: 'http://api.example', token: t, model: ''}\nb: {url: 'http://localhost:1', token: t, model: ''}"
    )
    assert [warning.partition(". Remedy")[0] for warning in warnings_of(servers, "f.yaml")] == [
        "f.yaml: server 'a', key 'token': the token stands in the file",
        "f.yaml: server 'a', key 'url': plain HTTP shows the token",
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["f.yaml", "no server"]),
        ("- a", ["f.yaml", "no server"]),
        ("a: [", ["f.yaml", "not valid YAML"]),
        (GOOD + GOOD, ["f.yaml", "'a'", "twice", "line 2"]),
        ("a: {url: x, url: y}", ["f.yaml", "'url'", "twice"]),
        ("A: {url: 'https://x', token: t, model: m}", ["server 'A'", "lower-case"]),
        ("v1: {url: 'https://x', token: t, model: m}", ["server 'v1'"]),
        ("a:", ["server 'a'", "no settings"]),
        ("a: {url: 'https://x', token: t}", ["server 'a'", "key 'model'", "missing", "add 'model:'"]),
        ("a: {url: 'https://x', tokens: t, model: m}", ["server 'a'", "key 'tokens'", "unknown", "url, token, model"]),
        ("a: {url: 'https://x', token: null, model: m}", ["server 'a'", "key 'token'", "not a text"]),
        ("a: {url: 'https://x', token: [t], model: m}", ["server 'a'", "key 'token'", "not a text"]),
        (GOOD.replace("m}", "m, retries: 6}"), ["server 'a'", "key 'retries'", "0 to 5"]),
        (GOOD.replace("m}", "m, retries: [1]}"), ["server 'a'", "key 'retries'"]),
        (GOOD.replace("m}", "m, fallbacks: b}"), ["server 'a'", "key 'fallbacks'", "not a list"]),
        (GOOD.replace("m}", "m, fallbacks: [[b]]}"), ["server 'a'", "key 'fallbacks'", "not a list"]),
        (GOOD.replace("m}", "m, fallbacks: [a]}"), ["server 'a'", "key 'fallbacks'", "other servers"]),
        (GOOD.replace("m}", "m, fallbacks: [b]}"), ["server 'a'", "key 'fallbacks'", "no server 'b'"]),
        ("p: {pool: {a: 1}}", ["server 'p'", "key 'pool'", "no server 'a'", "name one that the file lists"]),
        (GOOD + "p: {pool: {}}", ["server 'p'", "key 'pool'", "0 members", "32 servers"]),
        (GOOD + "p: {pool: }", ["server 'p'", "key 'pool'", "not a mapping"]),
        (GOOD + "p: {pool: [a]}", ["server 'p'", "key 'pool'", "not a mapping"]),
        (GOOD + "p: {pool: a}", ["server 'p'", "key 'pool'", "not a mapping"]),
        (GOOD + "p: {pool: {a: 1, a: 2}}", ["'a'", "twice"]),
        *[
            (f"{GOOD}p: {{pool: {{a: {weight}}}}}", ["server 'p'", "key 'pool'", "'a' has no usable", "1 to 1000"])
            for weight in ("0", "1001", "-1", "1.5", "1e2", "half", "''", "", "[1]", "\u0663", "9" * 5000)
        ],
        (
            GOOD + "p: {pool: {" + ", ".join(f"s{number}: 1" for number in range(33)) + "}}",
            ["server 'p'", "key 'pool'", "33 members"],
        ),
        (GOOD + "p: {pool: {p: 1}}", ["server 'p'", "key 'pool'", "the pool itself"]),
        (GOOD + "p: {pool: {q: 1}}\nq: {pool: {a: 1}}", ["server 'p'", "key 'pool'", "'q' is a pool", "its members"]),
        (GOOD + "p: {pool: {a: 1, b: 1}, fallbacks: [b, a]}", ["'a' is a member already"]),
        (GOOD + "p: {pool: {a: 1}, fallbacks: [a]}", ["server 'p'", "key 'fallbacks'", "'a' is a member already"]),
        (GOOD + "p: {pool: {a: 1}, fallbacks: [p]}", ["server 'p'", "key 'fallbacks'", "the server itself"]),
        (GOOD + "p: {pool: {a: 1}, fallbacks: [b]}", ["server 'p'", "key 'fallbacks'", "no server 'b'"]),
        (GOOD.replace("m}", "m, fallbacks: [p]}") + B + "p: {pool: {b: 1}}", ["server 'a'", "'p' is a pool"]),
        (GOOD + "p: {pool: {a: 1}, model: [m]}", ["server 'p'", "key 'model'", "not a text"]),
        (GOOD + "p: {pool: {a: 1}, url: 'https://x'}", ["server 'p'", "key 'url'", "beside `pool`", "remove it"]),
        (GOOD + "p: {pool: {a: 1}, retries: 1}", ["server 'p'", "key 'retries'", "beside `pool`", "to the members"]),
        (GOOD + "p: {pool: {a: 1}, weights: 1}", ["server 'p'", "key 'weights'", "beside `pool`"]),
        ("a: {url: ftp://x, token: t, model: m}", ["server 'a'", "key 'url'", "http"]),
        ("a: {url: 'https://u:p@x/v1', token: t, model: m}", ["server 'a'", "key 'url'"]),
        ("a: {url: 'https://x/v1?k=1', token: t, model: m}", ["server 'a'", "key 'url'"]),
        ("a: {url: 'https://x:port/v1', token: t, model: m}", ["server 'a'", "key 'url'"]),
        ("a: {url: 'https://x', token: '${1}', model: m}", ["server 'a'", "key 'token'", "environment variable"]),
        ("a: {url: 'https://x', token: 'secretsmanager:', model: m}", ["server 'a'", "key 'token'", "no secret"]),
        ("a: {url: 'https://x', token: 'ssm:', model: m}", ["server 'a'", "key 'token'", "no parameter"]),
        ('a: {url: "https://x", token: "a\\r\\nb", model: m}', ["server 'a'", "key 'token'", "header"]),
    ],
)
def test_every_fault_names_file_server_key_and_remedy(text: str, named: list[str]) -> None:
    with pytest.raises(ServersFileError) as fault:
        parse_servers(text, "f.yaml")
    said, _, remedy = str(fault.value).partition(". Remedy: ")
    assert said.startswith("f.yaml:")
    assert all(part in str(fault.value) for part in named), str(fault.value)
    assert remedy.split()[0] in REMEDIES
    assert remedy.endswith(".")


REMEDIES = {"add", "correct", "give", "name", "remove", "rename", "use", "write"}
"""How a remedy begins: with what the owner has to do."""


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServersFileError, match="cannot be read"):
        load_servers(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("{}", Caching(3600, None, False)),
        ("{ttl: 60}", Caching(60, None, False)),
        ("{ttl: 60, pool: all-of.us_1, any_temperature: true}", Caching(60, "all-of.us_1", True)),
        ("{ignore: [user, metadata, safety_identifier]}", Caching(ignore=frozenset(IGNORABLE))),
        ("{keep: [searches], ignore: []}", Caching(keep=frozenset({"searches"}))),
    ],
)
def test_a_server_may_have_its_answers_kept(written: str, read: Caching) -> None:
    assert parse_servers(GOOD)["a"].cache is None
    assert parse_servers(GOOD.replace("model: m", f"model: m, cache: {written}"))["a"].cache == read


@pytest.mark.parametrize(
    "written",
    [
        "true",
        "{ttl: 0}",
        "{ttl: 31536001}",
        "{ttl: soon}",
        "{pool: ''}",
        "{pool: 'a b'}",
        f"{{pool: {'x' * 65}}}",
        "{pool: [a]}",
        "{any_temperature: perhaps}",
        "{mode: on}",
        "{ignore: user}",
        "{ignore: [messages]}",
        "{ignore: [[user]]}",
        "{ignore: {user: true}}",
        "{keep: [everything]}",
        "{keep: stored}",
    ],
)
def test_a_cache_policy_that_is_not_understood_is_refused(written: str) -> None:
    with pytest.raises(ServersFileError, match=r"server 'a', key 'cache': .* Remedy: "):
        parse_servers(GOOD.replace("model: m", f"model: m, cache: {written}"))


@pytest.mark.parametrize(("written", "read"), [("true", True), ("false", False)])
def test_usage_is_asked_for_unless_the_file_says_no(written: str, read: bool) -> None:
    assert parse_servers(GOOD)["a"].include_usage is True
    assert parse_servers(GOOD.replace("model: m", f"model: m, include_usage: {written}"))["a"].include_usage is read


@pytest.mark.parametrize("written", ["no", "0", "False", "''", "[]", "{}", "never"])
def test_a_wish_for_usage_that_is_not_understood_is_refused(written: str) -> None:
    with pytest.raises(ServersFileError, match=r"server 'a', key 'include_usage': .* Remedy: write false "):
        parse_servers(GOOD.replace("model: m", f"model: m, include_usage: {written}"))


def test_of_the_shipped_servers_the_one_that_refuses_the_question_is_not_asked() -> None:
    servers = load_servers(Path(__file__).parents[3] / "openai_servers.yaml")
    assert {name for name, server in servers.items() if not server.include_usage} == {"mistral"}
