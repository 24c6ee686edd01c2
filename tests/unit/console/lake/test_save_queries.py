"""`costs save-queries`: what becomes of the queries that a workgroup has, those of other people included."""

from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from console.lake.queries import SavedQuery, saved_queries
from console.lake.save_queries import MARK, NamedQueries, nothing_said, said
from tests.examples import examples

NAMES = st.sampled_from(["unpriced", "cost-by-day", "mine"])
TEXTS = st.sampled_from(["SELECT 1", "SELECT 2"])
OTHERS = st.sampled_from(["", "what it says", f"{MARK} or not"])


class FakeAthena:
    """The saved queries of one workgroup; it lists two at a time and describes no more than 50."""

    def __init__(self) -> None:
        self.queries: dict[str, dict[str, str]] = {}
        self.calls: list[str] = []
        self._made = 0

    def create_named_query(self, **query: str) -> None:
        assert query.pop("WorkGroup") == "shop"
        self._made += 1
        self.queries[f"q{self._made:04}"] = query
        self.calls.append("create")

    def update_named_query(self, **query: str) -> None:
        self.queries[query.pop("NamedQueryId")] |= query
        self.calls.append("update")

    def delete_named_query(self, **query: str) -> None:
        del self.queries[query["NamedQueryId"]]
        self.calls.append("delete")

    def get_paginator(self, name: str) -> "FakeAthena":
        assert name == "list_named_queries"
        return self

    def paginate(self, **request: str) -> Iterator[dict[str, Any]]:
        assert request == {"WorkGroup": "shop"}
        ids = list(self.queries)
        yield from ({"NamedQueryIds": ids[first : first + 2]} for first in range(0, len(ids), 2))

    def batch_get_named_query(self, **request: list[str]) -> dict[str, Any]:
        assert 0 < len(request["NamedQueryIds"]) <= 50
        return {"NamedQueries": [{"NamedQueryId": each} | self.queries[each] for each in request["NamedQueryIds"]]}


def texts(queries: Mapping[str, Mapping[str, str]], *, own: bool) -> list[tuple[str, ...]]:
    found = [(each["Name"], each["Description"], each["QueryString"], each["Database"]) for each in queries.values()]
    return sorted(each for each in found if each[1].endswith(MARK) is own)


@settings(max_examples=examples(40))
@given(
    wanted=st.dictionaries(NAMES, st.tuples(OTHERS, TEXTS), max_size=3),
    there=st.lists(st.tuples(NAMES, OTHERS, st.booleans(), TEXTS, st.sampled_from(["lake", "before"])), max_size=6),
)
def test_whatever_is_there_its_own_become_what_is_wanted_and_others_stay(
    wanted: dict[str, tuple[str, str]], there: list[tuple[str, str, bool, str, str]]
) -> None:
    athena = FakeAthena()
    for name, description, own, sql, database in there:
        saved = description + (MARK if own else "")
        athena.create_named_query(Name=name, Description=saved, QueryString=sql, Database=database, WorkGroup="shop")
    others = texts(athena.queries, own=False)
    queries = [SavedQuery(name, description, sql) for name, (description, sql) in wanted.items()]
    NamedQueries(athena, "shop", "lake").save(queries)
    assert texts(athena.queries, own=True) == sorted((q.name, q.description + MARK, q.sql, "lake") for q in queries)
    assert texts(athena.queries, own=False) == others
    athena.calls.clear()
    assert {act.what for act in NamedQueries(athena, "shop", "lake").save(queries)} <= {"unchanged"}
    assert athena.calls == [], "a second run changes nothing"


def test_a_query_that_changes_keeps_its_id() -> None:
    athena = FakeAthena()
    many = [SavedQuery(f"query-{number}", "what", "SELECT 1") for number in range(120)]
    NamedQueries(athena, "shop", "lake").save(many)
    before = set(athena.queries)
    changed = [many[0]._replace(sql="SELECT 2"), many[1]._replace(description="else"), *many[2:-1]]
    done = NamedQueries(athena, "shop", "lake").save(changed)
    assert athena.calls[120:] == ["update", "update", "delete"]
    assert len(before - set(athena.queries)) == 1
    assert set(athena.queries) < before
    text = said(done, "shop")
    assert "workgroup shop: 0 created, 2 updated, 1 removed, 117 unchanged." in text
    assert [line.split() for line in text.splitlines()[4:]] == [
        ["query-0", "updated"],
        ["query-1", "updated"],
        ["query-119", "removed"],
    ]


class Emulator(FakeAthena):
    """It cannot update."""

    def update_named_query(self, **query: str) -> None:
        assert query
        raise ClientError({"Error": {"Code": "InvalidAction"}}, "UpdateNamedQuery")


def test_an_emulator_that_cannot_update_gets_the_new_query_before_the_old_one_goes() -> None:
    athena = Emulator()
    for sql in ("SELECT 1", "SELECT 2"):
        NamedQueries(athena, "shop", "lake").save([SavedQuery("a", "what", sql)])
    assert athena.calls == ["create", "create", "delete"]
    assert [each["QueryString"] for each in athena.queries.values()] == ["SELECT 2"]


def test_athena_knows_the_calls() -> None:
    client: Any = botocore.session.get_session().create_client("athena", region_name="eu-west-1")
    described = {"Name": "a", "QueryString": "SELECT 1", "Database": "lake", "Description": f"old{MARK}"}
    with Stubber(client) as stub:
        stub.add_response("list_named_queries", {"NamedQueryIds": ["1", "2"]}, {"WorkGroup": "shop"})
        found = [described | {"NamedQueryId": "1"}, described | {"NamedQueryId": "2", "Name": "gone"}]
        stub.add_response("batch_get_named_query", {"NamedQueries": found}, {"NamedQueryIds": ["1", "2"]})
        changed = {"NamedQueryId": "1", "Name": "a", "Description": f"new{MARK}", "QueryString": "SELECT 1"}
        stub.add_response("update_named_query", {}, changed)
        made = {"Name": "b", "Description": f"b{MARK}", "QueryString": "SELECT 2", "Database": "lake"}
        stub.add_response("create_named_query", {"NamedQueryId": "3"}, made | {"WorkGroup": "shop"})
        stub.add_response("delete_named_query", {}, {"NamedQueryId": "2"})
        NamedQueries(client, "shop", "lake").save(
            [SavedQuery("a", "new", "SELECT 1"), SavedQuery("b", "b", "SELECT 2")]
        )
        stub.assert_no_pending_responses()


def test_what_is_saved_is_what_the_files_say() -> None:
    athena = FakeAthena()
    NamedQueries(athena, "shop", "lake").save(saved_queries())
    assert [each["Name"] for each in athena.queries.values()] == [query.name for query in saved_queries()]


def test_a_stack_without_a_lake_has_no_queries() -> None:
    assert nothing_said("shop") == "The stack 'shop' has no lake, so no queries are saved."
