import contextlib
import io
import itertools
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from authorizer.authorizer import NOT_CHECKED, REFUSED, Authorizer, Unauthorized, UnknownEventError
from authorizer.client_key import DamagedKeyError, UnknownTeamError
from aws_lambda_powertools import Logger
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.client_keys import hash_client_key, new_client_key
from openai_proxy.credentials import sent_key
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits

API = Path(__file__).parents[3] / "events" / "api"
NOW = 1_795_426_200
NUMBERED = itertools.count()
KEY = new_client_key()
KEY_HASH = hash_client_key(KEY)
ITEM = {"key_hash": KEY_HASH, "client_id": "web-shop", "name": "Web shop", "enabled": True}
CONTEXT = {
    "client_id": "web-shop",
    "client_name": "Web shop",
    "key_id": KEY_HASH[:12],
    "limits_id": KEY_HASH[:12],
    **dict.fromkeys(("owner", "tags", "expires_at", "servers", "models", "rpm", "tpm", "parallel"), ""),
    **dict.fromkeys(("budget_day", "budget_month", "currency", "cache", "log_content", "end_user"), ""),
    **dict.fromkeys(("resumable", "on_disconnect"), ""),
    **dict.fromkeys(("budget_week", "budget_total", "reset_weekday", "reset_day"), ""),
}


class FakeKeys:
    """Items by the hash of their key. Counts what it is asked, fails when told to."""

    def __init__(self, *items: dict[str, Any], error: Exception | None = None) -> None:
        self._items = {item["key_hash"]: item for item in items}
        self._error = error
        self.asked: list[str] = []

    def find(self, key_hash: str) -> dict[str, Any] | None:
        self.asked.append(key_hash)
        if self._error:
            raise self._error
        return self._items.get(key_hash)


def event(name: str = "rest", authorization: str | None = f"Bearer {KEY}", header: str = "Authorization") -> Any:
    request = json.loads((API / f"{name}_authorizer_request.json").read_text(encoding="utf-8"))
    for headers, value in (("headers", authorization), ("multiValueHeaders", [authorization])):
        if headers in request:
            del request[headers]["Authorization"]
            request[headers] |= {} if authorization is None else {header: value}
    return request


def authorizer(keys: FakeKeys, logger: Logger | None = None) -> Authorizer:
    return Authorizer(keys, logger or Logger(service="test"), clock=lambda: NOW)


def context(**attributes: Any) -> dict[str, str]:
    return authorizer(FakeKeys(ITEM | attributes))(event())["context"]


