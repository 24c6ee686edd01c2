"""`template.yaml` against what the code, the events and the architecture say, for every way of deploying it."""

import ast
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from openai_proxy.events import envelope as events
from openai_proxy.key_refusals import CODE, MESSAGE, TOKEN_REFUSALS
from openai_proxy.ledger.entries import RETENTION
from proxy.errors import TokenError
from record_metrics.markers import CLAIM_SECONDS

from tests.contract.template_stack import ROOT, Stack, as_list, deployed, parameters_of_template, source

FUNCTIONS = {
    "ProxyFunction": "proxy",
    "AuthorizerFunction": "authorizer",
    "EndStreamsFunction": "end_streams",
    "PublishAgainFunction": "publish_again",
    "RecordCostFunction": "record_cost",
    "RecordMetricsFunction": "record_metrics",
    "RecordThrottlesFunction": "record_throttles",
    "SettleLimitsFunction": "settle_limits",
    "StoreResponseFunction": "store_response",
    "TellIncidentsFunction": "tell_incidents",
}
CONSUMERS = (
    *("RecordCost", "RecordMetrics", "RecordThrottles", "SettleLimits", "StoreResponse", "EndStreams"),
    "PublishAgain",
)
OF_RULES = CONSUMERS[:-2]
"""Those that the bus hands events to. The proxy itself has streams looked at, and events published later."""
TRIES = dict.fromkeys(CONSUMERS, 5) | {"EndStreams": 20, "PublishAgain": 100}
STREAMING_PATH = "2021-11-15/functions/${ProxyFunction.Arn}/response-streaming-invocations"
BUFFERED_PATH = "2015-03-31/functions/${ProxyFunction.Arn}/invocations"

SETTINGS: list[dict[str, str]] = [
    {},
    {"FunctionUrlEnabled": "false"},
    {"RestApiEnabled": "false"},
    {"FunctionUrlEnabled": "false", "RestApiEnabled": "false"},
    {"Streaming": "false"},
]


@pytest.fixture(params=SETTINGS, ids=lambda setting: ",".join(map("=".join, setting.items())) or "defaults")
def stack(request: pytest.FixtureRequest) -> Stack:
    return deployed(**request.param)


# ------------------------------------------------------------------------------------------------------------ functions


def test_the_functions_are_these_and_their_handlers_exist(stack: Stack) -> None:
    functions = stack.of_type("AWS::Lambda::Function")
    assert {name: f["Handler"] for name, f in functions.items()} == {
        name: f"{package}.handler.handler" for name, package in FUNCTIONS.items()
    }
    for package in FUNCTIONS.values():
        module = ast.parse((ROOT / "functions" / package / "handler.py").read_text())
        assert "handler" in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}


def test_functions_run_what_the_layers_were_built_for(stack: Stack) -> None:
    layers = stack.of_type("AWS::Lambda::LayerVersion")
    assert len(layers) == 2
    for name, function in stack.of_type("AWS::Lambda::Function").items():
        for layer in layers.values():
            assert [function["Runtime"]] == layer["CompatibleRuntimes"] == [stack.parameters["PythonVersion"]]
            assert function["Architectures"] == layer["CompatibleArchitectures"] == [stack.parameters["Architecture"]]
        assert len(function["Layers"]) == (2 if name == "AuthorizerFunction" else 1)
    for name in ("SharedLayer", "TokensLayer"):
        metadata = source()["Resources"][name]["Metadata"]
        assert metadata == {"BuildMethod": {"Ref": "PythonVersion"}, "BuildArchitecture": {"Ref": "Architecture"}}


def test_the_authorizer_alone_carries_what_checks_signatures() -> None:
    assert source()["Resources"]["TokensLayer"]["Properties"]["ContentUri"] == "layers/tokens/"
    carried, shared = (
        set(re.findall(r"^([\w-]+)==", (ROOT / folder / "requirements.txt").read_text(), re.MULTILINE))
        for folder in ("layers/tokens", "shared")
    )
    assert {"pyjwt", "cryptography"} <= carried
    assert carried.isdisjoint(shared)


def test_time_and_memory() -> None:
    functions = deployed().of_type("AWS::Lambda::Function")
    assert (functions["ProxyFunction"]["Timeout"], functions["ProxyFunction"]["MemorySize"]) == (900, 256)
    assert functions["AuthorizerFunction"]["Timeout"] <= 29, "API Gateway waits no longer"
    assert all(function["TracingConfig"] == {"Mode": "Active"} for function in functions.values())
    assert not any("ReservedConcurrentExecutions" in function for function in functions.values())


def test_the_wrapper_is_the_streaming_runtime_only_where_something_streams() -> None:
    def wrapper(stack: Stack) -> str | None:
        variables = stack.of_type("AWS::Lambda::Function")["ProxyFunction"]["Environment"]["Variables"]
        return variables.get("AWS_LAMBDA_EXEC_WRAPPER")

    path = wrapper(deployed())
    assert path is not None
    file = ROOT / "functions" / Path(path).relative_to("/var/task")
    assert os.access(file, os.X_OK)
    assert wrapper(deployed(Streaming="false")) is None


