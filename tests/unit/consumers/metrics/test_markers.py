"""What record_metrics writes into the table of markers: whole items, so that each of them ends."""

from typing import Any

import pytest
from openai_proxy.dynamodb import to_item
from record_metrics.markers import Markers, MarkersUnavailableError, Run

RUN = Run("owner", 1000, 9000)


class Table:
    """Keeps what it is asked to write."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers = answers
        self.written: list[Any] = []

    def transact_write_items(self, **request: Any) -> Any:
        self.written.append(request)
        return {"ConsumedCapacity": [{"TableName": "markers"}]}

    def put_item(self, **request: Any) -> Any:
        self.written.append(request)
        return {"ConsumedCapacity": {"TableName": "markers"}} if self.answers else {}


def test_a_claim_and_the_end_of_a_run_are_written_whole_and_expire() -> None:
    table: Any = Table()
    markers = Markers(table, "markers", lambda attempt: None)
    assert markers.claim(["01"], RUN) == ({"01"}, set())
    markers.done(RUN)
    claim = {"id": "record_metrics#01", "owner": "owner", "until": 1060, "expires_at": 9000}
    put = {"TableName": "markers", "Item": to_item(claim), "ConditionExpression": "attribute_not_exists(id)"}
    assert table.written == [
        {"TransactItems": [{"Put": put}], "ReturnConsumedCapacity": "TOTAL"},
        {
            "TableName": "markers",
            "Item": to_item({"id": "record_metrics#run#owner", "expires_at": 9000}),
            "ReturnConsumedCapacity": "TOTAL",
        },
    ]


def test_an_end_that_dynamodb_has_not_written_is_none() -> None:
    table: Any = Table(answers=False)
    with pytest.raises(MarkersUnavailableError):
        Markers(table, "markers").done(RUN)
