"""The keys of the response cache, which three programs make and read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.cache.keys import FOLDER, folder_of, is_object_key, item_key, lease_keys_of, lease_name, object_key
from openai_proxy.events.ulid import new_ulid

CLIENTS = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
MOMENTS = st.floats(0, 2**47 / 1000)


@given(CLIENTS, CLIENTS, MOMENTS)
def test_the_object_of_an_event_is_in_the_folder_of_its_client_and_of_nobody_else(
    client: str, other: str, moment: float
):
    key = object_key(client, new_ulid(moment))

    assert key.startswith(folder_of(client))
    assert is_object_key(key)
    assert is_object_key(key, client)
    assert is_object_key(key, other) == (client == other)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "01M83WG2WWY5ZPAS4GM821024C",
        FOLDER + "01M83WG2WWY5ZPAS4GM821024C",
        FOLDER + "a/../01M83WG2WWY5ZPAS4GM821024C",
        FOLDER + "a/b/01M83WG2WWY5ZPAS4GM821024C",
        FOLDER + "a/81M83WG2WWY5ZPAS4GM821024C",
        FOLDER + "a/01M83WG2WWY5ZPAS4GM821024C\n",
        FOLDER + "a" * 65 + "/01M83WG2WWY5ZPAS4GM821024C",
        "x" + FOLDER + "a/01M83WG2WWY5ZPAS4GM821024C",
    ],
)
def test_other_keys_are_none(key: str):
    assert not is_object_key(key)


@pytest.mark.parametrize("form", [None, True, False])
def test_the_lease_of_every_form_is_among_those_of_an_answer(form: bool | None):
    assert f"lease#{lease_name('0' * 64, is_stream=form)}" in lease_keys_of("0" * 64)


def test_what_is_stored_is_found_tomorrow_under_the_same_names():
    assert lease_keys_of("k") == ["lease#k", "lease#k#stream", "lease#k#document"]
    assert (folder_of(None), folder_of("a"), object_key("a", "E")) == ("captured/", "captured/a/", "captured/a/E")
    assert item_key("k") == {"cache_key": {"S": "k"}}
