"""Reads the rollups of throttles: by hours for a short while, by days for a longer one.

However many requests were refused, what is read are sums: one partition for each hour or day.
"""

import argparse
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from openai_proxy.dynamodb import to_item
from openai_proxy.throttles.advice import Throttled

from console.export.items import ledger_items
from console.period import Period, last_days
from console.stack import Table

AT_ONCE = 8
"""Queries that are under way together; below the 10 connections that a client keeps."""
MOST_HOURS = 72


class Stretch(NamedTuple):
    """A time up to now: the partitions to read, and how it is called."""

    buckets: Sequence[str]
    text: str

    @classmethod
    def of(cls, length: str, now: datetime) -> "Stretch":
        """The last hours, days or weeks. Raises ValueError for what is no length, and for one that is too long."""
        if hours := re.fullmatch(r"([1-9][0-9]{0,2})h", length, re.ASCII):
            number = int(hours[1])
            if number > MOST_HOURS:
                raise ValueError(length)
            begin = (now.astimezone(UTC) - timedelta(hours=number)).replace(minute=0, second=0, microsecond=0)
            found = [f"{begin + timedelta(hours=each):%Y-%m-%dT%H}" for each in range(number + 1)]
            return cls(found, f"since {begin:%Y-%m-%d %H:%M} UTC")
        return cls.days(last_days(length))

    @classmethod
    def days(cls, period: Period) -> "Stretch":
        """Whole days."""
        return cls([str(day) for day in period.days], period.text)


def length(text: str) -> str:
    """A length of time of the command line. Raises ArgumentTypeError."""
    try:
        Stretch.of(text, datetime.now(UTC))
    except (ValueError, OverflowError):
        wanted = f"a number of hours (at most {MOST_HOURS}), days or weeks, such as 1h, 7d or 4w"
        raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}") from None
    return text


def throttles_in(table: Table, stretch: Stretch) -> list[Throttled]:
    """The rollups of a stretch of time. Raises botocore's errors."""

    def read(bucket: str) -> list[Throttled]:
        pages = table.client.get_paginator("query").paginate(
            TableName=table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": f"throttles#{bucket}"}),
        )
        return [Throttled.of(item) for item in ledger_items(pages, f"throttles#{bucket}")]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [row for rows in pool.map(read, stretch.buckets) for row in rows]
