"""Every alarm goes off when what it is for happens, tells so once in words, and says when it is over. Real traffic."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid

from tests.contract.template_stack import deployed
from tests.e2e.alarm_watch import LATER, AlarmWatch, Message
from tests.e2e.command import openai_proxy
from tests.e2e.harness import ROOT, Client, LocalStack, new_client, wait_for
from tests.e2e.snapshot import start_deployed

HELLO = [{"role": "user", "content": "Hello"}]
SAMPLES = ROOT / "events" / "samples"
CONSUMERS = {
    "record-cost": "RecordCost",
    "record-metrics": "RecordMetrics",
    "record-throttles": "RecordThrottles",
    "settle-limits": "SettleLimits",
    "store-response": "StoreResponse",
    "end-streams": "EndStreams",
    "publish-again": "PublishAgain",
}


class Incident:
    """What a test does to the stack, and how it is undone."""

    def __init__(self, stack: LocalStack, watch: AlarmWatch) -> None:
        self.stack = stack
        self.watch = watch
        self.undo: list[Callable[[], Any]] = []

    def client(self, **limits: Any) -> Client:
        client = new_client(self.stack)
        self.undo.append(client.close)
        if limits:
            key = {"key_hash": client.key_hash}
            item = self.stack.table("KEYS_TABLE").get_item(Key=key)["Item"]
            self.stack.table("KEYS_TABLE").put_item(Item={**item, **limits})
        return client

    def ask(self, client: Client, count: int, path: str = "demo/v1/chat/completions", **body: Any) -> list[int]:
        """Ask so many times at once. Returns the statuses."""
        chat = {"model": "demo", "messages": HELLO, "max_tokens": 2, **body}
        with ThreadPoolExecutor(count) as pool:
            answers = [pool.submit(client.post, path, json=chat) for _ in range(count)]
            return [answer.result().status_code for answer in answers]

    def wait_for(self, count: float, metric: str, **dimensions: str) -> None:
        wait_for(lambda: self.watch.total(metric, **dimensions) >= count, f"{count} {metric}")

    def aws(self, service: str) -> Any:
        return self.stack.aws(service)

    def url(self, queue: str) -> str:
        return self.watch.physical[queue]

    def waiting(self, queue: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.aws("sqs").get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=names)["Attributes"]
        return sum(map(int, counts.values()))

    def wait_for_empty_queues(self) -> None:
        wait_for(lambda: not any(self.waiting(f"{each}Queue") for each in CONSUMERS.values()), "empty queues")

    def event(self, sample: str, **changes: Any) -> dict[str, Any]:
        """The envelope of a sample event as one of now, with `changes` to its data."""
        event, now = json.loads((SAMPLES / f"{sample}.json").read_text()), time.time()
        metadata = event["detail"]["metadata"] | {"id": new_ulid(now), "timestamp": rfc3339(now)}
        kept = {"created_at": int(now), "expires_at": int(now) + 3600} if "ResponseCaptured" in sample else {}
        return event | {"detail": {"metadata": metadata, "data": event["detail"]["data"] | kept | changes}}

    def publish(self, sample: str, **changes: Any) -> None:
        """Put such an event on the bus."""
        event = self.event(sample, **changes)
        entry = {"Source": event["source"], "DetailType": event["detail-type"], "Detail": json.dumps(event["detail"])}
        self.aws("events").put_events(Entries=[{**entry, "EventBusName": self.stack.environment["BUS_NAME"]}])

    def send(self, queue: str, message: str) -> None:
        """Put a message where the proxy itself puts it: no event of the bus comes to that consumer."""
        self.aws("sqs").send_message(QueueUrl=self.url(queue), MessageBody=message)

    def fail(self, rules: list[dict[str, Any]]) -> None:
        """Let calls to AWS go wrong by these rules of a faults file."""
        file = self.stack.folder.parent / "faults.yaml"
        file.with_suffix(".new").write_text(json.dumps(rules))
        file.with_suffix(".new").replace(file)
        self.undo.append(lambda: file.write_text("[]"))

    def wait_until_told(self, combined: str, state: str) -> None:
        """Until tell_incidents remembers this state of a combined alarm, if it tells of it: before, it takes the next
        change for one that it has told. Real alarms are minutes apart.
        """
        if combined.endswith("throttles"):
            asked = {"TableName": self.url("MarkersTable"), "ConsistentRead": True}
            key = {"id": {"S": f"incident#openai-proxy-{combined}"}}

            def is_told() -> bool:
                item = self.aws("dynamodb").get_item(Key=key, **asked).get("Item")
                return bool(item) and (float(item["since"]["N"]) > 0) == (state == "ALARM")

            wait_for(is_told, f"{combined} told as {state}")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStack, AlarmWatch]]:
    """A stack of this module's own: what goes wrong in other tests must not be in its metrics."""
    folder = tmp_path_factory.mktemp("alarms")
    (folder / "faults.yaml").write_text("[]")
    running = start_deployed(folder / "stack", "--faults", str(folder / "faults.yaml"), has_alarms=True)
    try:
        yield running, AlarmWatch(running)
    finally:
        running.discard()


