"""Reads `multipart/form-data` (https://www.rfc-editor.org/rfc/rfc7578) with python-multipart, byte for byte."""

from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from local.demo.replies import RefusedError


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
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise RefusedError(400, "The body is not multipart/form-data.")
    parts: list[Field | File] = []
    ends: list[str] = []
    try:
        form = FormParser(
            kind.decode(),
            parts.append,
            parts.append,
            lambda: ends.append("the last boundary"),
            options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": len(body)},
        )
        form.write(body)
    except FormParserError as problem:
        raise RefusedError(400, f"The form cannot be read: {problem}") from problem
    if not ends:
        raise RefusedError(400, "The form is incomplete.")
    return _by_name(parts)


def _by_name(parts: list[Field | File]) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for part in parts:
        name = (part.field_name or b"").decode(errors="replace")
        plain = name.removesuffix("[]")
        if plain in form:
            form[plain] = [*(form[plain] if isinstance(form[plain], list) else [form[plain]]), _value(part)]
        else:
            form[plain] = [_value(part)] if plain != name else _value(part)
    return form


def _value(part: Field | File) -> str | Upload:
    if isinstance(part, Field):
        return (part.value or b"").decode(errors="replace")
    part.file_object.seek(0)
    name = (part.file_name or b"").decode(errors="replace")
    return Upload(name, part.file_object.read(), part.content_type or "application/octet-stream")
