"""The demo server's files, kept in memory. When there are too many, the oldest is forgotten."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local.demo.kept.shelf import Place, in_order, page
from local.demo.multipart import Upload
from local.demo.replies import Body, RefusedError, new_id, now

MOST_FILES = 100
MOST_BYTES = 64 * 1024 * 1024
_MOST_LISTED = 10_000

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """OpenAI's file object, and what is in the file."""

    about: dict[str, Any]
    content: bytes


class Files:
    """The files by their ids, oldest first."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def places(self) -> list[Place]:
        """What is answered below `/files`."""
        return [
            Place("POST", "/v1/files", lambda asked: self.upload(asked.body), ("file", "purpose")),
            Place("GET", "/v1/files", lambda asked: self.listed(asked.query)),
            Place("GET", "/v1/files/{id}", lambda asked: self.get(asked.id).about),
            Place("DELETE", "/v1/files/{id}", lambda asked: self.delete(asked.id)),
            Place("GET", "/v1/files/{id}/content", lambda asked: self.get(asked.id).content),
        ]

    def upload(self, form: Body) -> dict[str, Any]:
        """`POST /files`. Raises RefusedError."""
        if not isinstance(form["file"], Upload):
            raise RefusedError(400, "'file' is not a file.", "file")
        return self.keep(form["file"].name, form["file"].content, purpose_of(form))

    def keep(self, name: str, content: bytes, purpose: str) -> dict[str, Any]:
        """Keep a file; its object. Raises RefusedError when it is larger than all files together may be."""
        if len(content) > MOST_BYTES:
            raise RefusedError(413, f"The demo server keeps no more than {MOST_BYTES} bytes.", "file")
        about: dict[str, Any] = {
            "id": new_id("file-"),
            "object": "file",
            "bytes": len(content),
            "created_at": now(),
            "expires_at": None,
            "filename": name,
            "purpose": purpose,
            "status": "processed",
        }
        self._files[about["id"]] = StoredFile(about, content)
        while len(self._files) > MOST_FILES or sum(len(file.content) for file in self._files.values()) > MOST_BYTES:
            del self._files[next(iter(self._files))]
        return about

    def __contains__(self, file_id: str) -> bool:
        return file_id in self._files

    def get(self, file_id: str) -> StoredFile:
        """`GET /files/{id}`. Raises RefusedError."""
        found = self._files.get(file_id)
        if found is None:
            raise RefusedError(404, f"No such File object: {file_id}", "id")
        return found

    def delete(self, file_id: str) -> dict[str, Any]:
        """`DELETE /files/{id}`. Raises RefusedError."""
        self.get(file_id)
        del self._files[file_id]
        return {"id": file_id, "object": "file", "deleted": True}

    def listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """`GET /files`, newest first unless `order=asc`."""
        about = [file.about for file in self._files.values()]
        if purpose := query.get("purpose"):
            about = [each for each in about if each["purpose"] == purpose]
        return page(in_order(about, query), query, _MOST_LISTED, _MOST_LISTED)


def purpose_of(body: Body) -> str:
    """What a client may keep a file for. Raises RefusedError."""
    if body["purpose"] not in PURPOSES:
        raise RefusedError(400, f"'{body['purpose']}' is not one of {', '.join(PURPOSES)}.", "purpose")
    return body["purpose"]