def test_a_good_key_may_call_everything_of_the_api():
    assert authorizer(FakeKeys(ITEM))(event()) == {
        "principalId": "web-shop",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/*/*",
                }
            ],
        },
        "context": CONTEXT,
    }


def test_the_function_url_is_answered_alike():
    policy = authorizer(FakeKeys(ITEM))(event("function_url"))

    [statement] = policy["policyDocument"]["Statement"]
    assert statement["Resource"] == "arn:aws:execute-api:eu-central-1:000000000000:function-url/url/*/*"
    assert policy["context"] == CONTEXT


@pytest.mark.parametrize(
    "stage",
    [
        "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/my-dev_2",
        "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/$default",
        "arn:aws-cn:execute-api:cn-north-1:123456789012:a1b2c3d4e5/prod",
        "arn:aws-us-gov:execute-api:us-gov-west-1:123456789012:a1b2c3d4e5/prod",
    ],
)
@pytest.mark.parametrize("method", ["GET/", "POST/openai/v1/chat/completions", "GET/a/../*/é\n?"])
def test_the_policy_is_for_the_whole_stage_of_the_api(stage: str, method: str):
    policy = authorizer(FakeKeys(ITEM))(event() | {"methodArn": f"{stage}/{method}"})

    assert policy["policyDocument"]["Statement"][0]["Resource"] == f"{stage}/*/*"


@pytest.mark.parametrize(
    "method_arn",
    [
        None,
        7,
        "",
        "*",
        "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5",
        "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/prod",
        "arn:aws:execute-api:us-east-1:123456789012:*/prod/GET/",
        "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/*/GET/",
        "arn:aws:lambda:us-east-1:123456789012:a1b2c3d4e5/prod/GET/",
    ],
)
def test_no_policy_is_made_for_what_is_no_method_of_an_api(method_arn: Any):
    with pytest.raises(UnknownEventError):
        authorizer(FakeKeys(ITEM))(event() | {"methodArn": method_arn})


def test_everything_that_is_set_is_passed_on_as_text():
    assert context(
        owner="Team Web",
        tags={"env": "prod"},
        limits_id="0123456789ab",
        servers=["openai", "ollama"],
        models=["gpt-5*", "openai/*"],
        rpm=Decimal(60),
        tpm=Decimal("1E+5"),
        parallel=Decimal(5),
        budget_day=Decimal("0.50"),
        budget_month=Decimal("1E+2"),
        currency="USD",
        cache={"mode": "on", "ttl": Decimal(3600), "pool": "web"},
        expires_at=Decimal(NOW + 1),
    ) == CONTEXT | {
        "owner": "Team Web",
        "tags": '{"env":"prod"}',
        "expires_at": str(NOW + 1),
        "limits_id": "0123456789ab",
        "servers": "openai,ollama",
        "models": "gpt-5*,openai/*",
        "rpm": "60",
        "tpm": "100000",
        "parallel": "5",
        "budget_day": "0.5",
        "budget_month": "100",
        "currency": "USD",
        "cache": "on:3600:web",
    }


TEAM = {"key_hash": "team#web", "created_at": "2026-11-29T10:00:00.000Z", "rpm": Decimal(50), "budget_week": Decimal(9)}


def test_the_limits_of_its_team_are_passed_on_with_a_key():
    keys = FakeKeys({**ITEM, "team": "web"}, TEAM)

    found = authorizer(keys)(event())["context"]

    assert keys.asked == [KEY_HASH, "team#web"]
    assert {name: text for name, text in found.items() if name.startswith("team") and text} == {
        "team": "web",
        "team_rpm": "50",
        "team_budget_week": "9",
        "team_currency": "USD",
    }
    client = ClientKey.from_context(found)
    assert client.team_limits == Limits("team.web", rpm=50, budget_week=Decimal(9), team="web")
    assert client.limits_to_take == client.team_limits


@pytest.mark.parametrize(
    ("items", "error", "said"),
    [
        ([], UnknownTeamError, "A key names an unknown team"),
        ([{**TEAM, "rpm": Decimal(0)}], DamagedKeyError, "A team is damaged"),
        ([{**TEAM, "budget_day": "5 USD"}], DamagedKeyError, "A team is damaged"),
    ],
)
def test_a_key_whose_team_is_not_there_or_damaged_lets_nobody_in(
    items: list[dict[str, Any]], error: type[Exception], said: str
):
    keys, out = FakeKeys({**ITEM, "team": "web"}, *items), io.StringIO()
    logger = Logger(service=f"teams {next(NUMBERED)}", stream=out)
    with pytest.raises(error):
        authorizer(keys, logger)(event())

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["message"] for line in lines] == [said, NOT_CHECKED]
    assert lines[0]["team"] == "web"
    assert "remedy" in lines[0] or "problems" in lines[0]


def test_a_budget_without_a_currency_is_in_that_of_the_price_book():
    assert context(budget_day=Decimal(5))["currency"] == "USD"


@pytest.mark.parametrize(
    ("cache", "policy"),
    [
        ({"mode": "off"}, "off"),
        ({"mode": "off", "ttl": Decimal(60), "pool": "web"}, "off"),
        ({"mode": "on", "ttl": Decimal(60)}, "on:60:"),
    ],
)
def test_a_cache_policy_may_be_off_or_of_the_client_alone(cache: dict[str, Any], policy: str):
    assert context(cache=cache) == CONTEXT | {"cache": policy}


@pytest.mark.parametrize("header", ["authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "  Bearer   {} \t"])
def test_headers_are_read_as_http_says(header: str, form: str):
    sent = event(authorization=form.format(KEY), header=header)

    assert authorizer(FakeKeys(ITEM))(sent)["principalId"] == "web-shop"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        f"Bearer\n{KEY}",
        f"Bearer{KEY}",
        f"Bearer Bearer {KEY}",
        "Bearer sk-proj-1234",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} x",
        f"Bearer {KEY},Bearer {KEY}",
        f"Bearer {KEY.upper()}",
    ],
    ids=lambda sent: repr(sent).replace(KEY[4:], "key").replace(KEY[4:-1], "cut").replace(KEY[4:].upper(), "KEY"),
)
def test_garbage_is_refused_without_a_look_up(authorization: str | None):
    keys = FakeKeys(ITEM)

    with pytest.raises(Unauthorized):
        authorizer(keys)(event(authorization=authorization))
    assert keys.asked == []


