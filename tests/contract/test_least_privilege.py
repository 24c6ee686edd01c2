"""Who may reach what, as AWS would decide it: every permission that the translated template gives, in one table.

Its one rule: what does not stand in `GRANTS` is granted to nobody. A new permission is one line there.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.contract.template_stack import ROOT, Stack, as_list, deployed

END_STREAMS = ROOT / "functions/end_streams/table.py"
RECEIVE = "sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes"
SECRETS = "arn:aws:secretsmanager:us-east-1:111111111111:secret:openai-proxy/*"
PARAMETERS = "arn:aws:ssm:us-east-1:111111111111:parameter/openai-proxy/*"
CACHED = "${CacheBucket.Arn}/captured/*"
PIECES = "${CacheBucket.Arn}/streams/*"
GLUE = "arn:aws:glue:us-east-1:111111111111:"
LAKE_TABLE = [f"{GLUE}catalog", f"{GLUE}database/${{LakeDatabase}}", f"{GLUE}table/${{LakeDatabase}}/${{LakeEntries}}"]
LAKE_FOLDERS = ["${LakeBucket.Arn}/entries/*", "${LakeBucket.Arn}/errors/*"]

GRANTS = [
    ("ProxyFunction", "invokes", "${AuthorizerFunction.Arn}", "lambda:InvokeFunction"),
    ("ProxyFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    ("ProxyFunction", "reads", "${ProviderTokens}", "secretsmanager:GetSecretValue"),
    ("ProxyFunction", "reads", SECRETS, "secretsmanager:GetSecretValue"),
    ("ProxyFunction", "reads", PARAMETERS, "ssm:GetParameter"),
    (
        *("ProxyFunction", "reads, writes", "${LimitsTable.Arn}"),
        "dynamodb:GetItem dynamodb:BatchGetItem dynamodb:UpdateItem",
    ),
    ("ProxyFunction", "reads", "${CostsTable.Arn}", "dynamodb:GetItem"),
    (
        *("ProxyFunction", "reads, writes", "${CacheTable.Arn}"),
        "dynamodb:GetItem dynamodb:PutItem dynamodb:DeleteItem",
    ),
    ("ProxyFunction", "reads, writes", CACHED, "s3:GetObject s3:PutObject"),
    ("ProxyFunction", "reads, writes", PIECES, "s3:GetObject s3:PutObject"),
    (
        *("ProxyFunction", "reads, writes", "${StreamsTable.Arn}"),
        "dynamodb:GetItem dynamodb:Query dynamodb:PutItem dynamodb:UpdateItem",
    ),
    ("ProxyFunction", "sends", "${EndStreamsQueue.Arn}", "sqs:SendMessage"),
    ("ProxyFunction", "sends", "${PublishAgainQueue.Arn}", "sqs:SendMessage"),
    ("ProxyFunction", "sends", "${StoreResponseQueue.Arn}", "sqs:SendMessage"),
    ("AuthorizerFunction", "reads", "${KeysTable.Arn}", "dynamodb:GetItem"),
    ("RecordCostFunction", "takes", "${RecordCostQueue.Arn}", RECEIVE),
    (
        *("RecordCostFunction", "reads, writes", "${CostsTable.Arn}"),
        "dynamodb:GetItem dynamodb:Query dynamodb:PutItem dynamodb:UpdateItem dynamodb:ConditionCheckItem",
    ),
    ("RecordCostFunction", "sends", "${LakeStream.Arn}", "firehose:PutRecordBatch"),
    ("RecordCostFunction", "sends", "*", "cloudwatch:PutMetricData"),
    ("RecordMetricsFunction", "takes", "${RecordMetricsQueue.Arn}", RECEIVE),
    ("RecordMetricsFunction", "reads, writes", "${MarkersTable.Arn}", "dynamodb:BatchGetItem dynamodb:PutItem"),
    ("RecordMetricsFunction", "sends", "*", "cloudwatch:PutMetricData"),
    ("RecordThrottlesFunction", "takes", "${RecordThrottlesQueue.Arn}", RECEIVE),
    (
        *("RecordThrottlesFunction", "reads, writes", "${CostsTable.Arn}"),
        "dynamodb:GetItem dynamodb:Query dynamodb:PutItem dynamodb:UpdateItem dynamodb:ConditionCheckItem",
    ),
    ("RecordThrottlesFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    ("RecordThrottlesFunction", "sends", "${LakeStream.Arn}", "firehose:PutRecordBatch"),
    ("RecordThrottlesFunction", "sends", "*", "cloudwatch:PutMetricData"),
    ("SettleLimitsFunction", "takes", "${SettleLimitsQueue.Arn}", RECEIVE),
    (
        *("SettleLimitsFunction", "reads, writes", "${LimitsTable.Arn}"),
        "dynamodb:GetItem dynamodb:BatchGetItem dynamodb:PutItem dynamodb:UpdateItem",
    ),
    ("SettleLimitsFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    ("StoreResponseFunction", "takes", "${StoreResponseQueue.Arn}", RECEIVE),
    ("StoreResponseFunction", "writes", "${CacheTable.Arn}", "dynamodb:PutItem"),
    ("EndStreamsFunction", "takes, sends", "${EndStreamsQueue.Arn}", f"{RECEIVE} sqs:SendMessage"),
    (
        *("EndStreamsFunction", "reads, writes", "${StreamsTable.Arn}"),
        "dynamodb:GetItem dynamodb:Query dynamodb:UpdateItem",
    ),
    ("EndStreamsFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    ("PublishAgainFunction", "takes, hides", "${PublishAgainQueue.Arn}", f"{RECEIVE} sqs:ChangeMessageVisibility"),
    ("PublishAgainFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    ("TellIncidentsFunction", "reads", "${CostsTable.Arn}", "dynamodb:Query"),
    ("TellIncidentsFunction", "reads, writes", "${MarkersTable.Arn}", "dynamodb:GetItem dynamodb:PutItem"),
    ("TellIncidentsFunction", "sends", "${AlarmTopic}", "sns:Publish"),
    ("TellIncidentsFunction", "sends", "${Bus.Arn}", "events:PutEvents"),
    *(
        ("LakeStreamRole", "delivers", folder, "s3:AbortMultipartUpload s3:GetObject s3:PutObject")
        for folder in LAKE_FOLDERS
    ),
    (
        *("LakeStreamRole", "delivers", "${LakeBucket.Arn}"),
        "s3:GetBucketLocation s3:ListBucket s3:ListBucketMultipartUploads",
    ),
    *(
        ("LakeStreamRole", "reads", part, "glue:GetTable glue:GetTableVersion glue:GetTableVersions")
        for part in LAKE_TABLE
    ),
    ("LakeStreamRole", "sends", "${LakeStreamLogGroup.Arn}", "logs:PutLogEvents"),
]
"""Function, what it does with a resource, the resource, by which actions. Its own log and X-Ray are added below.

