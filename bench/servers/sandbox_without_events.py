"""A proxy sandbox that publishes nothing: the difference to the real one is what publishing costs."""

import os
from collections.abc import Sequence

from openai_proxy.events.types import AnyEvent
from proxy.records.publisher import Fate, Publisher
from proxy.runtime import Runtime


def _publish_nothing(self: Publisher, events: Sequence[AnyEvent], deadline: float, trace_id: str | None = None) -> Fate:
    """Take the events, which have been made by now, and drop them."""
    return "published"


if __name__ == "__main__":
    Publisher.publish = _publish_nothing
    Runtime(os.environ).run()
