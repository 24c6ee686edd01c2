"""Log line, saved queries, metric filters, content log: `docs/logs.md`, code and `template.yaml` say the same."""

import json
import re
from pathlib import Path

import pytest
from proxy.records.log_line import MESSAGE, request_line

from console.logs import FUNCTIONS, OTHERS
from tests.contract.template_stack import ROOT, deployed
from tests.fakes import read_event

DOCS = (ROOT / "docs/logs.md").read_text()
SAMPLES = sorted((ROOT / "events/samples").glob("Inference*.json"))
LINE = {"level", "message", "timestamp"}


def fields_of_the_table() -> set[str]:
    table = DOCS.partition("| field | |")[2].partition("\n\n")[0]
    return {name for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", cell)}


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_terminal_event_makes_the_line_of_the_table(path: Path) -> None:
    line = request_line(read_event(path.read_text()), "published")
    assert LINE | set(line) | {"team"} == fields_of_the_table(), "few keys have a team"


def test_the_saved_queries_are_those_of_the_page() -> None:
    written = dict(re.findall(r"^([a-z-]+): .*\n```\n((?:.+\n)+?)```", DOCS, re.MULTILINE))
    saved = {
        query["Name"].removeprefix("stack/"): query["QueryString"]
        for query in deployed().of_type("AWS::Logs::QueryDefinition").values()
    }
    assert saved == written
    assert len(saved) == 7
    assert deployed(NamedQueriesEnabled="false").of_type("AWS::Logs::QueryDefinition") == {}


def test_queries_ask_for_fields_that_there_are() -> None:
    known = fields_of_the_table() | {"reason", "entry"}
    for query in deployed().of_type("AWS::Logs::QueryDefinition").values():
        for named in re.findall(r"(?:fields|by) (.+)", query["QueryString"]):
            names = re.findall(r"(?<![@\w.\"'])[a-z_]+(?=[,\s.]|$)", re.sub(r"\w+\(.*?\)( as \w+)?", "", named))
            assert set(names) <= known, names


def test_the_metric_filters_read_the_line() -> None:
    filters = deployed().of_type("AWS::Logs::MetricFilter")
    fates = {
        "EventsPublished": "$.published IS TRUE",
        "EventsQueued": "$.queued IS TRUE",
        "EventsNotPublished": "$.published IS FALSE && $.queued IS FALSE",
    }
    for name, fate in fates.items():
        found = filters[f"{name}Filter"]
        assert found["LogGroupName"] == "${ProxyLogGroup}"
        assert found["FilterPattern"] == f'{{ $.message = "{MESSAGE}" && {fate} }}'
        [transformation] = found["MetricTransformations"]
        assert (transformation["MetricNamespace"], transformation["MetricName"]) == ("OpenAIProxy/stack", name)


def test_content_has_a_place_only_where_it_is_wanted() -> None:
    without, having = deployed(), deployed(ContentLogEnabled="true", ContentLogRetentionDays="7")
    assert set(having.resources) - set(without.resources) == {
        "ContentLogBucket",
        "ContentLogBucketPolicy",
        "ContentLogSalt",
    }
    assert set(having.outputs) - set(without.outputs) == {"ContentLogBucket"}
    assert having.permissions("ProxyFunction") - without.permissions("ProxyFunction") == {
        ("s3:PutObject", "${ContentLogBucket.Arn}/content/*"),
        ("secretsmanager:GetSecretValue", "${ContentLogSalt}"),
    }
    for function in having.of_type("AWS::Lambda::Function").keys() - {"ProxyFunction"}:
        assert "ContentLog" not in json.dumps(having.statements(function))
    bucket = having.of_type("AWS::S3::Bucket")["ContentLogBucket"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert "BucketEncryption" in bucket
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == "7"
    [statement] = having.of_type("AWS::S3::BucketPolicy")["ContentLogBucketPolicy"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


@pytest.mark.parametrize(("enabled", "mode"), [("true", "Active"), ("false", "PassThrough")])
def test_tracing_is_a_parameter(enabled: str, mode: str) -> None:
    stack = deployed(TracingEnabled=enabled)
    assert {f["TracingConfig"]["Mode"] for f in stack.of_type("AWS::Lambda::Function").values()} == {mode}
    assert stack.of_type("AWS::ApiGateway::Stage")["RestApiStage"]["TracingEnabled"] == enabled


def test_the_command_reads_every_log_of_the_stack() -> None:
    groups = deployed(RestApiLogEnabled="true", GuardsFile="guards.yaml").of_type("AWS::Logs::LogGroup").values()
    read = {f"/aws/lambda/stack/{name}" for name in FUNCTIONS} | {
        each.format(stack="stack") for each in OTHERS.values()
    }
    assert {group["LogGroupName"] for group in groups} == read
