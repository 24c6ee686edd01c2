"""The traces of a batch's requests."""

import pytest
from openai_proxy.events.traces import traces_of

TRACE = "1-5759e988-bd862e3fe1be46a994272793"
OTHER = "1-5759e989-bd862e3fe1be46a994272793"


def record(header: str | None) -> dict[str, object]:
    return {"messageId": "m", "attributes": {"AWSTraceHeader": header} if header is not None else {}}


def test_each_traced_request_is_named_once() -> None:
    headers = [f"Root={TRACE};Parent=53995c3f42cd8ad8;Sampled=1", f"Sampled=1;Root={OTHER}", f"Root={TRACE};Sampled=1"]
    assert traces_of(map(record, headers)) == [TRACE, OTHER]


@pytest.mark.parametrize("header", [None, "", f"Root={TRACE};Sampled=0", f"Root={TRACE}", "Root=1-x;Sampled=1", "\n"])
def test_what_nobody_traces_is_not_there(header: str | None) -> None:
    assert traces_of([record(header), {"messageId": "m"}]) == []
