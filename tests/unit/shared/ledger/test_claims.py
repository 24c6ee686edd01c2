"""Which of several entries that tell of the same thing count, and what becomes of the others."""

from collections.abc import Callable
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.ledger.claims import (
    Telling,
    claim_of,
    correction_of,
    most_telling,
    owner_of,
    share_taken_back,
    taken_back_by,
    telling_of,
)
from openai_proxy.ledger.entries import LedgerEntry, Rollup, add_shares, share_of
from openai_proxy.ledger.entry_cost import USED_ATTRIBUTES, usage_attributes
from openai_proxy.ledger.table import CLAIMED, DUPLICATE, CostsTable
from openai_proxy.usage import Usage

from tests.costs_fake import FakeCostsTable

ROLLUP = Rollup(("day#2026-11-23", "shop#s#m"), {"day": "2026-11-23", "client_id": "shop"})


def attributes(says: int = 2, tokens: int = 5, **more: Any) -> dict[str, Any]:
    """Of an entry that says nothing of its usage (0), nothing of its cost (1), or all."""
    usage = Usage(tokens, 3, source="reported") if says else Usage(source="missing")
    price = {"pricing": "priced", "cost": Decimal(7), "cost_input": Decimal(7), "price_rule": "r"}
    price = price if says == 2 else {"pricing": "unpriced", "unpriced_reason": "unknown_price"}
    facts = {"outcome": "completed", "client_id": "shop", "day": "2026-11-23", "duration": Decimal(1), "expires_at": 9}
    return {**facts, "price_version": "v", "currency": "USD", **usage_attributes(usage), **price, **more}


def entry(name: str, says: int = 2, claims: tuple[str, ...] = ("a",), event: str = "") -> LedgerEntry:
    keys = tuple((f"fetched#{each}", "fetched") for each in claims)
    found = attributes(says)
    return LedgerEntry(("client#shop#2026-11-23", name), found, (ROLLUP,), share_of(found), event or name, keys)


def telling(name: str, says: int | None) -> Telling:
    return Telling("owner", (name,), () if says is None else (attributes(says),))


def test_a_telling_says_as_much_as_the_entry_of_it_that_says_most() -> None:
    assert [telling("x", says).says for says in (0, 1, 2, None)] == [0, 1, 2, 2]
    assert Telling("o", ("a", "b"), (attributes(0), attributes(1))).says == 1
    invalid = attributes(0) | {"usage_source": "invalid", "pricing": "reported"}
    assert Telling("o", ("a",), (invalid,)).says == 0


@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=5), st.sampled_from([0, 1, 2]))
def test_those_that_say_most_count_and_of_equals_the_first_and_a_new_one_if_it_says_more(
    known: list[int], own: int
) -> None:
    others = [telling(f"{place}", says) for place, says in enumerate(known)]
    new = telling("0", own)
    expected = new if own > max(known) else others[known.index(max(known))]
    assert most_telling(new, others[::-1]) is expected


def test_a_telling_is_of_the_entries_of_one_event() -> None:
    found = telling_of([entry("1"), entry("2", says=0, event="1")])
    assert (found.owner, found.ids, found.says) == ("client#shop#2026-11-23", ("1", "2"), 2)
    assert found.first == ("client#shop#2026-11-23", "1")
    assert found.counted_in is None
    moved = Telling("o", ("1", "2"), (attributes(), attributes(counted_in=["p", "3", "4"])))
    assert moved.counted_in == ("p", ("3", "4"))


def test_a_claim_is_read_as_it_is_written() -> None:
    found = telling_of([entry("1"), entry("2", event="1")])
    plain = {"entry": "1", "owner": found.owner, "entries": ["1", "2"], "expires_at": 9}
    assert claim_of(found, 9) == plain
    assert claim_of(found, 9, [("p", "x")]) == {**plain, "taken_back": [["p", "x"]]}
    assert owner_of(plain) == (found.owner, ("1", "2"))
    assert owner_of({"entry": "1"}) == ("", ("1",))
    assert len(owner_of({"entry": "1", "entries": [f"{number}" for number in range(17)]})[1]) == 16
    assert taken_back_by([{"taken_back": [["p", "1"], ["p", "2"]]}, {}, {"taken_back": [["p", "1"]]}]) == [
        ("p", "1"),
        ("p", "2"),
    ]


