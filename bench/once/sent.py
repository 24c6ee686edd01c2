"""The events of one busy client, made from their numbers, so that none of them has to be kept. Pure.

One rule: whoever knows the number of an event knows what has to be in the ledger of it.
"""

import json
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.types import InferenceEvent
from openai_proxy.events.ulid import ulid_of_fact

from bench.units import BEGAN, event

CLIENT = "busy"
MODELS = (
    "gpt-4o-mini-2024-07-18",
    "gpt-4o-2024-08-06",
    "gpt-4.1-2025-04-14",
    "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano-2025-04-14",
)
_MILLISECOND = 0.001


def id_of(number: int) -> str:
    """The id of an event: there is one in each millisecond."""
    return ulid_of_fact(BEGAN + number * _MILLISECOND, str(number))


def sent(number: int) -> InferenceEvent:
    """An event; its model and its tokens follow from its number."""
    made = event(0)._replace(id=id_of(number), client_id=CLIENT, timestamp=rfc3339(BEGAN + number * _MILLISECOND))
    made.data["response"]["model"] = MODELS[number % len(MODELS)]
    made.data["usage"]["input_tokens"], made.data["usage"]["output_tokens"] = 100 + number % 997, 1 + number % 89
    return made


def record_of(number: int) -> dict[str, str]:
    """The event as SQS hands it to record_cost."""
    entry = sent(number).to_entry("bus")
    envelope: dict[str, Any] = {"detail-type": entry["DetailType"], "source": entry["Source"]}
    envelope["detail"] = json.loads(entry["Detail"])
    return {"messageId": str(number), "body": json.dumps(envelope)}