@pytest.mark.parametrize(("existing", "path"), [("", "/code:/opt/python"), ("/a:/b", "/code:/opt/python:/a:/b")])
def test_the_wrapper_becomes_the_runtime(tmp_path: Path, existing: str, path: str) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LAMBDA_TASK_ROOT": "/code", "PYTHONPATH": existing}
    wrapper = str(ROOT / "functions/proxy/bootstrap")
    for arguments in ([str(python), "-m", "awslambdaric", "proxy.handler.handler"], []):
        run = subprocess.run([wrapper, *arguments], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout == f"{path} -P -m proxy.runtime\n"


def names_read(package: str) -> tuple[set[str], set[str]]:
    """The environment variables that the entry points of `package` read, or hand to a `from_environ` to be read:
    (required, optional).
    """
    required: set[str] = set()
    optional: set[str] = set()
    files = sorted((ROOT / "functions" / package).rglob("*.py"))
    files = [each for each in files if each.stem in ("handler", "runtime") or is_handed_it(each)]
    if any("PriceBook.from_environ(" in file.read_text() for file in files):
        files.append(ROOT / "shared/openai_proxy/pricing/price_book.py")
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Subscript(value=value, slice=ast.Constant(str(variable)), ctx=ast.Load()) if is_environ(value):
                    required.add(variable)
                case ast.Call(func=ast.Attribute(value=value, attr="get"), args=[ast.Constant(str(variable)), *_]) if (
                    is_environ(value)
                ):
                    optional.add(variable)
                case _:
                    pass
    return required, optional


def is_handed_it(file: Path) -> bool:
    return "def from_environ(" in file.read_text()


def is_environ(node: ast.expr) -> bool:
    return ast.unparse(node) in ("os.environ", "environ", "environment")


def is_given_by_lambda(name: str) -> bool:
    return name.startswith(("AWS_", "_", "LAMBDA_"))


@pytest.mark.parametrize(("function", "package"), FUNCTIONS.items())
def test_a_function_gets_the_variables_it_reads_and_no_others(function: str, package: str, stack: Stack) -> None:
    given = set(stack.of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"])
    required, optional = names_read(package)
    assert {name for name in required if not is_given_by_lambda(name)} <= given
    everywhere = {"STAGE", "LOG_LEVEL", "POWERTOOLS_TRACE_DISABLED"}
    assert everywhere <= given
    assert {name for name in given if not is_given_by_lambda(name)} <= required | optional | everywhere


def test_the_layer_carries_what_the_functions_expect_in_it() -> None:
    for parameter, file in (("ServersFile", "openai_servers.yaml"), ("IdentityFile", "identity.yaml")):
        assert (ROOT / "shared" / file).resolve() == ROOT / file
        assert deployed().parameters[parameter] == file
    assert source()["Resources"]["SharedLayer"]["Properties"]["ContentUri"] == "shared/"
    required = re.findall(r"^([\w-]+)==", (ROOT / "shared/requirements.txt").read_text(), re.MULTILINE)
    assert {"pyyaml", "aws-lambda-powertools"} <= set(required)


# ---------------------------------------------------------------------------------------------------------------- doors


def test_the_function_url_streams_and_leaves_cors_to_the_proxy() -> None:
    (url,) = deployed().of_type("AWS::Lambda::Url").values()
    assert url == {"TargetFunctionArn": "${ProxyFunction.Arn}", "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM"}
    public = [p for p in deployed().of_type("AWS::Lambda::Permission").values() if p["Principal"] == "*"]
    assert {p["FunctionName"] for p in public} == {"${ProxyFunction}"}
    assert {(p["Action"], p.get("FunctionUrlAuthType"), p.get("InvokedViaFunctionUrl")) for p in public} == {
        ("lambda:InvokeFunctionUrl", "NONE", None),
        ("lambda:InvokeFunction", None, True),
    }


@pytest.mark.parametrize(
    ("streaming", "mode", "timeout", "path"),
    [("true", "STREAM", 900000, STREAMING_PATH), ("false", "BUFFERED", 29000, BUFFERED_PATH)],
)
def test_every_method_of_the_rest_api_goes_to_the_proxy(streaming: str, mode: str, timeout: int, path: str) -> None:
    stack = deployed(Streaming=streaming)
    methods = {method["HttpMethod"]: method for method in stack.of_type("AWS::ApiGateway::Method").values()}
    assert set(methods) == {"ANY", "OPTIONS"}
    for method in methods.values():
        assert method["ResourceId"] == "${RestApiPath}"
        assert method["Integration"] == {
            "Type": "AWS_PROXY",
            "IntegrationHttpMethod": "POST",
            "ResponseTransferMode": mode,
            "TimeoutInMillis": timeout,
            "Uri": f"arn:aws:apigateway:us-east-1:lambda:path/{path}",
        }
    assert stack.of_type("AWS::ApiGateway::Resource")["RestApiPath"]["PathPart"] == "{proxy+}"
    assert (methods["ANY"]["AuthorizationType"], methods["ANY"]["AuthorizerId"]) == ("CUSTOM", "${RestApiAuthorizer}")
    assert methods["OPTIONS"]["AuthorizationType"] == "NONE", "a preflight request carries no key"


@pytest.mark.parametrize(("settings", "switch"), [({}, "off"), ({"PlaygroundEnabled": "true"}, "on")])
def test_the_playground_is_there_where_it_is_asked_for(settings: dict[str, str], switch: str) -> None:
    variables = deployed(**settings).of_type("AWS::Lambda::Function")["ProxyFunction"]["Environment"]["Variables"]
    assert variables["PLAYGROUND"] == switch


def test_a_buffered_function_url_matches_its_function() -> None:
    (url,) = deployed(Streaming="false").of_type("AWS::Lambda::Url").values()
    assert url["InvokeMode"] == "BUFFERED"


def test_the_rest_api_asks_the_authorizer() -> None:
    stack = deployed(AuthorizerCacheSeconds="7")
    (authorizer,) = stack.of_type("AWS::ApiGateway::Authorizer").values()
    assert authorizer["Type"] == "REQUEST"
    assert "IdentitySource" not in authorizer, "a header that is demanded would be the only one for keys"
    assert authorizer["AuthorizerResultTtlInSeconds"] == 0, "nothing tells the answer for one key from that for another"
    assert authorizer["AuthorizerUri"].endswith(
        "lambda:path/2015-03-31/functions/${AuthorizerFunction.Arn}/invocations"
    )
    variables = stack.of_type("AWS::Lambda::Function")["ProxyFunction"]["Environment"]["Variables"]
    assert variables["AUTHORIZER_CACHE_SECONDS"] == "7"


def test_api_gateway_may_invoke_the_proxy_and_the_authorizer_for_this_api_only() -> None:
    permissions = deployed().of_type("AWS::Lambda::Permission").values()
    api = "arn:aws:execute-api:us-east-1:111111111111:${RestApi}"
    assert {
        (p["FunctionName"], p["Action"], p["SourceArn"])
        for p in permissions
        if p["Principal"] == "apigateway.amazonaws.com"
    } == {
        ("${ProxyFunction}", "lambda:InvokeFunction", f"{api}/*/*/*"),
        ("${AuthorizerFunction}", "lambda:InvokeFunction", f"{api}/authorizers/${{RestApiAuthorizer}}"),
    }


def gateway_errors() -> dict[str, tuple[str | None, dict[str, Any], dict[str, str]]]:
    """Response type → (status, the OpenAI error, headers) of what the gateway answers itself."""
    return {
        response["ResponseType"]: (
            response.get("StatusCode"),
            json.loads(
                response["ResponseTemplates"]["application/json"].replace("$context.error.messageString", '"text"')
            ),
            response["ResponseParameters"],
        )
        for response in deployed().of_type("AWS::ApiGateway::GatewayResponse").values()
    }


def test_what_the_gateway_answers_itself_is_an_openai_error() -> None:
    statuses = {kind: status for kind, (status, _, _) in gateway_errors().items()}
    assert statuses == {
        "UNAUTHORIZED": "401",
        "ACCESS_DENIED": "401",
        "MISSING_AUTHENTICATION_TOKEN": "404",
        "REQUEST_TOO_LARGE": "413",
        "THROTTLED": "429",
        "QUOTA_EXCEEDED": "429",
        "AUTHORIZER_CONFIGURATION_ERROR": "503",
        "AUTHORIZER_FAILURE": "503",
        "DEFAULT_4XX": None,
        "DEFAULT_5XX": None,
    }
    for _, body, headers in gateway_errors().values():
        assert list(body) == ["error"]
        assert list(body["error"]) == ["message", "type", "param", "code"]
        assert headers["gatewayresponse.header.Access-Control-Allow-Origin"] == "'*'"
        assert headers["gatewayresponse.header.x-content-type-options"] == "'nosniff'"


def test_the_gateway_speaks_as_the_proxy_does() -> None:
    proxy = "\n".join(file.read_text() for file in (ROOT / "functions/proxy").rglob("*.py"))
    for kind in ("UNAUTHORIZED", "MISSING_AUTHENTICATION_TOKEN", "REQUEST_TOO_LARGE", "AUTHORIZER_FAILURE"):
        error = gateway_errors()[kind][1]["error"]
        assert f'"{error["code"]}"' in proxy
        assert f'"{error["type"]}"' in proxy


@pytest.mark.parametrize("code", TOKEN_REFUSALS)
def test_both_doors_refuse_an_access_token_in_the_same_words(code: str) -> None:
    error = json.dumps(gateway_errors()["ACCESS_DENIED"][1])
    for name, value in ((CODE, code), (MESSAGE, TOKEN_REFUSALS[code])):
        error = error.replace(f"$context.authorizer.{name}", value)
    assert json.loads(error) == TokenError(code).to_object()


@pytest.mark.parametrize(("streaming", "kind"), [("true", "Streaming"), ("false", "Buffered")])
def test_a_changed_rest_api_gets_a_new_deployment(streaming: str, kind: str) -> None:
    settled = {
        name: resource
        for name, resource in source()["Resources"].items()
        if resource["Type"].startswith("AWS::ApiGateway::")
        and resource["Type"] not in ("AWS::ApiGateway::Deployment", "AWS::ApiGateway::Stage")
    }
    digest = hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()[:8]
    stack = deployed(Streaming=streaming)
    (name,) = stack.of_type("AWS::ApiGateway::Deployment")
    expected = f"RestApi{kind}Deployment{digest}"
    assert name == expected, f"the REST API has changed: rename {name} to {expected} in template.yaml"
    assert stack.of_type("AWS::ApiGateway::Stage")["RestApiStage"]["DeploymentId"] == f"${{{name}}}"
    there = {"RestApi", "RestApiAuthorizer", "RestApiPath", *stack.resources[name]["DependsOn"]}
    assert there == set(settled), "a deployment takes in only what is there before it"


def test_a_closed_door_leaves_nothing_behind() -> None:
    closed = deployed(FunctionUrlEnabled="false", RestApiEnabled="false")
    types = {resource["Type"] for resource in closed.resources.values()}
    assert not {name for name in types if name.startswith("AWS::ApiGateway::")}
    assert "AWS::Lambda::Url" not in types
    permissions = closed.of_type("AWS::Lambda::Permission").values()
    assert {(each["Principal"], each["SourceArn"]) for each in permissions} == {
        ("sns.amazonaws.com", "${IncidentTopic}")
    }
    one_door = deployed(RestApiEnabled="false")
    assert set(one_door.resources) - set(closed.resources) == {
        "ProxyUrl",
        "ProxyUrlPermission",
        "ProxyUrlInvokePermission",
    }


def test_outputs() -> None:
    always = {
        *("BusName", "KeysTable", "LimitsTable", "CostsTable", "CacheTable", "CacheBucket", "StreamsTable"),
        "MarkersTable",
        *("ProviderTokensSecret", "ProviderTokensCommand", "BusArchive", "RecordCostRule", "MetricsNamespace"),
        *(f"{function}Name" for function in FUNCTIONS if function != "TellIncidentsFunction"),
        *(f"{consumer}{queue}Url" for consumer in CONSUMERS for queue in ("Queue", "DeadLetterQueue")),
    }
    url, rest = {"FunctionUrl", "FunctionUrlCurl"}, {"RestApiUrl", "RestApiCurl"}
    lake = {"LakeStream", "LakeBucket", "LakeDatabase", "LakeWorkgroup"}
    watching = {"AlarmTopic", "Dashboard", "TellIncidentsFunctionName"}
    assert set(deployed(AlarmsEnabled="false", DashboardEnabled="false").outputs) == always | url | rest | lake
    always |= watching
    assert set(deployed(LakeEnabled="false").outputs) == always | url | rest
    always |= lake
    assert set(deployed().outputs) == always | url | rest
    assert set(deployed(FunctionUrlEnabled="false").outputs) == always | rest
    assert set(deployed(RestApiEnabled="false").outputs) == always | url
    assert set(deployed(PlaygroundEnabled="true").outputs) == always | url | rest | {"PlaygroundUrl"}
    assert set(deployed(PlaygroundEnabled="true", FunctionUrlEnabled="false").outputs) == always | rest
    assert deployed().outputs["RestApiUrl"] == "https://${RestApi}.execute-api.us-east-1.amazonaws.com/dev/"
    for name in ("KeysTable", "LimitsTable", "CostsTable", "CacheTable", "StreamsTable", "MarkersTable"):
        assert deployed().outputs[name] == f"${{{name}}}"
    for name in (url | rest) - {"RestApiUrl", "FunctionUrl"}:
        assert "\n" not in deployed().outputs[name], "a command must be pasted whole"


# --------------------------------------------------------------------------------------------------------------- events


def test_the_archive_keeps_every_event_but_content_and_not_for_longer_than_the_ledger_knows_them() -> None:
    (archive,) = deployed().of_type("AWS::Events::Archive").values()
    assert archive["SourceArn"] == "${Bus.Arn}"
    assert archive["EventPattern"] == {
        "source": ["openai-proxy"],
        "detail-type": [{"anything-but": ["ResponseCaptured"]}],
    }
    most = parameters_of_template()["EventArchiveDays"]["MaxValue"]
    assert archive["RetentionDays"] <= most < RETENTION.days
    without = deployed(EventArchiveDays="0")
    assert without.of_type("AWS::Events::Archive") == {}
    assert "BusArchive" not in without.outputs


def test_every_rule_takes_the_events_its_consumer_is_for(stack: Stack) -> None:
    patterns = {name: rule["EventPattern"] for name, rule in stack.of_type("AWS::Events::Rule").items()}
    types = {name.removesuffix("Rule"): set(pattern["detail-type"]) for name, pattern in patterns.items()}
    assert types == {
        "RecordCost": {"InferenceCompleted", "InferenceFailed"},
        "RecordMetrics": set(events.TERMINAL_DETAIL_TYPES),
        "RecordThrottles": set(events.TERMINAL_DETAIL_TYPES),
        "SettleLimits": set(events.TERMINAL_DETAIL_TYPES),
        "StoreResponse": {"ResponseCaptured"},
        "BudgetNotice": {"BudgetThresholdReached"},
    }
    assert set().union(*types.values()) == set(get_args(events.DetailType)) - {
        *("IncidentReported", "ThrottleForecast", "GuardActed")
    }
    held: list[dict[str, Any]] = [{"has_budget": [True]}, {"lease": {"id": [{"exists": True}]}}]
    told = [{"exists": True}]
    narrower = {
        "SettleLimitsRule": {
            "data": {"$or": [*({"limits": each} for each in held), *({"team": {"limits": each}} for each in held)]}
        },
        "RecordThrottlesRule": {"data": {"$or": [{"throttle": {"source": told}}, {"announced": {"server": told}}]}},
        "BudgetNoticeRule": {"data": {"threshold": [80, 100]}},
    }
    for name, pattern in patterns.items():
        assert pattern["source"] == [events.SOURCE]
        assert pattern["detail"] == {"metadata": {"version": [{"prefix": "1."}]}, **narrower.get(name, {})}
    assert events.VERSION.startswith("1.")


def test_events_wait_in_a_queue_of_their_consumer_and_none_is_lost(stack: Stack) -> None:
    queues = stack.of_type("AWS::SQS::Queue")
    assert set(queues) == {
        *(f"{consumer}{kind}" for consumer in CONSUMERS for kind in ("Queue", "DeadLetterQueue")),
        "BudgetNoticeDeadLetterQueue",
    }
    for consumer in CONSUMERS:
        dead_letters = f"${{{consumer}DeadLetterQueue.Arn}}"
        redrive = {"deadLetterTargetArn": dead_letters, "maxReceiveCount": TRIES[consumer]}
        assert queues[f"{consumer}Queue"]["RedrivePolicy"] == redrive
        # What is captured for the response cache holds content, and is asked for again.
        kept = stack.parameters["CacheQueueSeconds"] if consumer == "StoreResponse" else 14 * 86400
        assert queues[f"{consumer}DeadLetterQueue"]["MessageRetentionPeriod"] == kept
    for consumer in OF_RULES:
        rule = stack.of_type("AWS::Events::Rule")[f"{consumer}Rule"]
        assert rule["EventBusName"] == "${Bus}"
        (target,) = rule["Targets"]
        assert target["Arn"] == f"${{{consumer}Queue.Arn}}"
        assert target["DeadLetterConfig"] == {"Arn": f"${{{consumer}DeadLetterQueue.Arn}}"}
    assert all(queue["SqsManagedSseEnabled"] for queue in queues.values())


def test_only_its_rule_may_send_to_a_queue(stack: Stack) -> None:
    for consumer in OF_RULES:
        policy = stack.of_type("AWS::SQS::QueuePolicy")[f"{consumer}QueuePolicy"]
        queues = [f"${{{consumer}Queue}}", f"${{{consumer}DeadLetterQueue}}"]
        assert policy["Queues"] == queues
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": [queue.replace("}", ".Arn}") for queue in queues],
            "Condition": {"ArnEquals": {"aws:SourceArn": f"${{{consumer}Rule.Arn}}"}},
        }


