"""Keeps what servers announce of their limits, and tells when one is about to be used up.

One rule: a failure here harms nothing else. If something cannot be read, written or published, that is logged, and the
server's next answer says it again.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.bus import Publisher
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.refusals import code_of
from openai_proxy.throttles.weather import PARTITION, Weather

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from mypy_boto3_dynamodb import DynamoDBClient
    from openai_proxy.events.types import ForecastEvent

_MOST_TRIES = 3


class Forecasts:
    """The items of the costs table that say what is left."""

    def __init__(self, client: "DynamoDBClient", table: str, bus: Publisher, logger: "Logger") -> None:
        self._client = client
        self._table = table
        self._bus = bus
        self._logger = logger

    def observe(self, samples: Iterable[Weather]) -> list[Weather]:
        """Keep what these answers say of limits. Returns those for which a forecast was published. Never raises."""
        found: dict[tuple[str, str], list[Weather]] = {}
        for sample in samples:
            found.setdefault((sample.server, sample.model), []).append(sample)
        told: list[Weather] = []
        for (server, model), each in found.items():
            try:
                told += self._keep(sorted(each, key=lambda sample: sample.seen_at))
            except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
                self._logger.warning(
                    "The limits of a server were not kept", server=server, model=model, reason=repr(error)
                )
        return told

    def _keep(self, samples: list[Weather]) -> list[Weather]:
        for _ in range(_MOST_TRIES):
            before = self._read(samples[0])
            newer = [each for each in samples if before is None or each.seen_at > before.seen_at]
            if not newer:
                return []
            latest = before
            for sample in newer:
                latest = sample.after(latest)
            assert latest
            is_news = latest.is_news
            if is_news:
                latest = latest.as_told()
            if self._write(latest, before):
                if is_news:
                    self._bus.publish(forecast_of(latest))
                return [latest] if is_news else []
        return []

    def _read(self, sample: Weather) -> Weather | None:
        key = to_item({"pk": PARTITION, "sk": sample.name})
        item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return Weather.of(from_item(item)) if item else None

    def _write(self, weather: Weather, before: Weather | None) -> bool:
        """Write the item. False: somebody else has written it since it was read."""
        item: dict[str, Any] = to_item(weather.to_item())
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before is not None:
            condition = {"ConditionExpression": "#seen = :seen", "ExpressionAttributeNames": {"#seen": "seen_at"}}
            condition["ExpressionAttributeValues"] = {":seen": to_item(before.to_item())["seen_at"]}
        try:
            self._client.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as error:
            if code_of(error.response) != "ConditionalCheckFailedException":
                raise
            return False
        return True


def forecast_of(weather: Weather) -> "ForecastEvent":
    """The ThrottleForecast of a limit that is about to be used up. Raises ValueError where none is."""
    if weather.going is None:
        raise ValueError("no limit is going")
    resource, left = weather.going
    seconds = round(left.seconds or 0.0, 3)
    event_id = ulid_of_fact(weather.seen_at, f"{weather.name}\0{resource}")
    event: ForecastEvent = Event(
        "ThrottleForecast",
        event_id,
        rfc3339(weather.seen_at),
        event_id,
        "openai-proxy",
        {
            "server": {"name": weather.server},
            "model": weather.model,
            "resource": resource,
            "remaining": left.remaining,
            "limit": left.limit,
            "reset": left.reset,
            "per_minute": round(left.pace * 60, 3),
            "seconds": seconds,
            "runs_out_at": rfc3339(weather.seen_at + seconds),
        },
    )
    return event
