"""The overlays of client keys and users in the key table: what guards have done about each.

Its one rule: an act is written once, however often its reason is noticed and by whomever. When a person has undone an
act, the same guard does not act again before that act would have ended.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.guards.action import Action
from openai_proxy.guards.overlay import KEPT, MOST_ACTS, overlay_key
from openai_proxy.refusals import code_of

from apply_guards.evidence import ContendedError
from apply_guards.versions import put_over

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_MOST_TRIES = 6

Begun = Literal["new", "untold", "told", "undone"]
"""What there was of an act before: nothing; the act, of which nobody was told; all of it; or a person has undone it."""


class Overlays:
    """The items in the key table. Every method raises NoAnswerError, botocore's errors and ContendedError."""

    def __init__(self, client: "DynamoDBClient", name: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._name = name
        self._pause = pause

    def begin(self, action: Action, now: float) -> Begun:
        """Write an act, unless it is written already or a person has undone an equal one. Returns which of these it
        was.
        """
        key = {"key_hash": overlay_key(action.request.key_id)}
        for attempt in range(1, _MOST_TRIES + 1):
            answer = self._client.get_item(TableName=self._name, Key=to_item(key), ConsistentRead=True, **PROOF)
            item = from_item(proven(answer).get("Item", {}))
            acts: dict[str, Any] = item.get("acts", {})
            if action.id in acts:
                return "told" if acts[action.id].get("told") or "undone_at" in acts[action.id] else "untold"
            if any(_rules_out(act, action) for act in acts.values()):
                return "undone"
            kept = _kept({**acts, action.id: _stored(action)}, now)
            expires = int(max(float(act["until"]) for act in kept.values())) + KEPT
            version = int(item.get("version", 0))
            about = {"client_id": action.request.client_id, "version": version + 1, "expires_at": expires}
            if put_over(self._client, self._name, {**key, **about, "acts": kept}, version, "key_hash"):
                return "new"
            self._pause(attempt)
        raise ContendedError(action.guard)

    def told(self, action: Action) -> None:
        """Remember that people were told of an act."""
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key=to_item({"key_hash": overlay_key(action.request.key_id)}),
                UpdateExpression="SET #acts.#id.#told = :told ADD #version :one",
                ConditionExpression="attribute_exists(#acts.#id)",
                ExpressionAttributeNames={"#acts": "acts", "#id": action.id, "#told": "told", "#version": "version"},
                ExpressionAttributeValues=to_item({":told": True, ":one": 1}),
                **PROOF,
            )
        except ClientError as error:
            if code_of(error.response) != "ConditionalCheckFailedException":
                raise
            return  # the act was so old that it has been removed meanwhile
        proven(answer)


def _stored(action: Action) -> dict[str, Any]:
    return {
        "guard": action.guard,
        "act": action.doing.act,
        "limits": dict(action.doing.limits),
        "at": Decimal(f"{action.at:.3f}"),
        "until": Decimal(f"{action.until:.3f}"),
        "reason": action.reason,
        "told": False,
    }


def _rules_out(act: Mapping[str, Any], action: Action) -> bool:
    """Whether a person has undone an act of the same guard that would still go on."""
    return "undone_at" in act and act["guard"] == action.guard and float(act["until"]) > action.at


def _kept(acts: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The acts to keep: those that ended more than a day ago go. If there are still more than an item should hold,
    those that end last stay.
    """
    recent = {act_id: act for act_id, act in acts.items() if float(act["until"]) + KEPT > now}
    last = sorted(recent, key=lambda act_id: recent[act_id]["until"])[-MOST_ACTS:]
    return {act_id: recent[act_id] for act_id in last}
