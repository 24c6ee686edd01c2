"""Vector stores of the demo server through the OpenAI SDK: their files, and the search for words in them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdks import openai


def file(sdk: openai.OpenAI, name: str, content: bytes) -> str:
    return sdk.files.create(file=(name, content), purpose="assistants").id


def test_a_store_is_made_listed_changed_and_deleted(sdk: openai.OpenAI):
    dogs = file(sdk, "dogs.txt", b"Dogs bark")
    made = sdk.vector_stores.create(
        name="pets", file_ids=[dogs], metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 2}
    )
    assert (made.name, made.status, made.usage_bytes, made.file_counts.completed) == ("pets", "completed", 9, 1)
    assert made.expires_at == (made.last_active_at or 0) + 2 * 24 * 3600
    other = sdk.vector_stores.create()
    assert [store.id for store in sdk.vector_stores.list(limit=1)] == [other.id, made.id], "page after page"
    assert [store.id for store in sdk.vector_stores.list(order="asc", before=other.id).data] == [made.id]
    changed = sdk.vector_stores.update(made.id, name="animals", metadata={}, expires_after=None)
    assert (changed.name, changed.metadata, changed.expires_at) == ("animals", {}, None)
    assert sdk.vector_stores.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"Vector store with id '{made.id}' not found"):
        sdk.vector_stores.retrieve(made.id)


def test_files_of_a_store(sdk: openai.OpenAI):
    store, text, sound = sdk.vector_stores.create().id, file(sdk, "a.txt", b"text"), file(sdk, "a.wav", b"\xff\xfe\xfd")
    kept = sdk.vector_stores.files.create_and_poll(text, vector_store_id=store, attributes={"year": 1999})
    assert (kept.status, kept.attributes, kept.usage_bytes) == ("completed", {"year": 1999}, 4)
    failed = sdk.vector_stores.files.create_and_poll(sound, vector_store_id=store)
    assert (failed.status, failed.last_error and failed.last_error.code) == ("failed", "unsupported_file")
    counts = sdk.vector_stores.retrieve(store).file_counts
    assert (counts.completed, counts.failed, counts.in_progress, counts.total) == (1, 1, 0, 2)
    assert [each.id for each in sdk.vector_stores.files.list(store, filter="failed")] == [sound]
    assert [each.text for each in sdk.vector_stores.files.content(text, vector_store_id=store)] == ["text"]
    changed = sdk.vector_stores.files.update(text, vector_store_id=store, attributes={"year": 2000})
    assert sdk.vector_stores.files.retrieve(text, vector_store_id=store) == changed
    assert sdk.vector_stores.files.delete(text, vector_store_id=store).deleted
    assert sdk.files.retrieve(text).filename == "a.txt", "the file itself stays"
    with pytest.raises(openai.NotFoundError, match="in vector store"):
        sdk.vector_stores.files.retrieve(text, vector_store_id=store)


def test_files_in_batches(sdk: openai.OpenAI):
    store, names = sdk.vector_stores.create().id, [file(sdk, f"{name}.txt", b"text") for name in "abc"]
    batch = sdk.vector_stores.file_batches.create_and_poll(store, file_ids=names[:2], attributes={"a": True})
    assert (batch.status, batch.file_counts.completed) == ("completed", 2)
    assert batch == sdk.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    assert batch == sdk.vector_stores.file_batches.cancel(batch.id, vector_store_id=store), "it is done"
    listed = sdk.vector_stores.file_batches.list_files(batch.id, vector_store_id=store, order="asc")
    assert [(each.id, each.attributes) for each in listed] == [(name, {"a": True}) for name in names[:2]]
    files: Any = [{"file_id": names[2], "attributes": {"b": "c"}}]
    sdk.vector_stores.file_batches.create(store, files=files, attributes={"a": True})
    assert sdk.vector_stores.files.retrieve(names[2], vector_store_id=store).attributes == {"b": "c"}
    with pytest.raises(openai.NotFoundError, match="No such File object: file-x"):
        sdk.vector_stores.file_batches.create(store, file_ids=[names[0], "file-x"])


FILTERS: list[tuple[Any, str]] = [
    (None, "abc"),
    ({"type": "eq", "key": "name", "value": "b"}, "b"),
    ({"type": "ne", "key": "name", "value": "b"}, "ac"),
    ({"type": "gt", "key": "year", "value": 2001}, "c"),
    ({"type": "gte", "key": "year", "value": 2001}, "bc"),
    ({"type": "lt", "key": "year", "value": 2001}, "a"),
    ({"type": "lte", "key": "year", "value": 2001}, "ab"),
    ({"type": "in", "key": "name", "value": ["a", "c"]}, "ac"),
    ({"type": "nin", "key": "name", "value": ["a", "c"]}, "b"),
    ({"type": "gt", "key": "name", "value": 1}, ""),
    ({"type": "eq", "key": "nothing", "value": 1}, ""),
    (
        {
            "type": "or",
            "filters": [
                {"type": "eq", "key": "name", "value": "a"},
                {
                    "type": "and",
                    "filters": [
                        {"type": "eq", "key": "name", "value": "c"},
                        {"type": "eq", "key": "year", "value": 2002},
                    ],
                },
            ],
        },
        "ac",
    ),
]


@pytest.mark.parametrize(("wanted", "names"), FILTERS)
def test_a_search_is_filtered_by_attributes(sdk: Any, wanted: Any, names: str):
    store = sdk.vector_stores.create().id
    for number, name in enumerate("abc"):
        attributes: dict[str, str | float | bool] = {"name": name, "year": 2000 + number}
        sdk.vector_stores.files.create(store, file_id=file(sdk, name, b"words"), attributes=attributes)
    found = sdk.vector_stores.search(store, query="words", **({"filters": wanted} if wanted else {})).data
    assert sorted(each.filename for each in found) == list(names)


def test_a_search_finds_the_pieces_with_the_most_of_its_words_first(sdk: openai.OpenAI):
    store = sdk.vector_stores.create().id
    long = b"cats " * 200 + b"and a moon " + b"cats " * 200
    static: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}}
    sdk.vector_stores.files.create(store, file_id=file(sdk, "long.txt", long), chunking_strategy=static)
    sdk.vector_stores.files.create(store, file_id=file(sdk, "none.txt", b"Nothing of it"))
    page = sdk.vector_stores.search(store, query=["The moon", "Cats"], max_num_results=3)
    assert [round(each.score, 2) for each in page.data] == [0.67, 0.67, 0.33]
    assert "moon" in page.data[0].content[0].text
    assert len(page.data[0].content[0].text.split()) == 100
    ranked: Any = {"score_threshold": 0.5}
    best = sdk.vector_stores.search(store, query=["The moon", "Cats"], ranking_options=ranked)
    assert len(best.data) == 2


@pytest.mark.parametrize(
    "asked",
    [
        {"query": "x", "max_num_results": 51},
        {"query": "x", "filters": {"type": "like", "key": "a", "value": "b"}},
        {"query": "x", "filters": {"type": "eq", "key": "a"}},
    ],
)
def test_what_is_no_search_is_refused(sdk: Any, asked: Any):
    store = sdk.vector_stores.create(file_ids=[file(sdk, "a", b"x")]).id
    with pytest.raises(openai.BadRequestError):
        sdk.vector_stores.search(store, **asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 99, "chunk_overlap_tokens": 1}}},
        {"chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 51}}},
        {"chunking_strategy": {"type": "static"}},
        {"expires_after": {"anchor": "last_active_at", "days": 366}},
        {"expires_after": {"anchor": "created_at", "days": 1}},
    ],
)
def test_what_is_no_store_is_refused(sdk: Any, asked: Any):
    with pytest.raises(openai.BadRequestError):
        sdk.vector_stores.create(file_ids=[file(sdk, "a", b"x")], **asked)
