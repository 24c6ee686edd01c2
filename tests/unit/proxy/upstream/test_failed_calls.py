"""Which calls are known to have failed, and for how long."""

import pytest
from openai_proxy.key_context import ClientKey
from proxy.call import Call
from proxy.request.parse import InferenceRequest, Target
from proxy.upstream.failed_calls import FailedCalls

SECONDS = 20.0

REQUEST = InferenceRequest("function_url", "POST", "/a/v1/chat/completions", "", {}, b"{}", None)
CALL = Call("1", 9.0, REQUEST, ClientKey("web", key_id="k"), Target("a", "/chat/completions"))


def test_a_call_is_known_for_its_time_whatever_its_id() -> None:
    failed = FailedCalls()
    assert not failed.has(CALL, 100.0)
    failed.add(CALL, 100.0)
    again = CALL._replace(id="2", deadline=99.0)
    assert failed.has(again, 100.0 + SECONDS - 0.1)
    assert not failed.has(again, 100.0 + SECONDS)


@pytest.mark.parametrize(
    "other",
    [
        CALL._replace(request=REQUEST._replace(body=b"{ }")),
        CALL._replace(request=REQUEST._replace(method="GET")),
        CALL._replace(request=REQUEST._replace(query="a=1")),
        CALL._replace(key=ClientKey("web", key_id="l")),
        CALL._replace(key=None),
        CALL._replace(target=Target("b", "/chat/completions")),
        CALL._replace(request=None),
    ],
    ids=["body", "method", "query", "key", "no key", "server", "no request"],
)
def test_another_call_is_not_taken_for_it(other: Call) -> None:
    failed = FailedCalls()
    failed.add(CALL, 100.0)
    assert not failed.has(other, 100.0)


def test_the_latest_hundred_are_known() -> None:
    failed = FailedCalls()
    calls = [CALL._replace(target=Target(str(number), "/chat/completions")) for number in range(101)]
    for call in calls:
        failed.add(call, 100.0)
    failed.add(calls[1], 100.0)  # which makes it the latest
    failed.add(CALL, 100.0)
    assert [failed.has(call, 100.0) for call in calls[:4]] == [False, True, False, True]
