"""The costs table as record_cost's boto3 client shows it, in simulated time.

One rule: units are those of the requests that the code makes. An entry is there once; whoever puts it again hears so.
Of an item is kept how large it is and, but for entries, which attributes it has: more than that no condition asks for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError
from openai_proxy.refusals import CONDITION, DONE

from bench.scale.dynamodb import REFUSAL_SECONDS, WRITE_SECONDS, TableModel
from bench.units import BLOCK, size_of

READ_BLOCK = 4096
_ABSENT = "attribute_not_exists("
_PROOF: Mapping[str, Any] = {"ConsumedCapacity": {"TableName": "costs"}}
_PROOF_OF_SEVERAL: Mapping[str, Any] = {"ConsumedCapacity": [{"TableName": "costs"}]}


class CostsClient:
    """As much of boto3's client as the ledger uses. `on_entry` hears the sort key of each entry that is put."""

    def __init__(self, table: TableModel, on_entry: Callable[[str], None]) -> None:
        self._table = table
        self._on_entry = on_entry
        self._sizes: dict[str, int] = {}
        self._attributes: dict[str, set[str]] = {}
        self._last: dict[str, str] = {}
        """The greatest sort key of an entry in each partition."""

    def transact_write_items(self, *, TransactItems: Sequence[Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Raises ClientError, with a reason for each item, as DynamoDB does."""
        writes = [_Write(each, self._sizes) for each in TransactItems]
        codes = {write.name: CONDITION for write in writes if not self._holds(write)}
        if codes:
            self._table.simulation.sleep(REFUSAL_SECONDS)
        else:
            codes = self._table.transact({write.name: (write.partition, 2 * write.units) for write in writes})
            # What was so when the transaction began may not be so when it ends: then it was held, and is refused.
        if codes:
            reasons = [{"Code": codes.get(write.name, DONE)} for write in writes]
            cancelled: Any = {"Error": {"Code": "TransactionCanceledException", "Message": ""}}
            raise ClientError(cancelled | {"CancellationReasons": reasons}, "TransactWriteItems")
        for write in writes:
            self._apply(write)
        return {**_PROOF_OF_SEVERAL}

    def transact_get_items(self, *, TransactItems: Sequence[Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's
        """Which items are there. Raises ClientError when a partition is too busy."""
        keys = [each["Get"]["Key"] for each in TransactItems]
        for key in keys:
            self._read(key["pk"]["S"], 2)
        self._table.simulation.sleep(WRITE_SECONDS)
        found = [{"Item": {"sk": key["sk"]}} if _name(key) in self._sizes else {} for key in keys]
        return {"Responses": found, **_PROOF_OF_SEVERAL}

    def get_item(self, *, Key: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's
        """No item: what is asked for here is what nobody has claimed. Raises ClientError when it is throttled."""
        self._read(Key["pk"]["S"], 1)
        self._table.simulation.sleep(WRITE_SECONDS)
        return {**_PROOF}

    def query(self, *, ExpressionAttributeValues: Mapping[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's
        """The last entry of a partition. Raises ClientError when it is too busy."""
        partition = ExpressionAttributeValues[":pk"]["S"]
        self._read(partition, 1)
        self._table.simulation.sleep(WRITE_SECONDS)
        last = self._last.get(partition)
        return {"Items": [{"sk": {"S": last}}] if last else [], **_PROOF}

    def _read(self, partition: str, units: float) -> None:
        if not self._table.admit_read(partition, units):
            self._table.simulation.sleep(REFUSAL_SECONDS)
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": ""}}, "GetItem")

    def _holds(self, write: "_Write") -> bool:
        """Whether the attribute that must not be there is missing."""
        if write.absent in ("", "pk"):
            return not write.absent or write.name not in self._sizes
        return write.absent not in self._attributes.get(write.name, ())

    def _apply(self, write: "_Write") -> None:
        self._sizes[write.name] = write.size
        if write.is_entry:
            self._last[write.partition] = max(write.sort_key, self._last.get(write.partition, ""))
            self._on_entry(write.sort_key)
        else:
            self._attributes.setdefault(write.name, set()).update(write.attributes)


class _Write:
    """One action of a transaction: the item's name and partition, its size when it is done, and its condition.

    `absent` is the attribute that the item must not have.
    """

    def __init__(self, action: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        [(kind, arguments)] = action.items()
        is_put = kind == "Put"
        key = arguments["Item"] if is_put else arguments["Key"]
        names: Mapping[str, str] = arguments.get("ExpressionAttributeNames", {})
        self.partition, self.sort_key = key["pk"]["S"], key["sk"]["S"]
        self.name = _name(key)
        condition: str = arguments.get("ConditionExpression", "")
        self.absent = condition.removeprefix(_ABSENT).removesuffix(")")
        self.absent = names.get(self.absent, self.absent)
        self.is_entry = is_put and self.absent == "pk"
        added = arguments["Item"] if is_put else _added(arguments)
        self.attributes = added.keys()
        self.size = max(sizes.get(self.name, 0), size_of(added))

    @property
    def units(self) -> int:
        """Write units, of a write outside of a transaction."""
        return math.ceil(self.size / BLOCK)


def _name(key: Mapping[str, Any]) -> str:
    return f"{key['pk']['S']}\0{key['sk']['S']}"


def _added(update: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the item after an update of one that was not there: key, names and sums."""
    return {**update["Key"], **{name[1:]: value for name, value in update["ExpressionAttributeValues"].items()}}