@pytest.mark.parametrize("says", [0, 1, 2])
@pytest.mark.parametrize("revision", [None, 4])
def test_what_is_taken_back_has_used_nothing_and_leaves_the_sums_as_if(says: int, revision: int | None) -> None:
    before = attributes(
        says, units={"page": 2}, cost_reported=Decimal(1), **({"revision": revision} if revision else {})
    )
    new, gone = correction_of(before, Telling("p", ("3", "4"), ()))
    after = {name: value for name, value in (before | new).items() if name not in gone}
    assert after["counted_in"] == ["p", "3", "4"]
    assert after["revision"] == (revision or 0) + 1
    assert (after["usage_source"], after["pricing"], after["cost"], after["input_tokens"]) == ("none", "none", 0, 0)
    assert {name for name in after if name in USED_ATTRIBUTES} == {name for name in new if name in USED_ATTRIBUTES}
    kept = {"counted_in", "revision", *USED_ATTRIBUTES}
    assert {name: value for name, value in after.items() if name not in kept} == {
        name: value for name, value in before.items() if name not in kept
    }
    gains, expected = share_taken_back(before), share_of(after)
    for name in share_of(before) | expected:
        assert share_of(before).get(name, 0) + gains.get(name, 0) == expected.get(name, 0)
    assert all(gains.values())


# ---------------------------------------------------------------------------------------------------------------- table


LOST = "lost"
"""A turn of the script: it is written, and nobody hears of it."""


