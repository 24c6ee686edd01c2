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
@pytest.mark.parametrize("form", ["list", "object", "both"])
def test_a_document_in_a_text_is_as_deep_as_one_that_stands_there(depth: int, form: str) -> None:
    def nested(levels: int, value: Any) -> Any:
        for level in range(levels):
            value = [value] if form == "list" or (form == "both" and level % 2) else {"a": value}
        return value

    within: Any = 5
    for _ in range(depth):
        within = json.dumps(nested(1, within))
    for outer in range(64 - 2 * depth - 2, 64 - 2 * depth + 3):
        in_text, plain = Redactor(b"salt"), Redactor(b"salt")
        in_text.value(nested(outer, within))
        plain.value(nested(outer + 2 * depth, 5))
        assert in_text.is_cut == plain.is_cut == (outer + 2 * depth > 64)


PROVIDERS = {
    **dict.fromkeys(("sk-", "gsk_", "xai-", "hf_", "glpat-", "AKIA", "ASIA"), 16),
    **{f"gh{kind}_": 20 for kind in "pousr"},
    **{f"xox{kind}-": 10 for kind in "abprs"},
    **{f"{kind}k_{mode}_": 16 for kind in "rs" for mode in ("live", "test")},
    **{f"{name}{mark}": 20 for name in ("r8", "pplx", "tvly", "nvapi", "fw", "csk", "dop_v1") for mark in "-_"},
    "AIza": 30,
    "github_pat_": 20,
}
"""How tokens of providers begin, and how many characters follow at least."""


@pytest.mark.parametrize("prefix", PROVIDERS)
def test_a_token_is_known_by_how_its_provider_lets_it_begin(prefix: str) -> None:
    letter, least = "B" if prefix.isupper() else "b", PROVIDERS[prefix]
    assert re.fullmatch(r"see \[provider_token:\w{16}\]", redacted(f"see {prefix}{letter * least}"))
    for text in (f"see {prefix}{letter * (least - 1)}", f"see a{prefix}{letter * least}"):
        assert "provider_token" not in redacted(text)


ASSIGNED = (
    *("pass", "PASSWORD", "passwd", "passphrase", "passcode", "pwd", "Secret", "token", "credential", "credentials"),
    *(f"{word}{mark}key" for word in ("api", "access") for mark in ("", "_", "-")),
)


@pytest.mark.parametrize("word", ASSIGNED)
def test_what_is_assigned_to_a_word_for_secrets_is_one_from_six_characters_on(word: str) -> None:
    for sign in (":", "=", " is ", "   =   ", '": "', "\\\\':'"):
        assert re.fullmatch(rf"{word}{re.escape(sign)}\[secret:\w{{16}}\] end", redacted(f"{word}{sign}geheim end"))
        assert redacted(f"{word}{sign}gehei end") == f"{word}{sign}gehei end"


@pytest.mark.parametrize(
    ("before", "secret", "after"),
    [
        ("Bearer ", "abcdefgh", ""),
        ("basic\t", "abcdefgh", ""),
        ("Bearer    ", "a.b~c+d/", ""),
        ("https://", "me:pa55", "@host/a"),
        ("a ", "eyJ" + "a" * 8, " b"),
        ("a ", "eyJ" + "a" * 8 + ".b.c", " d"),
        ("a ", "-----BEGIN PRIVATE KEY-----\nabc", ""),
        ("a ", "abcdefghijklmnopqrstuvwxyz01234" + "5", " b"),
    ],
)
def test_a_secret_is_known_from_its_shortest_form_on(before: str, secret: str, after: str) -> None:
    assert re.fullmatch(rf"{re.escape(before)}\[secret:\w{{16}}\]{after}", redacted(before + secret + after))


