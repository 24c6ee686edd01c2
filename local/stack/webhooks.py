"""Webhooks of the local stack. The CloudFormation of the embedded AWS knows no API destinations of EventBridge.

    rule ─▶ input transformer ─▶ a queue in the place of the API destination ─▶ POST ─▶ done │ again │ dead letters

Rule, transformer, header, patience and dead-letter queue are those of the template: `adapted` reads them when the
application is built. Its one rule: what is deployed names no address, so another one can be told while state is kept.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import httpx

_DESTINATION, _CONNECTION, _RULE = "AWS::Events::ApiDestination", "AWS::Events::Connection", "AWS::Events::Rule"
_SECONDS = 5.0
"""EventBridge waits no longer for an answer."""
_TO_BE_REPEATED = (401, 407, 409, 429)
"""Of statuses below 500 (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-api-destinations.html)."""
_POLL_SECONDS = 2
_HIDDEN_SECONDS = 60
_LONGEST_PAUSE = 60
_AGAIN_SECONDS = 5.0
_BATCH = 10


class Destination(NamedTuple):
    """An API destination of the template: `name` and `dead_letters` are logical ids, `parameter` names its address."""

    name: str
    parameter: str
    method: str
    headers: Mapping[str, str]
    dead_letters: str
    most_seconds: int
    most_tries: int


def adapted(template: dict[str, Any]) -> tuple[dict[str, Any], list[Destination]]:
    """A built template with a queue in the place of each API destination, and what those are."""
    resources: dict[str, Any] = template["Resources"]
    destinations = [_destination(name, resources) for name in _of_type(resources, _DESTINATION)]
    gone = _of_type(resources, _CONNECTION)
    kept = {name: each for name, each in resources.items() if name not in gone}
    for destination in destinations:
        condition = {key: value for key, value in resources[destination.name].items() if key == "Condition"}
        kept[destination.name] = {"Type": "AWS::SQS::Queue", **condition}
    return {**template, "Resources": kept}, destinations


def _of_type(resources: Mapping[str, Any], kind: str) -> list[str]:
    """The resources of a type. What a loop makes (`Fn::ForEach`) is a list, and none of these."""
    return [name for name, each in resources.items() if isinstance(each, dict) and _type_of(each) == kind]


def _type_of(resource: Any) -> Any:
    return resource.get("Type")


def _destination(name: str, resources: Mapping[str, Any]) -> Destination:
    properties = resources[name]["Properties"]
    connection = resources[_named(properties["ConnectionArn"])]["Properties"]["AuthParameters"]["ApiKeyAuthParameters"]
    [target] = [
        target
        for rule in _of_type(resources, _RULE)
        for target in resources[rule]["Properties"].get("Targets", [])
        if _named(target["Arn"]) == name
    ]
    return Destination(
        name,
        properties["InvocationEndpoint"]["Ref"],
        properties["HttpMethod"],
        {connection["ApiKeyName"]: connection["ApiKeyValue"]},
        _named(target["DeadLetterConfig"]["Arn"]),
        target["RetryPolicy"]["MaximumEventAgeInSeconds"],
        target["RetryPolicy"]["MaximumRetryAttempts"],
    )


def _named(value: Any) -> str:
    """The resource whose attribute a value is; "" where it is no attribute."""
    got: Any = cast("dict[str, Any]", value).get("Fn::GetAtt") if isinstance(value, dict) else None
    return str(cast("list[Any]", got)[0]) if isinstance(got, list) and got else ""


def _age(message: Mapping[str, Any]) -> float:
    """Seconds since a message was sent."""
    return time.time() - int(message["Attributes"]["SentTimestamp"]) / 1000


class Webhook:
    """Hands what is in a queue to an address. `queues` are the addresses of the queue and its dead-letter queue."""

    def __init__(
        self,
        destination: Destination,
        url: str,
        sqs: Any,
        queues: tuple[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._destination, self._url, self._say = destination, url, say
        self._sqs, (self._queue, self._dead_letters) = sqs, queues

    async def run(self) -> None:
        """Hand over what comes, until cancelled."""
        async with httpx.AsyncClient(timeout=_SECONDS, trust_env=False) as client:
            while True:
                try:
                    messages = await asyncio.to_thread(self.waiting)
                    await asyncio.gather(*(self.hand_over(each, client) for each in messages))
                except Exception as error:  # noqa: BLE001  # the embedded AWS may be on its way down: it says so itself
                    self._say(f"The queue of {self._destination.name} could not be read: {error}.")
                    await asyncio.sleep(_AGAIN_SECONDS)

    def waiting(self) -> list[dict[str, Any]]:
        """Messages that are waiting now; nobody else receives them while they are handed over."""
        found = self._sqs.receive_message(
            QueueUrl=self._queue,
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=_POLL_SECONDS,
            VisibilityTimeout=_HIDDEN_SECONDS,
            AttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        return found.get("Messages", [])

    async def hand_over(self, message: Mapping[str, Any], client: httpx.AsyncClient) -> None:
        """Post one message. If that fails, it is hidden and comes again, or goes to the dead letters."""
        destination, tries = self._destination, int(message["Attributes"]["ApproximateReceiveCount"])
        said = await self._posted(message["Body"], client)
        if said == "":
            return await self._done(message)
        is_old = _age(message) >= destination.most_seconds or tries > destination.most_tries
        if is_old or said.startswith("no "):
            self._say(
                f"{destination.name}: {self._url} {said.removeprefix('no ')}: given up, in its dead-letter queue."
            )
            await asyncio.to_thread(self._sqs.send_message, QueueUrl=self._dead_letters, MessageBody=message["Body"])
            return await self._done(message)
        pause = min(_LONGEST_PAUSE, 2 ** min(tries, 10))
        if tries == 1:
            self._say(f"{destination.name}: {self._url} {said}: it is asked again, for up to an hour.")
        change = self._sqs.change_message_visibility
        receipt = message["ReceiptHandle"]
        await asyncio.to_thread(change, QueueUrl=self._queue, ReceiptHandle=receipt, VisibilityTimeout=pause)
        return None

    async def _posted(self, body: str, client: httpx.AsyncClient) -> str:
        """Post a message. Returns what went wrong, or ""; it begins with `no ` where another try would not help."""
        headers = {
            "content-type": "application/json; charset=utf-8",
            "user-agent": "Amazon/EventBridge/ApiDestinations",
            **self._destination.headers,
        }
        try:
            answer = await client.request(self._destination.method, self._url, content=body, headers=headers)
        except httpx.HTTPError as error:
            return f"does not answer ({type(error).__name__})"
        if answer.is_success:
            return ""
        is_repeated = answer.status_code >= 500 or answer.status_code in _TO_BE_REPEATED
        return f"{'' if is_repeated else 'no '}answers {answer.status_code}"

    async def _done(self, message: Mapping[str, Any]) -> None:
        receipt = message["ReceiptHandle"]
        await asyncio.to_thread(self._sqs.delete_message, QueueUrl=self._queue, ReceiptHandle=receipt)
