"""What a sandbox learns of divided groups, and what it makes of odd answers. Interleavings: test_ledger_shards.py."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.ledger.division import Division
from openai_proxy.ledger.shards import FIRST, SHARDED, divided, in_lane, shard_key
from openai_proxy.ledger.table import CostsTable

from bench.units import BLOCK, size_of
from tests.costs_fake import FakeCostsTable, cancelled
from tests.unit.shared.ledger.test_claims import failure
from tests.unit.shared.ledger.test_shards import ENTRY, ID, PK, ROLLUPS

SCALE = (Path(__file__).parents[4] / "docs" / "scale.md").read_text(encoding="utf-8")


class Told(FakeCostsTable):
    """The table, whose next answer is what it is told: an error to raise, or an answer."""

    def __init__(self, turn: Any = None) -> None:
        super().__init__()
        self.turn = turn

    def _answer(self, answer: Any) -> Any:
        turn, self.turn = self.turn, None
        if isinstance(turn, Exception):
            raise turn
        return answer if turn is None else turn

    def transact_write_items(self, **request: Any) -> Any:
        return self._answer(super().transact_write_items(**request))

    def transact_get_items(self, **request: Any) -> Any:
        return self._answer(super().transact_get_items(**request))

    def query(self, **request: Any) -> Any:
        return self._answer(super().query(**request))


def division(table: Any) -> Division:
    return Division(table, "costs", choose=lambda number: number - 1)


def test_a_group_is_divided_once_with_signs_and_rows_for_those_who_correct() -> None:
    table = Told()
    assert division(table).divide(ENTRY)
    assert {key: SHARDED in item for key, item in table.items.items()} == {
        (PK, "#shards"): True,
        (PK, "~shards"): True,
        ROLLUPS[0].key: True,
        ROLLUPS[1].key: False,
    }
    units = sum(2 * -(-size_of(item) // BLOCK) for item in table.items.values())
    assert f"costs {units} write units" in " ".join(SCALE.split())
    table.items[ROLLUPS[0].key] = table.items[ROLLUPS[0].key] | {SHARDED: {"N": "7"}}
    before = dict(table.items)
    assert division(table).divide(ENTRY), "by somebody else, into another number of shards"
    assert table.items == before


@pytest.mark.parametrize(
    "turn", [failure("ThrottlingException"), failure("", 503), cancelled("None", "TransactionConflict"), {}]
)
def test_a_division_that_is_not_confirmed_is_none(turn: Any) -> None:
    assert not division(Told(turn)).divide(ENTRY)


@pytest.mark.parametrize("turn", [{}, {"ConsumedCapacity": {"TableName": "costs"}}, {"Items": []}])
def test_an_answer_that_says_nothing_is_not_taken_for_an_empty_partition(turn: Any) -> None:
    own = division(Told(turn))
    with pytest.raises(NoAnswerError):
        own.learn([ENTRY])
    assert not own.knows(ENTRY)


def test_where_a_divided_entry_is_written_and_what_may_be_there_already() -> None:
    table = Told()
    own = division(table)
    assert own.place(ENTRY) is ENTRY
    table.items[PK, ID] = {}
    table.items[PK, FIRST] = {}
    own.learn([ENTRY])
    assert own.place(ENTRY) == divided(ENTRY, 31)
    assert own.written_before([ENTRY]) == {(PK, ID)}
    del table.items[PK, ID]
    assert own.written_before([ENTRY]) == set()
    unproven: list[Any] = [{}, {"Responses": [{}]}, {"Responses": [], "ConsumedCapacity": [{"TableName": "costs"}]}]
    for odd in unproven:
        table.turn = odd
        with pytest.raises(NoAnswerError):
            own.written_before([ENTRY])


def test_all_groups_of_a_day_are_learnt_by_one_read() -> None:
    class Counting(Told):
        reads = 0

        def query(self, **request: Any) -> Any:
            self.reads += 1
            return super().query(**request)

    table = Counting()
    own = division(table)
    table.items[PK, ID] = table.items[PK, FIRST] = {}
    models = [
        replace(ENTRY, rollups=tuple(replace(each, key=(each.key[0], f"{each.key[1]}{n}")) for each in ENTRY.rollups))
        for n in range(3)
    ]
    other_day = replace(ENTRY, key=(f"{PK}0", ID), rollups=(replace(ROLLUPS[0], key=(f"{ROLLUPS[0].key[0]}0", "r")),))
    own.learn([*models[:2], other_day, models[0]])
    assert table.reads == 2
    assert [own.knows(each) for each in (*models, other_day)] == [True, True, False, True]
    assert own.written_before([models[1]]) == {(PK, ID)}
    assert own.written_before([other_day]) == set()
    own.learn(models)
    assert table.reads == 3, "what is divided later is read later: until then its entries came to the same partition"
    own.learn(models)
    assert table.reads == 3


def test_an_empty_partition_has_nothing_that_is_looked_for() -> None:
    table = Told()
    own = division(table)
    table.items[PK, FIRST] = {}
    own.learn([ENTRY])
    table.turn = failure("AccessDeniedException")
    assert own.written_before([ENTRY]) == set()
    assert own.place(ENTRY).key == (shard_key(PK, ID), ID)


def test_no_access_is_told() -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        division(Told(failure("AccessDeniedException"))).divide(ENTRY)


def test_only_entries_of_a_group_that_is_divided_go_to_shards_and_signs_that_are_there_are_not_written_again() -> None:
    table = Told()
    known = division(table)
    rollups = tuple(replace(each, key=(each.key[0], f"{each.key[1]}2")) for each in ENTRY.rollups)
    other = replace(ENTRY, rollups=rollups)
    assert not known.knows(ENTRY)
    known.learn([ENTRY])
    assert (known.knows(ENTRY), known.knows(other), known.place(other)) == (True, False, other)
    assert known.divide(other)
    assert set(table.items) == {each.key for each in rollups}


def test_who_has_divided_a_group_of_a_day_writes_no_signs_for_the_next_group_of_that_day() -> None:
    table = Told()
    own = division(table)
    assert own.divide(ENTRY)
    signs: list[set[str]] = []
    for number, key in enumerate((ENTRY.key, (f"{PK[:-1]}8", ID)), 2):
        rollups = tuple(replace(each, key=(each.key[0], f"{each.key[1]}{number}")) for each in ENTRY.rollups)
        table.items = {}
        assert own.divide(replace(ENTRY, key=key, rollups=rollups))
        signs.append({sk for pk, sk in table.items if pk == key[0]})
    assert signs == [set(), {"#shards", "~shards"}]


def test_so_many_may_be_looked_for_that_one_transaction_does_not_hold_them() -> None:
    table = Told()
    own = division(table)
    keys = [(PK, first_ulid_of(1_795_780_800 + number)) for number in range(201)]
    table.items = {key: {} for key in keys[::2]}
    own.learn([ENTRY])
    asked = [replace(ENTRY, key=key) for key in keys]
    assert own.written_before(asked) == set(keys[::2])


def test_who_meets_others_in_a_lane_adds_to_another_from_then_on() -> None:
    lanes = iter([5, 9])
    table: Any = Told()
    own = Division(table, "costs", choose=lambda _: next(lanes))
    own.learn([ENTRY])
    placed = own.place(ENTRY)
    assert placed == divided(ENTRY, 5)
    assert own.step_aside([placed]) == [in_lane(placed, 9)] == [divided(ENTRY, 9)]
    assert own.place(ENTRY) == divided(ENTRY, 9)


@pytest.mark.parametrize(
    ("error", "is_told"), [(failure("AccessDeniedException"), True), (failure("ThrottlingException"), False)]
)
@pytest.mark.parametrize("call", ["query", "transact_get_items"])
def test_what_a_divided_group_cannot_be_asked_for_is_told_where_it_does_not_pass(
    call: str, error: ClientError, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    table: Any = Told()
    assert division(table).divide(ENTRY)
    table.items[PK, ID] = {}
    costs = CostsTable(table, "costs", pause=lambda _: None)

    def refused(**_: object) -> None:
        raise error

    monkeypatch.setattr(table, call, refused)
    late = replace(ENTRY, key=(PK, first_ulid_of(0)), share={"requests": 1})
    if is_told:
        with pytest.raises(ClientError, match="AccessDenied"):
            costs.record([late])
    else:
        assert costs.record([late]) == {late.key: str(error)}