@pytest.mark.parametrize(
    ("headers", "multiple"),
    [
        ({"Authorization": f"Bearer {KEY}", "authorization": f"Bearer {KEY}"}, None),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": [f"Bearer {KEY}", f"Bearer {KEY}"]}),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": [f"Bearer {KEY}"], "authorization": ["x"]}),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": ["Bearer another"]}),
        ({"Authorization": "Bearer another"}, {"Authorization": [f"Bearer {KEY}"]}),
        ({"Authorization": f"Bearer {KEY}"}, {"Authorization": [None]}),
    ],
)
def test_of_two_keys_neither_is_taken(headers: Any, multiple: Any):
    keys = FakeKeys(ITEM)

    with pytest.raises(Unauthorized):
        authorizer(keys)(event() | {"headers": headers, "multiValueHeaders": multiple})
    assert keys.asked == []


@pytest.mark.parametrize("header", ["x-api-key", "X-Api-Key", "api-key", "API-KEY"])
def test_the_headers_of_other_sdks_carry_the_key_bare(header: str):
    assert authorizer(FakeKeys(ITEM))(event(authorization=f" {KEY}\t", header=header))["principalId"] == "web-shop"


@pytest.mark.parametrize(
    ("headers", "is_good"),
    [
        ({"Authorization": f"Bearer {KEY}", "x-api-key": "of the gateway"}, True),
        ({"Authorization": "", "x-api-key": KEY}, True),
        ({"Authorization": " ", "api-key": KEY, "x-api-key": ""}, True),
        ({"x-api-key": KEY, "api-key": KEY}, True),
        ({"Authorization": "Bearer another", "x-api-key": KEY}, False),
        ({"Authorization": f"Basic {KEY}", "x-api-key": KEY}, False),
        ({"Authorization": "Bearer ", "x-api-key": KEY}, False),
        ({"Authorization": None, "x-api-key": KEY}, False),
        ({"x-api-key": KEY, "api-key": "another"}, False),
        ({"x-api-key": KEY, "X-Api-Key": KEY}, False),
        ({"x-api-key": KEY, "X-API-KEY": ""}, False),
        ({"x-api-key": [KEY, KEY]}, False),
        ({"x-api-key": {"a": KEY}}, False),
        ({"x-api-key": f"Bearer {KEY}"}, False),
        ({"api-k\u0435y": KEY}, False),
    ],
)
@pytest.mark.parametrize("kind", ["headers", "multiValueHeaders"])
def test_authorization_counts_alone_and_without_it_all_headers_have_to_agree(headers: Any, is_good: bool, kind: str):
    request = event() | {"headers": None, "multiValueHeaders": None} | {kind: headers}
    keys = FakeKeys(ITEM)

    if is_good:
        assert authorizer(keys)(request)["principalId"] == "web-shop"
    else:
        with pytest.raises(Unauthorized):
            authorizer(keys)(request)
        assert keys.asked == []


def test_one_kind_of_headers_is_enough():
    request = event()

    for kind in ("headers", "multiValueHeaders"):
        assert authorizer(FakeKeys(ITEM))({**request, kind: None})["principalId"] == "web-shop"


@pytest.mark.parametrize("headers", [None, {}, [], "Authorization", {"Authorization": None}, {"Authorization": {}}])
def test_an_event_without_a_key_is_refused(headers: Any):
    with pytest.raises(Unauthorized):
        authorizer(FakeKeys(ITEM))(event() | {"headers": headers, "multiValueHeaders": headers})


@pytest.mark.parametrize("no_event", [None, [], "event", 7, {}])
def test_what_is_no_event_is_refused(no_event: Any):
    with pytest.raises(Unauthorized):
        authorizer(FakeKeys(ITEM))(no_event)


@pytest.mark.parametrize(
    "found",
    [
        None,
        ITEM | {"enabled": False},
        ITEM | {"enabled": False, "rpm": "damaged"},
        ITEM | {"expires_at": Decimal(NOW)},
        ITEM | {"expires_at": Decimal(0)},
    ],
    ids=["unknown", "disabled", "disabled and damaged", "expires now", "expired"],
)
def test_a_key_that_is_not_good_is_refused_in_the_words_that_api_gateway_understands(found: dict[str, Any] | None):
    with pytest.raises(Exception) as error:  # noqa: PT011 - the message and the class's name are the contract
        authorizer(FakeKeys(*([found] if found else [])))(event())

    assert (str(error.value), type(error.value).__name__) == ("Unauthorized", "Unauthorized")


