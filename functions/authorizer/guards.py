"""Applies to a client key, or a user, what guards have done about it. Loaded only where guards are on, which then ask
about everyone.

Its one rule: an overlay that cannot be read lets nobody in, because it might say that the client is paused.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from openai_proxy.guards.overlay import held_by, lowered, overlay_key
from openai_proxy.key_context import CACHE_ONLY, ClientKey

from authorizer.refusal import TokenRefusedError

Find = Callable[[str], Mapping[str, Any] | None]
"""The shape of `KeysTable.find`."""


class DamagedOverlayError(Exception):
    """The item that says what guards have done about a client is damaged."""


class Guards:
    """Applies what the guards have done about a client so far."""

    def __init__(self, find: Find, clock: Callable[[], float] = time.time) -> None:
        self._find = find
        self._clock = clock

    def __call__(self, client: ClientKey) -> ClientKey:
        """The client with its restrictions. Raises TokenRefusedError, DamagedOverlayError and whatever `find`
        raises.
        """
        item = self._find(overlay_key(client.key_id))
        if item is None:
            return client._replace(guards="on")
        try:
            held = held_by(item, self._clock())
        except ValueError as error:
            raise DamagedOverlayError("what guards hold a client to is damaged") from error
        if held.is_disabled:
            raise TokenRefusedError("client_paused")
        limits = lowered(client.limits, held.limits, client.line or client.key_id)
        return client._replace(limits=limits, guards=CACHE_ONLY if held.is_cache_only else "on")