def test_consumers_take_batches_and_report_what_failed(stack: Stack) -> None:
    mappings = stack.of_type("AWS::Lambda::EventSourceMapping")
    sources = {(mapping["EventSourceArn"], mapping["FunctionName"]) for mapping in mappings.values()}
    assert sources == {(f"${{{c}Queue.Arn}}", f"${{{c}Function}}") for c in CONSUMERS}
    for mapping in mappings.values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        at_once = mapping["FunctionName"] == "${StoreResponseFunction}"
        assert mapping["BatchSize"] == (10 if at_once else stack.parameters["BatchSize"])
        assert mapping["MaximumBatchingWindowInSeconds"] == (0 if at_once else stack.parameters["BatchWindowSeconds"])


def test_a_batch_is_done_before_its_messages_come_back(stack: Stack) -> None:
    longest_window = parameters_of_template()["BatchWindowSeconds"]["MaxValue"]
    for consumer in CONSUMERS:
        window = 0 if consumer == "StoreResponse" else longest_window
        timeout = stack.of_type("AWS::Lambda::Function")[f"{consumer}Function"]["Timeout"]
        visibility = stack.of_type("AWS::SQS::Queue")[f"{consumer}Queue"]["VisibilityTimeout"]
        assert visibility >= 6 * timeout + window
        if consumer == "RecordMetrics":  # a claim ends after whoever made it, and before its messages come again
            assert timeout < CLAIM_SECONDS < visibility


