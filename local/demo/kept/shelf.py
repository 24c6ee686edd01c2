"""Objects of one kind by their ids, and the pages in which lists of them are told. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from local.demo.replies import Body, RefusedError, list_of, object_of

MOST_KEPT = 100
_MOST_LISTED = 100
_LISTED = 20
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512

Object = dict[str, Any]
Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for what is kept: the names in its path, its query, and its JSON object or the fields of its form."""

    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Body

    @property
    def id(self) -> str:
        """The id of what is asked for."""
        return self.ids["id"]


@dataclass(frozen=True, slots=True)
class Place:
    """What is answered at a method and a path; the fields of a body that have to be there."""

    method: str
    path: str
    answer: Callable[[Asked], Object | bytes]
    required: Sequence[str] = ()


class Shelf(Generic[Kept]):
    """A bounded number of things by their ids, oldest first. `missing` says that there is none, for an `{id}`."""

    def __init__(self, missing: str, most: int = MOST_KEPT) -> None:
        self._missing = missing
        self._most = most
        self._kept: dict[str, Kept] = {}

    def put(self, name: str, kept: Kept) -> None:
        """Keep it, and forget the oldest when there are too many."""
        self._kept[name] = kept
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def get(self, name: str) -> Kept:
        """Raises RefusedError (404)."""
        if name not in self._kept:
            raise RefusedError(404, self._missing.format(id=name))
        return self._kept[name]

    def remove(self, name: str) -> Kept:
        """Raises RefusedError (404)."""
        self.get(name)
        return self._kept.pop(name)

    def all(self) -> list[Kept]:
        """Everything, oldest first."""
        return list(self._kept.values())

    def __contains__(self, name: str) -> bool:
        return name in self._kept


def page(objects: Sequence[Object], query: Mapping[str, str], limit: int = _LISTED, most: int = _MOST_LISTED) -> Object:
    """One page of a list: at most `limit` objects, behind `after` or before `before`. Raises RefusedError."""
    given = query.get("limit", str(limit))
    if not given.isdecimal() or int(given) < 1:
        raise RefusedError(400, "'limit' is not a number from 1.", "limit", "integer_below_min_value")
    if int(given) > most:
        message = f"Invalid 'limit': integer above maximum value. Expected a value <= {most}, but got {given} instead."
        raise RefusedError(400, message, "limit", "integer_above_max_value")
    ids = [each["id"] for each in objects]
    begin = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    end = ids.index(query["before"]) if query.get("before") in ids else len(ids)
    shown = list(objects[begin:end][: int(given)])
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": begin + len(shown) < end,
    }


def in_order(objects: Sequence[Object], query: Mapping[str, str]) -> Sequence[Object]:
    """The objects, which are oldest first, as `order` wants them: newest first without one. Raises RefusedError."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        message = f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'."
        raise RefusedError(400, message, "order", "invalid_value")
    return objects if order == "asc" else objects[::-1]


def metadata_of(body: Body) -> dict[str, str]:
    """The texts that a client attaches to an object. Raises RefusedError."""
    given = body.get("metadata")
    pairs = object_of(given)
    if given is not None and not isinstance(given, dict):
        raise RefusedError(400, "Invalid type for 'metadata': expected an object.", "metadata", "invalid_type")
    if len(pairs) > _MOST_PAIRS:
        message = f"Invalid 'metadata': too many properties. Expected an object with at most {_MOST_PAIRS} properties."
        raise RefusedError(400, message, "metadata", "object_above_max_properties")
    for name, value in pairs.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'metadata.{name[:_LONGEST_KEY]}': expected a string."
            raise RefusedError(400, message, "metadata", "invalid_type")
        if len(name) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            message = (
                f"'metadata' has a name of more than {_LONGEST_KEY} or a text of more than {_LONGEST_VALUE} characters."
            )
            raise RefusedError(400, message, "metadata", "string_above_max_length")
    return pairs


def bounded_list(body: Body, name: str, most: int) -> list[Any]:
    """The list in a field, empty when there is none. Raises RefusedError."""
    given = body.get(name)
    if given is not None and not isinstance(given, list):
        raise RefusedError(400, f"Invalid type for '{name}': expected an array.", name, "invalid_type")
    entries = list_of(given)
    if len(entries) > most:
        message = (
            f"Invalid '{name}': array too long. Expected an array with maximum length {most}, "
            f"but got an array with length {len(entries)} instead."
        )
        raise RefusedError(400, message, name, "array_above_max_length")
    return entries
