"""The demo server's conversations: their items, in the order in which they came."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from local.demo.kept.items import as_kept, items_of
from local.demo.kept.shelf import Asked, Object, Place, Shelf, bounded_list, in_order, metadata_of, page
from local.demo.replies import Body, RefusedError, new_id, now

_MOST_AT_ONCE = 20
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class _Conversation:
    about: Object
    items: list[Object] = field(default_factory=list[Object])


class Conversations:
    """The conversations by their ids."""

    def __init__(self) -> None:
        self._conversations = Shelf[_Conversation]("Conversation with id '{id}' not found.")

    def places(self) -> list[Place]:
        """What is answered below `/conversations`."""
        one, items = "/v1/conversations/{id}", "/v1/conversations/{id}/items"
        return [
            Place("POST", "/v1/conversations", self._create),
            Place("GET", one, lambda asked: self._conversations.get(asked.id).about),
            Place("POST", one, self._update, ("metadata",)),
            Place("DELETE", one, self._delete),
            Place("POST", items, self._add, ("items",)),
            Place("GET", items, self._listed),
            Place("GET", f"{items}/{{item}}", self._item),
            Place("DELETE", f"{items}/{{item}}", self._remove),
        ]

    def items(self, name: str) -> list[Object]:
        """What has been said so far. Raises RefusedError (404)."""
        return list(self._conversations.get(name).items)

    def add(self, name: str, items: Sequence[Object]) -> None:
        """More that was said, of which each item has its id; the oldest is forgotten. Raises RefusedError (404)."""
        kept = self._conversations.get(name).items
        kept += items
        del kept[:-_MOST_ITEMS]

    def _create(self, asked: Asked) -> Object:
        items, metadata = _sent(asked.body), metadata_of(asked.body)
        about: Object = {"id": new_id("conv_"), "object": "conversation", "created_at": now(), "metadata": metadata}
        self._conversations.put(about["id"], _Conversation(about, items))
        return about

    def _update(self, asked: Asked) -> Object:
        about = self._conversations.get(asked.id).about
        about["metadata"] = metadata_of(asked.body)
        return about

    def _delete(self, asked: Asked) -> Object:
        self._conversations.remove(asked.id)
        return {"id": asked.id, "object": "conversation.deleted", "deleted": True}

    def _add(self, asked: Asked) -> Object:
        self._conversations.get(asked.id)
        items = _sent(asked.body)
        self.add(asked.id, items)
        return page(items, {}, _MOST_AT_ONCE)

    def _listed(self, asked: Asked) -> Object:
        return page(in_order(self._conversations.get(asked.id).items, asked.query), asked.query)

    def _item(self, asked: Asked) -> Object:
        items = self._conversations.get(asked.id).items
        if found := [item for item in items if item["id"] == asked.ids["item"]]:
            return found[0]
        raise RefusedError(404, f"Item with id '{asked.ids['item']}' not found in conversation '{asked.id}'.")

    def _remove(self, asked: Asked) -> Object:
        item = self._item(asked)
        conversation = self._conversations.get(asked.id)
        conversation.items.remove(item)
        return conversation.about


def _sent(body: Body) -> list[Object]:
    sent = items_of(bounded_list(body, "items", _MOST_AT_ONCE), "items")
    return [as_kept(item, f"items[{number}]") for number, item in enumerate(sent)]
