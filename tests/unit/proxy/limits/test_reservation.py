"""What an event says of a request's limits, whole, for every way in which a reservation can end."""

import itertools
import json
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from proxy.errors import ClientError, LimitError
from proxy.limits.item import Share
from proxy.limits.reservation import LeaseState, Prices, Reservation, nothing_taken, share_of
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target

NOW = 1_800_000_000
BUDGETS: dict[str, Any] = {
    "budget_day": Decimal("1.50"),
    "budget_month": Decimal(30),
    "budget_week": Decimal("7.25"),
    "budget_total": Decimal(100),
}
KINDS: dict[str, dict[str, Any]] = {
    "rpm": {"rpm": 5},
    "tpm": {"tpm": 5000},
    "parallel": {"parallel": 2},
    **{name: {name: budget} for name, budget in BUDGETS.items()},
    "all": {"rpm": 5, "tpm": 5000, "parallel": 2, **BUDGETS, "reset_weekday": "sunday", "reset_day": 5},
    "reset of nothing": {"rpm": 5, "reset_weekday": "sunday", "reset_day": 5},
}
STATES: list[LeaseState] = ["held", "returned", "doubtful"]


@pytest.mark.parametrize(("kind", "state"), [*itertools.product(KINDS, STATES)])
@pytest.mark.parametrize("end", ["checked", "unchecked", "nothing to take", "refused"])
def test_what_an_event_says(kind: str, state: LeaseState, end: str) -> None:
    given, has_share = KINDS[kind], end in ("checked", "unchecked")
    limits = Limits(id="key-1", **given)
    reservation = Reservation(
        limits,
        Windows.of(NOW),
        Share("lease-1", NOW + 30, 700, Decimal("0.25")) if has_share else None,
        {},
        is_checked=end != "unchecked",
        refused=LimitError("rate_limit_exceeded", "no room", "rpm", 1, {}) if end == "refused" else None,
        lease=state,
        cost=Decimal("0.125"),
    )
    budgets = {name: str(budget) for name, budget in given.items() if name.startswith("budget_")}
    expected: dict[str, Any] = {
        "id": "key-1",
        "status": "unchecked" if end == "unchecked" else "checked",
        "reserved": None,
        "has_budget": bool(budgets) and end != "refused",
        "taken_at": None if end == "refused" else NOW,
        "budget_day": None,
        "budget_month": None,
        "currency": "USD" if budgets else None,
        **budgets,
    }
    expected |= {name: given[name] for name in ("reset_weekday", "reset_day") if name in given and budgets}
    if has_share and (budgets or "tpm" in given):
        expected["reserved"] = {"cost": "0.125", "tokens": 700}
    if has_share and (budgets or "tpm" in given or "parallel" in given) and state != "returned":
        expected["lease"] = {"id": "lease-1", "in_doubt": state == "doubtful"}
    assert reservation.to_event() == expected
    if end == "refused":
        assert expected == nothing_taken(limits)


def body_of(content_type: str, query: str, path: str) -> RequestBody:
    most = "max_output_tokens" if path == "/responses" else "max_tokens"
    content = json.dumps({"model": "m", "messages": [{"content": "abc " * 1000}], "n": 5, most: 700}).encode()
    request = InferenceRequest("function_url", "POST", "", query, {"content-type": content_type}, content, None)
    return RequestBody(request, Target("s", path))


@pytest.mark.parametrize("query", ["", "model=x", "a=1&models[]=m"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "multipart/form-data; boundary=b"])
@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses", "/messages"])
def test_no_spelling_of_a_request_makes_its_share_smaller(path: str, content_type: str, query: str) -> None:
    limits, prices = Limits(id="key-1", tpm=100_000, budget_day=Decimal(10)), Prices(Decimal("1e-6"), Decimal("1e-5"))
    share = share_of(limits, body_of(content_type, query, path), prices, "lease-1", NOW)
    assert (share.tokens, share.cost) == (1004 + 5 * 700, Decimal("0.001004") + 5 * 700 * Decimal("1e-5"))


UPLOAD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
PROMPT = UPLOAD % (b"prompt", b"abc " * 1000)
FILE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nn=7\r\n'


def uploaded(*parts: bytes, content_type: str = "multipart/form-data; boundary=b") -> tuple[int, Decimal]:
    """What an edit of a picture reserves, for a model whose pictures have 4,000 tokens: those of its prompt, and of
    how many pictures.
    """
    content = b"".join(parts) + (b"--b--" if "multipart" in content_type else b"")
    request = InferenceRequest("function_url", "POST", "", "", {"content-type": content_type}, content, None)
    limits = Limits(id="key-1", tpm=100_000, budget_day=Decimal(1000))
    prices = Prices(Decimal("1e-6"), Decimal("1e-5"), 4000)
    share = share_of(limits, RequestBody(request, Target("s", "/images/edits")), prices, "lease-1", NOW)
    return share.tokens, (share.cost - share.tokens * prices.input) / (4000 * prices.output)


