"""Writes ledger entries and rollups. One rule: an entry and its share of its rollups are written together or not.

A transaction puts N entries, each only if it is not there yet, and adds their sums to M rollups. If entries are there
already the transaction is cancelled and says which: those are duplicates, are dropped, and the rest is tried again. So
an event counts once, however often and in whatever order it comes. What several events tell of counts once too: their
entries claim it in the same transaction, and where others have, `claims` says which of them count.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from openai_proxy.aws_answers import PROOF, TRANSIENT, NoAnswerError, is_proven
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.ledger import claims
from openai_proxy.ledger.claims import Telling
from openai_proxy.ledger.division import Division, is_passing
from openai_proxy.ledger.entries import Key, LedgerEntry, Rollup
from openai_proxy.ledger.shards import group_of, is_divided
from openai_proxy.ledger.transactions import Union, build_transaction
from openai_proxy.refusals import CONDITION, DONE, code_of, is_not_now, reason_codes

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MOST_ITEMS = 100
"""DynamoDB's limit for one transaction."""

ATTEMPTS = 6

BUSY_AFTER = 3
"""Attempts of one write that were refused for load until its groups are divided: two that meet by chance need fewer."""

SEVERAL = 3
"""So many entries of a client's day does a write bring that divides it: what comes alone is not too much."""

