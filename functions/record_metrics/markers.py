"""Which events have been counted, and which run counts which event now. One rule: a run claims an event before it
publishes the event's figures.

CloudWatch can neither take a value back nor recognise one that it has seen, so this table remembers for it. One batch
of messages is a run. It claims its events by a conditional write, for as long as an invocation may last; when
CloudWatch has the figures, the run is done, and so is every event that it claimed. A run that dies leaves claims that
end.

    event   record_metrics#<ulid>        owner: its run, until: the end of the claim (Unix seconds)
            record_metrics#<ulid>#<id>   that it has arrived from the request <id>, if that is another one
    run     record_metrics#run#<owner>   is there when CloudWatch has the figures
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, is_proven, is_transient
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_attribute, to_item
from openai_proxy.refusals import CONDITION, is_not_now, reason_codes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import KeysAndAttributesUnionTypeDef, TransactWriteItemTypeDef

MOST_ITEMS = 100
"""DynamoDB's limit for the items of a transaction, and for those of one reading."""
ATTEMPTS = 5
CLAIM_SECONDS = 60
"""Longer than an invocation of the consumer, and shorter than a message waits to come again: a test holds both."""

_PREFIX = "record_metrics#"
_RUN = f"{_PREFIX}run#"


class MarkersUnavailableError(Exception):
    """The table did not answer for every event, although it was asked again. Nothing was counted: the batch has to come
    again.
    """


class Run(NamedTuple):
    """Who counts: `owner` is the run's own id. `now` and `expires_at` (the end of what is written) in Unix seconds."""

    owner: str
    now: int
    expires_at: int


class Claimed(NamedTuple):
    """What became of the ids that a run wanted to claim. Those in neither set have been counted already.

    `mine`: the run counts them. `busy`: another run counts them now, or died while it did: they have to come again.
    """

    mine: set[str]
    busy: set[str]


class Markers:
    """The table of markers."""

    def __init__(self, client: "DynamoDBClient", table: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._table = table
        self._pause = pause

    def claim(self, ids: Iterable[str], run: Run) -> Claimed:
        """Claim those of `ids` that nobody has counted. Raises MarkersUnavailableError and botocore's errors."""
        claimed, every = Claimed(set(), set()), list(ids)
        for start in range(0, len(every), MOST_ITEMS):
            self._claim(dict.fromkeys(every[start : start + MOST_ITEMS]), run, claimed)
        return claimed

    def done(self, run: Run) -> None:
        """Note that CloudWatch has the figures of a run. Raises MarkersUnavailableError and botocore's errors."""
        item = to_item({"id": f"{_RUN}{run.owner}", "expires_at": run.expires_at})
        if not is_proven(self._client.put_item(TableName=self._table, Item=item, **PROOF)):
            raise MarkersUnavailableError

    def _claim(self, wanted: dict[str, str | None], run: Run, claimed: Claimed) -> None:
        """Claim the ids in `wanted` in one transaction. The value of each is the dead run whose claim it replaces, or
        "".
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(attempt)
            refused = self._write(wanted, run)
            if refused is None:
                claimed.mine.update(wanted)
                return
            held = self._owners(refused)
            done = self._done({owner for owner, _ in held.values()})
            for name in refused:
                owner, until = held.get(name, (None, 0))
                if name in held and (owner == run.owner or owner in done or until > run.now):
                    del wanted[name]
                    if owner == run.owner:  # the answer to a claim was lost
                        claimed.mine.add(name)
                    elif owner not in done:
                        claimed.busy.add(name)
                else:
                    wanted[name] = owner
            if not wanted:
                return
        raise MarkersUnavailableError

    def _write(self, wanted: Mapping[str, str | None], run: Run) -> list[str] | None:
        """Write all claims or none. Returns None if they are written, else the claims that others hold; an empty set if
        the write failed for another reason.
        """
        items = [claim_of(self._table, name, seen, run) for name, seen in wanted.items()]
        try:
            answer = self._client.transact_write_items(TransactItems=items, **PROOF)
        except ClientError as error:
            codes = reason_codes(error.response)
            refused = [name for name, code in zip(wanted, codes, strict=False) if code == CONDITION]
            if not refused and not any(map(is_transient, codes)) and not is_not_now(error.response):
                raise
            return refused
        return None if is_proven(answer, several=True) else list(wanted)

    def _owners(self, ids: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Which run has claimed each of `ids`, and until when. "" stands for a run from before runs had names."""
        found = self._items([f"{_PREFIX}{name}" for name in ids])
        return {
            key.removeprefix(_PREFIX): (item.get("owner", ""), int(item.get("until", 0))) for key, item in found.items()
        }

    def _done(self, owners: set[str]) -> set[str]:
        """Which runs are done."""
        found = self._items([f"{_RUN}{owner}" for owner in owners if owner])
        return {key.removeprefix(_RUN) for key in found} | {""}

    def _items(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The items of these keys that are there, by key."""
        found: dict[str, dict[str, Any]] = {}
        wanted: KeysAndAttributesUnionTypeDef | None = None
        if keys:
            wanted = {"Keys": [to_item({"id": key}) for key in keys], "ConsistentRead": True}
        for attempt in range(ATTEMPTS):
            if not wanted:
                return found
            if attempt:
                self._pause(attempt)
            response = self._client.batch_get_item(RequestItems={self._table: wanted})
            if not {"Responses", "UnprocessedKeys"} <= response.keys():
                # an unknown answer counts as a failure: otherwise all events would be counted twice
                continue
            for item in response.get("Responses", {}).get(self._table, []):
                read = {name: from_attribute(value) for name, value in item.items()}
                found[str(read["id"])] = read
            wanted = response.get("UnprocessedKeys", {}).get(self._table)
        if wanted:
            raise MarkersUnavailableError
        return found


def claim_of(table: str, name: str, seen: str | None, run: Run) -> "TransactWriteItemTypeDef":
    """The write that claims one event, if nobody has claimed it, or only the run `seen`, which is dead."""
    item = {
        "id": f"{_PREFIX}{name}",
        "owner": run.owner,
        "until": run.now + CLAIM_SECONDS,
        "expires_at": run.expires_at,
    }
    put: Any = {"TableName": table, "Item": to_item(item), "ConditionExpression": "attribute_not_exists(id)"}
    if seen is not None:
        put |= {
            "ConditionExpression": "attribute_not_exists(id) OR #owner = :seen",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": to_item({":seen": seen}),
        }
    return {"Put": put}
