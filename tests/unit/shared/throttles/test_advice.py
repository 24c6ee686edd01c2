"""What is said of throttles: the sums, the limit in words, and the one command that helps."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.throttles.advice import Throttled, command, limit_text, remedy, summed

KEY = Throttled("ci", "key_rpm", "openai", "gpt-5", 900, 26550.0, "key", "aaaa", "minute", "60", "3f2a91c07be4")
TEAM = replace(KEY, source="team_budget", subject="team", subject_id="web", span="month", limit="500.50", team="web")
USER = replace(KEY, subject="user", subject_id="a" * 32)
SERVER = Throttled("shop", "upstream", "gemini", "g", 340, 0.0, "server", "gemini")


@pytest.mark.parametrize(
    ("row", "limit", "found"),
    [
        (KEY, "60 requests a minute", "openai-proxy keys update 3f2a91c07be4 --rpm 120"),
        (
            replace(KEY, source="key_tpm", limit="10000"),
            "10,000 tokens a minute",
            "openai-proxy keys update 3f2a91c07be4 --tpm 20000",
        ),
        (
            replace(KEY, source="key_parallel", span="moment", limit="2"),
            "2 requests at the same time",
            "openai-proxy keys update 3f2a91c07be4 --parallel 4",
        ),
        (
            replace(KEY, source="key_budget", span="day", limit="0.250"),
            "0.25 USD a day",
            "openai-proxy keys update 3f2a91c07be4 --budget-day 0.5",
        ),
        (
            replace(KEY, source="key_budget", span="total", limit="5"),
            "5 USD in total",
            "openai-proxy keys update 3f2a91c07be4 --budget-total 10",
        ),
        (
            replace(KEY, source="key_budget", span="month", limit="12000.50"),
            "12,000.5 USD a month",
            "openai-proxy keys update 3f2a91c07be4 --budget-month 24001",
        ),
        (replace(KEY, limit="1"), "1 request a minute", "openai-proxy keys update 3f2a91c07be4 --rpm 2"),
        (
            replace(KEY, source="key_parallel", span="moment", limit="1"),
            "1 request at the same time",
            "openai-proxy keys update 3f2a91c07be4 --parallel 2",
        ),
        (TEAM, "500.5 USD a month", "openai-proxy teams update web --budget-month 1001"),
        (USER, "60 requests a minute", ""),
        (SERVER, "the limit of gemini", ""),
        (replace(SERVER, subject_id="pool-a"), "the limit of pool-a", ""),
        (replace(SERVER, subject_id=""), "the limit of gemini", ""),
        (replace(KEY, limit="", subject="", subject_id=""), "", ""),
        (replace(KEY, key_id=""), "60 requests a minute", ""),
    ],
)
def test_a_limit_has_words_and_the_command_that_doubles_it(row: Throttled, limit: str, found: str) -> None:
    assert (limit_text(row), command(row)) == (limit, found)
    assert (found in remedy(row)) or row.kind == "budget_reserved"


def test_what_helps_is_said_where_no_command_does() -> None:
    assert remedy(SERVER).startswith("Raising limits of clients does not help: the server 'gemini' is the bottleneck.")
    assert "identity.yaml" in remedy(USER)
    assert "comes back" in remedy(replace(KEY, source="key_budget_reserved", span="day"))


def test_a_sum_says_only_what_its_rows_share() -> None:
    other = replace(KEY, model="gpt-5-mini", requests=100, retry_after=0.0)
    assert summed([other, KEY, SERVER], ["client", "source"]) == [
        replace(KEY, model="", requests=1000),
        SERVER,
    ]
    [every] = summed([KEY, TEAM, SERVER], ["team"][:0])
    assert (every.requests, every.client, every.limit, every.span) == (2140, "", "", "")
    [one] = summed([KEY, replace(KEY, subject_id="bbbb", limit="7")], ["client"])
    assert (one.limit, one.subject_id, one.source) == ("", "", "key_rpm"), "two keys of one client"


ROWS = st.lists(
    st.builds(
        Throttled,
        client=st.sampled_from("ab"),
        source=st.sampled_from(["key_rpm", "team_tpm", "upstream"]),
        server=st.sampled_from(["x", "-"]),
        model=st.sampled_from(["m", "n"]),
        requests=st.integers(1, 1000),
    ),
    max_size=8,
)


@given(ROWS, st.lists(st.sampled_from(["client", "source", "server", "model"]), unique=True))
def test_no_request_is_lost_in_a_sum(rows: list[Throttled], by: list[str]) -> None:
    found = summed(rows, by)
    assert sum(row.requests for row in found) == sum(row.requests for row in rows)
    names: list[Any] = [tuple(getattr(row, name) for name in by) for row in found]
    assert len(set(names)) == len(names)
    assert [row.requests for row in found] == sorted((row.requests for row in found), reverse=True)


def test_a_rollup_is_read_as_it_was_written() -> None:
    rollup = {"client_id": "ci", "source": "key_rpm", "server": "openai", "model": "gpt-5", "requests": 900}
    more = {"retry_after": 26550, "throttle_subject": "key", "throttle_subject_id": "aaaa", "throttle_span": "minute"}
    assert Throttled.of({**rollup, **more, "throttle_limit": "60", "key_id": "3f2a91c07be4"}) == KEY
    assert Throttled.of(rollup) == Throttled("ci", "key_rpm", "openai", "gpt-5", 900)
