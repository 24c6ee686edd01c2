"""Tokens, and the keys of their issuer, as time goes by: when those are fetched, and how long they are good."""

import base64
import functools
import math
import threading
import time
from typing import Any

import pytest
from authorizer.authorizer import NOT_CHECKED
from authorizer.https_get import FetchError
from authorizer.refusal import KeysUnavailableError
from authorizer.users import Users, _since_boot, keys_of_issuers
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.identity import parse_identity

from tests.examples import examples
from tests.identity.desk import FILE, Desk, ask
from tests.identity.issuers import ISSUER, NOW, FakeIssuer, good, jwk, private_key, token

FRESH, LOOKS_WITHIN, MOST_LOOKS, PAUSE, STALE = 600.0, 30.0, 3, 30.0, 21600.0


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_keys_are_fetched_once_and_again_after_ten_minutes(desk: Desk) -> None:
    for now in (0, 1, 600):
        desk.clock.now = NOW + now
        assert desk.code(token(good(exp=NOW + 5000, now=now))) == ""
    assert len(desk.issuer.asked) == 2
    desk.clock.now = NOW + 601
    assert desk.code(token(good(exp=NOW + 5000))) == ""
    assert len(desk.issuer.asked) == 3  # where its keys are is known


def test_prefetched_keys_need_no_second_look(desk: Desk) -> None:
    desk.users.prefetch()
    assert desk.code(token()) == ""
    desk.issuer.is_down = True
    assert desk.code(token(good(sub="eve"))) == ""
    assert len(desk.issuer.asked) == 2


def test_the_keys_of_an_issuer_are_prefetched_though_nobody_asks() -> None:
    fetched = threading.Event()

    def fetch(_address: str, _seconds: float) -> dict[str, Any]:
        fetched.set()
        raise FetchError("down")

    Desk(issuer=fetch).users.prefetch()
    assert fetched.wait(60)


def test_a_key_that_is_new_is_fetched_at_once_and_one_that_is_gone_is_good_no_more(desk: Desk) -> None:
    old, new = token(), token(number=1, kid="new")
    assert desk.code(old) == ""
    desk.issuer.keys = [jwk("RS256"), jwk("RS256", "new", 1)]
    assert [desk.code(new), desk.code(old)] == ["", ""]
    desk.issuer.keys = [jwk("RS256", "new", 1)]
    assert desk.code(old) == ""  # until the next look
    desk.clock.now = NOW + 601
    later = token(good(exp=NOW + 5000), number=1, kid="new")
    assert desk.code(later) == ""
    assert desk.code(token(good(exp=NOW + 5000))) == "token_key"


def test_made_up_keys_have_the_issuer_asked_a_few_times_only(desk: Desk) -> None:
    for number in range(50):
        assert desk.code(token(kid=f"made up {number}")) == "token_key"
    assert len(desk.issuer.asked) <= 6
    desk.issuer.keys.append(jwk("RS256", "new", 1))
    new = token(number=1, kid="new")
    assert desk.code(new) == "token_key"
    desk.clock.now = NOW + 30
    assert desk.code(new) == ""


def test_while_the_issuer_is_down_its_keys_stay_good_for_six_hours(desk: Desk) -> None:
    assert desk.code(token()) == ""
    desk.issuer.is_down = True
    for hours in (1, 3, 6):
        desk.clock.now = NOW + hours * 3600
        assert desk.code(token(good(exp=NOW + 10**6, hours=hours))) == ""
    asked = len(desk.issuer.asked)
    assert desk.code(token(good(exp=NOW + 10**6, again=1))) == ""
    assert len(desk.issuer.asked) == asked  # it is left alone for a moment
    text = token(good(exp=NOW + 10**6, last=1))
    assert desk.code(text) == ""
    desk.clock.now = NOW + 6 * 3600 + 1
    for each in (text, token(good(exp=NOW + 10**6))):
        with pytest.raises(KeysUnavailableError):
            desk.users(each)
    desk.issuer.is_down = False
    assert desk.code(text) == ""


def test_without_any_keys_nobody_can_say_and_that_is_never_remembered(desk: Desk) -> None:
    desk.issuer.is_down = True
    for _ in range(2):
        with pytest.raises(KeysUnavailableError):
            ask(desk, token())
    assert desk.log.getvalue().count(NOT_CHECKED) == 2
    desk.issuer.is_down = False
    assert desk.code(token()) == ""


def test_a_new_key_of_an_issuer_that_is_down_is_no_forgery_however_often_it_comes(desk: Desk) -> None:
    assert desk.code(token()) == ""
    desk.issuer.is_down = True
    asked = len(desk.issuer.asked)
    for _ in range(9):
        with pytest.raises(KeysUnavailableError):
            desk.users(token(number=1, kid="new"))
    assert len(desk.issuer.asked) == asked + MOST_LOOKS
    assert desk.code(token()) == "", "the others go on"
    desk.issuer.is_down, desk.issuer.keys = False, [jwk("RS256", "new", 1)]
    desk.clock.now = NOW + LOOKS_WITHIN
    assert desk.code(token(number=1, kid="new")) == ""
    assert desk.code(token(kid="made up")) == "token_key"


