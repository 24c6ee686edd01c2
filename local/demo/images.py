"""The demo server's images: PNGs of one colour, which depends on the prompt alone."""

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from local.demo.answers import count_tokens
from local.demo.replies import Body, Events, Json, RefusedError, Reply, list_of, now

_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})")
_DEFAULT_SIZE = "1024x1024"
_LARGEST = 2048
_MOST_IMAGES = 10
_PIXELS_PER_TOKEN = 32 * 32


def generate(body: Body, demo: Body) -> Reply:
    """`POST /images/generations`; streamed, with `partial_images` before the last."""
    return _images(body, demo, str(body["prompt"]), "image_generation")


def edit(body: Body, demo: Body) -> Reply:
    """`POST /images/edits`: as `generate`; the images that were sent count as tokens of the input."""
    return _images(body, demo, str(body["prompt"]), "image_edit")


def vary(body: Body, demo: Body) -> Reply:
    """`POST /images/variations`: as `edit`, without a prompt."""
    return _images(body, demo, "", "image_edit")


def _images(body: Body, demo: Body, prompt: str, kind: str) -> Reply:
    count = int(body.get("n") or 1)
    size = _size(body.get("size"))
    if not 1 <= count <= _MOST_IMAGES:
        raise RefusedError(400, f"The demo server makes 1 to {_MOST_IMAGES} images.", "n")
    usage = {"usage": _usage(body, prompt, size, count)} if demo.get("usage", True) else {}
    width, height = size
    facts = {"background": "opaque", "output_format": "png", "quality": "low", "size": f"{width}x{height}"}
    if body.get("stream") in (True, "true"):
        return Events(_events(kind, facts, int(body.get("partial_images") or 0), png(prompt, *size), usage), named=True)
    as_url = body.get("response_format") == "url"
    data = [_image(png(f"{prompt}{index or ''}", *size), as_url=as_url) for index in range(count)]
    return Json({"created": now(), "data": data, **facts, **usage})


def _events(
    kind: str, facts: dict[str, Any], partial: int, image: bytes, usage: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    event = {"b64_json": base64.b64encode(image).decode(), "created_at": now(), **facts}
    for index in range(partial):
        yield {"type": f"{kind}.partial_image", "partial_image_index": index, **event}
    yield {"type": f"{kind}.completed", **event, **usage}


def png(text: str, width: int, height: int) -> bytes:
    """An image of the colour of `text`."""
    colour = zlib.crc32(text.encode()).to_bytes(4, "big")[:3]
    rows = (b"\0" + colour * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(name, content) for name, content in chunks)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _image(content: bytes, *, as_url: bool) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"url": f"data:image/png;base64,{encoded}"} if as_url else {"b64_json": encoded}


def _size(given: Any) -> tuple[int, int]:
    match = _SIZE.fullmatch(_DEFAULT_SIZE if given in (None, "auto") else str(given))
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise RefusedError(400, f"'size' is not WIDTHxHEIGHT of at most {_LARGEST} pixels.", "size")
    return width, height


def _usage(body: Body, prompt: str, size: tuple[int, int], count: int) -> dict[str, Any]:
    """OpenAI's `usage` object of images: a token is a square of 32 by 32 pixels, or a word."""
    sent = body.get("image")
    images = len(list_of(sent)) or (1 if sent else 0)
    pixels = size[0] * size[1]
    tokens = -(-pixels // _PIXELS_PER_TOKEN)
    text_tokens, image_tokens, output_tokens = count_tokens([prompt]), images * tokens, count * tokens
    return {
        "input_tokens": text_tokens + image_tokens,
        "input_tokens_details": {"text_tokens": text_tokens, "image_tokens": image_tokens},
        "output_tokens": output_tokens,
        "total_tokens": text_tokens + image_tokens + output_tokens,
    }
