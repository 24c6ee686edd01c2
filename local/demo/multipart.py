"""Reading `multipart/form-data` (https://www.rfc-editor.org/rfc/rfc7578), byte for byte. Pure."""

import re
from dataclasses import dataclass
from typing import Any

from local.demo.errors import RefusedError

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*(name|filename)="([^"]*)"', re.IGNORECASE)
_TYPE = re.compile(r"^content-type:\s*([^\r\n]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form."""

    name: str
    content: bytes
    media_type: str


def parse_form(content_type: str, body: bytes) -> dict[str, Any]:
    """Fields are texts and files are `Upload`s; what is named `name[]`, or comes again, is a list.

    Raises RefusedError for what is no form.
    """
    boundary = _BOUNDARY.search(content_type)
    if not content_type.startswith("multipart/form-data") or boundary is None:
        raise RefusedError(400, "The body is not multipart/form-data.")
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    if not parts or not parts.pop().startswith(b"--"):
        raise RefusedError(400, "The form is incomplete.")
    form: dict[str, Any] = {}
    for part in parts:
        head, _, content = part.partition(b"\r\n\r\n")
        _add(form, head.decode(errors="replace"), content)
    return form


def _add(form: dict[str, Any], head: str, content: bytes) -> None:
    parameters = {name.lower(): value for name, value in _PARAMETER.findall(head)}
    name = parameters.get("name")
    if name is None:
        raise RefusedError(400, "A part of the form has no name.")
    value: Any
    if "filename" in parameters:
        media_type = _TYPE.search(head)
        value = Upload(parameters["filename"], content, media_type[1] if media_type else "application/octet-stream")
    else:
        value = content.decode(errors="replace")
    plain = name.removesuffix("[]")
    if plain in form:
        form[plain] = [*(form[plain] if isinstance(form[plain], list) else [form[plain]]), value]
    else:
        form[plain] = [value] if plain != name else value
