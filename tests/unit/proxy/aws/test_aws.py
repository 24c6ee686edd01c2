"""The proxy's own AWS calls: signatures equal botocore's, answers are read, failures are named."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from botocore.retries import standard
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.aws_answers import TRANSIENT, is_item, is_transient
from proxy.aws.client import NO_ANSWER, SECRET_IS_BINARY, UNREACHABLE, Aws, AwsError, ContainerCredentials
from proxy.aws.sigv4 import Credentials, sign
from proxy.http.transport import Answered, ConnectionFailedError
from proxy.http.wire import Outgoing

CREDENTIALS = Credentials("AKID", "secret", "session")


SEGMENTS = st.text("aZ0-_.~%/:é +;=@!$&'()*,", max_size=12).filter(lambda text: not {".", ".."} & {*text.split("/")})
PARTS = st.text("aZ0-_.~/:=&+ %é", max_size=6).map(lambda text: quote(text, safe="-_.~"))


@given(
    method=st.sampled_from(["POST", "GET", "DELETE"]),
    path=SEGMENTS.map(lambda text: "/" + quote(text, safe="/%:;=@!$&'()*,~+")),
    query=st.lists(st.tuples(PARTS, PARTS), max_size=4),
    target=st.text("abc XYZ.", min_size=1),
    body=st.binary() | st.integers(0, 200_000).map(bytes),
    session=st.none() | st.text("abc+/=", min_size=1),
)
def test_signatures_equal_botocores(
    method: str, path: str, query: list[tuple[str, str]], target: str, body: bytes, session: str | None
) -> None:
    for host, moment in (("bedrock-runtime.eu-central-1.amazonaws.com", 1_800_000_000), ("127.0.0.1:4566", 0)):
        url = f"https://{host}{path}" + ("?" + "&".join(map("=".join, query)) if query else "")
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        outgoing = Outgoing(method, url, headers, body)
        ours = sign(outgoing, Credentials("AKID", "secret", session), "eu-central-1", "bedrock", moment)
        assert ours["authorization"].endswith(f"Signature={botocores(method, url, headers, body, session, moment)}")


def botocores(method: str, url: str, headers: Mapping[str, str], body: bytes, session: str | None, moment: int) -> str:
    """The signature that botocore makes of the same request."""
    request: Any = AWSRequest(method, url, headers=dict(headers), data=body)
    request.headers["x-amz-date"] = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = request.headers["x-amz-date"]
    if session:
        request.headers["x-amz-security-token"] = session
    theirs: Any = SigV4Auth(BotocoreCredentials("AKID", "secret", session), "bedrock", "eu-central-1")
    return theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)


def test_credentials_do_not_show_themselves() -> None:
    assert "secret" not in repr(CREDENTIALS)


class FakeServices:
    """Answers every call alike and keeps what was posted."""

    def __init__(self, status: int = 200, answer: object = None, headers: Mapping[str, str] | None = None) -> None:
        self.answered: Answered = status, headers or {}, json.dumps(answer).encode()
        self.posted: list[tuple[str, Mapping[str, str], bytes]] = []
        self.repeats: list[bool] = []

    def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, *, repeats: bool = True
    ) -> Answered:
        self.posted.append((url, headers, body))
        self.repeats.append(repeats)
        return self.answered


def aws(services: Any, endpoint: str | None = None, region: str = "eu-central-1") -> Aws:
    return Aws(services, lambda: CREDENTIALS, region, endpoint)


def test_calls_go_to_the_services_of_the_region() -> None:
    services = FakeServices(answer={"SecretString": "s", "Parameter": {"Value": "p"}, "Entries": [{"EventId": "1"}]})
    assert aws(services).get_secret("id") == "s"
    assert aws(services, region="cn-north-1").get_parameter("name") == "p"
    assert aws(services, "http://127.0.0.1:4566/").put_events([{"Source": "x"}], 1.0) == [{"EventId": "1"}]
    assert [url for url, _, _ in services.posted] == [
        "https://secretsmanager.eu-central-1.amazonaws.com/",
        "https://ssm.cn-north-1.amazonaws.com.cn/",
        "http://127.0.0.1:4566/",
    ]
    assert services.posted[1][2] == b'{"Name": "name", "WithDecryption": true}'


def test_an_invocation_tells_a_result_from_an_error_report() -> None:
    assert aws(FakeServices(answer={"a": 1})).invoke("f", b"{}") == (b'{"a": 1}', False)
    failed = FakeServices(answer={"errorMessage": "no"}, headers={"x-amz-function-error": "Unhandled"})
    assert aws(failed).invoke("f", b"{}") == (b'{"errorMessage": "no"}', True)


SUFFIX = ":http://internal.amazon.com/coral/com.amazon.coral.availability/#x"


@pytest.mark.parametrize(
    ("answer", "header", "code"),
    [
        ({"__type": "com.amazonaws#ThrottlingException"}, None, "ThrottlingException"),
        ({"__type": "AccessDeniedException"}, None, "AccessDeniedException"),
        ({"__type": f"com.amazonaws#ThrottlingException{SUFFIX}"}, None, "ThrottlingException"),
        ({"__type": f"ThrottlingException{SUFFIX}"}, None, "ThrottlingException"),
        ({"code": "com.amazonaws#ThrottlingException"}, None, "ThrottlingException"),
        ({"Type": "User"}, "TooManyRequestsException", "TooManyRequestsException"),
        (None, f"ThrottlingException{SUFFIX}", "ThrottlingException"),
        (None, f"com.amazonaws#ThrottlingException{SUFFIX}", "ThrottlingException"),
        ({"__type": ["ThrottlingException"]}, None, "HTTP 400"),
        ({"__type": f"com.amazonaws#{SUFFIX}"}, None, "HTTP 400"),
        ("<html>", None, "HTTP 400"),
    ],
)
def test_errors_are_named(answer: object, header: str | None, code: str) -> None:
    failing = aws(FakeServices(400, answer, {"x-amzn-errortype": header} if header else None))
    calls: list[Callable[[], object]] = [
        lambda: failing.get_secret("s"),
        lambda: failing.invoke("f", b""),
        lambda: failing.put_events([], 1.0),
    ]
    for call in calls:
        with pytest.raises(AwsError) as error:
            call()
        assert error.value.code == code


KEY = {"Key": {"pk": {"S": "a"}}}
USED = {"ConsumedCapacity": {"TableName": "t", "CapacityUnits": 0.5}}
ITEM = {"pk": {"S": "a"}, "n": {"N": "-1.5"}, "m": {"M": {"l": {"L": [{"BOOL": True}]}}}}
CALLS: dict[str, tuple[Callable[[Aws], object], Any, object]] = {
    "get_item": (lambda aws: aws.get_item(KEY, 1), {**USED, "Item": ITEM}, ITEM),
    "get_item that is not there": (lambda aws: aws.get_item(KEY, 1), USED, {}),
    "put_item": (lambda aws: aws.put_item(KEY, 1), USED, (True, None)),
    "delete_item": (lambda aws: aws.delete_item(KEY, 1), USED, True),
    "update_item": (lambda aws: aws.update_item(KEY, 1), USED, (True, None)),
    "update_item that gives the item": (
        lambda aws: aws.update_item({**KEY, "ReturnValues": "ALL_NEW"}, 1),
        {**USED, "Attributes": ITEM},
        (True, ITEM),
    ),
    "batch_get_item": (
        lambda aws: aws.batch_get_item("t", [{"pk": {"S": "b"}}, {"pk": {"S": "a"}}], 1),
        {"ConsumedCapacity": [USED["ConsumedCapacity"]], "Responses": {"t": [ITEM]}, "UnprocessedKeys": {}},
        [{}, ITEM],
    ),
    "batch_get_item of an emulator": (
        lambda aws: aws.batch_get_item("t", [{"pk": {"S": "a"}}], 1),
        {"Responses": {"t": []}, "UnprocessedKeys": {}},
        [{}],
    ),
    "transact_updates": (
        lambda aws: aws.transact_updates([KEY, KEY], 1),
        {"ConsumedCapacity": [USED["ConsumedCapacity"]]},
        None,
    ),
    "put_events": (
        lambda aws: aws.put_events([{}, {}], 1),
        {"FailedEntryCount": 1, "Entries": [{"EventId": "e"}, {"ErrorCode": "InternalFailure", "ErrorMessage": "m"}]},
        [{"EventId": "e"}, {"ErrorCode": "InternalFailure", "ErrorMessage": "m"}],
    ),
    "get_secret": (lambda aws: aws.get_secret("s"), {"ARN": "a", "SecretString": "text"}, "text"),
    "send_message": (lambda aws: aws.send_message("q", "m", 32, 1), {"MD5OfMessageBody": "d", "MessageId": "i"}, None),
    "get_parameter": (lambda aws: aws.get_parameter("p"), {"Parameter": {"Name": "p", "Value": "text"}}, "text"),
}
"""A call, an answer as AWS documents it, and what that comes to."""


@pytest.mark.parametrize("name", CALLS)
def test_the_documented_answer_is_believed(name: str) -> None:
    call, answer, result = CALLS[name]
    assert call(aws(FakeServices(answer=answer))) == result


@pytest.mark.parametrize(
    "answer",
    [
        {"Responses": {"t": [ITEM]}},
        {"Responses": {"another": [ITEM]}, "UnprocessedKeys": {}},
        {"Responses": [], "UnprocessedKeys": {}},
        {"Responses": {"t": ["a"]}, "UnprocessedKeys": {}},
        {"UnprocessedKeys": {}},
    ],
)
def test_a_batch_that_does_not_say_all_of_its_table_is_no_answer(answer: Any) -> None:
    with pytest.raises(AwsError) as error:
        aws(FakeServices(answer=answer)).batch_get_item("t", [{"pk": {"S": "a"}}], 1)
    assert (error.value.code, error.value.is_transient) == (NO_ANSWER, True)


ODD = [b"", b"{}", b"[]", b"null", b"7", b'"text"', b"<html>Service unavailable</html>", b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("status", [200, 204, 302])
def test_anything_else_that_calls_itself_a_success_is_no_answer(name: str, body: bytes, status: int) -> None:
    services = FakeServices()
    services.answered = status, {}, body
    with pytest.raises(AwsError) as error:
        CALLS[name][0](aws(services))
    assert (error.value.code, error.value.is_transient, error.value.may_be_done) == (NO_ANSWER, True, True)


@pytest.mark.parametrize("name", CALLS)
@given(data=st.data())
def test_an_answer_that_is_cut_is_no_answer(name: str, data: st.DataObject) -> None:
    call, answer, _ = CALLS[name]
    whole = json.dumps(answer).encode()
    services = FakeServices()
    services.answered = 200, {}, whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(AwsError, match=NO_ANSWER):
        call(aws(services))


def mutations(value: Any) -> Iterator[Any]:
    """`value` with one of its parts left out, or of another type."""
    others: list[Any] = [None, 0, "", [], {}, [None], True]
    for other in others:
        if type(other) is not type(value) or other != value:
            yield other
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        for name, member in members.items():
            yield {key: each for key, each in members.items() if key != name}
            yield from ({**members, name: other} for other in mutations(member))
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        for place, part in enumerate(parts):
            yield parts[:place] + parts[place + 1 :]
            yield from ([*parts[:place], other, *parts[place + 1 :]] for other in mutations(part))


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_of_other_types_never_raises_anything_else_and_never_makes_something_up(name: str) -> None:
    call, answer, result = CALLS[name]
    for other in mutations(answer):
        with contextlib.suppress(AwsError):
            found = call(aws(FakeServices(answer=other)))
            assert type(found) is type(result), other
            assert not isinstance(found, dict) or found == {} or is_item(found), other


@pytest.mark.parametrize(
    "entries",
    [None, [], [None], [None, None], [{}, {}], [{"EventId": "e"}], [{"EventId": "e"}] * 3, [{"EventId": "e"}, {}]],
)
def test_entries_that_do_not_answer_those_that_were_put_are_no_answer(entries: object) -> None:
    with pytest.raises(AwsError, match=NO_ANSWER):
        aws(FakeServices(answer={"FailedEntryCount": 0, "Entries": entries})).put_events([{}, {}], 1)


@pytest.mark.parametrize("item", [None, {}, [], "x", {"pk": None}, {"pk": {}}, {"pk": {"S": 1}}, {"n": {"N": "x"}}])
def test_an_item_that_is_none_is_no_answer(item: object) -> None:
    with pytest.raises(AwsError, match=NO_ANSWER):
        aws(FakeServices(answer={**USED, "Item": item})).get_item(KEY, 1)


NOTHING: dict[str, Any] = {"Code": "None"}
CHECK: dict[str, Any] = {"Code": "ConditionalCheckFailed", "Message": "m"}
CANCELLED: list[tuple[Any, object]] = [
    ([NOTHING, {**CHECK, "Item": ITEM}], [None, ITEM]),
    ([{**CHECK, "Item": ITEM}, CHECK], [ITEM, {}]),
    ([{**CHECK, "Item": ITEM}, {"Code": "TransactionConflict"}], "TransactionConflict"),
    ([NOTHING, {"Code": "ThrottlingError"}], "ThrottlingError"),
    ([{"Code": "ValidationError"}, NOTHING], "ValidationError"),
    ([NOTHING, {}], "None"),
    ([CHECK], NO_ANSWER),
    ([NOTHING, NOTHING], NO_ANSWER),
    (None, NO_ANSWER),
    ([{**CHECK, "Item": {}}, NOTHING], NO_ANSWER),
]


@pytest.mark.parametrize(("reasons", "expected"), CANCELLED)
def test_a_cancelled_transaction_says_who_refused_and_why(reasons: Any, expected: object) -> None:
    answer = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "CancellationReasons": reasons}
    call = aws(FakeServices(400, answer)).transact_updates
    if isinstance(expected, list):
        assert call([KEY, KEY], 1) == expected
        return
    with pytest.raises(AwsError) as error:
        call([KEY, KEY], 1)
    assert error.value.code == expected
    assert error.value.is_transient == (expected in ("TransactionConflict", "ThrottlingError", NO_ANSWER))


def test_keys_that_were_not_read_are_asked_for_again() -> None:
    answer: Any = {"ConsumedCapacity": [USED["ConsumedCapacity"]], "Responses": {"t": []}, "UnprocessedKeys": {"t": {}}}
    with pytest.raises(AwsError) as error:
        aws(FakeServices(answer=answer)).batch_get_item("t", [KEY["Key"]], 1)
    assert error.value.is_transient


@pytest.mark.parametrize(("item", "expected"), [({}, None), ({"Item": ITEM}, ITEM)])
def test_a_condition_that_does_not_hold_is_no_error(item: dict[str, Any], expected: object) -> None:
    named = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"
    answer = {"__type": named, "message": "m", **item}
    assert aws(FakeServices(400, {**answer, "__type": named + SUFFIX})).update_item(KEY, 1) == (False, expected)
    assert aws(FakeServices(400, answer)).update_item(KEY, 1) == (False, expected)
    assert aws(FakeServices(400, answer)).put_item(KEY, 1) == (False, expected)


def test_a_secret_that_is_no_text_is_another_fault_than_no_answer() -> None:
    with pytest.raises(AwsError) as error:
        aws(FakeServices(answer={"ARN": "a", "SecretBinary": "AAAA"})).get_secret("s")
    assert (error.value.code, error.value.is_transient) == (SECRET_IS_BINARY, False)


@pytest.mark.parametrize(
    ("status", "code", "is_transient", "may_be_done"),
    [
        (400, "ThrottlingException", True, False),
        (400, "ProvisionedThroughputExceededException", True, False),
        (429, "TooManyRequestsException", True, False),
        (400, "ValidationException", False, False),
        (403, "AccessDeniedException", False, False),
        (500, "InternalServerError", True, True),
        (500, "SomethingNew", True, True),
        (503, "ServiceUnavailable", True, True),
        (503, None, True, True),
        (502, None, True, True),
        (507, None, True, True),
        (529, None, True, True),
        (429, None, True, False),
        (408, None, True, False),
        (400, None, False, False),
        (403, None, False, False),
    ],
)
def test_what_only_means_not_now_is_told_apart(
    status: int, code: str | None, is_transient: bool, may_be_done: bool
) -> None:
    with pytest.raises(AwsError) as error:
        aws(FakeServices(status, {"__type": code} if code else "<html>")).get_item(KEY, 1)
    assert error.value.code == (code or f"HTTP {status}")
    assert (error.value.is_transient, error.value.may_be_done) == (is_transient, may_be_done)


def test_what_botocore_tries_again_is_transient_here_too() -> None:
    throttled: Any = standard.ThrottledRetryableChecker
    broken: Any = standard.TransientRetryableChecker
    codes = {*throttled._THROTTLED_ERROR_CODES, *broken._TRANSIENT_ERROR_CODES}
    assert codes <= TRANSIENT
    assert all(is_transient("", status) for status in broken._TRANSIENT_STATUS_CODES)


@pytest.mark.parametrize(("was_sent", "code"), [(False, UNREACHABLE), (True, NO_ANSWER)])
def test_a_broken_connection_says_whether_the_call_may_be_done(was_sent: bool, code: str) -> None:
    def fail(*_: object, repeats: bool) -> Answered:
        assert repeats
        raise ConnectionFailedError("what happened", was_sent=was_sent)

    with pytest.raises(AwsError, match="what happened") as error:
        aws(fail).get_secret("s")
    assert (error.value.code, error.value.is_transient, error.value.may_be_done) == (code, True, was_sent)


def test_a_message_is_sent_as_sqs_reads_it_and_an_answer_of_something_else_is_none() -> None:
    services = FakeServices(answer={"MessageId": "i"})
    aws(services).send_message("https://sqs/q", "m", 32, 1.0)
    [(url, headers, body)] = services.posted

    assert url == "https://sqs.eu-central-1.amazonaws.com/"
    assert (headers["content-type"], headers["x-amz-target"]) == ("application/x-amz-json-1.0", "AmazonSQS.SendMessage")
    assert json.loads(body) == {"QueueUrl": "https://sqs/q", "MessageBody": "m", "DelaySeconds": 32}
    answers: list[dict[str, Any]] = [{}, {"MessageId": None}, {"MessageId": ""}]
    for answer in answers:
        with pytest.raises(AwsError, match=NO_ANSWER):
            aws(FakeServices(answer=answer)).send_message("q", "m", 0, 1.0)


def test_a_message_carries_the_trace() -> None:
    services = FakeServices(answer={"MessageId": "i"})
    aws(services).send_message("https://sqs/q", "m", 0, 1.0, "Root=1")
    [(_, _, body)] = services.posted
    told = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
    assert json.loads(body)["MessageSystemAttributes"] == told


def test_events_are_sent_as_often_as_their_publisher_says() -> None:
    services = FakeServices(answer={**USED, "FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})
    aws(services).put_events([{}], 1.0)
    aws(services).get_item(KEY, 1.0)
    assert services.repeats == [False, True]


def container(expiration: str, status: int = 200) -> tuple[ContainerCredentials, list[Mapping[str, str]]]:
    asked: list[Mapping[str, str]] = []

    def get(url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        asked.append(headers)
        answer = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": expiration}
        return status, {}, json.dumps(answer if status == 200 else {"code": "no"}).encode()

    return ContainerCredentials(get, "http://169.254.100.1/creds", "the-token"), asked


def test_container_credentials_are_kept_while_they_last() -> None:
    credentials, asked = container("2999-01-01T00:00:00Z")
    assert credentials() == credentials() == Credentials("A", "S", "T")
    assert asked == [{"authorization": "the-token"}]


def test_container_credentials_are_renewed_before_they_expire() -> None:
    credentials, asked = container("2020-01-01T00:00:00Z")
    credentials()
    credentials()
    assert len(asked) == 2


def test_container_credentials_that_are_refused() -> None:
    with pytest.raises(AwsError, match="credentials"):
        container("2999-01-01T00:00:00Z", status=403)[0]()


WITHOUT_TOKEN = b'{"AccessKeyId": "B", "SecretAccessKey": "S", "Expiration": "2999-01-01T00:00:00Z"}'


@pytest.mark.parametrize(
    "failure", [(500, b""), (200, b"{}"), (200, b"<html>"), (200, b"null"), (200, WITHOUT_TOKEN), None]
)
def test_container_credentials_that_are_still_good_are_used_while_they_cannot_be_renewed(
    failure: tuple[int, bytes] | None,
) -> None:
    """They expire in a minute, so they are to be renewed, which fails: once, and not again for some seconds."""
    expiration = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
    good = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": expiration}
    answers: list[tuple[int, bytes] | None] = [(200, json.dumps(good).encode()), failure]

    def get(url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        if (answer := answers.pop(0)) is None:
            raise ConnectionFailedError("no", was_sent=True)
        return answer[0], {}, answer[1]

    credentials = ContainerCredentials(get, "http://169.254.100.1/creds", "the-token")
    assert [credentials() for _ in range(3)] == [Credentials("A", "S", "T")] * 3
    assert answers == []


@pytest.mark.parametrize(("seconds", "used"), [(60, "old"), (90, "new"), (-60, "old"), (3600, "new")])
def test_what_the_container_answers_is_used_only_while_it_is_good_and_asked_for_once_in_some_seconds(
    seconds: int, used: str
) -> None:
    """It answers with what it had, with others for a while, with some that are over, and with new ones."""
    now = time.time()
    keys, ends = ("old", "old" if seconds == 60 else "new"), (60, seconds)
    answers = [
        {
            "AccessKeyId": key,
            "SecretAccessKey": "S",
            "Token": "T",
            "Expiration": datetime.fromtimestamp(now + end, UTC).isoformat(),
        }
        for key, end in zip(keys, ends, strict=True)
    ]

    def get(url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        return 200, {}, json.dumps(answers.pop(0)).encode()

    credentials = ContainerCredentials(get, "http://169.254.100.1/creds", "the-token")
    assert [credentials().access_key for _ in range(4)] == ["old", used, used, used]


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"AccessKeyId": 1, "SecretAccessKey": "s"}', WITHOUT_TOKEN])
def test_container_credentials_that_are_none(answer: bytes) -> None:
    def get(url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        return 200, {}, answer

    credentials = ContainerCredentials(get, "http://169.254.100.1/creds", "the-token")
    with pytest.raises(AwsError, match="credentials") as error:
        credentials()
    assert not error.value.may_be_done
