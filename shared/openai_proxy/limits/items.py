"""The items of the limits table: their keys, the names of their attributes, and the leases in them. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from openai_proxy.dynamodb import Item, from_attribute
from openai_proxy.limits.windows import Period

MINUTE, REQUESTS, TOKENS = "minute", "requests", "tokens"
LIVE: Literal["live"] = "live"
TOOK: Literal["took"] = "took"
EXPIRES_AT = "expires_at"

LONGEST_MODEL = 128
"""As many characters of a model's name as a price hint is called by."""
_LEASE_LENGTH = 10
"""50 random bits are enough to tell running requests apart, and 1 KB has room for some 25 of them: a write unit."""


def counter_key(limits_id: str) -> dict[str, Any]:
    """The key of a counter."""
    return _key(f"limits#{limits_id}")


def limits_id_of(pk: str) -> str:
    """Whose counter it is."""
    return pk.removeprefix("limits#")


def settled_key(event_id: str) -> dict[str, Any]:
    """The key of the marker of a settled inference."""
    return _key(f"settled#{event_id}")


def hint_key(server: str, model: str) -> dict[str, Any]:
    """The key of a price hint."""
    return _key(f"price#{server}#{model[:LONGEST_MODEL]}")


def cost_in(period: Period) -> str:
    """The attribute with all of a budget that is gone: what is settled, and what is reserved."""
    return f"{period}_cost"


def spent_in(period: Period) -> str:
    """The attribute with what is settled."""
    return f"{period}_spent"


def told_in(period: Period) -> str:
    """The attribute with the highest threshold that was told."""
    return f"told_{period}"


def told_budget_in(period: Period) -> str:
    """The attribute with the budget that this threshold was of."""
    return f"told_{period}_budget"


def lease_of(inference_id: str) -> str:
    """The name of an inference's lease."""
    return inference_id[-_LEASE_LENGTH:]


class Leased(NamedTuple):
    """A lease as it is found: its end and when it was taken (Unix), and what it reserves (USD)."""

    end: int
    cost: Decimal = Decimal(0)
    at: int = 0

    @classmethod
    def of(cls, value: Any) -> "Leased":
        """A lease in plain values: a map of keys with a budget, else the number of its end.

        Raises KeyError, TypeError, ValueError or ArithmeticError for what is none.
        """
        if isinstance(value, Mapping):
            parts: dict[str, Any] = {"cost": 0, "at": 0, **value}
            return cls(int(parts["end"]), Decimal(parts["cost"]), int(parts["at"]))
        return cls(int(value))


def leases(counter: Item, place: Literal["live", "took"] = LIVE) -> dict[str, Leased]:
    """The leases of a counter in DynamoDB's JSON. Raises as `Leased.of`."""
    found: Any = from_attribute(counter[place]) if place in counter else None
    return {name: Leased.of(value) for name, value in found.items()} if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def hint_values(per_input: Decimal, per_output: Decimal, answer: int | None) -> dict[str, Any]:
    """The attributes of a price hint: USD per token, and the tokens of an answer where they are known."""
    return {"input": per_input, "output": per_output} | ({} if answer is None else {"answer": answer})


def read_hint(values: Mapping[str, Any]) -> tuple[Decimal, Decimal, int | None]:
    """The inverse of `hint_values`. Raises KeyError, TypeError, ValueError or ArithmeticError for what is none."""
    answer = int(values["answer"]) if "answer" in values else None
    return Decimal(values["input"]), Decimal(values["output"]), answer


def _key(pk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}}
