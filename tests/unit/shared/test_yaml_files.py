"""The owner's YAML files, whatever their bytes are: read, or refused with file and remedy, and never guessed."""

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openai_proxy.pricing.price_book import PriceBookError, load_price_book
from openai_proxy.servers import ServersFileError, load_servers, parse_servers
from openai_proxy.yaml_files import BUILT, YamlFileError, as_built, is_number, plain_values, read_text

SERVERS = "a: {url: 'https://api.example/v1', token: '${A_KEY}', model: größe}\n"
ROOT = Path(__file__).parents[3]
IDENTITY = "issuers: [{issuer: 'https://a.example', audience: b, plan: free}]\nplans: {free: {rpm: 10}}\n"
PRICES = "servers: {a: {models: {größe: {input: 1}}}}\n"
NINE = ", ".join(["*{}"] * 9)
BOMB = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{NINE.replace('{}', before)}]\n" for before, name in pairwise("abcdefghi")
)

Written = Callable[[str], bytes]
ODD: dict[str, Written] = {
    "Latin-1": lambda text: text.encode("latin-1"),
    "Windows-1252": lambda text: f"# €\n{text}".encode("cp1252"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 of the other order": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "NUL at the end": lambda text: text.encode() + b"\0",
    "NUL at the beginning": lambda text: b"\0" + text.encode(),
    "half a character": lambda text: text.encode() + b"# \xed\xa0\x80",
    "an escape": lambda text: b"# \x1b[2J\n" + text.encode(),
    "packed": lambda text: gzip.compress(text.encode()),
    "two documents": lambda text: f"{text}---\n{text}".encode(),
    "a tab": lambda text: b"a:\n\tb: c",
    "lists without end": lambda text: b"a: " + b"[" * 1500,
    "deep lists": lambda text: b"a: " + b"[" * 1500 + b"]" * 1500,
    "deep mappings": lambda text: b"{a: " * 1500 + b"}" * 1500,
    "deep items": lambda text: b"- " * 1500,
    "an alias of itself": lambda text: b"a: &a [*a]",
    "an alias of nothing": lambda text: b"a: *b",
    "aliases of aliases": lambda text: BOMB.encode(),
    "a list as a key": lambda text: b"? [a, b]\n: c\n" + text.encode(),
    "a mapping as a key": lambda text: b"? {a: b}\n: c\n" + text.encode(),
    "a list as a key within": lambda text: text.replace("{", "{[x]: 1, ", 1).encode(),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_yaml_in_utf_8_is_refused_with_file_and_remedy(tmp_path: Path, name: str) -> None:
    good, odd = tmp_path / "good.yaml", tmp_path / "odd.yaml"
    good.write_text(SERVERS, encoding="utf-8")
    for text, error, load in loaders(good):
        odd.write_bytes(ODD[name](text))
        with pytest.raises(error) as fault:
            load(odd)
        assert str(fault.value).startswith(f"{odd}:")
        assert "Remedy: " in str(fault.value)
        assert len(str(fault.value)) < 500


def loaders(good: Path) -> list[tuple[str, type[ValueError], Callable[[Path], Any]]]:
    """Each kind of file, its error, and how it is loaded, with a good servers file beside."""
    return [
        (SERVERS, ServersFileError, load_servers),
        (PRICES, PriceBookError, lambda path: load_price_book(path, good)),
    ]


@pytest.mark.parametrize(
    "begin", [b"", b"\xef\xbb\xbf", b"# \xc3\xbc\r\n", b"---\n"], ids=["plain", "BOM", "CRLF", "---"]
)
def test_what_editors_add_is_no_fault(tmp_path: Path, begin: bytes) -> None:
    servers, prices = tmp_path / "servers.yaml", tmp_path / "prices.yaml"
    servers.write_bytes(begin + SERVERS.encode())
    prices.write_bytes(begin + PRICES.encode())
    assert load_servers(servers)["a"].model == "größe"
    assert load_price_book(prices, servers).rules["a"].rules[0].pattern == "größe"


def test_the_remedy_for_another_encoding_is_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes("# ü".encode("latin-1"))
    with pytest.raises(
        ServersFileError, match=r"f\.yaml: cannot be read: byte 3 is not UTF-8 .* Remedy: save .* as UTF-8"
    ):
        load_servers(tmp_path / "f.yaml")


def test_a_file_that_is_not_there_is_told_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(ServersFileError) as refused:
        load_servers(tmp_path / "f.yaml")
    remedy = "Remedy: put a file there that may be read."
    assert str(refused.value) == f"{tmp_path / 'f.yaml'}: cannot be read (No such file or directory). {remedy}"


@pytest.mark.parametrize(("before", "line"), [("", 1), ("b: 1\n", 2), ("# b\n\n", 3)])
@pytest.mark.parametrize(("name", "column"), [("a", 4), ("'a b'", 8)])
def test_what_is_no_yaml_is_told_by_its_place(before: str, line: int, name: str, column: int) -> None:
    with pytest.raises(YamlFileError) as refused:
        plain_values(f"{before}{name}: *nobody")
    place = f"line {line}, column {column}"
    assert refused.value.problem.startswith(f"is not valid YAML: {place}: found undefined alias")
    assert refused.value.remedy == "correct that place"


def message_of(error: type[ValueError], load: Callable[[], Any]) -> str | None:
    """What `load` fails with, if it does; other errors are raised."""
    try:
        load()
    except error as fault:
        return str(fault)
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 90), st.integers(0, 3))
@example(b"\xff", 0, 0)
def test_no_bytes_whatever_make_a_traceback(tmp_path: Path, piece: bytes, place: int, gone: int) -> None:
    good, odd = tmp_path / "good.yaml", tmp_path / "odd.yaml"
    good.write_text(SERVERS, encoding="utf-8")
    for text, error, load in loaders(good):
        data = text.encode()
        odd.write_bytes(data[:place] + piece + data[place + gone :])
        said = message_of(error, lambda load=load: load(odd))
        assert said is None or (said.startswith(f"{odd}:") and "Remedy: " in said)