@pytest.mark.parametrize("model", [b"", UPLOAD % (b"model", b"m")], ids=["no model", "a model"])
@pytest.mark.parametrize(
    ("fields", "pictures"),
    [
        ([], 1),
        ([(b"n", b"")], 1),
        ([(b"n", b"7")], 7),
        ([(b"n", b" 7 ")], 7),
        ([(b"n", b"1"), (b"n", b"7")], 7),
        ([(b"n", b"7"), (b"best_of", b"2"), (b"n", b"1")], 7),
        ([(b"N", b"7")], 7),
        ([(b"n[]", b"7"), (b"n", b"1")], 7),
        ([(b"%6e", b"7")], 7),
        ([(b"n", b"0")], 1),
        ([(b"n", b"=37")], 10),
        ([(b"n", b"seven")], 10),
        ([(b"n", b" " * 70 + b"7")], 7),
        ([(b"n", "\u00a0".encode() * 40 + b"7")], 10),
        ([(b"n", b"0" * 63 + b"7")], 7),
        ([(b"n", b"0" * 64 + b"7")], 10),
        ([(b"best_of[]", b"7")], 7),
        ([(b"max_tokens", b"1"), (b"n", b"7")], 7),
        ([(b"image\\", b"1")], 10),
    ],
)
def test_each_picture_of_an_upload_is_reserved(fields: list[tuple[bytes, bytes]], pictures: int, model: bytes) -> None:
    is_clear = not any(b"\\" in name for name, _ in fields)
    assert uploaded(PROMPT, model, FILE, *(UPLOAD % field for field in fields)) == (1004 if is_clear else 4, pictures)


@pytest.mark.parametrize(
    ("content_type", "pictures"),
    [
        ("application/x-www-form-urlencoded", 7),
        ("Application/X-WWW-Form-URLEncoded; charset=utf-8", 7),
        ("multipart/mixed; boundary=b", 10),
        ("multipart/form-data; boundary=b; boundary=c", 10),
        ("multipart/form-data", 10),
        ("image/png", 1),
    ],
)
def test_a_form_of_another_kind_reserves_what_it_may_cost(content_type: str, pictures: int) -> None:
    assert uploaded(b"model=m&n=1;%6E=7", content_type=content_type)[1] == pictures
    assert uploaded(b"&" * 1000 + b"n=7", content_type=content_type)[1] == (pictures if "image" in content_type else 10)


URLENCODED = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("body", "pictures"),
    [
        (b"&" * 999 + b"n=7", 7),
        (b"n=7" + b"&" * 1000, 10),
        (b"n=70" + b"&" * 1000, 70),
        (b"n=70&" + b"x" * 257, 70),
        (b"n=" + b"%30" * 63 + b"%37", 7),
        (b"n=" + b"%30" * 64 + b"%37", 10),
    ],
    ids=["1000 fields", "1001 fields", "1001 fields, many pictures", "a long name", "64 escapes", "65 escapes"],
)
def test_a_form_of_any_size_reserves_the_most_that_is_found_in_it(body: bytes, pictures: int) -> None:
    assert uploaded(body, content_type=URLENCODED)[1] == pictures


def test_every_prompt_of_a_form_is_reserved_and_no_file() -> None:
    field = UPLOAD % (b"input", b"abc " * 500)
    file = UPLOAD.replace(b'"%b"', b'"prompt"; filename="%b"') % (b"a", b"abc " * 500)
    parts = (PROMPT, PROMPT, field, file, UPLOAD % (b"n", b"3"))
    assert uploaded(*parts, content_type="multipart/form-data ; boundary=b") == (2504, 3)
    assert (
        uploaded(b"prompt=" + b"abc+" * 1000 + b"&instructions=" + b"a%62c " * 500, content_type=URLENCODED)[0] == 1504
    )


@pytest.mark.parametrize(
    ("name", "pictures"), [(b"x" * 256, 7), (b"x" * 257, 10), (b"%25" * 2_000_000, 10)], ids=["256", "257", "MB"]
)
def test_a_name_that_no_client_has_is_not_decoded(name: bytes, pictures: int) -> None:
    """Megabytes would be decoded several times."""
    assert uploaded(b"n=7&" + name + b"=1", content_type=URLENCODED)[1] == pictures


def test_more_pictures_than_any_model_makes_are_refused() -> None:
    for value in (b"1025", b"9" * 50, b"1e9"):
        with pytest.raises(ClientError) as refused:
            uploaded(UPLOAD % (b"n", value))
        assert (refused.value.status, refused.value.param) == (400, "n")
