"""What becomes of a request's body: the model, the wish for usage, and every other byte as it was."""

import bisect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request.body import OutgoingBody, RequestBody
from proxy.request.parse import InferenceRequest, Target

PATHS = {
    "chat": "/chat/completions",
    "embeddings": "/embeddings",
    "responses": "/responses",
    "images": "/images/generations",
}


def read(body: bytes, path: str = "/chat/completions", content_type: str = "application/json") -> RequestBody:
    request = InferenceRequest("function_url", "POST", "", "", {"content-type": content_type}, body, None)
    return RequestBody(request, Target("s", path))


def body_of(
    body: bytes, operation: str = "chat", model: str = "default", content_type: str = "application/json"
) -> OutgoingBody:
    return read(body, PATHS[operation], content_type).outgoing(model)


def test_a_body_that_needs_nothing_stays_as_it_is() -> None:
    body = b'{ "model" : "m", "temperature": 1.0E0, "stream":false }'
    assert body_of(body) == OutgoingBody(body, "m", stream=False, asks_usage_unasked=False, one_choice=True)


def test_additions_leave_every_other_byte_alone() -> None:
    out = body_of(b' { "seed": 12345678901234567890.5, "stream": true}')
    added = b'"model":"default","stream_options":{"include_usage":true}'
    assert out.content == b" {" + added + b', "seed": 12345678901234567890.5, "stream": true}'
    assert (out.model, out.stream, out.asks_usage_unasked) == ("default", True, True)


@pytest.mark.parametrize("empty", [b"{}", b'{"model": ""}', b'{"model": null}'])
def test_the_default_model_is_for_requests_that_name_none(empty: bytes) -> None:
    assert json.loads(body_of(empty).content) == {"model": "default"}
    assert body_of(empty, model="").content == empty


@pytest.mark.parametrize(
    ("options", "sent", "hides"),
    [
        ({"include_usage": True}, {"include_usage": True}, False),
        ({"include_usage": False}, {"include_usage": True}, True),
        ({"include_usage": 1}, {"include_usage": True}, True),
        ({"include_usage": "true"}, {"include_usage": True}, True),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}, True),
        (None, {"include_usage": True}, True),
        ("wrong", "wrong", False),
    ],
)
def test_usage_is_asked_for_once(options: object, sent: object, hides: bool) -> None:
    out = body_of(json.dumps({"model": "m", "stream": True, "stream_options": options}).encode())
    assert json.loads(out.content)["stream_options"] == sent
    assert out.asks_usage_unasked is hides


@pytest.mark.parametrize("operation", ["embeddings", "responses", "images"])
def test_stream_options_go_only_where_the_api_knows_them(operation: str) -> None:
    body = b'{"model":"m","stream":true}'
    assert body_of(body, operation).content == body


def test_stream_options_are_never_sent_without_stream() -> None:
    assert b"stream_options" not in body_of(b'{"model":"m","stream":false}').content


@pytest.mark.parametrize("path", ["/batches", "/files", "/responses/resp_1/cancel", "/fine_tuning/jobs"])
def test_no_model_is_filled_in_where_the_api_knows_none(path: str) -> None:
    body = read(b'{"input_file_id":"f"}', path)
    assert not body.takes_default
    assert body.outgoing("default") == OutgoingBody(b'{"input_file_id":"f"}', None, False, False)


def test_a_replacement_takes_the_place_of_the_model() -> None:
    out = read(b'{"model":"alias","seed":1.0E0}').outgoing("default", "real")
    assert (json.loads(out.content), out.model) == ({"model": "real", "seed": 1.0}, "real")


def deeper(frames: int, body: RequestBody) -> OutgoingBody:
    return deeper(frames - 1, body) if frames else body.outgoing("default", "real")


def outcome_of(body: str) -> str:
    try:
        deeper(40, read(body.encode()))
    except ClientError as error:
        return error.code
    return "sent"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_what_can_just_be_read_and_not_be_written_is_the_clients_fault(opening: str, closing: str) -> None:
    def outcome_at(depth: int) -> str:
        return outcome_of(f'{{"model":"m","x":{opening * depth}1{closing * depth}}}')

    # How deep the json module goes differs between versions of Python.
    first = bisect.bisect(range(50_000), False, key=lambda depth: outcome_at(depth) != "sent")
    assert {outcome_at(depth) for depth in range(first - 60, first + 60)} == {"sent", "invalid_json"}


