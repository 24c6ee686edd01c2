"""The keys of an issuer on a clock that the test moves: when it is asked, for how long, and what is good meanwhile."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from authorizer.claims import check, values_of
from authorizer.https_get import FetchError
from authorizer.issuer_keys import IssuerKeys
from authorizer.refusal import KeysUnavailableError, TokenRefusedError
from authorizer.signature import fits, is_signed, loaded
from jwt import PyJWK
from openai_proxy.identity import ALGORITHMS, Issuer, PlanChoice

from tests.identity.issuers import ISSUER, NOW, encoded, good, jwk
from tests.tables import Log

DISCOVERY, KEYS = f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"
HOURS = 3600.0


class Asked:
    """An issuer that takes its time: what it was asked, with how many seconds, and what it answers."""

    def __init__(self, jwks_url: str = "") -> None:
        self.now, self.takes = 1000.0, 0.0
        self.calls: list[tuple[str, float]] = []
        self.keys: Any = [jwk("RS256")]
        self.is_down = False
        self.log = Log()
        logger: Any = self.log
        issuer = Issuer(ISSUER, ("chat",), PlanChoice("free"), jwks_url=jwks_url)
        self.of = IssuerKeys(issuer, self.fetch, lambda: self.now, logger)

    def fetch(self, address: str, seconds: float) -> dict[str, Any]:
        self.calls.append((address, round(seconds, 6)))
        self.now += self.takes
        if self.is_down:
            raise FetchError("down")
        return {"issuer": ISSUER, "jwks_uri": KEYS} if address == DISCOVERY else {"keys": self.keys}

    def outcome(self, act: Callable[[], object]) -> str:
        """What comes of a question, and how often the issuer was asked for it."""
        before = len(self.calls)
        try:
            act()
            said = "good"
        except KeysUnavailableError as error:
            said = "unknown" if str(error) == ISSUER else repr(error)
        except TokenRefusedError as error:
            said = "refused" if (error.code, error.issuer) == ("token_key", ISSUER) else repr(error)
        return f"{said} {len(self.calls) - before}"

    def look(self) -> str:
        return self.outcome(self.of.look)

    def find(self, kid: str | None = "k", algorithm: str = "RS256") -> str:
        return self.outcome(lambda: self.of.find(kid, algorithm))


def prefetched(asked: Asked) -> None:
    """Prefetch, and wait for the answer."""
    asked.of.prefetch()
    asked.of.look()


def test_whoever_prefetches_goes_on_and_the_first_token_waits_for_the_same_answer() -> None:
    asked, may_answer, answers, waits = Asked(), threading.Event(), list[str](), list[bool]()
    answer = asked.fetch

    def late(address: str, seconds: float) -> dict[str, Any]:
        assert may_answer.wait(60)
        waits.append(not threading.current_thread().daemon)
        return answer(address, seconds)

    asked.of = IssuerKeys(
        Issuer(ISSUER, ("chat",), PlanChoice("free")), late, lambda: asked.now, cast("Any", asked.log)
    )
    asked.of.prefetch()
    assert asked.calls == [], "it is not waited for"
    first = threading.Thread(target=lambda: answers.append(asked.find()))
    first.start()
    may_answer.set()
    first.join(60)
    assert ([address for address, _ in asked.calls], asked.find()) == ([DISCOVERY, KEYS], "good 0")
    assert [each.partition(" ")[0] for each in answers] == ["good"]
    assert waits == [False, False], "no process waits for it when it ends"


@pytest.mark.parametrize(
    ("takes", "left"), [(0.0, 3.0), (1.25, 1.75), (2.875, 0.125), (2.9375, 0.1), (3.0, 0.1), (8.0, 0.1)]
)
def test_description_and_keys_have_three_seconds_together(takes: float, left: float) -> None:
    asked = Asked()
    asked.takes = takes
    prefetched(asked)
    assert asked.calls == [(DISCOVERY, 3.0), (KEYS, left)]


def test_where_the_keys_are_is_asked_once_and_never_where_the_file_says_it() -> None:
    asked, told = Asked(), Asked("https://keys.example.net/a")
    for each in (asked, told):
        prefetched(each)
        prefetched(each)
    assert asked.calls == [(DISCOVERY, 3.0), (KEYS, 3.0), (KEYS, 3.0)]
    assert told.calls == [("https://keys.example.net/a", 3.0)] * 2


def test_keys_are_good_from_the_end_of_their_fetch_for_ten_minutes_without_another_look() -> None:
    asked = Asked()
    asked.takes = 0.5
    assert asked.look() == "good 2"
    fetched = asked.now
    for age, expected in ((0, "good 0"), (600, "good 0"), (600.25, "good 1")):
        asked.now = fetched + age
        assert asked.look() == expected
    asked.now += 600
    assert asked.look() == "good 0"


def test_an_issuer_that_is_down_is_asked_every_half_minute_and_its_keys_are_good_for_six_hours() -> None:
    asked = Asked()
    asked.look()
    fetched, asked.is_down, asked.takes = asked.now, True, 2.0
    asked.now += 601
    assert asked.look() == "good 1"
    failed = asked.now
    for after, expected in ((0, "good 0"), (29.75, "good 0"), (30, "good 1"), (32, "good 0"), (62, "good 1")):
        asked.now = failed + after
        assert asked.look() == expected
    asked.now = fetched + 6 * HOURS - 2
    assert asked.look() == "good 1"
    assert asked.now == fetched + 6 * HOURS
    assert asked.look() == "good 0"
    asked.now += 0.25
    assert [asked.look(), asked.look()] == ["unknown 1"] * 2, "without keys there is no pause"
    asked.is_down = False
    assert [asked.look(), asked.look()] == ["good 1", "good 0"]
    assert {json.dumps(line, sort_keys=True) for line in asked.log.lines} == {
        json.dumps(
            {
                "issuer": ISSUER,
                "level": "error",
                "message": "The keys of an issuer cannot be fetched",
                "reason": "down",
            },
            sort_keys=True,
        )
    }


def test_without_keys_an_issuer_is_asked_for_each_token() -> None:
    asked = Asked()
    asked.is_down = True
    assert [asked.look(), asked.find(), asked.find()] == ["unknown 1"] * 3
    asked.is_down = False
    assert [asked.find(), asked.find()] == ["good 2", "good 0"]


def test_three_looks_for_unknown_keys_in_half_a_minute() -> None:
    asked = Asked()
    asked.look()
    began = asked.now
    found: list[str] = []
    for after in (0, 1, 2, 3, 29.75, 30, 30.5, 31, 32, 33):
        asked.now = began + after
        found.append(asked.find("made up"))
    assert found == ["refused 1"] * 3 + ["refused 0"] * 2 + [
        "refused 1",
        "refused 0",
        "refused 1",
        "refused 1",
        "refused 0",
    ]
    asked.keys = [*asked.keys, jwk("RS256", "new", 1)]
    assert asked.find("new") == "refused 0"
    asked.now = began + 60
    assert [asked.find("new"), asked.find("new"), asked.find()] == ["good 1", "good 0", "good 0"]


def test_a_key_that_is_not_known_of_an_issuer_that_is_down_is_no_forgery() -> None:
    asked = Asked()
    asked.look()
    asked.is_down = True
    assert [asked.find("new"), asked.find()] == ["unknown 1", "good 0"]


def test_a_version_is_of_the_keys_and_not_of_their_fetch() -> None:
    asked = Asked()
    versions = [asked.of.version]
    for keys in ([jwk("RS256")], [jwk("RS256")], [jwk("RS256"), jwk("ES256", "e")], [jwk("ES256", "e")], []):
        asked.keys = keys
        prefetched(asked)
        versions.append(asked.of.version)
    assert versions == [0, 1, 1, 2, 3, 3]  # a document without a key is none


def test_a_key_is_read_once_and_again_when_others_are_the_issuers() -> None:
    asked = Asked()
    first = asked.of.find("k", "RS256")
    assert asked.of.find("k", "RS256") is first
    prefetched(asked)
    assert asked.of.find("k", "RS256") is first
    asked.keys = [*asked.keys, jwk("RS256", "new", 1)]
    prefetched(asked)
    assert asked.of.find("k", "RS256") is not first
    asked.keys = [jwk("RS256", "k", 1)]
    prefetched(asked)
    assert asked.of.find("k", "RS256")[0].key.public_numbers() != first[0].key.public_numbers()


def test_a_token_that_names_no_key_is_of_the_only_one_that_fits() -> None:
    asked = Asked()
    asked.keys = [jwk("RS256"), jwk("ES256", "e"), jwk("EdDSA", "d", use="enc")]
    assert [asked.find(None), asked.find(None, "ES256"), asked.find(None, "EdDSA")] == ["good 2", "good 0", "refused 1"]
    asked.keys = [*asked.keys, jwk("RS256", "new", 1)]
    prefetched(asked)
    assert [asked.find(None), asked.find("new"), asked.find(None, "ES256")] == ["refused 1", "good 0", "good 0"]


def test_a_key_that_is_listed_twice_is_one_key_however_it_is_written() -> None:
    asked, own = Asked(), jwk("RS256")
    for other in (
        own,
        own | {"n": own["n"] + "==", "alg": "RS256"},
        own | {"n": "AAAA" + own["n"], "kid": "other"},
        own | {"e": "AQ"},
    ):
        asked.keys = [jwk("ES256", "k"), own, other]
        prefetched(asked)
        assert [asked.find(), asked.find(None)] == ["good 0"] * 2
        assert len(asked.of.find("k", "RS256")) == 1


@pytest.mark.parametrize(("count", "named"), [(1, "good 2"), (2, "good 2"), (4, "good 2"), (5, "refused 3")])
def test_up_to_four_keys_may_have_one_name_and_a_token_that_names_none_is_of_no_one_of_them(
    count: int, named: str
) -> None:
    asked = Asked()
    asked.keys = [jwk("EdDSA", "k", number) for number in range(count)] * 2
    assert asked.find("k", "EdDSA") == named
    assert asked.find(None, "EdDSA") == ("good 0" if count == 1 else "refused 1")


@pytest.mark.parametrize("count", [1, 100, 101])
@pytest.mark.parametrize("size", [0, 256, 257])
def test_a_document_has_so_many_keys_with_names_of_so_many_characters(count: int, size: int) -> None:
    asked, name = Asked(), "x" * size
    asked.keys = [jwk("ES256", f"{number}") for number in range(count - 1)] + [jwk("RS256", name)]
    expected = "unknown 2" if count > 100 else "refused 3" if size > 256 else "good 2"
    assert asked.find(name) == expected


def test_a_pair_whose_private_key_is_published_is_the_issuers_no_more_and_its_owner_is_told() -> None:
    asked = Asked()
    for name in ("d", "p", "q", "dp", "dq", "qi", "oth"):
        asked.keys = [jwk("RS256"), jwk("RS256", "other", 1), jwk("RS256", "again") | {name: "AQ"}]
        prefetched(asked)
        asked.now += 60
        assert [asked.find("k")[:7], asked.find("again")[:7], asked.find("other")] == ["refused", "refused", "good 0"]
        told = asked.log.lines[-1]
        assert (told["level"], told["issuer"], told["count"]) == ("error", ISSUER, 1)
    for kind in ("ES256", "EdDSA"):
        told_own = [jwk(kind), jwk(kind, "other", 1) | {"d": "AQ"}]
        asked.keys = [*told_own, jwk(kind, "same", 1)]
        prefetched(asked)
        asked.now += 60
        assert [asked.find("k", kind)[:4], asked.find("same", kind)[:7]] == ["good", "refused"]
    lines = len(asked.log.lines)
    asked.keys = [jwk("RS256")]
    prefetched(asked)
    assert (asked.find("k"), len(asked.log.lines)) == ("good 0", lines)


def test_what_is_no_key_is_passed_over() -> None:
    asked = Asked()
    asked.keys = ["k", None, 7, [], {"kid": 7}, {"kid": ["k"]}, jwk("RS256", None)]
    assert asked.find(None) == "good 2"


@pytest.mark.parametrize("document", [None, [], {"k": jwk("RS256")}, "keys", 5])
def test_a_document_without_a_list_of_keys_is_none(document: Any) -> None:
    asked = Asked()
    asked.keys = document
    assert [asked.look(), asked.look()] == ["unknown 2", "unknown 1"]


# ------------------------------------------------------------------------------------------------------------ signature


def test_the_algorithms_are_those_that_the_documents_promise() -> None:
    text = (Path(__file__).parents[3] / "docs" / "identity.md").read_text(encoding="utf-8")
    promised = text.partition("signed with ")[2].partition(", with")[0].replace(" or ", ", ")
    assert promised.split(", ") == list(ALGORITHMS)


KINDS = {"RS256": "RSA", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_goes_with_one_kind_of_key(algorithm: str) -> None:
    kind = algorithm.replace("PS", "RS").replace("RS384", "RS256").replace("RS512", "RS256")
    assert [each for each in KINDS if fits(jwk(each), algorithm)] == [kind]
    own = jwk(kind)
    for more, is_fit in (
        ({"alg": algorithm}, True),
        ({"alg": "RS1"}, False),
        ({"alg": "Ed25519"}, algorithm == "EdDSA"),
        ({"use": "enc"}, False),
        ({"key_ops": ["sign", "verify"]}, True),
        ({"key_ops": ["sign"]}, False),
        ({"key_ops": "verify"}, False),
    ):
        assert fits(own | more, algorithm) == is_fit
    assert fits({name: value for name, value in own.items() if name not in ("use", "alg")}, algorithm)
    assert not fits({name: value for name, value in own.items() if name != "kty"}, algorithm)


@pytest.mark.parametrize(
    ("bits", "is_used"), [(1024, False), (2047, False), (2048, True), (3072, True), (8192, True), (8193, False)]
)
def test_a_key_of_rsa_has_2048_to_8192_bits(bits: int, is_used: bool) -> None:
    from jwt.utils import to_base64url_uint  # noqa: PLC0415  # of no other test

    own = jwk("RS256") | {"n": to_base64url_uint(2 ** (bits - 1) + 1).decode()}
    assert (loaded(own, "RS256") is not None) == is_used


PRIME = 2**255 - 19
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [0, 1, PRIME - 1, PRIME, PRIME + 1, ORDER_8, PRIME - ORDER_8], ids=range(7))
def test_a_key_of_ed25519_for_which_anybody_can_sign_is_none(y: int, sign: int) -> None:
    point = (y | sign << 255).to_bytes(32, "little")
    forged = (encoded(bytes([1, *bytes(63)])), encoded(point + bytes(32)))  # each fits one text in eight, or all
    texts = [f"e30.{encoded({'number': number})}" for number in range(200)]
    key = PyJWK({"kty": "OKP", "crv": "Ed25519", "x": encoded(point)}, "EdDSA")
    assert any(is_signed(f"{text}.{each}", key, "EdDSA") for text in texts for each in forged)
    assert loaded({"kty": "OKP", "crv": "Ed25519", "x": encoded(point)}, "EdDSA") is None


@pytest.mark.parametrize("name", ["n", "e", "kty"])
def test_a_key_of_which_something_is_missing_is_none(name: str) -> None:
    assert loaded({each: value for each, value in jwk("RS256").items() if each != name}, "RS256") is None


@pytest.mark.parametrize("value", [None, 5, [], {}, "", "A", "AA", "%", "é", "\ud800", "A" * 200_000])
def test_a_key_with_something_of_another_form_is_none(value: Any) -> None:
    for algorithm, names in (("RS256", "ne"), ("ES256", "xy"), ("EdDSA", "x")):
        for name in names:
            assert loaded(jwk(algorithm) | {name: value}, algorithm) is None


# --------------------------------------------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"nbf": 0, "iat": 0}, ""),
        ({"exp": 0}, "token_expired"),
        ({"exp": 253_402_300_799, "nbf": 0.0}, ""),
        ({"exp": 253_402_300_799.5}, "token_malformed"),
        ({"iat": -0.001}, "token_malformed"),
        ({"exp": False}, "token_malformed"),
        ({"nbf": NOW + 60, "iat": NOW + 60}, ""),
        ({"nbf": NOW + 60.001}, "token_not_yet_valid"),
        ({"exp": NOW - 60, "nbf": NOW - 60}, "token_expired"),
        ({"aud": ["x"] * 63 + ["chat"]}, ""),
        ({"aud": ["x"] * 64 + ["chat"]}, "token_audience"),
        ({"sub": "x"}, ""),
        ({"sub": "x" * 255}, ""),
        ({"sub": "x" * 256}, "token_subject"),
        ({"sub": "x "}, "token_subject"),
    ],
)
def test_claims_are_good_up_to_their_bounds(claims: dict[str, Any], code: str) -> None:
    issuer = Issuer(ISSUER, ("chat",), PlanChoice("free"))
    if not code:
        check(good(**claims), issuer, NOW)
        return
    with pytest.raises(TokenRefusedError) as refused:
        check(good(**claims), issuer, NOW)
    assert (refused.value.code, refused.value.issuer) == (code, ISSUER)


def test_a_claim_has_the_values_that_the_file_writes() -> None:
    several: list[Any] = [True, False, 1, 10**18 - 1, 1 - 10**18, 10**18, -(10**18), "x", "a b", None, 1.5, ["y"]]
    expected = {"true", "false", "1", str(10**18 - 1), str(1 - 10**18), "x", "a b"}
    assert values_of({"a": several}, "a") == expected
    assert values_of({"scope": "a  b"}, "scope") == {"a", "", "b"}
    assert values_of({"scp": "a b"}, "scp") == values_of({"scp": ["a", "b"]}, "scp") == {"a", "b"}
    assert values_of({"a.b": "own", "a": {"b": "inner"}}, "a.b") == {"own"}
    assert values_of({"a": {"b": {"c": ["x"]}}}, "a.b.c") == {"x"}
    assert values_of({"a": "x"}, "b") == values_of({"a": "x"}, "a.b") == frozenset()


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_a_key_whose_point_is_on_no_curve_is_none(algorithm: str) -> None:
    own = jwk(algorithm)
    assert loaded(own, algorithm) is not None
    assert loaded(own | {"x": own["y"], "y": own["x"]}, algorithm) is None
    assert loaded(own | {"x": own["x"][:-4]}, algorithm) is None
