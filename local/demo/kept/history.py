"""The demo server's responses: what was asked and said, by `previous_response_id` and by conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from local.demo.kept.conversations import Conversations
from local.demo.kept.items import as_kept, items_of
from local.demo.kept.shelf import Asked, Object, Place, Shelf, in_order, page
from local.demo.replies import Body, RefusedError, object_of


@dataclass(frozen=True, slots=True)
class Asking:
    """The items that a response answers: what was said `before`, and what came with the request."""

    before: Sequence[Object]
    sent: Sequence[Object]
    conversation: str | None = None

    @property
    def items(self) -> list[Object]:
        """All of them, in their order."""
        return [*self.before, *self.sent]


@dataclass(frozen=True, slots=True)
class _Kept:
    about: Object
    items: Sequence[Object]


class History:
    """The responses by their ids."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._responses = Shelf[_Kept]("Response with id '{id}' not found.")

    def places(self) -> list[Place]:
        """What is answered below `/responses`, but for what a model would make."""
        one = "/v1/responses/{id}"
        return [
            Place("GET", one, lambda asked: self._responses.get(asked.id).about),
            Place("DELETE", one, self._delete),
            Place("GET", f"{one}/input_items", self._input_items),
            Place("POST", f"{one}/cancel", self._cancel),
        ]

    def asking(self, body: Body) -> Asking:
        """What a request asks, with what it refers to. Raises RefusedError."""
        sent = [self._found(item) for item in items_of(body.get("input"), "input")]
        kept = [as_kept(item, f"input[{number}]") for number, item in enumerate(sent)]
        previous, conversation = body.get("previous_response_id"), _conversation_of(body)
        if previous and conversation:
            message = (
                "Mutually exclusive parameters. "
                "Ensure you are only providing one of: 'previous_response_id' or 'conversation'."
            )
            raise RefusedError(400, message, None, "mutually_exclusive_parameters")
        if previous:
            if previous not in self._responses:
                message = f"Previous response with id '{str(previous)[:100]}' not found."
                raise RefusedError(400, message, "previous_response_id", "previous_response_not_found")
            before = self._responses.get(previous)
            return Asking([*before.items, *before.about["output"]], kept)
        return Asking(self._conversations.items(conversation) if conversation else [], kept, conversation)

    def keep(self, response: Object, asking: Asking) -> None:
        """A finished response, which its conversation gets in any case and `store: false` keeps from all else."""
        if asking.conversation:
            self._conversations.add(asking.conversation, [*asking.sent, *response["output"]])
        if response["store"] is not False:
            self._responses.put(response["id"], _Kept(response, asking.items))

    def _found(self, item: Object) -> Object:
        """The item itself, where a client sends its id alone. Raises RefusedError (404)."""
        if "id" not in item or "role" in item or item.get("type", "item_reference") != "item_reference":
            return item
        kept = (each for response in self._responses.all() for each in (*response.items, *response.about["output"]))
        if found := next((each for each in kept if each.get("id") == item.get("id")), None):
            return found
        name = str(item.get("id"))[:100]
        message = f"Item with id '{name}' not found. Items are not persisted when `store` is set to false."
        raise RefusedError(404, message, "input")

    def _delete(self, asked: Asked) -> Object:
        self._responses.remove(asked.id)
        return {"id": asked.id, "object": "response", "deleted": True}

    def _input_items(self, asked: Asked) -> Object:
        return page(in_order(self._responses.get(asked.id).items, asked.query), asked.query)

    def _cancel(self, asked: Asked) -> Object:
        """Every response is finished when its client learns its id: there is nothing to cancel."""
        about: Mapping[str, object] = self._responses.get(asked.id).about
        if not about.get("background"):
            raise RefusedError(400, "Only responses created with `background: true` can be cancelled.")
        raise RefusedError(400, "Cannot cancel a completed response.")


def _conversation_of(body: Body) -> str | None:
    """The id, which comes as a text or in an object. Raises RefusedError."""
    given = body.get("conversation")
    name = object_of(given).get("id") if isinstance(given, dict) else given
    if name is not None and not isinstance(name, str):
        raise RefusedError(400, "Invalid type for 'conversation': expected an id.", "conversation", "invalid_type")
    return name or None