@pytest.mark.parametrize(
    "unclear",
    [b'{"model":"a","model":"b"}', b'{"model":"a","\\u006dodel":"b"}', b'{"model":"a","x":1,"x":2}'],
)
def test_a_field_that_stands_there_twice_is_refused(unclear: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        read(unclear)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_repetitions_deeper_down_are_the_servers_to_judge() -> None:
    body = b'{"model":"m","metadata":{"a":1,"a":2}}'
    assert read(body).outgoing("").content == body


@pytest.mark.parametrize("model", [b"5", b'["m"]', b"{}", b"true"])
def test_a_model_that_is_no_text_is_refused(model: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        read(b'{"model":' + model + b"}")
    assert (refused.value.status, refused.value.code) == (400, "invalid_model")


def upload(*parts: tuple[str, bytes], boundary: str = "b-1") -> bytes:
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in parts
    ]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode()


UPLOAD = upload(("file", b"\x00\r\n--b\r\nRIFF"), ("model", b"whisper-1"), ("language", b"en"))


@pytest.mark.parametrize("parameter", ["boundary=b-1", 'boundary="b-1"', "charset=utf-8; Boundary=b-1"])
def test_the_model_of_an_upload(parameter: str) -> None:
    body = read(UPLOAD, "/audio/transcriptions", f"multipart/form-data; {parameter}")
    assert body.model == "whisper-1"
    assert body.outgoing("default") == OutgoingBody(UPLOAD, "whisper-1", False, False)
    replaced = UPLOAD.replace(b"whisper-1", b"large")
    assert body.outgoing("default", "large") == OutgoingBody(replaced, "large", False, False)


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_only_the_model_of_an_upload_changes(before: bytes, after: bytes) -> None:
    boundary = "b-1-7bf73129"
    body = upload(("file", before), ("model", b"alias"), ("file2", after), boundary=boundary)
    out = read(body, "/audio/speech", f"multipart/form-data; boundary={boundary}").outgoing("", "real")
    assert out.content == upload(("file", before), ("model", b"real"), ("file2", after), boundary=boundary)


def test_an_upload_asks_a_model_whether_it_names_one_or_not_and_a_file_asks_none() -> None:
    form = upload(("n", b"3"), ("prompt", b"12345678"))
    for path, asked, tokens in (("/images/edits", (True, 3), 6), ("/files", (False, 1), 0)):
        body = read(form, path, "multipart/form-data; boundary=b-1")
        assert (body.model, body.is_for_a_model, body.takes_default) == (None, False, False)
        assert ((body.asks_a_model, body.asked.answers), body.input_tokens) == (asked, tokens)


def test_an_upload_with_two_models_is_refused() -> None:
    with pytest.raises(ClientError) as refused:
        read(upload(("model", b"a"), ("model", b"b")), "/audio/speech", "multipart/form-data; boundary=b-1")
    assert (refused.value.status, refused.value.code) == (400, "invalid_model")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (UPLOAD, "multipart/form-data"),
        (UPLOAD, "multipart/form-data; boundary=other"),
        (UPLOAD[:30], "multipart/form-data; boundary=b-1"),
        (b"", "multipart/form-data; boundary=b-1"),
        (UPLOAD.replace(b'name="model"', b'name="model"; filename="m"'), "multipart/form-data; boundary=b-1"),
        (b'RIFF{"model":"m"}', "audio/wav"),
    ],
)
def test_bodies_whose_model_cannot_be_read(body: bytes, content_type: str) -> None:
    found = read(body, "/audio/transcriptions", content_type)
    assert (found.model, found.takes_default) == (None, False)
    assert found.outgoing("default", "x").content == body


def test_uploads_pass_untouched() -> None:
    out = body_of(b"--b\r\n{", "images", content_type="multipart/form-data; boundary=b")
    assert out == OutgoingBody(b"--b\r\n{", None, stream=False, asks_usage_unasked=False)


