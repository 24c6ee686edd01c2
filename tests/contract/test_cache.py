"""docs/cache.md and the template against what the code of the response cache says."""

import re
from typing import Any

import pytest
from openai_proxy.cache.answers import LARGEST_BODY
from openai_proxy.servers import parse_servers
from openai_proxy.servers.options import KEEPABLE, Caching
from proxy.cache.key import OF_FORM, WITHOUT_INFLUENCE
from proxy.cache.policy import CACHEABLE
from proxy.cache.response_cache import Settings

from tests.contract.template_stack import ROOT, deployed, parameters_of_template

PAGE = (ROOT / "docs/cache.md").read_text(encoding="utf-8")
_REASON = re.compile(r'(?:Unusable\(|_Miss\(|CacheUse\("[A-Z]+", |return )"([a-z][a-z0-9_]*)"')


def reasons_in_code() -> set[str]:
    """Every word that the cache gives as a reason. `off` is a default."""
    files = ("item.py", "policy.py", "response_cache.py")
    found = [_REASON.findall((ROOT / "functions/proxy/cache" / name).read_text(encoding="utf-8")) for name in files]
    return {"off"}.union(*found)


def table(heading: str) -> list[str]:
    """The first cells of the table whose first heading is `heading`."""
    found = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, heading
    return re.findall(r"^\| (.*?) \|", found[1], re.MULTILINE)


def test_every_reason_is_explained_and_no_other() -> None:
    explained = [name for cell in table("reason") for name in re.findall(r"`(\w+)`", cell)]

    assert len(set(explained)) == len(explained)
    assert set(explained) == reasons_in_code()


def test_the_fields_and_paths_that_are_named_are_those_of_the_code() -> None:
    [line] = [line for line in PAGE.splitlines() if line.startswith("`prompt_cache_key` · ")]

    assert set(re.findall(r"`(\S+)`", line)) == WITHOUT_INFLUENCE | OF_FORM
    assert set(re.findall(r"`(/\S+)`", PAGE)) == CACHEABLE


def test_the_example_of_a_server_is_one() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

    cache = parse_servers(example)["openai"].cache
    assert cache is not None
    assert (cache.ttl, cache.pool, cache.any_temperature) == (3600, "everybody", True)
    assert (cache.ignore, cache.keep) == ({"user", "metadata"}, set(KEEPABLE))


def test_every_word_that_keeps_more_is_explained() -> None:
    assert table("`keep`") == [f"`{word}`" for word in KEEPABLE]


def test_parameters_are_described_with_their_defaults() -> None:
    rows = re.findall(r"^\| `(Cache\w+)` \|(.*?)\|", PAGE, re.MULTILINE)
    described = {name: default.strip() for name, default in rows}

    declared = {name: each for name, each in parameters_of_template().items() if name.startswith("Cache")}
    assert described == {name: str(each["Default"]) for name, each in declared.items()}


@pytest.mark.parametrize(
    ("variable", "value"), [("CACHE_LARGEST_ANSWER", Settings().largest), ("CACHE_WAIT_SECONDS", Settings().wait)]
)
def test_the_proxy_has_the_same_defaults_as_the_template(variable: str, value: Any) -> None:
    variables = deployed().of_type("AWS::Lambda::Function")["ProxyFunction"]["Environment"]["Variables"]

    assert float(variables[variable]) == value


def test_nothing_is_captured_that_is_not_stored() -> None:
    assert parameters_of_template()["CacheLargestAnswerBytes"]["MaxValue"] == LARGEST_BODY


def test_content_lies_in_no_queue_for_long() -> None:
    queues, rule = deployed().of_type("AWS::SQS::Queue"), deployed().of_type("AWS::Events::Rule")["StoreResponseRule"]
    default = parameters_of_template()["CacheQueueSeconds"]["Default"]

    kept = [
        float(queues[name]["MessageRetentionPeriod"]) for name in ("StoreResponseQueue", "StoreResponseDeadLetterQueue")
    ]
    assert kept == [default, default]
    assert default <= Caching().ttl, "no longer than the cache would"
    assert all(target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= default for target in rule["Targets"])


def test_a_message_is_tried_to_the_end_before_its_time_is_over() -> None:
    queue = deployed().of_type("AWS::SQS::Queue")["StoreResponseQueue"]
    tries = queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"]

    assert tries < parameters_of_template()["CacheQueueSeconds"]["MinValue"]
