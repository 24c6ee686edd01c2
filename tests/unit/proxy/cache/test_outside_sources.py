"""Which requests need more than themselves for an answer: the response cache is not for them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.cache.outside_sources import is_remembered, is_stateful, lets_search, refers_elsewhere, uses_hosted_tools


@pytest.mark.parametrize(
    "model",
    [
        "sonar",
        "sonar-pro",
        "perplexity/sonar-reasoning",
        "llama-3.1-sonar-small-128k-online",
        "gpt-4o-search-preview-2025-03-11",
        "GPT-4o-Mini-Search-Preview",
        "gpt-5-search-api",
        "o3-deep-research",
        "openai/gpt-5:online",
        "groq/compound-mini",
        "compound-beta",
        "jina-deepsearch-v1",
    ],
)
def test_models_that_always_search(model: str) -> None:
    assert lets_search(model, {})


@pytest.mark.parametrize(
    "model", ["gpt-5.4-mini", "nousresearch/hermes-4-405b", "text-embedding-3-small", "r1-1776", "", None]
)
def test_models_that_do_not(model: str | None) -> None:
    assert not lets_search(model, {})


@pytest.mark.parametrize(
    "fields",
    [
        {"web_search_options": {}},
        {"search_parameters": {"mode": "auto"}},
        {"enable_search": True},
        {"search_options": {"forced_search": True}},
        {"disable_search": False},
        {"web_search": {"enable": True}},
        {"plugins": [{"id": "web"}]},
        {"extra_body": {"google": {}}},
        {"connectors": [{"id": "web-search"}]},
        {"data_sources": [{"type": "azure_search"}]},
        {"search_domain_filter": ["example.com"]},
        {"force_search_enhancement": True},
        {"compound_custom": {"tools": {}}},
        {"Enable_Search": 1},
        {"options": {"search": True}},
        {"chat_template_kwargs": {"tools": [{"web": True}]}},
        {"rag": {}},
        {"knowledge_base": "a"},
        {"datasets": ["a"]},
        {"mcp_servers": [{"name": "a"}]},
        {"tool_resources": {"file_search": {}}},
        {"tool_ids": ["a"]},
    ],
)
def test_fields_that_let_a_server_search(fields: dict[str, Any]) -> None:
    assert lets_search("m", fields)


SAID = (
    "messages input prompt tools functions tool_choice function_call response_format"
    " text metadata prediction logit_bias"
)


@pytest.mark.parametrize("name", SAID.split())
def test_what_a_client_says_may_speak_of_a_search(name: str) -> None:
    schema = {"type": "object", "properties": {"web_search": {"type": "string"}}}
    assert not lets_search("m", {name: schema})
    assert lets_search("m", {f"{name}_options": schema})


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_search": False},
        {"web_search_options": None},
        {"plugins": []},
        {"mcp_servers": [], "options": {"search": False, "num_ctx": 5}, "provider": {"data_collection": "deny"}},
        {"reasoning": {"effort": "low"}, "chat_template_kwargs": {"enable_thinking": False}, "storage": 1},
        {"messages": [{"content": "search the web"}], "tools": [{"type": "function", "function": {"name": "search"}}]},
        {"reasoning_effort": "low", "response_format": {"type": "json_object"}, "seed": 1, "max_completion_tokens": 5},
    ],
)
def test_fields_that_do_not(fields: dict[str, Any]) -> None:
    assert not lets_search("m", fields)


PLACES: list[Any] = [
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    {"type": "input_image", "image_url": "http://example.com/a.png"},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "input_file", "file_url": "https://example.com/a.pdf"},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "video_url", "video_url": {"url": "gs://bucket/a"}},
    {"type": "audio_url", "audio_url": {"url": "/a.wav"}},
    {"fileData": {"fileUri": "https://example.com/a"}},
    {"type": "image_file", "image_file": {"file_id": "file-1"}},
    {"vector_store_ids": ["vs_1"]},
    {"documents": [{"id": "d", "link": "https://example.com/a"}]},
    {"type": "image", "path": "s3://bucket/a.png"},
    {"role": "user", "images": ["AA==", "https://example.com/a.png"]},
    {"type": "image", "source": {"type": "remote", "value": "FILE:///a.png"}},
]


@given(place=st.sampled_from(PLACES), name=st.sampled_from(["messages", "input", "prompt", "documents"]))
def test_what_stands_elsewhere_is_found_wherever_it_is_named(place: Any, name: str) -> None:
    for value in ([{"role": "user", "content": [{"type": "text", "text": "a"}, place]}], [place], place):
        assert refers_elsewhere({"model": "m", name: value})


def test_an_answer_of_before_that_the_server_remembers_is_elsewhere() -> None:
    assert refers_elsewhere({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]})


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]},
        {"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}]},
        {"messages": [{"content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA=="}}]}]},
        {"messages": [{"role": "user", "content": "see https://example.com"}]},
        {"messages": [{"tool_calls": [{"id": "call_1", "function": {"arguments": '{"url": "https://a"}'}}]}]},
        {"messages": [{"role": "tool", "tool_call_id": "call_1", "content": "a"}]},
        {"tools": [{"type": "function", "function": {"parameters": {"properties": {"url": {"type": "string"}}}}}]},
        {"metadata": {"url": "https://example.com"}},
        {"messages": [{"role": "user", "content": "https://example.com"}], "user": "https://example.com/me"},
        {"input": ["https://example.com/a", "https://example.com/b"]},
        {"messages": [{"content": [{"type": "text", "text": "https://example.com"}]}], "note": "see https://a"},
        {"response_format": {"json_schema": {"schema": {"$schema": "https://json-schema.org/draft/2020-12/schema"}}}},
        {"tools": [{"function": {"parameters": {"properties": {"a": {"enum": ["https://a", "https://b"]}}}}}]},
        {"audio": {"voice": "alloy", "format": "wav"}},
    ],
)
def test_what_is_in_the_request_is_not_elsewhere(fields: dict[str, Any]) -> None:
    assert not refers_elsewhere(fields)


WORDS = (
    "content text input prompt arguments output instructions suffix stop refusal"
    " name title description pattern default const enum examples model user $schema $ref"
)


@pytest.mark.parametrize("name", WORDS.split())
def test_an_address_in_what_is_for_the_model_is_a_word_and_elsewhere_is_none(name: str) -> None:
    said = {"messages": [{name: "https://example.com/a"}], name: ["https://example.com/a"]}
    assert not refers_elsewhere(said)
    assert refers_elsewhere({f"{name}_x".replace("$", "x"): "https://example.com/a"})


@pytest.mark.parametrize(
    "word",
    ["sonar", "search", "deepsearch", "research", "deepresearch", "online", "compound", "web", "browsing", "grounded"],
)
def test_a_word_in_the_name_of_a_model_that_always_searches(word: str) -> None:
    assert lets_search(f"some/{word.upper()}-1", {})
    assert not lets_search(f"some{word}x", {})


def test_a_body_that_is_nested_deeply_is_walked() -> None:
    value: Any = {"file_id": "f"}
    for _ in range(5000):
        value = [value]
    assert refers_elsewhere({"input": value})


REMEMBERED: list[dict[str, Any]] = [
    {"store": True},
    {"store": "true"},
    {"store": 1},
    {"background": True},
    {"previous_response_id": "r"},
    {"previous_interaction_id": "i"},
    {"conversation": {"id": "c"}},
    {"container": "c"},
    {"thread_id": "t"},
    {"assistant_id": "a"},
    {"cached_content": "cachedContents/1"},
    {"prompt": {"id": "p"}},
    {"input": [{"type": "item_reference", "id": "i"}]},
    {"input": [{"id": "i"}]},
    {"input": [{"id": "i", "type": None}]},
    {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
]


@pytest.mark.parametrize("fields", REMEMBERED)
def test_what_a_server_remembers_matters(fields: dict[str, Any]) -> None:
    assert is_stateful(fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"store": False, "background": False, "previous_response_id": None},
        {"prompt": "a", "prompt_cache_key": "k"},
        {"input": [{"role": "assistant", "id": "msg_1", "content": "a"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "x"}]},
        {"input": [{"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"}]},
    ],
)
def test_what_comes_along_does_not(fields: dict[str, Any]) -> None:
    assert not is_stateful(fields)


def test_responses_are_remembered_unless_they_are_not_to_be() -> None:
    assert is_remembered("/responses", {})
    assert is_remembered("/responses", {"store": None})
    assert not is_remembered("/responses", {"store": False})
    assert not is_remembered("/chat/completions", {})
    assert is_remembered("/chat/completions", {"modalities": ["text", "audio"]})


@pytest.mark.parametrize(
    ("kind", "is_hosted", "is_hosted_but_for_searches"),
    [
        ("function", False, False),
        ("custom", False, False),
        ("web_search", True, False),
        ("web_search_preview_2025_03_11", True, False),
        ("web_search_20250305", True, False),
        ("web_fetch_20250910", True, True),
        ("code_execution_20250825", True, True),
        *((f"{each}_20250124", False, False) for each in ("bash", "text_editor", "computer", "memory")),
        ("code_interpreter", True, True),
        ("mcp", True, True),
        (None, True, True),
        (["function"], True, True),
    ],
)
def test_tools_that_the_server_runs(kind: Any, is_hosted: bool, is_hosted_but_for_searches: bool) -> None:
    fields: dict[str, Any] = {
        "tools": [{"type": "function"}, {"name": "of Anthropic's form", "input_schema": {}}, {"type": kind}]
    }
    assert uses_hosted_tools(fields, may_search=False) is is_hosted
    assert uses_hosted_tools(fields, may_search=True) is is_hosted_but_for_searches


@pytest.mark.parametrize("may_search", [True, False])
def test_a_function_that_is_called_as_servers_call_theirs_is_theirs(may_search: bool) -> None:
    def tools(name: str) -> dict[str, Any]:
        return {"tools": [{"type": "function", "function": {"name": name}}]}

    assert uses_hosted_tools(tools("$web_search"), may_search=may_search)
    assert not uses_hosted_tools(tools("web_search"), may_search=may_search)
