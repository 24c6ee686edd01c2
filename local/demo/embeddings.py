"""The demo server's embeddings and moderations: what they say depends on the text alone. Pure."""

import base64
import math
import struct
import zlib
from typing import Any

from local.demo.answers import count_tokens, text_of
from local.demo.replies import Body, Json, RefusedError, Reply, list_of, new_id

_DIMENSIONS = 8
_MOST_DIMENSIONS = 4096

_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)


def embeddings(body: Body, _demo: Body) -> Reply:
    """`POST /embeddings`: unit vectors, as numbers or (as SDKs ask) as base64. Raises RefusedError."""
    dimensions = body.get("dimensions", _DIMENSIONS)
    if not isinstance(dimensions, int) or not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise RefusedError(400, f"'dimensions' is not a number from 1 to {_MOST_DIMENSIONS}.", "dimensions")
    given = _inputs(body["input"])
    vectors = [_unit_vector(text_of(each), dimensions) for each in given]
    as_base64 = body.get("encoding_format") == "base64"
    data = [base64.b64encode(struct.pack(f"<{len(each)}f", *each)).decode() if as_base64 else each for each in vectors]
    tokens = sum(len(each) if isinstance(each, list) else count_tokens([each]) for each in given)
    return Json(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(data)],
            "model": body["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _inputs(given: Any) -> list[str | list[int]]:
    """The texts, or their tokens as numbers: one of them, or a list of them."""
    if isinstance(given, str):
        return [given]
    entries = list_of(given)
    if all(isinstance(each, int) for each in entries):
        return [entries]
    if not all(isinstance(each, (str, list)) for each in entries):
        raise RefusedError(400, "'input' is neither a text nor a list of texts.", "input")
    return entries


def _unit_vector(text: str, dimensions: int) -> list[float]:
    raw = [zlib.crc32(f"{axis}{text}".encode()) / 2**32 - 0.5 for axis in range(dimensions)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]


def moderations(body: Body, _demo: Body) -> Reply:
    """`POST /moderations`: a text is flagged for the categories that it names, such as `violence`."""
    given = body["input"]
    parts = list_of(given)
    is_one_message = not parts or isinstance(parts[0], dict)
    texts = [text_of(given)] if is_one_message else [str(each) for each in parts]
    results = [_moderation(text.lower()) for text in texts]
    return Json({"id": new_id("modr-"), "model": body.get("model") or "demo", "results": results})


def _moderation(text: str) -> dict[str, Any]:
    found = {category: category in text for category in _CATEGORIES}
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": {category: 1.0 if named else 0.0 for category, named in found.items()},
        "category_applied_input_types": {category: ["text"] for category in found},
    }