A role that is no function's stands here by its own name, with everything that it has.
"""

VERBS = {
    "reads": {
        "dynamodb:GetItem",
        "dynamodb:BatchGetItem",
        "dynamodb:Query",
        "glue:GetTable",
        "glue:GetTableVersion",
        "glue:GetTableVersions",
        "s3:GetObject",
        "secretsmanager:GetSecretValue",
        "ssm:GetParameter",
    },
    "writes": {
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
        "dynamodb:DeleteItem",
        "dynamodb:BatchWriteItem",
        "dynamodb:ConditionCheckItem",
        "s3:PutObject",
    },
    "sends": {
        "events:PutEvents",
        "cloudwatch:PutMetricData",
        "firehose:PutRecordBatch",
        "logs:PutLogEvents",
        "sns:Publish",
        "sqs:SendMessage",
    },
    "delivers": {
        *("s3:AbortMultipartUpload", "s3:GetBucketLocation", "s3:GetObject", "s3:ListBucket"),
        *("s3:ListBucketMultipartUploads", "s3:PutObject"),
    },
    "takes": set(RECEIVE.split()),
    "hides": {"sqs:ChangeMessageVisibility"},
    "invokes": {"lambda:InvokeFunction"},
}
"""What a function may need to do, and the actions that do no more than that."""

WITHOUT_RESOURCES = {"xray:PutTraceSegments", "xray:PutTelemetryRecords", "cloudwatch:PutMetricData"}
"""Actions for which AWS knows no resource to name."""

SETTINGS: list[dict[str, str]] = [
    {},
    {"Streaming": "false"},
    {"FunctionUrlEnabled": "false"},
    {"RestApiEnabled": "false"},
]


@pytest.fixture(params=SETTINGS, ids=lambda setting: ",".join(map("=".join, setting.items())) or "defaults")
def stack(request: pytest.FixtureRequest) -> Stack:
    return deployed(**request.param)


# --------------------------------------------------------------------------------------------------- what IAM would say


def real_arn(stack: Stack, text: str) -> str:
    """`text` with names as AWS gives them in place of `${Table.Arn}`."""
    kinds = {
        "AWS::DynamoDB::Table": "dynamodb:us-east-1:111111111111:table/{}",
        "AWS::SQS::Queue": "sqs:us-east-1:111111111111:{}",
        "AWS::KinesisFirehose::DeliveryStream": "firehose:us-east-1:111111111111:deliverystream/{}",
        "AWS::S3::Bucket": "s3:::{}",
        "AWS::Lambda::Function": "lambda:us-east-1:111111111111:function:{}",
        "AWS::Events::EventBus": "events:us-east-1:111111111111:event-bus/{}",
        "AWS::Logs::LogGroup": "logs:us-east-1:111111111111:log-group:{}:*",
        "AWS::SecretsManager::Secret": "secretsmanager:us-east-1:111111111111:secret:{}-aB3dE6",
    }

    def named(match: re.Match[str]) -> str:
        name = match[1].removesuffix(".Arn")
        return "arn:aws:" + kinds[stack.resources[name]["Type"]].format(f"stack-{name}-1ABC")

    return re.sub(r"\$\{(\w+(?:\.Arn)?)\}", named, text)


def matches(pattern: str, text: str) -> bool:
    """IAM's wildcards: `*` for any text, `?` for one character, everything else for itself, whatever its case."""
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.IGNORECASE | re.DOTALL) is not None


