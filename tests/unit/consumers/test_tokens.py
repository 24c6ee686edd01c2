"""Access tokens at the authorizer: those that are good, those that are forged, and what their users may do."""

import base64
import hashlib
import hmac
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import pytest
from authorizer.authorizer import NOT_CHECKED
from authorizer.claims import check, values_of
from authorizer.client_key import UnknownTeamError
from authorizer.pseudonyms import pseudonyms_of
from authorizer.refusal import KeysUnavailableError, TokenRefusedError
from authorizer.signature import is_signed
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK
from jwt.algorithms import RSAAlgorithm
from openai_proxy.identity import ALGORITHMS, parse_identity, user_id_of
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits

from tests.identity.desk import FILE, Desk, ask
from tests.identity.issuers import (
    ISSUER,
    NOW,
    FakeIssuer,
    encoded,
    good,
    jwk,
    public_pem,
    signature,
    token,
)

RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "data/issuers.json").read_text())


@pytest.fixture
def desk() -> Desk:
    return Desk()


# ------------------------------------------------------------------------------------------------------------ good ones


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_that_is_allowed_is_checked(algorithm: str) -> None:
    desk = Desk(jwk(algorithm))
    assert desk.code(token(algorithm=algorithm)) == ""
    text, _, _ = token(algorithm=algorithm).rpartition(".")
    assert desk.code(f"{text}.{encoded(signature(text + 'x', algorithm))}") == "token_signature"


def test_keys_of_one_name_are_all_the_issuers() -> None:
    damaged = jwk("EdDSA") | {"x": "A"}
    desk = Desk(damaged, *(jwk("EdDSA", number=number) for number in (0, 0, 1)))
    codes = [desk.code(token(algorithm="EdDSA", number=number)) for number in (0, 1, 2)]
    assert codes == ["", "", "token_signature"]


@pytest.mark.parametrize("bits", [2048, 2056, 2064], ids=["of 342", "of 343", "of 344"])
def test_a_signature_of_any_length_has_one_form(bits: int) -> None:
    private = rsa.generate_private_key(65537, bits)
    text = f"{encoded({'alg': 'RS256'})}.{encoded(good())}"
    signed = f"{text}.{encoded(RSAAlgorithm(RSAAlgorithm.SHA256).sign(text.encode(), private))}"
    key = PyJWK(RSAAlgorithm.to_jwk(private.public_key(), as_dict=True), "RS256")
    assert is_signed(signed, key, "RS256")
    assert not is_signed(signed, key, "RS512")
    for changed in (f"{signed}=", f"{signed}==", signed[:-1], f"{signed}A", f"{signed} ", f"x{signed}"):
        assert not is_signed(changed, key, "RS256")


@pytest.mark.parametrize("listed", ["EdDSA", "Ed25519"])
@pytest.mark.parametrize("of_key", [{}, {"alg": "EdDSA"}, {"alg": "Ed25519"}], ids=str)
def test_newer_issuers_call_eddsa_by_its_curve(listed: str, of_key: dict[str, Any]) -> None:
    file = FILE.replace("plan: free", f"plan: free, algorithms: [{listed}]")
    for name in ("EdDSA", "Ed25519"):
        assert Desk(jwk("EdDSA", **of_key), file=file).code(token(algorithm="EdDSA", alg=name)) == ""
    assert Desk(jwk("EdDSA", alg="ES256")).code(token(algorithm="EdDSA", alg="Ed25519")) == "token_key"


@pytest.mark.parametrize("server", RECORDED, ids=[each["server"].partition(" ")[0] for each in RECORDED])
def test_tokens_of_servers_of_other_projects_are_taken_as_they_were_sent(server: dict[str, Any]) -> None:
    """Description, keys and tokens were recorded when somebody signed in there."""
    issuer, description = server["issuer"], server["description"]
    documents = {f"{issuer}/.well-known/openid-configuration": description, description["jwks_uri"]: server["keys"]}
    file = FILE.replace(ISSUER, issuer).replace("other]", "page-RS256]")

    def fetch(address: str, _seconds: float) -> dict[str, Any]:
        return documents[address]

    desk = Desk(file=file, issuer=fetch)
    desk.clock.now = server["recorded_at"]
    for name, text in server["tokens"].items():
        assert (desk.code(text), desk.users(text).end_user) == ("", "ada"), name
        assert desk.code(f"{text.rpartition('.')[0]}.{encoded(bytes(64))}") == "token_signature"
    desk.clock.now += 3600 + 60
    assert {desk.code(text) for text in server["tokens"].values()} == {"token_expired"}


