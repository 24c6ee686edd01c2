"""The demo server's vector stores: files whose texts can be searched, for words and not for meanings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from local.demo.kept.files import Files
from local.demo.kept.search import chunking_of, found
from local.demo.kept.shelf import Asked, Object, Place, Shelf, bounded_list, in_order, metadata_of, page
from local.demo.replies import Body, RefusedError, new_id, now, object_of

_MOST_FILES = 500
_DAY = 24 * 3600
_STATUSES = ("in_progress", "completed", "cancelled", "failed")
_ONE, _FILE = "/v1/vector_stores/{id}", "/v1/vector_stores/{id}/files/{file}"
_BATCHES = "/v1/vector_stores/{id}/file_batches"


@dataclass(frozen=True, slots=True)
class _Store:
    """OpenAI's object, and the files and batches in it by their ids."""

    about: Object
    files: dict[str, Object] = field(default_factory=dict[str, Object])
    batches: Shelf[tuple[Object, Sequence[str]]] = field(
        default_factory=lambda: Shelf[tuple[Object, Sequence[str]]]("No file batch found with id '{id}'.")
    )


class VectorStores:
    """The vector stores by their ids. A file is ready at once."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._stores = Shelf[_Store]("Vector store with id '{id}' not found.")

    def places(self) -> list[Place]:
        """What is answered below `/vector_stores`."""
        return [
            Place("POST", "/v1/vector_stores", self._create),
            Place("GET", "/v1/vector_stores", self._listed),
            Place("GET", _ONE, lambda asked: self._told(self._store(asked))),
            Place("POST", _ONE, self._update),
            Place("DELETE", _ONE, self._delete),
            Place("POST", f"{_ONE}/search", self._search, ("query",)),
            Place("POST", f"{_ONE}/files", self._attach, ("file_id",)),
            Place("GET", f"{_ONE}/files", lambda asked: _page(list(self._store(asked).files.values()), asked)),
            Place("GET", _FILE, self._file),
            Place("POST", _FILE, self._describe, ("attributes",)),
            Place("DELETE", _FILE, self._detach),
            Place("GET", f"{_FILE}/content", self._content),
            Place("POST", _BATCHES, self._attach_all),
            Place("GET", f"{_BATCHES}/{{batch}}", lambda asked: self._batch(asked)[0]),
            Place("POST", f"{_BATCHES}/{{batch}}/cancel", lambda asked: self._batch(asked)[0]),
            Place("GET", f"{_BATCHES}/{{batch}}/files", self._of_batch),
        ]

    def _store(self, asked: Asked) -> _Store:
        return self._stores.get(asked.id)

    def _create(self, asked: Asked) -> Object:
        files = bounded_list(asked.body, "file_ids", _MOST_FILES)
        about: Object = {
            "id": new_id("vs_"),
            "object": "vector_store",
            "created_at": now(),
            "name": str(asked.body.get("name") or ""),
            "description": asked.body.get("description"),
            "last_active_at": now(),
            "metadata": metadata_of(asked.body),
            "expires_after": _expires_after(asked.body),
        }
        store = _Store(about)
        self._add(store, [{"file_id": each} for each in files], asked.body)
        self._stores.put(about["id"], store)
        return self._told(store)

    def _told(self, store: _Store) -> Object:
        """The object with what its files make of it."""
        days = object_of(store.about["expires_after"]).get("days")
        ends = store.about["last_active_at"] + days * _DAY if days else None
        files = list(store.files.values())
        return {
            **store.about,
            "status": "expired" if ends and ends <= now() else "completed",
            "expires_at": ends,
            "file_counts": _counts(files),
            "usage_bytes": sum(each["usage_bytes"] for each in files),
        }

    def _listed(self, asked: Asked) -> Object:
        return page(in_order([self._told(each) for each in self._stores.all()], asked.query), asked.query)

    def _update(self, asked: Asked) -> Object:
        store = self._store(asked)
        changed: Object = {"last_active_at": now()}
        if asked.body.get("name") is not None:
            changed["name"] = str(asked.body["name"])
        if "metadata" in asked.body:
            changed["metadata"] = metadata_of(asked.body)
        if "expires_after" in asked.body:
            changed["expires_after"] = _expires_after(asked.body)
        store.about.update(changed)
        return self._told(store)

    def _delete(self, asked: Asked) -> Object:
        self._stores.remove(asked.id)
        return {"id": asked.id, "object": "vector_store.deleted", "deleted": True}

    def _search(self, asked: Asked) -> Object:
        store = self._store(asked)
        store.about["last_active_at"] = now()
        ready = [each for each in store.files.values() if each["status"] == "completed" and each["id"] in self._files]
        return found(asked.body, [(each, self._files.get(each["id"])) for each in ready])

    def _attach(self, asked: Asked) -> Object:
        (added,) = self._add(self._store(asked), [asked.body], asked.body)
        return added

    def _add(self, store: _Store, wanted: Sequence[Body], defaults: Body) -> list[Object]:
        """Put files into a store: all of them, or none. Raises RefusedError (404, 400)."""
        made = [self._made(store, each, defaults) for each in wanted]
        store.files.update({each["id"]: each for each in made})
        while len(store.files) > _MOST_FILES:
            del store.files[next(iter(store.files))]
        return made

    def _made(self, store: _Store, wanted: Body, defaults: Body) -> Object:
        file = self._files.get(str(wanted["file_id"]))
        try:
            file.content.decode()
            fault = None
        except UnicodeDecodeError:
            fault = {"code": "unsupported_file", "message": "The demo server searches files of UTF-8 text only."}
        return {
            "id": file.about["id"],
            "object": "vector_store.file",
            "created_at": now(),
            "vector_store_id": store.about["id"],
            "status": "failed" if fault else "completed",
            "last_error": fault,
            "usage_bytes": 0 if fault else len(file.content),
            "attributes": object_of(wanted.get("attributes", defaults.get("attributes"))),
            "chunking_strategy": chunking_of(wanted.get("chunking_strategy") or defaults.get("chunking_strategy")),
        }

    def _file(self, asked: Asked) -> Object:
        kept, name = self._store(asked).files, asked.ids["file"]
        if name not in kept:
            raise RefusedError(404, f"No file found with id '{name}' in vector store '{asked.id}'.")
        return kept[name]

    def _describe(self, asked: Asked) -> Object:
        about = self._file(asked)
        about["attributes"] = object_of(asked.body["attributes"])
        return about

    def _detach(self, asked: Asked) -> Object:
        about = self._file(asked)
        del self._store(asked).files[about["id"]]
        return {"id": about["id"], "object": "vector_store.file.deleted", "deleted": True}

    def _content(self, asked: Asked) -> Object:
        text = self._files.get(self._file(asked)["id"]).content.decode(errors="replace")
        told = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
        return {**told, "data": [{"type": "text", "text": text}]}

    def _attach_all(self, asked: Asked) -> Object:
        store, files = self._store(asked), bounded_list(asked.body, "files", _MOST_FILES)
        names = bounded_list(asked.body, "file_ids", _MOST_FILES)
        if bool(files) == bool(names):
            raise RefusedError(400, "You must provide one of 'file_ids' and 'files'.", "file_ids")
        added = self._add(store, files or [{"file_id": name} for name in names], {} if files else asked.body)
        about: dict[str, Any] = {
            "id": new_id("vsfb_"),
            "object": "vector_store.files_batch",
            "created_at": now(),
            "vector_store_id": asked.id,
            "status": "completed",
            "file_counts": _counts(added),
        }
        store.batches.put(about["id"], (about, [each["id"] for each in added]))
        return about

    def _batch(self, asked: Asked) -> tuple[Object, Sequence[str]]:
        return self._store(asked).batches.get(asked.ids["batch"])

    def _of_batch(self, asked: Asked) -> Object:
        names, files = self._batch(asked)[1], self._store(asked).files
        return _page([files[name] for name in names if name in files], asked)


def _page(files: Sequence[Object], asked: Asked) -> Object:
    status = asked.query.get("filter")
    if status not in (None, *_STATUSES):
        raise RefusedError(400, f"'filter' is not one of {', '.join(_STATUSES)}.", "filter", "invalid_value")
    return page(in_order([each for each in files if status in (None, each["status"])], asked.query), asked.query)


def _counts(files: Sequence[Object]) -> dict[str, int]:
    return {status: sum(each["status"] == status for each in files) for status in _STATUSES} | {"total": len(files)}


def _expires_after(body: Body) -> Object | None:
    """Raises RefusedError."""
    if (given := body.get("expires_after")) is None:
        return None
    fields = object_of(given)
    days = fields.get("days")
    if fields.get("anchor") != "last_active_at" or not isinstance(days, int) or not 1 <= days <= 365:
        message = "'expires_after' has the 'anchor' last_active_at, and 'days' from 1 to 365."
        raise RefusedError(400, message, "expires_after", "invalid_value")
    return fields