def test_lambda_accepts_every_batch_that_the_parameters_allow() -> None:
    declared = parameters_of_template()
    assert declared["BatchSize"]["MaxValue"] <= 10 or declared["BatchWindowSeconds"]["MinValue"] >= 1
    assert 2 * declared["BatchSize"]["MaxValue"] <= 100, "an entry and a rollup each: one DynamoDB transaction"


# --------------------------------------------------------------------------------------------------------------- stores

TABLES = {
    "KeysTable": ["key_hash"],
    "CostsTable": ["pk", "sk"],
    "LimitsTable": ["pk"],
    "CacheTable": ["cache_key"],
    "StreamsTable": ["stream_id", "event"],
    "MarkersTable": ["id"],
}
DURABLE = ("KeysTable", "CostsTable")
ITEM_OF_THE_CACHE = {
    node.value
    for node in ast.walk(ast.parse((ROOT / "functions/store_response/item.py").read_text()))
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.replace("_", "").isalnum()
}
"""The attributes of a cached answer, and some more words of the module that writes them."""


def test_tables(stack: Stack) -> None:
    tables = stack.of_type("AWS::DynamoDB::Table")
    assert {n: [key["AttributeName"] for key in t["KeySchema"]] for n, t in tables.items()} == TABLES
    for name, table in tables.items():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["SSESpecification"] == {"SSEEnabled": True}
        assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
        assert ("PointInTimeRecoverySpecification" in table) == (name in DURABLE)


