"""`doctor`: what a healthy stack, a broken one and one that may not be read are said to be."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai_proxy.pricing.list_prices import PriceList, load_price_list

from console.command_line import main
from console.doctor import servers
from console.doctor.account import (
    Aws,
    NotAllowedError,
    NotKnownError,
    NotReadError,
    NotThereError,
    permission_of,
    refusal,
)
from console.doctor.commands import findings_of
from console.doctor.deployment import Deployment, deployment_of
from console.doctor.findings import Finding, as_json, as_text, exit_code

FUNCTIONS = (
    "Proxy",
    "Authorizer",
    "RecordCost",
    "RecordMetrics",
    "RecordThrottles",
    "SettleLimits",
    "StoreResponse",
    "EndStreams",
    "PublishAgain",
)
QUEUES = FUNCTIONS[2:]
OUTPUTS = {
    "BusName": "bus",
    "KeysTable": "keys",
    "LakeStream": "lake",
    "AlarmTopic": "topic",
    "ProviderTokensSecret": "tokens",
    **{f"{name}FunctionName": f"{name}-fn" for name in FUNCTIONS},
    **{f"{name}QueueUrl": f"https://sqs/{name}" for name in QUEUES},
    **{f"{name}DeadLetterQueueUrl": f"https://sqs/{name}Dead" for name in QUEUES},
}
PARAMETERS = {
    "FunctionUrlEnabled": "true",
    "RestApiEnabled": "true",
    "AuthorizationEnabled": "true",
    "AlarmsEnabled": "true",
    "BedrockEnabled": "true",
    "Streaming": "true",
    "PythonVersion": "python3.13",
    "Architecture": "arm64",
    "ProxyMemoryMB": "256",
    "ProxyTimeoutSeconds": "900",
    "ProxyReservedConcurrency": "0",
    "SecretsPrefix": "openai-proxy/",
}
FUNCTION = {
    "State": "Active",
    "LastUpdateStatus": "Successful",
    "Runtime": "python3.13",
    "Architectures": ["arm64"],
    "MemorySize": 256,
    "Timeout": 900,
    "Environment": {"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/proxy/bootstrap"}},
}
ALARM = {
    "AlarmName": "shop-proxy-errors",
    "StateValue": "OK",
    "AlarmActions": ["topic"],
    "AlarmDescription": "Invocations fail: why. More. Runbook: docs/runbooks/function-errors.md#what-to-look-at",
}
SERVERS = """
openai: {url: https://api.openai.com/v1, token: "${OPENAI_API_KEY}", model: m}
own: {url: https://own.example/v1, token: "secretsmanager:openai-proxy/own#key", model: m}
kept: {url: https://kept.example/v1, token: "ssm:/openai-proxy/kept", model: m}
free: {url: https://free.example/v1, token: "", model: m}
bedrock: {url: "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", auth: aws, model: m}
either: {pool: {openai: 1, own: 1}}
"""
HEALTHY: Mapping[tuple[str, str], Any] = {
    ("cloudformation", "describe_stacks"): {
        "Stacks": [
            {
                "StackStatus": "UPDATE_COMPLETE",
                "Parameters": [{"ParameterKey": key, "ParameterValue": PARAMETERS[key]} for key in PARAMETERS],
                "Outputs": [{"OutputKey": key, "OutputValue": OUTPUTS[key]} for key in OUTPUTS],
            }
        ]
    },
    ("cloudformation", "describe_stack_resource"): {
        "StackResourceDetail": {"PhysicalResourceId": "https://sqs/notices"}
    },
    ("lambda", "get_function_configuration"): FUNCTION,
    ("lambda", "get_function_concurrency"): {},
    ("lambda", "list_event_source_mappings"): {"EventSourceMappings": [{"UUID": "u", "State": "Enabled"}]},
    ("lambda", "get_account_settings"): {
        "AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 900}
    },
    ("events", "list_rules"): {"Rules": [{"Name": "r", "State": "ENABLED"}]},
    ("service-quotas", "list_service_quotas"): {
        "Quotas": [
            {"QuotaName": "PutEvents throttle limit in transactions per second", "Value": 600.0, "QuotaCode": "L-1"}
        ]
    },
    ("cloudwatch", "get_metric_statistics"): {"Datapoints": [{"Maximum": 40.0, "Sum": 0.0}]},
    ("cloudwatch", "describe_alarms"): {"MetricAlarms": [ALARM]},
    ("firehose", "describe_delivery_stream"): {"DeliveryStreamDescription": {"DeliveryStreamStatus": "ACTIVE"}},
    ("sns", "list_subscriptions_by_topic"): {"Subscriptions": [{"SubscriptionArn": "arn:aws:sns:…"}]},
    ("sqs", "get_queue_attributes"): {"Attributes": {"ApproximateNumberOfMessages": "0", "QueueArn": "arn"}},
    ("secretsmanager", "get_secret_value"): {"SecretString": '{"OPENAI_API_KEY": "sk-1", "key": "k-1"}'},
    ("ssm", "get_parameter"): {"Parameter": {"Value": "p-1"}},
    ("dynamodb", "scan"): {"Count": 1},
}
"""What each call answers of a stack on which nothing is to be done."""


def prices_from(*starts: datetime) -> PriceList:
    """A list of one model, whose prices begin then."""
    prices = [{"from": start.date().isoformat(), "input": "1"} for start in starts] or [{"input": "1"}]
    return PriceList({"source": "s", "version": "1", "providers": {"p": {"models": [{"id": "m", "prices": prices}]}}})


def new_prices() -> PriceList:
    """A list that is as young as it can be."""
    return prices_from(datetime.now(UTC))


@dataclass
class FakeAccount:
    """An account whose answers are given; one that is an exception is raised."""

    answers: Mapping[tuple[str, str], Any]
    is_emulated: bool = False
    asked: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        assert parameters is not None
        self.asked.add((service, operation))
        answer = self.answers[service, operation]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def servers_file(tmp_path: Path) -> Path:
    file = tmp_path / "openai_servers.yaml"
    file.write_text(SERVERS)
    return file


def look(servers_file: Path, *, emulated: bool = False, **changes: Any) -> list[Finding]:
    """What is found when some calls answer something else; a change is named service__operation."""
    answers = dict(HEALTHY)
    for name, answer in changes.items():
        service, _, operation = name.partition("__")
        answers[service.replace("_", "-"), operation] = answer
    account = FakeAccount(answers, emulated)
    return list(findings_of(deployment_of(account, "shop", "eu-west-1"), new_prices(), servers_file))


def of_state(findings: list[Finding], state: str) -> list[tuple[str, str]]:
    return [(each.area, each.subject) for each in findings if each.state == state]


def stack_with(**parameters: str) -> Any:
    """The stack's description with other parameters; None takes one away."""
    [stack] = HEALTHY["cloudformation", "describe_stacks"]["Stacks"]
    chosen = {**PARAMETERS, **parameters}
    return {"Stacks": [{**stack, "Parameters": [{"ParameterKey": k, "ParameterValue": chosen[k]} for k in chosen]}]}


def test_runbooks_are_where_the_stack_says(servers_file: Path) -> None:
    url = "https://wiki.example/runbooks"
    alarm = ALARM | {"StateValue": "ALARM", "AlarmDescription": f"Invocations fail. Runbook: {url}/function-errors.md"}
    changes: dict[str, Any] = {
        "cloudformation__describe_stacks": stack_with(RunbooksUrl=url),
        "cloudwatch__describe_alarms": {"MetricAlarms": [alarm]},
        "sqs__get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "1"}},
    }
    remedies = {each.subject: str(each.remedy) for each in look(servers_file, **changes)}
    assert remedies["shop-proxy-errors"] == f"{url}/function-errors.md"
    assert f"{url}/dead-letters.md" in remedies["BudgetNotice"]


def test_of_a_healthy_stack_everything_is_well(servers_file: Path) -> None:
    findings = look(servers_file)

    assert {finding.state for finding in findings} == {"ok"}
    assert exit_code(findings) == 0
    assert {
        "stack",
        "functions",
        "events",
        "quotas",
        "alarms",
        "dead letters",
        "secrets",
        "servers",
        "keys",
        "prices",
    } == {finding.area for finding in findings}


@pytest.mark.parametrize("call", [call for call in HEALTHY if call != ("cloudformation", "describe_stacks")])
def test_what_may_not_be_read_is_never_well(call: tuple[str, str], servers_file: Path) -> None:
    permission = permission_of(call[0], "".join(word.title() for word in call[1].split("_")))
    whole = look(servers_file)
    account = FakeAccount({**HEALTHY, call: NotAllowedError(permission)})

    findings = list(findings_of(deployment_of(account, "shop", "eu-west-1"), new_prices(), servers_file))

    unread = [finding for finding in findings if finding.state == "unread"]
    assert unread
    assert call in account.asked
    assert all(permission in finding.says and permission in finding.remedy for finding in unread)
    assert exit_code(findings) == 2
    assert {(each.area, each.subject) for each in unread} & {(each.area, each.subject) for each in whole}
    assert len({finding for finding in findings if finding.state == "ok"}) < len(set(whole))


def test_what_an_emulator_does_not_know_is_not_known_and_no_fault(servers_file: Path) -> None:
    findings = look(servers_file, emulated=True, service_quotas__list_service_quotas=NotKnownError("x"))

    assert of_state(findings, "unknown") == [("quotas", "EventBridge PutEvents")]
    assert exit_code(findings) == 0


@pytest.mark.parametrize(
    ("changes", "subject", "command"),
    [
        (
            {"lambda__get_function_configuration": {**FUNCTION, "MemorySize": 128}},
            ("functions", "Proxy"),
            "update-function-configuration --function-name Proxy-fn --memory-size 256",
        ),
        (
            {"lambda__get_function_configuration": {**FUNCTION, "Runtime": "python3.12"}},
            ("functions", "Authorizer"),
            "--function-name Authorizer-fn --runtime python3.13",
        ),
        (
            {"lambda__get_function_configuration": {**FUNCTION, "State": "Failed", "StateReason": "no image"}},
            ("functions", "RecordCost"),
            "make deploy STACK=shop",
        ),
        (
            {"lambda__get_function_configuration": {**FUNCTION, "Environment": {"Variables": {}}}},
            ("functions", "Proxy"),
            "Streaming=false",
        ),
        (
            {"lambda__get_function_concurrency": {"ReservedConcurrentExecutions": 0}},
            ("functions", "Proxy"),
            "delete-function-concurrency --function-name Proxy-fn",
        ),
        (
            {"lambda__list_event_source_mappings": {"EventSourceMappings": [{"UUID": "u-1", "State": "Disabled"}]}},
            ("functions", "SettleLimits"),
            "update-event-source-mapping --uuid u-1 --enabled",
        ),
        (
            {"lambda__list_event_source_mappings": {"EventSourceMappings": []}},
            ("functions", "StoreResponse"),
            "create-event-source-mapping --function-name StoreResponse-fn",
        ),
        (
            {"events__list_rules": {"Rules": [{"Name": "r-1", "State": "DISABLED"}]}},
            ("events", "r-1"),
            "enable-rule --event-bus-name bus --name r-1",
        ),
        (
            {"lambda__get_account_settings": {"AccountLimit": {"ConcurrentExecutions": 10}}},
            ("quotas", "Lambda's concurrency"),
            "request-service-quota-increase --service-code lambda",
        ),
        (
            {"cloudwatch__get_metric_statistics": {"Datapoints": [{"Maximum": 900.0, "Sum": 0.0}]}},
            ("quotas", "of it, used in a day"),
            "request-service-quota-increase --service-code lambda",
        ),
        (
            {"lambda__get_account_settings": {"AccountLimit": {"ConcurrentExecutions": 10_000}}},
            ("quotas", "EventBridge PutEvents"),
            "--quota-code L-1 --desired-value 1000",
        ),
        (
            {"firehose__describe_delivery_stream": NotThereError("no such stream")},
            ("quotas", "Firehose"),
            "delete the stack",
        ),
        (
            {"cloudwatch__describe_alarms": {"CompositeAlarms": [{**ALARM, "StateValue": "ALARM"}]}},
            ("alarms", "shop-proxy-errors"),
            "docs/runbooks/function-errors.md#what-to-look-at",
        ),
        (
            {"cloudwatch__describe_alarms": {"CompositeAlarms": [{**ALARM, "ActionsEnabled": False}]}},
            ("alarms", "shop-proxy-errors"),
            "enable-alarm-actions --alarm-names shop-proxy-errors",
        ),
        (
            {"cloudwatch__describe_alarms": {"MetricAlarms": [{**ALARM, "AlarmActions": []}]}},
            ("alarms", "notices"),
            "AlarmFormulasEnabled=true",
        ),
        (
            {
                "sns__list_subscriptions_by_topic": {
                    "Subscriptions": [
                        {"SubscriptionArn": "PendingConfirmation", "Protocol": "email", "Endpoint": "a@example.com"}
                    ]
                }
            },
            ("alarms", "email:a@example.com"),
            "sns subscribe --topic-arn topic --protocol email --notification-endpoint a@example.com",
        ),
        ({"sns__list_subscriptions_by_topic": {"Subscriptions": []}}, ("alarms", "subscriptions"), "AlarmEmail="),
        (
            {"sqs__get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessages": "3", "QueueArn": "arn:q"}}},
            ("dead letters", "RecordCost"),
            "openai-proxy events redrive record-cost --stack-name shop",
        ),
        (
            {"sqs__get_queue_attributes": {"Attributes": {"ApproximateNumberOfMessagesNotVisible": "1"}}},
            ("dead letters", "BudgetNotice"),
            "docs/runbooks/dead-letters.md#what-to-look-at",
        ),
        (
            {"secretsmanager__get_secret_value": {"SecretString": "sk-1"}},
            ("secrets", "provider tokens"),
            "put-secret-value --secret-id tokens",
        ),
        (
            {"secretsmanager__get_secret_value": {"SecretString": '{"OPENAI_API_KEY": "...", "key": ""}'}},
            ("servers", "1 of 6 servers"),
            "put-secret-value --secret-id tokens",
        ),
        (
            {"secretsmanager__get_secret_value": {"SecretString": '{"OPENAI_API_KEY": "sk-1"}'}},
            ("servers", "own"),
            "create-secret --name openai-proxy/own",
        ),
        ({"ssm__get_parameter": NotThereError("none")}, ("servers", "kept"), "put-parameter --name /openai-proxy/kept"),
        (
            {"cloudformation__describe_stacks": stack_with(SecretsPrefix="shop/")},
            ("servers", "own"),
            "SecretsPrefix=openai-proxy/",
        ),
        (
            {"cloudformation__describe_stacks": stack_with(BedrockEnabled="false")},
            ("servers", "bedrock"),
            "BedrockEnabled=true",
        ),
        (
            {"cloudformation__describe_stacks": stack_with(AuthorizationEnabled="false")},
            ("stack", "doors"),
            "AuthorizationEnabled=true",
        ),
        (
            {"cloudformation__describe_stacks": stack_with(FunctionUrlEnabled="false", RestApiEnabled="false")},
            ("stack", "doors"),
            "FunctionUrlEnabled=true",
        ),
        (
            {"cloudformation__describe_stacks": stack_with(ProxyReservedConcurrency="50")},
            ("functions", "Proxy"),
            "--reserved-concurrent-executions 50",
        ),
        ({"dynamodb__scan": {"Count": 0}}, ("keys", "client keys"), "openai-proxy keys create"),
    ],
)
def test_what_is_wrong_comes_with_the_command_for_it(
    changes: dict[str, Any], subject: tuple[str, str], command: str, servers_file: Path
) -> None:
    findings = look(servers_file, **changes)

    [remedy] = [each.remedy for each in findings if (each.area, each.subject) == subject and each.state == "todo"]
    assert command in remedy
    assert exit_code(findings) == 1
    assert remedy in as_text(findings, 80)


def test_a_failed_deployment_and_one_that_runs_are_told(servers_file: Path) -> None:
    def status(name: str) -> Finding:
        [stack] = HEALTHY["cloudformation", "describe_stacks"]["Stacks"]
        changed = {"Stacks": [{**stack, "StackStatus": name}]}
        return look(servers_file, cloudformation__describe_stacks=changed)[0]

    assert "describe-stack-events --stack-name shop" in status("UPDATE_ROLLBACK_COMPLETE").remedy
    assert "look again" in status("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS").remedy
    assert status("CREATE_COMPLETE").state == "ok"


def test_a_local_stack_lacks_on_purpose_what_an_account_has_to_have(servers_file: Path) -> None:
    lacking: dict[str, Any] = {
        "sns__list_subscriptions_by_topic": {"Subscriptions": []},
        "cloudwatch__describe_alarms": {"MetricAlarms": [{**ALARM, "AlarmActions": []}]},
        "cloudformation__describe_stacks": stack_with(AuthorizationEnabled="false", BedrockEnabled="false"),
    }

    here, there = look(servers_file, emulated=True, **lacking), look(servers_file, **lacking)

    assert of_state(here, "note") == of_state(there, "todo") != []
    assert (exit_code(here), exit_code(there)) == (0, 1)


def test_an_alarm_of_an_emulator_is_said_to_be_doubtful(servers_file: Path) -> None:
    on: dict[str, Any] = {"cloudwatch__describe_alarms": {"MetricAlarms": [{**ALARM, "StateValue": "ALARM"}]}}
    doubts = [
        [each.remedy for each in look(servers_file, emulated=emulated, **more) if each.subject == "on this machine"]
        for emulated, more in ((True, on), (True, {}), (False, on))
    ]
    assert doubts == [["docs/local.md#what-is-not says which those are"], [], []]


def test_no_token_is_shown(servers_file: Path) -> None:
    findings = look(servers_file, secretsmanager__get_secret_value={"SecretString": '{"OTHER": "sk-canary"}'})

    for shown in (as_text(findings), json.dumps(as_json(findings, "shop", "eu-west-1"))):
        assert "sk-" not in shown
        assert "p-1" not in shown


def test_prices_grow_old() -> None:
    begun, later = datetime(2026, 9, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    [young] = servers.price_findings(prices_from(begun, later), begun + timedelta(days=90))
    [old] = servers.price_findings(prices_from(begun, later), begun + timedelta(days=91))
    [dateless] = servers.price_findings(prices_from(), begun)

    assert (young.state, old.state, dateless.state) == ("ok", "todo", "todo")
    assert "2026-09-01, 91 days ago" in old.says
    assert "openai-proxy prices refresh" in old.remedy


def test_the_shipped_prices_have_dates() -> None:
    assert load_price_list().newest_start(datetime(2026, 11, 29, tzinfo=UTC))


@pytest.mark.parametrize(
    ("code", "message", "emulated", "kind", "says"),
    [
        ("AccessDeniedException", "not authorized to perform: kms:Decrypt on y", False, NotAllowedError, "kms:Decrypt"),
        ("AccessDenied", "no", False, NotAllowedError, "sqs:GetQueueAttributes"),
        ("AuthorizationError", "no", False, NotAllowedError, "sqs:GetQueueAttributes"),
        ("UnauthorizedOperation", "no", True, NotAllowedError, "sqs:GetQueueAttributes"),
        ("AWS.SimpleQueueService.NonExistentQueue", "gone", False, NotThereError, "gone"),
        ("ResourceNotFoundException", "gone", True, NotThereError, "gone"),
        ("ValidationError", "Stack with id x does not exist", False, NotThereError, "does not exist"),
        ("ValidationError", "1 validation error", False, NotReadError, "validation error"),
        ("400", "", True, NotKnownError, "sqs:GetQueueAttributes"),
        ("UnknownOperationException", "", True, NotKnownError, "sqs:GetQueueAttributes"),
        ("UnknownOperationException", "", False, NotReadError, "UnknownOperationException"),
        ("ExpiredToken", "expired", False, NotReadError, "expired"),
        ("ThrottlingException", "slow", False, NotReadError, "slow"),
    ],
)  # fmt: skip
def test_refusals_are_told_apart(code: str, message: str, emulated: bool, kind: type[Exception], says: str) -> None:
    error = refusal({"Error": {"Code": code, "Message": message}}, "sqs:GetQueueAttributes", emulated)

    assert type(error) is kind
    assert says in str(error)


@pytest.mark.parametrize(
    ("endpoint", "is_emulated"),
    [
        ("https://cloudformation.eu-west-1.amazonaws.com", False),
        ("https://cloudformation.cn-north-1.amazonaws.com.cn", False),
        ("https://cloudformation.eusc-de-east-1.amazonaws.eu", False),
        ("https://cloudformation-fips.us-east-1.amazonaws.com:443/", False),
        ("https://vpce-1.cloudformation.eu-west-1.vpce.amazonaws.com", False),
        ("http://127.0.0.1:4566", True),
        ("http://localhost.localstack.cloud:4566", True),
        ("https://amazonaws.com.example.com", True),
    ],
)
def test_an_emulator_is_told_by_its_address(endpoint: str, is_emulated: bool) -> None:
    class Client:
        meta = SimpleNamespace(endpoint_url=endpoint)

    class Session:
        region_name = "eu-west-1"

        def client(self, _service: str, config: Any) -> Client:
            assert config.read_timeout == 10
            return Client()

    assert Aws(Session()).is_emulated is is_emulated


def test_permissions_are_written_as_iam_does() -> None:
    assert permission_of("service-quotas", "ListServiceQuotas") == "servicequotas:ListServiceQuotas"
    assert permission_of("sqs", "GetQueueAttributes") == "sqs:GetQueueAttributes"


def test_without_a_stack_it_could_not_look(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    code = main(["doctor", "--json"], {"AWS_REGION": "eu-west-1"})

    assert code == 2
    assert "Remedy" in capsys.readouterr().err


def test_a_servers_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    account = FakeAccount(HEALTHY)
    stack: Deployment = replace(deployment_of(account, "shop", "eu-west-1"), parameters=PARAMETERS)

    findings = list(findings_of(stack, new_prices(), tmp_path / "nothing.yaml"))

    assert of_state(findings, "unread") == [("servers", str(tmp_path / "nothing.yaml"))]
    assert exit_code(findings) == 2