DUPLICATE = "duplicate"
CLAIMED = "claimed"
_DIVIDED = "divided"
_LOAD = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Why DynamoDB refuses an item that too much is written to at a time."""
_LOAD_OF_CALL = frozenset({"ThrottlingException", "ProvisionedThroughputExceededException"})

_MOST_STEPS = 8
"""From a claim to the entries that count: one for each telling that said more than the one before."""

Write = TypeVar("Write")

Refused = dict[Key, str]
"""Entries that were not written now, and why: DUPLICATE when they are in the table already, CLAIMED when another entry
says what they say."""


class CostsTable:
    """The table of ledger entries and rollups."""

    def __init__(self, client: "DynamoDBClient", name: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._name = name
        self._pause = pause
        self._division = Division(client, name)

    def record(self, entries: Iterable[LedgerEntry]) -> Refused:
        """Write entries that are not there yet. Returns duplicates, and those that have to be tried again later."""
        distinct = {entry.key: entry for entry in entries}
        plain = [entry for entry in distinct.values() if not entry.claims]
        self._division.forget()
        refused: Refused = {}
        for transaction in in_transactions(entry for entry in plain if not self._division.knows(entry)):
            refused |= self._write(transaction)
        busy = [entry for entry in plain if self._division.knows(entry) or refused.get(entry.key) == _DIVIDED]
        refused = {key: reason for key, reason in refused.items() if reason != _DIVIDED}
        refused |= self._record_divided(busy) if busy else {}
        for claiming in _by_claims(distinct.values()):
            written = self._write(claiming)
            refused |= self._unite(claiming) if CLAIMED in written.values() else written
        return refused

    def taken_back_by(self, entry: LedgerEntry) -> list[dict[str, Any]]:
        """The entries that are taken back because of what is claimed here, as they are in the table."""
        keys = claims.taken_back_by(item for key in entry.claims if (item := self._read(key)))
        return [item for key in keys if (item := self._read(key))]

    def _record_divided(self, entries: Sequence[LedgerEntry]) -> Refused:
        """Write entries of groups that are divided."""
        try:
            self._division.learn(entries)
            refused = dict.fromkeys(self._division.written_before(entries), DUPLICATE)
        except (NoAnswerError, ClientError) as error:
            if isinstance(error, ClientError) and not is_passing(error):
                raise
            return {entry.key: str(error) for entry in entries}
        new = [entry for entry in entries if entry.key not in refused]
        placed = [self._division.place(entry) for entry in new]
        key_of = {each.key: entry.key for each, entry in zip(placed, new, strict=True)}
        for transaction in in_transactions(placed):
            refused |= {key_of[key]: reason for key, reason in self._write(transaction).items()}
        return refused

    def _unite(self, entries: Sequence[LedgerEntry]) -> Refused:
        """Write entries that tell of what others tell of too, and take those back; or, if they say no more, do not."""
        last_error = ""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                union = self._union_with(entries)
                if union.is_there_already or is_proven(
                    self._client.transact_write_items(TransactItems=union.items(self._name), **PROOF), several=True
                ):
                    return {} if union.winner is union.own else {entry.key: CLAIMED for entry in entries}
                last_error = "DynamoDB did not say that it has written"
            except NoAnswerError as error:
                last_error = str(error)
            except ClientError as error:
                last_error = str(error)
                code = code_of(error.response)
                if code == "ValidationException":  # it is too much for one transaction
                    break
                if not is_passing(error):
                    raise
            if attempt < ATTEMPTS:
                self._pause(attempt)
        return {entry.key: last_error for entry in entries}

    def _union_with(self, entries: Sequence[LedgerEntry]) -> Union:
        """What there is to be done about entries that others claim what they claim."""
        own = claims.telling_of(entries)
        held = {key: item for key in entries[0].claims if (item := self._read(key))}
        others = {telling.first: telling for telling in map(self._telling, held.values())}
        if others.pop(own.first, None):  # the entry was written, but the answer to that was lost
            return Union(tuple(entries), own, own, (), held, is_written=True)
        winner = claims.most_telling(own, list(others.values())) if others else own
        losers = tuple(each for key, each in others.items() if key != winner.first)
        return Union(tuple(entries), own, winner, losers, held)

    def _telling(self, claim: Mapping[str, Any]) -> Telling:
        """The entries that count for a claim."""
        owner, ids = claims.owner_of(claim)
        for _ in range(_MOST_STEPS):
            items = (self._read((owner, each)) for each in ids) if owner else ()
            telling = Telling(owner, ids, tuple(item for item in items if item))
            if telling.counted_in is None:
                return telling
            owner, ids = telling.counted_in
        raise NoAnswerError("the entries of a claim lead to others again and again")

    def _read(self, key: Key) -> dict[str, Any] | None:
        answer = self._client.get_item(
            TableName=self._name, Key=to_item({"pk": key[0], "sk": key[1]}), ConsistentRead=True, **PROOF
        )
        if not is_proven(answer):
            raise NoAnswerError("DynamoDB did not say that it has read")
        item = answer.get("Item")
        return from_item(item) if item else None

    def _write(self, entries: Sequence[LedgerEntry]) -> Refused:
        refused: Refused = {}
        last_error = ""
        attempt = 0
        token = str(uuid.uuid4())
        while entries and attempt < ATTEMPTS:
            items = build_transaction(self._name, entries)
            busy: Sequence[LedgerEntry] = ()
            try:
                # With the same token, a transaction that was written but not confirmed is a success, and no duplicate.
                answer = self._client.transact_write_items(TransactItems=items, ClientRequestToken=token, **PROOF)
            except ClientError as error:
                if code_of(error.response) == "ValidationException" and len(entries) > 1 and not entries[0].claims:
                    # One entry has a fault and DynamoDB does not say which: halve the group, so that the others get
                    # through.
                    middle = len(entries) // 2
                    return refused | self._write(entries[:middle]) | self._write(entries[middle:])
                settled, busy = _settled(error, entries), _busy(error, entries)
                last_error = str(error)
            else:
                if is_proven(answer, several=True):
                    return refused
                settled, last_error = {}, "DynamoDB did not say that it has written"
            if not settled:
                attempt += 1
                if attempt < ATTEMPTS:
                    self._pause(attempt)
                    # After the pause: what was refused has used up what the partition takes at that moment.
                    settled = self._divide(busy, entries) if attempt >= BUSY_AFTER else {}
            refused |= settled
            entries = [entry for entry in entries if entry.key not in settled]
            in_lanes = bool(busy) and is_divided(busy[0])
            if settled or in_lanes:
                token = str(uuid.uuid4())
            entries = self._division.step_aside(entries) if in_lanes else entries
        return refused | {entry.key: last_error for entry in entries}

    def _divide(self, busy: Iterable[LedgerEntry], entries: Iterable[LedgerEntry]) -> Refused:
        """Divide the groups of those `entries` that are refused for load. Returns what belongs into shards now."""
        of_days = Counter(entry.key[0] for entry in entries)
        too_many = [entry for entry in busy if of_days[entry.key[0]] >= SEVERAL]
        of_groups = {group: entry for entry in too_many if (group := group_of(entry))}
        divided = {group for group, entry in of_groups.items() if self._division.divide(entry)}
        return {entry.key: _DIVIDED for entry in too_many if group_of(entry) in divided}


def in_transactions(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Pack entries so that each pack, with the rollups it adds to, fits into one transaction.

    At worst an entry has two rollups of its own: then 33 fit.
    """
    return packs_of(entries, lambda entry: entry.rollups)