def test_cached_answers_are_found_by_their_client_without_their_content(stack: Stack) -> None:
    table = stack.of_type("AWS::DynamoDB::Table")["CacheTable"]
    (index,) = table["GlobalSecondaryIndexes"]
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["client_id", "created_at"]
    assert index["Projection"]["ProjectionType"] == "INCLUDE"
    assert set(index["Projection"]["NonKeyAttributes"]) <= ITEM_OF_THE_CACHE - {"body", "timing", "usage"}


def test_what_cannot_be_made_again_outlives_the_stack(stack: Stack) -> None:
    for name, resource in stack.resources.items():
        policies = (resource.get("DeletionPolicy", "Delete"), resource.get("UpdateReplacePolicy", "Delete"))
        kept = ("RetainExceptOnCreate", "Retain") if name in (*DURABLE, "LakeBucket") else ("Delete", "Delete")
        if name == "ProviderTokens":
            kept = ("Delete", "Retain")
        if resource["Type"] != "AWS::Lambda::LayerVersion":
            assert policies == kept, name
    for name in DURABLE:
        recovery = stack.of_type("AWS::DynamoDB::Table")[name]["PointInTimeRecoverySpecification"]
        assert recovery["PointInTimeRecoveryEnabled"] is True


def test_a_webhook_is_told_of_signed_answers_only_and_only_where_one_is_named() -> None:
    without, stack = deployed(), deployed(StreamWebhookUrl="https://shop.example.com/answers")
    added = {name: each["Type"] for name, each in stack.resources.items() if name not in without.resources}
    assert all(name.startswith("StreamWebhook") for name in added)
    destination = stack.of_type("AWS::Events::ApiDestination")["StreamWebhook"]
    assert (destination["InvocationEndpoint"], destination["HttpMethod"]) == (
        "https://shop.example.com/answers",
        "POST",
    )
    rule = stack.of_type("AWS::Events::Rule")["StreamWebhookRule"]
    assert set(rule["EventPattern"]["detail-type"]) == set(events.TERMINAL_DETAIL_TYPES)
    assert rule["EventPattern"]["detail"]["data"] == {"stream": {"signature": [{"exists": True}]}}
    (target,) = rule["Targets"]
    paths = target["InputTransformer"]["InputPathsMap"]
    told = json.loads(re.sub(r"<(\w+)>", lambda match: paths[match[1]], target["InputTransformer"]["InputTemplate"]))
    data = "$.detail.data.stream"
    assert told == {
        "type": "stream.ended",
        "id": "$.detail.metadata.id",
        "timestamp": "$.detail.metadata.timestamp",
        "status": f"{data}.status",
        "url": "/v1/streams/$.detail.metadata.id",
        "signature": f"{data}.signature",
    }
    secret = ("secretsmanager:GetSecretValue", "${StreamWebhookSecret}")
    for function in ("ProxyFunction", "EndStreamsFunction"):
        assert stack.permissions(function) - without.permissions(function) == {secret}
    letters = stack.of_type("AWS::SQS::QueuePolicy")["StreamWebhookQueuePolicy"]["PolicyDocument"]["Statement"][0]
    assert letters["Condition"] == {"ArnEquals": {"aws:SourceArn": "${StreamWebhookRule.Arn}"}}


