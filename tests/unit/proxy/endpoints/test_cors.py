"""Cross-origin headers for any origin, for listed ones, and for others."""

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
