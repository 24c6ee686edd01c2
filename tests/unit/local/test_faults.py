import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import create_parser

from local.faults.call import AwsCall, call_of
from local.faults.injection import refusal
from local.faults.rules import FAULTS, Faults, FaultsFileError, rules_of
from local.http.server import Exchange, HttpServer
from local.stack.aws_gate import AwsGate

_BOTO3: Any = boto3  # every new client's type is an overload over all services of AWS
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
TAKE = ("POST", "/", "DynamoDB_20120810.UpdateItem", b'{"TableName": "stack-LimitsTable-1", "Key": {"pk": {"S": "x"}}}')


@pytest.mark.parametrize(
    ("request_", "call"),
    [
        (TAKE, AwsCall("dynamodb:UpdateItem", "stack-LimitsTable-1")),
        (
            (
                "POST",
                "/",
                "DynamoDB_20120810.TransactWriteItems",
                b'{"TransactItems": [{"Put": {"TableName": "a"}}, {"Update": {"TableName": "b"}}]}',
            ),
            AwsCall("dynamodb:TransactWriteItems", "a b"),
        ),
        (
            ("POST", "/2015-03-31/functions/stack-Authorizer/invocations", "", b"{}"),
            AwsCall("lambda:Invoke", "stack-Authorizer"),
        ),
        (
            ("POST", "/", "AWSEvents.PutEvents", b'{"Entries": [{"EventBusName": "bus", "Detail": "{}"}]}'),
            AwsCall("events:PutEvents", "bus"),
        ),
        (
            ("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", "", b"\xa1"),
            AwsCall("cloudwatch:PutMetricData", protocol="cbor"),
        ),
        (
            ("GET", "/bucket/answers/a%2Fb?x-id=GetObject", "", b""),
            AwsCall("s3:GetObject", "bucket/answers/a/b", "xml"),
        ),
        (("POST", "/", "AmazonSSM.GetParameter", b'{"Name": "/token"}'), AwsCall("ssm:GetParameter", "/token")),
        (("POST", "/", "Later_2030.New", b"no json"), AwsCall("Later_2030:New")),
    ],
    ids=lambda value: value.action if isinstance(value, AwsCall) else "request",
)
def test_requests_are_told_apart(request_: tuple[str, str, str, bytes], call: AwsCall):
    assert call_of(*request_) == call


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- call: [", "not YAML"),
        ("call: x", "not a list"),
        ("- dynamodb:*", "rule 1 is not a mapping"),
        ("- {call: a, fault: slow}\n- {fault: slow}", "rule 2: 'call' is missing"),
        ("- {call: a, fault: slwo}", "'fault' is 'slwo'; choose one of slow, late"),
        ("- {call: a, fault: slow, share: 2}", "'share' is 2; write a number from 0 to 1"),
        ("- {call: a, fault: slow, seconds: soon}", "'seconds' is 'soon'"),
        ("- {call: a, fault: slow, seconds: .nan}", "'seconds' is nan"),
        ("- {call: a, fault: slow, times: true}", "'times' is True"),
        ("- {call: a, fault: slow, of: everybody}", "'of' is 'everybody'; choose one of proxy, functions"),
        ("- {call: a, fault: slow, second: 1}", "there is no key 'second'"),
    ],
    ids=["yaml", "list", "mapping", "call", "fault", "share", "text", "nan", "bool", "of", "key"],
)
def test_a_file_that_cannot_be_used_is_refused_with_a_remedy(text: str, words: str):
    with pytest.raises(FaultsFileError) as refused:
        rules_of(text, "faults.yaml")
    assert str(refused.value).startswith("faults.yaml")
    assert words in str(refused.value)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def faults_of(path: Path, text: str, clock: Clock | None = None, chance: float = 0.0) -> Faults:
    path.write_text(text)
    faults = Faults(path, clock or Clock(), lambda _: None, lambda: chance)
    faults.begin()
    return faults


def struck(faults: Faults, call: AwsCall, caller: str = "proxy") -> str:
    rule = faults.strike(call, caller)
    return rule.fault if rule else ""


def test_rules_choose_by_call_resource_caller_time_times_and_share(tmp_path: Path):
    path, clock = tmp_path / "faults.yaml", Clock()
    take, hint = AwsCall("dynamodb:UpdateItem", "LimitsTable"), AwsCall("dynamodb:GetItem", "LimitsTable")
    text = "- {call: dynamodb:update*, resource: limits, of: proxy, fault: late, times: 2, from: 5, for: 10}"
    faults = faults_of(path, text, clock)
    assert struck(faults, take) == "", "not yet"
    clock.now += 5
    assert struck(faults, hint) == "", "another call"
    assert struck(faults, AwsCall("dynamodb:UpdateItem", "CostsTable")) == "", "another table"
    assert struck(faults, take, "functions") == "", "another caller"
    assert [struck(faults, take) for _ in range(3)] == ["late", "late", ""]
    skipping = faults_of(path, "- {call: '*', fault: cut, skip: 2, times: 1}", clock)
    assert [struck(skipping, take) for _ in range(4)] == ["", "", "cut", ""]
    shared = "- {call: '*', fault: cut, share: 0.5}"
    assert [struck(faults_of(path, shared, chance=chance), take) for chance in (0.49, 0.5)] == ["cut", ""]


def test_the_time_of_a_rule_ends(tmp_path: Path):
    clock = Clock()
    faults = faults_of(tmp_path / "faults.yaml", "- {call: '*', fault: cut, for: 10}", clock)
    clock.now += 9.9
    assert struck(faults, AwsCall("a:B")) == "cut"
    clock.now += 0.1
    assert struck(faults, AwsCall("a:B")) == ""