def allows(stack: Stack, statement: Mapping[str, Any], action: str, arn: str) -> bool:
    """Whether a statement of a role allows `action` on `arn`; what is not understood allows everything."""
    if statement["Effect"] != "Allow":
        return False
    if not {"Action", "Resource"} <= statement.keys():
        return True
    return any(matches(each, action) for each in as_list(statement["Action"])) and any(
        matches(real_arn(stack, each), arn) for each in as_list(statement["Resource"])
    )


def holders(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """Everything with permissions → its statements: functions, and roles that no function has."""
    functions = stack.of_type("AWS::Lambda::Function")
    used = {function["Role"].removeprefix("${").removesuffix(".Arn}") for function in functions.values()}
    others = {
        name: [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]
        for name, role in stack.of_type("AWS::IAM::Role").items()
        if name not in used
    }
    return {name: stack.statements(name) for name in functions} | others


def permissions(statements: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {
        (action, resource)
        for statement in statements
        for action in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    }


def who_may(stack: Stack, action: str, resource: str) -> set[str]:
    """Who may do `action` to `resource`."""
    arn = real_arn(stack, resource)
    return {
        name
        for name, statements in holders(stack).items()
        if any(allows(stack, statement, action, arn) for statement in statements)
    }


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*"], "Resource": "${KeysTable.Arn}"},
        {"Effect": "Allow", "Action": "DynamoDB:Get*", "Resource": "arn:aws:dynamodb:*:*:table/stack-?eysTable-*"},
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "dynamodb:GetItem", "NotResource": "${CostsTable.Arn}"},
    ],
)
def test_a_permission_in_disguise_is_recognised(statement: dict[str, Any]) -> None:
    arn = real_arn(deployed(), "${KeysTable.Arn}")
    assert allows(deployed(), statement, "dynamodb:GetItem", arn)
    assert not allows(deployed(), statement | {"Effect": "Deny"}, "dynamodb:GetItem", arn)