@given(st.integers(1, 60), st.sampled_from([("[", "]"), ("{a: ", "}")]))
@example(31, ("{a: ", "}"))
def test_values_may_be_nested_as_deep_as_any_file_needs_and_no_deeper(depth: int, ends: tuple[str, str]) -> None:
    begin, end = ends
    inner = "" if begin == "[" else "{}"
    depth += begin != "["
    text = "a: " + begin * (depth - len(inner) // 2) + inner + end * (depth - len(inner) // 2)
    if depth <= 32:
        assert isinstance(plain_values(text), dict)
    else:
        with pytest.raises(YamlFileError, match="nested more than 32 deep"):
            plain_values(text)


def test_the_text_of_a_file_is_without_the_mark_of_its_editor(tmp_path: Path) -> None:
    for text in ("a: 1", as_built("a: 1"), "", "\ufeffa: 1"):
        (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_text(tmp_path / "f.yaml") == text


@pytest.mark.parametrize(
    ("text", "path", "name"),
    [
        ("Xa: 1\nXa: 2", "Xa", "Xa"),
        (".a: 1\n.a: 2", ".a", ".a"),
        ("b: {Xa: 1, Xa: 2}", "b.Xa", "Xa"),
        ("b: [c, {a: 1, a: 2}]", "b[1].a", "a"),
        ("b: {c: {? [x] : 1}}", "b.c", "b.c"),
        ("? [x]\n: 1", "", ""),
    ],
)
def test_a_fault_says_where_its_key_stands(text: str, path: str, name: str) -> None:
    with pytest.raises(YamlFileError) as refused:
        plain_values(text)
    assert (refused.value.path, refused.value.name) == (path, name)


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "{a: " * 5000 + "}" * 5000, "- " * 200_000, "[" * 200_000])
def test_what_is_nested_deeper_than_anybody_can_read_is_told_as_well(text: str) -> None:
    with pytest.raises(YamlFileError) as refused:
        plain_values(text)
    told = "has values that are nested more than 32 deep"
    assert (refused.value.problem, refused.value.remedy) == (told, "write them flat")


def test_what_an_alias_repeats_is_bounded_and_a_few_are_no_fault() -> None:
    assert plain_values("a: &x {b: c}\nd: *x") == {"a": {"b": "c"}, "d": {"b": "c"}}
    row = f"a: &a [{', '.join('x' * 999)}]\nb: [{'*a, ' * 98}]\n"
    most = plain_values(f"{row}c: [{', '.join('x' * 997)}]")  # one for the whole, 99 times 1,000 and one, and 998
    assert [len(most[name]) for name in "abc"] == [999, 98, 997]
    with pytest.raises(YamlFileError, match="more than 100000 values"):
        plain_values(f"{row}c: [{', '.join('x' * 998)}]")


