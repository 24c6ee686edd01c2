"""Uploads of the demo server through the OpenAI SDK: a file in parts, whole and byte for byte."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from tests.sdks import openai

BYTES = bytes(range(256)) * 9


def begun(sdk: openai.OpenAI, size: int = len(BYTES)) -> Any:
    return sdk.uploads.create(filename="a.bin", bytes=size, mime_type="application/octet-stream", purpose="user_data")


def test_a_file_comes_in_parts(sdk: openai.OpenAI):
    whole = sdk.uploads.upload_file_chunked(
        file=BYTES,
        filename="a.bin",
        bytes=len(BYTES),
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=1000,
        md5=hashlib.md5(BYTES, usedforsecurity=False).hexdigest(),
    )
    assert (whole.status, whole.file and whole.file.filename) == ("completed", "a.bin")
    assert whole.file is not None
    assert sdk.files.content(whole.file.id).content == BYTES


def test_the_order_of_the_parts_is_told_at_the_end(sdk: openai.OpenAI):
    upload = begun(sdk, 4)
    assert (upload.status, upload.expires_at - upload.created_at) == ("pending", 3600)
    first, second = (sdk.uploads.parts.create(upload.id, data=data) for data in (b"cd", b"ab"))
    assert (first.object, first.upload_id) == ("upload.part", upload.id)
    with pytest.raises(openai.BadRequestError, match="2 bytes"):
        sdk.uploads.complete(upload.id, part_ids=[first.id])
    with pytest.raises(openai.BadRequestError, match="no part 'part_x'"):
        sdk.uploads.complete(upload.id, part_ids=["part_x"])
    with pytest.raises(openai.BadRequestError, match="md5"):
        sdk.uploads.complete(upload.id, part_ids=[second.id, first.id], md5="0")
    whole = sdk.uploads.complete(upload.id, part_ids=[second.id, first.id])
    assert whole.file is not None
    assert sdk.files.content(whole.file.id).content == b"abcd"


@pytest.mark.parametrize("end", ["cancel", "complete"])
def test_an_upload_that_has_ended_takes_nothing_more(sdk: openai.OpenAI, end: str):
    upload = begun(sdk, 1)
    part = sdk.uploads.parts.create(upload.id, data=b"x")
    if end == "cancel":
        assert sdk.uploads.cancel(upload.id).status == "cancelled"
    else:
        sdk.uploads.complete(upload.id, part_ids=[part.id])
    for late in (
        lambda: sdk.uploads.parts.create(upload.id, data=b""),
        lambda: sdk.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: sdk.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.BadRequestError, match="not pending"):
            late()


def test_what_is_no_upload_is_refused(sdk: openai.OpenAI):
    with pytest.raises(openai.NotFoundError):
        sdk.uploads.cancel("upload_x")
    for size in (0, -1, 10**12):
        with pytest.raises(openai.BadRequestError, match="'bytes'"):
            begun(sdk, size)
    with pytest.raises(openai.BadRequestError, match="more than the 1 bytes"):
        sdk.uploads.parts.create(begun(sdk, 1).id, data=b"xy")