@pytest.mark.parametrize(
    "text",
    [
        "Bearer abcdefg",
        "Bearer     abcdefgh",
        "https://me@host/a",
        "eyJ" + "a" * 7,
        "abcdefghijklmnopqrstuvwxyz01234",
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
        "01234567890 12345678901",
        "a@b, a.b@c and @d.e",
    ],
)
def test_what_is_shorter_than_any_secret_stays(text: str) -> None:
    assert "secret" not in redacted(text)
    assert "email" not in redacted(text)


@pytest.mark.parametrize("text", ["a@b.c", "a@b.co", "pwd=geheim", "415-555-0100"])
def test_what_is_taken_out_of_a_sentence_is_taken_out_where_it_stands_alone(text: str) -> None:
    assert redacted(f"It is {text} today.") == f"It is {redacted(text)} today."
    assert redacted(text).endswith("]")


def with_check_digit(digits: str) -> str:
    """The number of a card that begins with these, by the rule of Luhn."""
    total = sum(int(digit) for odd in digits[-2::-2] for digit in odd)
    total += sum(sum(map(int, str(2 * int(even)))) for even in digits[::-2])
    return digits + str(-total % 10)


@pytest.mark.parametrize(("known", "is_marked"), [("1234567", False), ("12345678", True), ("123456789012", True)])
def test_a_number_that_is_a_known_secret_is_marked_as_the_text_is(known: str, is_marked: bool) -> None:
    redactor = Redactor(b"salt", [("provider_token", known)])
    marked = redactor.value({"text": known, "number": int(known)})
    assert marked["number"] == (marked["text"] if is_marked else int(known))
    assert marked["text"].startswith("[provider_token:") is is_marked


@pytest.mark.parametrize("size", range(7, 22))
def test_a_number_leads_to_somebody_if_it_is_as_long_as_those_are(size: int) -> None:
    card = with_check_digit("4012888888881881234567"[: size - 1])
    other = card[:-1] + str((int(card[-1]) + 1) % 10)
    for number, is_card in ((card, True), (other, False)):
        kind = "card" if is_card and 13 <= size <= 19 else "phone" if 9 <= size <= 15 else ""
        expected = rf"\[{kind}:\w{{16}}\]" if kind else number
        assert re.fullmatch(expected, redacted(number))
        assert re.fullmatch(f"n {expected}!", redacted(f"n {number}!"))
        as_number = Redactor(b"salt").value({"a": int(number), "created_at": int(number), "n": float(number)})
        assert re.fullmatch(expected, str(as_number["a"]))
        assert as_number["a"] == int(number) or kind
        assert (as_number["created_at"], as_number["n"]) == (int(number), float(number))


@pytest.mark.parametrize("size", range(4, 17))
def test_a_number_abroad_has_up_to_fifteen_digits_after_its_prefix(size: int) -> None:
    digits = "49170123422322222"[:size]
    mark = redacted(f"+{digits}")
    assert mark.startswith("[phone:") == (9 <= size <= 15)
    if 9 <= size <= 15:
        assert redacted(f"00{digits}") == redacted(f"+{digits[:2]} {digits[2:]}") == mark
    elif size > 15:
        assert redacted(f"00{digits}") == f"00{digits}"


TIMES = ("created", "created_at", "completed_at", "expires_at", "failed_at", "in_progress_at")


def test_a_moment_of_the_api_is_no_telephone_number() -> None:
    moments = dict.fromkeys(TIMES, 1732406400) | {"list": [1732406400], "created": [1732406400]}
    found = Redactor(b"salt").value({**moments, "updated": 1732406400})
    mark = redacted("1732406400")
    assert found == {**moments, "list": [mark], "updated": mark}
    assert mark.startswith("[phone:")


DATES = ["2026-11-24-1200", "1999/1/3 120000", "2026.12.31 12", "3.14159265358979", "030.1234567"]
NO_DATES = ["2126-11-24-1200", "2026-13-24-1200", "2026-00-24-1200", "2026-11-00-1200", "030.123.4567"]


