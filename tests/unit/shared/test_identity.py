"""`identity.yaml`: what is read of it, and how each fault is told."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.client_keys import ATTRIBUTES, read_attributes
from openai_proxy.identity import (
    ALGORITHMS,
    Identity,
    IdentityFileError,
    is_pseudonym,
    load_identity,
    parse_identity,
    pseudonym_of,
    user_id_of,
    warnings_of,
)
from openai_proxy.identity.issuer import algorithm_of, is_loopback, origin_of
from openai_proxy.key_context import ClientKey, KeyCache
from openai_proxy.key_limits import Limits

ROOT = Path(__file__).parents[3]
ISSUER = "https://id.example.com"
PLANS = "plans: {free: {rpm: 1, budget_day: 1}}"


def issuer(text: str = "plan: free", *, audience: str = "chat", address: str = ISSUER, plans: str = PLANS) -> str:
    return f"issuers: [{{issuer: '{address}', audience: {audience}, {text}}}]\n{plans}\n"


def read(text: str, *, allow_loopback: bool = False) -> Identity:
    identity = parse_identity(text, allow_loopback=allow_loopback)
    assert identity
    return identity


def fault(text: str) -> str:
    with pytest.raises(IdentityFileError) as refused:
        parse_identity(text)
    return str(refused.value)


@pytest.mark.parametrize("text", ["", "\n\n", "# issuers:\n", "  # x\n\n#", "---\n", "null\n"])
def test_a_file_that_says_nothing_is_off(text: str, tmp_path: Path) -> None:
    assert parse_identity(text) is None
    (tmp_path / "identity.yaml").write_text(text)
    assert load_identity(tmp_path / "identity.yaml") is None


def test_no_file_is_off_and_the_file_that_ships_is(tmp_path: Path) -> None:
    assert load_identity(tmp_path / "identity.yaml") is None
    assert load_identity(ROOT / "identity.yaml") is None


def test_the_example_in_the_file_that_ships_can_be_used() -> None:
    lines = (ROOT / "identity.yaml").read_text().splitlines()
    example = "\n".join(line.removeprefix("# ") for line in lines[lines.index("# issuers:") :])
    assert set(read(example).plans) == {"free", "pro"}


@pytest.mark.parametrize("provider", ["auth0", "cognito", "entra-id", "firebase", "google", "keycloak"])
def test_what_the_page_of_a_provider_says_can_be_used_once_its_names_are_filled_in(provider: str) -> None:
    page = (ROOT / "docs" / "identity" / f"{provider}.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0]
    filled = re.sub(r"<[^>]+>", "x", example)
    found = read(f"{filled}plans: {{free: {{servers: [up]}}, pro: {{servers: [up]}}}}\n")
    assert len(found.issuers) == 1


def test_everything_that_can_be_written_is_read() -> None:
    text = """
issuers:
  - issuer: https://id.example.com/
    audience: [chat, other]
    audience_claim: azp
    jwks_url: https://keys.example.net/jwks
    algorithms: [ES256, EdDSA]
    require: {email_verified: true, groups: [a, b], level: 3}
    plans: {claim: "https://example.com/tier", gold: pro, default: free}
    pseudonyms: true
  - {issuer: "https://other.example.com", audience: chat, plan: free}
plans:
  free: {servers: demo, models: [demo, 'gpt-5*'], rpm: 10, tpm: 1000, parallel: 2, budget_day: 0.50, budget_month: 5,
         budget_week: 2, budget_total: 9.5, reset_weekday: sunday, reset_day: 15, team: web}
  pro: {client_id: paying, name: Pro, owner: Sales, tags: {team: x}, cache: {ttl: 60, pool: p}, log_content: true}