def test_every_log_group_is_kept_for_the_time_that_was_asked_for(stack: Stack) -> None:
    groups = stack.of_type("AWS::Logs::LogGroup")
    assert all(group["RetentionInDays"] == stack.parameters["LogRetentionDays"] for group in groups.values())
    used = [f["LoggingConfig"]["LogGroup"] for f in stack.of_type("AWS::Lambda::Function").values()]
    assert sorted(used) == sorted(f"${{{name}}}" for name in groups if name != "LakeStreamLogGroup")


def test_the_salt_of_content_lives_as_long_as_its_bucket() -> None:
    resources = deployed(ContentLogEnabled="true").resources
    bucket, salt = resources["ContentLogBucket"], resources["ContentLogSalt"]
    for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
        assert bucket[policy] == salt[policy]


@pytest.mark.parametrize(
    ("level", "lambdas"), {"DEBUG": "DEBUG", "INFO": "INFO", "WARNING": "WARN", "ERROR": "ERROR"}.items()
)
def test_every_function_logs_at_the_level_that_was_asked_for(level: str, lambdas: str) -> None:
    for function in deployed(LogLevel=level, SystemLogLevel="DEBUG").of_type("AWS::Lambda::Function").values():
        logging = function["LoggingConfig"]
        told = logging["LogFormat"], logging["ApplicationLogLevel"], logging["SystemLogLevel"]
        assert told == ("JSON", lambdas, "DEBUG")
        assert function["Environment"]["Variables"]["LOG_LEVEL"] == level


def test_concurrency_is_reserved_where_that_is_asked_for() -> None:
    stacks = [deployed(), deployed(ProxyReservedConcurrency="0"), deployed(ProxyReservedConcurrency="25")]
    functions = [each.resources["ProxyFunction"]["Properties"] for each in stacks]
    assert [each.get("ReservedConcurrentExecutions") for each in functions] == [None, None, "25"]


PROVIDER = "arn:aws:lambda:us-east-1:111111111111:capacity-provider:streams"


def test_the_proxy_runs_on_managed_instances_where_a_capacity_provider_is_given() -> None:
    chosen = {"CapacityProviderArn": PROVIDER, "ProxyMemoryMB": "8192", "ProxyReservedConcurrency": "25"}
    usual, managed = (each.of_type("AWS::Lambda::Function") for each in (deployed(), deployed(**chosen)))
    assert managed["ProxyFunction"]["CapacityProviderConfig"] == {
        "LambdaManagedInstancesCapacityProviderConfig": {
            "CapacityProviderArn": PROVIDER,
            "ExecutionEnvironmentMemoryGiBPerVCpu": 2,
        }
    }
    assert managed["ProxyFunction"]["PublishToLatestPublished"] is True
    own = {"CapacityProviderConfig", "PublishToLatestPublished", "ReservedConcurrentExecutions"}
    assert not own & set(usual["ProxyFunction"])
    assert "ReservedConcurrentExecutions" not in managed["ProxyFunction"], "the provider bounds it"
    others = [name for name, function in managed.items() if "CapacityProviderConfig" in function]
    assert others == ["ProxyFunction"]


def test_a_capacity_provider_is_refused_with_what_it_cannot_have() -> None:
    rule = source()["Rules"]["ManagedInstances"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "CapacityProviderArn"}, ""]}]}
    allowed = {
        each["Assert"]["Fn::Contains"][1]["Ref"]: each["Assert"]["Fn::Contains"][0] for each in rule["Assertions"]
    }
    assert allowed == {
        "ProxyMemoryMB": ["2048", "4096", "6144", "8192"],
        "PythonVersion": ["python3.13", "python3.14"],
    }
    assert all("CapacityProviderArn" in each["AssertDescription"] for each in rule["Assertions"])


def test_the_proxy_has_what_the_other_functions_have_from_the_globals() -> None:
    for chosen in ({}, {"TracingEnabled": "false", "LogLevel": "ERROR"}):
        functions = deployed(**chosen).of_type("AWS::Lambda::Function")
        proxy, other = functions["ProxyFunction"], functions["RecordCostFunction"]
        for name in ("Runtime", "Architectures", "TracingConfig"):
            assert proxy[name] == other[name], name
        assert {**proxy["LoggingConfig"], "LogGroup": ""} == {**other["LoggingConfig"], "LogGroup": ""}
        assert set(proxy["Layers"]) == set(other["Layers"])
        for name in ("STAGE", "LOG_LEVEL", "POWERTOOLS_TRACE_DISABLED"):
            assert proxy["Environment"]["Variables"][name] == other["Environment"]["Variables"][name]


def test_a_gateway_that_logs_writes_nothing_of_content() -> None:
    assert "AccessLogSetting" not in deployed().resources["RestApiStage"]["Properties"]
    logging = deployed(RestApiLogEnabled="true")
    setting = logging.resources["RestApiStage"]["Properties"]["AccessLogSetting"]
    assert setting["DestinationArn"] == "${RestApiLogGroup.Arn}"
    line = json.loads(setting["Format"])
    assert not {"$context.path", "$context.resourcePath"} & set(line.values())
    assert "$context.requestId" in line.values()


