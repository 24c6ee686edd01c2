"""The demo server's uploads: a file that comes in parts, put together when it is complete."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from local.demo.kept.files import MOST_BYTES, Files, purpose_of
from local.demo.kept.shelf import Asked, Object, Place, Shelf, bounded_list
from local.demo.multipart import Upload
from local.demo.replies import RefusedError, new_id, now

_MOST_PARTS = 10_000
_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class _Begun:
    """OpenAI's upload object, and the parts that have come by their ids."""

    about: Object
    parts: dict[str, bytes] = field(default_factory=dict[str, bytes])


class Uploads:
    """The uploads by their ids."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._uploads = Shelf[_Begun]("No Upload found with id '{id}'.")

    def places(self) -> list[Place]:
        """What is answered below `/uploads`."""
        required = ("filename", "bytes", "mime_type", "purpose")
        return [
            Place("POST", "/v1/uploads", self._create, required),
            Place("POST", "/v1/uploads/{id}/parts", self._add, ("data",)),
            Place("POST", "/v1/uploads/{id}/complete", self._complete, ("part_ids",)),
            Place("POST", "/v1/uploads/{id}/cancel", self._cancel),
        ]

    def _create(self, asked: Asked) -> Object:
        size = asked.body["bytes"]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MOST_BYTES:
            raise RefusedError(400, f"'bytes' is not a number from 1 to {MOST_BYTES}.", "bytes")
        about: Object = {
            "id": new_id("upload_"),
            "object": "upload",
            "bytes": size,
            "created_at": now(),
            "expires_at": now() + _SECONDS,
            "filename": str(asked.body["filename"]),
            "purpose": purpose_of(asked.body),
            "status": "pending",
            "file": None,
        }
        self._uploads.put(about["id"], _Begun(about))
        return about

    def _add(self, asked: Asked) -> Object:
        begun = self._pending(asked.id)
        data: Any = asked.body["data"]
        if not isinstance(data, Upload):
            raise RefusedError(400, "'data' is not a file.", "data")
        if sum(map(len, begun.parts.values())) + len(data.content) > begun.about["bytes"]:
            raise RefusedError(400, f"The parts have more than the {begun.about['bytes']} bytes of the upload.", "data")
        part = new_id("part_")
        begun.parts[part] = data.content
        return {"id": part, "object": "upload.part", "created_at": now(), "upload_id": asked.id}

    def _complete(self, asked: Asked) -> Object:
        """The parts in the order of `part_ids`, as one file."""
        begun = self._pending(asked.id)
        names = bounded_list(asked.body, "part_ids", _MOST_PARTS)
        if unknown := [name for name in names if name not in begun.parts]:
            raise RefusedError(400, f"The upload has no part '{str(unknown[0])[:100]}'.", "part_ids")
        content = b"".join(begun.parts[name] for name in names)
        if len(content) != begun.about["bytes"]:
            message = f"The parts have {len(content)} bytes, and the upload was to have {begun.about['bytes']}."
            raise RefusedError(400, message, "part_ids")
        told = asked.body.get("md5")
        if told and told != hashlib.md5(content, usedforsecurity=False).hexdigest():
            raise RefusedError(400, "The parts have another checksum than 'md5'.", "md5")
        begun.about["file"] = self._files.keep(begun.about["filename"], content, begun.about["purpose"])
        return self._ended(begun, "completed")

    def _cancel(self, asked: Asked) -> Object:
        return self._ended(self._pending(asked.id), "cancelled")

    @staticmethod
    def _ended(begun: _Begun, status: str) -> Object:
        begun.about["status"] = status
        begun.parts.clear()
        return begun.about

    def _pending(self, name: str) -> _Begun:
        begun = self._uploads.get(name)
        if begun.about["status"] == "pending" and begun.about["expires_at"] <= now():
            self._ended(begun, "expired")
        if begun.about["status"] != "pending":
            raise RefusedError(400, f"Upload '{name}' is {begun.about['status']}, not pending.")
        return begun
