"""Guards in the template: off unless a file is named, and then no more than an overlay of keys may be written."""

from openai_proxy.guards.file import GUARDS_FILE, load_guards, parse_guards
from openai_proxy.guards.overlay import overlay_key

from tests.alarm_states import metrics_of
from tests.contract.template_stack import ROOT, Stack, deployed, parameters_of_template

ON = {"GuardsFile": GUARDS_FILE}
FUNCTION = "ApplyGuardsFunction"


def permissions_that_are_held_to(stack: Stack) -> dict[tuple[str, str], list[str]]:
    """What the function may do to items, and with which beginnings of their keys."""
    return {
        (action, statement["Resource"]): statement["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        for statement in stack.statements(FUNCTION)
        for action in statement["Action"]
        if isinstance(action, str) and action.startswith("dynamodb:")
    }


def test_nothing_is_deployed_where_no_file_is_named() -> None:
    assert parameters_of_template()["GuardsFile"]["Default"] == ""
    assert not [name for name in deployed().resources if "Guard" in name]
    assert not [name for name in deployed().outputs if "Guard" in name]
    functions = deployed().of_type("AWS::Lambda::Function")
    assert not any("GUARDS" in each["Environment"]["Variables"] for each in functions.values())


def test_only_the_authorizer_and_the_consumer_know_that_guards_are_on() -> None:
    off, on = deployed(), deployed(**ON)
    functions = on.of_type("AWS::Lambda::Function")
    assert functions["AuthorizerFunction"]["Environment"]["Variables"]["GUARDS"] == "on"
    assert functions[FUNCTION]["Environment"]["Variables"]["GUARDS_FILE"] == GUARDS_FILE
    assert functions[FUNCTION]["Handler"] == "apply_guards.handler.handler"
    changed = {name for name, each in off.resources.items() if on.resources[name] != each}
    assert changed == {
        "AuthorizerFunction",
        "ConsumerErrorsAlarm",
        "ConsumerThrottlesAlarm",
        "RecordsCombinedAlarm",
    }


def test_the_consumer_may_write_overlays_and_what_it_remembers_and_nothing_else() -> None:
    stack = deployed(**ON)
    items = permissions_that_are_held_to(stack)
    assert items == {
        **{
            (f"dynamodb:{action}", "${CostsTable.Arn}"): ["guard#*"]
            for action in ("GetItem", "Query", "PutItem", "UpdateItem")
        },
        **{(f"dynamodb:{action}", "${KeysTable.Arn}"): ["guard#*"] for action in ("GetItem", "PutItem", "UpdateItem")},
    }
    assert overlay_key("0123456789ab").startswith("guard#")
    assert stack.permissions(FUNCTION) == {
        *items,
        *((action, "${ApplyGuardsLogGroup.Arn}") for action in ("logs:CreateLogStream", "logs:PutLogEvents")),
        *((action, "*") for action in ("xray:PutTraceSegments", "xray:PutTelemetryRecords")),
        *(
            (f"sqs:{action}", "${ApplyGuardsQueue.Arn}")
            for action in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
        ),
        ("events:PutEvents", "${Bus.Arn}"),
        ("sns:Publish", "${AlarmTopic}"),
    }
    quiet = deployed(**ON, AlarmsEnabled="false")
    assert ("sns:Publish", "${AlarmTopic}") not in quiet.permissions(FUNCTION)
    assert "ALARM_TOPIC" not in quiet.of_type("AWS::Lambda::Function")[FUNCTION]["Environment"]["Variables"]


def test_its_events_wait_in_a_queue_and_none_is_lost() -> None:
    stack = deployed(**ON)
    rule = stack.of_type("AWS::Events::Rule")["ApplyGuardsRule"]
    ledger = stack.of_type("AWS::Events::Rule")["RecordCostRule"]
    assert rule["EventPattern"] == ledger["EventPattern"], "a replay reads what record_cost has written"
    (target,) = rule["Targets"]
    letters = "${ApplyGuardsDeadLetterQueue.Arn}"
    assert (target["Arn"], target["DeadLetterConfig"]["Arn"]) == ("${ApplyGuardsQueue.Arn}", letters)
    queues = stack.of_type("AWS::SQS::Queue")
    for kind in ("Queue", "DeadLetterQueue"):
        mine, others = (dict(queues[f"{consumer}{kind}"]) for consumer in ("ApplyGuards", "RecordCost"))
        assert mine.pop("RedrivePolicy", {"deadLetterTargetArn": letters, "maxReceiveCount": 5}) == {
            "deadLetterTargetArn": letters,
            "maxReceiveCount": 5,
        }
        others.pop("RedrivePolicy", None)
        assert mine == others
    (statement,) = stack.of_type("AWS::SQS::QueuePolicy")["ApplyGuardsQueuePolicy"]["PolicyDocument"]["Statement"]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": "${ApplyGuardsRule.Arn}"}}
    assert statement["Resource"] == ["${ApplyGuardsQueue.Arn}", letters]


def test_it_is_watched_as_the_other_consumers_are() -> None:
    stack = deployed(**ON)
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    watched = {
        (metric.name, value)
        for alarm in alarms.values()
        for metric in metrics_of(alarm).values()
        for _, value in metric.dimensions
    }
    assert watched >= {
        ("ApproximateNumberOfMessagesVisible", "${ApplyGuardsDeadLetterQueue.QueueName}"),
        ("ApproximateAgeOfOldestMessage", "${ApplyGuardsQueue.QueueName}"),
        ("FailedInvocations", "${ApplyGuardsRule.Arn[2]}"),
        ("Errors", "${ApplyGuardsFunction}"),
        ("Throttles", "${ApplyGuardsFunction}"),
    }
    combined = str(stack.of_type("AWS::CloudWatch::CompositeAlarm")["RecordsCombinedAlarm"]["AlarmRule"])
    of_others = ("DeadLetters", "Age", "Delivery")
    for kind in of_others:
        mine, others = (alarms[f"{consumer}{kind}Alarm"] for consumer in ("ApplyGuards", "RecordCost"))
        different = {"AlarmName", "AlarmDescription", "Dimensions"}
        assert {name: value for name, value in mine.items() if name not in different} == {
            name: value for name, value in others.items() if name not in different
        }
        assert f"${{ApplyGuards{kind}Alarm}}" in combined


def test_the_file_that_is_shipped_guards_nothing_and_its_examples_can_be_used() -> None:
    shipped = (ROOT / GUARDS_FILE).read_text(encoding="utf-8")
    assert load_guards(ROOT / GUARDS_FILE) == ()
    assert (ROOT / "shared" / GUARDS_FILE).resolve() == ROOT / GUARDS_FILE
    example = shipped[shipped.index("# guards:\n#   ") :]
    guards = parse_guards("\n".join(line.removeprefix("# ") for line in example.splitlines()))
    assert {guard.kind for guard in guards} == {"repeat", "refused", "hours", "spend"}
    assert {guard.doing.act for guard in guards} == {"notify", "lower", "cache_only", "disable"}