def test_secrets_are_read_below_the_prefix_alone() -> None:
    granted = deployed(SecretsPrefix="team/").permissions("ProxyFunction")
    assert {each for each in granted if each[0] in ("secretsmanager:GetSecretValue", "ssm:GetParameter")} == {
        ("secretsmanager:GetSecretValue", "${ProviderTokens}"),
        ("secretsmanager:GetSecretValue", SECRETS.replace("openai-proxy/", "team/")),
        ("ssm:GetParameter", PARAMETERS.replace("openai-proxy/", "team/")),
    }


def test_the_lake_reads_names_as_they_are_written() -> None:
    stream = deployed().resources["LakeStream"]["Properties"]["ExtendedS3DestinationConfiguration"]
    reading = stream["DataFormatConversionConfiguration"]["InputFormatConfiguration"]["Deserializer"]
    assert reading == {"OpenXJsonSerDe": {"CaseInsensitive": False}}


def test_the_secret_of_provider_tokens_is_never_written_by_an_update() -> None:
    (secret,) = deployed().of_type("AWS::SecretsManager::Secret").values()
    assert secret["SecretString"] == "{}", "CloudFormation writes a changed value over the owner's tokens"
    assert "Name" not in secret


# ---------------------------------------------------------------------------------------------------------- permissions

SECRETS = "arn:aws:secretsmanager:us-east-1:111111111111:secret:openai-proxy/*"
PARAMETERS = "arn:aws:ssm:us-east-1:111111111111:parameter/openai-proxy/*"

WILDCARDS = {
    ("xray:PutTraceSegments", "*"): "X-Ray has no resources to name",
    ("xray:PutTelemetryRecords", "*"): "X-Ray has no resources to name",
    ("cloudwatch:PutMetricData", "*"): "CloudWatch has no resources to name; a condition limits the namespace",
    ("secretsmanager:GetSecretValue", SECRETS): "the owner adds secrets under this prefix; they end in random letters",
    ("ssm:GetParameter", PARAMETERS): "the owner adds parameters under this prefix",
    ("s3:GetObject", "${CacheBucket.Arn}/captured/*"): "one object for each answer",
    ("s3:PutObject", "${CacheBucket.Arn}/captured/*"): "one object for each answer",
    ("s3:GetObject", "${CacheBucket.Arn}/streams/*"): "one object for each large piece of a stream",
    ("s3:PutObject", "${CacheBucket.Arn}/streams/*"): "one object for each large piece of a stream",
}

OWN = {
    "ProxyFunction": {
        ("lambda:InvokeFunction", "${AuthorizerFunction.Arn}"),
        ("events:PutEvents", "${Bus.Arn}"),
        ("sqs:SendMessage", "${EndStreamsQueue.Arn}"),
        ("sqs:SendMessage", "${PublishAgainQueue.Arn}"),
        ("sqs:SendMessage", "${StoreResponseQueue.Arn}"),
        ("dynamodb:GetItem", "${CostsTable.Arn}"),
        ("dynamodb:GetItem", "${CacheTable.Arn}"),
        ("dynamodb:PutItem", "${CacheTable.Arn}"),
        ("dynamodb:DeleteItem", "${CacheTable.Arn}"),
        ("s3:GetObject", "${CacheBucket.Arn}/captured/*"),
        ("s3:PutObject", "${CacheBucket.Arn}/captured/*"),
        ("s3:GetObject", "${CacheBucket.Arn}/streams/*"),
        ("s3:PutObject", "${CacheBucket.Arn}/streams/*"),
        ("dynamodb:GetItem", "${StreamsTable.Arn}"),
        ("dynamodb:Query", "${StreamsTable.Arn}"),
        ("dynamodb:PutItem", "${StreamsTable.Arn}"),
        ("dynamodb:UpdateItem", "${StreamsTable.Arn}"),
        ("dynamodb:GetItem", "${LimitsTable.Arn}"),
        ("dynamodb:BatchGetItem", "${LimitsTable.Arn}"),
        ("dynamodb:UpdateItem", "${LimitsTable.Arn}"),
        ("secretsmanager:GetSecretValue", "${ProviderTokens}"),
        ("secretsmanager:GetSecretValue", SECRETS),
        ("ssm:GetParameter", PARAMETERS),
    },
    "AuthorizerFunction": {("dynamodb:GetItem", "${KeysTable.Arn}")},
    "RecordCostFunction": {
        ("dynamodb:GetItem", "${CostsTable.Arn}"),
        ("dynamodb:Query", "${CostsTable.Arn}"),
        ("dynamodb:PutItem", "${CostsTable.Arn}"),
        ("dynamodb:UpdateItem", "${CostsTable.Arn}"),
        ("dynamodb:ConditionCheckItem", "${CostsTable.Arn}"),
        ("firehose:PutRecordBatch", "${LakeStream.Arn}"),
        ("cloudwatch:PutMetricData", "*"),
    },
    "RecordThrottlesFunction": {
        ("dynamodb:GetItem", "${CostsTable.Arn}"),
        ("dynamodb:Query", "${CostsTable.Arn}"),
        ("dynamodb:PutItem", "${CostsTable.Arn}"),
        ("dynamodb:UpdateItem", "${CostsTable.Arn}"),
        ("dynamodb:ConditionCheckItem", "${CostsTable.Arn}"),
        ("events:PutEvents", "${Bus.Arn}"),
        ("firehose:PutRecordBatch", "${LakeStream.Arn}"),
        ("cloudwatch:PutMetricData", "*"),
    },
    "RecordMetricsFunction": {
        ("dynamodb:BatchGetItem", "${MarkersTable.Arn}"),
        ("dynamodb:PutItem", "${MarkersTable.Arn}"),
        ("cloudwatch:PutMetricData", "*"),
    },
    "SettleLimitsFunction": {
        ("dynamodb:GetItem", "${LimitsTable.Arn}"),
        ("dynamodb:BatchGetItem", "${LimitsTable.Arn}"),
        ("dynamodb:PutItem", "${LimitsTable.Arn}"),
        ("dynamodb:UpdateItem", "${LimitsTable.Arn}"),
        ("events:PutEvents", "${Bus.Arn}"),
    },
    "StoreResponseFunction": {("dynamodb:PutItem", "${CacheTable.Arn}")},
    "EndStreamsFunction": {
        ("sqs:SendMessage", "${EndStreamsQueue.Arn}"),
        ("dynamodb:GetItem", "${StreamsTable.Arn}"),
        ("dynamodb:Query", "${StreamsTable.Arn}"),
        ("dynamodb:UpdateItem", "${StreamsTable.Arn}"),
        ("events:PutEvents", "${Bus.Arn}"),
    },
    "PublishAgainFunction": {
        ("sqs:ChangeMessageVisibility", "${PublishAgainQueue.Arn}"),
        ("events:PutEvents", "${Bus.Arn}"),
    },
    "TellIncidentsFunction": {
        ("dynamodb:Query", "${CostsTable.Arn}"),
        ("dynamodb:GetItem", "${MarkersTable.Arn}"),
        ("dynamodb:PutItem", "${MarkersTable.Arn}"),
        ("sns:Publish", "${AlarmTopic}"),
        ("events:PutEvents", "${Bus.Arn}"),
    },
}
"""What each function may do beyond logging, tracing and reading its queue: who may read which table and secret."""


