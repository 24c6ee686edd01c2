"""Ledger entries as JSON lines for the lake's Firehose stream, which makes Parquet of them.

One rule: an entry arrives at least once. Copies are told apart by `id`, and the view `inferences` keeps one of each.

Several entries share a Firehose record: it is paid by 5 KB begun, and may hold any number of JSON objects one after
another (https://docs.aws.amazon.com/firehose/latest/dev/record-format-conversion.html).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

from openai_proxy.backoff import pause_before_retry
from openai_proxy.events.envelope import rfc3339
from openai_proxy.ledger.entries import Key, LedgerEntry

MOST_BYTES = 1_000_000
"""Of one record. Firehose takes 1,000 KiB."""

MOST_RECORDS = 4
"""Of one call. Firehose takes 500, and 4 MiB."""

ATTEMPTS = 4

NOT_IN_LAKE = frozenset({"pk", "sk", "month", "expires_at", "limits", "counted_in", "request_digest"})
"""Attributes of an entry that say nothing there: key and month are others', and the lake forgets by other rules; what
passed without a check of its limits is for whoever watches the proxy, and costs what it costs; what counts in another
entry has used nothing here; by its digest guards know a request again, and nobody else should."""

_RENAMED = {"timestamp": "occurred_at"}

Unsent = dict[Key, str]
"""Entries that the stream did not take, and why."""


class Firehose(Protocol):
    """The part of boto3's Firehose client that is used."""

    def put_record_batch(
        self,
        *,
        DeliveryStreamName: str,  # noqa: N803 - boto's names
        Records: Sequence[Mapping[str, bytes]],  # noqa: N803
    ) -> Mapping[str, Any]:
        """Records → an answer for each, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Pack:
    """One Firehose record, and the entries in it."""

    keys: tuple[Key, ...]
    data: bytes


def lake_row(entry_id: str, attributes: Mapping[str, Any], recorded_at: str, revision: int = 0) -> dict[str, Any]:
    """A ledger entry as a row of the lake's table `entries`; what the entry has not is not there.

    Money is text: JSON readers make doubles of numbers, and the view makes decimal(38, 18) of text. `revision` is 0 for
    what record_cost recorded; of several rows with one id the highest revision holds, so an entry that is priced again
    is sent again with a higher one. `recorded_at` (RFC 3339) decides among equals: the first holds, as in the ledger.
    Numbers may be Decimals, as they are when an entry was read from the ledger: the row is the same.
    """
    kept = {name: value for name, value in attributes.items() if name not in NOT_IN_LAKE}
    row = {_RENAMED.get(name, name): _plain(name, value) for name, value in kept.items()}
    return {"id": entry_id, **row, "recorded_at": recorded_at, "revision": revision}


def json_line(row: Mapping[str, Any]) -> bytes:
    """A row as Firehose reads it."""
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def packed(lines: Iterable[tuple[Key, bytes]], most_bytes: int = MOST_BYTES) -> Iterator[Pack]:
    """Lines together in as few records as hold them."""
    keys: list[Key] = []
    parts: list[bytes] = []
    size = 0
    for key, line in lines:
        if parts and size + len(line) > most_bytes:
            yield Pack(tuple(keys), b"".join(parts))
            keys, parts, size = [], [], 0
        keys.append(key)
        parts.append(line)
        size += len(line)
    if parts:
        yield Pack(tuple(keys), b"".join(parts))


class Lake:
    """The Firehose stream into the lake."""

    def __init__(
        self,
        client: Firehose,
        stream: str,
        pause: Callable[[int], None] = pause_before_retry,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._stream = stream
        self._pause = pause
        self._now = now

    def put(self, entries: Iterable[LedgerEntry]) -> Unsent:
        """Send entries. Returns those that were not taken: to be sent again later. Raises botocore's errors."""
        return self._put((each.key, each.attributes, 0) for each in entries)

    def put_again(self, items: Iterable[Mapping[str, Any]]) -> Unsent:
        """Send entries as read from the ledger, with their `revision`. Returns and raises as `put`."""
        return self._put(((item["pk"], item["sk"]), item, int(item.get("revision", 0))) for item in items)

    def _put(self, entries: Iterable[tuple[Key, Mapping[str, Any], int]]) -> Unsent:
        recorded_at = rfc3339(self._now().timestamp())
        lines = ((key, json_line(lake_row(key[1], each, recorded_at, revision))) for key, each, revision in entries)
        packs = list(packed(lines))
        unsent: Unsent = {}
        for start in range(0, len(packs), MOST_RECORDS):
            unsent |= self._send(packs[start : start + MOST_RECORDS])
        return unsent

    def _send(self, packs: Sequence[Pack]) -> Unsent:
        reasons: list[str] = []
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._client.put_record_batch(
                DeliveryStreamName=self._stream, Records=[{"Data": pack.data} for pack in packs]
            )
            told: Sequence[Mapping[str, Any]] = answer.get("RequestResponses") or ()
            results = told if len(told) == len(packs) else [dict[str, Any]()] * len(packs)
            refused = [
                (pack, each.get("ErrorCode") or "no answer")
                for pack, each in zip(packs, results, strict=True)
                if each.get("ErrorCode") or not (isinstance(record := each.get("RecordId"), str) and record)
            ]
            packs, reasons = [pack for pack, _ in refused], [reason for _, reason in refused]
            if not packs:
                break
            if attempt < ATTEMPTS:
                self._pause(attempt)
        return {key: f"Firehose: {reason}" for pack, reason in zip(packs, reasons, strict=True) for key in pack.keys}


def _plain(name: str, value: Any) -> Any:
    if name == "units":
        return {unit: int(count) for unit, count in value.items()}
    if not isinstance(value, Decimal):
        return value
    if name.startswith("cost"):
        return f"{value:f}"
    is_time = name.endswith("duration") or name.startswith("time_") or name == "retry_after"
    return float(value) if is_time else int(value)