def test_a_user_is_a_client_of_the_plan_with_limits_of_their_own(desk: Desk) -> None:
    key = desk.users(token())
    user = user_id_of(ISSUER, "ada")
    assert key == ClientKey(
        client_id="free",
        servers=("demo",),
        models=("demo",),
        key_id=user,
        name="free",
        expires_at=NOW + 300,
        limits=Limits(user, rpm=10, budget_day=Decimal("0.5")),
        line=user,
        end_user="ada",
    )
    assert ClientKey.from_context(key.to_context()) == key
    other = desk.users(token(good(sub="grace")))
    assert other.limits
    assert {other.limits.id, other.line, other.key_id}.isdisjoint({user})


def test_a_plan_without_limits_gives_none() -> None:
    key = Desk(file=FILE.replace("plan: free", "plan: pro")).users(token())
    assert (key.client_id, key.name, key.limits, key.end_user) == ("paying", "Pro", None, "ada")


def test_the_same_name_at_two_issuers_is_two_users() -> None:
    assert user_id_of(ISSUER, "ada") != user_id_of("https://other.example.com", "ada")


@pytest.mark.parametrize(
    ("tier", "client"), [("gold", "paying"), (["x", "gold"], "paying"), ("lead", "free"), (None, "free"), (7, "free")]
)
def test_the_plan_is_that_of_a_claim(tier: Any, client: str) -> None:
    file = FILE.replace("plan: free", "plans: {claim: tier, gold: pro, default: free}")
    assert Desk(file=file).users(token(good(tier=tier))).client_id == client


def test_of_several_values_the_first_in_the_file_counts_and_without_a_default_there_is_no_plan() -> None:
    desk = Desk(file=FILE.replace("plan: free", "plans: {claim: groups, staff: pro, all: free}"))
    assert desk.users(token(good(groups=["all", "staff"]))).client_id == "paying"
    assert desk.code(token(good(groups=["none"]))) == "token_plan"
    assert desk.code(token()) == "token_plan"


@pytest.mark.parametrize(
    ("audience_claim", "claims", "code"),
    [
        ("client_id", {"aud": None, "client_id": "chat"}, ""),
        ("client_id", {"aud": "chat"}, "token_audience"),
        ("client_id", {"aud": "chat", "client_id": "another"}, "token_audience"),
        ("aud", {"aud": None, "client_id": "chat"}, "token_audience"),
    ],
)
def test_the_audience_stands_where_the_file_says(audience_claim: str, claims: dict[str, Any], code: str) -> None:
    desk = Desk(file=FILE.replace("plan: free", f"plan: free, audience_claim: {audience_claim}"))
    assert desk.code(token(good(**claims))) == code


def test_cognitos_access_tokens_name_their_client_and_its_id_tokens_their_audience() -> None:
    issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbC"
    identity = parse_identity(FILE.replace(ISSUER, issuer))
    assert identity
    cognito = identity.issuers[issuer]
    for claims in ({"aud": None, "client_id": "chat"}, {"aud": "chat"}):
        check(good(**claims), cognito, NOW)
    for claims in ({"aud": None, "client_id": "x"}, {"aud": "x", "client_id": "chat"}, {"aud": None}):
        with pytest.raises(TokenRefusedError, match="token_audience"):
            check(good(**claims), cognito, NOW)


def test_pseudonyms_are_the_same_for_the_same_user_and_lead_nowhere_without_the_secret() -> None:
    named = pseudonyms_of(lambda: FakeSecrets("s" * 32), "secret")
    assert named(ISSUER, "ada") == named(ISSUER, "ada") != named(ISSUER, "grace")
    assert named(ISSUER, "ada") != pseudonyms_of(lambda: FakeSecrets("t" * 32), "secret")(ISSUER, "ada")
    for secret, name in (("s" * 31, "secret"), (None, "secret"), ("s" * 32, None)):
        with pytest.raises(KeysUnavailableError):
            pseudonyms_of(lambda secret=secret: FakeSecrets(secret), name)(ISSUER, "ada")
    desk = Desk(file=FILE.replace("plan: free", "plan: free, pseudonyms: true"))
    with pytest.raises(KeysUnavailableError):  # nobody is let in under their own name instead
        desk.users(token())