@pytest.mark.parametrize("found", [[], [ITEM | {"enabled": False}]], ids=["unknown", "disabled"])
def test_to_the_proxy_a_refusal_is_an_answer_and_no_failed_invocation(found: list[dict[str, Any]]):
    assert authorizer(FakeKeys(*found))(event("function_url")) == {
        "principalId": "nobody",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": "*"}],
        },
        "context": {"error_code": "invalid_api_key", "error_message": "The client key is not valid."},
    }


def test_a_key_is_good_until_it_expires():
    assert context(expires_at=Decimal(NOW + 1)) == CONTEXT | {"expires_at": str(NOW + 1)}


def test_a_key_that_cannot_be_checked_is_not_called_bad():
    with pytest.raises(ConnectionError):
        authorizer(FakeKeys(error=ConnectionError("no table")))(event())


@pytest.mark.parametrize(
    "damage",
    [
        {"rpm": "60"},
        {"rpm": Decimal(-60)},
        {"budget_day": Decimal(0)},
        {"currency": "EUR"},
        {"servers": []},
        {"expires_at": "never"},
        {"enabled": "yes"},
        {"enabled": None},
    ],
    ids=str,
)
def test_a_damaged_item_lets_nobody_in_and_is_not_called_bad(damage: dict[str, Any], caplog: pytest.LogCaptureFixture):
    with pytest.raises(DamagedKeyError, match=r"^The item of a client key is damaged\.$"):
        authorizer(FakeKeys(ITEM | damage))(event())

    record, *_ = caplog.records
    assert (record.levelname, vars(record)["key_id"], vars(record)["client_id"]) == ("ERROR", KEY_HASH[:12], "web-shop")
    assert [problem.split()[0] for problem in vars(record)["problems"]] == list(damage)


def test_neither_keys_nor_hashes_are_logged(caplog: pytest.LogCaptureFixture):
    for found in ([], [ITEM | {"enabled": False}], [ITEM | {"rpm": "60"}], [ITEM]):
        with contextlib.suppress(Unauthorized, DamagedKeyError):
            authorizer(FakeKeys(*found))(event())

    logged = str([vars(record) for record in caplog.records])
    assert "disabled client key" in logged
    assert "web-shop" in logged
    assert KEY_HASH[:12] in logged  # the id, by which people find the key
    for secret in (KEY, KEY_HASH[12:]):
        assert not any(secret[start : start + 8] in logged for start in range(len(secret) - 8))


LOG = io.StringIO()
LOGGER = Logger(service="fuzzed", stream=LOG)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
RIGHT = st.sampled_from([f"Bearer {KEY}", f"bearer  {KEY} "])
AUTHORIZATIONS = (
    RIGHT
    | st.builds(
        "{}{}{}{}{}".format,
        st.sampled_from(["", " ", "\t"]),
        st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", "", "B\u212aarer", "Bearer Bearer"]),
        st.sampled_from([" ", "  ", "\t", "", "\n", "\u00a0"]),
        st.sampled_from([KEY, KEY[:-1], KEY + "0", KEY.swapcase(), "", f"{KEY},{KEY}", f"{KEY}\x00"]) | st.text(),
        st.sampled_from(["", " ", "\t", "\n", "\u2003"]),
    )
    | JSON
)
NAMES = st.sampled_from(
    [
        "Authorization",
        "authorization",
        "AUTHORIZATION",
        "Authorizat\N{LATIN SMALL LETTER DOTLESS I}on",
        "Authorization ",
    ]
)
HEADERS = st.dictionaries(NAMES | st.text(), AUTHORIZATIONS, max_size=2)
MULTIPLE = st.none() | st.dictionaries(NAMES, st.lists(AUTHORIZATIONS, max_size=2) | AUTHORIZATIONS, max_size=2)
NUMBERS = st.integers(1, 10**6) | st.decimals() | JSON
LISTS = st.lists(st.sampled_from(["openai", "gpt-5*", "a,b"]), max_size=3) | JSON
ATTRIBUTE_VALUES = {
    **dict.fromkeys(("rpm", "tpm", "parallel", "budget_day", "budget_month", "expires_at"), NUMBERS),
    **dict.fromkeys(("servers", "models"), LISTS),
    **dict.fromkeys(("enabled", "currency"), st.sampled_from([True, "USD", "yes"])),
    **dict.fromkeys(("owner", "tags", "cache"), JSON),
}


def outcome(request: Any, item: dict[str, Any]) -> Any:
    """What the authorizer answers, or the error; the key is in neither log nor error."""
    LOG.seek(0)
    LOG.truncate()
    try:
        answer = authorizer(FakeKeys(item), LOGGER)(request)
    except Exception as error:  # noqa: BLE001 - every kind is looked at
        answer = error
    for text in (LOG.getvalue(), str(answer), repr(answer)):
        assert KEY[4:20] not in text
        assert KEY_HASH[12:24] not in text
    return answer


