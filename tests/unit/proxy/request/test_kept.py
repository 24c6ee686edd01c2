"""Which requests are about what one server keeps, and so are for no other."""

import json
from typing import Any

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server, TokenReference
from proxy.request.body import RequestBody
from proxy.request.kept import is_bound
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Routes

HELLO = [{"role": "user", "content": "Hello"}]
NAMES = (
    *("file_id", "file_ids", "vector_store_id", "vector_store_ids", "store_ids", "upload_id", "asset_id"),
    *("container_id", "container"),
)
OF_NOTHING: list[Any] = ["", None, [], {"type": "auto"}]
FOR_ONE: list[Any] = [
    {"input": "Hello", "previous_response_id": "resp_1"},
    {"input": "Hello", "conversation": "conv_1"},
    {"input": "Hello", "conversation": {"id": "conv_1"}},
    {"input": "Hello", "prompt": {"id": "pmpt_1"}},
    {"input": [{"type": "item_reference", "id": "msg_1"}]},
    {"input": [{"id": "msg_1"}]},
    {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
    {"input": "Hello", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    {"input": "Hello", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
    {"input": "Hello", "tools": [{"type": "code_interpreter", "container": {"file_ids": ["file-1"]}}]},
    {"messages": HELLO, "container": "container_1"},
    {"messages": HELLO, "cached_content": "cachedContents/1"},
    {"messages": HELLO, "thread_id": "t"},
    {"messages": HELLO, "thread": {"messages": HELLO}},
    *({"messages": HELLO, "x": [{name: "a"}]} for name in NAMES),
    *({"messages": HELLO, "x": {name: ["a"]}} for name in NAMES),
]
FOR_ANY: list[Any] = [
    {"messages": HELLO},
    {"input": "Hello", "conversation": None, "previous_response_id": ""},
    {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": []}]},
    {
        "input": [
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "x"},
            {"type": "function_call", "id": "a"},
        ]
    },
    {"input": "Hello", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"messages": HELLO, "metadata": {"file_id": "mine"}},
    {"messages": HELLO, "tools": [{"function": {"parameters": {"properties": {"file_id": {"type": "string"}}}}}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.test/b"}}]}]},
    {"prompt": "file_id"},
    {"input": HELLO},
    {"input": [{"id": "msg_1", "role": "user", "content": "Hello"}]},
    {"input": [{"type": "reasoning", "summary": []}]},
    {"input": [{"type": "item_reference"}]},
    {"input": [{"type": "function_call_output", "id": "a", "call_id": "b", "output": "c"}]},
    *(
        {"messages": HELLO, "x": {name: {"y": [{"file_id": "mine"}]}}}
        for name in ("metadata", "parameters", "input_schema", "schema", "arguments")
    ),
    *({"messages": HELLO, "x": {name: value}} for name in NAMES for value in OF_NOTHING),
    *({"messages": HELLO, "x": {f"{name}_x": "a", f"x_{name}": "a"}} for name in NAMES),
]


def body_of(path: str, fields: Any, method: str = "POST") -> RequestBody:
    content = b"" if fields is None else json.dumps(fields).encode()
    return RequestBody(InferenceRequest("function_url", method, path, "", {}, content, None), Target("first", path))


@pytest.mark.parametrize("fields", FOR_ANY)
def test_a_question_that_says_all_itself_is_for_any_server(fields: Any) -> None:
    assert not is_bound(body_of("/responses", fields))


@pytest.mark.parametrize("fields", FOR_ONE)
def test_a_question_that_names_what_is_kept_is_for_its_server(fields: Any) -> None:
    assert is_bound(body_of("/responses", fields))


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/files/file-1", None),
        ("GET", "/models", None),
        ("DELETE", "/responses/resp_1", None),
        ("POST", "/files", None),
        ("POST", "/vector_stores", {"name": "a"}),
        ("POST", "/vector_stores/vs_1/search", {"query": "a"}),
        ("POST", "/conversations", {}),
        ("POST", "/uploads", {"bytes": 1}),
        ("POST", "/batches", {"input_file_id": "file-1"}),
    ],
)
def test_what_is_no_question_to_a_model_stays_where_it_is(method: str, path: str, fields: Any) -> None:
    first, second = (
        Server(name, f"https://{name}.test/v1", TokenReference("literal", ""), "m", fallbacks=others, pool={})
        for name, others in (("first", ("second",)), ("second", ()))
    )
    routes, key = Routes({"first": first, "second": second}), ClientKey("team-a")
    found = routes.candidates(Target("first", path), body_of(path, fields, method), key)
    assert [each.server.name for each in found] == ["first"]
    asked = {"model": "m", "input": "Hello"}
    found = routes.candidates(Target("first", "/responses/compact"), body_of("/responses/compact", asked), key)
    assert [each.server.name for each in found] == ["first", "second"]