def of_every_function(name: str) -> set[tuple[str, str]]:
    base = name.removesuffix("Function")
    own_log = {(action, f"${{{base}LogGroup.Arn}}") for action in ("logs:CreateLogStream", "logs:PutLogEvents")}
    tracing = {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}
    receiving = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
    own_queue = {(action, f"${{{base}Queue.Arn}}") for action in receiving}
    return own_log | tracing | (own_queue if base in CONSUMERS else set())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_do_what_it_must_and_nothing_else(function: str, stack: Stack) -> None:
    assert stack.permissions(function) == OWN[function] | of_every_function(function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_wildcards_have_a_reason(function: str, stack: Stack) -> None:
    for action, resource in stack.permissions(function):
        assert "*" not in action
        assert "*" not in resource or (action, resource) in WILDCARDS
    for statement in stack.statements(function):
        assert statement["Effect"] == "Allow"
        assert not statement.keys() - {"Effect", "Action", "Resource", "Condition"}
        if "cloudwatch:PutMetricData" in as_list(statement["Action"]):
            variables = stack.of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"]
            namespace = {"cloudwatch:namespace": variables["METRICS_NAMESPACE"]}
            assert statement["Condition"] == {"StringEquals": namespace}


CALLS = {
    "get_item": {"dynamodb:GetItem"},
    "put_item": {"dynamodb:PutItem"},
    "update_item": {"dynamodb:UpdateItem"},
    "delete_item": {"dynamodb:DeleteItem"},
    "query": {"dynamodb:Query"},
    "scan": {"dynamodb:Scan"},
    "batch_get_item": {"dynamodb:BatchGetItem"},
    "batch_write_item": {"dynamodb:BatchWriteItem"},
    "transact_write_items": {"dynamodb:PutItem"},
    "transact_get_items": {"dynamodb:GetItem"},
    "put_metric_data": {"cloudwatch:PutMetricData"},
    "put_events": {"events:PutEvents"},
    "publish": {"sns:Publish"},
    "put_record_batch": {"firehose:PutRecordBatch"},
    "invoke": {"lambda:InvokeFunction"},
    "send_message": {"sqs:SendMessage"},
    "change_message_visibility_batch": {"sqs:ChangeMessageVisibility"},
    "get_secret": {"secretsmanager:GetSecretValue"},
    "get_parameter": {"ssm:GetParameter"},
    "put": {"s3:PutObject"},
    "get": {"s3:GetObject"},
}
"""A call of a client in the code → the actions that it needs."""


@pytest.mark.parametrize(("function", "package"), FUNCTIONS.items())
def test_a_function_may_do_what_its_code_calls(function: str, package: str) -> None:
    own = [ast.parse(file.read_text()) for file in (ROOT / "functions" / package).rglob("*.py")]
    shared = {
        ".".join(file.relative_to(ROOT / "shared").with_suffix("").parts): ast.parse(file.read_text())
        for file in (ROOT / "shared" / "openai_proxy").rglob("*.py")
    }
    for tree in own:  # those that a module of the layer imports come after it
        imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        own += [shared.pop(name) for name in imported if name in shared]
    clients = ("self._client", "self._aws", "self._s3", "aws")
    called = {
        node.attr
        for tree in own
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in clients
    }
    needed = {action for name in called for action in CALLS.get(name, ())}
    if any(
        isinstance(node, ast.Constant) and node.value == "ConditionCheck" for tree in own for node in ast.walk(tree)
    ):
        needed.add("dynamodb:ConditionCheckItem")
    if "transact_write_items" in called and '"Update":' in "".join(ast.unparse(tree).replace("'", '"') for tree in own):
        needed.add("dynamodb:UpdateItem")
    assert needed == {action for action, _ in OWN[function]}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_told_the_names_of_what_it_may_use(function: str, stack: Stack) -> None:
    variables = stack.of_type("AWS::Lambda::Function")[function]["Environment"]["Variables"]
    told = {value for value in variables.values() if isinstance(value, str) and value.startswith("${")}
    named = {resource.partition("/")[0] for _, resource in OWN[function]}
    allowed = {resource.replace(".Arn}", "}") for resource in named if resource.startswith("${")}
    assert told == allowed


def test_a_role_serves_one_function_and_lambda_alone(stack: Stack) -> None:
    roles = [function["Role"] for function in stack.of_type("AWS::Lambda::Function").values()]
    of_functions = {name: role for name, role in stack.of_type("AWS::IAM::Role").items() if name != "LakeStreamRole"}
    assert len(set(roles)) == len(roles) == len(of_functions)
    for role in of_functions.values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement == {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