@pytest.mark.parametrize(("action", "resource"), [("dynamodb:GetItem", "${CostsTable.Arn}"), ("s3:GetObject", "*")])
def test_a_permission_for_something_else_is_none(action: str, resource: str) -> None:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    assert not allows(deployed(), statement, "dynamodb:GetItem", real_arn(deployed(), "${KeysTable.Arn}"))


# ------------------------------------------------------------------------------------------------------------ functions


def of_every_function(stack: Stack, function: str) -> set[tuple[str, str]]:
    log_group = stack.of_type("AWS::Lambda::Function")[function]["LoggingConfig"]["LogGroup"].replace("}", ".Arn}")
    own_log = {(action, log_group) for action in ("logs:CreateLogStream", "logs:PutLogEvents")}
    return own_log | {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}


def test_everybody_may_do_what_the_table_says_and_nothing_else(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert {name for name, *_ in GRANTS} == set(holders(stack))
    for holder, statements in holders(stack).items():
        granted = {
            (action, resource) for name, _, resource, actions in GRANTS if name == holder for action in actions.split()
        }
        common = of_every_function(stack, holder) if holder in functions else set[tuple[str, str]]()
        assert permissions(statements) == granted | common, holder


BEDROCK = {"bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"} | {
    f"bedrock-mantle:{action}" for action in ("CreateInference", "GetModel", "ListModels")
}
NOVA = "arn:aws:bedrock:*::foundation-model/amazon.nova-*"


@pytest.mark.parametrize("arns", ["", f"{NOVA},arn:aws:bedrock-mantle:eu-west-1:*:project/web"], ids=["all", "some"])
def test_the_proxy_alone_may_call_bedrock_once_it_is_told_so_and_what_it_is_told(arns: str) -> None:
    given = {"BedrockArns": arns} if arns else {}
    before, after = (holders(deployed(BedrockEnabled=enabled, **given)) for enabled in ("false", "true"))
    default = "arn:aws:bedrock:*:*:foundation-model/*,arn:aws:bedrock:*:*:inference-profile/*"
    resources = (arns or f"{default},arn:aws:bedrock-mantle:*:*:project/*").split(",")
    added = {  # CloudFormation makes a list of what the parameter says
        (action, arn.strip())
        for action, listed in permissions(after["ProxyFunction"]) - permissions(before["ProxyFunction"])
        for arn in listed.split(",")
    }
    assert added == {(action, resource) for action in BEDROCK for resource in resources}
    assert {name for name in after if permissions(after[name]) != permissions(before[name])} == {"ProxyFunction"}


def test_the_authorizer_alone_may_read_what_pseudonyms_are_made_with_once_it_is_told_so() -> None:
    before, after = (holders(deployed(UserPseudonymsEnabled=enabled)) for enabled in ("false", "true"))
    added = permissions(after["AuthorizerFunction"]) - permissions(before["AuthorizerFunction"])
    assert added == {("secretsmanager:GetSecretValue", "${UserPseudonyms}")}
    assert {name for name in after if permissions(after[name]) != permissions(before[name])} == {"AuthorizerFunction"}


@pytest.mark.parametrize(("function", "verbs", "resource", "actions"), GRANTS)
def test_a_function_does_no_more_than_the_verb_says(function: str, verbs: str, resource: str, actions: str) -> None:
    needed = [VERBS[verb] for verb in verbs.split(", ")]
    assert set(actions.split()) <= set().union(*needed)
    assert all(set(actions.split()) & each for each in needed), "a verb without an action"
    assert sum(grant[0] == function and grant[2] == resource for grant in GRANTS) == 1


def test_statements_say_plainly_what_they_allow(stack: Stack) -> None:
    for statements in holders(stack).values():
        for statement in statements:
            assert statement["Effect"] == "Allow"
            assert statement.keys() - {"Condition"} == {"Effect", "Action", "Resource"}, "no NotAction, no NotResource"
            for action in as_list(statement["Action"]):
                assert re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action)
                if action in WITHOUT_RESOURCES:
                    assert statement["Resource"] == "*"
                    continue
                for resource in as_list(statement["Resource"]):
                    written_out = (SECRETS, PARAMETERS, *LAKE_TABLE, *LAKE_FOLDERS, CACHED, PIECES)
                    assert resource in written_out or re.fullmatch(r"\$\{\w+(\.Arn)?\}", resource)


