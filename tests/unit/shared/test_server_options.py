"""Options of a server at their bounds, and what is said of each that cannot be used, to the letter."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.servers import Server, ServersFileError, TokenReference, parse_servers
from openai_proxy.servers.options import OPTIONS, Breaker, Caching, OptionError, Timers, weights_of
from openai_proxy.servers.sign_in import Auth

LONGEST_KEPT = 31_536_000

POOL = "write {name: weight, ...}, 1 to 32 servers, each with a whole number from 1 to 1000"
ALIASES = "write {alias: model, ...}; an alias has no '/' and at most 128 characters"
TIMEOUTS = f"write {{{', '.join(f'{name}: seconds' for name in Timers._fields)}}}, any of them"
SECONDS = "write seconds, above 0 and up to 900"
BREAKER = "write {failures: 5, seconds: 20}; no failures to switch it off"
CACHE = "write {ttl: 3600, pool: name, any_temperature: true, ignore: [user], keep: [searches]}, any of them"
KEPT = f"write a whole number from 1 to {LONGEST_KEPT}"


def read(option: str, written: str) -> Server:
    return parse_servers(f"a: {{url: 'https://x/v1', token: '${{K}}', model: m, {option}: {written}}}", "s.yaml")["a"]


@pytest.mark.parametrize(
    ("option", "written", "problem", "remedy"),
    [
        ("retries", "6", "not a usable number", "write a whole number from 0 to 5"),
        ("retries", "-1", "not a usable number", "write a whole number from 0 to 5"),
        ("retries", "٣", "not a usable number", "write a whole number from 0 to 5"),
        ("fallbacks", "b", "not a list of other servers", "write [name, other-name]"),
        ("aliases", "[a]", "not a mapping", ALIASES),
        ("aliases", "{a/b: m}", "'a/b' cannot be an alias", ALIASES),
        ("aliases", f"{{{'a' * 129}: m}}", f"'{'a' * 128}' cannot be an alias", ALIASES),
        ("aliases", "{a: ''}", "'a' stands for no model", ALIASES),
        ("timeouts", "5", "not a mapping", TIMEOUTS),
        ("timeouts", "{read: 5}", "there is no 'read'", TIMEOUTS),
        ("timeouts", "{write: 5, idle: 1, read: 5}", "there is no 'write'", TIMEOUTS),
        ("timeouts", "{idle: 0}", "'0' is not a usable time", SECONDS),
        ("timeouts", "{idle: -1}", "'-1' is not a usable time", SECONDS),
        ("timeouts", "{idle: 1_5}", "'1_5' is not a usable time", SECONDS),
        ("timeouts", "{idle: \u0665}", "'\u0665' is not a usable time", SECONDS),
        ("timeouts", "{idle: 900.1}", "'900.1' is not a usable time", SECONDS),
        ("timeouts", "{idle: soon}", "'soon' is not a usable time", SECONDS),
        ("timeouts", "{idle: .nan}", "'.nan' is not a usable time", SECONDS),
        ("breaker", "on", "not a mapping", BREAKER),
        ("breaker", "{failures: 5, times: 3}", "has another key than failures and seconds", BREAKER),
        ("breaker", "{failures: 1001}", "not a usable number", "write a whole number from 0 to 1000"),
        ("breaker", "{seconds: 0}", "'0' is not a usable time", SECONDS),
        ("cache", "{ttl: 0}", "not a usable number", KEPT),
        ("cache", f"{{ttl: {LONGEST_KEPT + 1}}}", "not a usable number", KEPT),
        ("cache", "{age: 5}", "there is no 'age'", CACHE),
        ("cache", "{zeal: 1, ttl: 5, age: 5}", "there is no 'age'", CACHE),
        ("cache", "{any_temperature: 1}", "any_temperature is neither true nor false", CACHE),
        (
            *("cache", f"{{pool: {'p' * 65}}}", "not a usable pool"),
            "name it with up to 64 letters, digits, '_', '.' and '-'",
        ),
        (
            *("cache", "{ignore: [who]}", "ignore is not a list of known words"),
            "write ignore: [user, safety_identifier, metadata], or fewer",
        ),
    ],
)
def test_a_fault_names_file_server_key_problem_and_remedy(option: str, written: str, problem: str, remedy: str) -> None:
    with pytest.raises(ServersFileError) as refused:
        read(option, written)
    assert str(refused.value) == f"s.yaml: server 'a', key '{option}': {problem}. Remedy: {remedy}."


@pytest.mark.parametrize(
    ("option", "written", "field", "value"),
    [
        ("retries", "0", "retries", 0),
        ("retries", "5", "retries", 5),
        ("aliases", f"{{{'a' * 128}: m}}", "aliases", {"a" * 128: "m"}),
        (
            *("timeouts", "{connect: 1, first_byte: 2.5, idle: 900, keep_alive: 0.001, total: 4}", "timeouts"),
            Timers(1.0, 2.5, 900.0, 0.001, 4.0),
        ),
        ("timeouts", "{idle: 7}", "timeouts", Timers(idle=7.0)),
        ("breaker", "{failures: 0}", "breaker", Breaker(0, 20.0)),
        ("breaker", "{failures: 1000, seconds: 900}", "breaker", Breaker(1000, 900.0)),
        ("breaker", "{}", "breaker", Breaker(5, 20.0)),
        ("include_usage", "true", "include_usage", True),
        ("include_usage", "false", "include_usage", False),
        ("resumable", "true", "resumable", True),
        ("resumable", "false", "resumable", False),
        ("on_disconnect", "finish", "on_disconnect", "finish"),
        ("on_disconnect", "stop", "on_disconnect", "stop"),
        ("cache", "{}", "cache", Caching(3600, None, any_temperature=False)),
        ("cache", f"{{ttl: 1, pool: {'p' * 64}}}", "cache", Caching(1, "p" * 64)),
        ("cache", f"{{ttl: {LONGEST_KEPT}, any_temperature: false}}", "cache", Caching(LONGEST_KEPT)),
        (
            *("cache", "{any_temperature: true, ignore: [user, safety_identifier, metadata]}", "cache"),
            Caching(any_temperature=True, ignore=frozenset({"user", "safety_identifier", "metadata"})),
        ),
        (
            *("cache", "{keep: [stored, searches, references, private], ignore: []}", "cache"),
            Caching(keep=frozenset({"stored", "searches", "references", "private"})),
        ),
    ],
)
def test_what_is_just_within_the_bounds_is_taken(option: str, written: str, field: str, value: Any) -> None:
    assert getattr(read(option, written), field) == value


@given(number=st.integers(0, 40), weight=st.integers(-1, 1002))
def test_a_pool_has_one_to_32_members_of_one_to_1000(number: int, weight: int) -> None:
    written = {f"m{place}": str(weight) for place in range(number)}
    if 1 <= number <= 32 and 1 <= weight <= 1000:
        assert weights_of(written) == dict.fromkeys(written, weight)
        return
    with pytest.raises(OptionError) as refused:
        weights_of(written)
    problem = "'m0' has no usable weight" if 1 <= number <= 32 else f"has {number} members"
    assert (refused.value.key, refused.value.problem, refused.value.remedy) == ("pool", problem, POOL)


def test_a_server_without_options_signs_in_with_a_bearer_token() -> None:
    [server] = parse_servers("a: {url: 'https://x/v1', token: t, model: m}").values()
    assert server.auth == Auth(header="authorization", prefix="Bearer ", service="", region="")


@pytest.mark.parametrize("code", [*range(40), *range(120, 260)])
def test_a_token_is_of_what_a_header_can_carry(code: int) -> None:
    text = f'a: {{url: "https://x/v1", token: "t\\u{code:04x}t", model: m}}'
    if 33 <= code <= 126 and chr(code) not in '"\\':
        assert parse_servers(text)["a"].token == TokenReference("literal", f"t{chr(code)}t")
    elif chr(code) != '"':
        with pytest.raises(ServersFileError, match="key 'token': "):
            parse_servers(text)


@pytest.mark.parametrize("shape", ["[1]", "[]", "{}", "{a: 1}", "[[1]]", "null", "''", "word", "1e400", "nan"])
@pytest.mark.parametrize(
    "place",
    [
        *(f"{option}: %s" for option in OPTIONS),
        "pool: {b: %s}",
        "pool: %s",
        "aliases: {b: %s}",
        *(f"timeouts: {{{name}: %s}}" for name in Timers._fields),
        *(f"breaker: {{{name}: %s}}" for name in Breaker._fields),
        *(f"cache: {{{name}: %s}}" for name in Caching._fields),
    ],
)
def test_a_value_of_whatever_shape_is_taken_or_refused_with_file_and_remedy(place: str, shape: str) -> None:
    text, refused = f"a: {{url: 'https://x/v1', token: '', model: m, {place % shape}}}", ""
    try:
        parse_servers(text, "s.yaml")
    except ServersFileError as error:
        refused = str(error)
    assert not refused or (refused.startswith("s.yaml: server 'a'") and "Remedy: " in refused)