@pytest.mark.parametrize(
    "broken", [b"{", b"[]", b'"x"', b"nul", b"[" * 100_000, b"\xff", '{"model":"m"}'.encode("utf-16")]
)
def test_broken_json_is_refused(broken: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        body_of(broken)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def asked(fields: Any, path: str = "/chat/completions", query: str = "", method: str = "POST") -> RequestBody:
    content = b"" if fields is None else json.dumps(fields).encode()
    return RequestBody(InferenceRequest("function_url", method, "", query, {}, content, None), Target("s", path))


@pytest.mark.parametrize(
    ("path", "takes_default", "generates"),
    [
        ("/chat/completions", True, True),
        ("/completions", True, True),
        ("/responses", True, True),
        ("/messages", True, True),
        ("/responses/compact", True, True),
        ("/responses/input_tokens", True, True),
        ("/messages/count_tokens", True, False),
        ("/embeddings", True, False),
        ("/images/generations", True, False),
        ("/audio/speech", True, False),
        ("/moderations", True, False),
        ("/responses/resp_1", False, True),
        ("/messages/batches", False, False),
        ("/models", False, False),
        ("/rerank", False, False),
    ],
)
def test_which_requests_are_to_a_model_and_which_have_it_write(path: str, takes_default: bool, generates: bool) -> None:
    body = asked({"model": "m"}, path)
    assert (body.takes_default, body.is_for_a_model, body.generates) == (takes_default, takes_default, generates)


@pytest.mark.parametrize("path", ["/images/edits", "/audio/transcriptions", "/messages/batches", "/models", "/rerank"])
def test_an_upload_has_no_model_write(path: str) -> None:
    assert read(UPLOAD, path, "multipart/form-data; boundary=b-1").generates is False


@pytest.mark.parametrize(
    ("path", "fields", "user"),
    [
        ("/chat/completions", {"safety_identifier": "a", "user": "b"}, "a"),
        ("/chat/completions", {"safety_identifier": 7, "user": "b"}, "b"),
        ("/chat/completions", {"user": ["b"], "metadata": {"user_id": "c"}}, None),
        ("/messages", {"user": "b", "metadata": {"user_id": "c"}}, "c"),
        ("/messages", {"safety_identifier": "a", "user": "b", "metadata": "c"}, None),
    ],
)
def test_who_asks_is_where_the_api_says_it(path: str, fields: dict[str, Any], user: str | None) -> None:
    assert asked(fields, path).end_user == user


@pytest.mark.parametrize(
    ("path", "number", "is_one"),
    [
        ("/chat/completions", None, True),
        ("/chat/completions", 1, True),
        ("/chat/completions", 2, False),
        ("/chat/completions", "1", False),
        ("/completions", 1, False),
        ("/messages", 1, False),
    ],
)
def test_a_chat_of_one_choice_ends_once(path: str, number: Any, is_one: bool) -> None:
    assert asked({"model": "m", "n": number}, path).outgoing("").one_choice is is_one


OF_CONTENT = (
    *("messages", "system", "input", "prompt", "functions", "response_format", "text", "metadata"),
    "prediction",
)
BESIDE: list[tuple[Any, bool]] = [
    *(({"model": "a", name: [{"model": "b"}]}, False) for name in OF_CONTENT),
    *(({"model": "a", f"{name}_x": [{"model": "b"}]}, True) for name in OF_CONTENT),
    ({"model": "a", "tools": [{"x": [{"model": "b"}]}]}, False),
    ({"model": "a", "messages": [{"model": "b"}], "metadata": {"model": "b"}, "prediction": {"model": "b"}}, False),
    ({"model": "a", "models": []}, False),
    ({"model": "a", "models": ["b"]}, True),
    ({"model": "a", "x": [{"y": [{"Fallbacks": ["b"]}]}]}, True),
    ({"model": "a", "extra": {"deployment_id": "b"}}, True),
    ({"model": "a", "engine": "b"}, True),
    ({"model": "a", "preset": "b"}, True),
    ({"model": "a", "my_engine": "b", "presets": "b"}, False),
    ({"model": "a", "tools": [{"type": "web_search", "parameters": {"model": {"type": "string"}}}]}, False),
    ({"model": "a", "tools": [{"type": "image_generation", "model": "b"}]}, True),
    ({"model": "a", "x": [[]] * 9_999}, False),
    ({"model": "a", "x": [[]] * 10_000}, True),
]


@pytest.mark.parametrize(("fields", "does"), BESIDE, ids=range(len(BESIDE)))
def test_a_body_that_may_have_another_model_asked_is_known(fields: dict[str, Any], does: bool) -> None:
    assert asked(fields).names_another_model is does


@pytest.mark.parametrize(
    ("query", "does"),
    [
        ("", False),
        ("a=model&b=1", False),
        ("model=b", True),
        ("a=1;Model.id=b", True),
        ("a=1?models[]=b", True),
        ("%6dodel=b", True),
        ("%256dodel=b", True),
        ("%25256dodel=b", True),
        ("%2525256dodel=b", False),
        ("a%26model=b", True),
    ],
)
def test_a_query_that_may_name_a_model_is_known(query: str, does: bool) -> None:
    assert asked({"model": "a"}, query=query).is_for_a_model is not does
    assert asked({"model": "a"}, query=query).asks_a_model
    assert (asked(None, "/models", query, "GET").looks_up is None) is does


@pytest.mark.parametrize(
    ("method", "path", "fields", "model"),
    [
        ("GET", "/models", None, ""),
        ("GET", "/models/a", None, "a"),
        ("GET", "/models/a%2Fb/c", None, "a/b/c"),
        ("GET", "/models/models/a", None, "models/a"),
        ("GET", "/files/a", None, None),
        ("GET", "/models/a", {}, None),
        ("DELETE", "/models/a", None, None),
    ],
)
def test_who_only_wants_to_know_of_a_model_is_known(method: str, path: str, fields: Any, model: str | None) -> None:
    assert asked(fields, path, method=method).looks_up == model


@pytest.mark.parametrize(
    ("content_type", "is_read"),
    [
        ("Application/JSON ; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("text/json", False),
        ("", False),
    ],
)
def test_elsewhere_json_is_what_is_called_so(content_type: str, is_read: bool) -> None:
    assert (read(b'{"model":"m"}', "/rerank", content_type).model == "m") is is_read


NO_JSON = ("text/plain", "", "application/json, application/json", "multipart/form-data; boundary=b-1", "x/jsonl")
OF_MODELS = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/moderations")


@pytest.mark.parametrize("content_type", NO_JSON)
@pytest.mark.parametrize("path", [*OF_MODELS, "/images/generations", "/audio/speech", "/messages/count_tokens"])
@pytest.mark.parametrize("blank", [b"", b" \r\n\t"])
def test_what_a_model_is_asked_is_read_whatever_it_is_called(blank: bytes, path: str, content_type: str) -> None:
    content = blank + b'{"model":"m","n":7,"max_tokens":9,"input":"12345678"}'
    found, plain = read(content, path, content_type), read(content, path)
    assert (found.model, found.asked, found.asked.answers, found.input_tokens) == ("m", plain.asked, 7, 6)
    assert found.outgoing("").content == content
    assert (found.fields, found.asks_a_model, plain.is_for_a_model) == (plain.fields, True, True)
    assert not found.is_for_a_model, "somebody else may read it as a form, which names another model"


@pytest.mark.parametrize("content_type", NO_JSON)
@pytest.mark.parametrize("body", [b"[]", UPLOAD, b"x", '{"model":"m"}'.encode("utf-16"), b"\xef\xbb\xbf{}"])
def test_a_model_is_asked_nothing_that_cannot_be_read(body: bytes, content_type: str) -> None:
    for path in OF_MODELS:
        with pytest.raises(ClientError) as refused:
            read(body, path, content_type)
        assert (refused.value.status, refused.value.code) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a":1,"A":2}', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":[-Infinity]}', "invalid_json"),
        (b'{"Model":"m"}', "invalid_model"),
        (b'{"model":"m","MODEL":"n"}', "invalid_json"),
        *(
            (f'{{"model":"m","{name}":1}}'.encode(), "invalid_json")
            for name in ("N", "Stream", "Max_Tokens", "MESSAGES")
        ),
    ],
)
def test_what_two_servers_would_read_in_two_ways_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(ClientError) as refused:
        read(body)
    assert (refused.value.status, refused.value.code) == (400, code)


def test_of_a_path_that_is_to_no_model_any_spelling_passes() -> None:
    assert read(b'{"Input":1,"Stream":true}', "/rerank").outgoing("").content == b'{"Input":1,"Stream":true}'


def test_a_number_without_room_in_json_is_refused_where_it_would_have_to_be_written() -> None:
    body = read(b'{"model":"m","x":1e999}')
    assert body.outgoing("").content == b'{"model":"m","x":1e999}'
    with pytest.raises(ClientError) as refused:
        body.outgoing("", "n")
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_the_model_of_an_upload_is_no_longer_than_any_model_is_called() -> None:
    for length in (256, 257):
        body = read(upload(("model", b"m" * length)), "/audio/speech", "multipart/form-data; boundary=b-1")
        assert body.model == "m" * 256
    assert read(upload(("model", b"")), "/audio/speech", "multipart/form-data; boundary=b-1").model is None
