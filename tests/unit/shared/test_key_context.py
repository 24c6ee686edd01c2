"""What the authorizer writes of a key is what the proxy reads, at both doors alike."""

from decimal import Decimal
from typing import Any

import pytest
from authorizer.client_key import client_key_of
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.key_context import ClientKey, KeyCache
from openai_proxy.key_limits import Limits
from openai_proxy.limits import WEEKDAYS

KEY_HASH = "0123456789ab" + "f" * 52
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True)
MODELS = st.from_regex(r"[A-Za-z0-9./:_-]{1,10}\*?", fullmatch=True)
LABELS = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
COUNTS = st.integers(1, 10**9).map(Decimal)
MONEY = st.decimals("0.000001", "1000000000", places=6)
TEXTS = st.from_regex(r"[!-~äöü€]{1,20}", fullmatch=True)
ITEMS = st.fixed_dictionaries(
    {
        "key_hash": st.just(KEY_HASH),
        "client_id": LABELS.filter(lambda name: name != "anonymous" and not name.startswith("token.")),
        "name": TEXTS,
        "enabled": st.just(True),
    },
    optional={
        "owner": TEXTS,
        "tags": st.dictionaries(LABELS, st.from_regex(r"[ -~é]{0,20}", fullmatch=True), min_size=1, max_size=3),
        "expires_at": st.integers(1, 253_402_300_799).map(Decimal),
        "servers": st.lists(NAMES, min_size=1, max_size=3),
        "models": st.lists(MODELS, min_size=1, max_size=3),
        "limits_id": st.just("ba9876543210"),
        "rpm": COUNTS,
        "tpm": COUNTS,
        "parallel": COUNTS,
        "budget_day": MONEY,
        "budget_month": MONEY,
        "budget_week": MONEY,
        "budget_total": MONEY,
        "reset_weekday": st.sampled_from(WEEKDAYS),
        "reset_day": st.integers(1, 28).map(Decimal),
        "cache": st.just({"mode": "off"})
        | st.fixed_dictionaries(
            {"mode": st.just("on"), "ttl": st.integers(1, 31_536_000).map(Decimal)}, optional={"pool": LABELS}
        ),
        "log_content": st.booleans(),
        "resumable": st.booleans(),
        "on_disconnect": st.sampled_from(["finish", "stop"]),
    },
)


@given(ITEMS)
def test_the_proxy_reads_what_the_authorizer_has_written(item: dict[str, Any]):
    key = client_key_of(item)
    context = key.to_context()

    assert all(isinstance(text, str) for text in context.values()), "API Gateway passes nothing else on"
    assert ClientKey.from_context(context) == key


@given(ITEMS)
def test_every_context_has_the_same_names(item: dict[str, Any]):
    assert client_key_of(item).to_context().keys() == ClientKey("a").to_context().keys()


def test_the_limits_of_rotated_keys_are_those_of_their_line():
    item = {"key_hash": KEY_HASH, "client_id": "a", "name": "A", "enabled": True, "limits_id": "ba9876543210"}

    assert client_key_of(item).line == "ba9876543210"
    assert client_key_of(item | {"rpm": Decimal(5)}).limits == Limits("ba9876543210", rpm=5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": ""},
        {"client_id": None},
        {"rpm": "0"},
        {"rpm": "many"},
        {"rpm": 5},
        {"budget_day": "-1"},
        {"budget_month": "NaN"},
        {"budget_week": "0"},
        {"budget_total": "1e3"},
        {"rpm": "5", "reset_day": "29"},
        {"rpm": "5", "reset_day": "0"},
        {"rpm": "5", "reset_weekday": "Monday"},
        {"rpm": "5", "limits_id": "", "key_id": ""},
        {"cache": "perhaps"},
        {"cache": "on:x:"},
        {"expires_at": "soon"},
        {"tags": {"a": "b"}},
    ],
)
def test_a_context_that_is_not_understood_is_no_leave_to_do_anything(wrong: dict[str, Any]):
    with pytest.raises((KeyError, ValueError)):
        ClientKey.from_context(ClientKey("a", key_id="0123456789ab").to_context() | wrong)