def test_only_the_authorizer_reads_client_keys(stack: Stack) -> None:
    for action in ("GetItem", "BatchGetItem", "Query", "Scan", "PartiQLSelect", "ExportTableToPointInTime"):
        readers = {"AuthorizerFunction"} if action == "GetItem" else set[str]()
        assert who_may(stack, f"dynamodb:{action}", "${KeysTable.Arn}") == readers


def test_no_function_changes_client_keys(stack: Stack) -> None:
    for action in (*VERBS["writes"], "dynamodb:PartiQLUpdate", "dynamodb:DeleteTable", "dynamodb:UpdateTimeToLive"):
        assert who_may(stack, action, "${KeysTable.Arn}") == set()


def test_only_the_proxy_reads_provider_tokens_and_no_other_secrets(stack: Stack) -> None:
    secret = "arn:aws:secretsmanager:us-east-1:111111111111:secret:{}-aB3dE6"
    parameter = "arn:aws:ssm:us-east-1:111111111111:parameter/{}"
    for action, resource, readers in [
        ("secretsmanager:GetSecretValue", "${ProviderTokens}", {"ProxyFunction"}),
        ("secretsmanager:GetSecretValue", secret.format("openai-proxy/mistral"), {"ProxyFunction"}),
        ("secretsmanager:GetSecretValue", secret.format("production/database"), set[str]()),
        ("secretsmanager:GetSecretValue", secret.format("openai-proxy"), set[str]()),
        ("secretsmanager:PutSecretValue", "${ProviderTokens}", set[str]()),
        ("secretsmanager:ListSecrets", "*", set[str]()),
        ("ssm:GetParameter", parameter.format("openai-proxy/mistral"), {"ProxyFunction"}),
        ("ssm:GetParameter", parameter.format("production/openai-proxy/x"), set[str]()),
        ("ssm:GetParametersByPath", parameter.format("openai-proxy/"), set[str]()),
        ("ssm:PutParameter", parameter.format("openai-proxy/mistral"), set[str]()),
    ]:
        assert who_may(stack, action, resource) == readers, f"{action} on {resource}"


def test_only_the_proxy_reads_cached_answers_and_only_store_response_writes_them(stack: Stack) -> None:
    for action in ("GetItem", "BatchGetItem", "Query", "Scan", "PartiQLSelect", "ExportTableToPointInTime"):
        readers = {"ProxyFunction"} if action == "GetItem" else set[str]()
        assert who_may(stack, f"dynamodb:{action}", "${CacheTable.Arn}") == readers
    writing = [
        (function, statement.get("Condition"))
        for function, statements in holders(stack).items()
        for statement in statements
        if any(allows(stack, statement, f"dynamodb:{each}", real_arn(stack, "${CacheTable.Arn}")) for each in CHANGES)
    ]
    leases = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["lease#*"]}}
    assert writing == [("ProxyFunction", leases), ("StoreResponseFunction", None)]
    for action in ("s3:GetObject", "s3:PutObject"):
        assert who_may(stack, action, "${CacheBucket.Arn}/captured/web-shop/1") == {"ProxyFunction"}
        assert who_may(stack, action, "${CacheBucket.Arn}/other") == set()


