"""As much of the proxy's calls of DynamoDB as streams use, over boto3: for tests with moto."""

import base64
from typing import Any

import boto3

from tests.tables import make_table


class Boto:
    """As much of `Aws` as streams use, over boto3."""

    def __init__(self) -> None:
        self.client: Any = boto3.client("dynamodb", region_name="eu-central-1")  # pyright: ignore[reportUnknownMemberType]
        make_table(self.client, "streams", "stream_id", "event:N")

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        return self.client.get_item(**arguments).get("Item") or {}

    def query(self, arguments: dict[str, Any], _timeout: float) -> list[dict[str, Any]]:
        return [_wire(item) for item in self.client.query(**arguments)["Items"]]

    def put_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, None]:
        item = dict(arguments["Item"])
        if "packed" in item:
            item["packed"] = {"B": base64.b64decode(item["packed"]["B"])}
        return self._write(self.client.put_item, arguments | {"Item": item})[0], None

    def update_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, dict[str, Any] | None]:
        held, answer = self._write(self.client.update_item, arguments)
        return held, answer.get("Attributes")

    def _write(self, write: Any, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        try:
            return True, write(**arguments)
        except self.client.exceptions.ConditionalCheckFailedException:
            return False, {}


def _wire(item: dict[str, Any]) -> dict[str, Any]:
    if "packed" in item:
        item["packed"] = {"B": base64.b64encode(item["packed"]["B"]).decode()}
    return item