AMOUNTS = st.decimals("0.000001", 10**9, places=6).map(lambda amount: f"{amount:f}") | st.integers(1, 10**9).map(str)
NUMBERS = st.integers(1, 10**9).map(str)
ODD_FORMS = (
    *(
        "{}e0",
        "{}E+1",
        " {}",
        "{}\n",
        "+{}",
        "-{}",
        "1_{}",
        "{},5",
        "0x{}",
        "{}.",
        ".{}",
        "{}.1.2",
        "{}USD",
        "\u2155{}",
    ),
    *("{}\u00b2", "NaN", "Infinity", "-0", "0", "1e400", "9" * 40, "9" * 5000, f"0.{'0' * 30}"),
)
OTHER_SCRIPTS = (0x660, 0x966, 0xFF10)
"""The zeros of Arabic, Devanagari and full-width digits."""


def in_odd_form(text: str, form: str | int) -> str:
    if isinstance(form, str):
        return form.format(text)
    return text.translate({ord("0") + digit: form + digit for digit in range(10)})


WHOLE, MONEY_OF = ("rpm", "tpm", "parallel"), ("budget_day", "budget_week", "budget_month", "budget_total")


@given(AMOUNTS, NUMBERS)
def test_the_limits_of_a_team_are_read_as_they_are_written(amount: str, number: str):
    limits = {"rpm": int(number), "budget_total": Decimal(amount), "reset_day": 15} if int(number) else {}
    if not Decimal(amount):
        limits.pop("budget_total", None)
    key = ClientKey("a", key_id="k", line="k", team="web", team_limits=Limits.of_team("web", limits))

    assert ClientKey.from_context(key.to_context()) == key
    assert not any(name.startswith("team") for name in ClientKey("a").to_context())


@pytest.mark.parametrize("odd", ["0", "many", 5, "-1"])
def test_limits_of_a_team_that_are_not_understood_are_no_leave(odd: object):
    context = ClientKey("a", key_id="k", team="web").to_context() | {"team_rpm": odd}
    with pytest.raises(ValueError, match=r"."):
        ClientKey.from_context(context)


@given(AMOUNTS, NUMBERS)
def test_plain_digits_are_that_amount(amount: str, number: str):
    context = ClientKey("a", key_id="0123456789ab").to_context() | dict.fromkeys(WHOLE, number)
    limits = ClientKey.from_context(context | dict.fromkeys(MONEY_OF, amount)).limits

    count, money = int(number), Decimal(amount)
    assert limits == Limits("0123456789ab", count, count, count, money, money, money, money)


@given(
    AMOUNTS,
    NUMBERS,
    st.sampled_from([*ODD_FORMS, *OTHER_SCRIPTS]),
    st.sampled_from([*WHOLE, *MONEY_OF, "expires_at", "cache"]),
)
def test_an_amount_in_another_form_is_never_another_amount(amount: str, number: str, form: str | int, name: str):
    odd = in_odd_form(amount if name in MONEY_OF else number, form)
    if name == "expires_at" and odd == "0":
        return  # a key that was good until 1970

    with pytest.raises(ValueError, match=r"."):
        ClientKey.from_context({"client_id": "a", "limits_id": "b", name: f"on:{odd}:" if name == "cache" else odd})


@pytest.mark.parametrize(
    ("amount", "is_one"),
    [("1000000000", True), ("1000000000.000001", False), ("0.000001", True), ("0" * 20 + "5", True), ("5.00", True)],
)
def test_an_amount_is_at_most_a_billion(amount: str, is_one: bool):
    context = {"client_id": "a", "limits_id": "b", "budget_day": amount}
    if is_one:
        limits = ClientKey.from_context(context).limits
        assert limits
        assert limits.budget_day == Decimal(amount)
    else:
        with pytest.raises(ValueError, match="too large"):
            ClientKey.from_context(context)


@pytest.mark.parametrize("tags", ["", "no JSON", "[1]", "[" * 100_000, "null"])
def test_tags_that_cannot_be_read_are_none(tags: str):
    assert ClientKey.from_context({"client_id": "a", "tags": tags}).tags == {}


def test_a_policy_that_is_off_is_another_thing_than_none():
    policies = [None, KeyCache(is_on=False), KeyCache(is_on=True), KeyCache(is_on=True, ttl=60, pool="docs")]

    read = [ClientKey.from_context(ClientKey("a", cache=policy).to_context()).cache for policy in policies]
    assert read == policies
