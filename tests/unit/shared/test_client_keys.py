import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.cache.answers import is_client_id
from openai_proxy.client_keys import (
    ATTRIBUTES,
    CachePolicy,
    client_of_server,
    hash_client_key,
    is_well_formed,
    key_id_of,
    new_client_key,
    read_attributes,
    without_keys,
)

# Fixed for ever: keys in use must stay valid, and their hashes must be found.
KNOWN_KEY = "opx-" + 43 * "0" + "0jKCqY"
ITEM = {"key_hash": hash_client_key(KNOWN_KEY), "client_id": "web-shop", "name": "Web shop", "enabled": True}


class TestClientIds:
    @pytest.mark.parametrize("client_id", ["anonymous", "token.", "token.openai", "token.x.y"])
    def test_the_names_of_those_who_come_without_a_key_are_no_keys(self, client_id: str):
        values, problems = read_attributes(ITEM | {"client_id": client_id})

        assert "client_id" not in values
        assert [problem.split(" must be ")[0] for problem in problems] == ["client_id"]

    @pytest.mark.parametrize("client_id", ["anonymous2", "not-anonymous", "tokens", "a.token.b", "token", "Anonymous"])
    def test_others_are(self, client_id: str):
        assert read_attributes(ITEM | {"client_id": client_id}) == (ITEM | {"client_id": client_id}, [])


class TestForm:
    def test_a_new_key_is_well_formed_and_unlike_the_last(self):
        keys = {new_client_key() for _ in range(100)}

        assert len(keys) == 100
        assert all(re.fullmatch("opx-[0-9A-Za-z]{49}", key) for key in keys)
        assert all(is_well_formed(key) for key in keys)

    def test_the_form_does_not_change(self):
        key = KNOWN_KEY

        assert is_well_formed(key)
        assert hash_client_key(key) == "a20daeca0fe8e85fb404fae71778974013dc12ebc772f86638c7a6df9ae4250c"
        assert key_id_of(hash_client_key(key)) == "a20daeca0fe8"

    @given(position=st.integers(0, 52), character=st.characters(codec="utf-8"))
    def test_one_wrong_character_is_noticed(self, position: int, character: str):
        key = new_client_key()
        wrong = key[:position] + character + key[position + 1 :]

        assert is_well_formed(wrong) == (wrong == key)

    @pytest.mark.parametrize(
        "key",
        ["", "opx-", "sk-proj-abc", KNOWN_KEY[:-6], KNOWN_KEY[:-1], KNOWN_KEY + "0", " " + KNOWN_KEY, KNOWN_KEY + "\n"],
    )
    def test_garbage_is_not_well_formed(self, key: str):
        assert not is_well_formed(key)

    def test_letters_have_a_case(self):
        assert not is_well_formed(KNOWN_KEY.upper())

    @given(st.text(st.characters(), max_size=80))  # lone surrogates too
    def test_any_text_can_be_checked(self, text: str):
        assert not is_well_formed(text)


class TestTextsWithKeys:
    @given(before=st.text(max_size=20), after=st.text(max_size=20))
    def test_no_key_can_be_read_in_it(self, before: str, after: str):
        key = new_client_key()

        text = without_keys(before + key + after)

        assert not any(key[start : start + 8] in text for start in range(4, len(key) - 8))

    @pytest.mark.parametrize("text", ["", "opx-", "gpt-5*", "no key: 'opx-abc'", "team-opx-production"])
    def test_other_texts_stay(self, text: str):
        assert without_keys(text) == text

    def test_parts_of_keys_and_several_are_found(self):
        first, second = new_client_key(), new_client_key()

        assert without_keys(f"'{first[:24]}', {second.upper()}.") == "'opx-…', opx-…."