CHANGES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLUpdate")


def test_a_key_of_the_owner_is_used_for_the_cache_and_through_its_stores_alone() -> None:
    key = "arn:aws:kms:us-east-1:111111111111:key/0a1b2c3d-0000-0000-0000-000000000000"
    stack = deployed(CacheKmsKeyArn=key)
    table, bucket = stack.of_type("AWS::DynamoDB::Table")["CacheTable"], stack.of_type("AWS::S3::Bucket")["CacheBucket"]
    assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    stores = {
        "ProxyFunction": ["dynamodb.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com"],
        "StoreResponseFunction": ["dynamodb.us-east-1.amazonaws.com"],
        "EndStreamsFunction": ["dynamodb.us-east-1.amazonaws.com"],
    }
    found = {
        holder: statement
        for holder, statements in holders(stack).items()
        for statement in statements
        if any(action.startswith("kms:") for action in as_list(statement["Action"]))
    }
    assert {holder: statement["Condition"] for holder, statement in found.items()} == {
        holder: {"StringEquals": {"kms:ViaService": through}} for holder, through in stores.items()
    }
    assert all(statement["Resource"] == key for statement in found.values())
    assert all(holders(stack)[name] == holders(deployed())[name] for name in holders(stack) if name not in stores)


@pytest.mark.parametrize(
    "action",
    [
        *("iam:PassRole", "sts:AssumeRole", "kms:Decrypt", "lambda:UpdateFunctionCode", "lambda:GetFunction"),
        *("logs:FilterLogEvents", "logs:GetLogEvents", "xray:BatchGetTraces", "s3:ListBucket", "ec2:DescribeInstances"),
        *("events:PutRule", "dynamodb:Scan", "cloudformation:DescribeStacks"),
    ],
)
def test_what_no_function_may_do_to_anything(stack: Stack, action: str) -> None:
    for function in stack.of_type("AWS::Lambda::Function"):
        for statement in stack.statements(function):
            assert not any(matches(each, action) for each in as_list(statement["Action"]))


def test_who_ends_streams_sees_nothing_of_what_was_answered(stack: Stack) -> None:
    asked = set(re.findall(r"\b[a-z_]+\b", " ".join(re.findall(r'"([^"]*)"', END_STREAMS.read_text()))))
    (condition,) = (
        statement["Condition"]
        for statement in stack.statements("EndStreamsFunction")
        if "dynamodb:Query" in as_list(statement["Action"])
    )
    named = set(condition["ForAllValues:StringEquals"]["dynamodb:Attributes"])
    assert named == {"stream_id", "event", "last", "status", "error", "events", "lease_until", "unfinished"}
    assert named <= asked
    assert condition["StringEqualsIfExists"] == {
        "dynamodb:Select": "SPECIFIC_ATTRIBUTES",
        "dynamodb:ReturnValues": "NONE",
    }


def test_metrics_go_into_one_namespace(stack: Stack) -> None:
    conditions = [
        statement.get("Condition")
        for function in stack.of_type("AWS::Lambda::Function")
        for statement in stack.statements(function)
        if "cloudwatch:PutMetricData" in as_list(statement["Action"])
    ]
    assert conditions == [{"StringEquals": {"cloudwatch:namespace": "OpenAIProxy/stack"}}] * 3


