import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events import Event, MalformedEventError
from store_response.cached_response import CachedResponse, cached_response_of, item_size

SAMPLES = Path(__file__).parents[2] / "events" / "samples"


def read(sample: str = "ResponseCaptured.chat-stream", **changes: Any) -> CachedResponse:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    for path, value in changes.items():
        target = envelope["detail"]
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return cached_response_of(Event.from_envelope(envelope))


def test_the_body_is_kept_byte_for_byte():
    response = read()

    assert response.body.startswith(b'data: {"id":"chatcmpl-1"')
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert response.to_item()["body"] == {"B": response.body}


def test_the_item_has_what_an_answer_needs():
    item = read("ResponseCaptured.embeddings").to_item()

    assert item["status_code"] == {"N": "200"}
    assert item["content_type"] == {"S": "application/json"}
    assert item["usage"]["M"]["input_tokens"] == {"N": "3"}
    assert item["usage"]["M"]["cache_read"] == {"M": {"input_tokens": {"N": "0"}}}
    assert item["usage"]["M"]["source"] == {"S": "reported"}
    assert item["model"] == {"S": "text-embedding-3-small"}


def test_a_request_may_name_no_model():
    assert "model" not in read(data__request__model=None).to_item()


@given(st.binary(max_size=2000))
def test_any_body_survives(body: bytes):
    encoded = base64.b64encode(body).decode()

    assert read(data__response__body=encoded, data__response__body_size=len(body)).body == body


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata__id": "x"},
        {"data__cache_key": "abc"},
        {"data__cache_key": None},
        {"data__response__body": "***"},
        {"data__response__body": "aGk"},
        {"data__response__body_size": 1},
        {"data__response__status_code": "200"},
        {"data__response__status_code": True},
        {"data__response__content_type": ""},
        {"data__request__model": 5},
        {"data__request__path": "\ud83d"},
        {"data__server": {}},
        {"data__expires_at": 1.5},
        {"data__usage": {}},
        {"data": []},
    ],
    ids=ascii,
)
def test_an_event_that_does_not_follow_the_schema_is_malformed(changes: dict[str, Any]):
    with pytest.raises(MalformedEventError):
        read(**changes)


def test_the_size_of_an_item_counts_names_and_bytes():
    assert item_size({"name": {"S": "ü"}, "body": {"B": b"123"}, "n": {"N": "7"}}) == 4 + 2 + 4 + 3 + 1 + 21
    assert item_size({"usage": {"M": {"a": {"S": "b"}}}}) == 5 + 3 + 1 + 2
