"""What a bus has taken: an event with an id and without a fault, and nothing else."""

import json
from typing import Any

import pytest
from openai_proxy.events.bus import Bus, NotPublishedError
from openai_proxy.events.envelope import Event

EVENT: Any = Event("GuardActed", "01M8", "2026-11-23T18:12:53.042Z", "mine", "team-a", {"a": 1})
UNTOLD = "the bus did not say that it has the event"


ANSWERS: list[tuple[dict[str, Any], str | None]] = [
    ({"Entries": [{"EventId": "e"}]}, None),
    ({"Entries": [{"EventId": "e", "ErrorCode": ""}]}, None),
    ({"Entries": [{"EventId": "e", "ErrorCode": "InternalFailure"}]}, "InternalFailure"),
    ({"Entries": [{"ErrorCode": "ThrottlingException"}]}, "ThrottlingException"),
    ({"Entries": [{"EventId": 7}]}, UNTOLD),
    ({"Entries": [{}]}, UNTOLD),
    ({"Entries": [None]}, UNTOLD),
    ({"Entries": []}, UNTOLD),
    ({}, UNTOLD),
]


class Client:
    """Keeps what is put, and gives one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.put = answer, list[Any]()

    def put_events(self, **arguments: Any) -> dict[str, Any]:
        self.put.append(arguments)
        return self.answer


@pytest.mark.parametrize(("answer", "fault"), ANSWERS, ids=range(9))
def test_what_the_bus_has_not_taken_is_an_error(answer: dict[str, Any], fault: str | None) -> None:
    client: Any = Client(answer)
    if fault is None:
        Bus(client, "bus").publish(EVENT)
    else:
        with pytest.raises(NotPublishedError) as failed:
            Bus(client, "bus").publish(EVENT)
        assert str(failed.value) == fault
    [arguments] = client.put
    [entry] = arguments.pop("Entries")
    assert arguments == {}
    assert entry == EVENT.to_entry("bus")
    assert json.loads(entry["Detail"])["data"] == {"a": 1}


class Traced:
    """An event whose entry carries a trace."""

    def to_entry(self, bus: str) -> dict[str, str]:
        return {"Source": "s", "DetailType": "t", "Detail": "{}", "EventBusName": bus, "TraceHeader": "x"}


def test_what_a_consumer_tells_belongs_to_no_trace() -> None:
    client: Any = Client(ANSWERS[0][0])
    event: Any = Traced()
    Bus(client, "bus").publish(event)
    assert client.put == [{"Entries": [{"Source": "s", "DetailType": "t", "Detail": "{}", "EventBusName": "bus"}]}]
