import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.client_keys import hash_client_key, is_well_formed, new_client_key

# Fixed for ever: keys in use must stay valid, and their hashes must be found.
KNOWN_KEY = "opx-" + 43 * "0" + "0jKCqY"


def test_a_new_key_is_well_formed_and_unlike_the_last():
    keys = {new_client_key() for _ in range(100)}

    assert len(keys) == 100
    assert all(re.fullmatch("opx-[0-9A-Za-z]{49}", key) for key in keys)
    assert all(is_well_formed(key) for key in keys)


def test_the_form_does_not_change():
    key = KNOWN_KEY

    assert is_well_formed(key)
    assert hash_client_key(key) == "a20daeca0fe8e85fb404fae71778974013dc12ebc772f86638c7a6df9ae4250c"


@given(position=st.integers(0, 52), character=st.characters(codec="utf-8"))
def test_one_wrong_character_is_noticed(position: int, character: str):
    key = new_client_key()
    wrong = key[:position] + character + key[position + 1 :]

    assert is_well_formed(wrong) == (wrong == key)


@pytest.mark.parametrize(
    "key",
    ["", "opx-", "sk-proj-abc", KNOWN_KEY[:-6], KNOWN_KEY[:-1], KNOWN_KEY + "0", " " + KNOWN_KEY, KNOWN_KEY.upper()],
)
def test_garbage_is_not_well_formed(key: str):
    assert not is_well_formed(key)


@given(st.text(max_size=80))
def test_any_text_can_be_checked(text: str):
    assert not is_well_formed(text)