class TestAttributes:
    def test_what_is_absent_is_not_set(self):
        assert read_attributes(ITEM) == (ITEM, [])

    @pytest.mark.parametrize(
        ("name", "stored", "value"),
        [
            ("owner", "Zoë Müller, team web", "Zoë Müller, team web"),
            ("tags", {}, {}),
            ("tags", {"env": "prod", "cost.center": ""}, {"env": "prod", "cost.center": ""}),
            ("expires_at", Decimal(1_795_426_200), 1_795_426_200),
            ("expires_at", 0, 0),
            ("servers", ["openai", "my_server-2"], ("openai", "my_server-2")),
            ("models", ["gpt-5*", "openai/*", "*"], ("gpt-5*", "openai/*", "*")),
            ("models", ["ft:gpt-4o:org::id", "meta/llama-3"], ("ft:gpt-4o:org::id", "meta/llama-3")),
            ("rpm", Decimal(1), 1),
            ("tpm", Decimal("1E+9"), 10**9),
            ("parallel", Decimal("5.00"), 5),
            ("budget_day", Decimal("0.000001"), Decimal("0.000001")),
            ("budget_month", Decimal("1E+3"), Decimal(1000)),
            ("budget_month", 7, Decimal(7)),
            ("currency", "USD", "USD"),
            ("cache", {"mode": "off"}, CachePolicy("off")),
            ("cache", {"mode": "on", "ttl": Decimal(60)}, CachePolicy("on", 60)),
            ("cache", {"mode": "on", "ttl": Decimal(60), "pool": "a"}, CachePolicy("on", 60, "a")),
            ("limits_id", "0123456789ab", "0123456789ab"),
        ],
    )
    def test_what_is_fit_is_read(self, name: str, stored: Any, value: Any):
        values, problems = read_attributes(ITEM | {name: stored})

        assert problems == []
        assert (values[name], type(values[name])) == (value, type(value))

    @pytest.mark.parametrize(
        ("name", "stored"),
        [
            ("key_hash", "0123456789ab"),
            ("client_id", ""),
            ("client_id", "a b"),
            ("client_id", "a" * 65),
            ("client_id", "line\n"),
            ("name", ""),
            ("name", " padded "),
            ("name", "x" * 129),
            ("name", "red \x1b[31m"),
            ("owner", "reversed \u202e"),
            ("owner", 7),
            ("tags", "env=prod"),
            ("tags", {"a b": "c"}),
            ("tags", {"a": Decimal(1)}),
            ("tags", {"a": "x" * 129}),
            ("tags", {f"t{n}": "" for n in range(17)}),
            ("enabled", "true"),
            ("enabled", Decimal(1)),
            ("expires_at", "tomorrow"),
            ("expires_at", Decimal("1.5")),
            ("expires_at", Decimal(-1)),
            ("expires_at", Decimal("1E+30")),
            ("servers", []),
            ("servers", "openai"),
            ("servers", {"openai"}),
            ("servers", ["openai/gpt-5"]),
            ("servers", ["openai", None]),
            ("servers", ["a,b"]),
            ("servers", ["a"] * 101),
            ("models", [""]),
            ("models", ["gpt-5,gpt-4"]),
            ("models", ["*-mini"]),
            ("models", ["gpt-5**"]),
            ("models", ["x" * 129]),
            ("rpm", Decimal(0)),
            ("rpm", Decimal(-60)),
            ("rpm", Decimal("0.5")),
            ("rpm", Decimal("NaN")),
            ("rpm", Decimal("Infinity")),
            ("rpm", "60"),
            ("rpm", True),
            ("rpm", None),
            ("rpm", 60.0),
            ("tpm", Decimal("1E+10")),
            ("parallel", Decimal("1.0000000000000000000000000000000000001")),
            ("budget_day", Decimal(0)),
            ("budget_day", Decimal(-1)),
            ("budget_day", Decimal("0.0000001")),
            ("budget_day", Decimal("1.0000000000000000000000000000000000001")),
            ("budget_month", Decimal("1E+12")),
            ("budget_month", "5 USD"),
            ("currency", "EUR"),
            ("currency", "usd"),
            ("cache", "on"),
            ("cache", {}),
            ("cache", {"mode": "on"}),
            ("cache", {"mode": "on", "ttl": Decimal(0), "pool": "a"}),
            ("cache", {"mode": "on", "ttl": Decimal(60), "pool": "a:b"}),
            ("cache", {"mode": "auto", "ttl": Decimal(60), "pool": "a"}),
            ("cache", {"mode": "off", "pools": "a"}),
            ("cache", {"mode": ["on"]}),
            ("limits_id", "0123456789AB"),
            ("limits_id", ""),
            ("replaced_by", "x"),
            ("created_at", Decimal(1_795_426_200)),
        ],
    )
    def test_what_is_unfit_is_a_problem_and_no_value(self, name: str, stored: Any):
        values, problems = read_attributes(ITEM | {name: stored})

        assert name not in values
        assert [problem.split(" must be ")[0] for problem in problems] == [name]

    @pytest.mark.parametrize("name", ITEM)
    def test_what_every_key_has_cannot_be_missing(self, name: str):
        assert read_attributes({key: value for key, value in ITEM.items() if key != name})[1] == [f"{name} is missing"]

    def test_all_problems_are_told(self):
        assert len(read_attributes({"rpm": "many", "tpm": "more"})[1]) == 4 + 2

    def test_unknown_attributes_are_left_out(self):
        assert read_attributes(ITEM | {"rpn": Decimal(60)}) == (ITEM, [])

    @given(
        st.dictionaries(
            st.sampled_from(sorted(ATTRIBUTES)),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.decimals() | st.text() | st.binary(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=4,
            ),
        )
    )
    def test_any_item_is_read_or_refused(self, attributes: dict[str, Any]):
        values, problems = read_attributes(ITEM | attributes)

        told = {problem.split()[0] for problem in problems}
        assert values.keys() | told == ITEM.keys() | attributes.keys()
        assert not values.keys() & told


@given(name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True), other=st.from_regex(r"[a-z_-]", fullmatch=True))
def test_who_has_the_token_of_a_server_is_a_client_of_it_alone(name: str, other: str) -> None:
    client_id = client_of_server(name)
    assert is_client_id(client_id)
    assert client_id.startswith("token.")
    assert (client_id == f"token.{name}") == (len(name) <= 58)
    assert client_id != client_of_server(name[:-1] + other) or name.endswith(other)
    assert client_id != client_of_server((name + other)[:64]) or len(name) == 64