@functools.cache
def of_key(number: int) -> str:
    return token(good(exp=NOW + 10**7), "ES256", header={"alg": "ES256", "kid": f"{number}"})


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 9, 31, 400, 601, 3600, 7 * 3600])),
    st.tuples(st.just("ask"), st.integers(0, 4)),
    st.tuples(st.sampled_from(["rotate", "withdraw", "down", "up", "forge"]), st.just(0)),
)


class Watched:
    """A desk, its issuer, and what the latest look at that has said."""

    def __init__(self) -> None:
        self.desk = Desk(jwk("ES256", "0"))
        self.published, self.seen, self.looks = {0}, set[int](), list[float]()
        self.seen_at = self.failed_at = -math.inf

    def happen(self, what: str, value: int) -> None:
        issuer = self.desk.issuer
        if what == "wait":
            self.desk.clock.now += value
        elif what in ("down", "up"):
            issuer.is_down = what == "down"
        else:
            newest = max(self.published)
            self.published = {newest} if what == "withdraw" else {*self.published, (newest + 1) % 5}
            issuer.keys = [jwk("ES256", f"{number}") for number in self.published]

    def code(self, text: str) -> str:
        """Why a token is refused, "" where it is not, 503 where nobody can say."""
        before, now = len(self.desk.issuer.asked), self.desk.clock.now
        try:
            return self.desk.code(text)
        except KeysUnavailableError:
            return "503"
        finally:
            if len(self.desk.issuer.asked) > before:
                self.looks.append(now)
                if self.desk.issuer.is_down:
                    self.failed_at = now
                else:
                    self.seen, self.seen_at = self.published, now

    def looks_within(self, seconds: float) -> int:
        return sum(self.desk.clock.now - each < seconds for each in self.looks)


@settings(max_examples=examples(25))
@given(st.lists(STEPS, max_size=40))
def test_keys_come_and_go_and_the_issuer_too_and_no_token_is_taken_or_refused_wrongly(steps: list[Any]) -> None:
    """Each key is as good as the latest look says, which is as old as the bounds allow; and looks are few."""
    world = Watched()
    for what, value in [*steps, ("up", 0), ("wait", 601), *(("ask", number) for number in range(5))]:
        if what not in ("ask", "forge"):
            world.happen(what, value)
            continue
        code = world.code(of_key(value) if what == "ask" else token(kid="made up", algorithm="ES256"))
        is_known, is_down = what == "ask" and value in world.seen, world.desk.issuer.is_down
        age = world.desk.clock.now - world.seen_at
        if code == "":
            assert is_known
            assert age <= (STALE if world.desk.clock.now - world.failed_at < PAUSE else FRESH)
        elif code == "token_key":
            is_worn = world.looks_within(LOOKS_WITHIN) >= MOST_LOOKS
            assert not is_known
            assert what == "forge" or value not in world.published or is_worn
        else:
            assert code == "503"
            assert is_down or world.looks_within(LOOKS_WITHIN)
            assert not is_known or age > STALE
        assert world.looks_within(LOOKS_WITHIN) <= 2 * MOST_LOOKS + 1


def test_what_is_known_of_an_issuer_ages_in_a_frozen_sandbox_too() -> None:
    boot = time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    assert 0 <= _since_boot() - boot < 60


def counting(judged: list[str]) -> Desk:
    """A desk that says whose tokens it judges: one that it remembers has its pseudonym already."""

    def pseudonym(_: str, sub: str) -> str:
        judged.append(sub)
        return f"called {sub}"

    file = FILE.replace("plan: free", "plan: free, pseudonyms: true")
    identity = parse_identity(file, allow_loopback=True)
    desk = Desk(jwk("ES256"), file=file)
    assert identity
    desk.users = Users(
        identity,
        desk.blocks,
        keys_of_issuers(identity, desk.issuer, desk.logger, desk.clock),
        pseudonym,
        desk.clock,
    )
    return desk


def short(sub: str, exp: int = NOW + 10**6) -> str:
    return token(good(sub=sub, exp=exp), "ES256")


def test_a_token_is_judged_once_in_five_minutes_and_its_user_is_asked_for_each_time() -> None:
    judged, counts = list[str](), list[int]()
    desk, text = counting(judged), short("ada")
    for second in (0.0, 0.5, 299.5, 300.0, 599.5, 600.0):
        desk.clock.now = NOW + second
        assert desk.users(text).end_user == "called ada"
        counts.append(len(judged))
    assert counts == [1, 1, 1, 2, 2, 3]
    assert len(desk.blocks.asked) == 6


def test_what_was_judged_is_remembered_no_longer_than_the_token_is_good_and_with_the_keys_that_signed_it() -> None:
    judged = list[str]()
    desk = counting(judged)
    text, other = short("ada", NOW + 60), short("eve")
    assert [desk.code(each) for each in (text, other, text, other)] == [""] * 4
    desk.clock.now = NOW + 59.5
    assert (desk.code(text), judged) == ("", ["ada", "eve"])
    desk.clock.now = NOW + 60
    assert (desk.code(text), desk.code(text), judged) == ("", "", ["ada", "eve", "ada", "ada"])
    desk.clock.now = NOW + 120
    judged.clear()
    assert (desk.code(text), desk.code(other), judged) == ("token_expired", "", [])
    desk.issuer.keys = [jwk("ES256"), jwk("ES256", "new")]
    new = token(good(sub="new", exp=NOW + 10**6), "ES256", kid="new")  # so the issuer's keys are looked at
    assert (desk.code(new), desk.code(other), desk.code(other), judged) == ("", "", "", ["new", "eve"])


