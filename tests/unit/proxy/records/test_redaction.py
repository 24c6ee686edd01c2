"""What redaction takes out of content, and what it leaves."""

import json
import re
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.client_keys import new_client_key
from proxy.records.redaction import Redactor

KEY = new_client_key()


def redacted(text: str, **options: Any) -> str:
    return Redactor(b"salt", **options).text(text)


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("email", "John.Doe+x@mail.example.co.uk"),
        ("phone", "+49 (0)170 1234567"),
        ("phone", "415-555-0100"),
        ("card", "4111 1111 1111 1111"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("client_key", KEY),
        ("provider_token", "sk-" + "proj-abcdefghijklmnop1234"),
        ("provider_token", "gsk_" + "abcdefghijklmnop1234"),
        ("provider_token", "AKIA" + "IOSFODNN7EXAMPLE"),
        ("provider_token", "ghp_" + "abcdefghijklmnopqrstuvwxyz"),
        ("secret", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-def"),
        ("secret", "canary0123456789abcdef0123456789abcdef"),
        ("secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ],
    ids=lambda text: "key" if text == KEY else text,
)
@pytest.mark.parametrize("around", ["{}", "Write to {}, please.", '"{}"', "({})\nnext", "see:\t{}!"])
def test_a_secret_becomes_its_kind_and_hash(kind: str, secret: str, around: str) -> None:
    found = redacted(around.format(secret))
    assert re.fullmatch(re.escape(around).replace(r"\{\}", rf"\[{kind}:[0-9a-f]{{16}}\]"), found), found


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter2hunter", "hunter2hunter"),
        ('{\\"api_key\\": \\"abcdef123456\\"}', "abcdef123456"),
        ("Authorization: Bearer abcdefghijkl", "abcdefghijkl"),
        ("postgres://me:pa55word@host/db", "pa55word"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----", "MIIabc"),
    ],
)
def test_a_secret_is_known_by_what_stands_before_it(text: str, secret: str) -> None:
    assert secret not in redacted(text)
    assert "[secret:" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "On 2026-11-24 12:00:10 it was 3.14159265358979 or 42.",
        "v1.2.3 at 127.0.0.1",
        "https://example.com/a/b?c=d",
        "a@b",
    ],
)
def test_plain_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_the_same_value_has_one_hash_however_it_is_written_and_each_stack_its_own() -> None:
    assert redacted("A@EXAMPLE.com") == redacted("a@example.com")
    assert redacted("4111-1111-1111-1111") == redacted("4111111111111111")
    assert redacted("a@example.com") != Redactor(b"other").text("a@example.com")
    assert redacted("a@example.com") != redacted("b@example.com")


def test_what_is_known_by_the_letter_is_taken_out_first() -> None:
    assert redacted("the pass phrase", known=[("provider_token", "pass phrase")]).startswith("the [provider_token:")


def test_a_document_keeps_its_form() -> None:
    arguments = json.dumps({"to": "a@example.com", "n": 1})
    document = {
        "messages": [{"role": "user", "content": "mail a@example.com"}],
        "a@example.com": 4111111111111111,
        "created": 1732406400,
        "arguments": arguments.replace("@", "\\u0040"),
        "embedding": [0.1] * 100,
        "image": "data:image/png;base64," + "iVBORw0KGgo" * 100,
        "none": None,
        "yes": True,
    }
    redactor = Redactor(b"salt")
    found = redactor.value(document)
    text = json.dumps(found)
    assert "example.com" not in text
    assert "4111111111111111" not in text
    assert "iVBORw0KGgo" not in text
    assert found["messages"][0]["role"] == "user"
    assert (found["created"], found["none"], found["yes"]) == (1732406400, None, True)
    assert found["embedding"] == "[100 numbers]"
    assert not redactor.is_cut
    assert redactor.counts["email"] == 3


def test_what_is_too_long_is_cut_and_no_half_secret_is_left_at_the_cut() -> None:
    redactor = Redactor(b"salt", budget=1000)
    text = "word " * 180 + f"me@example.com {KEY} " * 50
    found = redactor.text(text)
    assert redactor.is_cut
    assert len(found) < 1200
    assert KEY[4:30] not in found
    assert Redactor(b"salt", budget=100).value({"a": ["b" * 10] * 1000})["a"][-1] == "[left out]"


@settings(deadline=None)
@given(st.text(max_size=60), st.text(alphabet=string.printable + "\ue000\ue001@:é", max_size=60))
def test_a_key_is_found_wherever_it_stands(before: str, after: str) -> None:
    assert KEY not in redacted(f"{before} {KEY} {after}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(JSON)
def test_any_document_can_be_written(value: Any) -> None:
    json.dumps(Redactor(b"salt").value(value))


def test_what_is_no_text_but_data_is_left_out_from_256_characters_on() -> None:
    for size, kinds in ((255, {}), (256, {"data": 1}), (300, {"data": 1})):
        redactor = Redactor(b"salt")
        redactor.text("see " + "A" * size + " there")
        assert redactor.counts == kinds


@pytest.mark.parametrize("depth", range(1, 9))
def test_a_document_in_a_text_is_as_deep_as_one_that_stands_there(depth: int) -> None:
    def nested(levels: int, value: Any) -> Any:
        return [nested(levels - 1, value)] if levels else value

    within: Any = 5
    for _ in range(depth):
        within = json.dumps([within])
    for outer in range(64 - 2 * depth - 2, 64 - 2 * depth + 3):
        in_text, plain = Redactor(b"salt"), Redactor(b"salt")
        in_text.value(nested(outer, within))
        plain.value(nested(outer + 2 * depth, 5))
        assert in_text.is_cut == plain.is_cut == (outer + 2 * depth > 64)
