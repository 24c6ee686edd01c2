"""The busiest clients, from rollups that come in several pages."""

from typing import Any

import pytest
from openai_proxy.dynamodb import to_item
from record_throttles.busiest import Busiest

HOURS = [f"2026-11-{day}T{hour:02}" for day in (23, 24, 25) for hour in range(24)]


class Pages:
    """A table whose rollups of an hour come one in a page: client 0 was throttled ten times, client 1 eleven times."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked: list[Any] = []

    def query(self, **request: Any) -> dict[str, Any]:
        values = request.pop("ExpressionAttributeValues")
        assert (request.pop("TableName"), request.pop("KeyConditionExpression")) == ("costs", "pk = :pk")
        assert values in [to_item({":pk": f"throttles#{hour}"}) for hour in HOURS]
        assert request.pop("ProjectionExpression") == "client_id, requests"
        self.asked.append(start := request.pop("ExclusiveStartKey", None))
        assert not request
        page = 0 if start is None else start["page"]
        item = to_item({"client_id": f"c{page}", "requests": 10 + page})
        return {"Items": [item]} | ({"LastEvaluatedKey": {"page": page + 1}} if page + 1 < self.number else {})

    def update_item(self, **request: Any) -> dict[str, Any]:
        return {"Attributes": {"names": request["ExpressionAttributeValues"][":own"]}}


@pytest.mark.parametrize(("pages", "read"), [(1, 1), (2, 2), (10, 10), (12, 10)])
def test_all_pages_of_an_hour_are_read_but_no_more_than_ten(pages: int, read: int) -> None:
    table: Any = Pages(pages)
    busiest = Busiest(table, "costs", lambda: 0.0)
    last = f"c{read - 1}"
    assert busiest.among("2026-11-23T09", {last: 1}) == {last}
    assert table.asked == [None, *({"page": page} for page in range(1, read))]


def test_forty_eight_hours_are_remembered_and_then_none_of_them() -> None:
    table: Any = Pages(1)
    busiest = Busiest(table, "costs", lambda: 0.0)

    def read(hour: int) -> int:
        before = len(table.asked)
        busiest.among(HOURS[hour], {"c0": 1})
        return len(table.asked) - before

    assert [read(hour) for hour in range(48)] == [1] * 48
    assert [read(hour) for hour in range(48)] == [0] * 48, "an hour that comes does not end those before"
    assert [read(hour) for hour in (48, 48, 0, 1)] == [1, 0, 1, 1]