def test_a_thousand_are_remembered_and_the_one_judged_first_goes_first() -> None:
    judged = list[str]()
    desk = counting(judged)
    texts = [short(f"{number}") for number in range(1001)]
    for text in texts[:1000]:
        desk.users(text)
    judged.clear()
    for number in (0, 999, 1000, 1, 0, 2, 1):
        desk.users(texts[number])
    assert judged == ["1000", "0", "1"]
    judged.clear()
    desk.clock.now = NOW + 300
    for text in (texts[3], short("new"), texts[3]):
        desk.users(text)
    assert judged == ["3", "new"], "one that is judged again is the latest"


@pytest.mark.parametrize(
    ("issuer", "jwks_uri"),
    [
        ("https://evil.example.com", ""),
        (ISSUER + "/", ""),
        (ISSUER, "https://evil.example.com/keys"),
        (ISSUER, "https://id.example.com.evil.com/keys"),
        (ISSUER, "https://id.example.com:8443/keys"),
        (ISSUER, "https://id.example.com@evil.com/keys"),
        (ISSUER, "http://id.example.com/keys"),
        (ISSUER, "http://127.0.0.1/keys"),
        (ISSUER, "file:///etc/passwd"),
    ],
)
def test_a_description_that_leads_elsewhere_is_not_followed(issuer: str, jwks_uri: str) -> None:
    desk = Desk(issuer=FakeIssuer(jwk("RS256"), issuer=issuer, jwks_uri=jwks_uri))
    with pytest.raises(KeysUnavailableError):
        desk.users(token())
    assert desk.issuer.asked == [f"{ISSUER}/.well-known/openid-configuration"]


def test_keys_at_another_host_are_where_the_file_says() -> None:
    elsewhere = "https://www.example.net/certs"
    file = FILE.replace("plan: free", f"plan: free, jwks_url: '{elsewhere}'")
    desk = Desk(file=file, issuer=FakeIssuer(jwk("RS256"), jwks_uri=elsewhere))
    assert desk.code(token()) == ""
    assert desk.issuer.asked == [elsewhere]


def private(algorithm: str) -> dict[str, Any]:
    numbers = private_key(algorithm).private_numbers().d
    return {"d": base64.urlsafe_b64encode(numbers.to_bytes(256, "big")).decode()}


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ([jwk("RS256", use="enc")], "token_key"),
        ([jwk("RS256", alg="RS512")], "token_key"),
        ([jwk("RS256", key_ops=["sign"])], "token_key"),
        ([jwk("RS256", key_ops="verify")], "token_key"),
        ([jwk("RS256", kty="oct", k="c2VjcmV0")], "token_key"),
        ([jwk("RS256", n="AQAB")], "token_key"),
        ([jwk("RS256", n="!")], "token_key"),
        ([jwk("RS256", n=7)], "token_key"),
        ([jwk("RS256", e="AA" * 3000)], "token_key"),
        ([jwk("RS256", number=1), jwk("RS256")], ""),
        ([jwk("RS256", number=1), jwk("RS256", number=1)], "token_signature"),
        (["k", None, 7, {"kid": 7}, {}, jwk("RS256")], ""),
        ([jwk("RS256", alg="RS256", key_ops=["verify"])], ""),
        ([jwk("ES256", kid="k"), jwk("RS256")], ""),
        ([jwk("RS256") | private("RS256")], "token_key"),
        ([jwk("RS256"), jwk("RS256") | private("RS256")], "token_key"),
        ([jwk("RS256", kid="old", number=1) | {"p": "AQ"}, jwk("RS256")], ""),
    ],
)
def test_a_key_is_used_for_what_it_is_for(keys: list[Any], code: str) -> None:
    assert Desk(*keys).code(token()) == code


def test_a_curve_goes_with_its_algorithm() -> None:
    for algorithm, other in (("ES256", "ES384"), ("ES384", "ES512"), ("EdDSA", "ES256")):
        assert Desk(jwk(other)).code(token(algorithm=algorithm)) == "token_key"


def test_the_file_can_allow_fewer_algorithms() -> None:
    desk = Desk(jwk("ES256"), file=FILE.replace("plan: free", "plan: free, algorithms: [RS256]"))
    assert desk.code(token(algorithm="ES256")) == "token_algorithm"


@pytest.mark.parametrize("keys", [[], [jwk("RS256", f"{n}") for n in range(101)]], ids=["none", "too many"])
def test_a_document_of_no_usable_size_is_none(keys: list[Any]) -> None:
    desk = Desk()
    desk.issuer.keys = keys
    with pytest.raises(KeysUnavailableError):
        desk.users(token())