class Scripted(FakeCostsTable):
    """The table, whose calls first do what the script says: an error, or an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[Any] = []
        self.tokens: list[str | None] = []
        self.refused = ""

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        self.tokens.append(request.get("ClientRequestToken"))
        if any(
            each.get("Put", {}).get("Item", {}).get("sk") == {"S": self.refused} for each in request["TransactItems"]
        ):
            raise failure("ValidationException")
        turn = self.script.pop(0) if self.script else None
        if isinstance(turn, Exception):
            raise turn
        if turn not in (None, LOST):
            return turn
        answer = super().transact_write_items(**request)
        if turn == LOST:
            raise failure("InternalServerError", 500)
        return answer


def failure(code: str = "", status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "TransactWriteItems")


def table() -> tuple[CostsTable, Scripted, list[int]]:
    client, pauses = Scripted(), list[int]()
    made: Any = client
    return CostsTable(made, "costs", pauses.append), client, pauses


TRANSIENT: list[Any] = [failure("InternalServerError", 500), failure("", 503), failure("ThrottlingException"), {}]


@pytest.mark.parametrize("turn", TRANSIENT, ids=["500", "503", "throttled", "unproven"])
def test_what_passes_is_tried_again_six_times_with_a_pause_between(turn: Any) -> None:
    costs, client, pauses = table()
    client.script = [turn] * 5
    assert costs.record([entry("1", claims=())]) == {}
    assert (pauses, len(set(client.tokens)), len(client.tokens)) == ([1, 2, 3, 4, 5], 1, 6)
    client.script = [turn] * 6
    [(key, reason)] = costs.record([entry("2", claims=())]).items()
    assert key[1] == "2"
    assert reason == ("DynamoDB did not say that it has written" if turn == {} else str(turn))
    assert len(pauses) == 10


@pytest.mark.parametrize("turn", TRANSIENT, ids=["500", "503", "throttled", "unproven"])
def test_so_is_what_unites_several_that_tell_of_the_same(turn: Any) -> None:
    costs, client, pauses = table()
    assert costs.record([entry("1", says=0)]) == {}
    client.script = [None, *[turn] * 5]
    assert costs.record([entry("2")]) == {}
    assert pauses == [1, 2, 3, 4, 5]
    client.script = [None, *[turn] * 6]
    [reason] = costs.record([entry("3", claims=("a", "b"))]).values()
    assert reason == ("DynamoDB did not say that it has written" if turn == {} else str(turn))
    assert len(pauses) == 10


@pytest.mark.parametrize("times", [1, 5])
def test_what_was_united_and_not_confirmed_counts_once(times: int) -> None:
    costs, client, pauses = table()
    costs.record([entry("1", says=0)])
    client.script = [None, *[LOST] * times]
    assert costs.record([entry("2")]) == {}, "it is new, and says most"
    assert pauses == [1]
    assert client.script == [LOST] * (times - 1), "nothing is written again"
    client.script = []
    sums = from_item(client.items[ROLLUP.key])
    assert (sums["requests"], sums["cost"], sums["input_tokens"]) == (2, 7, 5)
    assert costs.record([entry("2")]) == {entry("2").key: DUPLICATE}


def test_a_table_that_is_not_there_is_no_fault_of_an_entry() -> None:
    costs, client, _ = table()
    costs.record([entry("1", says=0)])
    for script in ([failure("ResourceNotFoundException")], [None, failure("AccessDeniedException")]):
        client.script = list(script)
        with pytest.raises(ClientError):
            costs.record([entry("2")])


def test_entries_of_one_event_claim_together_and_others_for_themselves() -> None:
    costs, client, _ = table()
    both = [entry("1", event="1"), entry("2", event="1")]
    assert costs.record([*both, entry("3", claims=("b",)), entry("4", claims=())]) == {}
    assert client.calls == 3
    assert costs.record(both) == dict.fromkeys([each.key for each in both], DUPLICATE)
    again = entry("5", says=1)
    assert costs.record([again]) == {again.key: CLAIMED}
    assert costs.taken_back_by(again) == []


def test_what_said_less_is_taken_back_and_named() -> None:
    costs, client, _ = table()
    less, more = entry("1", says=0), entry("2", claims=("a", "b"))
    assert costs.record([less]) == costs.record([more]) == {}
    [taken_back] = costs.taken_back_by(more)
    assert (taken_back["sk"], taken_back["usage_source"], taken_back["counted_in"]) == ("1", "none", [more.key[0], "2"])
    assert client.items[more.claims[1]]["entry"] == {"S": "2"}


@pytest.mark.parametrize("count", range(1, 8))
def test_an_entry_with_a_fault_fails_alone_however_many_there_are(count: int) -> None:
    costs, client, pauses = table()
    entries = [entry(f"{number}", claims=()) for number in range(count)]
    for bad in entries:
        client.refused, client.items = bad.key[1], {}
        assert costs.record(entries) == {bad.key: str(failure("ValidationException"))}
        assert sorted(key[1] for key in client.items if key[1] != ROLLUP.key[1]) == [
            each.key[1] for each in entries if each is not bad
        ]
    assert pauses == []


def test_what_is_too_much_for_one_transaction_fails_alone_and_at_once() -> None:
    costs, client, pauses = table()
    assert costs.record([entry("1", says=0)]) == {}
    client.script = [None, error := failure("ValidationException")]
    too_much, other = entry("2"), entry("3", claims=("b",))
    assert costs.record([too_much, other]) == {too_much.key: str(error)}
    assert (pauses, client.items[other.key]["usage_source"]) == ([], {"S": "reported"})


def test_what_could_not_be_read_for_sure_is_named_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, client, pauses = table()
    assert costs.record([entry("1")]) == {}
    before = dict(client.items)

    def unproven(**_: object) -> dict[str, Any]:
        return {}

    monkeypatch.setattr(client, "get_item", unproven)
    assert costs.record([entry("2")]) == {entry("2").key: "DynamoDB did not say that it has read"}
    assert (pauses, client.items) == ([1, 2, 3, 4, 5], before)


def test_a_claim_of_what_was_taken_back_leads_to_what_counts_instead() -> None:
    costs, _, pauses = table()
    steps = [("1", 0, ("a", "c")), ("2", 1, ("a", "b")), ("3", 2, ("b",))]
    assert [costs.record([entry(name, says, claimed)]) for name, says, claimed in steps] == [{}] * 3
    again = entry("4", 1, ("c",))
    assert costs.record([again]) == {again.key: CLAIMED}, "by way of the first and the second to the third"
    assert pauses == []


def price_again(client: FakeCostsTable, name: str) -> None:
    """Take the price of an entry that has one away, or give it one, as the commands do."""
    key = (entry(name).key[0], name)
    before, sums = from_item(client.items[key]), from_item(client.items[ROLLUP.key])
    kept = {each: value for each, value in before.items() if each not in USED_ATTRIBUTES}
    priced = attributes(3 - telling_of_item(before).says)
    after = kept | {each: value for each, value in priced.items() if each in USED_ATTRIBUTES}
    after["revision"] = before.get("revision", 0) + 1
    gained = add_shares([share_of(after), {each: -value for each, value in share_of(before).items()}])
    client.items[key] = to_item(after)
    client.items[ROLLUP.key] = to_item(sums | add_shares([shares_in(sums), gained]))


def telling_of_item(item: dict[str, Any]) -> Telling:
    return Telling(item["pk"], (item["sk"],), (item,))


def shares_in(sums: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in sums.items() if isinstance(value, Decimal | int)}


def counting_in(client: FakeCostsTable) -> list[dict[str, Any]]:
    """The entries that are not taken back, after a look at the books: the sums are those of all entries."""
    items = [from_item(item) for item in client.items.values()]
    entries = [item for item in items if item["pk"].startswith("client#")]
    sums = add_shares(shares_in(item) for item in items if item["pk"].startswith("day#"))
    of_entries = {name: value for name, value in add_shares(map(share_of, entries)).items() if value}
    assert {name: value for name, value in sums.items() if value} == of_entries
    return [each for each in entries if "counted_in" not in each]


@pytest.mark.parametrize("before", [0, 1], ids=["never priced again", "priced again before"])
@pytest.mark.parametrize("repriced", ["", "1", "2"], ids=["as they were", "the first", "the second"])
@pytest.mark.parametrize("names", [("a", "c"), ("d",)], ids=["by known names", "by a new one"])
def test_who_joins_two_leaves_one_whoever_joins_them_too_or_prices_them_again_in_between(
    repriced: str, before: int, names: tuple[str, ...]
) -> None:
    """Whatever one of two consumers has read, others may change before it writes."""
    for says in product(range(3), repeat=4):
        claimed = [("a",), ("b", "c"), ("a", "b", "d"), names]
        entries = [entry(*each) for each in zip("1234", says, claimed, strict=True)]
        *alone, own, other = entries
        if (repriced or before) and (says[int(repriced or 1) - 1] == 0 or says[2] != says[3]):
            continue  # what nobody knows the usage of has no price; for the rest, those who join say the same
        costs, client, _ = table()
        assert costs.record(alone) == {}
        assert len(counting_in(client)) == 2
        for _ in range(before):
            price_again(client, repriced or "1")

        def meanwhile(client: Scripted = client, other: LedgerEntry = other) -> None:
            client.before_write = lambda: None
            if repriced:
                price_again(client, repriced)
            again: Any = client
            CostsTable(again, "costs").record([other])

        # The first transaction of its own finds that others have claimed the same; then it reads, and writes.
        client.before_write = after_one(client, meanwhile)
        costs.record([own])
        [counts] = counting_in(client)
        assert repriced or before or telling_of_item(counts).says == max(says), says
        items = dict(client.items)
        assert set(costs.record(entries)) == {each.key for each in entries}, says
        assert client.items == items


def after_one(client: FakeCostsTable, act: Callable[[], None]) -> Callable[[], None]:
    """Lets one transaction pass and acts before the next."""

    def passes() -> None:
        client.before_write = act

    return passes