GOOD = "a: {url: 'https://x/v1', token: t, model: m, aliases: %s}"
NO_ALIASES = (
    *("[a]", "a", "''", "7", "{a: [b]}", "{a: {b: c}}", "{a: }", "{a: null}", "{a: ''}", "{'': b}", "{a/b: c}"),
    *(
        "{? [x] : b}",
        "{? {x: y} : b}",
        "{[x]: b}",
        '{a: "x\\ny"}',
        '{"a\\nb": c}',
        "{a: ' '}",
        "{' a': b}",
        "{a: 'b '}",
    ),
    *(f"{{{'x' * 129}: b}}", '{"\\u202e": b}', '{a: "\\0"}', "{a: b, a: c}", "{a: *x}", '{"\\ud800": b}'),
)


@pytest.mark.parametrize("aliases", NO_ALIASES, ids=range(len(NO_ALIASES)))
def test_what_is_no_alias_is_refused(aliases: str) -> None:
    with pytest.raises(ServersFileError, match=r"(?s)f\.yaml: .*Remedy: "):
        parse_servers(GOOD % aliases, "f.yaml")


@pytest.mark.parametrize(
    ("aliases", "read"),
    [
        ("{}", {}),
        ("null", {}),
        ("{a: b, c: d e}", {"a": "b", "c": "d e"}),
        (f"{{{'x' * 128}: b/c}}", {"x" * 128: "b/c"}),
    ],
    ids=["none", "null", "two", "long"],
)
def test_aliases_are_read_as_they_are_written(aliases: str, read: dict[str, str]) -> None:
    assert parse_servers(GOOD % aliases)["a"].aliases == read


TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\x85\u2028\u2029"), max_size=20
)


def written(values: Any) -> str:
    """Values as YAML in one line."""
    if isinstance(values, dict):
        return f"{{{', '.join(f'{written(name)}: {written(value)}' for name, value in values.items())}}}"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(values, list):
        return f"[{', '.join(map(written, values))}]"  # pyright: ignore[reportUnknownArgumentType]
    return "null" if values is None else f"'{values.replace(chr(39), chr(39) * 2)}'"


@given(
    st.recursive(
        TEXTS | st.none(), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
    )
)
def test_what_a_build_makes_of_a_file_says_the_same(values: Any) -> None:
    built = as_built(written(values))
    assert plain_values(built) == plain_values(written(values)) == values
    assert as_built(built) == built


@pytest.mark.parametrize("name", ["openai_servers.yaml", "prices.yaml", "identity.yaml"])
def test_the_files_that_ship_say_the_same_as_built(name: str) -> None:
    text = read_text(ROOT / name)
    assert as_built(text).startswith(BUILT)
    assert plain_values(as_built(text)) == plain_values(text)


@pytest.mark.parametrize("cut", ["{", '{"a": ', "[" * 100_000, "null null", "\ud800"])
def test_what_no_build_has_made_is_refused(cut: str) -> None:
    with pytest.raises(YamlFileError, match="not what the build made"):
        plain_values(BUILT + cut)


def test_a_built_file_is_read_without_pyyaml(tmp_path: Path) -> None:
    (tmp_path / "servers.yaml").write_text(as_built(SERVERS), encoding="utf-8")
    (tmp_path / "identity.yaml").write_text(as_built(IDENTITY), encoding="utf-8")
    script = (
        "import sys; from pathlib import Path; from openai_proxy.servers import load_servers; "
        "from openai_proxy.identity import load_identity; "
        "print(*load_servers(Path('servers.yaml')), *load_identity(Path('identity.yaml')).plans, 'yaml' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "shared")}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["a", "free", "False"]


NUMBERS = ["0", "2", "0.25", ".5", "5.", "-1", "+1", "5e-7", "1E3", "9" * 40]
NO_NUMBERS = [
    *("", ".", "1_5", "\u0665", "1,5", " 1", "1 ", "1\n", "0x1", "nan", "Infinity", "1e", "1e1000", "9" * 41),
    *(None, ["1"], 1),
]


@pytest.mark.parametrize(
    ("value", "is_one"), [*((each, True) for each in NUMBERS), *((each, False) for each in NO_NUMBERS)]
)
def test_a_number_is_written_as_people_write_it(value: Any, is_one: bool) -> None:
    assert is_number(value) == is_one