class FakeSecrets:
    def __init__(self, value: str | None) -> None:
        self._value = value

    def get_secret_value(self, **_: Any) -> dict[str, Any]:
        return {} if self._value is None else {"SecretString": self._value}


# ---------------------------------------------------------------------------------------------------------- forged ones


def hmac_token(secret: bytes, **headers: Any) -> str:
    text = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k'} | headers)}.{encoded(good())}"
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def unsigned(algorithm: Any) -> str:
    return f"{encoded({'alg': algorithm, 'kid': 'k'})}.{encoded(good())}."


def other_form(text: str) -> str:
    """The same bytes, in base64 whose last character has bits that count for nothing."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = text[:-1] + digits[digits.index(text[-1]) ^ 1]
    padding = "=" * (-len(text.rpartition(".")[2]) % 4)
    same = [base64.urlsafe_b64decode(each.rpartition(".")[2] + padding) for each in (text, changed)]
    assert same[0] == same[1]
    return changed


def raw(claims: str, header: str = '{"alg":"RS256","kid":"k"}') -> str:
    return token(claims, header=header)


def signed_with_own_key() -> str:
    """Signed by a stranger, who sends the key along."""
    own = jwk("RS256", number=1)
    return token(number=1, jwk=own, jku="https://evil.example.com/keys", x5u="https://evil.example.com/x", kid="k")


GOOD_JSON = json.dumps(good())
FORGED: dict[str, tuple[Any, str]] = {
    # Algorithms.
    **{f"alg {name!r}": (lambda name=name: unsigned(name), "token_algorithm") for name in ("none", "None", "nOnE", "")},
    "alg null": (lambda: unsigned(None), "token_algorithm"),
    "alg list": (lambda: unsigned(["RS256"]), "token_algorithm"),
    "no alg": (lambda: token(header={"kid": "k"}), "token_algorithm"),
    "alg in small letters": (lambda: token(alg="rs256"), "token_algorithm"),
    "HS256 with the public key": (lambda: hmac_token(public_pem()), "token_algorithm"),
    "HS256 with the modulus": (lambda: hmac_token(jwk("RS256")["n"].encode()), "token_algorithm"),
    "HS256 with nothing": (lambda: hmac_token(b""), "token_algorithm"),
    "a signature of no length": (lambda: token().rpartition(".")[0] + ".AAAAA", "token_signature"),
    "a signature and more": (lambda: token() + "AAAA", "token_signature"),
    "a signature in another form": (lambda: other_form(token()), "token_signature"),
    "RS256 without a signature": (lambda: unsigned("RS256"), "token_signature"),
    "PS256 in the name of RS256": (lambda: token(algorithm="PS256", alg="RS256"), "token_signature"),
    "RS512 in the name of RS256": (lambda: token(algorithm="RS512", alg="RS256"), "token_signature"),
    "ES256 with the RSA key's name": (lambda: token(algorithm="ES256"), "token_key"),
    "HS256 with the key's document": (lambda: hmac_token(json.dumps(jwk("RS256")).encode()), "token_algorithm"),
    "Ed448": (lambda: token(alg="Ed448"), "token_algorithm"),
    "alg of another script": (lambda: token(alg="RS\uff1256"), "token_algorithm"),
    "alg object": (lambda: token(alg={"RS256": 1}), "token_algorithm"),
    "alg twice, escaped": (lambda: raw(GOOD_JSON, '{"alg":"RS256","\\u0061lg":"none","kid":"k"}'), "token_malformed"),
    "a signature of zeros": (lambda: f"{token().rpartition('.')[0]}.{encoded(bytes(256))}", "token_signature"),
    "ES256K": (lambda: token(alg="ES256K"), "token_algorithm"),
    # Keys.
    "key of somebody else": (lambda: token(number=1), "token_signature"),
    "brings its own key": (signed_with_own_key, "token_signature"),
    **{
        f"kid {kid!r:.30}": (lambda kid=kid: token(number=1, kid=kid), "token_key")
        for kid in (
            "../../dev/null",
            "/etc/passwd",
            "https://evil.example.com/keys",
            "' OR 1=1 --",
            "k\0",
            "K",
            "",
            "x" * 256,
        )
    },
    "kid number": (lambda: token(kid=1), "token_malformed"),
    "kid list": (lambda: token(kid=["k"]), "token_malformed"),
    "kid too long": (lambda: token(kid="x" * 257), "token_malformed"),
    # Headers that change how the rest is read.
    "crit": (lambda: token(crit=["exp"], exp=NOW), "token_malformed"),
    "crit b64": (lambda: token(crit=["b64"], b64=False), "token_malformed"),
    "crit b64 true": (lambda: token(crit=["b64"], b64=True), "token_malformed"),
    "crit empty": (lambda: token(crit=[]), "token_malformed"),
    "b64": (lambda: token(b64=False), "token_malformed"),
    "zip": (lambda: token(zip="DEF"), "token_malformed"),
    "enc": (lambda: token(enc="A128GCM"), "token_malformed"),
    **{
        f"typ {kind!r}": (lambda kind=kind: token(typ=kind), "token_malformed")
        for kind in ("logout+jwt", "JOSE", "dpop+jwt", "", "JWT\0")
    },
    "typ null": (lambda: raw(GOOD_JSON, '{"alg":"RS256","kid":"k","typ":null}'), "token_malformed"),
    "a token in a token": (lambda: token(token(), cty="JWT"), "token_malformed"),
    "typ list": (lambda: token(typ=["JWT"]), "token_malformed"),
    # Form.
    "1 MB": (lambda: token(good(filler="x" * 2**20)), "token_too_large"),
    "1 MB of dots": (lambda: "." * 2**20, "token_too_large"),
    "8192": (lambda: "a.b." + "c" * 8188, "token_malformed"),
    "8193": (lambda: "a.b." + "c" * 8189, "token_too_large"),
    "two parts": (lambda: "eyJhbGciOiJub25lIn0.e30", "token_malformed"),
    "four parts": (lambda: token() + ".x", "token_malformed"),
    "JWE": (lambda: "eyJhbGciOiJSU0EtT0FFUCJ9.a.b.c.d", "token_malformed"),
    "padding": (lambda: token() + "=", "token_malformed"),
    "line end": (lambda: token() + "\n", "token_malformed"),
    "blank": (lambda: " " + token(), "token_malformed"),
    **{
        f"{sign!r} within": (lambda sign=sign: token().replace(".", sign, 1), "token_malformed")
        for sign in (".\t", "=.", "\uff0e", ".\u200b", ".%2E", ". .")
    },
    "1 MB of signature": (lambda: token() + "A" * 2**20, "token_too_large"),
    "a mark of byte order": (lambda: raw("\ufeff" + GOOD_JSON), "token_malformed"),
    "claims and more": (lambda: raw(GOOD_JSON + "{}"), "token_malformed"),
    "claims with a remark": (lambda: raw(GOOD_JSON + "//x"), "token_malformed"),
    "bytes in an overlong form": (lambda: token(GOOD_JSON.encode().replace(b"ada", b"\xc0\xe1da")), "token_malformed"),
    "plus and slash": (lambda: token().replace(".", ".+/", 1), "token_malformed"),
    "not base64": (lambda: f"a.{encoded(good())}.c", "token_malformed"),
    "UTF-16": (lambda: token(json.dumps(good()).encode("utf-16")), "token_malformed"),
    "not UTF-8": (lambda: token(b'{"sub":"\xff"}'), "token_malformed"),
    "lone surrogates": (lambda: token(good(sub="\ud800")), "token_subject"),
    "header is a list": (lambda: raw(GOOD_JSON, '["alg"]'), "token_malformed"),
    "claims are a list": (lambda: raw("[]"), "token_malformed"),
    "claims are nothing": (lambda: raw("null"), "token_malformed"),
    "deep": (lambda: raw("[" * 2000 + "]" * 2000), "token_malformed"),
    "claim twice": (lambda: raw(GOOD_JSON[:-1] + ',"sub":"root"}'), "token_malformed"),
    "claim twice, escaped": (lambda: raw(GOOD_JSON[:-1] + ',"s\\u0075b":"root"}'), "token_malformed"),
    "inner claim twice": (lambda: raw(GOOD_JSON[:-1] + ',"a":{"b":1,"b":2}}'), "token_malformed"),
    "header twice": (lambda: raw(GOOD_JSON, '{"alg":"none","alg":"RS256","kid":"k"}'), "token_malformed"),
    "NaN": (lambda: raw(GOOD_JSON[:-1] + ',"x":NaN}'), "token_malformed"),
    # Issuer.
    "another issuer": (lambda: token(good(iss="https://evil.example.com")), "token_issuer"),
    "no issuer": (lambda: token(good(iss=None)), "token_issuer"),
    **{
        f"issuer {name!r}": (lambda name=name: token(good(iss=name)), "token_issuer")
        for name in (
            *(ISSUER + end for end in ("/", "/.", "?", "#", " ", "\0", "%2F")),
            *(ISSUER.upper(), ISSUER.replace("id.", "ID."), ISSUER.replace("https", "http")),
            *(ISSUER.replace(".com", ".com:443"), ISSUER.replace("id.", "\u0456d.")),
        )
    },
    "issuer list": (lambda: token(good(iss=[ISSUER])), "token_issuer"),
    "issuer object": (lambda: token(good(iss={ISSUER: 1})), "token_issuer"),
    # Time.
    "expired by 61 s": (lambda: token(good(exp=NOW - 61)), "token_expired"),
    "expired by 60 s": (lambda: token(good(exp=NOW - 60)), "token_expired"),
    "no exp": (lambda: token(good(exp=None)), "token_malformed"),
    **{
        f"exp {name}": (lambda value=value: token(good(exp=value)), "token_malformed")
        for name, value in {
            "in text": str(NOW + 300),
            "in hexadecimal": hex(NOW + 300),
            "true": True,
            "in a list": [NOW + 300],
            "in an object": {"a": 1},
            "negative": -1,
            "in milliseconds": (NOW + 300) * 1000,
            "without end": 10**300,
        }.items()
    },
    "exp null": (lambda: raw(GOOD_JSON.replace(str(NOW + 300), "null")), "token_malformed"),
    "exp Infinity": (lambda: raw(GOOD_JSON.replace(str(NOW + 300), "Infinity")), "token_malformed"),
    "EXP": (lambda: raw(GOOD_JSON.replace('"exp"', '"EXP"')), "token_malformed"),
    "iat in milliseconds": (lambda: token(good(iat=NOW * 1000)), "token_malformed"),
    "nbf null": (lambda: raw(GOOD_JSON[:-1] + ',"nbf":null}'), "token_malformed"),
    "exp 1e999": (lambda: raw(GOOD_JSON.replace(str(NOW + 300), "1e999")), "token_malformed"),
    "exp of 400 digits": (lambda: raw(GOOD_JSON.replace(str(NOW + 300), "9" * 400)), "token_malformed"),
    "nbf of 400 digits": (lambda: token(good(nbf=10**400)), "token_malformed"),
    "exp of 5000 digits": (lambda: raw(GOOD_JSON.replace(str(NOW + 300), "9" * 5000)), "token_malformed"),
    "nbf in 61 s": (lambda: token(good(nbf=NOW + 61)), "token_not_yet_valid"),
    "iat in 61 s": (lambda: token(good(iat=NOW + 61)), "token_not_yet_valid"),
    "nbf text": (lambda: token(good(nbf="0")), "token_malformed"),
    "iat text": (lambda: token(good(iat="now")), "token_malformed"),
    # Audience and user.
    **{
        f"audience {name!r}": (lambda name=name: token(good(aud=name)), "token_audience")
        for name in (
            *("admin", "chatty", "CHAT", "chat ", "x chat", "x,chat", "\u0441hat"),
            *(["x"], [["chat"]], ["chat"] + ["x"] * 64),
        )
    },
    "the audience where only others are": (
        lambda: token(good(aud="x", azp="chat", client_id="chat")),
        "token_audience",
    ),
    "no audience": (lambda: token(good(aud=None)), "token_audience"),
    "audience of none": (lambda: token(good(aud=[])), "token_audience"),
    "audience object": (lambda: token(good(aud={"chat": True})), "token_audience"),
    "audience with a number": (lambda: token(good(aud=["chat", 7])), "token_audience"),
    "bound by DPoP": (lambda: token(good(cnf={"jkt": "x"})), "token_bound"),
    "bound by mutual TLS": (lambda: token(good(cnf={"x5t#S256": "x"})), "token_bound"),
    "bound by nothing known": (lambda: token(good(cnf={})), "token_bound"),
    "no sub": (lambda: token(good(sub=None)), "token_subject"),
    **{
        f"sub {sub!r:.20}": (lambda sub=sub: token(good(sub=sub)), "token_subject")
        for sub in ("", " ", " ada", "ada\u00a0", "a\u200dda", 7, True, ["ada"], "a\0b", "a\nb", "a\u202eb", "x" * 256)
    },
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_lets_nobody_in(name: str, desk: Desk) -> None:
    make, code = FORGED[name]
    text = make()
    assert desk.code(text) == code
    assert set(desk.issuer.asked) <= {f"{ISSUER}/.well-known/openid-configuration", f"{ISSUER}/keys"}
    assert desk.blocks.asked == []
    if text == text.strip():  # no header has a blank at its end
        answer = ask(desk, text)
        assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
        assert answer["context"]["error_code"] == code
        line = desk.log.getvalue().splitlines()[-1]
        assert json.loads(line)["reason"] == code
        assert not [part for part in text.split(".") if len(part) > 8 and part in line]  # nothing of the token
        assert "evil" not in line


def test_a_key_is_good_for_its_own_issuer_alone_though_two_call_theirs_the_same() -> None:
    other = "https://other.example.com"
    file = FILE.replace("[{", f"[{{issuer: '{other}', audience: chat, jwks_url: '{other}/keys', plan: pro}}, {{", 1)
    fake = FakeIssuer(jwk("RS256"))

    def fetch(address: str, seconds: float) -> dict[str, Any]:
        return {"keys": [jwk("RS256", number=1)]} if address == f"{other}/keys" else fake(address, seconds)

    desk = Desk(file=file, issuer=fetch)
    for _ in range(2):  # with keys that were loaded before, too
        assert [desk.code(token()), desk.code(token(good(iss=other), number=1))] == ["", ""]
        assert desk.code(token(number=1)) == desk.code(token(good(iss=other))) == "token_signature"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 59},
        {"exp": NOW - 59.5},
        {"nbf": NOW + 60},
        {"iat": NOW + 60},
        {"aud": ["x", "other"]},
        {"sub": "x" * 255},
        {"sub": "auth0|Ünïcode"},
        {"iat": None},
        {"exp": float(NOW + 1)},
    ],
)
def test_what_is_near_a_bound_and_good_is_taken(claims: dict[str, Any], desk: Desk) -> None:
    assert desk.code(token(good(**claims))) == ""


@pytest.mark.parametrize(
    "headers",
    [
        *({"typ": kind} for kind in (None, "jwt", "JWT", "at+jwt", "application/at+jwt", "application/JWT")),
        {"kid": None},
        {"jku": "x"},
    ],
)
def test_usual_headers_are_taken_and_a_key_that_is_sent_along_has_no_effect(headers: Any, desk: Desk) -> None:
    assert desk.code(token(**headers)) == ""


TIMES = st.one_of(st.none(), st.integers(NOW - 200, NOW + 200), st.floats(NOW - 200, NOW + 200), st.just(math.inf))
AUDIENCES = st.one_of(st.none(), st.sampled_from(["chat", "other", "x"]), st.lists(st.sampled_from(["chat", "x"])))


@given(exp=TIMES, nbf=TIMES, iat=TIMES, aud=AUDIENCES, sub=st.one_of(st.none(), st.text(max_size=3), st.integers()))
def test_no_claims_are_taken_that_the_library_refuses(exp: Any, nbf: Any, iat: Any, aud: Any, sub: Any) -> None:
    claims = good(exp=exp, nbf=nbf, iat=iat, aud=aud, sub=sub)
    identity = parse_identity(FILE)
    assert identity
    try:
        check(claims, identity.issuers[ISSUER], NOW)
    except TokenRefusedError:
        return
    validator = jwt.PyJWT()
    required: Any = {"require": ["exp", "sub", "iss"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    validator._validate_claims(  # the library's clock is the machine's: the moments are compared below
        dict(claims), validator.options | required, audience=["chat", "other"], issuer=ISSUER, leeway=60
    )
    assert claims["exp"] > NOW - 60
    assert max(claims.get("nbf", 0), claims.get("iat", 0)) <= NOW + 60


# --------------------------------------------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("require", "claims", "holds"),
    [
        ("{email_verified: true}", {"email_verified": True}, True),
        ("{email_verified: true}", {"email_verified": "true"}, True),
        ("{email_verified: true}", {"email_verified": False}, False),
        ("{email_verified: true}", {}, False),
        ("{email_verified: true}", {"email_verified": 1}, False),
        ("{'cognito:groups': [chat, staff]}", {"cognito:groups": ["staff"]}, True),
        ("{'cognito:groups': [chat]}", {"cognito:groups": ["chatty"]}, False),
        ("{'cognito:groups': [chat]}", {"cognito:groups": {"chat": 1}}, False),
        ("{scope: chat}", {"scope": "openid chat"}, True),
        ("{scope: chat}", {"scope": "openid chatty"}, False),
        ("{name: chat}", {"name": "openid chat"}, False),
        ("{realm_access.roles: chat}", {"realm_access": {"roles": ["chat"]}}, True),
        ("{realm_access.roles: chat}", {"realm_access": {"roles": None}}, False),
        ("{realm_access.roles: chat}", {"realm_access": "chat"}, False),
        ("{'https://example.com/tier': gold}", {"https://example.com/tier": "gold"}, True),
        ("{level: 3}", {"level": 3}, True),
        ("{level: 3}", {"level": 3.0}, False),
        ("{a: x, b: y}", {"a": "x", "b": "y"}, True),
        ("{a: x, b: y}", {"a": "x"}, False),
    ],
)
def test_claims_that_are_required(require: str, claims: dict[str, Any], holds: bool) -> None:
    desk = Desk(file=FILE.replace("plan: free", f"plan: free, require: {require}"))
    assert desk.code(token(good(**claims))) == ("" if holds else "token_claims")


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=6,
    ),
    st.sampled_from(["a", "a.b", "scope", ""]),
)
def test_no_claim_of_any_form_breaks_its_reader(value: Any, name: str) -> None:
    for claims in ({"a": value}, {"scope": value}, {"": value}):
        assert all(isinstance(each, str) for each in values_of(claims, name))


# ---------------------------------------------------------------------------------------- answers, blocks, what is kept


def test_a_good_token_gives_the_policy_of_a_key(desk: Desk) -> None:
    answer = ask(desk, token())
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert (answer["principalId"], answer["context"]["end_user"]) == ("free", "ada")


def test_a_refusal_denies_everything_and_says_to_its_owner_what_to_do(desk: Desk) -> None:
    answer = ask(desk, token(good(aud="admin")))
    [statement] = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", "*")
    assert answer["context"] == {
        "error_code": "token_audience",
        "error_message": "The access token is for another audience.",
    }
    line = json.loads(desk.log.getvalue().splitlines()[-1])
    assert (line["message"], line["reason"], line["issuer"]) == ("A client was refused", "token_audience", ISSUER)
    assert "audience" in line["remedy"]


def test_of_a_user_one_item_is_read_and_one_of_the_team_where_there_is_one_and_nothing_is_written(desk: Desk) -> None:
    block = f"user#{user_id_of(ISSUER, 'ada')}"
    for _ in range(2):  # a token that is remembered, too: a user may have been blocked meanwhile
        desk.blocks.asked.clear()
        ask(desk, token())
        assert desk.blocks.asked == [block]
    of_team = Desk(file=FILE.replace("rpm: 10", "rpm: 10, team: web"))
    with pytest.raises(UnknownTeamError):
        ask(of_team, token())
    assert of_team.blocks.asked == [block, "team#web"]


def test_a_blocked_user_is_refused_from_the_next_question_on_and_let_in_again(desk: Desk) -> None:
    assert desk.code(token()) == ""
    desk.blocks.blocked.add(f"user#{user_id_of(ISSUER, 'ada')}")
    assert desk.code(token()) == "user_blocked"
    assert desk.code(token(good(sub="grace"))) == ""
    desk.blocks.blocked.clear()
    assert desk.code(token()) == ""


def test_whoever_cannot_be_checked_is_not_let_in(desk: Desk) -> None:
    desk.blocks.error = RuntimeError("down")
    with pytest.raises(RuntimeError):
        ask(desk, token())
    assert NOT_CHECKED in desk.log.getvalue()


def test_what_is_remembered_of_a_token_ends_with_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    text = token(good(exp=NOW + 100))
    assert desk.users(text) is desk.users(text)
    remembered = desk.users(text)
    desk.clock.now = NOW + 99
    assert desk.users(text) is remembered
    desk.clock.now = NOW + 100  # judged again: the clocks may differ
    assert desk.users(text) is not remembered
    desk.clock.now = NOW + 160
    assert desk.code(text) == "token_expired"


def test_a_token_is_remembered_for_five_minutes_at_most(desk: Desk) -> None:
    text = token(good(exp=NOW + 10_000))
    first = desk.users(text)
    desk.clock.now = NOW + 299
    assert desk.users(text) is first
    desk.clock.now = NOW + 300
    assert desk.users(text) is not first