def test_nothing_goes_wrong_before_the_stack_is_ready(tmp_path: Path):
    path = tmp_path / "faults.yaml"
    path.write_text("- {call: '*', fault: cut}")
    faults = Faults(path, Clock(), lambda _: None)
    assert struck(faults, AwsCall("a:B")) == ""
    faults.begin()
    assert struck(faults, AwsCall("a:B")) == "cut"


def test_a_changed_file_counts_at_once_and_a_broken_one_changes_nothing(tmp_path: Path):
    path, said = tmp_path / "faults.yaml", list[str]()
    path.write_text("- {call: 'a:*', fault: cut, times: 1}")
    faults = Faults(path, Clock(), said.append)
    faults.begin()
    call = AwsCall("a:B")
    assert [struck(faults, call) for _ in range(2)] == ["cut", ""]
    path.write_text("- {call: 'a:*', fault: reset, times: 1}")
    assert [struck(faults, call) for _ in range(2)] == ["reset", ""]
    path.write_text("- {call: 'a:*', fault: nonsense, times: 9}")
    assert struck(faults, call) == ""
    assert said[0] == "faults.yaml has changed: 1 rules"
    assert said[1].startswith("The faults stay as they were: faults.yaml, rule 1: 'fault' is 'nonsense'")


def through_the_gate(path: Path, rule: str, look: Callable[[httpx.AsyncClient], Awaitable[None]]) -> int:
    """Let `look` call through a gate with one rule. Returns how often the service behind it was called."""
    executed = 0

    async def main() -> None:
        async def answer(exchange: Exchange) -> None:
            nonlocal executed
            await exchange.body(1000)
            executed += 1
            await exchange.respond(200, [("content-type", "application/x-amz-json-1.0")], b'{"Attributes": {}}')

        service = HttpServer(answer, lambda fault: ([], fault.encode()))
        faults = faults_of(path, rule)
        gate = AwsGate(f"http://127.0.0.1:{await service.start('127.0.0.1', 0)}", 1, faults=faults)
        async with httpx.AsyncClient(base_url=await gate.start("127.0.0.1"), timeout=20) as client:
            await look(client)
        await gate.close()
        await service.close()

    asyncio.run(main())
    return executed


HEADERS = {"x-amz-target": TAKE[2]}
EXECUTED = {"slow": 1, "late": 1, "lost": 1, "cut": 1, "drip": 1, "empty": 1, "object": 1, "html": 1}
BODIES = {"slow": "whole", "late": "whole", "drip": "whole", "empty": b"", "object": b"{}"}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_does_what_it_says(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("local.faults.injection._DRIP_SECONDS", 0.01)

    async def look(client: httpx.AsyncClient) -> None:
        if fault in ("silent", "reset", "lost", "cut"):
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/", content=TAKE[3], headers=HEADERS)
            return
        answer = await client.post("/", content=TAKE[3], headers=HEADERS)
        if fault in ("throttled", "denied", "invalid", "internal", "unavailable"):
            assert answer.status_code in (400, 500, 503)
            assert answer.json()["__type"].partition("#")[2] in FAULTS[fault]
            return
        assert answer.status_code == 200
        expected = BODIES.get(fault)
        if fault == "html":
            assert "html" in answer.headers["content-type"]
        else:
            assert answer.content == (b'{"Attributes": {}}' if expected == "whole" else expected)

    executed = through_the_gate(tmp_path / "faults.yaml", f"- {{call: '*', fault: {fault}, seconds: 0.01}}", look)
    assert executed == EXECUTED.get(fault, 0)


def test_what_no_rule_fits_passes(tmp_path: Path):
    async def look(client: httpx.AsyncClient) -> None:
        assert (await client.post("/", content=TAKE[3], headers=HEADERS)).json() == {"Attributes": {}}

    assert through_the_gate(tmp_path / "faults.yaml", "- {call: s3:*, fault: reset}", look) == 1


@pytest.mark.parametrize("service", ["cloudwatch", "dynamodb", "s3"])
def test_refusals_are_read_by_boto3(tmp_path: Path, service: str):
    """What AWS's SDK makes of a refusal, in the protocol that it speaks with each service: the code of the fault."""

    def ask(url: str) -> str:
        config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
        client = _BOTO3.client(service, "us-east-1", endpoint_url=url, config=config, **CREDENTIALS)
        try:
            if service == "s3":
                client.get_object(Bucket="bucket", Key="key")
            elif service == "dynamodb":
                client.get_item(TableName="table", Key={"pk": {"S": "x"}})
            else:
                client.put_metric_data(Namespace="space", MetricData=[])
        except ClientError as error:
            return error.response.get("Error", {}).get("Code", "")
        return ""

    async def look(client: httpx.AsyncClient) -> None:
        assert await asyncio.to_thread(ask, str(client.base_url)) == "ServiceUnavailable"

    assert not through_the_gate(tmp_path / "faults.yaml", f"- {{call: '{service}:*', fault: unavailable}}", look)


def test_an_error_in_cbor_is_read_by_botocore():
    call = AwsCall("cloudwatch:PutMetricData", protocol="cbor")
    headers, body = refusal(call, "ServiceUnavailable", "The service is not available")
    model: Any = botocore.session.get_session().get_service_model("cloudwatch").operation_model("PutMetricData")
    fields = {"status_code": 503, "headers": dict(headers), "body": body}
    parsed = create_parser("smithy-rpc-v2-cbor").parse(fields, model.output_shape)
    assert parsed["Error"] == {"Code": "ServiceUnavailable", "Message": "The service is not available"}
