"""Makes, changes, rotates and revokes client keys. A key is shown once, where it is made.

Its one rule: a key is changed only if it is still as it was when it was read. Of two rotations at once one fails, and a
change that races with another is refused, not lost.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from openai_proxy.client_keys import (
    ATTRIBUTES,
    BUDGET_OF_RESET,
    BUDGETS,
    hash_client_key,
    key_id_of,
    new_client_key,
    read_attributes,
    without_keys,
)
from openai_proxy.events.envelope import rfc3339

from console.errors import ConsoleError
from console.keys.store import KeyStore, StoredKey

DEFAULT_CACHE_TTL = 3600
CURRENCY = "USD"
# These belong to one key; all else is handed on from a key to the one that replaces it.
_OWN = ("key_hash", "created_at", "rotated_at", "replaced_by")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person wants of a key: attributes to set or to unset, tags to add, parts of the cache policy to set."""

    values: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    cache: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unset: Collection[str] = ()

    def applied_to(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """`item` with these changes; `_checked` says whether that is fit to be stored. Raises ConsoleError."""
        after = {name: value for name, value in item.items() if name not in self.unset} | dict(self.values)
        if self.tags:
            after["tags"] = _mapping(after.get("tags")) | dict(self.tags)
        if self.cache:
            policy = _mapping(after.get("cache")) | dict(self.cache)
            if "mode" not in policy:
                raise ConsoleError("--cache-ttl and --cache-pool need a cache that is on. Remedy: add --cache on.")
            if policy["mode"] == "off" and self.cache.keys() & {"ttl", "pool"}:
                raise ConsoleError(
                    "--cache-ttl and --cache-pool have no effect with --cache off. Remedy: add --cache on."
                )
            if policy["mode"] == "on":
                policy = {"ttl": DEFAULT_CACHE_TTL} | policy
            after["cache"] = policy
        if any(name in after for name in BUDGETS):
            after.setdefault("currency", CURRENCY)
        else:
            if "currency" in self.values:
                raise ConsoleError("--currency is that of budgets, and there is none. Remedy: name a budget too.")
            after.pop("currency", None)
        check_resets(item, after)
        return after


def create_key(store: KeyStore, wanted: Wanted, now: float) -> tuple[str, StoredKey]:
    """Make and store a key. Returns the key itself, for the only time, and what is stored. Raises ConsoleError."""
    key = new_client_key()
    own = {"key_hash": hash_client_key(key), "enabled": True, "created_at": rfc3339(now)}
    return key, store.add(_checked(wanted.applied_to(own)))


def update_key(store: KeyStore, before: StoredKey, wanted: Wanted) -> StoredKey:
    """Change a key; one with a damaged item can be changed into one without. Raises ConsoleError."""
    after = _checked(wanted.applied_to(before.item))
    changed = {name for name in before.item.keys() | after.keys() if before.item.get(name) != after.get(name)}
    return store.replace(before, after) if changed else before


def rotate_key(store: KeyStore, old: StoredKey, grace_seconds: int, now: float) -> tuple[str, StoredKey, StoredKey]:
    """Make a key that takes the place of `old`, which stays good for a grace time or until it expires, if earlier.

    Both share counters and budgets. Returns the new key itself, for the only time, and both as stored. Raises
    ConsoleError.
    """
    state = old.state(now)
    if state == "rotated":
        raise ConsoleError(f"Key {old.key_id} was replaced by {old.values['replaced_by']}. Remedy: rotate that one.")
    if state != "enabled":
        mend = "see `openai-proxy keys show`, and mend it with `openai-proxy keys update`"
        remedy = mend if state == "damaged" else "make a new one"
        raise ConsoleError(f"Key {old.key_id} is {state}: only a key that is good can be rotated. Remedy: {remedy}.")
    key = new_client_key()
    handed_on = {name: value for name, value in old.item.items() if name not in _OWN}
    new = {
        **handed_on,
        "key_hash": hash_client_key(key),
        "created_at": rfc3339(now),
        "limits_id": old.values.get("limits_id", old.key_id),
    }
    end = int(now) + grace_seconds
    replaced = {
        **old.item,
        "expires_at": min(end, old.values.get("expires_at", end)),
        "rotated_at": rfc3339(now),
        "replaced_by": key_id_of(new["key_hash"]),
    }
    return key, *store.add_and_replace(_checked(new), old, _checked(replaced))


def revoke_key(store: KeyStore, key: StoredKey) -> bool:
    """Disable a key. Returns whether it was enabled. The item stays: a list shows who had access until it expires."""
    return key.item.get("enabled") is not False and store.disable(key)


def revoke_client(store: KeyStore, client_id: str) -> list[StoredKey]:
    """Disable all keys of a client. Returns those that were enabled. Raises ConsoleError when there are no keys."""
    revoked: list[StoredKey] = []
    while True:  # until none is left: meanwhile a key may have been rotated
        keys = [key for key in store.all() if key.client_id == client_id]
        if not keys and not revoked:
            remedy = "`openai-proxy keys list` shows all keys"
            raise ConsoleError(f"There is no key of client '{client_id}'. Remedy: {remedy}.")
        disabled = [key for key in keys if revoke_key(store, key)]
        if not disabled:
            return revoked
        revoked += disabled


def others_of_its_line(store: KeyStore, key: StoredKey, now: float) -> list[StoredKey]:
    """The keys that are good and share the limits of `key`: those it replaced, or that replaced it."""
    return [
        other
        for other in store.all()
        if other.limits_id == key.limits_id
        and other.key_hash != key.key_hash
        and other.state(now) in ("enabled", "rotated")
    ]


def check_resets(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """When weeks and months begin matters to their budgets alone: a change must not end with the one and without the
    other. What was so before is left as it is. Raises ConsoleError.
    """
    for reset, budget in BUDGET_OF_RESET.items():
        was_so = reset in before and budget not in before and before[reset] == after.get(reset)
        if reset in after and budget not in after and not was_so:
            option, of = (f"--{name.replace('_', '-')}" for name in (reset, budget))
            unset = f", or --unset {option[2:]}" if reset in before else ""
            raise ConsoleError(f"{option} has no effect without {of}. Remedy: name that budget too{unset}.")


def _mapping(value: Any) -> dict[str, Any]:
    """`value` if it is a mapping, else an empty one: of a damaged value nothing can be kept."""
    return dict(value) if isinstance(value, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType]


def _checked(item: dict[str, Any]) -> dict[str, Any]:
    for name, value in item.items():
        if name in ATTRIBUTES and without_keys(repr(value)) != repr(value):
            raise ConsoleError(
                f"{name} would hold what looks like a client key. Keys are not stored anywhere. "
                "Remedy: write something else there."
            )
    _, problems = read_attributes(item)
    if problems:
        raise ConsoleError("; ".join(problems) + ".")
    return item
