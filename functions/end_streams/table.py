"""The streams table as `end_streams` sees it: the state of a stream, never its content.

Its one rule: every call names the attributes that it wants, and the answer's content is never among them. The
function's role allows no others.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.streams import KILLED, LEASE_SECONDS, STATE
from openai_proxy.refusals import CONDITION, code_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_NAMES = {"#status": "status", "#events": "events"}


class Standing(NamedTuple):
    """The state of a stream: until when its writer has promised to be there (Unix seconds), and the event that is still
    to be published.
    """

    lease_until: float
    unfinished: str
    is_over: bool
    events: int
    """The number of its last event, once it is over."""


class StreamsTable:
    """Calls raise botocore's errors, and NoAnswerError."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client: Any = client
        self._name = name

    def standing(self, stream_id: str) -> Standing | None:
        """The state of a stream; None where nothing is to be published, or there is no such stream."""
        answer = self._client.get_item(
            TableName=self._name,
            Key=_key(stream_id),
            ProjectionExpression="#status, lease_until, unfinished, #events",
            ExpressionAttributeNames=_NAMES,
            **PROOF,
        )
        item = from_item(proven(answer).get("Item", {}))
        if not item.get("unfinished"):
            return None
        is_over = item["status"] != "in_progress"
        return Standing(float(item["lease_until"]) / 1000, item["unfinished"], is_over, int(item.get("events", 0)))

    def last_event(self, stream_id: str) -> int:
        """The number of the last event that was written; 0 where there is none."""
        answer = self._client.query(
            TableName=self._name,
            KeyConditionExpression="stream_id = :id AND #event < :state",
            ExpressionAttributeNames={"#event": "event", "#last": "last"},
            ExpressionAttributeValues=to_item({":id": stream_id, ":state": STATE}),
            ProjectionExpression="#last",
            Select="SPECIFIC_ATTRIBUTES",
            ScanIndexForward=False,
            Limit=1,
            **PROOF,
        )
        found = proven(answer).get("Items", [])
        return int(from_item(found[0]).get("last", 0)) if found else 0

    def take_over(self, stream_id: str, events: int, now: float) -> bool:
        """End a stream whose writer has not kept its promise. The caller then has LEASE_SECONDS to publish its event.

        False where somebody else is about to publish it, or has done so, or the writer is back.
        """
        changes = {"status": "failed", "error": KILLED, "events": events}
        values = {f":{name}": value for name, value in changes.items()}
        values |= {":lease": int((now + LEASE_SECONDS) * 1000), ":none": "", ":now": int(now * 1000)}
        update = "SET #status = :status, #error = :error, #events = :events, lease_until = :lease"
        names = {**_NAMES, "#error": "error"}
        return self._changed(stream_id, update, "unfinished > :none AND lease_until < :now", values, names)

    def told(self, stream_id: str) -> None:
        """Remember that the event of a stream has been published."""
        values = {":none": ""}
        self._changed(stream_id, "SET unfinished = :none", "unfinished > :none", values, {})

    def _changed(
        self, stream_id: str, update: str, condition: str, values: dict[str, Any], names: dict[str, str]
    ) -> bool:
        """Change the state if `condition` holds. Returns whether it held."""
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key=_key(stream_id),
                UpdateExpression=update,
                ConditionExpression=condition,
                ExpressionAttributeValues=to_item(values),
                **({"ExpressionAttributeNames": names} if names else {}),
                **PROOF,
            )
        except ClientError as error:
            if code_of(error.response) == CONDITION + "Exception":
                return False
            raise
        proven(answer)
        return True


def _key(stream_id: str) -> dict[str, Any]:
    return to_item({"stream_id": stream_id, "event": STATE})
