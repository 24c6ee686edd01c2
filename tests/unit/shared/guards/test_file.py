"""`guards.yaml`: what it says, and that what it cannot say is refused with file, guard, key and remedy."""

import contextlib
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.guards.file import GuardsFileError, load_guards, parse_guards
from openai_proxy.guards.rules import Counting, Doing, Guard, Hours, Spending
from openai_proxy.yaml_files import as_built

WHOLE = """
guards:
  same-request: {rule: repeat, times: 20, within: 1m, act: lower, limits: {rpm: 5, parallel: 1}, for: 1h}
  bad-token: {rule: refused, times: 10, within: 30s, statuses: [401, 403], act: notify, for: 2m, clients: [web-*]}
  night: {rule: hours, models: [gpt-5.4*], days: [monday, sunday], from: "07:00", to: "19:30", act: cache_only, for: 1h}
  dear: {rule: spend, factor: 2.5, at_least: 0.10, act: disable, for: 1d}
"""
GUARDS = (
    Guard("same-request", Counting("repeat", 20, 60), Doing("lower", 3600, {"rpm": 5, "parallel": 1})),
    Guard("bad-token", Counting("refused", 10, 30, frozenset({401, 403})), Doing("notify", 120, {}), ("web-*",)),
    Guard(
        "night",
        Counting("hours", 1, 60, hours=Hours(frozenset({0, 6}), 420, 1170)),
        Doing("cache_only", 3600, {}),
        None,
        ("gpt-5.4*",),
    ),
    Guard("dear", Spending(Decimal("2.5"), Decimal("0.10")), Doing("disable", 86400, {})),
)


def test_every_rule_and_every_act() -> None:
    assert parse_guards(WHOLE) == GUARDS
    assert parse_guards(as_built(WHOLE)) == GUARDS
    assert [guard.kind for guard in GUARDS] == ["repeat", "refused", "hours", "spend"]


@pytest.mark.parametrize("text", ["", "# guards:\n#   a: b\n", "---\n"])
def test_a_file_that_says_nothing_guards_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "guards.yaml"
    assert load_guards(file) == ()
    file.write_text(text)
    assert load_guards(file) == ()


@pytest.mark.parametrize(
    ("rest", "key", "remedy"),
    [
        ("act: notify", "rule", "write one of repeat, refused, hours, spend"),
        ("rule: repeat, times: 20, act: notify", "for", "write a number of s, m, h or d"),
        ("rule: repeat, times: 20, act: explode, for: 1h", "act", "write one of notify, lower, cache_only, disable"),
        ("rule: repeat, times: 1, act: notify, for: 1h", "times", "write a whole number from 2 to 200"),
        ("rule: repeat, times: 201, act: notify, for: 1h", "times", "write a whole number from 2 to 200"),
        ("rule: repeat, times: '2.5', act: notify, for: 1h", "times", "write a whole number"),
        ("rule: repeat, times: -5, act: notify, for: 1h", "times", "write a whole number"),
        ("rule: repeat, times: [5], act: notify, for: 1h", "times", "write a whole number"),
        ("rule: repeat, times: ٣, act: notify, for: 1h", "times", "write a whole number"),
        ("rule: repeat, times: 5, within: 61m, act: notify, for: 61m", "within", "write a number of s, m, h or d"),
        ("rule: repeat, times: 5, within: 0s, act: notify, for: 1h", "within", "write a number of s, m, h or d"),
        ("rule: repeat, times: 5, act: notify, for: 31d", "for", "write a number of s, m, h or d"),
        ("rule: repeat, times: 5, act: notify, for: 90s", "for", "write a multiple of `within`"),
        ("rule: spend, factor: 10, at_least: 5, act: notify, for: 90m", "for", "of the rule spend, of an hour"),
        ("rule: spend, factor: 1, at_least: 5, act: notify, for: 1h", "factor", "write factor: 10"),
        ("rule: spend, factor: nan, at_least: 5, act: notify, for: 1h", "factor", "write a plain number"),
        ("rule: spend, factor: 1e3, at_least: 5, act: notify, for: 1h", "factor", "write a plain number"),
        ("rule: spend, factor: 10, at_least: 0, act: notify, for: 1h", "at_least", "at_least: 5"),
        ("rule: spend, factor: 10, at_least: 5, act: notify, for: 1h, models: [a]", "models", "use only rule, act"),
        ("rule: repeat, times: 5, act: lower, for: 1h", "limits", "write at least one of rpm, tpm, parallel"),
        ("rule: repeat, times: 5, act: lower, limits: {rpm: 0}, for: 1h", "rpm", "write a whole number from 1"),
        ("rule: repeat, times: 5, act: lower, limits: {budget_day: 1}, for: 1h", "budget_day", "use only rpm, tpm"),
        ("rule: repeat, times: 5, act: disable, limits: {rpm: 1}, for: 1h", "limits", "write act: lower"),
        ("rule: repeat, times: 5, act: notify, for: 1h, client: web", "client", "use only rule"),
        ("rule: repeat, times: 5, act: notify, for: 1h, clients: []", "clients", "write names"),
        ("rule: repeat, times: 5, act: notify, for: 1h, clients: ['*b']", "clients", "write names"),
        ('rule: hours, from: "07:00", to: "19:00", act: notify, for: 1h', "models", "name the models"),
        ('rule: hours, models: [a], from: "07:00", to: "24:00", act: notify, for: 1h', "to", 'write to: "07:00"'),
        ('rule: hours, models: [a], from: "07:00", to: "07:00", act: notify, for: 1h', "to", "leave the guard out"),
        ("rule: hours, models: [a], from: 420, to: '19:00', act: notify, for: 1h", "from", 'write from: "07:00"'),
        ("rule: hours, models: [a], days: [mon], from: '07:00', to: '19:00', act: notify, for: 1h", "days", "monday"),
        ("rule: refused, times: 5, statuses: [200], act: notify, for: 1h", "statuses", "write statuses from 400"),
        ("rule: refused, times: 5, statuses: [], act: notify, for: 1h", "statuses", "write statuses from 400"),
        ("rule: repeat, rule: spend, factor: 2, at_least: 5, act: notify, for: 1h", "rule", "remove line"),
    ],
)
def test_a_fault_is_told_with_file_key_and_remedy(rest: str, key: str, remedy: str) -> None:
    with pytest.raises(GuardsFileError) as refused:
        parse_guards(f"guards: {{it: {{{rest}}}}}", "my/guards.yaml")
    message = str(refused.value)
    assert message.startswith("my/guards.yaml:")
    assert f"'{key}'" in message
    assert "Remedy: " in message
    assert remedy in message.partition("Remedy: ")[2]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "text",
        "guards: []",
        "guards: {}",
        "guards:",
        "other: {}",
        "guards: {it: null}",
        "guards: {Big: {rule: repeat}}",
        "guards: {'': {rule: repeat}}",
        "guards: {? [a] : b}",
        "guards: {a: {rule: repeat",
        "guards: &a {a: *a}",
        "guards: " + "{a: " * 40 + "1" + "}" * 40,
    ],
)
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(GuardsFileError, match=r"(?s)^guards\.yaml:?.*Remedy: "):
        parse_guards(text)


