"""Cross-origin headers for any origin, for listed ones, and for others."""

import pytest
from proxy.endpoints.cors import Cors

ANNOUNCED = {"origin": "https://a.example", "access-control-request-headers": "authorization,x-stainless-os"}


def test_any_origin() -> None:
    headers = Cors("*").preflight(ANNOUNCED)
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "POST" in headers["access-control-allow-methods"]


def test_listed_origins() -> None:
    cors = Cors("https://a.example, https://b.example")
    assert cors.headers("https://b.example")["access-control-allow-origin"] == "https://b.example"
    assert cors.preflight(ANNOUNCED)["access-control-allow-origin"] == "https://a.example"


def test_other_origins_and_no_origin() -> None:
    cors = Cors("https://a.example")
    for origin in ("https://b.example", "https://a.example.evil", None):
        assert cors.headers(origin) == {"vary": "origin", "x-content-type-options": "nosniff"}
    assert cors.preflight({"origin": "null"}) == cors.headers(None)


def test_no_answer_is_taken_for_something_else() -> None:
    for cors in (Cors("*"), Cors("https://a.example")):
        for said in (cors.headers(None), cors.headers("https://a.example"), cors.preflight(ANNOUNCED)):
            assert said["x-content-type-options"] == "nosniff"


def test_a_browser_that_announces_nothing_may_send_a_key_in_each_of_its_headers() -> None:
    assert Cors("*").preflight({})["access-control-allow-headers"] == "authorization, x-api-key, api-key"


@pytest.mark.parametrize(
    ("origins", "origin", "readable_by"),
    [
        (" * ", None, "*"),
        ("https://a, https://b,", "https://b", "https://b"),
        ("https://a, https://b", "https://c", None),
        ("https://a", None, None),
        ("", "", None),
    ],
)
def test_what_a_browser_is_told_whole(origins: str, origin: str | None, readable_by: str | None) -> None:
    always = {"x-content-type-options": "nosniff", **({} if readable_by == "*" else {"vary": "origin"})}
    readable = {"access-control-allow-origin": readable_by, "access-control-expose-headers": "*"} if readable_by else {}
    assert Cors(origins).headers(origin) == readable | always
    asked = {"access-control-request-headers": "x-a, x-b", **({} if origin is None else {"origin": origin})}
    allowed = {
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
        "access-control-allow-headers": "x-a, x-b",
        "access-control-max-age": "7200",
    }
    assert Cors(origins).preflight(asked) == readable | always | (allowed if readable_by else {})