@pytest.fixture
def incident(watched: tuple[LocalStack, AlarmWatch]) -> Iterator[Incident]:
    incident = Incident(*watched)
    incident.wait_for_empty_queues()
    incident.watch.begin()
    yield incident
    for undo in reversed(incident.undo):
        undo()


# --------------------------------------------------------------------------------------------------- what goes wrong


def clients_ask_too_often(incident: Incident) -> None:
    client = incident.client(rpm=1)
    assert incident.ask(client, 1) == [200]
    answers = incident.ask(client, 5)
    assert answers.count(429) >= 4, "a minute may end in between"
    assert set(answers) <= {200, 429}
    incident.wait_for(4, "Throttles", Kind="client")
    incident.wait_for(6, "EventsRecorded", Consumer="record_metrics")


def clients_have_no_budget_left(incident: Incident) -> None:
    client = incident.client(budget_day=Decimal("0.000001"), currency="USD")
    incident.ask(client, 1)
    wait_for(lambda: incident.ask(client, 1) == [429], "the end of a budget")
    incident.ask(client, 4)
    incident.wait_for(5, "Throttles", Kind="client")


def a_server_throttles(incident: Incident) -> None:
    assert incident.ask(incident.client(), 5, model="demo-error-429") == [429] * 5
    incident.wait_for(5, "Throttles", Kind="upstream")


def a_server_fails(incident: Incident) -> None:
    assert incident.ask(incident.client(), 5, model="demo-error-500") == [500] * 5
    incident.wait_for(5, "Failures", ErrorSource="upstream")


def a_server_has_no_token(incident: Incident) -> None:
    assert incident.ask(incident.client(), 1, "openai/v1/chat/completions", model="gpt-5") == [503]
    incident.wait_for(1, "Failures", ErrorSource="proxy")
    incident.wait_for(1, "TokenUnavailable")