@pytest.mark.parametrize("text", [*DATES, *NO_DATES])
def test_a_date_and_a_fraction_are_no_telephone_numbers(text: str) -> None:
    assert (redacted(text) == text) == (text in DATES)


@pytest.mark.parametrize("size", range(6, 34))
def test_an_iban_is_known_by_its_check_digits_from_fifteen_characters_on(size: int) -> None:
    account = ("ABCD1234EFGH5678IJKL9012MNOP3456")[: size - 4]
    check = 98 - int("".join(str(int(each, 36)) for each in f"{account}NO00")) % 97
    number, other = f"NO{check:02}{account}", f"NO{check % 97 + 1:02}{account}"
    in_fours = " ".join(number[start : start + 4] for start in range(0, size, 4))
    for text in (number, in_fours):
        assert (redacted(text).startswith("[iban:") and "]" not in redacted(text)[:-1]) == (size >= 15)
    assert "iban" not in redacted(other)


DOCUMENTS: list[tuple[Any, int]] = [
    ([0] * 11, 0),
    ([None] * 11, 0),
    (["word"] * 10 + [0], 40),
    ({"k" * 9: [0] * 10}, 9),
]


@pytest.mark.parametrize(("document", "extra"), DOCUMENTS)
def test_each_value_and_each_character_takes_its_part_of_the_budget(document: Any, extra: int) -> None:
    """Twelve values, a list or object and what is in it, take eight each; and they must not take all of it."""
    for budget in range(8 * 12 - 9, 8 * 12 + 10):
        redactor = Redactor(b"salt", budget=budget + extra)
        found = redactor.value(document)
        assert redactor.is_cut == (budget <= 8 * 12)
        assert ("[left out]" in str(found)) == redactor.is_cut


@pytest.mark.parametrize("size", [199, 200, 201, 328, 329, 1000])
def test_a_text_that_is_longer_than_what_is_left_ends_well_before(size: int) -> None:
    redactor = Redactor(b"salt", budget=200)
    text = ("word " * 200)[:size]
    assert redactor.text(text) == (text if size <= 200 else text[:72])
    assert redactor.is_cut == (size > 200)
    assert redactor.text("more text") == ("" if size in (199, 200) else "more text")


def test_a_text_of_which_nothing_fits_is_empty() -> None:
    redactor = Redactor(b"salt", budget=100)
    assert (redactor.text("a" * 101), redactor.is_cut) == ("", True)


@pytest.mark.parametrize(("size", "is_left_out"), [(32, False), (33, True)])
def test_more_numbers_than_thirty_two_are_left_out_if_they_are_numbers_alone(size: int, is_left_out: bool) -> None:
    for numbers in ([0.5] * size, [1] * size):
        assert Redactor(b"salt").value(numbers) == (f"[{size} numbers]" if is_left_out else numbers)
        assert Redactor(b"salt").value([*numbers, "a"]) == [*numbers, "a"]


@pytest.mark.parametrize(("size", "is_known"), [(7, False), (8, True)])
def test_a_secret_of_less_than_eight_characters_is_no_secret(size: int, is_known: bool) -> None:
    secret = "geheimes"[:size]
    found = redacted(f"{secret} or {secret}", known=[("client_key", secret)])
    assert re.fullmatch(r"(\[client_key:\w{16}\]) or \1" if is_known else f"{secret} or {secret}", found)


def test_counts_are_of_each_place_of_each_kind() -> None:
    redactor = Redactor(b"salt", [("client_key", "geheimes")])
    redactor.value({"a@example.com": ["b@example.com", 4111111111111111], "c": "geheimes geheimes"})
    assert redactor.counts == {"email": 2, "card": 1, "client_key": 1}


@pytest.mark.parametrize(
    "document", [{"to": "Größe 💥"}, ["ü", {"ö": [1, None, True]}], {"a": {"b": '{"c": "ß"}'}}, [], {}]
)
def test_a_document_in_a_text_keeps_its_characters(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False)
    assert Redactor(b"salt").value(text) == text