@given(headers=HEADERS | JSON, multiple=MULTIPLE | JSON, more=st.dictionaries(st.text(), JSON, max_size=2))
def test_whatever_is_sent_only_the_right_key_is_let_in(headers: Any, multiple: Any, more: dict[str, Any]):
    answer = outcome({**more, **event(), "headers": headers, "multiValueHeaders": multiple}, ITEM)

    sent: list[Any] = []
    for kind in (headers, multiple):
        for name in kind if hasattr(kind, "keys") else ():
            if name.lower() == "authorization":
                sent += kind[name] if isinstance(kind[name], list) else [kind[name]]
    right = re.compile(rf"[ \t]*bearer +{KEY}[ \t]*", re.IGNORECASE | re.ASCII)
    is_right = bool(sent) and all(isinstance(each, str) and right.fullmatch(each) and KEY in each for each in sent)
    if isinstance(answer, dict):
        assert is_right
        assert answer["context"] == CONTEXT
    else:
        assert isinstance(answer, Unauthorized)
        assert not is_right or len(sent) > 1


@given(JSON | st.dictionaries(st.sampled_from(sorted(event())), JSON | HEADERS))
def test_any_event_is_answered_refused_or_unknown(request: Any):
    answer = outcome(request, ITEM)

    assert isinstance(answer, Unauthorized | UnknownEventError) or answer["context"] == CONTEXT


@given(
    st.lists(st.sampled_from(sorted(ATTRIBUTE_VALUES)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: ATTRIBUTE_VALUES[name] for name in names})
    )
)
def test_no_limit_of_an_item_is_ever_lost(attributes: dict[str, Any]):
    answer = outcome(event(), ITEM | attributes)

    if not isinstance(answer, Exception):
        limits = ("rpm", "tpm", "parallel", "budget_day", "budget_month")
        assert {name: Decimal(answer["context"][name]) for name in limits if answer["context"][name]} == {
            name: attributes[name] for name in limits if name in attributes
        }
        for names in ("servers", "models"):
            assert answer["context"][names] == ",".join(attributes.get(names, []))
        assert attributes.get("enabled", True) is True
    else:
        assert isinstance(answer, Unauthorized | DamagedKeyError)


SENT = st.lists(
    st.tuples(
        st.sampled_from(["authorization", "x-api-key", "api-key"]),
        st.sampled_from(
            [f"Bearer {KEY}", KEY, "", " ", "Bearer", "another", f"Basic {KEY}", f" {KEY} ", f"{KEY},{KEY}"]
        ),
    ),
    max_size=4,
)


@given(SENT)
def test_both_doors_take_the_same_key_of_the_same_headers(sent: list[tuple[str, str]]):
    multiple: dict[str, list[str]] = {}
    for name, value in sent:
        multiple.setdefault(name, []).append(value)
    rest = event() | {"headers": dict(sent), "multiValueHeaders": multiple}
    key_at_the_url = sent_key({name: ",".join(values) for name, values in multiple.items()})

    keys = FakeKeys(ITEM)
    with contextlib.suppress(Unauthorized):
        authorizer(keys, LOGGER)(rest)
    assert keys.asked == ([KEY_HASH] if key_at_the_url == KEY else [])


@pytest.mark.parametrize(
    ("keys", "request_event"),
    [
        (FakeKeys(error=NoAnswerError("dynamodb:GetItem")), event()),
        (FakeKeys(error=RuntimeError("the table is away")), event()),
        (FakeKeys(ITEM | {"rpm": "many"}), event()),
        (FakeKeys(ITEM), event() | {"methodArn": "none"}),
    ],
)
def test_a_key_that_cannot_be_checked_is_in_the_log(
    keys: FakeKeys, request_event: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011 - each is another one
        authorizer(keys)(request_event)
    assert not isinstance(error.value, Unauthorized)
    line = vars(caplog.records[-1])
    assert (line["msg"], line["levelname"], line["reason"]) == (NOT_CHECKED, "ERROR", type(error.value).__name__)


def test_a_key_that_is_refused_was_checked(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Unauthorized):
        authorizer(FakeKeys())(event())
    (record,) = caplog.records
    line = vars(record)
    assert (line["msg"], line["levelname"], line["reason"]) == (REFUSED, "WARNING", "unknown client key")
