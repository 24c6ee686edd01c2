"""What the response cache did for one request: what headers and the event say of it. Pure, and all that every request
loads of the cache.
"""

from typing import Literal, NamedTuple

from openai_proxy.usage import Usage

Status = Literal["HIT", "MISS", "REFRESH", "BYPASS"]


class CacheUse(NamedTuple):
    """`reason` is one word of `docs/cache.md`. `age` (seconds), `saved` and `usage` are those of a HIT."""

    status: Status = "BYPASS"
    reason: str | None = "off"
    age: int | None = None
    saved: str | None = None
    """What the stored answer cost, with its currency."""
    usage: Usage | None = None

    def to_event(self) -> dict[str, str | None]:
        """The `data.cache` object of an event."""
        return {"status": self.status, "reason": self.reason}

    @property
    def headers(self) -> dict[str, str]:
        """Those of the answer; none where no policy is on, so that a stack without a cache says nothing of one."""
        if self.reason == OFF.reason:
            return {}
        found = {"x-cache": self.status}
        if self.reason:
            found["x-cache-reason"] = self.reason
        if self.age is not None:
            found["age"] = str(self.age)
        if self.saved:
            found["x-cache-saved"] = self.saved
        return found


OFF = CacheUse()
