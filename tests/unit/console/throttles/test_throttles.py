"""`throttles`: what is read for which time, and what a person and a program see."""

import argparse
import json
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.throttles.advice import Throttled, remedy

from console.command_line import main
from console.throttles.commands import as_document, text_of
from console.throttles.reading import Stretch, length
from tests.tables import make_table

NOW = datetime(2026, 11, 23, 9, 41, tzinfo=UTC)
ROWS = [
    Throttled("ci.nightly", "key_rpm", "openai", "gpt-4o-mini", 900, 26550.0, "key", "aaaa", "minute", "60", "3f2a"),
    Throttled("web-shop", "upstream", "gemini", "gemini-2.5-flash", 340, 7140.0, "server", "gemini"),
]
BY = ("client", "source", "model")


@pytest.mark.parametrize(
    ("text", "buckets", "said"),
    [
        ("1h", ["2026-11-23T08", "2026-11-23T09"], "since 2026-11-23 08:00 UTC"),
        ("3h", [f"2026-11-23T0{hour}" for hour in (6, 7, 8, 9)], "since 2026-11-23 06:00 UTC"),
    ],
)
def test_hours_are_whole_and_reach_back_far_enough(text: str, buckets: list[str], said: str) -> None:
    assert Stretch.of(text, NOW) == (buckets, said)


def test_days_and_weeks_are_those_of_other_commands() -> None:
    assert len(Stretch.of("7d", NOW).buckets) == 7
    assert len(Stretch.of("2w", NOW).buckets) == 14
    assert all(len(bucket) == 10 for bucket in Stretch.of("2w", NOW).buckets)


@pytest.mark.parametrize("text", ["", "h", "0h", "73h", "1m", "-1h", "1 h", "99999d", "1H"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 1h, 7d or 4w"):
        length(text)


def test_a_person_sees_who_by_which_limit_and_what_helps() -> None:
    assert text_of(ROWS, BY, Stretch.of("1h", NOW), None).split("\n") == [
        "1,240 throttled since 2026-11-23 08:00 UTC",
        "",
        "CLIENT      SOURCE    MODEL             LIMIT                 THROTTLED  WAIT S",
        "-------------------------------------------------------------------------------",
        "ci.nightly  key_rpm   gpt-4o-mini       60 requests a minute        900    29.5",
        "web-shop    upstream  gemini-2.5-flash  the limit of gemini         340    21.0",
        "",
        "ci.nightly: Raising the limit helps: openai-proxy keys update 3f2a --rpm 120",
        f"web-shop: {remedy(ROWS[1])}",
    ]


def test_nothing_in_a_name_reaches_the_terminal() -> None:
    evil = Throttled("c", "key_rpm", "s", "\x1b[31mred", 1, 0.0, "team", "\x1b]0;x", "minute", "1", "k")
    assert "\x1b" not in text_of([evil], BY, Stretch.of("1h", NOW), None)


def test_a_program_gets_amounts_as_text() -> None:
    assert as_document(ROWS[0], BY) == {
        "client": "ci.nightly",
        "source": "key_rpm",
        "model": "gpt-4o-mini",
        "requests": 900,
        "retry_after_average": 29.5,
        "subject": "key",
        "subject_id": "aaaa",
        "limit": "60",
        "span": "minute",
        "command": "openai-proxy keys update 3f2a --rpm 120",
    }


def test_the_command_reads_one_partition_for_each_hour(capsys: pytest.CaptureFixture[str]) -> None:
    rollup: dict[str, Any] = {"client_id": "ci", "source": "key_rpm", "server": "openai", "requests": 5}
    with mock_aws():
        client: Any = boto3.client("dynamodb", region_name="us-east-1")  # pyright: ignore[reportUnknownMemberType]
        make_table(client, "costs", "pk", "sk")
        for model in ("a", "b"):
            key = {"pk": f"throttles#{datetime.now(UTC):%Y-%m-%dT%H}", "sk": f"ci#{model}"}
            client.put_item(TableName="costs", Item=to_item({**rollup, **key, "model": model, "retry_after": 10}))
        environ = {"COSTS_TABLE": "costs", "KEYS_TABLE": "not-there", "AWS_REGION": "us-east-1"}
        assert main(["throttles", "--last", "2h", "--by", "client", "--json"], environ) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert (row["client"], row["requests"], row["retry_after_average"]) == ("ci", 10, 2.0)
        assert main(["throttles", "--client", "nobody"], environ) == 0
        assert capsys.readouterr().out.startswith("Nothing of client nobody was throttled since ")
    with pytest.raises(SystemExit):
        main(["throttles", "--by", "colour"], environ)
    assert "'colour' is none of client, source, server, model, team" in capsys.readouterr().err