def test_there_are_twenty_guards_and_no_more() -> None:
    def written(number: int) -> str:
        each = (f"g{place}: {{rule: repeat, times: 5, act: notify, for: 1h}}" for place in range(number))
        return f"guards: {{{', '.join(each)}}}"

    assert len(parse_guards(written(20))) == 20
    with pytest.raises(GuardsFileError) as refused:
        parse_guards(written(21))
    assert str(refused.value) == "guards.yaml: key 'guards': more than 20 guards. Remedy: leave some out."


@given(st.text(max_size=200))
def test_whatever_a_guard_says_it_is_read_or_refused(text: str) -> None:
    for whole in (text, f"guards: {{it: {text}}}", f"guards: {{it: {{rule: {text}}}}}"):
        with contextlib.suppress(GuardsFileError):
            parse_guards(whole)


def test_what_is_just_within_the_bounds_is_taken() -> None:
    said = {
        "a" * 32: "rule: repeat, times: 2, within: 1s, act: lower, limits: {rpm: 1, tpm: 1000000000}, for: 30d",
        "b": "rule: repeat, times: 200, within: 1h, act: lower, limits: {parallel: 1000000000}, for: 60m",
        "c": "rule: refused, times: 2, statuses: [400, 599], act: notify, for: 1m",
        "d": f"rule: refused, times: 2, statuses: [{', '.join(map(str, range(400, 420)))}], act: notify, for: 1m",
        "e": "rule: spend, factor: 1.000001, at_least: 0.000001, act: notify, for: 1h",
        "f": f"rule: repeat, times: 2, act: notify, for: 1m, clients: [{', '.join(f'c{n}' for n in range(100))}]",
        "g": "rule: hours, times: 1, models: [a], from: '00:00', to: '23:59', act: notify, for: 1m",
    }
    more = {f"h{number}": said["c"] for number in range(20 - len(said))}
    a, b, c, d, e, f, g, *rest = parse_guards(
        "guards:\n" + "".join(f"  {name}: {{{text}}}\n" for name, text in {**said, **more}.items())
    )
    assert a == Guard("a" * 32, Counting("repeat", 2, 1), Doing("lower", 2592000, {"rpm": 1, "tpm": 10**9}))
    assert b == Guard("b", Counting("repeat", 200, 3600), Doing("lower", 3600, {"parallel": 10**9}))
    assert c.rule == Counting("refused", 2, 60, frozenset({400, 599}))
    assert d.rule == Counting("refused", 2, 60, frozenset(range(400, 420)))
    assert e.rule == Spending(Decimal("1.000001"), Decimal("0.000001"))
    assert f.clients == tuple(f"c{n}" for n in range(100))
    assert g.rule == Counting("hours", 1, 60, hours=Hours(frozenset(range(7)), 0, 1439))
    assert [each.name for each in rest] == list(more)
    assert a.clients is a.models is None


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("rule: repeat, times: 2, within: 1s, act: notify, for: 2592001s", "key 'for': longer than 720 h"),
        ("rule: repeat, times: 2, within: 3601s, act: notify, for: 3601s", "key 'within': longer than 1 h"),
        (
            f"rule: repeat, times: 2, act: notify, for: 1m, clients: [{', '.join(f'c{n}' for n in range(101))}]",
            "key 'clients': not 1 to 100 texts",
        ),
        ("rule: repeat, times: 2, act: notify, for: 10000000s", "key 'for': not understood"),
    ],
)
def test_what_is_just_beyond_a_bound_is_refused(rest: str, told: str) -> None:
    with pytest.raises(GuardsFileError) as refused:
        parse_guards(f"guards: {{it: {{{rest}}}}}")
    assert f"guards.yaml: guard 'it', {told}. Remedy: " in str(refused.value)


def test_without_statuses_the_usual_one_is_meant_and_without_a_window_a_minute() -> None:
    (found,) = parse_guards("guards: {it: {rule: refused, times: 5, act: notify, for: 1m}}")
    assert found == Guard("it", Counting("refused", 5, 60, frozenset({401})), Doing("notify", 60, {}))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "guards.yaml"
    file.write_bytes(b"guards: \xff")
    with pytest.raises(GuardsFileError, match="not UTF-8"):
        load_guards(file)