def packs_of(writes: Iterable[Write], rollups_of: Callable[[Write], Iterable[Rollup]]) -> Iterator[list[Write]]:
    """Pack what is written to one item each, so that a pack and all its rollups fit into one transaction."""
    pack: list[Write] = []
    rollups: set[Key] = set()
    for write in writes:
        own = {rollup.key for rollup in rollups_of(write)}
        if len(pack) + 1 + len(rollups | own) > MOST_ITEMS:
            yield pack
            pack, rollups = [], set()
        pack.append(write)
        rollups |= own
    if pack:
        yield pack


def _by_claims(entries: Iterable[LedgerEntry]) -> Iterable[list[LedgerEntry]]:
    """Those that claim anything: together those of one event, as the models of a batch are."""
    found: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.claims:
            found.setdefault(entry.event_id, []).append(entry)
    return found.values()


def _settled(error: ClientError, entries: Sequence[LedgerEntry]) -> dict[Key, str]:
    """The entries that are settled after `error`, and why: DUPLICATE, or what the table has against them.

    Empty when nothing is wrong with any of them: try again. Raises `error` when it is about access or a missing table.
    """
    codes, code = reason_codes(error.response), code_of(error.response)
    if not codes:
        if is_not_now(error.response):
            return {}
        if code == "ValidationException":
            return {entry.key: str(error) for entry in entries}
        raise error
    claims = codes[len(entries) :][: len(entries[0].claims)]
    if CONDITION in claims:
        own = zip(entries, codes, strict=False)
        return {entry.key: DUPLICATE if code == CONDITION else CLAIMED for entry, code in own}
    settled: dict[Key, str] = {}
    for entry, code, of_rollups in _codes_of_each(codes, entries):
        if code == CONDITION:
            settled[entry.key] = DUPLICATE
        elif CONDITION in of_rollups:
            settled[entry.key] = _DIVIDED
        elif refusals := {code, *of_rollups} - TRANSIENT - {DONE}:
            settled[entry.key] = ", ".join(sorted(refusals))
    return settled


def _busy(error: ClientError, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """The entries that are refused because too much is written to their partitions or rollups at a time."""
    codes = reason_codes(error.response)
    if not codes:
        return list(entries) if code_of(error.response) in _LOAD_OF_CALL else []
    of_each = [*_codes_of_each(codes, entries)]
    partitions = {entry.key[0] for entry, code, _ in of_each if code in _LOAD}
    return [entry for entry, _, of_rollups in of_each if entry.key[0] in partitions or of_rollups & _LOAD]


def _codes_of_each(codes: Sequence[str], entries: Sequence[LedgerEntry]) -> Iterator[tuple[LedgerEntry, str, set[str]]]:
    """Each entry with its own code, and those of its rollups."""
    rollups = dict.fromkeys(rollup.key for entry in entries for rollup in entry.rollups)
    of_rollups = dict(zip(rollups, codes[len(entries) + len(entries[0].claims) :], strict=False))
    for entry, code in zip(entries, codes, strict=False):
        yield entry, code, {of_rollups.get(rollup.key, DONE) for rollup in entry.rollups}