"""
    identity = read(text)
    first, second = identity.issuers.values()
    assert first.audiences == ("chat", "other")
    assert first.audience_claims == ("azp",)
    assert first.jwks_url == "https://keys.example.net/jwks"
    assert first.algorithms == ("ES256", "EdDSA")
    assert first.require == {"email_verified": ("true",), "groups": ("a", "b"), "level": ("3",)}
    assert (first.plan.claim, dict(first.plan.by_value), first.plan.default) == (
        "https://example.com/tier",
        {"gold": "pro"},
        "free",
    )
    assert first.pseudonyms
    assert first.discovery_url == "https://id.example.com/.well-known/openid-configuration"
    assert (second.algorithms, second.audience_claims, second.pseudonyms) == (ALGORITHMS, ("aud",), False)
    free, pro = identity.plans.values()
    assert free.template.servers == ("demo",)
    assert free.template.models == ("demo", "gpt-5*")
    assert free.limits == {
        "rpm": 10,
        "tpm": 1000,
        "parallel": 2,
        "budget_day": Decimal("0.50"),
        "budget_month": Decimal(5),
        "budget_week": Decimal(2),
        "budget_total": Decimal("9.5"),
        "reset_weekday": "sunday",
        "reset_day": 15,
    }
    assert (free.template.team, pro.template.team) == ("web", "")
    template = pro.template
    assert (template.client_id, template.name, template.owner, template.tags) == (
        "paying",
        "Pro",
        "Sales",
        {"team": "x"},
    )
    assert (template.cache, template.logs_content, pro.limits) == (KeyCache(True, 60, "p"), True, {})


@pytest.mark.parametrize(
    ("text", "cache"),
    [("on", KeyCache(True, 3600)), ("off", KeyCache(False)), ("{pool: p}", KeyCache(True, 3600, "p"))],
)
def test_the_cache_of_a_plan(text: str, cache: KeyCache) -> None:
    assert read(issuer(plans=f"plans: {{free: {{cache: {text}}}}}")).plans["free"].template.cache == cache


def test_each_user_of_a_plan_is_a_client_of_it_with_limits_alone() -> None:
    text = issuer(plans="plans: {free: {rpm: 5, team: web, servers: [up]}, pro: {client_id: paying, models: [m]}}")
    free, pro = read(text).plans.values()
    assert free.key_of("u1", "end-1", 77) == ClientKey(
        "free",
        ("up",),
        name="free",
        key_id="u1",
        end_user="end-1",
        expires_at=77,
        limits=Limits("u1", rpm=5),
        line="u1",
        team="web",
    )
    assert pro.key_of("u2", "end-2", 78) == ClientKey(
        "paying", models=("m",), name="pro", key_id="u2", end_user="end-2", expires_at=78, line="u2"
    )


@pytest.mark.parametrize(("written", "value"), [("true", True), ("false", False)])
def test_switches_of_plans_and_issuers(written: str, value: bool) -> None:
    plan = f"plans: {{free: {{log_content: {written}, resumable: {written}, on_disconnect: stop}}}}"
    identity = read(issuer(f"plan: free, pseudonyms: {written}", plans=plan))
    template = identity.plans["free"].template
    assert (template.logs_content, template.resumable, template.on_disconnect) == (value, value, "stop")
    assert identity.issuers[ISSUER].pseudonyms is value


FAULTS: dict[str, tuple[str, str]] = {
    "a text": ("x", "identity.yaml: not a mapping. Remedy: write issuers: "),
    "a list": ("[]", "identity.yaml: not a mapping"),
    "no YAML": ("a: [", "identity.yaml: is not valid YAML"),
    "twice": ("plans: {}\nplans: {}", "identity.yaml: 'plans' stands there twice"),
    "another key": ("issuer: x", "identity.yaml: key 'issuer': unknown key. Remedy: use only issuers, plans."),
    "no plans": ("issuers: []", "identity.yaml: key 'plans': not a mapping"),
    "no issuers": (PLANS, "identity.yaml: key 'issuers': not a list of 1 to 20 issuers"),
    "issuers as a mapping": (f"issuers: {{a: 1}}\n{PLANS}", "identity.yaml: key 'issuers': not a list"),
    "too many issuers": (f"issuers: [{'{},' * 21}]\n{PLANS}", "identity.yaml: key 'issuers': not a list"),
    "a plan of another name": (
        issuer("plan: gold"),
        f"identity.yaml: issuer '{ISSUER}', key 'plan': there is no plan 'gold'. Remedy: name one of `plans`.",
    ),
    "a default of another name": (
        issuer("plans: {claim: t, a: free, default: x}"),
        f"identity.yaml: issuer '{ISSUER}', key 'plans': there is no plan 'x'",
    ),
    "a plan that is a list": (
        issuer("plans: {claim: t, a: [free]}"),
        "identity.yaml: issuer 1, key 'plans': not a text of 1 to 256 printable characters. Remedy: write {claim: ",
    ),
    "both": (issuer("plan: free, plans: {claim: t, a: free}"), "identity.yaml: issuer 1, key 'plan': neither or both"),
    "neither": (issuer("pseudonyms: true"), "identity.yaml: issuer 1, key 'plan': neither or both"),
    "plans without a claim": (issuer("plans: {a: free}"), "issuer 1, key 'plans': names no claim"),
    "plans without a value": (issuer("plans: {claim: t}"), "issuer 1, key 'plans': names no claim"),
    "no audience": (f"issuers: [{{issuer: '{ISSUER}', plan: free}}]\n{PLANS}", "issuer 1, key 'audience': not a text"),
    "an empty audience": (issuer(audience="[]"), "issuer 1, key 'audience': not 1 to 32 texts"),
    "an audience of another kind": (issuer(audience="{a: b}"), "issuer 1, key 'audience': not a text"),
    "an audience claim": (issuer("plan: free, audience_claim: scope"), "key 'audience_claim': not a claim that"),
    "twice the same": (
        f"issuers: [{{issuer: '{ISSUER}', audience: a, plan: free}}, {{issuer: '{ISSUER}', audience: b, plan: free}}]\n"
        + PLANS,
        f"issuer '{ISSUER}', key 'issuer': stands there twice",
    ),
    "HS256": (issuer("plan: free, algorithms: [HS256]"), "issuer 1, key 'algorithms': 'HS256' is not allowed"),
    "none": (issuer("plan: free, algorithms: none"), "issuer 1, key 'algorithms': 'none' is not allowed"),
    "no algorithm": (issuer("plan: free, algorithms: []"), "issuer 1, key 'algorithms'"),
    "require a text": (issuer("plan: free, require: groups"), "issuer 1, key 'require': not a mapping"),
    "require nothing": (issuer("plan: free, require: {a: []}"), "issuer 1, key 'require': not 1 to 32 texts"),
    "require an object": (issuer("plan: free, require: {a: {b: c}}"), "issuer 1, key 'require': not a text"),
    "a key of an issuer": (issuer("plan: free, jwks_uri: 'https://x'"), "issuer 1, key 'jwks_uri': unknown key"),
    "pseudonyms": (issuer("plan: free, pseudonyms: yes"), "issuer 1, key 'pseudonyms': neither true nor false"),
    "a key of a plan": (issuer(plans="plans: {free: {teem: x}}"), "plan 'free', key 'teem': unknown key"),
    "an empty plan": (issuer(plans="plans: {free: {}}"), "plan 'free': not a mapping"),
    "a name of a plan": (
        issuer(plans="plans: {'a b': {rpm: 1}}"),
        "plan 'a b': not a usable name. Remedy: write 1 to 64",
    ),
    "a client": (issuer(plans="plans: {free: {client_id: anonymous}}"), "plan 'free', key 'client_id': not usable"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_its_place_and_the_remedy(name: str) -> None:
    text, told = FAULTS[name]
    assert told in fault(text)
    assert "Remedy: " in fault(text)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "id.example.com",
        "http://id.example.com",
        "http://127.0.0.1:8091",
        "ftp://id.example.com",
        "https://",
        "https:///x",
        "https://a@id.example.com",
        "https://@id.example.com",
        "https://id.example.com?x=1",
        "https://id.example.com?",
        "https://id.example.com/#x",
        "https://id.example.com:x",
        "https://id.example.com:99999",
        "https://id.example.com:0",
        "https://x[::1]",
        "https://id.example.com/a\\b",
        "https://x.[::1]",
        "https://id.example.com\\@evil.com",
        "https://id.exämple.com",
        "https://id.example.com/ x",
        "https://[::1",
        "https://" + "x" * 300,
    ],
)
def test_an_issuer_is_an_https_address(address: str) -> None:
    assert "key 'issuer'" in fault(issuer(address=address))
    assert "key 'jwks_url'" in fault(issuer(f"plan: free, jwks_url: '{address}'"))


@pytest.mark.parametrize("address", ["http://127.0.0.1:8091", "http://localhost", "http://[::1]:1/x"])
def test_plain_http_is_for_this_machine_alone_and_only_where_it_is_allowed(address: str) -> None:
    assert address in read(issuer(address=address), allow_loopback=True).issuers
    assert "key 'issuer'" in fault(issuer(address=address))
    for other in (address.replace("//", "//x.", 1), "http://10.0.0.1", "http://127.0.0.1.evil.com"):
        with pytest.raises(IdentityFileError):
            parse_identity(issuer(address=other), allow_loopback=True)


NUMBERS = ("rpm", "tpm", "parallel", "budget_day", "budget_week", "budget_month", "budget_total")


@given(
    name=st.sampled_from(NUMBERS),
    text=st.one_of(st.from_regex(r"\A-?[0-9]{0,11}(\.[0-9]{0,8})?\Z"), st.text(max_size=5)),
)
def test_a_limit_means_what_it_means_for_a_key(name: str, text: str) -> None:
    """What a stored key may not have, a plan may not have; what both have is equal."""
    quoted = "".join(c for c in text if c.isprintable() and c.isascii() and c not in "'\\")
    stored: dict[str, Any] = {"key_hash": "0" * 64, "client_id": "a", "name": "a", "enabled": True}
    try:
        values, problems = read_attributes(stored | {name: Decimal(quoted)})
    except ArithmeticError:
        values, problems = {}, ["no number"]
    try:
        limits = read(issuer(plans=f"plans: {{free: {{{name}: '{quoted}'}}}}")).plans["free"].limits
    except IdentityFileError:
        return
    assert problems == []
    assert limits == {name: values[name]}


def test_a_plan_has_nothing_that_a_key_has_not() -> None:
    told = fault(issuer(plans="plans: {free: {x: 1}}"))
    assert set(told.partition("use only ")[2].rstrip(".").split(", ")) < set(ATTRIBUTES)


def test_what_should_be_known_is_a_warning() -> None:
    text = issuer(address="http://127.0.0.1:1", plans="plans: {free: {rpm: 1}, other: {budget_day: 1}}")
    told = "\n".join(warnings_of(read(text, allow_loopback=True)))
    assert "plan 'free': each of its users may spend without end" in told
    assert "plan 'other': no issuer gives it" in told
    assert "issuer 'http://127.0.0.1:1': good on this machine alone" in told
    assert warnings_of(read(issuer())) == []


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    file = tmp_path / "identity.yaml"
    file.write_bytes(b"\xff")
    for path in (file, tmp_path):
        with pytest.raises(IdentityFileError, match="Remedy"):
            load_identity(path)


@given(st.text(), st.text(), st.text(), st.text())
def test_users_are_told_apart(one: str, sub: str, other: str, other_sub: str) -> None:
    def clean(text: str) -> str:
        return text.encode(errors="replace").decode().replace("\0", "")

    first, second = (clean(one), clean(sub)), (clean(other), clean(other_sub))
    assert (user_id_of(*first) == user_id_of(*second)) == (first == second)
    assert (pseudonym_of("s", *first) == pseudonym_of("s", *second)) == (first == second)


def test_a_file_on_disk_says_what_its_text_says(tmp_path: Path) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text("\ufeff" + issuer(), encoding="utf-8")
    assert load_identity(file) == read(issuer())
    assert load_identity(file) is not None


@pytest.mark.parametrize("claim", ["aud", "client_id", "azp", "cid", "appid"])
def test_an_audience_may_be_in_any_of_the_claims_that_issuers_use(claim: str) -> None:
    found = read(issuer(f"plan: free, audience_claim: {claim}")).issuers[ISSUER]
    assert found.audience_claims == (claim,)
    assert read(issuer()).issuers[ISSUER].audience_claims == ("aud",)


def test_claims_and_plans_are_bounded_and_the_fault_says_where() -> None:
    def required(number: int) -> str:
        return issuer(f"plan: free, require: {{{', '.join(f'c{place}: v' for place in range(number))}}}")

    def with_plans(number: int) -> str:
        return issuer(plans=f"plans: {{free: {{rpm: 1}}, {', '.join(f'p{n}: {{rpm: 1}}' for n in range(number - 1))}}}")

    assert len(read(required(16)).issuers[ISSUER].require) == 16
    assert len(read(with_plans(100)).plans) == 100
    told = fault(required(17))
    assert "key 'require': more than 16 claims. Remedy: write {email_verified: true," in told
    assert "'plans': more than 100 plans. Remedy: leave some out." in fault(with_plans(101))


@given(st.text(), st.text())
def test_a_pseudonym_has_a_form_that_no_id_of_a_user_has(one: str, sub: str) -> None:
    one, sub = (each.encode(errors="replace").decode() for each in (one, sub))
    found = pseudonym_of("s", one, sub)
    assert is_pseudonym(found)
    for other in (user_id_of(one, sub), found[:-1], found + "0", "x" + found[1:], found[1:]):
        assert not is_pseudonym(other)


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://a.example/x?y", ("https", "a.example", 443)),
        ("https://A.example:443", ("https", "a.example", 443)),
        ("https://a.example:8443", ("https", "a.example", 8443)),
        ("http://[::1]/x", ("http", "::1", 80)),
        ("ftp://a", ("ftp", "a", None)),
        ("https:", ("https", "", 443)),
    ],
)
def test_an_origin_has_the_usual_port_where_none_is_said(address: str, origin: tuple[str, str, int | None]) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize(
    ("address", "is_here"),
    [("http://localhost:1", True), ("http://127.0.0.1", True), ("http://[::1]", True), ("https://a.example", False)],
)
def test_addresses_of_this_machine(address: str, is_here: bool) -> None:
    assert is_loopback(address) is is_here


@pytest.mark.parametrize(("name", "algorithm"), [("Ed25519", "EdDSA"), ("EdDSA", "EdDSA"), ("none", "none")])
def test_the_curve_is_another_name_of_its_algorithm(name: str, algorithm: str) -> None:
    assert algorithm_of(name) == algorithm
    assert algorithm not in ALGORITHMS or read(issuer(f"plan: free, algorithms: [{name}]")).issuers[
        ISSUER
    ].algorithms == (algorithm,)


@pytest.mark.parametrize(
    ("host", "claims"),
    [
        ("cognito-idp.eu-central-1.amazonaws.com/pool", ("aud", "client_id")),
        ("cognito-idp-fips.us-gov-west-1.amazonaws.com/pool", ("aud", "client_id")),
        ("cognito-idp.cn-north-1.amazonaws.com.cn/pool", ("aud", "client_id")),
        ("cognito-idp.eu-central-1.amazonaws.com.evil.example", ("aud",)),
        ("x.cognito-idp.eu-central-1.amazonaws.com", ("aud",)),
    ],
)
def test_cognitos_tokens_name_their_client_instead_of_an_audience(host: str, claims: tuple[str, ...]) -> None:
    address = f"https://{host}"
    assert read(issuer(address=address)).issuers[address].audience_claims == claims


def many(number: int, each: str = "v") -> str:
    return ", ".join(f"{each}{place}" for place in range(number))


def bounded(kind: str, more: int) -> str:
    """A file with as much of a kind as may be, and so many more."""
    match kind:
        case "audiences":
            return issuer(audience=f"[{many(32 + more)}]")
        case "length":
            return issuer(audience="v" * (256 + more))
        case "values":
            return issuer(f"plan: free, require: {{a: [{many(32 + more)}]}}")
        case "plans":
            return issuer(f"plans: {{claim: t, {', '.join(f'v{n}: free' for n in range(99 + more))}}}")
        case "algorithms":
            return issuer(f"plan: free, algorithms: [{', '.join((*ALGORITHMS, *ALGORITHMS[:more]))}]")
        case _:
            each = (f"{{issuer: 'https://i{n}.example', audience: a, plan: free}}" for n in range(20 + more))
            return f"issuers: [{', '.join(each)}]\n{PLANS}\n"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("audiences", "key 'audience': not 1 to 32 texts"),
        ("length", "key 'audience': not a text of 1 to 256"),
        ("values", "key 'require': not 1 to 32 texts"),
        ("plans", "key 'plans': more than 100 values"),
        ("algorithms", "key 'algorithms': not 1 to 10 texts"),
        ("issuers", "key 'issuers': not a list of 1 to 20 issuers"),
    ],
)
def test_what_is_just_within_a_bound_is_taken_and_one_more_is_not(kind: str, told: str) -> None:
    assert read(bounded(kind, 0))
    assert told in fault(bounded(kind, 1))


@pytest.mark.parametrize(("ttl", "holds"), [("1", True), ("31536000", True), ("31536001", False), ("9" * 400, False)])
def test_the_ttl_of_a_plan(ttl: str, holds: bool) -> None:
    text = issuer(plans=f"plans: {{free: {{cache: {{ttl: {ttl}}}}}}}")
    if holds:
        assert read(text).plans["free"].template.cache == KeyCache(True, int(ttl))
    else:
        assert "plan 'free', key 'cache': not usable" in fault(text)


def test_every_warning_whole() -> None:
    text = issuer(address="http://127.0.0.1:1", plans="plans: {free: {rpm: 1}, other: {budget_day: 1}}")
    budgets = "budget_day, budget_week, budget_month, budget_total"
    remedy = "Remedy: use an https address where it is deployed."
    assert warnings_of(read(text, allow_loopback=True), "f.yaml") == [
        f"f.yaml: plan 'free': each of its users may spend without end. Remedy: add one of {budgets}.",
        "f.yaml: plan 'other': no issuer gives it. Remedy: name it in `plan` or `plans` of one.",
        f"f.yaml: issuer 'http://127.0.0.1:1': good on this machine alone. {remedy}",
    ]
    for budget in budgets.split(", "):
        plan = f"plans: {{free: {{{budget}: 1}}}}"
        assert warnings_of(read(issuer(plans=plan))) == []