def keys_cannot_be_checked(incident: Incident) -> None:
    """The authorizer loses its table."""
    functions, name = incident.aws("lambda"), incident.watch.physical["AuthorizerFunction"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    whole, broken = {"Variables": variables}, {"Variables": variables | {"KEYS_TABLE": "gone"}}
    client = incident.client()
    functions.update_function_configuration(FunctionName=name, Environment=broken)
    incident.undo.append(lambda: functions.update_function_configuration(FunctionName=name, Environment=whole))
    assert incident.ask(client, 1) == [503], "and not 401"
    incident.wait_for(1, "UnauthorizedFailures")
    incident.wait_for(1, "KeyChecksFailed")


def limits_are_neither_checked_nor_given_back(incident: Incident) -> None:
    lease = {"id": "00000000000000000000000000", "in_doubt": False}
    limits = {"id": "0123456789ab", "status": "unchecked", "reserved": None, "has_budget": False, "taken_at": None}
    budgets = {"budget_day": None, "budget_month": None, "currency": None}
    incident.publish("InferenceCompleted.chat-stream", limits={**limits, **budgets, "lease": lease})
    incident.wait_for(1, "LimitsUnchecked")
    incident.wait_for(1, "LimitsNotReturned")


def a_server_is_slow(incident: Incident) -> None:
    assert incident.ask(incident.client(), 3, model="demo-slow", demo={"delay": 1.5}) == [200] * 3
    incident.wait_for(3, "EventsRecorded", Consumer="record_metrics")


def somebody_tries_keys(incident: Incident) -> None:
    client = incident.client()
    client.key = client.mistyped_key
    assert incident.ask(client, 2) == [401, 401]
    incident.wait_for(2, "KeysRefused")


def the_authorizer_raises(incident: Incident) -> None:
    name = incident.watch.physical["AuthorizerFunction"]
    event = {"headers": {"Authorization": f"Bearer {incident.client().key}"}, "methodArn": "none"}
    for _ in range(2):
        answer = incident.aws("lambda").invoke(FunctionName=name, Payload=json.dumps(event).encode())
        assert "FunctionError" in answer
    incident.wait_for(2, "KeyChecksFailed")


def a_consumer_raises(incident: Incident) -> None:
    name = incident.watch.physical["RecordCostFunction"]
    assert "FunctionError" in incident.aws("lambda").invoke(FunctionName=name, Payload=b"{}")


def a_deployment_is_broken(incident: Incident) -> None:
    """Of the function in the emulator; the sandboxes of the local stack go on."""
    client, name = incident.aws("lambda"), incident.watch.physical["ProxyFunction"]
    variables = client.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    broken = variables | {"SERVERS_FILE": "/gone.yaml"}
    client.update_function_configuration(FunctionName=name, Environment={"Variables": broken})
    whole = {"Variables": variables}
    incident.undo.append(lambda: client.update_function_configuration(FunctionName=name, Environment=whole))
    assert "FunctionError" in client.invoke(FunctionName=name, Payload=b"{}")


def a_function_is_refused(name: str) -> Callable[[Incident], None]:
    def refused(incident: Incident) -> None:
        client, function = incident.aws("lambda"), incident.watch.physical[name]
        client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        incident.undo.append(lambda: client.delete_function_concurrency(FunctionName=function))
        with pytest.raises(client.exceptions.TooManyRequestsException):
            client.invoke(FunctionName=function, Payload=b"{}")

    return refused


def an_answer_has_no_price(incident: Incident) -> None:
    """Of speech the demo server does not say how much it was."""
    client = incident.client()
    assert incident.ask(client, 1, "demo/v1/audio/speech", input="Hello", voice="demo") == [200]
    incident.wait_for(1, "Unpriced")


def the_bus_does_not_answer(incident: Incident) -> None:
    incident.stack.end_sandboxes()  # the only one then is one that has looked at the key
    client = incident.client()
    assert incident.ask(client, 1) == [200]
    incident.wait_for(1, "EventsPublished")
    emulator = incident.stack.children("ministack")
    for pid in emulator:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert incident.ask(client, 1) == [200], "the client does not notice"
        incident.wait_for(1, "EventsNotPublished")
    finally:
        for pid in emulator:
            os.kill(pid, signal.SIGCONT)


def the_bus_refuses(incident: Incident) -> None:
    """What the proxy publishes; what publish_again does comes to it."""
    incident.fail([{"call": "events:PutEvents", "of": "proxy", "fault": "throttled"}])
    assert incident.ask(incident.client(), 2) == [200, 200], "clients do not notice"
    incident.wait_for(2, "EventsQueued")
    incident.wait_for(2, "EventsRecorded", Consumer="record_cost")


def a_rule_is_off(name: str, reached: str) -> Callable[[Incident], None]:
    def off(incident: Incident) -> None:
        where = {"EventBusName": incident.stack.environment["BUS_NAME"]}
        rules = incident.aws("events").list_rules(**where)["Rules"]
        (rule,) = [each["Name"] for each in rules if name in each["Name"]]
        incident.aws("events").disable_rule(Name=rule, **where)
        incident.undo.append(lambda: incident.aws("events").enable_rule(Name=rule, **where))
        assert incident.ask(incident.client(), 4) == [200] * 4
        incident.wait_for(4, "EventsRecorded", Consumer=reached)

    return off


def consumers_stand_still(incident: Incident) -> None:
    client = incident.aws("lambda")
    for mapping in client.list_event_source_mappings()["EventSourceMappings"]:
        uuid = mapping["UUID"]
        client.update_event_source_mapping(UUID=uuid, Enabled=False)
        incident.undo.append(lambda uuid=uuid: client.update_event_source_mapping(UUID=uuid, Enabled=True))
    incident.publish("InferenceCompleted.chat-cached-and-reasoning")
    incident.publish("ResponseCaptured.chat")
    incident.publish("InferenceThrottled.upstream")
    incident.send("EndStreamsQueue", json.dumps({"stream_id": new_ulid(time.time())}))
    incident.send("PublishAgainQueue", json.dumps(incident.event("InferenceCompleted.chat-stream")))
    for consumer in CONSUMERS.values():
        wait_for(lambda queue=f"{consumer}Queue": incident.waiting(queue), f"an event for {consumer}")


def consumers_cannot_handle_an_event(incident: Incident) -> None:
    for consumer in CONSUMERS.values():
        fail_at_once(incident, consumer)
    incident.publish("InferenceCompleted.chat-stream", server="no object", limits={"has_budget": True, "id": 1})
    incident.publish("ResponseCaptured.chat", cache_key=7)
    incident.publish("InferenceThrottled.upstream", server="no object")
    incident.send("EndStreamsQueue", "about no stream")
    incident.send("PublishAgainQueue", "no event")
    for consumer in CONSUMERS.values():
        queue = f"{consumer}DeadLetterQueue"
        incident.undo.append(lambda queue=queue: incident.aws("sqs").purge_queue(QueueUrl=incident.url(queue)))
    for consumer in CONSUMERS.values():
        queue = f"{consumer}DeadLetterQueue"
        wait_for(lambda queue=queue: incident.waiting(queue), f"a dead letter of {consumer}")


def a_budget_notice_is_not_taken(incident: Incident) -> None:
    """The emulator drops what a topic does not take. So the letter is put where EventBridge would put it."""
    queue = "BudgetNoticeDeadLetterQueue"
    incident.undo.append(lambda: incident.aws("sqs").purge_queue(QueueUrl=incident.url(queue)))
    incident.aws("sqs").send_message(QueueUrl=incident.url(queue), MessageBody="{}")


def fail_at_once(incident: Incident, consumer: str) -> Callable[[], None]:
    """Let a consumer try once and not five times over twenty minutes, until what is returned is called."""
    sqs, url = incident.aws("sqs"), incident.url(f"{consumer}Queue")
    names = ["VisibilityTimeout", "RedrivePolicy"]
    before = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    once = json.dumps(json.loads(before["RedrivePolicy"]) | {"maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "3", "RedrivePolicy": once})

    def as_before() -> None:
        sqs.set_queue_attributes(QueueUrl=url, Attributes=before)

    incident.undo.append(as_before)
    return as_before


SHARE_OF_FEW = {"AlarmPercentFromRequests": "1"}
CLIENT = {"AlarmClientThrottlesPerMinute": "3", "AlarmClientThrottlesPercent": "50", **SHARE_OF_FEW}
UPSTREAM = {"AlarmUpstreamThrottlesPerMinute": "3", "AlarmUpstreamThrottlesPercent": "50", **SHARE_OF_FEW}
FAILURES = {"AlarmUpstreamFailuresPerMinute": "3", "AlarmUpstreamFailuresPercent": "50", **SHARE_OF_FEW}

REFUSED = {"AlarmFunctionErrorsPerMinute": "9"}
"""The emulator, unlike Lambda, counts what it refused as a failure too."""

INCIDENTS: list[tuple[Callable[[Incident], None], dict[str, str], str, set[str]]] = [
    (clients_ask_too_often, CLIENT, "client-throttles", {"client-throttles-rate", "client-throttles-share"}),
    (clients_have_no_budget_left, CLIENT, "client-throttles", {"client-throttles-rate", "client-throttles-share"}),
    (a_server_throttles, UPSTREAM, "upstream-throttles", {"upstream-throttles-rate", "upstream-throttles-share"}),
    (a_server_fails, FAILURES, "service", {"upstream-failures-rate", "upstream-failures-share"}),
    (a_server_has_no_token, {}, "service", {"proxy-failures", "token-unavailable"}),
    (keys_cannot_be_checked, {}, "service", {"unauthorized-failures", "key-checks-failed"}),
    (limits_are_neither_checked_nor_given_back, {}, "records", {"limits-unchecked", "limits-not-returned"}),
    (a_server_is_slow, {"AlarmFirstChunkSeconds": "1"}, "service", {"slow-first-chunk"}),
    (somebody_tries_keys, {"AlarmKeysRefusedPerMinute": "1"}, "service", {"keys-refused"}),
    (
        the_authorizer_raises,
        {"AlarmAuthorizerErrorsPerMinute": "1"},
        "service",
        {"authorizer-errors", "key-checks-failed"},
    ),
    (a_deployment_is_broken, {}, "service", {"proxy-errors"}),
    (a_function_is_refused("ProxyFunction"), REFUSED, "service", {"proxy-throttles"}),
    (a_function_is_refused("AuthorizerFunction"), REFUSED, "service", {"authorizer-throttles"}),
    (a_function_is_refused("StoreResponseFunction"), REFUSED, "records", {"consumer-throttles"}),
    (a_consumer_raises, {}, "records", {"consumer-errors"}),
    (the_bus_does_not_answer, {}, "records", {"events-not-published"}),
    (the_bus_refuses, {}, "records", {"events-queued"}),
    (an_answer_has_no_price, {}, "records", {"unpriced"}),
    (a_rule_is_off("RecordMetrics", "record_cost"), {"AlarmEventsLost": "3"}, "records", {"events-lost"}),
    (a_rule_is_off("RecordCost", "record_metrics"), {"AlarmEventsLost": "3"}, "records", {"costs-lost"}),
    (consumers_stand_still, {}, "records", {f"{name}-age" for name in CONSUMERS}),
    (consumers_cannot_handle_an_event, {}, "records", {f"{name}-dead-letters" for name in CONSUMERS}),
    (a_budget_notice_is_not_taken, {}, "records", {"budget-notice-dead-letters"}),
]


def is_of_an_alarm(message: Message) -> bool:
    return bool(message.alarm)


def is_in_words(message: Message) -> bool:
    """Whether tell_incidents has written it."""
    return message.text.startswith("Clients of the stack openai-proxy are throttled since ")


@pytest.mark.parametrize(
    ("happens", "parameters", "combined", "alarms"),
    INCIDENTS,
    ids=[f"{happens.__name__}:{min(alarms)}" for happens, _, _, alarms in INCIDENTS],
)
def test_an_incident_is_told_once_in_words_and_its_end_too(
    incident: Incident,
    happens: Callable[[Incident], None],
    parameters: dict[str, str],
    combined: str,
    alarms: set[str],
) -> None:
    watch = incident.watch
    assert watch.look(parameters) == set()
    happens(incident)
    if happens is not consumers_stand_still:
        incident.wait_for_empty_queues()
    assert watch.look(parameters) == alarms
    assert watch.look(parameters) == alarms
    messages = watch.messages(is_in_words if combined.endswith("throttles") else is_of_an_alarm)
    (told,) = [each for each in messages if each.alarm]
    assert (told.alarm, told.state) == (f"openai-proxy-{combined}", "ALARM")
    assert re.match(r"Clients .{30,}\. The reason of this message names the alarm", told.text)
    assert any(f":alarm:openai-proxy-{alarm} transitioned to ALARM" in told.text for alarm in alarms)
    incident.wait_until_told(combined, told.state)

    while incident.undo:
        incident.undo.pop()()
    incident.wait_for_empty_queues()
    assert watch.look(parameters, at=time.time() + LATER) == set()
    (over,) = [each for each in watch.messages(is_of_an_alarm) if each.alarm]
    assert (over.alarm, over.state) == (f"openai-proxy-{combined}", "OK")
    incident.wait_until_told(combined, over.state)


def test_every_alarm_was_set_off_that_something_here_measures() -> None:
    alarms = deployed().of_type("AWS::CloudWatch::Alarm").values()
    names = {alarm["AlarmName"].removeprefix("stack-") for alarm in alarms}
    told_by_the_bus = {*CONSUMERS, "budget-notice"} - {"end-streams", "publish-again"}
    unmeasured = {"lake-delay", "lake-conversion", "throttle-forecast"} | {
        f"{name}-delivery" for name in told_by_the_bus
    }
    assert names - set().union(*(alarms for _, _, _, alarms in INCIDENTS)) == unmeasured


# ----------------------------------------------------------------------------------------------------------- notices


def test_a_budget_that_ends_is_told_in_words(incident: Incident) -> None:
    client = incident.client(budget_day=Decimal("0.000001"), currency="USD")
    months = {time.strftime("%Y-%m-", time.gmtime())}
    assert incident.ask(client, 1) == [200]
    months.add(time.strftime("%Y-%m-", time.gmtime()))
    (notice,) = [each.text for each in incident.watch.messages(lambda each: not each.alarm) if not each.alarm]
    assert notice.startswith(f"Client {client.id} has reached 100 percent of its budget (day, since ")
    assert any(notice.startswith(f"(day, since {month}", notice.index("(")) for month in months)
    assert " of 0.000001 USD spent, " in notice
    assert client.key_hash[:12] in notice
    assert notice.endswith("docs/runbooks/budget.md#what-to-look-at")


# ------------------------------------------------------------------------------- what the emulator evaluates itself


def test_the_emulator_itself_raises_and_ends_the_alarm_of_slow_answers(incident: Incident) -> None:
    """Of one metric with one percentile its rough evaluation is right: all dimension sets hold the same values."""
    (alarm,) = [
        each
        for each in incident.watch.definitions({"AlarmFirstChunkSeconds": "1"})
        if each["AlarmName"].endswith("slow-first-chunk")
    ]
    topic = [incident.watch.physical["AlarmTopic"]]
    cloudwatch = incident.aws("cloudwatch")
    understood = {key: value for key, value in alarm.items() if key not in ("AlarmName", "Threshold")}
    cloudwatch.put_metric_alarm(
        AlarmName="slow", Threshold=float(alarm["Threshold"]), AlarmActions=topic, OKActions=topic, **understood
    )
    incident.undo.append(lambda: cloudwatch.delete_alarms(AlarmNames=["slow"]))
    client = incident.client()
    a_server_is_slow(incident)
    incident.watch.messages(lambda each: (each.alarm, each.state) == ("slow", "ALARM"))

    def is_over() -> bool:
        """Quick answers enough that the slow ones are less than one in twenty."""
        incident.ask(client, 8)
        return any((each.alarm, each.state) == ("slow", "OK") for each in incident.watch.messages())

    wait_for(is_over, "the alarm's end")


# ------------------------------------------------------------------------------------------------------- runbooks


def test_dead_letters_are_sent_through_again_as_the_runbook_says(incident: Incident) -> None:
    """record_cost loses its table; what it could not write is in the ledger once the table is back."""
    functions, name = incident.aws("lambda"), incident.watch.physical["RecordCostFunction"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    broken = {"Variables": variables | {"COSTS_TABLE": "gone"}}

    def mend() -> None:
        functions.update_function_configuration(FunctionName=name, Environment={"Variables": variables})

    as_before = fail_at_once(incident, "RecordCost")
    functions.update_function_configuration(FunctionName=name, Environment=broken)
    incident.undo.append(mend)
    client = incident.client()
    assert incident.ask(client, 2) == [200, 200]
    wait_for(lambda: incident.waiting("RecordCostDeadLetterQueue") == 2, "two dead letters")
    assert client.entries() == []
    assert "record-cost-dead-letters" in incident.watch.look({})

    mend()
    as_before()
    said = openai_proxy(incident.stack, "events", "redrive", "record-cost", "--json")
    assert json.loads(said) == {"consumer": "record-cost", "moved": 2}
    assert len(client.wait_for_entries(2)) == 2
    assert incident.waiting("RecordCostDeadLetterQueue") == 0
    assert "record-cost-dead-letters" not in incident.watch.look({})