def test_permissions_stand_nowhere_else(stack: Stack) -> None:
    """These tests read roles, queue policies and Lambda permissions: no other resource may grant anything."""
    granting = {
        *("AWS::IAM::Role", "AWS::Lambda::Permission", "AWS::SQS::QueuePolicy", "AWS::ApiGateway::RestApi"),
        *("AWS::DynamoDB::Table", "AWS::SecretsManager::Secret", "AWS::Events::EventBus", "AWS::Logs::LogGroup"),
        *("AWS::Lambda::Function", "AWS::Lambda::LayerVersion", "AWS::Lambda::Url", "AWS::Lambda::EventSourceMapping"),
        *("AWS::SQS::Queue", "AWS::Events::Rule", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::Logs::LogStream"),
        *("AWS::KinesisFirehose::DeliveryStream", "AWS::Glue::Database", "AWS::Glue::Table"),
        *("AWS::Athena::WorkGroup", "AWS::Events::Archive"),
        *("AWS::Logs::MetricFilter", "AWS::Logs::QueryDefinition"),
        *("AWS::Lambda::EventInvokeConfig", "AWS::SNS::Topic", "AWS::SNS::TopicPolicy", "AWS::SNS::Subscription"),
        *("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::CloudWatch::Dashboard"),
    }
    for resource in stack.resources.values():
        properties = resource.get("Properties", {})
        assert resource["Type"] in granting or resource["Type"].startswith("AWS::ApiGateway::")
        attached = ("AWS::SQS::QueuePolicy", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy")
        if resource["Type"] not in ("AWS::IAM::Role", *attached):
            assert not properties.keys() & {"Policy", "PolicyDocument", "ResourcePolicy", "ResourcePolicyDocument"}
        if resource["Type"] == "AWS::IAM::Role":
            assert properties.keys() <= {"AssumeRolePolicyDocument", "Policies"}
        if resource["Type"] == "AWS::Events::Rule":
            assert not any("RoleArn" in target for target in properties["Targets"])


# ----------------------------------------------------------------------------------------------------- queues and doors


def test_a_queue_takes_events_from_its_own_rule_alone(stack: Stack) -> None:
    policies = stack.of_type("AWS::SQS::QueuePolicy")
    named = [queue for policy in policies.values() for queue in policy["Queues"]]
    of_no_rule = {f"{name}{kind}" for name in ("EndStreams", "PublishAgain") for kind in ("Queue", "DeadLetterQueue")}
    assert sorted(named) == sorted(f"${{{name}}}" for name in stack.of_type("AWS::SQS::Queue").keys() - of_no_rule)
    rules = stack.of_type("AWS::Events::Rule")
    for policy in policies.values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        rule = rules[statement["Condition"]["ArnEquals"]["aws:SourceArn"].removeprefix("${").removesuffix(".Arn}")]
        targets = {arn for target in rule["Targets"] for arn in (target["Arn"], target["DeadLetterConfig"]["Arn"])}
        assert statement.keys() == {"Effect", "Principal", "Action", "Resource", "Condition"}
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sqs:SendMessage")
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Condition"].keys() == {"ArnEquals"}
        queues = {queue.replace("}", ".Arn}") for queue in policy["Queues"]}
        assert set(as_list(statement["Resource"])) == targets - {"${AlarmTopic}"} == queues


def public_permissions(stack: Stack) -> Iterator[dict[str, Any]]:
    for permission in stack.of_type("AWS::Lambda::Permission").values():
        if permission["Principal"] == "sns.amazonaws.com":
            assert permission["FunctionName"] == "${TellIncidentsFunction}"
            assert permission["SourceArn"] == "${IncidentTopic}", "of alarms only"
        elif permission["Principal"] != "apigateway.amazonaws.com":
            yield permission
        else:
            assert "${RestApi}/" in permission["SourceArn"], "of this API only"
            assert permission["FunctionName"] in ("${ProxyFunction}", "${AuthorizerFunction}")


def test_the_public_reaches_the_proxy_through_its_function_url_and_nothing_else(stack: Stack) -> None:
    for permission in public_permissions(stack):
        assert permission["FunctionName"] == "${ProxyFunction}"
        through_url = {key: permission.get(key) for key in ("FunctionUrlAuthType", "InvokedViaFunctionUrl")}
        assert (permission["Action"], through_url) in [
            ("lambda:InvokeFunctionUrl", {"FunctionUrlAuthType": "NONE", "InvokedViaFunctionUrl": None}),
            # Without the condition anybody could send the proxy an event that claims to have passed the authorizer.
            ("lambda:InvokeFunction", {"FunctionUrlAuthType": None, "InvokedViaFunctionUrl": True}),
        ]
    is_open = stack.parameters["FunctionUrlEnabled"] == "true"
    assert len(list(public_permissions(stack))) == (2 if is_open else 0)
    assert len(stack.of_type("AWS::Lambda::Url")) == (1 if is_open else 0)


def test_only_a_preflight_passes_the_rest_api_without_the_authorizer(stack: Stack) -> None:
    methods = stack.of_type("AWS::ApiGateway::Method").values()
    assert all(method["HttpMethod"] == "OPTIONS" for method in methods if method["AuthorizationType"] == "NONE")
    assert all(method["AuthorizationType"] in ("NONE", "CUSTOM") for method in methods)


# ------------------------------------------------------------------------------------------------------------- at rest


def test_what_is_stored_is_encrypted(stack: Stack) -> None:
    tables, queues = stack.of_type("AWS::DynamoDB::Table"), stack.of_type("AWS::SQS::Queue")
    assert tables
    assert queues
    assert all(table["SSESpecification"]["SSEEnabled"] is True for table in tables.values())
    assert all(queue["SqsManagedSseEnabled"] is True for queue in queues.values())
    buckets = stack.of_type("AWS::S3::Bucket")
    assert set(buckets) >= {"CacheBucket", "LakeBucket"}
    for bucket in buckets.values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}


def test_a_bucket_is_nobody_elses_and_speaks_tls_alone(stack: Stack) -> None:
    policies = {policy["Bucket"]: policy for policy in stack.of_type("AWS::S3::BucketPolicy").values()}
    for name, bucket in stack.of_type("AWS::S3::Bucket").items():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert len(bucket["PublicAccessBlockConfiguration"]) == 4
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        (statement,) = policies[f"${{{name}}}"]["PolicyDocument"]["Statement"]
        assert statement == {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [f"${{{name}.Arn}}", f"${{{name}.Arn}}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }


def test_every_function_has_a_log_of_its_own(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    used = [function["LoggingConfig"]["LogGroup"] for function in functions.values()]
    assert len(set(used)) == len(used)
    groups = set(stack.of_type("AWS::Logs::LogGroup")) - {"LakeStreamLogGroup"}
    assert {name.removeprefix("${").removesuffix("}") for name in used} == groups


def test_nothing_logs_requests_whole(stack: Stack) -> None:
    """API Gateway can write keys and prompts into its execution log, and Powertools every event."""
    for stage in stack.of_type("AWS::ApiGateway::Stage").values():
        assert not stage.keys() & {"MethodSettings", "AccessLogSetting", "CanarySetting"}
    for function in stack.of_type("AWS::Lambda::Function").values():
        of_powertools = {name for name in function["Environment"]["Variables"] if name.startswith("POWERTOOLS_")}
        assert of_powertools == {"POWERTOOLS_TRACE_DISABLED"}, "others log events, or capture answers"


def test_no_secret_stands_in_the_template(stack: Stack) -> None:
    for function in stack.of_type("AWS::Lambda::Function").values():
        for name, value in function["Environment"]["Variables"].items():
            if re.search("SECRET|TOKEN|PASSWORD", name):
                assert value in ("${ProviderTokens}", "${UserPseudonyms}", "true", "false"), (
                    "the name of a secret, never its value"
                )
            assert "{{resolve:" not in str(value), "a resolved secret is shown to whoever may read the configuration"
